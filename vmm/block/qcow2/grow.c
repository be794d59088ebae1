/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 tables that have become too small: the refcount table when the file grows,
 * the L1 table when the disk does
 *
 * Both are replaced: a new one is written and flushed, one write to the header
 * makes it the table, and the old one is freed.
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

/* --- refcount table --- */

/* The area that counts itself: a table of n_table clusters, then n_blocks blocks. */
struct refcount_area {
	uint64_t first; /* cluster */
	uint64_t n_table, n_blocks;
};

static void put_one(const struct qcow2 *q, uint8_t *block, uint64_t at)
{
	uint64_t bit = at << q->refcount_order;
	unsigned int bytes = (1U << q->refcount_order) / 8;

	if (bytes == 0)
		block[bit / 8] = (uint8_t)(block[bit / 8] | 1U << (bit & 7));
	else
		block[bit / 8 + bytes - 1] = 1;
}

static int plan_area(const struct qcow2 *q, uint64_t first, struct refcount_area *ret)
{
	uint64_t per_block = qcow2_refblock_entries(q), per_table = q->cluster / 8;
	struct refcount_area a = { .first = first,
				   .n_table = q->reftable_clusters + q->reftable_clusters / 2 + 1 };
	uint64_t last;

	for (;;) {
		uint64_t n_blocks;

		last = (a.first + a.n_table + a.n_blocks - 1) / per_block;
		n_blocks = last - a.first / per_block + 1;
		if (n_blocks > a.n_blocks)
			a.n_blocks = n_blocks;
		else if (last >= a.n_table * per_table)
			a.n_table = last / per_table + 1;
		else
			break;
	}
	if (a.n_table << q->cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
		return -EFBIG;
	*ret = a;
	return 0;
}

static int write_blocks(struct qcow2 *q, const struct refcount_area *a)
{
	uint64_t per_block = qcow2_refblock_entries(q), end = a->first + a->n_table + a->n_blocks;
	int r = 0;

	for (uint64_t b = 0; r >= 0 && b < a->n_blocks; b++) {
		uint64_t base = (a->first / per_block + b) * per_block;

		memset(q->copy, 0, q->cluster);
		for (uint64_t i = MAX(base, a->first); i < MIN(base + per_block, end); i++)
			put_one(q, q->copy, i - base);
		r = file_io_write(&q->io, (a->first + a->n_table + b) << q->cluster_bits, q->copy,
				  q->cluster);
	}
	return r;
}

static int write_table(struct qcow2 *q, const struct refcount_area *a)
{
	uint64_t per_table = q->cluster / 8, t = a->first / qcow2_refblock_entries(q);
	int r = 0;

	for (uint64_t i = 0; r >= 0 && i < a->n_table; i++) {
		memset(q->copy, 0, q->cluster);
		if (i < q->reftable_clusters)
			r = file_io_read(&q->io, q->reftable_off + (i << q->cluster_bits), q->copy,
					 q->cluster);
		for (uint64_t b = 0; b < a->n_blocks; b++)
			if ((t + b) / per_table == i)
				qcow2_put64(q->copy + (t + b) % per_table * 8,
					    (a->first + a->n_table + b) << q->cluster_bits);
		if (r >= 0)
			r = file_io_write(&q->io, (a->first + i) << q->cluster_bits, q->copy,
					  q->cluster);
	}
	return r;
}

int qcow2_reftable_grow(struct qcow2 *q, uint64_t first)
{
	uint64_t old_off = q->reftable_off, old_n = q->reftable_clusters, off, len;
	struct refcount_area a;
	uint8_t buf[12];
	int r;

	r = plan_area(q, first, &a);
	if (r >= 0)
		r = qcow2_check_unused(q, a.first, a.n_table + a.n_blocks);
	if (r >= 0)
		r = qcow2_write_out(q);
	if (r < 0)
		return r;
	off = a.first << q->cluster_bits;
	len = (a.n_table + a.n_blocks) << q->cluster_bits;
	r = qcow2_extend(q, off + len);
	if (r >= 0)
		r = write_blocks(q, &a);
	if (r >= 0)
		r = write_table(q, &a);
	if (r >= 0)
		r = file_io_flush(&q->io);
	if (r < 0)
		return r;
	qcow2_put64(buf, off);
	qcow2_put32(buf + 8, (uint32_t)a.n_table);
	r = file_io_write(&q->io, QCOW2_H_REFTABLE_OFF, buf, sizeof(buf));
	if (r >= 0)
		r = file_io_flush(&q->io);
	if (r < 0) {
		/* Which of the two tables is in the file? */
		return qcow2_damaged(q, "its refcount table cannot be moved");
	}
	qcow2_cache_forget(&q->refcount_cache, old_off, old_n << q->cluster_bits);
	qcow2_cache_forget(&q->refcount_cache, off, len);
	q->reftable_off = off;
	q->reftable_clusters = (uint32_t)a.n_table;
	q->used_end = MAX(q->used_end, off + len);
	qcow2_free_later(q, old_off, old_n);
	return 0;
}

/* --- the disk's size --- */

static int grow_l1(struct qcow2 *q, uint64_t n, struct err *err)
{
	uint64_t clusters = (n * 8 + q->cluster - 1) >> q->cluster_bits, off;
	uint64_t old_off = q->l1_off, old_n = q->l1_entries;
	_Atomic uint64_t *l1 = qcow2_pages_new(n * 8), *old = q->l1;
	struct qcow2_places *tables = qcow2_places_new(n);
	uint8_t buf[12];
	int r;

	if (!l1 || !tables) {
		qcow2_pages_free(l1, n * 8);
		qcow2_places_free(tables);
		return err_errno(err, ENOMEM, "cannot make a larger L1 table");
	}
	r = qcow2_alloc_contiguous(q, clusters, &off);
	if (r >= 0)
		r = qcow2_write_out(q);
	for (uint64_t i = 0; r >= 0 && i < old_n; i++) {
		uint64_t entry = atomic_load_explicit(&old[i], memory_order_relaxed);

		atomic_init(&l1[i], entry);
		qcow2_put64(buf, entry);
		if (entry & QCOW2_OFFSET_MASK)
			qcow2_places_add(tables, entry & QCOW2_OFFSET_MASK);
		if (entry)
			r = file_io_write(&q->io, off + i * 8, buf, 8);
	}
	if (r >= 0)
		r = file_io_flush(&q->io);
	if (r < 0) {
		qcow2_pages_free(l1, n * 8);
		qcow2_places_free(tables);
		return err_errno(err, -r, "cannot write a larger L1 table");
	}
	qcow2_put32(buf, (uint32_t)n);
	qcow2_put64(buf + 4, off);
	r = file_io_write(&q->io, QCOW2_H_L1_ENTRIES, buf, sizeof(buf));
	if (r >= 0)
		r = file_io_flush(&q->io);
	if (r < 0) {
		qcow2_pages_free(l1, n * 8);
		qcow2_places_free(tables);
		qcow2_damaged(q, "its L1 table cannot be moved");
		return err_errno(err, -r, "cannot write the image's header");
	}
	q->l1 = l1;
	qcow2_places_free(q->tables);
	q->tables = tables;
	q->l1_off = off;
	q->l1_entries = (uint32_t)n;
	qcow2_pages_free(old, old_n * 8);
	qcow2_free_later(q, old_off, (old_n * 8 + q->cluster - 1) >> q->cluster_bits);
	return 0;
}

/* What the backing file has behind the old end must not appear. */
static int hide_backing(struct qcow2 *q, uint64_t off, uint64_t end)
{
	while (off < end) {
		const struct block_access access = {
			.op = BLOCK_OP_WRITE_ZEROES, .unmap = true, .off = off, .len = end - off
		};
		struct block_extent ext = { 0 };
		int r = qcow2_map_zero(q, &access, &ext);

		if (r >= 0 && ext.kind == BLOCK_EXTENT_HOST)
			r = file_io_zero(&q->io, ext.off, ext.len);
		if (r < 0)
			return r;
		off += ext.len;
	}
	return 0;
}

static int write_size(struct qcow2 *q, uint64_t size)
{
	uint8_t buf[8];
	int r;

	qcow2_put64(buf, size);
	pthread_mutex_lock(&q->lock);
	r = qcow2_sync_locked(q);
	if (r >= 0)
		r = file_io_write(&q->io, QCOW2_H_SIZE, buf, sizeof(buf));
	if (r >= 0)
		r = file_io_flush(&q->io);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_resize(struct block_image *img, uint64_t size, struct err *err)
{
	struct qcow2 *q = qcow2_image(img);
	unsigned int l2_shift = q->cluster_bits + q->l2_bits;
	uint64_t n = (size >> l2_shift) + !!(size & ((1ULL << l2_shift) - 1));
	uint64_t old = img->size;
	int r;

	if (size < old)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "the disk has %llu bytes and cannot shrink to %llu: its image is "
				 "qcow2, which can only grow",
				 (unsigned long long)old, (unsigned long long)size);
	if (size == old)
		return 0;
	if (size > INT64_MAX || n > QCOW2_L1_BYTES_MAX / 8)
		return err_set(err, EFBIG,
			       "%llu bytes are too large for a qcow2 image with clusters of %llu",
			       (unsigned long long)size, (unsigned long long)q->cluster);
	pthread_mutex_lock(&q->lock);
	r = qcow2_before_change(q);
	if (r < 0)
		err_errno(err, -r, "the image cannot be changed");
	else if (n > q->l1_entries)
		r = grow_l1(q, n, err);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		return r;
	img->size = size;
	if (q->backing && q->backing->size > old)
		r = hide_backing(q, old, MIN(size, q->backing->size));
	if (r >= 0)
		r = write_size(q, size);
	if (r < 0) {
		img->size = old;
		return err_errno(err, -r, "cannot write the image's new size");
	}
	return 0;
}
