/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of VHD images (Virtual Hard Disk Image Format Specification 1.0, big endian)
 */
#pragma once

#include <assert.h>
#include <endian.h>
#include <stddef.h>
#include <stdint.h>

#define VHD_COOKIE            "conectix"
#define VHD_DYNAMIC_COOKIE    "cxsparse"
#define VHD_VERSION_MAJOR     1U
#define VHD_TYPE_FIXED        2U
#define VHD_TYPE_DYNAMIC      3U
#define VHD_TYPE_DIFFERENCING 4U
#define VHD_UNUSED            UINT32_MAX /* in the block allocation table */
#define VHD_SECTOR            512U

/* "Hard Disk Footer Format"; numbers are big endian */
struct vhd_footer {
	char cookie[8];
	uint32_t features, version;
	uint64_t data_offset; /* of the dynamic header; all ones without one */
	uint32_t timestamp;
	char creator[4];
	uint32_t creator_version, creator_os;
	uint64_t original_size, current_size;
	uint32_t geometry, type, checksum;
	uint8_t uuid[16], saved_state, reserved[427];
};
static_assert(sizeof(struct vhd_footer) == 512, "Hard Disk Footer Format");
static_assert(offsetof(struct vhd_footer, checksum) == 64, "Hard Disk Footer Format");

/* "Dynamic Disk Header Format" */
struct vhd_dynamic {
	char cookie[8];
	uint64_t data_offset, table_offset;
	uint32_t version, max_entries, block_size, checksum;
	uint8_t parent[16 + 4 + 4 + 512 + 8 * 24], reserved[256];
};
static_assert(sizeof(struct vhd_dynamic) == 1024, "Dynamic Disk Header Format");
static_assert(offsetof(struct vhd_dynamic, checksum) == 36, "Dynamic Disk Header Format");
