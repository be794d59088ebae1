/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of a qcow2 image that was not closed
 *
 * With lazy refcounts the dirty bit says that the refcounts are not right.  They
 * are counted anew from the L1 and L2 tables before anything is written: first
 * those that are too low go up, then those that are too high go down.  Tables that
 * meet each other, or leave the file, are more than that: such an image is not
 * opened for writing.
 *
 * The counts take two bytes a cluster of the file, in memory that is touched where
 * there are clusters, and is given back at the end.
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

#define EXTRA        65536ULL /* clusters behind the file's end, for new blocks */
#define CLUSTERS_MAX (1ULL << 31)

struct count {
	struct qcow2 *q;
	uint16_t *want;
	uint64_t n;   /* clusters in the file */
	uint64_t end; /* behind the last that is used */
	bool again;   /* the refcount table has moved */
};

static int add(struct count *c, uint64_t off, uint64_t len, bool shared, const char *what,
	       struct err *err)
{
	uint64_t first = off >> c->q->cluster_bits, last;

	if (len == 0)
		return 0;
	if (!range_fits(off, len, c->n << c->q->cluster_bits))
		return err_set(err, EINVAL,
			       "cannot repair the image: %s at %llu is outside the file", what,
			       (unsigned long long)off);
	last = (off + len - 1) >> c->q->cluster_bits;
	for (uint64_t i = first; i <= last; i++) {
		if ((c->want[i] && !shared) || c->want[i] == UINT16_MAX)
			return err_set(err, EINVAL,
				       "cannot repair the image: %s at %llu is in use already",
				       what, (unsigned long long)off);
		c->want[i]++;
	}
	c->end = MAX(c->end, last + 1);
	return 0;
}

static int add_table(struct count *c, uint64_t table, struct err *err)
{
	struct qcow2 *q = c->q;
	int r;

	r = add(c, table, q->cluster, false, "an L2 table", err);
	for (uint64_t s = 0; r >= 0 && s < q->cluster; s += q->l2_cache.slice) {
		uint32_t slot;

		r = qcow2_cache_get(&q->l2_cache, table + s, &slot);
		if (r < 0)
			return err_errno(err, -r, "cannot repair the image: reading an L2 table");
		for (size_t w = 0; r >= 0 && w < q->l2_cache.slice / 8; w += q->entry_words) {
			uint64_t entry = qcow2_cache_word(&q->l2_cache, slot, w), off, len;

			if (entry & QCOW2_COMPRESSED) {
				qcow2_packed_range(q, entry, &off, &len);
				/* The last sector may be cut off at the file's end. */
				if (off < q->file_size)
					len = MIN(len, q->file_size - off);
				r = add(c, off, len, true, "compressed data", err);
			} else if (entry & QCOW2_OFFSET_MASK) {
				off = entry & QCOW2_OFFSET_MASK;
				if (off & (q->cluster - 1))
					return err_set(err, EINVAL,
						       "cannot repair the image: a cluster at %llu "
						       "is unaligned",
						       (unsigned long long)off);
				r = add(c, off, q->cluster, false, "a cluster", err);
			}
		}
	}
	return r;
}

static int count_all(struct count *c, struct err *err)
{
	struct qcow2 *q = c->q;
	uint64_t block;
	int r;

	r = add(c, 0, q->cluster, false, "the header", err);
	if (r >= 0)
		r = add(c, q->l1_off, q->l1_entries * 8ULL, false, "the L1 table", err);
	if (r >= 0)
		r = add(c, q->reftable_off, (uint64_t)q->reftable_clusters << q->cluster_bits,
			false, "the refcount table", err);
	for (uint64_t t = 0; r >= 0 && t < qcow2_reftable_entries(q); t++) {
		r = qcow2_refblock_get(q, t * qcow2_refblock_entries(q), &block);
		if (r < 0)
			return err_errno(err, -r, "cannot repair the image's refcount table");
		if (block)
			r = add(c, block, q->cluster, false, "a refcount block", err);
	}
	for (uint32_t i = 0; r >= 0 && i < q->l1_entries; i++) {
		uint64_t table =
			atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET_MASK;

		if (table)
			r = add_table(c, table, err);
	}
	return r;
}

/* A block for the range that cluster `index` is in. */
static int make_block(struct count *c, uint64_t index)
{
	struct qcow2 *q = c->q;
	uint64_t per_block = qcow2_refblock_entries(q), base = index / per_block * per_block, at;
	uint64_t block;
	int r;

	if (index / per_block >= qcow2_reftable_entries(q)) {
		at = MAX(c->end, qcow2_reftable_entries(q) * per_block);
		c->again = true;
		return qcow2_reftable_grow(q, at);
	}
	for (at = base; at < base + per_block && at < c->n + EXTRA; at++)
		if (c->want[at] == 0)
			break;
	if (at == base + per_block) {
		/* Full: the block lies behind everything, and so is counted there. */
		at = c->end;
		r = qcow2_refblock_get(q, at, &block);
		if (r >= 0 && !block)
			r = make_block(c, at);
		if (r < 0 || c->again)
			return r;
		at = c->end;
	}
	if (at >= c->n + EXTRA)
		return -EFBIG;
	c->want[at] = 1;
	c->end = MAX(c->end, at + 1);
	return qcow2_refblock_new(q, index, at);
}

static int raise_counts(struct count *c)
{
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < c->end && !c->again; i++) {
		uint64_t block, have;

		if (!c->want[i])
			continue;
		r = qcow2_refblock_get(c->q, i, &block);
		if (r >= 0 && !block)
			r = make_block(c, i);
		if (r < 0 || c->again)
			break;
		r = qcow2_refcount_get(c->q, i, &have);
		if (r >= 0 && have < c->want[i])
			r = qcow2_refcount_set(c->q, i, c->want[i]);
	}
	return r;
}

static int lower_counts(struct count *c)
{
	uint64_t per_block = qcow2_refblock_entries(c->q);
	int r = 0;

	for (uint64_t t = 0; r >= 0 && t < qcow2_reftable_entries(c->q); t++) {
		uint64_t block, have;

		r = qcow2_refblock_get(c->q, t * per_block, &block);
		for (uint64_t i = t * per_block; r >= 0 && block && i < (t + 1) * per_block; i++) {
			uint64_t want = i < c->n + EXTRA ? c->want[i] : 0;

			r = qcow2_refcount_get(c->q, i, &have);
			if (r >= 0 && have > want)
				r = qcow2_refcount_set(c->q, i, want);
		}
	}
	return r;
}

static int repair_once(struct qcow2 *q, bool *ret_again, struct err *err)
{
	struct count c = { .q = q };
	size_t len;
	int r;

	c.n = (q->file_size + q->cluster - 1) >> q->cluster_bits;
	if (c.n > CLUSTERS_MAX)
		return err_set(err, EFBIG, "cannot repair the image: its file has %llu bytes",
			       (unsigned long long)q->file_size);
	len = (size_t)(c.n + EXTRA) * sizeof(*c.want);
	c.want = qcow2_pages_new(len);
	if (!c.want)
		return err_errno(err, ENOMEM, "cannot repair the image");
	r = count_all(&c, err);
	if (r >= 0) {
		r = raise_counts(&c);
		if (r >= 0 && !c.again)
			r = lower_counts(&c);
		if (r >= 0)
			r = qcow2_write_out(q);
		if (r < 0)
			err_errno(err, -r, "cannot repair the image's refcounts");
	}
	qcow2_pages_free(c.want, len);
	*ret_again = c.again;
	return r;
}

int qcow2_repair(struct qcow2 *q, struct err *err)
{
	bool again = true;
	int r = 0;

	if (q->has_bitmaps)
		return err_set(
			err, ENOTSUP,
			"the image was not closed and has persistent bitmaps: repair it with "
			"'qemu-img check -r all'");
	log_info("disk '%s': the image was not closed, its refcounts are counted anew", q->id);
	/* Twice is enough: the larger table has room. */
	for (unsigned int i = 0; r >= 0 && again && i < 4; i++) {
		/* What a move of the table would free is found by counting. */
		q->freed.n = 0;
		r = repair_once(q, &again, err);
	}
	q->freed.n = 0;
	if (r < 0)
		return r;
	r = file_io_flush(&q->io);
	if (r >= 0)
		r = qcow2_set_incompatible(q, 0, QCOW2_INCOMPATIBLE_DIRTY);
	return r < 0 ? err_errno(err, -r, "cannot write the image's header") : 0;
}
