/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk requests: guest bytes to validated structs, no side effects
 */
#include "vmm/virtio/blk.h"

#include <errno.h>
#include <linux/virtio_blk.h>

#include "vmm/base/bytes.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"

/* 5.2.6.2: every other bit of a range's flags is reserved. */
#define RANGE_UNMAP 1U

static bool place_fits(const struct virtio_blk_limits *limits, uint64_t sector, uint64_t len,
		       uint64_t *ret_off)
{
	return !__builtin_mul_overflow(sector, (uint64_t)BLOCK_SECTOR, ret_off) &&
	       range_fits(*ret_off, len, limits->size) && !((*ret_off | len) & (limits->align - 1));
}

/* A request with max bytes a range; 0: it was not offered. */
static void parse_ranged(const struct virtio_blk_limits *limits, enum virtio_blk_kind kind,
			 uint64_t max, uint64_t len, struct virtio_blk_request *req)
{
	if (max == 0) {
		req->status = VIRTIO_BLK_S_UNSUPP;
	} else if (!limits->readonly && len > 0 && len % VIRTIO_BLK_RANGE_SIZE == 0 &&
		   len / VIRTIO_BLK_RANGE_SIZE <= VIRTIO_BLK_RANGES_MAX) {
		req->kind = kind;
		req->len = len;
	}
}

/* 5.2.6: {le32 type, le32 ioprio, le64 sector}, data, status byte */
int virtio_blk_parse(const struct virtio_blk_limits *limits,
		     const uint8_t header[VIRTIO_BLK_HEADER_SIZE], uint64_t readable_len,
		     uint64_t writable_len, struct virtio_blk_request *ret)
{
	struct virtio_blk_request req = { .status = VIRTIO_BLK_S_IOERR };
	uint64_t sector, data_len;
	uint32_t type;

	if (readable_len < VIRTIO_BLK_HEADER_SIZE || writable_len < 1)
		return -EBADMSG;
	data_len = readable_len - VIRTIO_BLK_HEADER_SIZE;
	type = (uint32_t)bytes_get_le(header, 4);
	sector = bytes_get_le(header + 8, 8);
	switch (type) {
	case VIRTIO_BLK_T_IN:
		req.kind = VIRTIO_BLK_KIND_READ;
		req.len = writable_len - 1;
		break;
	case VIRTIO_BLK_T_OUT:
		req.kind = limits->readonly ? VIRTIO_BLK_KIND_REFUSED : VIRTIO_BLK_KIND_WRITE;
		req.len = data_len;
		break;
	case VIRTIO_BLK_T_FLUSH:
		req.kind = VIRTIO_BLK_KIND_FLUSH;
		break;
	case VIRTIO_BLK_T_GET_ID:
		req.kind = VIRTIO_BLK_KIND_GET_ID;
		req.len = MIN(writable_len - 1, (uint64_t)VIRTIO_BLK_SERIAL_MAX);
		break;
	case VIRTIO_BLK_T_DISCARD:
		parse_ranged(limits, VIRTIO_BLK_KIND_DISCARD, limits->discard_max, data_len, &req);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		parse_ranged(limits, VIRTIO_BLK_KIND_WRITE_ZEROES, limits->write_zeroes_max,
			     data_len, &req);
		break;
	default:
		req.status = VIRTIO_BLK_S_UNSUPP;
		break;
	}
	if ((req.kind == VIRTIO_BLK_KIND_READ || req.kind == VIRTIO_BLK_KIND_WRITE) &&
	    !place_fits(limits, sector, req.len, &req.off))
		req.kind = VIRTIO_BLK_KIND_REFUSED;
	*ret = req;
	return 0;
}

/* 5.2.6: {le64 sector, le32 num_sectors, le32 flags} */
uint8_t virtio_blk_parse_range(const struct virtio_blk_limits *limits, enum virtio_blk_kind kind,
			       const uint8_t range[VIRTIO_BLK_RANGE_SIZE],
			       struct virtio_blk_range *ret)
{
	bool discard = kind == VIRTIO_BLK_KIND_DISCARD;
	uint64_t max = discard ? limits->discard_max : limits->write_zeroes_max;
	uint64_t len = bytes_get_le(range + 8, 4) * BLOCK_SECTOR, off = 0;
	uint32_t flags = (uint32_t)bytes_get_le(range + 12, 4);

	/* 5.2.6.2: unknown flags, and unmap in a discard */
	if (flags & ~RANGE_UNMAP || (discard && flags))
		return VIRTIO_BLK_S_UNSUPP;
	if (len > max || !place_fits(limits, bytes_get_le(range, 8), len, &off))
		return VIRTIO_BLK_S_IOERR;
	*ret = (struct virtio_blk_range){
		.off = off,
		.len = (uint32_t)len,
		.unmap = (flags & RANGE_UNMAP) && limits->may_unmap,
	};
	return VIRTIO_BLK_S_OK;
}
