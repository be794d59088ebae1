/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images: what the parts share
 *
 *   header.c      the header, from bytes            open.c    open, close
 *   cache.c       table slices in memory             l2.c      guest offset -> place
 *   places.c      where L2 tables may be
 *   read.c        READ, compressed.c                 zero.c    DISCARD, WRITE_ZEROES
 *   write.c       WRITE: allocation, copy-on-write
 *   refcount.c    refcounts, allocator               reclaim.c frees, when they are safe
 *   sync.c        write-out in the right order       repair.c  refcounts of a dirty image
 *   grow.c        a larger disk, moved tables
 *
 * Threads.  q->lock guards all metadata.  Looking up a cluster whose table slice
 * is in the cache takes no lock (cache.h), so reads and writes of allocated
 * clusters cost no contention and no system call.  Everything else - loading a
 * slice, allocating, copying, discarding, write-out - happens under the lock, with
 * synchronous calls on the calling thread.  Lock order: q->lock, then the lock of
 * the decompressor, then those of the backing image.
 *
 * A cluster is linked as soon as it is allocated.  That is safe at any moment,
 * and nobody ever waits for somebody else's transfer, because by then the place
 * reads as the old contents did: zeroes (fresh or punched space) when the cluster
 * read as zeroes, and otherwise the format itself writes old and new data together
 * before it links (BLOCK_EXTENT_DONE).
 *
 * Crash safety.  Metadata is cached and written in this order, with a flush
 * between the steps that need one: refcounts going up, L2 tables, L1 table,
 * refcounts going down (sync.c, reclaim.c).  So at any moment the file holds at
 * most clusters that are counted but not used.  With lazy refcounts the dirty bit
 * stands for the first step and the next open repairs.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/block/block-epoch.h"
#include "vmm/block/block.h"
#include "vmm/block/file-io.h"
#include "vmm/block/qcow2/cache.h"
#include "vmm/block/qcow2/header.h"

struct err;

#define QCOW2_FREES_MAX 2048U

/* Clusters that lose one reference. */
struct qcow2_frees {
	struct {
		uint64_t off;
		uint64_t n;
	} * ranges; /* QCOW2_FREES_MAX */
	unsigned int n;
};

struct qcow2_inflater; /* compressed.c */

struct qcow2 {
	struct block_image base;
	struct block_epoch epoch;
	struct block_image *backing; /* NULL: none */
	char id[64];                 /* of the disk, for messages */
	struct file_io io;           /* of the image's own file, under the lock */
	bool fixed_size;             /* a block device */
	bool has_bitmaps;            /* other clusters than ours may be in use */
	bool lazy; /* refcounts are written at close, the dirty bit stands for them */

	/* constant */
	uint32_t version;
	uint32_t cluster_bits, l2_bits; /* bytes of a cluster, entries of an L2 table */
	uint32_t unit_bits;             /* bytes of a subcluster, or of a cluster */
	uint32_t entry_words;           /* 64-bit words of an L2 entry: 1, extended 2 */
	uint32_t refcount_order;
	uint64_t cluster;
	uint8_t compression;

	/* bytes; grows under the lock, read without: relaxed, a late view takes the slow path */
	_Atomic uint64_t file_size;

	pthread_mutex_t lock; /* everything below */
	uint64_t incompatible;
	uint64_t l1_off;
	uint32_t l1_entries;
	_Atomic uint64_t reftable_off;      /* changed under the lock, read without */
	_Atomic uint32_t reftable_clusters; /* likewise; a mixed view is harmless */
	_Atomic uint64_t *l1;               /* as numbers; read without the lock: acquire */
	uint32_t l1_dirty_lo, l1_dirty_hi;  /* entries to be written, lo == hi: none */
	struct qcow2_cache l2_cache, refcount_cache;
	atomic_bool failed; /* damage was found, or metadata could not be written: no more writes */
	bool free_in_cache; /* refcounts that went down are in the cache */
	uint64_t free_hint; /* no free cluster below this one */
	struct qcow2_places *tables; /* where L2 tables are */
	uint64_t stale_end;          /* below this offset unused space need not be zero */
	uint64_t used_end; /* of what was allocated or there at open; the file is cut there */
	struct qcow2_frees freed; /* since the last write-out of L2 tables */
	struct qcow2_frees aging; /* written out, perhaps still in a queue's hands */
	/* a cluster, aligned, touched when used; not across qcow2_alloc(), which uses it too */
	uint8_t *copy;
	struct qcow2_inflater *inflater;
};

/* What a stretch of the virtual disk is. */
enum qcow2_kind {
	QCOW2_UNALLOCATED, /* the backing file's, or zeroes */
	QCOW2_ZEROES,
	QCOW2_DATA,
	QCOW2_PACKED, /* compressed: the whole cluster of the offset asked for */
};

struct qcow2_place {
	enum qcow2_kind kind;
	bool copied;   /* the cluster may be written in place; also with host != 0 and no data */
	uint64_t host; /* of the byte asked for, 0 = no cluster in the file; PACKED: the entry */
	uint64_t len;  /* for how long it holds; DATA: contiguous in the file */
	uint64_t entry, bitmap; /* of the first cluster */
};

static inline struct qcow2 *qcow2_image(struct block_image *img)
{
	return container_of(img, struct qcow2, base);
}

/* --- cache.c --- */
/* Memory that costs nothing until it is touched, page-aligned and zero; NULL. */
void *qcow2_pages_new(size_t len);
void qcow2_pages_free(void *p, size_t len);

/* --- l2.c --- */
/* Without the lock: 1, 0 when the table slice is not in the cache, -EIO damage. */
int qcow2_peek(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret);
/* Loads what it needs; _locked for those who have q->lock. */
int qcow2_lookup(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret);
int qcow2_lookup_locked(struct qcow2 *q, uint64_t off, uint64_t len, struct qcow2_place *ret);
/* The slice for the entry of off, in a table that may be changed; allocates the table. */
int qcow2_l2_prepare(struct qcow2 *q, uint64_t off);
/* After prepare for the same slice: sets the entry of off. */
int qcow2_l2_set(struct qcow2 *q, uint64_t off, uint64_t entry, uint64_t bitmap);
/* Clusters from off's to the end of its slice. */
uint64_t qcow2_l2_clusters_left(const struct qcow2 *q, uint64_t off);
/* May guest data be written there: none of the tables whose places are known? */
bool qcow2_is_data_place(const struct qcow2 *q, uint64_t off, uint64_t len);

/* --- read.c --- */
int qcow2_map_read(struct qcow2 *q, const struct block_access *access, struct block_extent *ret);
/* With the lock: old contents into buf. */
int qcow2_read_locked(struct qcow2 *q, uint64_t off, uint64_t len, uint8_t *buf);
/* The backing file has only zeroes from off on for *ret_len <= len bytes: 1, 0, -errno. */
int qcow2_backing_is_zero(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_len);

/* --- compressed.c --- */
struct qcow2_inflater *qcow2_inflater_new(void);
void qcow2_inflater_free(struct qcow2_inflater *z);
/* len bytes of the cluster that entry describes, those behind `from`, into memory. */
int qcow2_inflate(struct qcow2 *q, uint64_t entry, uint64_t from, uint64_t len,
		  const struct iovec *iov, unsigned int n_iov);
/* Where the compressed bytes of an entry are. */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_off,
			uint64_t *ret_len);

/* --- places.c --- */
struct qcow2_places;
/* For up to n places, which are added with the lock; NULL: out of memory. */
struct qcow2_places *qcow2_places_new(uint64_t n);
void qcow2_places_free(struct qcow2_places *p);
void qcow2_places_add(struct qcow2_places *p, uint64_t off);
/* False: off was never added.  True: look yourself. */
bool qcow2_places_may_have(const struct qcow2_places *p, uint64_t off);

/* --- refcount.c; all with the lock --- */
int qcow2_refcount_get(struct qcow2 *q, uint64_t index, uint64_t *ret);
/* The block must be there. */
int qcow2_refcount_set(struct qcow2 *q, uint64_t index, uint64_t value);
/* The block that counts cluster `index`, 0 = none. */
int qcow2_refblock_get(struct qcow2 *q, uint64_t index, uint64_t *ret_off);
/* The file has end bytes at least. */
int qcow2_extend(struct qcow2 *q, uint64_t end);
/* Makes one, inside the range that it counts, at cluster `at`, which is unused. */
int qcow2_refblock_new(struct qcow2 *q, uint64_t index, uint64_t at);
/* 1 to want contiguous clusters that read as zeroes, counted once. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_off, uint64_t *ret_n);
/* Is one at this cluster? */
bool qcow2_is_l2_table(const struct qcow2 *q, uint64_t off);
/* Damage, if the header or a table that is in memory lies there. */
int qcow2_check_unused(struct qcow2 *q, uint64_t first, uint64_t n);
/* Exactly n. */
int qcow2_alloc_contiguous(struct qcow2 *q, uint64_t n, uint64_t *ret_off);
uint64_t qcow2_refblock_entries(const struct qcow2 *q);
uint64_t qcow2_reftable_entries(const struct qcow2 *q);

/* --- reclaim.c; all with the lock --- */
/* Is there room to free n ranges?  Tries to make some. */
bool qcow2_free_has_room(struct qcow2 *q, unsigned int n);
/* They lose a reference once that is safe; without room they leak. */
void qcow2_free_later(struct qcow2 *q, uint64_t off, uint64_t n);
/* What an L2 entry referred to. */
void qcow2_free_entry(struct qcow2 *q, uint64_t entry);
/* What was freed has been written out. */
void qcow2_reclaim_written(struct qcow2 *q);
void qcow2_reclaim(struct qcow2 *q);

/* --- sync.c; with the lock --- */
int qcow2_sync_locked(struct qcow2 *q);
/* Every dirty slice, and nothing is reclaimed: safe in the middle of any change. */
int qcow2_write_out(struct qcow2 *q);
int qcow2_sync(struct qcow2 *q);
/* Before anything is allocated or freed. */
int qcow2_before_change(struct qcow2 *q);
int qcow2_set_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear);
/* Tells once, marks the image corrupt, ends all writing; returns -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *fmt, ...) _printf_(2, 3);

/* --- write.c, zero.c --- */
int qcow2_map_write(struct qcow2 *q, const struct block_access *access, struct block_extent *ret);
int qcow2_map_zero(struct qcow2 *q, const struct block_access *access, struct block_extent *ret);
/*
 * With the lock: writes the memory (NULL: zeroes) over old contents at off, in a
 * place where it may be written; *ret_len: for so many bytes, at most len.
 */
int qcow2_copy_on_write(struct qcow2 *q, const struct qcow2_place *p, uint64_t off, uint64_t len,
			const struct iovec *iov, unsigned int n_iov, uint64_t *ret_len);

/* --- repair.c, grow.c: control thread, no queue yet or nothing in flight --- */
int qcow2_repair(struct qcow2 *q, struct err *err);
int qcow2_resize(struct block_image *img, uint64_t size, struct err *err);
/* With the lock: a larger refcount table. */
/* From `first` on, behind all that the table counts now, everything is unused. */
int qcow2_reftable_grow(struct qcow2 *q, uint64_t first);
