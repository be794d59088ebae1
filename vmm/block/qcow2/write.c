/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing qcow2 images: in place, into new clusters, over old contents
 *
 * internal.h says why new clusters are linked at once.  Where the old contents are
 * zeroes the engine moves the data; where they are not, the old and the new go to
 * the new place in one synchronous write here.
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

/*
 * May len bytes at host, which an L2 entry calls its own, be written?  *ret_len: so many of
 * them, which are in the file then.
 */
static int check_place(struct qcow2 *q, uint64_t host, uint64_t len, uint64_t *ret_len)
{
	uint64_t count, end = host + len;
	int r;

	*ret_len = len;
	if (!qcow2_is_data_place(q, host, len))
		return qcow2_damaged(q, "guest data at %llu lies in a table",
				     (unsigned long long)host);
	if (end <= q->file_size)
		return 0;
	/* Cut off, perhaps by a copy that dropped trailing zeroes.  Or nonsense. */
	r = qcow2_refcount_get(q, host >> q->cluster_bits, &count);
	if (r < 0)
		return r;
	if (count != 1)
		return qcow2_damaged(q, "guest data at %llu lies behind the file's end",
				     (unsigned long long)host);
	end = align_down(host, q->cluster) + q->cluster;
	r = qcow2_extend(q, end);
	if (r < 0)
		return r;
	q->used_end = MAX(q->used_end, end);
	*ret_len = MIN(len, end - host);
	return 0;
}

/* The same of the whole cluster at host, which held no data: it must not be a table either. */
static int check_kept(struct qcow2 *q, uint64_t host)
{
	uint64_t len;
	int r;

	r = check_place(q, host, q->cluster, &len);
	if (r >= 0 && qcow2_is_l2_table(q, host))
		r = qcow2_damaged(q, "guest data at %llu lies in a table",
				  (unsigned long long)host);
	return r;
}

/* Data that is written where it is. */
static int in_place(struct qcow2 *q, const struct qcow2_place *p, struct block_extent *ret)
{
	uint64_t len;
	int r;

	r = check_place(q, p->host, p->len, &len);
	if (r < 0)
		return r;
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST, .off = p->host, .len = len };
	return 0;
}

/* Bits of the units that [from, to) of a cluster touches. */
static uint64_t unit_bits_of(const struct qcow2 *q, uint64_t from, uint64_t to)
{
	unsigned int first = (unsigned int)(from >> q->unit_bits);
	unsigned int last = (unsigned int)((to - 1) >> q->unit_bits);

	return (2ULL << last) - (1ULL << first);
}

/* The entry's bitmap once [from, to) of its cluster holds data. */
static uint64_t with_data(const struct qcow2 *q, uint64_t bitmap, uint64_t from, uint64_t to)
{
	uint64_t bits = q->entry_words == 2 ? unit_bits_of(q, from, to) : 0;

	return (bitmap | bits) & ~(bits << QCOW2_SUBCLUSTERS);
}

/*
 * How many clusters from off's on have none in the file, look alike to the reader
 * (zeroes), and are touched by [off, off + len).
 */
static int count_without_host(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret)
{
	uint64_t max = qcow2_l2_clusters_left(q, off), n = 0;

	max = MIN(max, ((off & (q->cluster - 1)) + len + q->cluster - 1) >> q->cluster_bits);
	for (; n < max; n++) {
		uint64_t at = n == 0 ? off : align_down(off, q->cluster) + (n << q->cluster_bits);
		struct qcow2_place p;
		int r = qcow2_lookup_locked(q, at, 1, &p);

		if (r < 0)
			return r;
		if (p.kind == QCOW2_DATA || p.kind == QCOW2_PACKED || p.host)
			break;
	}
	*ret = n;
	return 0;
}

/* Over zeroes: clusters that read as zeroes are linked, the engine moves the data. */
static int over_zeroes(struct qcow2 *q, uint64_t off, uint64_t len, struct block_extent *ret)
{
	uint64_t want, host, n, start = align_down(off, q->cluster);
	int r;

	r = count_without_host(q, off, len, &want);
	if (r >= 0)
		r = qcow2_alloc(q, MAX(want, 1UL), &host, &n);
	if (r < 0)
		return r;
	len = MIN(len, start + (n << q->cluster_bits) - off);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = start + (i << q->cluster_bits);
		uint64_t from = i == 0 ? off - start : 0, to = MIN(off + len - at, q->cluster);
		struct qcow2_place p;

		r = qcow2_lookup_locked(q, at, 1, &p);
		if (r >= 0)
			r = qcow2_l2_set(q, at, (host + (i << q->cluster_bits)) | QCOW2_COPIED,
					 with_data(q, p.bitmap, from, to));
		if (r < 0) {
			qcow2_free_later(q, host + (i << q->cluster_bits), n - i);
			return r;
		}
	}
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
				      .off = host + (off - start),
				      .len = len };
	return 0;
}

static void gather(uint8_t *to, uint64_t len, const struct iovec *iov, unsigned int n_iov)
{
	for (unsigned int i = 0; len > 0 && i < n_iov; i++) {
		size_t here = MIN((size_t)len, iov[i].iov_len);

		memcpy(to, iov[i].iov_base, here);
		to += here;
		len -= here;
	}
}

int qcow2_copy_on_write(struct qcow2 *q, const struct qcow2_place *p, uint64_t off, uint64_t len,
			const struct iovec *iov, unsigned int n_iov, uint64_t *ret_len)
{
	uint64_t start = align_down(off, q->cluster), unit = 1ULL << q->unit_bits, n;
	uint64_t host = p->entry & QCOW2_OFFSET_MASK;
	bool whole = p->kind == QCOW2_PACKED || p->kind == QCOW2_DATA || (host && !p->copied);
	bool fresh = whole || !host;
	uint64_t from, to, bitmap = p->bitmap;
	int r = 0;

	len = MIN(len, p->len);
	len = MIN(len, start + q->cluster - off);
	from = whole ? 0 : align_down(off, unit) - start;
	to = whole ? q->cluster : align_up(off + len, unit) - start;
	if (whole && !qcow2_free_has_room(q, 1))
		return -EIO;
	/* First, as the allocator uses q->copy when it moves its table. */
	if (fresh)
		r = qcow2_alloc(q, 1, &host, &n);
	else
		r = check_kept(q, host);
	if (r < 0)
		return r;
	q->used_end = MAX(q->used_end, host + q->cluster);
	/* What is around the new data. */
	if (start + from < off)
		r = qcow2_read_locked(q, start + from, off - start - from, q->copy + from);
	if (r >= 0 && off + len < start + to)
		r = qcow2_read_locked(q, off + len, start + to - off - len,
				      q->copy + (off + len - start));
	if (iov)
		gather(q->copy + (off - start), len, iov, n_iov);
	else
		memset(q->copy + (off - start), 0, len);
	if (whole)
		bitmap = 0;
	if (r >= 0)
		r = file_io_write(&q->io, host + from, q->copy + from, to - from);
	/* Whoever sees the new entry sees the data: both by way of the host's page cache. */
	if (r >= 0)
		r = qcow2_l2_set(q, off, host | QCOW2_COPIED, with_data(q, bitmap, from, to));
	if (r < 0) {
		if (fresh)
			qcow2_free_later(q, host, 1);
		return r;
	}
	if (whole)
		qcow2_free_entry(q, p->entry);
	*ret_len = len;
	return 0;
}

/* Where there is no data yet, or none that may be changed. */
static int allocate(struct qcow2 *q, const struct qcow2_place *p, const struct block_access *access,
		    struct block_extent *ret)
{
	uint64_t off = access->off, len = p->len, unit = 1ULL << q->unit_bits;
	uint64_t start = align_down(off, unit), zero_len = 0;
	bool zero = p->kind == QCOW2_ZEROES;
	int r;

	if (p->kind == QCOW2_UNALLOCATED) {
		/* All of the units that are touched must be zeroes below. */
		r = qcow2_backing_is_zero(q, start, align_up(off + len, unit) - start, &zero_len);
		if (r < 0)
			return r;
		zero_len = align_down(zero_len, unit);
		zero = zero_len > 0;
		if (zero)
			len = MIN(len, start + zero_len - off);
	}
	if (zero && !p->host)
		return over_zeroes(q, off, len, ret);
	if (zero && p->copied && q->entry_words == 1) {
		/* A cluster that was kept for this. */
		r = check_kept(q, align_down(p->host, q->cluster));
		if (r >= 0)
			r = file_io_zero(&q->io, align_down(p->host, q->cluster), q->cluster);
		if (r >= 0)
			r = qcow2_l2_set(q, off, (p->entry & QCOW2_OFFSET_MASK) | QCOW2_COPIED, 0);
		*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
					      .off = p->host,
					      .len = MIN(len,
							 q->cluster - (off & (q->cluster - 1))) };
		return r;
	}
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_DONE };
	return qcow2_copy_on_write(q, p, off, access->len, access->iov, access->n_iov, &ret->len);
}

static int map_write_locked(struct qcow2 *q, const struct block_access *access,
			    struct block_extent *ret)
{
	struct qcow2_place p;
	int r;

	r = qcow2_before_change(q);
	if (r >= 0)
		r = qcow2_l2_prepare(q, access->off);
	if (r >= 0)
		r = qcow2_lookup_locked(q, access->off, access->len, &p);
	if (r < 0)
		return r;
	if (p.kind == QCOW2_DATA && p.copied)
		return in_place(q, &p, ret);
	qcow2_reclaim(q);
	return allocate(q, &p, access, ret);
}

int qcow2_map_write(struct qcow2 *q, const struct block_access *access, struct block_extent *ret)
{
	struct qcow2_place p;
	int r;

	/* relaxed: a write that began when the damage was found may still end */
	if (qcow2_peek(q, access->off, access->len, &p) && p.kind == QCOW2_DATA && p.copied &&
	    p.host + p.len <= atomic_load_explicit(&q->file_size, memory_order_relaxed) &&
	    qcow2_is_data_place(q, p.host, p.len) &&
	    !atomic_load_explicit(&q->failed, memory_order_relaxed)) {
		*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
					      .off = p.host,
					      .len = p.len };
		return 0;
	}
	pthread_mutex_lock(&q->lock);
	r = map_write_locked(q, access, ret);
	pthread_mutex_unlock(&q->lock);
	return r;
}
