/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net-vhost.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/net/backend.h"
#include "vmm/virtio/device.h"

static struct virtio_queue *queue_of(const struct net_vhost *nv, unsigned int i)
{
	return &nv->dev->queues[2U * nv->index + i];
}

/* Does the driver use it? */
static bool queue_is_used(const struct net_vhost *nv, unsigned int i)
{
	return queue_of(nv, i)->loop;
}

static int call_fd(const struct net_vhost *nv, struct virtio_queue *q)
{
	return nv->dev->transport->queue_call_fd(nv->dev->transport_data, q);
}

static void on_error(struct loop_source *source, uint32_t events _unused_)
{
	struct net_vhost *nv = source->data;

	eventfd_take(source->fd);
	virtio_device_broken(nv->dev, "queue pair %u: the kernel found a ring malformed",
			     nv->index);
}

static void watch_errors(void *data)
{
	struct net_vhost *nv = data;

	/* Without it a broken ring only stands still. */
	if (loop_add(nv->dev->shared_loop, &nv->err_source) < 0)
		log_warning("network '%s': errors of queue pair %u are not watched", nv->dev->id,
			    nv->index);
}

static void unwatch_errors(void *data)
{
	struct net_vhost *nv = data;

	loop_remove(nv->dev->shared_loop, &nv->err_source);
}

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
	int r;

	nv->dev = dev;
	nv->index = index;
	nv->tap = tap;
	nv->link_down = link_down;
	if (!queue_is_used(nv, VHOST_NET_RX) && !queue_is_used(nv, VHOST_NET_TX))
		return 0;
	r = vhost_set_guest(&nv->vhost, dev->features, dev->mem, err);
	if (r < 0)
		return err_prefix(err, r, "queue pair %u", index);
	for (unsigned int i = 0; i < VHOST_NET_QUEUES_N_; i++)
		queue_of(nv, i)->external = true;
	eventfd_take(nv->err_fd);
	nv->err_source = (struct loop_source){
		.fd = nv->err_fd, .events = EPOLLIN, .fn = on_error, .data = nv
	};
	loop_call(dev->shared_loop, watch_errors, nv);
	nv->set_up = true;
	return 0;
}

static int start_queue(struct net_vhost *nv, unsigned int i, struct err *err)
{
	struct virtio_queue *q = queue_of(nv, i);
	const struct vhost_queue queue = {
		.size = q->st.size,
		.next_avail = q->st.next_avail,
		.desc = q->desc,
		.avail = q->avail,
		.used = q->used,
		.kick_fd = q->kick_fd,
		.call_fd = call_fd(nv, q),
		.err_fd = nv->err_fd,
	};

	return vhost_set_queue(&nv->vhost, i, &queue, err);
}

/* The link's other end is the back end: none, and the kernel lets the rings be. */
static int connect_queues(struct net_vhost *nv, bool connect)
{
	int r = 0;

	for (unsigned int i = 0; i < VHOST_NET_QUEUES_N_; i++) {
		int one;

		if (!queue_is_used(nv, i))
			continue;
		one = vhost_set_backend(&nv->vhost, i, connect ? nv->tap->fd : -EBADF);
		if (one < 0)
			r = one;
		else if (connect)
			/* The kernel looks at the ring when its doorbell rings, not before. */
			eventfd_signal(queue_of(nv, i)->kick_fd);
	}
	return r;
}

int net_vhost_start(struct net_vhost *nv, struct err *err)
{
	int r;

	if (!nv->set_up || nv->running)
		return 0;
	for (unsigned int i = 0; i < VHOST_NET_QUEUES_N_; i++) {
		if (!queue_is_used(nv, i))
			continue;
		r = start_queue(nv, i, err);
		if (r < 0)
			return err_prefix(err, r, "queue pair %u", nv->index);
	}
	nv->running = true;
	r = nv->link_down ? 0 : connect_queues(nv, true);
	if (r < 0) {
		net_vhost_stop(nv);
		return err_errno(err, -r, "queue pair %u: vhost-net does not take the tap",
				 nv->index);
	}
	return 0;
}

void net_vhost_stop(struct net_vhost *nv)
{
	if (!nv->running)
		return;
	connect_queues(nv, false);
	for (unsigned int i = 0; i < VHOST_NET_QUEUES_N_; i++) {
		uint16_t next_avail = 0;

		if (queue_is_used(nv, i) && vhost_get_base(&nv->vhost, i, &next_avail) == 0)
			virtio_queue_take_back(queue_of(nv, i), next_avail);
	}
	nv->running = false;
}

void net_vhost_tear_down(struct net_vhost *nv)
{
	net_vhost_stop(nv);
	if (!nv->set_up)
		return;
	loop_call(nv->dev->shared_loop, unwatch_errors, nv);
	for (unsigned int i = 0; i < VHOST_NET_QUEUES_N_; i++)
		queue_of(nv, i)->external = false;
	nv->set_up = false;
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
	int r;

	if (nv->link_down == !up)
		return;
	nv->link_down = !up;
	if (!nv->running)
		return;
	if (up)
		drop_frames(nv);
	r = connect_queues(nv, up);
	if (r < 0)
		log_warning("network '%s': queue pair %u: vhost-net does not take the tap: %s",
			    nv->dev->id, nv->index, strerrordesc_np(-r));
}

void net_vhost_vector_changed(struct net_vhost *nv, struct virtio_queue *q)
{
	unsigned int i = q->index % 2U;

	if (nv->running && queue_is_used(nv, i))
		vhost_set_call(&nv->vhost, i, call_fd(nv, q));
}
