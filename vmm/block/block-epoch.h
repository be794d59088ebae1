/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a freed place of an image file may be used again
 *
 * map() answers with places in a file that a queue then reads or writes without
 * any lock.  If another queue frees such a place meanwhile (discard), it must not
 * be given to something else before those transfers are over: a late write would
 * land in foreign data, or in the format's own tables.
 *
 * So each queue is a reader: it enters before map() and leaves when the transfer
 * is finished.  The format frees, calls block_epoch_flip(), and may reuse the
 * place once block_epoch_is_over() says that everyone who entered before has left.
 * Nobody ever waits.
 *
 * Reader calls: the reader's thread.  flip and is_over: under the format's lock.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "vmm/base/list.h"

struct block_reader {
	/* by parity of the epoch; written by the reader, read by whoever asks is_over */
	atomic_uint n[2];
	struct list link;
};

/* Readers lie apart, each in a cache line of its own. */
#define BLOCK_READER_BYTES 64U
_Static_assert(sizeof(struct block_reader) <= BLOCK_READER_BYTES, "a reader has one line");

struct block_epoch {
	atomic_uint now;
	pthread_mutex_t lock; /* guards readers; a leaf */
	struct list readers;
};

void block_epoch_init(struct block_epoch *epoch);
/* No reader may be left. */
void block_epoch_deinit(struct block_epoch *epoch);

void block_epoch_add(struct block_epoch *epoch, struct block_reader *reader);
/* It must have left as often as it entered. */
void block_epoch_remove(struct block_epoch *epoch, struct block_reader *reader);

/* What it returns goes to leave.  Nests. */
static inline unsigned int block_epoch_enter(struct block_epoch *epoch, struct block_reader *reader)
{
	for (;;) {
		unsigned int now = atomic_load(&epoch->now);

		/*
		 * All of this is sequentially consistent: either the format sees us, or we
		 * see the new epoch, and with it the tables in which the place is gone.
		 */
		atomic_fetch_add(&reader->n[now & 1], 1);
		if (atomic_load(&epoch->now) == now)
			return now & 1;
		atomic_fetch_sub(&reader->n[now & 1], 1);
	}
}

static inline void block_epoch_leave(struct block_reader *reader, unsigned int entered)
{
	atomic_fetch_sub_explicit(&reader->n[entered], 1, memory_order_release);
}

/* Only when the epoch before is over. */
void block_epoch_flip(struct block_epoch *epoch);
/* Has everyone left who entered before the last flip? */
bool block_epoch_is_over(struct block_epoch *epoch);
