/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices of qcow2 tables in memory
 *
 * A slice is up to 4 KiB of a table, known by its offset in the file, so that a
 * large cluster does not cost a large read and two ways to the same table meet in
 * one copy.  The memory is reserved when the image is opened and touched when it
 * is used; the number of slots is the bound.  A slice can be in any slot of one
 * set; the set's oldest clean one makes room.
 *
 * qcow2_cache_peek() and reading words need no lock; everything else is done under
 * the image's.  A slot's seq is odd while its contents change as a whole, and a
 * reader that saw it change looks again.  Words are stored with release and loaded
 * with acquire, so whoever sees a new word also sees the new seq.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2;

#define QCOW2_SLICE_MAX 4096U

struct qcow2_slot {
	_Atomic uint64_t off; /* in the file, 0 = empty: the header is no table */
	atomic_uint seq;
	atomic_uint used; /* when, by the cache's clock: relaxed, a hint */
	bool dirty;
};

struct qcow2_cache {
	struct qcow2 *q;
	uint32_t slice; /* bytes, power of two */
	uint32_t n_slots;
	struct qcow2_slot *slots;
	_Atomic uint64_t *words; /* of all slots, as in the file */
	uint32_t *dirty;         /* slots; n_slots places */
	uint32_t n_dirty;
	atomic_uint clock; /* relaxed, a hint */
};

/* max_bytes: rounded up to a power of two and to one set at least. */
int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint32_t slice, uint64_t max_bytes);
void qcow2_cache_deinit(struct qcow2_cache *c);

static inline _Atomic uint64_t *qcow2_cache_words(const struct qcow2_cache *c, uint32_t slot)
{
	return c->words + (size_t)slot * (c->slice / 8);
}

/* off: of the slice.  True when it is there; *ret_seq goes to qcow2_cache_is_same. */
bool qcow2_cache_peek(struct qcow2_cache *c, uint64_t off, uint32_t *ret_slot,
		      unsigned int *ret_seq);

/* Are the words that were loaded since peek those of the slice? */
static inline bool qcow2_cache_is_same(const struct qcow2_cache *c, uint32_t slot, unsigned int seq)
{
	return atomic_load_explicit(&c->slots[slot].seq, memory_order_relaxed) == seq;
}

/*
 * Under the lock.  The slot of the slice, read from the file if need be; it stays
 * valid until the next get on this cache.  When all of a set is dirty the whole
 * image's metadata is written out.
 */
int qcow2_cache_get(struct qcow2_cache *c, uint64_t off, uint32_t *ret_slot);
/* One word, at index `at`, and the slot becomes dirty.  value: a number. */
void qcow2_cache_set(struct qcow2_cache *c, uint32_t slot, size_t at, uint64_t value);
/* Two neighbours at once for readers. */
void qcow2_cache_set_pair(struct qcow2_cache *c, uint32_t slot, size_t at, uint64_t first,
			  uint64_t second);
uint64_t qcow2_cache_word(const struct qcow2_cache *c, uint32_t slot, size_t at);
/* Writes dirty slices whose offset is inside, or outside, [from, to). */
int qcow2_cache_write(struct qcow2_cache *c, uint64_t from, uint64_t to, bool inside);
bool qcow2_cache_is_dirty(const struct qcow2_cache *c, uint64_t from, uint64_t to);
/* Slices of that range of the file are no longer tables, or are new ones. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t off, uint64_t len);
