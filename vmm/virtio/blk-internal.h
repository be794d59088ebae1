/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk inside: what the device (blk.c) and its queues (blk-queue.c) share
 */
#pragma once

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/blk.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/rate-limiter.h"

struct block_image;
struct block_queue;
struct iovec;
struct slot;
struct virtio_blk;

#define LARGE_IOVS 16 /* large vectors of a queue */

/* What the counters tell apart. */
enum blk_stat {
	STAT_READ,
	STAT_WRITE,
	STAT_FLUSH,
	STAT_DISCARD,
	STAT_WRITE_ZEROES,
	STAT_N_,
};

/* Owned by the queue's I/O thread while active. */
struct blk_queue {
	struct virtio_blk *blk;
	struct virtio_queue *q;
	struct block_queue *io;
	struct loop_source done; /* io's descriptor */
	struct slot *slots;      /* by head of chain; pages, touched as they are used */
	size_t pages_len;        /* bytes mapped at slots: they and the large vectors */
	size_t n_large_iov;      /* of one large vector */
	struct iovec *free_large[LARGE_IOVS];
	unsigned int n_free_large;
	bool stalled; /* a request waits for a large vector */
	struct rate_gate gate;
	bool throttled;  /* a request waits for the gate */
	uint64_t now_ns; /* read once a batch, as reading it can be a system call */
};

/* Of each kind of request: those that went well, and what they took. */
enum {
	COUNTER_OPS,
	COUNTER_BYTES,
	COUNTER_LATENCY_NS,     /* sum: divided by ops it is the mean */
	COUNTER_LATENCY_MAX_NS, /* of one */
	COUNTERS_OF_STAT,
	COUNTER_ERRORS = STAT_N_ * COUNTERS_OF_STAT,
	COUNTER_N_,
};
#define COUNTER(stat, which) ((unsigned int)(stat)*COUNTERS_OF_STAT + COUNTER_##which)

struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_state st; /* under dev.lock */
	struct block_image *img;
	uint64_t n_images;            /* that it has had; control */
	struct rate_limiter *limiter; /* of all queues, or of more disks; or NULL */
	const char *engine;           /* one of block.c's names, or NULL */
	unsigned int without_engines;
	cpu_set_t **cpus;                /* by queue: where its thread may run, NULL = anywhere */
	struct virtio_blk_limits limits; /* changed while the queues' threads are parked */
	bool direct, keep_allocated;     /* as of the parameters */
	char serial[VIRTIO_BLK_SERIAL_MAX];
	/* written by vCPUs and control, read by the queues for each write: relaxed, a mode only */
	atomic_bool write_through;
	_Atomic uint64_t values[COUNTER_N_]; /* added to by all queues: relaxed, sums only */
	struct virtio_counter counters[COUNTER_N_ + 1];
	struct blk_queue *queues;
};

static inline struct virtio_blk *virtio_blk(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_blk, dev);
}

/* Control thread, the queue not served yet or not any more. */
int blk_queue_init(struct blk_queue *bq, struct virtio_blk *blk, struct virtio_queue *q,
		   struct err *err);
void blk_queue_deinit(struct blk_queue *bq);
/* For a queue that is served: the engine on another image. */
int blk_queue_open_io(const struct blk_queue *bq, struct block_image *img, struct block_queue **ret,
		      struct err *err);
/* Its thread parked, nothing in flight: *io takes the place of what there is, which is *io then. */
int blk_queue_swap_io(struct blk_queue *bq, struct block_queue **io);

/* The queue's I/O thread. */

/* Takes, starts and finishes requests until the driver rests. */
void blk_queue_serve(struct blk_queue *bq);
/* data: the queue. Returns when nothing is in flight. */
void blk_queue_drain(void *data);
/* Its thread stands: what has not been begun ends with an error. */
