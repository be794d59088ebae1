/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE  256
#define QUEUE_RX    0 /* 5.10.2 */
#define QUEUE_TX    1
#define QUEUE_EVENT 2
#define RX_BUDGET   64U

struct virtio_vsock {
	struct virtio_device dev;
	struct vsock_mux mux;
	uint32_t cid;
	void (*wish)(void *data);
	void *wish_data;
	/* the loop's thread */
	bool running;
	bool tx_blocked;    /* the muxer was full */
	bool reset_pending; /* a TRANSPORT_RESET that the driver has not got */
	_Atomic uint64_t dropped;
	struct virtio_counter counters[7];
};

static struct virtio_vsock *virtio_vsock(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_vsock, dev);
}

static struct loop *loop_of(struct virtio_vsock *vs)
{
	return vs->dev.shared_loop;
}

/* --- to the guest --- */

/* One packet: 1, 0 there is none or no buffer, -EBADMSG. *ret_starved: it was the buffer. */
static int give_packet(struct virtio_vsock *vs, struct virtio_queue *q, bool *ret_starved)
{
	struct virtio_vsock_hdr hdr;
	struct iovec iov[VSOCK_IOV_MAX];
	struct vsock_packet packet;
	struct virtq_chain chain;
	size_t n_iov = 0;
	uint64_t room;
	int r;

	r = virtio_queue_pop(q, &chain);
	*ret_starved = r == 0;
	if (r <= 0)
		return r;
	if (chain.writable_len <= VSOCK_HEADER_SIZE)
		return -EBADMSG;
	room = MIN(chain.writable_len - VSOCK_HEADER_SIZE, (uint64_t)VSOCK_PAYLOAD_MAX);
	r = virtq_chain_iov(q, &chain, true, VSOCK_HEADER_SIZE, room, iov, VSOCK_IOV_MAX, &n_iov);
	if (r < 0)
		return r;
	r = vsock_mux_fill(&vs->mux, &packet, iov, n_iov);
	if (r <= 0) {
		virtio_queue_unpop(q);
		return r;
	}
	vsock_packet_make(&packet, vs->cid, &hdr);
	r = virtq_chain_write(q, &chain, 0, &hdr, sizeof(hdr));
	if (r < 0)
		return r;
	virtio_queue_push(q, chain.head, VSOCK_HEADER_SIZE + packet.len);
	return 1;
}

static void give_packets(struct virtio_vsock *vs)
{
	struct virtio_queue *q = &vs->dev.queues[QUEUE_RX];
	unsigned int budget = RX_BUDGET;
	bool starved = false;
	int r = 0;

	if (!vs->running || !q->loop || virtio_device_is_broken(&vs->dev))
		return;
	virtio_queue_kicks_off(q);
	while (vsock_mux_has_output(&vs->mux) && budget > 0) {
		r = give_packet(vs, q, &starved);
		if (r < 0 || (r == 0 && !(starved && virtio_queue_kicks_on(q))))
			break;
		budget -= r > 0;
	}
	virtio_queue_notify(q);
	if (r < 0)
		virtio_device_broken(&vs->dev, "queue %u: malformed request", q->index);
	else if (budget == 0)
		eventfd_signal(q->kick_fd);
	if (vs->tx_blocked && !vsock_mux_is_full(&vs->mux)) {
		vs->tx_blocked = false;
		eventfd_signal(vs->dev.queues[QUEUE_TX].kick_fd);
	}
}

static void give_event(struct virtio_vsock *vs)
{
	const struct virtio_vsock_event event = { VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
	struct virtio_queue *q = &vs->dev.queues[QUEUE_EVENT];
	struct virtq_chain chain;
	int r = 0;

	if (!vs->running || !vs->reset_pending || !q->loop || virtio_device_is_broken(&vs->dev))
		return;
	do {
		r = virtio_queue_pop(q, &chain);
	} while (r == 0 && virtio_queue_kicks_on(q));
	if (r > 0)
		r = virtq_chain_write(q, &chain, 0, &event, sizeof(event));
	else if (r == 0)
		return;
	if (r < 0) {
		virtio_device_broken(&vs->dev, "queue %u: malformed request", q->index);
		return;
	}
	vs->reset_pending = false;
	virtio_queue_push(q, chain.head, sizeof(event));
	virtio_queue_notify(q);
}

/* --- from the guest --- */

/* One packet: 1, 0 there is none, -EAGAIN no room for an answer, -EBADMSG. */
static int take_packet(struct virtio_queue *q, void *data)
{
	struct virtio_vsock *vs = data;
	struct virtio_vsock_hdr hdr;
	struct iovec iov[VSOCK_IOV_MAX];
	struct vsock_packet packet;
	struct virtq_chain chain;
	size_t n_iov = 0;
	int r, verdict;

	/* 5.10.6.1.2: answers that wait for buffers must not pile up. */
	if (vsock_mux_is_full(&vs->mux))
		return -EAGAIN;
	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	r = virtq_chain_read(q, &chain, 0, &hdr, sizeof(hdr));
	if (r < 0)
		return -EBADMSG;
	verdict = vsock_packet_parse(&hdr, chain.readable_len - sizeof(hdr), vs->cid,
				     virtio_has_feature(&vs->dev, VSOCK_F_SEQPACKET), &packet);
	if (verdict >= 0 && packet.len > 0)
		r = virtq_chain_iov(q, &chain, false, sizeof(hdr), packet.len, iov, VSOCK_IOV_MAX,
				    &n_iov);
	if (verdict < 0 || r < 0)
		return -EBADMSG;
	if (verdict == VSOCK_VERDICT_OK)
		vsock_mux_receive(&vs->mux, &packet, iov, n_iov);
	else if (verdict == VSOCK_VERDICT_RESET)
		vsock_mux_refuse(&vs->mux, &packet);
	else
		atomic_fetch_add_explicit(&vs->dropped, 1, memory_order_relaxed);
	virtio_queue_push(q, chain.head, 0);
	return 1;
}

static void take_packets(struct virtio_vsock *vs, struct virtio_queue *q)
{
	int r = virtio_queue_serve(q, take_packet, vs);

	if (r == -EAGAIN)
		vs->tx_blocked = true;
	else if (r < 0)
		virtio_device_broken(&vs->dev, "queue %u: malformed request", q->index);
	give_packets(vs);
}

static void vsock_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_vsock *vs = virtio_vsock(dev);

	if (q->index == QUEUE_TX)
		take_packets(vs, q);
	else if (q->index == QUEUE_RX)
		give_packets(vs);
	else
		give_event(vs);
}

/* --- the muxer's --- */

static void on_work(void *data)
{
	give_packets(data);
}

static void on_wish(void *data)
{
	struct virtio_vsock *vs = data;

	vs->wish(vs->wish_data);
}

static const struct vsock_mux_ops mux_ops = { .work = on_work, .wish = on_wish };
static const struct vsock_mux_ops mux_ops_deaf = { .work = on_work };

/* --- life --- */

struct start {
	struct virtio_vsock *vs;
	int r;
};

static void start_on_loop(void *data)
{
	struct start *start = data;
	struct virtio_vsock *vs = start->vs;

	start->r = vsock_mux_start(&vs->mux, loop_of(vs));
	vs->running = start->r >= 0;
}

static void stop_on_loop(void *data)
{
	struct virtio_vsock *vs = data;

	vsock_mux_stop(&vs->mux);
	vs->running = false;
}

static void clear_on_loop(void *data)
{
	struct virtio_vsock *vs = data;

	stop_on_loop(vs);
	vsock_mux_clear(&vs->mux);
	vs->tx_blocked = false;
	vs->reset_pending = false;
}

static int vsock_activate(struct virtio_device *dev, struct err *err)
{
	struct start start = { .vs = virtio_vsock(dev) };

	loop_call(dev->shared_loop, start_on_loop, &start);
	return start.r < 0 ? err_errno(err, -start.r, "cannot watch its sockets") : 0;
}

static void vsock_pause(struct virtio_device *dev)
{
	loop_call(dev->shared_loop, stop_on_loop, virtio_vsock(dev));
}

/* The doorbells that are rung on resuming move what waits. */
static void vsock_resume(struct virtio_device *dev)
{
	struct start start = { .vs = virtio_vsock(dev) };

	loop_call(dev->shared_loop, start_on_loop, &start);
	if (start.r < 0)
		virtio_device_broken(dev, "its sockets cannot be watched after a pause");
}

static void vsock_reset(struct virtio_device *dev)
{
	loop_call(dev->shared_loop, clear_on_loop, virtio_vsock(dev));
}

static const struct virtio_counter *vsock_counters(struct virtio_device *dev)
{
	return virtio_vsock(dev)->counters;
}

static void vsock_free(struct virtio_device *dev)
{
	struct virtio_vsock *vs = virtio_vsock(dev);

	vsock_mux_deinit(&vs->mux);
	virtio_device_deinit(dev);
	free(vs);
}

static const struct virtio_device_ops vsock_ops = {
	.name = "vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.pci_class = 0x07, /* communication */
	.pci_subclass = 0x80,
	.threads = VIRTIO_THREADS_SHARED,
	.activate = vsock_activate,
	.kick = vsock_kick,
	.reset = vsock_reset,
	.pause = vsock_pause,
	.resume = vsock_resume,
	.counters = vsock_counters,
	.free = vsock_free,
};

/* --- control thread --- */

struct call {
	struct virtio_vsock *vs;
	struct vsock_wish *wish;
	uint32_t cookie;
	int fd, r;
};

static void next_wish(void *data)
{
	struct call *call = data;

	call->r = vsock_mux_next_wish(&call->vs->mux, call->wish);
}

bool virtio_vsock_next_wish(struct virtio_device *dev, struct vsock_wish *ret)
{
	struct call call = { .vs = virtio_vsock(dev), .wish = ret };

	assert(dev->ops == &vsock_ops);
	loop_call(dev->shared_loop, next_wish, &call);
	return call.r;
}

static void answer(void *data)
{
	struct call *call = data;

	vsock_mux_answer(&call->vs->mux, call->cookie, call->fd);
	give_packets(call->vs);
}

void virtio_vsock_answer(struct virtio_device *dev, uint32_t cookie, int fd)
{
	struct call call = { .vs = virtio_vsock(dev), .cookie = cookie, .fd = fd };

	assert(dev->ops == &vsock_ops);
	loop_call(dev->shared_loop, answer, &call);
}

static void add_client(void *data)
{
	struct call *call = data;

	call->r = vsock_mux_add_client(&call->vs->mux, call->fd);
}

int virtio_vsock_add_client(struct virtio_device *dev, int fd, struct err *err)
{
	struct call call = { .vs = virtio_vsock(dev), .fd = fd };

	assert(dev->ops == &vsock_ops);
	if (!dev->active) {
		close(fd);
		return err_fault(err, FAULT_BUSY, ENOTCONN,
				 "vsock '%s': the guest has no driver for it (yet)", dev->id);
	}
	loop_call(dev->shared_loop, add_client, &call);
	if (call.r < 0)
		return err_fault(err, FAULT_BUSY, -call.r,
				 "vsock '%s' has %u connections already, which is the most",
				 dev->id, VSOCK_CONNS_MAX);
	return 0;
}

static void transport_reset(void *data)
{
	struct virtio_vsock *vs = data;

	vsock_mux_clear(&vs->mux);
	vs->reset_pending = true;
	give_event(vs);
}

void virtio_vsock_transport_reset(struct virtio_device *dev)
{
	assert(dev->ops == &vsock_ops);
	if (dev->active)
		loop_call(dev->shared_loop, transport_reset, virtio_vsock(dev));
}

int virtio_vsock_new(const struct virtio_vsock_params *params, struct virtio_device **ret,
		     struct err *err)
{
	static const uint16_t sizes[] = { QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE };
	struct virtio_vsock *vs = calloc(1, sizeof(*vs));
	int r;

	if (!vs)
		return err_errno(err, ENOMEM, "vsock '%s'", params->id);
	vs->cid = params->cid;
	vs->wish = params->wish;
	vs->wish_data = params->data;
	vs->dev.features_offered = VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				   VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
				   VIRTIO_FEATURE(VSOCK_F_STREAM) |
				   VIRTIO_FEATURE(VSOCK_F_SEQPACKET);
	r = virtio_device_init(&vs->dev, &vsock_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(vs);
		return r;
	}
	r = vsock_mux_init(&vs->mux, params->wish ? &mux_ops : &mux_ops_deaf, vs,
			   params->listen_fds, err);
	if (r < 0) {
		virtio_device_deinit(&vs->dev);
		free(vs);
		return err_prefix(err, r, "vsock '%s'", params->id);
	}
	bytes_put_le(vs->dev.config, 8, params->cid);
	vs->dev.config_size = sizeof(struct virtio_vsock_config);
	vs->counters[0] = (struct virtio_counter){ "rx_bytes", &vs->mux.rx_bytes };
	vs->counters[1] = (struct virtio_counter){ "tx_bytes", &vs->mux.tx_bytes };
	vs->counters[2] = (struct virtio_counter){ "connections", &vs->mux.opened };
	vs->counters[3] = (struct virtio_counter){ "refused", &vs->mux.refused };
	vs->counters[4] = (struct virtio_counter){ "reset", &vs->mux.reset };
	vs->counters[5] = (struct virtio_counter){ "dropped", &vs->dropped };
	*ret = &vs->dev;
	return 0;
}
