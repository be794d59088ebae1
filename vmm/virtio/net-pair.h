/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data path of virtio-net: one receive and one transmit queue on one back end
 *
 * A pair belongs to the I/O thread of its two queues between start and stop;
 * init, start, stop and deinit are the control thread's.  The control queue's
 * thread only says whether the pair is wanted (net_pair_want), and the pair
 * follows on its own thread.
 *
 * Receive buffers are popped ahead of frames (virtio 1.3, 5.1.6.4: a mergeable
 * frame may take many) and held in the order of the ring; stop gives them back.
 *
 * While the link is down frames are taken from both sides, as from a wire, and
 * dropped.  A back end that fails for good is told to the device once (lost).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/loop.h"
#include "vmm/virtio/rate-limiter.h"

struct err;
struct net_backend;
struct virtio_device;
struct virtio_queue;

#define NET_RX_CHAINS 64U /* held ready: more than a largest frame in 1.5 KiB buffers takes */

enum net_counter {
	NET_RX_BYTES,
	NET_RX_PACKETS,
	NET_RX_DROPS,
	NET_TX_BYTES,
	NET_TX_PACKETS,
	NET_TX_DROPS,
	NET_RX_KICKS, /* doorbells that came in, for receive buffers and for frames */
	NET_TX_KICKS,
	NET_COUNTER_N_,
};

/* A receive buffer that waits for a frame. */
struct net_rx_chain {
	uint16_t head;
	uint16_t n_iov;
	uint32_t len;
	uint64_t num_buffers_gpa[2]; /* of the two bytes of that field, were it the first buffer */
};

struct net_rx {
	struct virtio_queue *q;
	struct net_rx_chain chains[NET_RX_CHAINS]; /* first .. first + n, round robin */
	unsigned int first, n;
	struct iovec *iov;                /* of all chains: iov_first .. iov_first + n_iov */
	size_t iov_first, n_iov, iov_max; /* iov_max: without the one for spill */
	uint64_t capacity;                /* bytes of all chains */
	uint8_t *bounce;                  /* a frame that may not fit the chains there are */
	uint32_t pending;                 /* bytes of the frame in bounce, 0 = none */
	bool starved;                     /* waits for the driver's next buffer */
	bool large;                       /* the last frame was */
	bool throttled;                   /* waits for its gate */
	struct rate_gate gate;
};

struct net_pair {
	struct virtio_device *dev;
	uint16_t index;
	bool mergeable; /* MRG_RXBUF was negotiated */
	bool many;      /* the interface has several queues, which are attached and detached */
	struct net_backend *backend;
	_Atomic uint64_t *counters; /* NET_COUNTER_N_; added to by all pairs: relaxed, sums only */
	struct loop *loop;          /* NULL: the driver uses neither queue */
	struct loop_source source;
	struct net_rx rx;
	struct virtio_queue *tx;
	struct iovec *tx_iov;
	size_t n_tx_iov;
	bool tx_blocked;   /* the back end is full */
	bool tx_throttled; /* a frame waits for the gate */
	struct rate_gate tx_gate;
	unsigned int n_errors; /* in a row */
	bool is_lost;          /* the back end has gone away */
	void (*lost)(struct virtio_device *dev);
	/* Set by the control queue's thread, which then rings the pair; relaxed: net_pair_want. */
	atomic_bool wanted;
	atomic_bool link_down; /* set by the control thread; relaxed: a frame more or less */
};

struct net_pair_params {
	struct virtio_device *dev;
	uint16_t index; /* its queues are 2 * index and the next */
	struct net_backend *backend;
	_Atomic uint64_t *counters;
	bool mergeable, many, wanted, link_down;
	struct rate_limiter *rx_limiter, *tx_limiter; /* NULL: none; of all pairs */
	void (*lost)(struct virtio_device *dev);      /* the pair's thread: the back end is gone */
};

/* Control thread. deinit of a zeroed pair is harmless. */
int net_pair_init(struct net_pair *p, const struct net_pair_params *params, struct err *err);
void net_pair_deinit(struct net_pair *p);
void net_pair_start(struct net_pair *p);
void net_pair_stop(struct net_pair *p);

void net_pair_set_link(struct net_pair *p, bool up);

/* The control queue's thread. */
void net_pair_want(struct net_pair *p, bool wanted);

/* The pair's thread: one of its queues was kicked. */
void net_pair_kick(struct net_pair *p, const struct virtio_queue *q);
