/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net-vhost.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/net/backend.h"
#include "vmm/virtio/device.h"

static struct net_vhost *net_vhost(struct external_queues *eq)
{
	return container_of(eq, struct net_vhost, queues);
}

/* Which of the descriptor's two queues it is. */
static unsigned int index_of(const struct virtio_queue *q)
{
	return q->index % VHOST_NET_QUEUES_N_;
}

/* --- what the kernel is told --- */

static int start_queue(struct external_queues *eq, struct virtio_queue *q, int call_fd,
		       struct err *err)
{
	struct net_vhost *nv = net_vhost(eq);
	const struct vhost_queue queue = {
		.size = q->st.size,
		.next_avail = q->st.next_avail,
		.desc = q->desc,
		.avail = q->avail,
		.used = q->used,
		.kick_fd = q->kick_fd,
		.call_fd = call_fd,
		.err_fd = nv->err_fd,
	};
	int r;

	r = vhost_set_queue(&nv->vhost, index_of(q), &queue, err);
	if (r < 0)
		return err_prefix(err, r, "queue pair %u", nv->index);
	/* The link's other end is the back end: none, and the kernel lets the rings be. */
	r = nv->link_down ? 0 : vhost_set_backend(&nv->vhost, index_of(q), nv->tap->fd);
	return r < 0 ? err_errno(err, -r, "queue pair %u: vhost-net does not take the tap",
				 nv->index)
		     : 0;
}

static int stop_queue(struct external_queues *eq, struct virtio_queue *q, uint16_t *ret_next_avail)
{
	struct net_vhost *nv = net_vhost(eq);
	int r = vhost_set_backend(&nv->vhost, index_of(q), -EBADF);

	return r < 0 ? r : vhost_get_base(&nv->vhost, index_of(q), ret_next_avail);
}

static void set_call(struct external_queues *eq, struct virtio_queue *q, int call_fd)
{
	vhost_set_call(&net_vhost(eq)->vhost, index_of(q), call_fd);
}

static void failed(struct external_queues *eq)
{
	struct net_vhost *nv = net_vhost(eq);

	eventfd_take(nv->err_fd);
	virtio_device_broken(eq->dev, "queue pair %u: the kernel found a ring malformed",
			     nv->index);
}

static const struct external_queues_ops vhost_ops = {
	.failed_events = EPOLLIN,
	.start_queue = start_queue,
	.stop_queue = stop_queue,
	.set_call = set_call,
	.failed = failed,
};

/* --- a pair --- */

int net_vhost_init(struct net_vhost *nv, int fd,
		   int (*call)(int fd, unsigned long request, void *arg), uint64_t *ret_features,
		   struct err *err)
{
	int err_fd = eventfd_new(), r;

	if (err_fd < 0)
		return err_errno(err, -err_fd, "cannot make an eventfd");
	*nv = (struct net_vhost){ .err_fd = err_fd };
	r = vhost_init(&nv->vhost, fd, call, ret_features, err);
	if (r < 0) {
		close(err_fd);
		*nv = (struct net_vhost){ 0 };
	}
	return r;
}

void net_vhost_deinit(struct net_vhost *nv)
{
	if (!nv->vhost.call)
		return;
	net_vhost_tear_down(nv);
	vhost_deinit(&nv->vhost);
	close(nv->err_fd);
	*nv = (struct net_vhost){ 0 };
}

int net_vhost_set_up(struct net_vhost *nv, struct virtio_device *dev, uint16_t index,
		     struct net_backend *tap, bool link_down, struct err *err)
{
	uint16_t first = (uint16_t)(VHOST_NET_QUEUES_N_ * index);
	int r;

	nv->index = index;
	nv->tap = tap;
	nv->link_down = link_down;
	if (!external_queues_used(dev, first, VHOST_NET_QUEUES_N_))
		return 0;
	r = vhost_set_guest(&nv->vhost, dev->features, dev->mem, err);
	if (r < 0)
		return err_prefix(err, r, "queue pair %u", index);
	eventfd_take(nv->err_fd); /* of an earlier activation */
	external_queues_set_up(&nv->queues, &vhost_ops, dev, first, VHOST_NET_QUEUES_N_,
			       nv->err_fd);
	return 0;
}

int net_vhost_start(struct net_vhost *nv, struct err *err)
{
	return external_queues_start(&nv->queues, err);
}

void net_vhost_stop(struct net_vhost *nv)
{
	external_queues_stop(&nv->queues);
}

void net_vhost_tear_down(struct net_vhost *nv)
{
	external_queues_tear_down(&nv->queues);
}

int net_vhost_set_memory(struct net_vhost *nv, struct err *err)
{
	int r;

	if (!nv->queues.set_up)
		return 0; /* it is told with all the rest */
	r = vhost_set_memory(&nv->vhost, nv->queues.dev->mem, err);
	return r < 0 ? err_prefix(err, r, "queue pair %u", nv->index) : 0;
}

/* Frames that came while nobody was connected are of another time. */
static void drop_frames(struct net_vhost *nv)
{
	uint8_t frame[256];
	struct iovec iov = { frame, sizeof(frame) };

	/* Ends: a tap keeps no more than some hundred frames. */
	for (unsigned int i = 0; i < 4096; i++)
		if (nv->tap->ops->receive(nv->tap, &iov, 1) < 0)
			return;
}

void net_vhost_set_link(struct net_vhost *nv, bool up)
{
	struct virtio_queue *q;

	if (nv->link_down == !up)
		return;
	nv->link_down = !up;
	if (!nv->queues.running)
		return;
	if (up)
		drop_frames(nv);
	for (uint16_t i = 0; (q = external_queues_next(&nv->queues, &i));) {
		int r = vhost_set_backend(&nv->vhost, index_of(q), up ? nv->tap->fd : -EBADF);

		if (r < 0)
			log_warning(
				"network '%s': queue pair %u: vhost-net does not take the tap: %s",
				q->dev->id, nv->index, strerrordesc_np(-r));
		else if (up)
			/* The kernel looks at the ring when its doorbell rings, not before. */
			eventfd_signal(q->kick_fd);
	}
}

void net_vhost_vector_changed(struct net_vhost *nv, struct virtio_queue *q)
{
	external_queues_vector_changed(&nv->queues, q);
}
