/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits: so many bytes and so many operations a second
 *
 * A limiter has two buckets of tokens, filled evenly: `size` each `refill_time`.
 * It belongs to one disk, to one direction of a network device, or to a group of
 * disks.  Each queue that lives under it has a gate, and asks it before it starts
 * a request:
 *
 *   if (!rate_gate_take(&gate, bytes, 1))
 *           leave the request where it is; the gate's function is called when to try again
 *
 * How much is let through does not depend on how late a queue comes back: a bucket
 * is the time at which everything it gave away will be paid for, in whole tokens
 * with the rest of the division kept, so what is lost in one wait is there in the
 * next.  Only what nobody wanted for longer than RATE_REST_USEC is gone; so a
 * limit holds over any time that is long against that, one_time_burst apart.
 *
 * A gate takes tokens from the bucket for RATE_LEASE_USEC ahead, waits until they
 * are paid for, and then spends them without a lock: queues wake up some hundred
 * times a second at most, and of several at one limiter each gets its turn, because
 * who comes first has its place in time.
 *
 * rate_limiter_set() changes the limit, also while queues wait: they start afresh.
 *
 * Threads: limiters are made, set and freed on the control thread; a gate is used
 * by the thread of its loop.  limiter->lock is a leaf, held for some additions.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/list.h"
#include "vmm/base/loop.h"

struct err;
struct rate_limit_config;

#define RATE_LEASE_USEC 2000UL
#define RATE_REST_USEC  100000UL

enum rate_kind {
	RATE_BYTES,
	RATE_OPS,
	RATE_N_,
};

struct rate_bucket {
	uint64_t size; /* 0: no limit */
	uint64_t refill_ns;
	uint64_t burst;   /* left of one_time_burst */
	uint64_t lease;   /* tokens that a gate takes at least */
	uint64_t paid_ns; /* when what was given away is paid for ... */
	uint64_t rest;    /* ... and this much of size * ns more */
};

struct rate_limiter {
	pthread_mutex_t lock; /* leaf; all below but generation */
	struct rate_bucket buckets[RATE_N_];
	struct list gates;
	/* 0: nothing is limited. Relaxed: who sees the old one a moment longer obeys that. */
	_Atomic uint32_t generation;
	uint32_t last_generation;
	uint64_t (*now_ns)(void); /* a test's clock, or the monotonic one */
};

struct rate_gate {
	struct rate_limiter *limiter; /* NULL: lets everything through */
	struct list link;
	struct loop *loop;
	struct loop_source timer;
	void (*resume)(void *data); /* on the loop: tokens are there, or the limit changed */
	void *data;
	int64_t credit[RATE_N_]; /* taken, not spent; below zero: spent, not taken */
	uint64_t ready_ns;       /* the credit is paid for then; 0: it is */
	uint32_t generation;     /* of the limit that the credit is of */
};

/* Control thread. limit NULL: none. Buckets are full. */
int rate_limiter_new(const struct rate_limit_config *limit, struct rate_limiter **ret,
		     struct err *err);
/* Its gates are gone. NULL is allowed. */
void rate_limiter_free(struct rate_limiter *limiter);
/* NULL: none. */
void rate_limiter_set(struct rate_limiter *limiter, const struct rate_limit_config *limit);

/*
 * Control thread; loop: where the gate is used, running or not.  The limiter outlives
 * the gate.  deinit of a zeroed gate is harmless.
 */
int rate_gate_init(struct rate_gate *gate, struct rate_limiter *limiter, struct loop *loop,
		   void (*resume)(void *data), void *data, struct err *err);
void rate_gate_deinit(struct rate_gate *gate);

/* The loop's thread. False: not yet. bytes 0: not known yet, see rate_gate_charge(). */
bool rate_gate_take_slow(struct rate_gate *gate, uint64_t bytes, uint64_t ops, uint32_t generation);
/* What was let through was larger than said, or (below zero) has not been done. */
static inline void rate_gate_charge(struct rate_gate *gate, int64_t bytes, int64_t ops)
{
	gate->credit[RATE_BYTES] -= bytes;
	gate->credit[RATE_OPS] -= ops;
}

static inline bool rate_gate_take(struct rate_gate *gate, uint64_t bytes, uint64_t ops)
{
	uint32_t generation;

	if (!gate->limiter)
		return true;
	generation = atomic_load_explicit(&gate->limiter->generation, memory_order_relaxed);
	return generation == 0 || rate_gate_take_slow(gate, bytes, ops, generation);
}
