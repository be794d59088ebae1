/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of qcow2 images, and the allocator on top of them
 *
 * The refcount table and its blocks go through one cache of slices; they are read
 * only once something is allocated or freed.  Everything here has q->lock.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

#define BEHIND_MAX 65536U
#define LOOK_MAX   65536U /* counts that one allocation looks at before it goes to the end */

uint64_t qcow2_refblock_entries(const struct qcow2 *q)
{
	return q->cluster * 8 >> q->refcount_order;
}

uint64_t qcow2_reftable_entries(const struct qcow2 *q)
{
	return (uint64_t)q->reftable_clusters << (q->cluster_bits - 3);
}

static int get_word(struct qcow2 *q, uint64_t off, uint32_t *ret_slot, size_t *ret_word)
{
	*ret_word = (size_t)(off & (q->refcount_cache.slice - 1)) / 8;
	return qcow2_cache_get(&q->refcount_cache, align_down(off, q->refcount_cache.slice),
			       ret_slot);
}

int qcow2_refblock_get(struct qcow2 *q, uint64_t index, uint64_t *ret_off)
{
	uint64_t t = index / qcow2_refblock_entries(q), off;
	uint32_t slot;
	size_t word;
	int r;

	if (t >= qcow2_reftable_entries(q)) {
		*ret_off = 0;
		return 0;
	}
	r = get_word(q, q->reftable_off + t * 8, &slot, &word);
	if (r < 0)
		return r;
	off = qcow2_cache_word(&q->refcount_cache, slot, word) & QCOW2_REFTABLE_OFFSET;
	if (off && ((off & (q->cluster - 1)) || off >= q->file_size ||
		    !qcow2_is_data_place(q, off, q->cluster)))
		return qcow2_damaged(q, "refcount table entry %llu points at %llu",
				     (unsigned long long)t, (unsigned long long)off);
	*ret_off = off;
	return 0;
}

/* Where the count is: a word of a slot, and bits of that word as a number. */
static int locate(struct qcow2 *q, uint64_t block, uint64_t index, uint32_t *ret_slot,
		  size_t *ret_word, unsigned int *ret_shift)
{
	uint64_t bit = index % qcow2_refblock_entries(q) << q->refcount_order;
	unsigned int bits = 1U << q->refcount_order, in_word = (unsigned int)(bit & 63);

	/*
	 * The word is a big-endian number: the byte that comes first is the highest;
	 * within a byte the count that comes first is the lowest.
	 */
	if (bits >= 8)
		*ret_shift = 64 - bits - in_word;
	else
		*ret_shift = 56 - (in_word & ~7U) + (in_word & 7);
	return get_word(q, block + bit / 8, ret_slot, ret_word);
}

static uint64_t count_mask(const struct qcow2 *q)
{
	return q->refcount_order == 6 ? UINT64_MAX : (1ULL << (1U << q->refcount_order)) - 1;
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t index, uint64_t *ret)
{
	unsigned int shift;
	uint64_t block;
	uint32_t slot;
	size_t word;
	int r;

	*ret = 0;
	r = qcow2_refblock_get(q, index, &block);
	if (r < 0 || block == 0)
		return r;
	r = locate(q, block, index, &slot, &word, &shift);
	if (r >= 0)
		*ret = qcow2_cache_word(&q->refcount_cache, slot, word) >> shift & count_mask(q);
	return r;
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t index, uint64_t value)
{
	unsigned int shift;
	uint64_t block, old;
	uint32_t slot;
	size_t word;
	int r;

	if (value > count_mask(q))
		return -ERANGE;
	r = qcow2_refblock_get(q, index, &block);
	if (r < 0)
		return r;
	if (block == 0)
		return -EIO;
	r = locate(q, block, index, &slot, &word, &shift);
	if (r < 0)
		return r;
	old = qcow2_cache_word(&q->refcount_cache, slot, word);
	qcow2_cache_set(&q->refcount_cache, slot, word,
			(old & ~(count_mask(q) << shift)) | value << shift);
	return 0;
}

int qcow2_extend(struct qcow2 *q, uint64_t end)
{
	uint64_t size = atomic_load_explicit(&q->file_size, memory_order_relaxed), ahead;

	if (end <= size)
		return 0;
	if (q->fixed_size)
		return -ENOSPC;
	/* Ahead of the need, to save calls; close cuts it off again. */
	ahead = align_up(end, MAX((uint64_t)MIB, q->cluster));
	if (ftruncate(q->io.fd, (off_t)ahead) < 0) {
		ahead = end;
		if (ftruncate(q->io.fd, (off_t)ahead) < 0)
			return -errno;
	}
	atomic_store_explicit(&q->file_size, ahead, memory_order_relaxed);
	return 0;
}

int qcow2_refblock_new(struct qcow2 *q, uint64_t index, uint64_t at)
{
	uint64_t off = at << q->cluster_bits, t = index / qcow2_refblock_entries(q);
	uint32_t slot;
	size_t word;
	int r;

	r = qcow2_extend(q, off + q->cluster);
	if (r >= 0 && off < q->stale_end)
		r = file_io_zero(&q->io, off, q->cluster);
	if (r < 0)
		return r;
	qcow2_cache_forget(&q->refcount_cache, off, q->cluster);
	q->used_end = MAX(q->used_end, off + q->cluster);
	/* In memory first; sync.c writes blocks before the table. */
	r = get_word(q, q->reftable_off + t * 8, &slot, &word);
	if (r < 0)
		return r;
	qcow2_cache_set(&q->refcount_cache, slot, word, off);
	return qcow2_refcount_set(q, at, 1);
}

bool qcow2_is_l2_table(const struct qcow2 *q, uint64_t off)
{
	if (!qcow2_places_may_have(q->tables, off))
		return false;
	for (uint32_t i = 0; i < q->l1_entries; i++)
		if ((atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET_MASK) ==
		    off)
			return true;
	return false;
}

/* Refcounts may be wrong, in files that others wrote: tables are never given away. */
int qcow2_check_unused(struct qcow2 *q, uint64_t first, uint64_t n)
{
	uint64_t off = first << q->cluster_bits, len = n << q->cluster_bits;
	bool good = qcow2_is_data_place(q, off, len);

	for (uint64_t i = 0; good && i < n; i++)
		good = !qcow2_is_l2_table(q, (first + i) << q->cluster_bits);
	if (good)
		return 0;
	return qcow2_damaged(q, "the refcounts call a table at %llu unused",
			     (unsigned long long)off);
}

/*
 * *index moves on to the first count of its slice of a block that is in a word with a zero
 * count, or to the end of the slice.  Only from where a word begins.
 */
static int skip_counted(struct qcow2 *q, uint64_t block, uint64_t *index)
{
	const unsigned int in_word = 64U >> q->refcount_order, bits = 1U << q->refcount_order;
	const uint64_t low = UINT64_MAX / count_mask(q), high = low << (bits - 1);
	const size_t n_words = q->refcount_cache.slice / 8;
	unsigned int shift;
	uint32_t slot;
	size_t word;
	int r;

	if (*index % in_word)
		return 0;
	r = locate(q, block, *index, &slot, &word, &shift);
	for (; r >= 0 && word < n_words; word++, *index += in_word) {
		uint64_t v = qcow2_cache_word(&q->refcount_cache, slot, word);

		/* Only a count of zero borrows without having had its highest bit. */
		if ((v - low) & ~v & high)
			break;
	}
	return r;
}

/*
 * The first cluster from *index on that no one uses; makes blocks, and a larger table.
 * 1: there is none up to `until`, and *index is there or behind.
 */
static int find_unused(struct qcow2 *q, uint64_t *index, uint64_t until)
{
	uint64_t block, count, behind = 0, start;
	int r;

	while (*index < until) {
		if (*index >> (56 - q->cluster_bits))
			return -EFBIG; /* entries have no more bits */
		if (*index / qcow2_refblock_entries(q) >= qcow2_reftable_entries(q)) {
			r = qcow2_reftable_grow(q, *index);
			if (r < 0)
				return r;
			continue;
		}
		r = qcow2_refblock_get(q, *index, &block);
		if (r < 0)
			return r;
		if (block == 0) {
			r = qcow2_check_unused(q, *index, 1);
			if (r >= 0)
				r = qcow2_refblock_new(q, *index, *index);
			if (r < 0)
				return r;
		}
		start = *index;
		r = skip_counted(q, block, index);
		if (r >= 0 && *index == start) {
			r = qcow2_refcount_get(q, *index, &count);
			if (r >= 0 && count == 0)
				return 0;
			++*index;
		}
		if (r < 0)
			return r;
		/* Blocks may be shared, in files that others wrote: no end would be in sight. */
		if (start << q->cluster_bits >= q->file_size)
			behind += *index - start;
		if (behind > BEHIND_MAX)
			return qcow2_damaged(q, "clusters behind the end of its file are in use");
	}
	return 1;
}

/*
 * A large file that has been full for long takes a while to look through.  So each
 * allocation looks a stretch further and, as long as nothing is found, takes what is at the
 * end of the file.  A device has no end to go to.
 */
static int find_place(struct qcow2 *q, uint64_t *ret)
{
	uint64_t end = (q->used_end + q->cluster - 1) >> q->cluster_bits;
	int r;

	*ret = q->free_hint;
	r = find_unused(q, ret, q->fixed_size ? UINT64_MAX : MIN(q->free_hint + LOOK_MAX, end));
	if (r < 0)
		return r;
	q->free_hint = *ret;
	if (r == 0)
		return 0;
	*ret = MAX(*ret, end);
	return find_unused(q, ret, UINT64_MAX);
}

/* How many from `first` on are unused: up to want, within one refcount block. */
static int count_unused(struct qcow2 *q, uint64_t first, uint64_t want, uint64_t *ret)
{
	uint64_t left = qcow2_refblock_entries(q) - first % qcow2_refblock_entries(q);
	uint64_t n = 1, count;

	while (n < MIN(want, left)) {
		int r = qcow2_refcount_get(q, first + n, &count);

		if (r < 0)
			return r;
		if (count)
			break;
		n++;
	}
	*ret = n;
	return 0;
}

/* Counts them, and makes them read as zeroes. */
static int take(struct qcow2 *q, uint64_t first, uint64_t n)
{
	uint64_t off = first << q->cluster_bits, end = (first + n) << q->cluster_bits;
	int r;

	r = qcow2_check_unused(q, first, n);
	if (r >= 0)
		r = qcow2_extend(q, end);
	if (r >= 0 && off < q->stale_end)
		r = file_io_zero(&q->io, off, MIN(end, q->stale_end) - off);
	for (uint64_t i = 0; r >= 0 && i < n; i++)
		r = qcow2_refcount_set(q, first + i, 1);
	if (r >= 0)
		q->used_end = MAX(q->used_end, end);
	return r;
}

int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_off, uint64_t *ret_n)
{
	uint64_t index, n;
	int r;

	r = find_place(q, &index);
	if (r >= 0)
		r = count_unused(q, index, want, &n);
	if (r >= 0)
		r = take(q, index, n);
	if (r < 0)
		return r;
	if (index == q->free_hint)
		q->free_hint += n;
	*ret_off = index << q->cluster_bits;
	*ret_n = n;
	return 0;
}

int qcow2_alloc_contiguous(struct qcow2 *q, uint64_t n, uint64_t *ret_off)
{
	uint64_t first = q->free_hint, found = 0;
	int r;

	/* find_unused may have made blocks on its way, which interrupt a run. */
	while (found < n) {
		uint64_t index = first + found;

		r = find_unused(q, &index, UINT64_MAX);
		if (r < 0)
			return r;
		if (index != first + found) {
			first = index;
			found = 0;
		}
		found++;
	}
	r = take(q, first, n);
	if (r < 0)
		return r;
	*ret_off = first << q->cluster_bits;
	return 0;
}
