/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a VHDX image ([MS-VHDX] 2.3)
 *
 * Foreign logs may hold several entries, as a ring; they are replayed.  Ours holds
 * one at a time, at its start: before it is overwritten, what it said has been
 * written to its place and flushed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/file-io.h"
#include "vmm/block/vhdx/internal.h"

#define LOG_MAX      (64U << 20) /* kept in memory while it is replayed */
#define CHECKED_MAX  16U         /* times its size: entries that claim to overlap are not honest */
#define ENTRY_PAGES  100U        /* of ours: one sector of descriptors */
#define PAGE_ENTRIES (VHDX_LOG_SECTOR / 8)

static const struct vhdx_guid no_log;

/* --- replay --- */

struct entry {
	uint32_t len, tail; /* bytes; len 0: there is none */
	uint64_t sequence;
};

struct replay {
	struct vhdx *v;
	uint8_t *log;     /* all of it, twice, so that no entry wraps */
	struct entry *at; /* one a sector */
	uint32_t n;       /* sectors */
	uint64_t checked; /* bytes */
};

static const struct vhdx_log_header *header_at(const struct replay *rp, uint32_t sector)
{
	return (const struct vhdx_log_header *)(const void *)(rp->log +
							      (size_t)sector * VHDX_LOG_SECTOR);
}

static uint32_t descriptor_sectors(uint32_t n_descriptors)
{
	return n_descriptors <= VHDX_LOG_DESCRIPTORS
		       ? 1
		       : 1 + (n_descriptors - VHDX_LOG_DESCRIPTORS + 127) / 128;
}

/* Is there an entry of this log?  0 or -EBADMSG: looking has become too much. */
static int look_at(struct replay *rp, uint32_t sector)
{
	const struct vhdx_log_header *h = header_at(rp, sector);
	uint32_t len = le32_get(h->length), n = le32_get(h->n_descriptors);

	if (memcmp(h->signature, "loge", 4) != 0 ||
	    memcmp(&h->log, &rp->v->header.log, sizeof(h->log)) != 0 || len == 0 ||
	    len % VHDX_LOG_SECTOR || len > rp->v->log_len || le32_get(h->tail) % VHDX_LOG_SECTOR ||
	    le32_get(h->tail) >= rp->v->log_len || n > len / sizeof(struct vhdx_log_descriptor) ||
	    descriptor_sectors(n) > len / VHDX_LOG_SECTOR)
		return 0;
	rp->checked += len;
	if (rp->checked > (uint64_t)CHECKED_MAX * rp->v->log_len)
		return -EBADMSG;
	if (le32_get(h->checksum) !=
	    vhdx_checksum(h, len, offsetof(struct vhdx_log_header, checksum)))
		return 0;
	rp->at[sector] = (struct entry){ len, le32_get(h->tail), le64_get(h->sequence) };
	return 0;
}

/*
 * 2.3.2: entries with consecutive numbers, each where the one before ends; the last
 * one's tail is among them.  Returns the last one's sector, or n for no such sequence.
 */
static uint32_t follow(const struct replay *rp, uint32_t start)
{
	uint32_t sector = start, last = start, n = 0;
	bool has_tail = false;

	while (n < rp->n && rp->at[sector].len > 0 &&
	       rp->at[sector].sequence == rp->at[start].sequence + n) {
		last = sector;
		sector = (sector + rp->at[sector].len / VHDX_LOG_SECTOR) % rp->n;
		n++;
	}
	sector = start;
	for (uint32_t i = 0; i < n; i++) {
		has_tail |= rp->at[last].tail == sector * VHDX_LOG_SECTOR;
		sector = (sector + rp->at[sector].len / VHDX_LOG_SECTOR) % rp->n;
	}
	return has_tail ? last : rp->n;
}

/* The last entry of the newest sequence, or n. */
static uint32_t find_last(const struct replay *rp)
{
	uint32_t best = rp->n;

	for (uint32_t start = 0; start < rp->n; start++) {
		uint32_t last = rp->at[start].len > 0 ? follow(rp, start) : rp->n;

		if (last < rp->n &&
		    (best == rp->n || rp->at[last].sequence > rp->at[best].sequence))
			best = last;
	}
	return best;
}

/* Zeroes, as far as the file goes; behind its end there are none to make. */
static int apply_zeroes(struct vhdx *v, uint64_t off, uint64_t len)
{
	off_t end = lseek(v->io.fd, 0, SEEK_END);

	if (end < 0)
		return -errno;
	if (off >= (uint64_t)end)
		return 0;
	len = MIN(len, (uint64_t)end - off);
	return len > 0 ? file_io_zero(&v->io, off, len) : 0;
}

/* size: of the file once all is done, which nothing may go beyond. */
static int apply_descriptor(struct vhdx *v, const struct vhdx_log_descriptor *d,
			    const struct vhdx_log_data *data, uint64_t sequence, uint64_t size,
			    struct err *err)
{
	uint8_t page[VHDX_LOG_SECTOR];
	uint64_t off = le64_get(d->off), len = VHDX_LOG_SECTOR;
	int r;

	if (!data)
		len = le64_get(d->leading); /* its length */
	if (le64_get(d->sequence) != sequence || off % VHDX_LOG_SECTOR || len % VHDX_LOG_SECTOR ||
	    off < VHDX_SECTION || !range_fits(off, len, align_up(size, VHDX_LOG_SECTOR)) ||
	    ranges_overlap(off, len, v->log_off, v->log_len))
		return err_set(err, EBADMSG,
			       "the VHDX log has a damaged descriptor, for %llu bytes at %llu",
			       (unsigned long long)len, (unsigned long long)off);
	if (!data) {
		r = apply_zeroes(v, off, len);
	} else {
		if (memcmp(data->signature, "data", 4) != 0 ||
		    ((uint64_t)le32_get(data->sequence_high) << 32 |
		     le32_get(data->sequence_low)) != sequence)
			return err_set(err, EBADMSG, "the VHDX log has a damaged data sector");
		memcpy(page, &d->leading, 8);
		memcpy(page + 8, data->data, sizeof(data->data));
		memcpy(page + 8 + sizeof(data->data), d->trailing, 4);
		r = file_io_write(&v->io, off, page, sizeof(page));
	}
	return r < 0 ? err_errno(err, -r, "cannot replay the VHDX log") : 0;
}

static int apply_entry(const struct replay *rp, uint32_t sector, uint64_t size, struct err *err)
{
	const struct vhdx_log_header *h = header_at(rp, sector);
	const struct vhdx_log_descriptor *d = (const void *)(h + 1);
	uint32_t n = le32_get(h->n_descriptors), sectors = rp->at[sector].len / VHDX_LOG_SECTOR;
	uint32_t used = descriptor_sectors(n);

	for (uint32_t i = 0; i < n; i++) {
		const struct vhdx_log_data *data = NULL;
		int r;

		if (memcmp(d[i].signature, "desc", 4) == 0 && used < sectors)
			data = (const void *)header_at(rp, sector + used++);
		else if (memcmp(d[i].signature, "zero", 4) != 0)
			return err_set(err, EBADMSG, "the VHDX log has a damaged descriptor");
		r = apply_descriptor(rp->v, &d[i], data, rp->at[sector].sequence, size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int apply_sequence(const struct replay *rp, uint32_t last, struct err *err)
{
	const struct vhdx_log_header *h = header_at(rp, last);
	uint32_t sector = rp->at[last].tail / VHDX_LOG_SECTOR;
	uint64_t last_size = le64_get(h->last_size), size;
	off_t end = lseek(rp->v->io.fd, 0, SEEK_END);
	int r;

	if (end < 0)
		return err_errno(err, errno, "cannot find the image's end");
	if ((uint64_t)end < le64_get(h->flushed_size))
		return err_set(err, EBADMSG,
			       "the image has %lld bytes, its VHDX log says that it had %llu",
			       (long long)end, (unsigned long long)le64_get(h->flushed_size));
	/* 2.3.1.1: all that the file has was inside this when the entry was written. */
	size = last_size <= INT64_MAX ? MAX((uint64_t)end, last_size) : (uint64_t)end;
	for (;;) {
		r = apply_entry(rp, sector, size, err);
		if (r < 0)
			return r;
		if (sector == last)
			break;
		sector = (sector + rp->at[sector].len / VHDX_LOG_SECTOR) % rp->n;
	}
	if ((uint64_t)end < size && ftruncate(rp->v->io.fd, (off_t)size) < 0)
		return err_errno(err, errno, "cannot make the image as large as its VHDX log says");
	r = file_io_flush(&rp->v->io);
	return r < 0 ? err_errno(err, -r, "cannot replay the VHDX log") : 0;
}

static int replay_ring(struct replay *rp, struct err *err)
{
	struct vhdx *v = rp->v;
	uint32_t last;
	int r;

	r = file_io_read(&v->io, v->log_off, rp->log, v->log_len);
	if (r < 0)
		return err_errno(err, -r, "cannot read the VHDX log");
	memcpy(rp->log + v->log_len, rp->log, v->log_len);
	for (uint32_t i = 0; i < rp->n; i++)
		if (look_at(rp, i) < 0)
			return err_set(err, EBADMSG,
				       "the VHDX log is damaged: its entries overlap");
	last = find_last(rp);
	/* 2.2.2.3: a log that was begun has an entry, unless the first one was torn. */
	if (last == rp->n)
		return 0;
	log_info("VHDX image: its log is replayed up to entry %llu",
		 (unsigned long long)rp->at[last].sequence);
	return apply_sequence(rp, last, err);
}

int vhdx_replay(struct vhdx *v, struct err *err)
{
	struct replay rp = { .v = v, .n = v->log_len / VHDX_LOG_SECTOR };
	int r;

	if (memcmp(&v->header.log, &no_log, sizeof(no_log)) == 0)
		return 0;
	if (v->base.readonly)
		return err_set(
			err, EROFS,
			"the VHDX image was not closed and its log must be replayed, which a "
			"disk that is 'readonly' cannot");
	if (v->log_len > LOG_MAX)
		return err_set(err, ENOTSUP, "the VHDX log has %u bytes, at most %u are supported",
			       v->log_len, LOG_MAX);
	rp.log = malloc(2 * (size_t)v->log_len);
	rp.at = calloc(rp.n, sizeof(*rp.at));
	r = rp.log && rp.at ? replay_ring(&rp, err)
			    : err_errno(err, ENOMEM, "cannot replay the VHDX log");
	free(rp.log);
	free(rp.at);
	if (r < 0)
		return r;
	v->header.log = no_log;
	r = vhdx_write_header(v);
	return r < 0 ? err_errno(err, -r, "cannot write the VHDX header") : 0;
}

/* --- writing --- */

static int begin_log(struct vhdx *v)
{
	int r;

	if (v->logging)
		return 0;
	r = vhdx_new_guid(&v->header.log);
	if (r >= 0)
		r = vhdx_new_guid(&v->header.file_write);
	if (r >= 0)
		r = vhdx_new_guid(&v->header.data_write);
	if (r >= 0)
		r = vhdx_write_header(v);
	if (r < 0)
		return r;
	v->log_sequence = 1;
	v->logging = true;
	return 0;
}

/* Page n of the BAT as it is in memory. */
static int make_page(struct vhdx *v, uint64_t n, uint8_t page[VHDX_LOG_SECTOR])
{
	uint64_t first = n * PAGE_ENTRIES;
	/* What the region has behind the entries stays. */
	int r = file_io_read(&v->io, v->bat_off + n * VHDX_LOG_SECTOR, page, VHDX_LOG_SECTOR);

	for (uint64_t i = 0; r >= 0 && i < PAGE_ENTRIES && first + i < v->n_entries; i++)
		bytes_put_le(page + i * 8, 8,
			     atomic_load_explicit(&v->bat[first + i], memory_order_relaxed));
	return r;
}

static void put_page(struct vhdx_log_descriptor *d, struct vhdx_log_data *data,
		     const uint8_t page[VHDX_LOG_SECTOR], uint64_t off, uint64_t sequence)
{
	memcpy(d->signature, "desc", 4);
	memcpy(&d->leading, page, 8);
	memcpy(data->data, page + 8, sizeof(data->data));
	memcpy(d->trailing, page + VHDX_LOG_SECTOR - 4, 4);
	d->off = le64_make(off);
	d->sequence = le64_make(sequence);
	memcpy(data->signature, "data", 4);
	data->sequence_high = le32_make((uint32_t)(sequence >> 32));
	data->sequence_low = le32_make((uint32_t)sequence);
}

/* An entry for the n pages of `pages`; log has room for it. */
static int write_entry(struct vhdx *v, uint8_t *log, const uint64_t *pages, uint32_t n)
{
	struct vhdx_log_header *h = (struct vhdx_log_header *)(void *)log;
	struct vhdx_log_descriptor *d = (void *)(h + 1);
	uint32_t len = (1 + n) * VHDX_LOG_SECTOR;
	uint8_t page[VHDX_LOG_SECTOR];
	off_t end = lseek(v->io.fd, 0, SEEK_END);
	int r;

	if (end < 0)
		return -errno;
	memset(log, 0, len);
	memcpy(h->signature, "loge", 4);
	h->length = le32_make(len);
	h->sequence = le64_make(v->log_sequence);
	h->n_descriptors = le32_make(n);
	h->log = v->header.log;
	h->flushed_size = h->last_size = le64_make((uint64_t)end);
	for (uint32_t i = 0; i < n; i++) {
		r = make_page(v, pages[i], page);
		if (r < 0)
			return r;
		put_page(&d[i], (void *)(log + (1 + i) * (size_t)VHDX_LOG_SECTOR), page,
			 v->bat_off + pages[i] * VHDX_LOG_SECTOR, v->log_sequence);
	}
	h->checksum =
		le32_make(vhdx_checksum(log, len, offsetof(struct vhdx_log_header, checksum)));
	r = file_io_write(&v->io, v->log_off, log, len);
	if (r >= 0)
		r = file_io_flush(&v->io);
	if (r < 0)
		return r;
	v->log_sequence++;
	for (uint32_t i = 0; r >= 0 && i < n; i++) {
		r = make_page(v, pages[i], page);
		if (r >= 0)
			r = file_io_write(&v->io, v->bat_off + pages[i] * VHDX_LOG_SECTOR, page,
					  sizeof(page));
	}
	return r;
}

static int write_pages(struct vhdx *v, uint8_t *log)
{
	uint64_t n_pages = (v->n_entries + PAGE_ENTRIES - 1) / PAGE_ENTRIES;
	uint64_t pages[ENTRY_PAGES];

	for (uint64_t at = 0; at < n_pages;) {
		uint32_t n = 0;
		int r;

		for (; at < n_pages && n < ENTRY_PAGES; at++)
			if (v->dirty_pages[at])
				pages[n++] = at;
		if (n == 0)
			break;
		/* The new blocks are there, and the last entry has had its effect. */
		r = file_io_flush(&v->io);
		if (r >= 0)
			r = write_entry(v, log, pages, n);
		if (r < 0)
			return r;
		for (uint32_t i = 0; i < n; i++)
			v->dirty_pages[pages[i]] = 0;
	}
	v->dirty = false;
	return 0;
}

int vhdx_write_bat(struct vhdx *v)
{
	_cleanup_free_ uint8_t *log = NULL;
	int r;

	if (!v->dirty)
		return 0;
	log = malloc((1 + ENTRY_PAGES) * (size_t)VHDX_LOG_SECTOR);
	if (!log)
		return -ENOMEM;
	r = begin_log(v);
	return r < 0 ? r : write_pages(v, log);
}

int vhdx_end_log(struct vhdx *v)
{
	if (!v->logging)
		return 0;
	v->header.log = no_log;
	v->logging = false;
	return vhdx_write_header(v);
}
