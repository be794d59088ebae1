/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an offset of the virtual disk to a place: the L1 table, which is in memory,
 * and L2 table slices, which are cached
 */
#include <errno.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

/* Where the entry of a cluster is. */
struct position {
	uint64_t l1;        /* the L1 entry */
	uint64_t slice_off; /* in the file */
	size_t word;        /* in the slice */
};

static size_t l1_index(const struct qcow2 *q, uint64_t off)
{
	return (size_t)(off >> (q->cluster_bits + q->l2_bits));
}

static struct position find(struct qcow2 *q, uint64_t off)
{
	uint64_t index = off >> q->cluster_bits & ((1ULL << q->l2_bits) - 1);
	uint64_t byte = index * q->entry_words * 8;
	/* acquire: the table that it points at */
	uint64_t l1 = atomic_load_explicit(&q->l1[l1_index(q, off)], memory_order_acquire);

	return (struct position){
		.l1 = l1,
		.slice_off = (l1 & QCOW2_OFFSET_MASK) + align_down(byte, q->l2_cache.slice),
		.word = (size_t)(byte & (q->l2_cache.slice - 1)) / 8,
	};
}

uint64_t qcow2_l2_clusters_left(const struct qcow2 *q, uint64_t off)
{
	uint64_t n = q->l2_cache.slice / (q->entry_words * 8);

	return n - (off >> q->cluster_bits) % n;
}

/* What a cluster, or its unit-th subcluster, is.  False: the entry makes no sense. */
static bool decode(const struct qcow2 *q, uint64_t entry, uint64_t bitmap, unsigned int unit,
		   enum qcow2_kind *ret)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK;

	if (entry & QCOW2_COMPRESSED) {
		*ret = QCOW2_PACKED;
		return true;
	}
	if (host & (q->cluster - 1))
		return false;
	if (q->entry_words == 1) {
		*ret = entry & QCOW2_ZERO ? QCOW2_ZEROES : host ? QCOW2_DATA : QCOW2_UNALLOCATED;
		return !(entry & QCOW2_ZERO) || q->version >= 3;
	}
	*ret = QCOW2_UNALLOCATED;
	if (bitmap >> (unit + QCOW2_SUBCLUSTERS) & 1)
		*ret = QCOW2_ZEROES;
	if (!(bitmap >> unit & 1))
		return true;
	if (*ret == QCOW2_ZEROES || !host)
		return false;
	*ret = QCOW2_DATA;
	return true;
}

/* From the entry at `word` of a slice on, as far as it goes on alike.  False: damage. */
static bool read_run(const struct qcow2 *q, uint32_t slot, size_t word, uint64_t off, uint64_t len,
		     struct qcow2_place *p)
{
	const struct qcow2_cache *c = &q->l2_cache;
	const size_t n_words = c->slice / 8;
	uint64_t in_cluster = off & (q->cluster - 1), end = off + len, at;
	uint64_t entry = qcow2_cache_word(c, slot, word), host;
	uint64_t bitmap = q->entry_words == 2 ? qcow2_cache_word(c, slot, word + 1) : 0;

	if (!decode(q, entry, bitmap, (unsigned int)(in_cluster >> q->unit_bits), &p->kind))
		return false;
	p->entry = entry;
	p->bitmap = bitmap;
	host = entry & QCOW2_OFFSET_MASK;
	p->copied = entry & QCOW2_COPIED;
	p->host = p->kind == QCOW2_PACKED ? entry : host ? host + in_cluster : 0;
	at = align_down(off, q->cluster) + q->cluster;
	if (p->kind == QCOW2_PACKED) {
		p->len = MIN(at, end) - off;
		return true;
	}
	at = align_down(off, 1ULL << q->unit_bits) + (1ULL << q->unit_bits);
	while (at < end) {
		enum qcow2_kind kind;

		if ((at & (q->cluster - 1)) == 0) {
			uint64_t next_host;

			word += q->entry_words;
			if (word >= n_words)
				break;
			entry = qcow2_cache_word(c, slot, word);
			bitmap = q->entry_words == 2 ? qcow2_cache_word(c, slot, word + 1) : 0;
			next_host = entry & QCOW2_OFFSET_MASK;
			if (p->kind == QCOW2_DATA && (next_host != host + q->cluster ||
						      p->copied != !!(entry & QCOW2_COPIED)))
				break;
			host = next_host;
		}
		/* What makes no sense is reported by who asks for it. */
		if (!decode(q, entry, bitmap,
			    (unsigned int)((at & (q->cluster - 1)) >> q->unit_bits), &kind) ||
		    kind != p->kind)
			break;
		at += 1ULL << q->unit_bits;
	}
	p->len = MIN(at, end) - off;
	return true;
}

/* No L2 table: as far as its range goes. */
static void no_table(const struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *p)
{
	uint64_t covers = 1ULL << (q->cluster_bits + q->l2_bits);

	*p = (struct qcow2_place){ .kind = QCOW2_UNALLOCATED,
				   .len = MIN(len, covers - (off & (covers - 1))) };
}

int qcow2_peek(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret)
{
	struct position pos = find(q, off);
	unsigned int seq;
	uint32_t slot;

	if (!(pos.l1 & QCOW2_OFFSET_MASK)) {
		no_table(q, off, len, ret);
		return 1;
	}
	return qcow2_cache_peek(&q->l2_cache, pos.slice_off, &slot, &seq) &&
	       read_run(q, slot, pos.word, off, len, ret) &&
	       qcow2_cache_is_same(&q->l2_cache, slot, seq);
}

int qcow2_lookup_locked(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret)
{
	struct position pos = find(q, off);
	uint32_t slot;
	int r;

	if (!(pos.l1 & QCOW2_OFFSET_MASK)) {
		no_table(q, off, len, ret);
		return 0;
	}
	r = qcow2_cache_get(&q->l2_cache, pos.slice_off, &slot);
	if (r < 0)
		return r;
	if (!read_run(q, slot, pos.word, off, len, ret))
		return qcow2_damaged(q, "the L2 entry of byte %llu makes no sense",
				     (unsigned long long)off);
	return 0;
}

int qcow2_lookup(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret)
{
	int r;

	if (qcow2_peek(q, off, len, ret))
		return 0;
	pthread_mutex_lock(&q->lock);
	r = qcow2_lookup_locked(q, off, len, ret);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static void set_l1(struct qcow2 *q, size_t index, uint64_t value)
{
	qcow2_places_add(q->tables, value & QCOW2_OFFSET_MASK);
	block_image_changed(&q->base);
	/* release: the table is older; it is all zero, or a copy of the one before */
	atomic_store_explicit(&q->l1[index], value, memory_order_release);
	if (q->l1_dirty_lo == q->l1_dirty_hi) {
		q->l1_dirty_lo = (uint32_t)index;
		q->l1_dirty_hi = (uint32_t)index + 1;
	} else {
		q->l1_dirty_lo = MIN(q->l1_dirty_lo, (uint32_t)index);
		q->l1_dirty_hi = MAX(q->l1_dirty_hi, (uint32_t)index + 1);
	}
}

int qcow2_l2_prepare(struct qcow2 *q, uint64_t off)
{
	size_t index = l1_index(q, off);
	uint64_t old = atomic_load_explicit(&q->l1[index], memory_order_relaxed), table, n;
	int r;

	if (old & QCOW2_COPIED)
		return 0;
	r = qcow2_alloc(q, 1, &table, &n);
	if (r < 0)
		return r;
	qcow2_cache_forget(&q->l2_cache, table, q->cluster);
	if (old & QCOW2_OFFSET_MASK) {
		/* It may be shared, so it was never changed here: the file has all of it. */
		r = file_io_read(&q->io, old & QCOW2_OFFSET_MASK, q->copy, q->cluster);
		if (r >= 0)
			r = file_io_write(&q->io, table, q->copy, q->cluster);
		if (r < 0) {
			qcow2_free_later(q, table, 1);
			return r;
		}
		qcow2_free_later(q, old & QCOW2_OFFSET_MASK, 1);
	}
	set_l1(q, index, table | QCOW2_COPIED);
	return 0;
}

int qcow2_l2_set(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t bitmap)
{
	struct position pos = find(q, off);
	uint32_t slot;
	int r;

	r = qcow2_cache_get(&q->l2_cache, pos.slice_off, &slot);
	if (r < 0)
		return r;
	block_image_changed(&q->base);
	if (q->entry_words == 2)
		qcow2_cache_set_pair(&q->l2_cache, slot, pos.word, entry, bitmap);
	else
		qcow2_cache_set(&q->l2_cache, slot, pos.word, entry);
	return 0;
}

bool qcow2_is_data_place(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	/* relaxed: against damaged images, not against other threads */
	uint64_t reftable = atomic_load_explicit(&q->reftable_off, memory_order_relaxed);
	uint64_t n = atomic_load_explicit(&q->reftable_clusters, memory_order_relaxed);

	return off >= q->cluster && !ranges_overlap(off, len, q->l1_off, q->l1_entries * 8ULL) &&
	       !ranges_overlap(off, len, reftable, n << q->cluster_bits);
}
