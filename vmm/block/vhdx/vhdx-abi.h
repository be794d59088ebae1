/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of VHDX images ([MS-VHDX] 8.0, little endian)
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"

/* 2.2: the header section */
#define VHDX_FILE_SIGNATURE "vhdxfile"
#define VHDX_HEADER_OFF     0x10000ULL
#define VHDX_HEADER_2_OFF   0x20000ULL
#define VHDX_REGIONS_OFF    0x30000ULL
#define VHDX_REGIONS_2_OFF  0x40000ULL
#define VHDX_SECTION        0x100000ULL /* everything else lies behind it, in units of it */
#define VHDX_HEADER_SIZE    4096U
#define VHDX_REGIONS_SIZE   65536U

struct vhdx_guid {
	uint8_t bytes[16];
};

/* 2.2.2 */
struct vhdx_header {
	char signature[4]; /* "head" */
	le32 checksum;     /* CRC-32C of the 4 KiB, with this as zero */
	le64 sequence;
	struct vhdx_guid file_write, data_write, log;
	uint8_t log_version[2], version[2];
	le32 log_length;
	le64 log_offset;
	uint8_t reserved[4016];
};
static_assert(sizeof(struct vhdx_header) == VHDX_HEADER_SIZE, "[MS-VHDX] 2.2.2");
static_assert(offsetof(struct vhdx_header, log_offset) == 72, "[MS-VHDX] 2.2.2");

/* 2.2.3 */
#define VHDX_REGIONS_MAX 2047U
struct vhdx_region {
	struct vhdx_guid guid;
	le64 off;
	le32 len, required;
};
struct vhdx_regions {
	char signature[4]; /* "regi" */
	le32 checksum, n, reserved;
	struct vhdx_region regions[VHDX_REGIONS_MAX];
	uint8_t padding[16];
};
static_assert(sizeof(struct vhdx_regions) == VHDX_REGIONS_SIZE, "[MS-VHDX] 2.2.3");

/* 2.3.1 */
#define VHDX_LOG_SECTOR      4096U
#define VHDX_LOG_DESCRIPTORS 126U /* of the first sector of an entry; 128 in each other */
struct vhdx_log_header {
	char signature[4]; /* "loge" */
	le32 checksum;     /* of the whole entry */
	le32 length, tail; /* bytes; tail: offset in the log of the oldest entry still needed */
	le64 sequence;
	le32 n_descriptors, reserved;
	struct vhdx_guid log;
	le64 flushed_size, last_size; /* of the file */
};
static_assert(sizeof(struct vhdx_log_header) == 64, "[MS-VHDX] 2.3.1.1");

/* 2.3.1.2 and 2.3.1.3: "zero" has its length where "desc" has the leading bytes */
struct vhdx_log_descriptor {
	char signature[4];
	uint8_t trailing[4];
	le64 leading;
	le64 off, sequence;
};
static_assert(sizeof(struct vhdx_log_descriptor) == 32, "[MS-VHDX] 2.3.1.3");

/* 2.3.1.4: the first 8 and the last 4 bytes of the sector are in the descriptor */
struct vhdx_log_data {
	char signature[4]; /* "data" */
	le32 sequence_high;
	uint8_t data[4084];
	le32 sequence_low;
};
static_assert(sizeof(struct vhdx_log_data) == VHDX_LOG_SECTOR, "[MS-VHDX] 2.3.1.4");

/* 2.5 */
#define VHDX_BAT_STATE_MASK     7ULL
#define VHDX_BAT_OFF_MASK       (~0ULL << 20)
#define VHDX_BAT_FULLY_PRESENT  6U
#define VHDX_BAT_PARTLY_PRESENT 7U
#define VHDX_BAT_STATES_EMPTY   0x0fU        /* NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED */
#define VHDX_CHUNK_SECTORS      (1ULL << 23) /* 2.4: that a block of sector bitmap stands for */

/* 2.6.1 */
#define VHDX_ITEMS_MAX 2047U
struct vhdx_item {
	struct vhdx_guid guid;
	le32 off, len, flags, reserved;
};
#define VHDX_ITEM_USER     1U
#define VHDX_ITEM_REQUIRED 4U
struct vhdx_items {
	char signature[8]; /* "metadata" */
	uint8_t reserved[2], n[2], reserved2[20];
	struct vhdx_item items[VHDX_ITEMS_MAX];
};
static_assert(sizeof(struct vhdx_items) == 65536, "[MS-VHDX] 2.6.1");

/* 2.6.2.1 */
struct vhdx_file_parameters {
	le32 block_size, flags;
};
#define VHDX_LEAVE_ALLOCATED 1U
#define VHDX_HAS_PARENT      2U
