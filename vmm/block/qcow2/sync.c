/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing metadata out, in an order that a crash cannot hurt
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

static int flush_if_needed(struct qcow2 *q)
{
	return q->io.unflushed ? file_io_flush(&q->io) : 0;
}

static int write_refcounts(struct qcow2 *q)
{
	uint64_t table = q->reftable_off, end = table + qcow2_reftable_entries(q) * 8;
	bool table_is_dirty = qcow2_cache_is_dirty(&q->refcount_cache, table, end);
	int r = 0;

	if (q->refcount_cache.n_dirty == 0)
		return 0;
	/* What goes down does so after the tables that no longer refer to it. */
	if (q->free_in_cache)
		r = flush_if_needed(q);
	if (r >= 0)
		r = qcow2_cache_write(&q->refcount_cache, table, end, false);
	if (r >= 0 && table_is_dirty) {
		r = file_io_flush(&q->io);
		if (r >= 0)
			r = qcow2_cache_write(&q->refcount_cache, table, end, true);
	}
	if (r >= 0)
		q->free_in_cache = false;
	return r;
}

static int write_l1(struct qcow2 *q)
{
	uint64_t buf[64];
	int r = 0;

	while (r >= 0 && q->l1_dirty_lo < q->l1_dirty_hi) {
		uint32_t n = MIN(q->l1_dirty_hi - q->l1_dirty_lo, 64U);

		for (uint32_t i = 0; i < n; i++)
			buf[i] = htobe64(atomic_load_explicit(&q->l1[q->l1_dirty_lo + i],
							      memory_order_relaxed));
		r = file_io_write(&q->io, q->l1_off + q->l1_dirty_lo * 8ULL, buf, n * 8ULL);
		if (r >= 0)
			q->l1_dirty_lo += n;
	}
	return r;
}

/* Without refcounts where the dirty bit stands for them. */
static int sync_tables(struct qcow2 *q, bool refcounts)
{
	bool dirty = q->l2_cache.n_dirty > 0, l1_dirty = q->l1_dirty_lo < q->l1_dirty_hi;
	int r = 0;

	if (refcounts)
		r = write_refcounts(q);
	/* Refcounts, and data that was copied, before what refers to them. */
	if (r >= 0 && (dirty || l1_dirty))
		r = flush_if_needed(q);
	if (r >= 0)
		r = qcow2_cache_write(&q->l2_cache, 0, UINT64_MAX, true);
	if (r >= 0 && l1_dirty) {
		r = flush_if_needed(q);
		if (r >= 0)
			r = write_l1(q);
	}
	return r;
}

int qcow2_write_out(struct qcow2 *q)
{
	return q->failed ? -EIO : sync_tables(q, true);
}

int qcow2_sync_locked(struct qcow2 *q)
{
	int r;

	if (q->failed)
		return -EIO;
	r = sync_tables(q, !(q->incompatible & QCOW2_INCOMPATIBLE_DIRTY));
	if (r < 0) {
		/* Not for good: the host may have been out of space; all is still in memory. */
		log_warning("disk '%s': cannot write the image's tables: %s", q->id,
			    strerrordesc_np(-r));
		return r;
	}
	qcow2_reclaim_written(q);
	return 0;
}

int qcow2_sync(struct qcow2 *q)
{
	int r;

	if (q->base.readonly)
		return 0;
	pthread_mutex_lock(&q->lock);
	r = qcow2_sync_locked(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear)
{
	uint64_t bits = (q->incompatible | set) & ~clear;
	uint8_t buf[8];
	int r;

	if (bits == q->incompatible)
		return 0;
	qcow2_put64(buf, bits);
	r = file_io_write(&q->io, QCOW2_H_INCOMPATIBLE, buf, sizeof(buf));
	if (r >= 0)
		r = file_io_flush(&q->io);
	if (r >= 0)
		q->incompatible = bits;
	return r;
}

int qcow2_before_change(struct qcow2 *q)
{
	if (q->failed)
		return -EIO;
	return q->lazy ? qcow2_set_incompatible(q, QCOW2_INCOMPATIBLE_DIRTY, 0) : 0;
}

int qcow2_damaged(struct qcow2 *q, const char *fmt, ...)
{
	char what[160];
	va_list ap;

	if (q->failed)
		return -EIO;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_warning("disk '%s': the image is damaged: %s%s", q->id, what,
		    q->base.readonly ? "" : "; nothing more is written to it");
	q->failed = true;
	if (!q->base.readonly && q->version >= 3)
		qcow2_set_incompatible(q, QCOW2_INCOMPATIBLE_CORRUPT, 0);
	return -EIO;
}
