/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freed clusters, until they may be used again
 *
 * Two things must be over first: the tables that no longer refer to them have to
 * be in the file (or a crash would leave references to unused clusters), and every
 * transfer that was under way when they were freed has to be finished
 * (block-epoch.h).  So frees are collected (`freed`), move on when the tables have
 * been written (`aging`), and lose their reference when the epoch is over.  A crash
 * in between costs leaked clusters and no more.
 *
 * A cluster whose last reference goes is punched out of the file: the space goes
 * back to the host, and what is allocated there later reads as zeroes.
 */
#include <assert.h>
#include <errno.h>

#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

bool qcow2_free_has_room(struct qcow2 *q, unsigned int n)
{
	if (q->freed.n + n <= QCOW2_FREES_MAX)
		return true;
	if (qcow2_sync_locked(q) < 0)
		return false;
	return q->freed.n + n <= QCOW2_FREES_MAX;
}

void qcow2_free_later(struct qcow2 *q, uint64_t off, uint64_t n)
{
	struct qcow2_frees *f = &q->freed;

	if (f->n > 0 && f->ranges[f->n - 1].off + (f->ranges[f->n - 1].n << q->cluster_bits) == off)
		f->ranges[f->n - 1].n += n;
	else if (f->n < QCOW2_FREES_MAX) {
		f->ranges[f->n].off = off;
		f->ranges[f->n++].n = n;
	} else {
		log_debug("disk '%s': %llu clusters are left unused", q->id, (unsigned long long)n);
	}
}

void qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t off, len, first;

	if (!(entry & QCOW2_COMPRESSED)) {
		if (entry & QCOW2_OFFSET_MASK)
			qcow2_free_later(q, entry & QCOW2_OFFSET_MASK, 1);
		return;
	}
	qcow2_packed_range(q, entry, &off, &len);
	first = align_down(off, q->cluster);
	qcow2_free_later(q, first, (align_up(off + len, q->cluster) - first) >> q->cluster_bits);
}

/* [off, end) has lost its last reference. */
static void give_back(struct qcow2 *q, uint64_t off, uint64_t end)
{
	if (off == end)
		return;
	if (file_io_punch(&q->io, off, end - off) < 0)
		q->stale_end = MAX(q->stale_end, end);
	q->free_hint = MIN(q->free_hint, off >> q->cluster_bits);
}

static int drop(struct qcow2 *q, uint64_t off, uint64_t n)
{
	uint64_t unused = off, at = off, end = off + (n << q->cluster_bits);

	for (; at < end; at += q->cluster) {
		uint64_t count;
		int r = qcow2_refcount_get(q, at >> q->cluster_bits, &count);

		if (r >= 0 && count == 0)
			r = qcow2_damaged(q, "cluster %llu was in use and not counted",
					  (unsigned long long)at);
		if (r >= 0 && count == 1 && !qcow2_is_data_place(q, at, q->cluster))
			r = qcow2_damaged(q, "a table at %llu was used as a cluster",
					  (unsigned long long)at);
		if (r >= 0)
			r = qcow2_refcount_set(q, at >> q->cluster_bits, count - 1);
		if (r < 0) {
			give_back(q, unused, at);
			return r;
		}
		q->free_in_cache = true;
		if (count == 1)
			continue;
		give_back(q, unused, at);
		unused = at + q->cluster;
	}
	give_back(q, unused, end);
	return 0;
}

void qcow2_reclaim(struct qcow2 *q)
{
	int r = 0;

	if (q->aging.n == 0 || !block_epoch_is_over(&q->epoch) || q->failed)
		return;
	/* The tables that no longer refer to them must not come back. */
	if (q->io.unflushed)
		r = file_io_flush(&q->io);
	for (unsigned int i = 0; r >= 0 && i < q->aging.n; i++)
		r = drop(q, q->aging.ranges[i].off, q->aging.ranges[i].n);
	q->aging.n = 0;
}

void qcow2_reclaim_written(struct qcow2 *q)
{
	struct qcow2_frees empty = q->aging;

	qcow2_reclaim(q);
	if (q->freed.n == 0 || q->aging.n > 0)
		return;
	empty.n = 0;
	q->aging = q->freed;
	q->freed = empty;
	block_epoch_flip(&q->epoch);
	qcow2_reclaim(q);
}
