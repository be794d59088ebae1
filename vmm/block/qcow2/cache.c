/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/qcow2/cache.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sys/mman.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

#define WAYS 8U

void *qcow2_pages_new(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void qcow2_pages_free(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

int qcow2_cache_init(struct qcow2_cache *c, struct qcow2 *q, uint32_t slice, uint64_t max_bytes)
{
	uint32_t n = WAYS;

	assert(slice <= QCOW2_SLICE_MAX && is_pow2(slice));
	while ((uint64_t)n * slice < max_bytes)
		n *= 2;
	*c = (struct qcow2_cache){ .q = q, .slice = slice, .n_slots = n };
	atomic_init(&c->clock, 1);
	c->slots = qcow2_pages_new(n * sizeof(*c->slots));
	c->words = qcow2_pages_new((size_t)n * slice);
	c->dirty = qcow2_pages_new(n * sizeof(*c->dirty));
	return c->slots && c->words && c->dirty ? 0 : -ENOMEM;
}

void qcow2_cache_deinit(struct qcow2_cache *c)
{
	qcow2_pages_free(c->slots, c->n_slots * sizeof(*c->slots));
	qcow2_pages_free(c->words, (size_t)c->n_slots * c->slice);
	qcow2_pages_free(c->dirty, c->n_slots * sizeof(*c->dirty));
}

/* Neighbours get neighbouring sets, so a small disk uses little memory and collides little. */
static uint32_t first_of_set(const struct qcow2_cache *c, uint64_t off)
{
	uint64_t n = off / c->slice;
	uint32_t n_sets = c->n_slots / WAYS;

	/* Tables are as far apart as the clusters that they map: fold the higher bits in. */
	n ^= n >> 13 ^ n >> 29;
	return (uint32_t)(n & (n_sets - 1)) * WAYS;
}

static void touch(struct qcow2_cache *c, struct qcow2_slot *s)
{
	unsigned int now = atomic_load_explicit(&c->clock, memory_order_relaxed);

	/* Not stored again and again: the line is shared by all queues. */
	if (atomic_load_explicit(&s->used, memory_order_relaxed) != now)
		atomic_store_explicit(&s->used, now, memory_order_relaxed);
}

bool qcow2_cache_peek(struct qcow2_cache *c, uint64_t off, uint32_t *ret_slot,
		      unsigned int *ret_seq)
{
	uint32_t first = first_of_set(c, off);

	for (uint32_t i = first; i < first + WAYS; i++) {
		struct qcow2_slot *s = &c->slots[i];
		unsigned int seq = atomic_load_explicit(&s->seq, memory_order_acquire);

		if (atomic_load_explicit(&s->off, memory_order_acquire) != off || seq & 1)
			continue;
		touch(c, s);
		*ret_slot = i;
		*ret_seq = seq;
		return true;
	}
	return false;
}

static void begin_change(struct qcow2_slot *s)
{
	atomic_fetch_add_explicit(&s->seq, 1, memory_order_relaxed);
}

static void end_change(struct qcow2_slot *s)
{
	atomic_fetch_add_explicit(&s->seq, 1, memory_order_release);
}

static uint32_t oldest(const struct qcow2_cache *c, uint32_t first)
{
	unsigned int now = atomic_load_explicit(&c->clock, memory_order_relaxed), age = 0;
	uint32_t found = UINT32_MAX;

	for (uint32_t i = first; i < first + WAYS; i++) {
		const struct qcow2_slot *s = &c->slots[i];
		unsigned int a = now - atomic_load_explicit(&s->used, memory_order_relaxed);

		if (atomic_load_explicit(&s->off, memory_order_relaxed) == 0)
			return i;
		if (!s->dirty && (found == UINT32_MAX || a > age)) {
			found = i;
			age = a;
		}
	}
	return found;
}

/* Not under the lock's bounce buffer for less than a block: slices are aligned as tables are. */
static int load(struct qcow2_cache *c, uint32_t slot, uint64_t off)
{
	_Alignas(QCOW2_SLICE_MAX) uint64_t buf[QCOW2_SLICE_MAX / 8];
	struct qcow2_slot *s = &c->slots[slot];
	_Atomic uint64_t *words = qcow2_cache_words(c, slot);
	int r;

	r = file_io_read(&c->q->io, off, buf, c->slice);
	if (r < 0)
		return r;
	begin_change(s);
	/* Release, so that who sees the new name or words sees the odd seq. */
	atomic_store_explicit(&s->off, off, memory_order_release);
	for (size_t i = 0; i < c->slice / 8; i++)
		atomic_store_explicit(&words[i], buf[i], memory_order_release);
	end_change(s);
	return 0;
}

int qcow2_cache_get(struct qcow2_cache *c, uint64_t off, uint32_t *ret_slot)
{
	unsigned int seq;
	uint32_t slot;
	int r;

	if (qcow2_cache_peek(c, off, ret_slot, &seq))
		return 0;
	slot = oldest(c, first_of_set(c, off));
	if (slot == UINT32_MAX) {
		r = qcow2_write_out(c->q);
		if (r < 0)
			return r;
		slot = oldest(c, first_of_set(c, off));
		if (slot == UINT32_MAX)
			return -EIO;
	}
	/* One writer, who has the lock. */
	atomic_fetch_add_explicit(&c->clock, 1, memory_order_relaxed);
	r = load(c, slot, off);
	if (r < 0)
		return r;
	touch(c, &c->slots[slot]);
	*ret_slot = slot;
	return 0;
}

static void mark_dirty(struct qcow2_cache *c, uint32_t slot)
{
	if (c->slots[slot].dirty)
		return;
	c->slots[slot].dirty = true;
	c->dirty[c->n_dirty++] = slot;
}

void qcow2_cache_set(struct qcow2_cache *c, uint32_t slot, size_t at, uint64_t value)
{
	/* release: what the entry points at is older */
	atomic_store_explicit(&qcow2_cache_words(c, slot)[at], htobe64(value),
			      memory_order_release);
	mark_dirty(c, slot);
}

void qcow2_cache_set_pair(struct qcow2_cache *c, uint32_t slot, size_t at, uint64_t first,
			  uint64_t second)
{
	begin_change(&c->slots[slot]);
	qcow2_cache_set(c, slot, at, first);
	qcow2_cache_set(c, slot, at + 1, second);
	end_change(&c->slots[slot]);
}

uint64_t qcow2_cache_word(const struct qcow2_cache *c, uint32_t slot, size_t at)
{
	return be64toh(atomic_load_explicit(&qcow2_cache_words(c, slot)[at], memory_order_acquire));
}

static int write_slot(struct qcow2_cache *c, uint32_t slot)
{
	_Alignas(QCOW2_SLICE_MAX) uint64_t buf[QCOW2_SLICE_MAX / 8];

	for (size_t i = 0; i < c->slice / 8; i++)
		buf[i] = atomic_load_explicit(&qcow2_cache_words(c, slot)[i], memory_order_relaxed);
	return file_io_write(&c->q->io,
			     atomic_load_explicit(&c->slots[slot].off, memory_order_relaxed), buf,
			     c->slice);
}

static bool is_inside(const struct qcow2_cache *c, uint32_t slot, uint64_t from, uint64_t to)
{
	uint64_t off = atomic_load_explicit(&c->slots[slot].off, memory_order_relaxed);

	return off >= from && off < to;
}

int qcow2_cache_write(struct qcow2_cache *c, uint64_t from, uint64_t to, bool inside)
{
	uint32_t n_left = 0;
	int r = 0;

	for (uint32_t i = 0; i < c->n_dirty; i++) {
		uint32_t slot = c->dirty[i];

		if (r >= 0 && is_inside(c, slot, from, to) == inside) {
			r = write_slot(c, slot);
			if (r >= 0) {
				c->slots[slot].dirty = false;
				continue;
			}
		}
		c->dirty[n_left++] = slot;
	}
	c->n_dirty = n_left;
	return r;
}

bool qcow2_cache_is_dirty(const struct qcow2_cache *c, uint64_t from, uint64_t to)
{
	for (uint32_t i = 0; i < c->n_dirty; i++)
		if (is_inside(c, c->dirty[i], from, to))
			return true;
	return false;
}

void qcow2_cache_forget(struct qcow2_cache *c, uint64_t off, uint64_t len)
{
	for (uint64_t at = off; at < off + len; at += c->slice) {
		unsigned int seq;
		uint32_t slot;

		if (!qcow2_cache_peek(c, at, &slot, &seq))
			continue;
		begin_change(&c->slots[slot]);
		atomic_store_explicit(&c->slots[slot].off, 0, memory_order_release);
		end_change(&c->slots[slot]);
		if (!c->slots[slot].dirty)
			continue;
		c->slots[slot].dirty = false;
		for (uint32_t i = 0; i < c->n_dirty; i++) {
			if (c->dirty[i] != slot)
				continue;
			c->dirty[i] = c->dirty[--c->n_dirty];
			break;
		}
	}
}
