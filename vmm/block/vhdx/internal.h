/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX images: what the parts share
 *
 *   header.c   headers, regions, items           log.c    replay, and writing through it
 *   vhdx.c     open, map, close                  crc32c.c checksums
 *
 * The block allocation table (BAT) is kept in memory.  A new block's space is new at
 * the end of the file and reads as zeroes, so it is linked at once, in memory; the
 * table's pages are written by sync_metadata(), through the log ([MS-VHDX] 2.3): data
 * and file size first, then the log entry, then the pages, a flush between each.  At
 * any moment either the file is whole or replaying the log makes it so.
 *
 * The lock guards allocation and write-out; lookups take none.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/block/block.h"
#include "vmm/block/file-io.h"
#include "vmm/block/vhdx/vhdx-abi.h"

struct err;

struct vhdx {
	struct block_image base;
	struct file_io io; /* of the file, under the lock */
	/* constant after open */
	uint32_t block_size;
	uint64_t chunk_ratio; /* payload blocks between two of sector bitmap */
	uint64_t n_blocks;    /* payload */
	uint64_t n_entries;   /* of the BAT, sector bitmaps' included */
	uint64_t bat_off, bat_len, items_off, items_len;
	uint64_t log_off;
	uint32_t log_len;

	_Atomic uint64_t *bat; /* as numbers; release when a block is linked */
	pthread_mutex_t lock;  /* the rest */
	uint64_t end;          /* where the next block goes */
	uint8_t *dirty_pages;  /* a byte for each 4 KiB of the BAT */
	bool dirty;
	struct vhdx_header header; /* the current one */
	unsigned int header_index; /* 0 or 1: where it is */
	bool logging;              /* the header names our log */
	uint64_t log_sequence;
};

static inline struct vhdx *vhdx_image(struct block_image *img)
{
	return container_of(img, struct vhdx, base);
}

uint32_t vhdx_crc32c(uint32_t crc, const void *data, size_t len);
/* Of an object that holds its own checksum at off, which counts as zero. */
uint32_t vhdx_checksum(const void *data, size_t len, size_t off);

/* --- header.c; control thread at open, later with the lock --- */
int vhdx_read_header(struct vhdx *v, uint64_t file_size, struct err *err);
/* Makes v->header, changed by the caller, the current one, in the other place; flushes. */
int vhdx_write_header(struct vhdx *v);
int vhdx_read_regions(struct vhdx *v, uint64_t file_size, struct err *err);
int vhdx_read_items(struct vhdx *v, struct err *err);

/* --- log.c --- */
/* Control thread: what a crash has left in the log gets to its place. */
int vhdx_replay(struct vhdx *v, struct err *err);
/* With the lock: the dirty pages of the BAT, safely. */
int vhdx_write_bat(struct vhdx *v);
/* With the lock, all written and flushed: no log is needed to read the image. */
int vhdx_end_log(struct vhdx *v);
/* A new identity, [MS-VHDX] 2.2.2.1 and 2.2.2.2. */
int vhdx_new_guid(struct vhdx_guid *ret);
