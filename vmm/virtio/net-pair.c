/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net-pair.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/net/backend.h"
#include "vmm/virtio/device.h"

#define REGION_EXTRA 2U    /* buffers that span two memory regions have two iovecs */
#define RX_WINDOW    4096U /* bytes of buffers for small frames: rx_read_direct() */
#define BURST        256U  /* frames before the other direction and the loop get a turn */
#define ERRORS_MAX   64U   /* in a row, until a back end is given up */

#define NUM_BUFFERS_OFF offsetof(struct virtio_net_hdr_v1, num_buffers)

static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER_SIZE, "virtio 1.3, 5.1.6");

static const struct net_backend_ops *ops_of(const struct net_pair *p)
{
	return p->backend->ops;
}

static bool link_is_down(const struct net_pair *p)
{
	return atomic_load_explicit(&p->link_down, memory_order_relaxed);
}

/* What one burst moved: added to the device's counters once. */
struct tally {
	uint64_t bytes, packets, drops;
};

/* bytes, packets and drops are three counters in a row */
static void count(struct net_pair *p, enum net_counter first, const struct tally *tally)
{
	const uint64_t values[] = { tally->bytes, tally->packets, tally->drops };

	for (unsigned int i = 0; i < ARRAY_SIZE(values); i++)
		if (values[i])
			atomic_fetch_add_explicit(&p->counters[first + i], values[i],
						  memory_order_relaxed);
}

/* --- receive --- */

static uint32_t rx_events(const struct net_pair *p)
{
	return (p->rx.q && !p->rx.starved && !p->rx.throttled ? EPOLLIN : 0U) |
	       (p->tx_blocked ? EPOLLOUT : 0U);
}

static void update_events(struct net_pair *p)
{
	if (p->source.armed)
		loop_modify(p->loop, &p->source, rx_events(p));
}

/*
 * It is gone or broken for good: nothing is watched until the next activation.
 * The end of a stream is for ever, a tap's interface may be made anew.
 */
static void lose_backend(struct net_pair *p, int error)
{
	if (p->is_lost)
		return;
	p->is_lost = true;
	p->backend->dead = ops_of(p)->flush;
	loop_remove(p->loop, &p->source);
	log_warning("network '%s': queue pair %u lost its %s: %s", p->dev->id, p->index,
		    ops_of(p)->name, strerrordesc_np(error));
	p->lost(p->dev);
}

/* Appends the buffer popped last: 0, -ENOBUFS no room, -EBADMSG. */
static int rx_add_chain(struct net_rx *rx, const struct virtq_chain *chain)
{
	struct net_rx_chain *slot = &rx->chains[(rx->first + rx->n) % NET_RX_CHAINS];
	size_t end = rx->iov_first + rx->n_iov;
	int r;

	if (chain->writable_len < NET_HEADER_SIZE)
		return -EBADMSG;
	r = virtq_chain_iov(rx->q, chain, true, 0, chain->writable_len, rx->iov, rx->iov_max, &end);
	if (r == -ENOBUFS && rx->iov_first > 0) {
		memmove(rx->iov, rx->iov + rx->iov_first, rx->n_iov * sizeof(*rx->iov));
		rx->iov_first = 0;
		end = rx->n_iov;
		r = virtq_chain_iov(rx->q, chain, true, 0, chain->writable_len, rx->iov,
				    rx->iov_max, &end);
	}
	if (r < 0)
		return r == -ENOBUFS && rx->n > 0 ? r : -EBADMSG;
	for (unsigned int i = 0; i < 2; i++)
		if (virtq_chain_gpa(chain, true, NUM_BUFFERS_OFF + i, &slot->num_buffers_gpa[i]) <
		    0)
			return -EBADMSG;
	slot->head = chain->head;
	slot->len = (uint32_t)chain->writable_len;
	slot->n_iov = (uint16_t)(end - rx->iov_first - rx->n_iov);
	rx->n_iov += slot->n_iov;
	rx->capacity += slot->len;
	rx->n++;
	return 0;
}

/*
 * Holds buffers for a largest frame, or as many as there are: 0; 1 when no more
 * would fit here; -EBADMSG.
 */
static int rx_refill(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	uint64_t want = p->mergeable ? NET_FRAME_MAX : 1;
	struct virtq_chain chain;
	int r;

	while (rx->capacity < want) {
		if (rx->n == NET_RX_CHAINS || rx->n == rx->q->st.size)
			return 1;
		r = virtio_queue_pop(rx->q, &chain);
		if (r <= 0)
			return r;
		r = rx_add_chain(rx, &chain);
		if (r == -ENOBUFS) {
			virtio_queue_unpop(rx->q);
			return 1;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* Gives the driver's buffers back, the last one first. */
static void rx_return_chains(struct net_rx *rx)
{
	for (; rx->n > 0; rx->n--)
		virtio_queue_unpop(rx->q);
	rx->first = 0;
	rx->iov_first = rx->n_iov = 0;
	rx->capacity = 0;
}

/* Two bytes, which nearly always are neighbours. */
static int write_field(const struct net_pair *p, const uint64_t gpa[static 2],
		       const uint8_t field[static 2])
{
	int r;

	if (gpa[1] == gpa[0] + 1)
		return guest_write(p->dev->mem, gpa[0], field, 2);
	r = guest_write(p->dev->mem, gpa[0], field, 1);
	return r < 0 ? r : guest_write(p->dev->mem, gpa[1], field + 1, 1);
}

/* A frame of len bytes is in the first buffers: hands them to the driver. 0 or -EBADMSG. */
static int rx_deliver(struct net_pair *p, uint32_t len)
{
	struct net_rx *rx = &p->rx;
	const struct net_rx_chain *first = &rx->chains[rx->first];
	uint16_t n_buffers = 0;
	uint8_t field[2];

	for (uint64_t room = 0; room < len; n_buffers++)
		room += rx->chains[(rx->first + n_buffers) % NET_RX_CHAINS].len;
	/* 5.1.6.4: the kernel leaves this field alone, and the driver relies on it. */
	bytes_put_le(field, 2, n_buffers);
	if (write_field(p, first->num_buffers_gpa, field) < 0)
		return -EBADMSG;
	for (; n_buffers > 0; n_buffers--) {
		const struct net_rx_chain *chain = &rx->chains[rx->first];
		uint32_t here = MIN(len, chain->len);

		virtio_queue_push(rx->q, chain->head, here);
		len -= here;
		rx->first = (rx->first + 1) % NET_RX_CHAINS;
		rx->n--;
		rx->iov_first += chain->n_iov;
		rx->n_iov -= chain->n_iov;
		rx->capacity -= chain->len;
	}
	return 0;
}

/* From aside to the held buffers, of which the first ones are passed over. */
static void copy_to_chains(struct net_rx *rx, size_t first_iov, size_t len)
{
	const struct iovec *iov = rx->iov + rx->iov_first + first_iov;
	size_t at = 0;

	for (; at < len; iov++) {
		size_t here = MIN(len - at, iov->iov_len);

		memcpy(iov->iov_base, rx->bounce + at, here);
		at += here;
	}
}

/*
 * Into the held buffers.  The kernel looks at each one it is given, so while frames
 * are small it is given the first few, and what is behind them aside; after a
 * large one it gets them all, and nothing of the next is copied.
 */
static ssize_t rx_read_direct(struct net_pair *p)
{
	struct net_rx *rx = &p->rx;
	struct iovec *iov = rx->iov + rx->iov_first, kept;
	size_t n_iov = 0, room = 0;
	ssize_t n;

	while (n_iov < rx->n_iov && (rx->large || room < RX_WINDOW))
		room += iov[n_iov++].iov_len;
	/* There is one more than the buffers': a frame that comes to it was too long for them. */
	kept = iov[n_iov];
	iov[n_iov] = (struct iovec){ rx->bounce, NET_FRAME_MAX };
	n = ops_of(p)->receive(p->backend, iov, (int)n_iov + 1);
	iov[n_iov] = kept;
	if (n < 0)
		return n;
	rx->large = n > (ssize_t)RX_WINDOW;
	if ((size_t)n > room && (uint64_t)n <= rx->capacity)
		copy_to_chains(rx, n_iov, (size_t)n - room);
	return n;
}

/* Reads a frame: its length with header, 0 dropped, -EAGAIN none, other -errno. */
static ssize_t rx_read(struct net_pair *p, bool direct)
{
	struct net_rx *rx = &p->rx;
	const struct iovec aside = { rx->bounce, NET_FRAME_MAX };
	ssize_t n = direct ? rx_read_direct(p) : ops_of(p)->receive(p->backend, &aside, 1);

	if (n == -EMSGSIZE)
		return 0;
	if (n < 0)
		return n;
	p->n_errors = 0;
	if (n < NET_HEADER_SIZE || (uint64_t)n > (direct ? rx->capacity : NET_FRAME_MAX - 1U))
		return 0;
	return n;
}

/* EIO and the like pass; one that stays is not polled for ever. */
static void rx_error(struct net_pair *p, int error)
{
	if (error == EPIPE || error == EPROTO || error == EBADFD || ++p->n_errors > ERRORS_MAX)
		lose_backend(p, error);
}

/* Nobody is connected: 1, 0 there was none. */
static int rx_drop(struct net_pair *p, struct tally *tally)
{
	ssize_t n = rx_read(p, false);

	if (n < 0) {
		if (n != -EAGAIN)
			rx_error(p, (int)-n);
		return 0;
	}
	p->rx.pending = 0;
	tally->drops++;
	return 1;
}

/*
 * One frame: 1 go on, 0 nothing more to do now, -EBADMSG.
 *
 * With room for any frame it goes straight into the guest's buffers.  Otherwise
 * it is read aside first, and if it does not fit waits there for more buffers.
 */
static int rx_frame(struct net_pair *p, struct tally *tally)
{
	struct net_rx *rx = &p->rx;
	bool direct, full;
	ssize_t n;
	int r;

	if (link_is_down(p))
		return rx_drop(p, tally);
	r = rx_refill(p);
	if (r < 0)
		return r;
	full = r > 0;
	if (rx->n == 0) {
		rx->starved = true;
		return 0;
	}
	direct = !rx->pending && (!p->mergeable || rx->capacity >= NET_FRAME_MAX);
	if (!rx->pending) {
		/* How long it is shows when it is read, and is paid for by those that follow. */
		if (!rate_gate_take(&rx->gate, 0, 1)) {
			rx->throttled = true;
			return 0;
		}
		n = rx_read(p, direct);
		rate_gate_charge(&rx->gate, n > 0 ? n - NET_HEADER_SIZE : 0, n > 0 ? 0 : -1);
		if (n == -EAGAIN)
			return 0;
		if (n < 0) {
			rx_error(p, (int)-n);
			return 0;
		}
		if (n == 0) {
			tally->drops++;
			return 1;
		}
		if (direct) {
			tally->packets++;
			tally->bytes += (uint64_t)n - NET_HEADER_SIZE;
			r = rx_deliver(p, (uint32_t)n);
			return r < 0 ? r : 1;
		}
		rx->pending = (uint32_t)n;
	}
	if (rx->pending > rx->capacity && !full) {
		rx->starved = true;
		return 0;
	}
	if (rx->pending > rx->capacity) {
		tally->drops++; /* all the buffers there can be would not hold it */
		rx->pending = 0;
		return 1;
	}
	copy_to_chains(rx, 0, rx->pending);
	tally->packets++;
	tally->bytes += rx->pending - NET_HEADER_SIZE;
	r = rx_deliver(p, rx->pending);
	rx->pending = 0;
	return r < 0 ? r : 1;
}

static void rx_serve(struct net_pair *p)
{
	struct virtio_device *dev = p->dev;
	struct net_rx *rx = &p->rx;
	struct tally tally = { 0 };
	unsigned int burst = BURST;
	int r = 1;

	if (!rx->q || p->is_lost || rx->throttled || !p->source.armed ||
	    virtio_device_is_broken(dev))
		return;
	rx->starved = false;
	virtio_queue_kicks_off(rx->q);
	while (r > 0 && burst-- > 0) {
		r = rx_frame(p, &tally);
		/* Starved: ask for a doorbell, and go on if buffers came in meanwhile. */
		if (r == 0 && rx->starved && virtio_queue_kicks_on(rx->q)) {
			virtio_queue_kicks_off(rx->q);
			rx->starved = false;
			r = 1;
		}
	}
	count(p, NET_RX_BYTES, &tally);
	if (r < 0) {
		virtio_device_broken(dev, "queue %u: malformed receive buffer", rx->q->index);
		return;
	}
	/* A frame that waits here is not announced by the descriptor: come back for it. */
	if (r > 0 && (rx->pending || (ops_of(p)->has_frames && ops_of(p)->has_frames(p->backend))))
		eventfd_signal(rx->q->kick_fd);
	virtio_queue_notify(rx->q);
	update_events(p);
}

/* --- transmit --- */

/* One frame: 1, 0 nothing to send or the back end is full, -EBADMSG. */
static int tx_frame(struct net_pair *p, struct tally *tally)
{
	struct virtq_chain chain;
	size_t n_iov = 0;
	int r, sent = -EMSGSIZE;

	r = virtio_queue_pop(p->tx, &chain);
	if (r <= 0)
		return r;
	if (chain.readable_len < NET_HEADER_SIZE)
		return -EBADMSG;
	r = virtq_chain_iov(p->tx, &chain, false, 0, chain.readable_len, p->tx_iov, p->n_tx_iov,
			    &n_iov);
	if (r == -EBADMSG)
		return r;
	/* No frame is longer than NET_FRAME_MAX: the kernel is not asked to find memory for it. */
	if (r == 0 && chain.readable_len <= NET_FRAME_MAX && !link_is_down(p) && !p->is_lost) {
		uint64_t len = chain.readable_len - NET_HEADER_SIZE;

		if (!rate_gate_take(&p->tx_gate, len, 1)) {
			virtio_queue_unpop(p->tx);
			p->tx_throttled = true;
			return 0;
		}
		sent = ops_of(p)->send(p->backend, p->tx_iov, (int)n_iov);
		if (sent < 0)
			rate_gate_charge(&p->tx_gate, -(int64_t)len, -1);
		if (sent == -EAGAIN) {
			virtio_queue_unpop(p->tx);
			p->tx_blocked = true;
			return 0;
		}
		if (sent == -EPIPE)
			lose_backend(p, EPIPE);
	}
	/* Anything else is a lost frame, as on a wire: bad header, interface down, no memory. */
	if (sent < 0) {
		tally->drops++;
	} else {
		tally->packets++;
		tally->bytes += chain.readable_len - NET_HEADER_SIZE;
	}
	virtio_queue_push(p->tx, chain.head, 0);
	return 1;
}

/* What the back end has gathered leaves, before the driver gets its buffers back. */
static void tx_flush(struct net_pair *p)
{
	int r;

	if (!ops_of(p)->flush || p->is_lost)
		return;
	r = ops_of(p)->flush(p->backend);
	/*
	 * No memory: nothing was written, so the frames are lost, as on a wire, and the
	 * stream goes on.  What it had kept of an earlier one goes with the next.
	 */
	if (r == -ENOMEM || r == -ENOBUFS)
		return;
	if (r == -EAGAIN)
		p->tx_blocked = true;
	else if (r < 0)
		lose_backend(p, -r);
}

static void tx_serve(struct net_pair *p)
{
	struct virtio_device *dev = p->dev;
	struct tally tally = { 0 };
	unsigned int burst = BURST;
	int r = 0;

	if (!p->tx || p->tx_blocked || p->tx_throttled || virtio_device_is_broken(dev))
		return;
	for (;;) {
		virtio_queue_kicks_off(p->tx);
		while (burst > 0 && (r = tx_frame(p, &tally)) > 0)
			burst--;
		if (r < 0 || p->tx_blocked || p->tx_throttled || burst == 0)
			break;
		if (!virtio_queue_kicks_on(p->tx))
			break;
	}
	tx_flush(p);
	count(p, NET_TX_BYTES, &tally);
	if (r < 0) {
		virtio_device_broken(dev, "queue %u: malformed transmit request", p->tx->index);
		return;
	}
	if (burst == 0 && !p->tx_blocked)
		eventfd_signal(p->tx->kick_fd); /* there may be more: after the others' turn */
	virtio_queue_notify(p->tx);
	update_events(p);
}

/* --- pairs --- */

static void on_backend(struct loop_source *source, uint32_t events)
{
	struct net_pair *p = source->data;

	if (virtio_device_is_broken(p->dev)) {
		loop_remove(p->loop, source);
		return;
	}
	if (p->tx_blocked && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
		p->tx_blocked = false;
		tx_flush(p);
		update_events(p);
	}
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
		/* No interface behind it any more; both are reported unasked, again and again. */
		lose_backend(p, ENODEV);
		tx_serve(p); /* what waited for it is dropped */
		return;
	}
	if (events & EPOLLIN)
		rx_serve(p);
	tx_serve(p);
}

/* Takes the pair into the kernel's set of queues, or out of it, as the driver last chose. */
static void follow_choice(struct net_pair *p)
{
	bool wanted = atomic_load_explicit(&p->wanted, memory_order_relaxed);
	int r = 0;

	if (p->is_lost || wanted == p->source.armed)
		return;
	if (!wanted)
		loop_remove(p->loop, &p->source);
	if (p->many)
		r = net_backend_set_attached(p->backend, wanted);
	if (wanted && r == 0) {
		p->source.events = rx_events(p);
		r = loop_add(p->loop, &p->source);
	}
	if (r < 0)
		lose_backend(p, -r);
}

static void on_rx_gate(void *data)
{
	struct net_pair *p = data;

	p->rx.throttled = false;
	rx_serve(p);
}

static void on_tx_gate(void *data)
{
	struct net_pair *p = data;

	p->tx_throttled = false;
	tx_serve(p);
}

static void start_on_loop(void *data)
{
	struct net_pair *p = data;

	/* Their gates let them through, or set their timers again. */
	p->tx_throttled = false;
	p->rx.throttled = false;
	p->tx_blocked = false;
	p->rx.starved = false;
	p->n_errors = 0;
	follow_choice(p);
}

static void stop_on_loop(void *data)
{
	struct net_pair *p = data;

	loop_remove(p->loop, &p->source);
	if (p->rx.q)
		rx_return_chains(&p->rx);
}

/* --- exported --- */

int net_pair_init(struct net_pair *p, const struct net_pair_params *params, struct err *err)
{
	struct virtio_queue *rx = params->dev->queues + 2UL * params->index, *tx = rx + 1;
	int r = 0;

	*p = (struct net_pair){
		.dev = params->dev,
		.index = params->index,
		.mergeable = params->mergeable,
		.many = params->many,
		.backend = params->backend,
		.counters = params->counters,
		.lost = params->lost,
		.is_lost = params->backend->dead,
		.rx.q = rx->loop ? rx : NULL,
		.tx = tx->loop ? tx : NULL,
	};
	if (!p->rx.q && !p->tx)
		return 0;
	p->rx.iov_max = MIN(NET_RX_CHAINS + rx->st.size + REGION_EXTRA, IOV_MAX - 1U);
	p->rx.iov = calloc(p->rx.iov_max + 1, sizeof(*p->rx.iov));
	p->rx.bounce = malloc(NET_FRAME_MAX);
	p->n_tx_iov = MIN(tx->st.size + REGION_EXTRA, (unsigned int)IOV_MAX);
	p->tx_iov = calloc(p->n_tx_iov, sizeof(*p->tx_iov));
	if (!p->rx.iov || !p->rx.bounce || !p->tx_iov) {
		net_pair_deinit(p);
		return err_errno(err, ENOMEM, "cannot make queue pair %u", params->index);
	}
	p->source = (struct loop_source){ .fd = p->backend->fd, .fn = on_backend, .data = p };
	p->loop = rx->loop ?: tx->loop;
	atomic_store_explicit(&p->wanted, params->wanted, memory_order_relaxed);
	atomic_store_explicit(&p->link_down, params->link_down, memory_order_relaxed);
	if (p->rx.q)
		r = rate_gate_init(&p->rx.gate, params->rx_limiter, p->loop, on_rx_gate, p, err);
	if (r >= 0 && p->tx)
		r = rate_gate_init(&p->tx_gate, params->tx_limiter, p->loop, on_tx_gate, p, err);
	if (r < 0) {
		net_pair_deinit(p);
		return err_prefix(err, r, "queue pair %u", params->index);
	}
	return 0;
}

void net_pair_deinit(struct net_pair *p)
{
	net_pair_stop(p);
	rate_gate_deinit(&p->rx.gate);
	rate_gate_deinit(&p->tx_gate);
	free(p->rx.iov);
	free(p->rx.bounce);
	free(p->tx_iov);
	*p = (struct net_pair){ 0 };
}

void net_pair_start(struct net_pair *p)
{
	if (p->loop)
		loop_call(p->loop, start_on_loop, p);
}

void net_pair_stop(struct net_pair *p)
{
	if (p->loop)
		loop_call(p->loop, stop_on_loop, p);
}

void net_pair_set_link(struct net_pair *p, bool up)
{
	atomic_store_explicit(&p->link_down, !up, memory_order_relaxed);
}

void net_pair_want(struct net_pair *p, bool wanted)
{
	struct virtio_queue *q = p->rx.q ?: p->tx;

	/* The eventfd's write and read order this before the load in follow_choice. */
	atomic_store_explicit(&p->wanted, wanted, memory_order_relaxed);
	if (q)
		eventfd_signal(q->kick_fd);
}

void net_pair_kick(struct net_pair *p, const struct virtio_queue *q)
{
	if (!p->loop)
		return;
	follow_choice(p);
	atomic_fetch_add_explicit(&p->counters[q == p->tx ? NET_TX_KICKS : NET_RX_KICKS], 1,
				  memory_order_relaxed);
	if (q == p->tx)
		tx_serve(p);
	else
		rx_serve(p);
}
