/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts of virtio 1.3 that every device shares.  Clauses are of the OASIS
 * specification "Virtual I/O Device (VIRTIO) Version 1.3".  Device-specific
 * structs come from the kernel's UAPI headers (linux/virtio_blk.h ...).
 */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "vmm/base/bytes.h"

/* 2.1 device status */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

/* 6 reserved feature bits (numbers of the bits) */
#define VIRTIO_RING_F_INDIRECT_DESC 28
#define VIRTIO_RING_F_EVENT_IDX     29
#define VIRTIO_F_VERSION_1          32
#define VIRTIO_F_ACCESS_PLATFORM    33

#define VIRTIO_FEATURE(bit) (1ULL << (bit))

/* 2.7.5 descriptor table */
struct virtq_desc {
	le64 addr;
	le32 len;
	le16 flags;
	le16 next;
};
static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.3, 2.7.5");
static_assert(offsetof(struct virtq_desc, next) == 14, "virtio 1.3, 2.7.5");

#define VIRTQ_DESC_F_NEXT     1
#define VIRTQ_DESC_F_WRITE    2
#define VIRTQ_DESC_F_INDIRECT 4

/* 2.7.6 available ring: flags, idx, ring[size], used_event */
#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
/* 2.7.8 used ring: flags, idx, {id, len}[size], avail_event */
#define VIRTQ_USED_F_NO_NOTIFY 1

struct virtq_used_elem {
	le32 id;
	le32 len;
};
static_assert(sizeof(struct virtq_used_elem) == 8, "virtio 1.3, 2.7.8");

#define VIRTQ_SIZE_MAX 1024

static inline size_t virtq_desc_bytes(uint32_t size)
{
	return 16UL * size;
}
static inline size_t virtq_avail_bytes(uint32_t size)
{
	return 6 + 2UL * size;
}
static inline size_t virtq_used_bytes(uint32_t size)
{
	return 6 + 8UL * size;
}
