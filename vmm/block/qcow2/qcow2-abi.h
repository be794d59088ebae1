/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The qcow2 file format, versions 2 and 3 (QEMU's docs/interop/qcow2.txt)
 *
 * All numbers are big-endian.  The header is read and written by field, because
 * it ends at a place that it states itself.
 */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define QCOW2_MAGIC 0x514649fbU /* "QFI\xfb" */

/* Header: offsets of its fields. */
#define QCOW2_H_VERSION           4
#define QCOW2_H_BACKING_OFF       8
#define QCOW2_H_BACKING_LEN       16
#define QCOW2_H_CLUSTER_BITS      20
#define QCOW2_H_SIZE              24
#define QCOW2_H_CRYPT             32
#define QCOW2_H_L1_ENTRIES        36
#define QCOW2_H_L1_OFF            40
#define QCOW2_H_REFTABLE_OFF      48
#define QCOW2_H_REFTABLE_CLUSTERS 56
#define QCOW2_H_N_SNAPSHOTS       60
#define QCOW2_H_SNAPSHOTS_OFF     64
#define QCOW2_H_V2_LENGTH         72
#define QCOW2_H_INCOMPATIBLE      72
#define QCOW2_H_COMPATIBLE        80
#define QCOW2_H_AUTOCLEAR         88
#define QCOW2_H_REFCOUNT_ORDER    96
#define QCOW2_H_LENGTH            100
#define QCOW2_H_V3_LENGTH         104
#define QCOW2_H_COMPRESSION       104

#define QCOW2_CLUSTER_BITS_MIN          9
#define QCOW2_CLUSTER_BITS_MAX          21
#define QCOW2_CLUSTER_BITS_MIN_EXTENDED 14
#define QCOW2_REFCOUNT_ORDER_V2         4
#define QCOW2_REFCOUNT_ORDER_MAX        6
#define QCOW2_BACKING_NAME_MAX          1023
/* What QEMU sets as limits. */
#define QCOW2_L1_BYTES_MAX       (32ULL << 20)
#define QCOW2_REFTABLE_BYTES_MAX (8ULL << 20)

#define QCOW2_INCOMPATIBLE_DIRTY       (1ULL << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT     (1ULL << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE   (1ULL << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (1ULL << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (1ULL << 4)
#define QCOW2_INCOMPATIBLE_KNOWN       0x1fULL
#define QCOW2_COMPATIBLE_LAZY          (1ULL << 0)

#define QCOW2_COMPRESSION_ZLIB 0
#define QCOW2_COMPRESSION_ZSTD 1

/* Header extensions: type, length, data padded to 8 bytes. */
#define QCOW2_EXT_END            0x00000000U
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acaU
#define QCOW2_EXT_FEATURE_NAMES  0x6803f857U
#define QCOW2_EXT_BITMAPS        0x23852875U
#define QCOW2_FEATURE_NAME_LEN   48 /* kind, bit, 46 bytes of name */

/* L1 and L2 entries. */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ULL
#define QCOW2_COPIED      (1ULL << 63) /* the refcount is exactly one */
#define QCOW2_COMPRESSED  (1ULL << 62) /* L2 only, like the next */
#define QCOW2_ZERO        (1ULL << 0)  /* version 3 without extended entries */
/* Extended L2 entries: the second word has a bit a subcluster, of each kind. */
#define QCOW2_SUBCLUSTERS     32U
#define QCOW2_SUB_ALL_ALLOC   0x00000000ffffffffULL
#define QCOW2_SUB_ALL_ZERO    0xffffffff00000000ULL
#define QCOW2_REFTABLE_OFFSET 0xfffffffffffffe00ULL

static inline uint32_t qcow2_get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t qcow2_get64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline void qcow2_put32(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void qcow2_put64(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}
