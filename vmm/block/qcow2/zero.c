/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discard and write-zeroes of qcow2 images
 *
 * Whole clusters, and whole subclusters of extended entries, change in the tables
 * alone; their places in the file are given back unless the guest asked to keep
 * them.  What is left over at both ends is zeroed where it is (by the engine), or
 * copied; a discard leaves it alone.  Version 2 knows no zero clusters: there, only
 * an image without a backing file can forget a cluster.
 */
#include <errno.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

static void done(struct block_extent *ret, uint64_t len)
{
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_DONE, .len = len };
}

static bool knows_zero(const struct qcow2 *q)
{
	return q->version >= 3;
}

/* Reads as zeroes already, and has nothing to give back. */
static bool is_nothing(const struct qcow2 *q, const struct qcow2_place *p)
{
	uint64_t host = p->entry & QCOW2_OFFSET_MASK;

	if (p->entry & QCOW2_COMPRESSED)
		return false;
	if (q->entry_words == 2)
		return !host && (p->bitmap == QCOW2_SUB_ALL_ZERO || (!q->backing && !p->bitmap));
	return !host && (p->kind == QCOW2_ZEROES || (p->kind == QCOW2_UNALLOCATED && !q->backing));
}

/* 1: done, 0: has to be zeroed some other way, -errno. */
static int zero_cluster(struct qcow2 *q, uint64_t off, bool keep)
{
	struct qcow2_place p;
	uint64_t kept;
	int r;

	r = qcow2_lookup_locked(q, off, 1, &p);
	if (r < 0)
		return r;
	if (is_nothing(q, &p))
		return 1;
	kept = keep && p.copied && !(p.entry & QCOW2_COMPRESSED)
		       ? (p.entry & QCOW2_OFFSET_MASK) | QCOW2_COPIED
		       : 0;
	if (!knows_zero(q) && (q->backing || kept))
		return 0;
	if (!kept && !qcow2_free_has_room(q, 1))
		return 0;
	if (q->entry_words == 2)
		r = qcow2_l2_set(q, off, kept, QCOW2_SUB_ALL_ZERO);
	else
		r = qcow2_l2_set(q, off, knows_zero(q) ? kept | QCOW2_ZERO : 0, 0);
	if (r < 0)
		return r;
	if (!kept)
		qcow2_free_entry(q, p.entry);
	return 1;
}

/* Whole subclusters inside one cluster. */
static int zero_subclusters(struct qcow2 *q, const struct qcow2_place *p, uint64_t off,
			    uint64_t len)
{
	uint64_t at = off & (q->cluster - 1);
	unsigned int first = (unsigned int)(at >> q->unit_bits);
	unsigned int last = (unsigned int)((at + len - 1) >> q->unit_bits);
	uint64_t bits = (2ULL << last) - (1ULL << first);

	return qcow2_l2_set(q, off, p->entry, (p->bitmap & ~bits) | bits << QCOW2_SUBCLUSTERS);
}

/* What is no whole unit, or cannot change in the tables. */
static int zero_part(struct qcow2 *q, const struct block_access *access, uint64_t len,
		     struct block_extent *ret)
{
	struct qcow2_place p;
	uint64_t zero_len = 0;
	int r;

	if (access->op == BLOCK_OP_DISCARD) {
		done(ret, len);
		return 0;
	}
	r = qcow2_lookup_locked(q, access->off, len, &p);
	if (r < 0)
		return r;
	if (p.kind == QCOW2_UNALLOCATED) {
		r = qcow2_backing_is_zero(q, access->off, p.len, &zero_len);
		if (r < 0)
			return r;
	}
	if (p.kind == QCOW2_ZEROES || zero_len > 0) {
		done(ret, p.kind == QCOW2_ZEROES ? p.len : zero_len);
		return 0;
	}
	if (p.kind == QCOW2_DATA && p.copied && qcow2_is_data_place(q, p.host, p.len) &&
	    p.host + p.len <= q->file_size) {
		*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
					      .off = p.host,
					      .len = p.len };
		return 0;
	}
	done(ret, 0);
	return qcow2_copy_on_write(q, &p, access->off, p.len, NULL, 0, &ret->len);
}

static int map_zero_locked(struct qcow2 *q, const struct block_access *access,
			   struct block_extent *ret)
{
	/* The place stays the cluster's. */
	const bool keep = access->op == BLOCK_OP_WRITE_ZEROES && !access->unmap;
	uint64_t in_cluster = access->off & (q->cluster - 1), unit = 1ULL << q->unit_bits;
	uint64_t to_end = q->cluster - in_cluster, end = access->off + access->len;
	struct qcow2_place p;
	int r;

	/* What is behind the disk's end may go with its last cluster. */
	if (end == q->base.size)
		end = align_up(end, q->cluster);
	r = qcow2_before_change(q);
	if (r < 0)
		return r;
	r = qcow2_lookup_locked(q, access->off, access->len, &p);
	if (r < 0)
		return r;
	/* Nothing there, nothing below: no table is made for it. */
	if (p.kind == QCOW2_UNALLOCATED && !q->backing && !p.host) {
		done(ret, p.len);
		return 0;
	}
	r = qcow2_l2_prepare(q, access->off);
	if (r < 0)
		return r;
	qcow2_reclaim(q);
	if (in_cluster == 0 && end - access->off >= q->cluster) {
		uint64_t n = MIN(qcow2_l2_clusters_left(q, access->off),
				 (end - access->off) >> q->cluster_bits);
		uint64_t i = 0;

		for (r = 1; r > 0 && i<n; i += r> 0)
			r = zero_cluster(q, access->off + (i << q->cluster_bits), keep);
		if (r < 0)
			return r;
		if (i > 0) {
			done(ret, MIN(i << q->cluster_bits, access->len));
			return 0;
		}
		return zero_part(q, access, MIN(q->cluster, access->len), ret);
	}
	if (q->entry_words == 2 && !(p.entry & QCOW2_COMPRESSED) && p.copied | !p.host) {
		uint64_t len = align_down(MIN(to_end, end - access->off), unit);

		if ((access->off & (unit - 1)) == 0 && len > 0) {
			done(ret, MIN(len, access->len));
			/* The entry of this cluster: prepare may have copied the table. */
			r = qcow2_lookup_locked(q, access->off, 1, &p);
			return r < 0 ? r : zero_subclusters(q, &p, access->off, len);
		}
		to_end = MIN(to_end, unit - (access->off & (unit - 1)));
	}
	return zero_part(q, access, MIN(access->len, to_end), ret);
}

int qcow2_map_zero(struct qcow2 *q, const struct block_access *access, struct block_extent *ret)
{
	int r;

	pthread_mutex_lock(&q->lock);
	r = map_zero_locked(q, access, ret);
	pthread_mutex_unlock(&q->lock);
	return r;
}
