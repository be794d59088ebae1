/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what a guest puts into a virtio-blk queue: the input is the start
 * of guest RAM, rings included, and goes through pop, parse and the mapping of
 * buffers, as in the device; only the I/O is left out.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/device.h"

#define RAM        (64 * KIB)
#define QUEUE_SIZE 16U
#define DESC_GPA   0x0
#define AVAIL_GPA  0x100
#define USED_GPA   0x200 /* requests, headers and indirect tables: anywhere */
#define DISK_SIZE  (1ULL << 30)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct virtio_blk_limits *limits, const struct virtio_blk_request *req)
{
	if (req->kind != VIRTIO_BLK_KIND_READ && req->kind != VIRTIO_BLK_KIND_WRITE)
		return;
	assert(range_fits(req->off, req->len, limits->size));
	assert((req->off | req->len) % limits->align == 0);
	assert(req->kind == VIRTIO_BLK_KIND_READ || !limits->readonly);
}

/* The ranges behind the header, as the device takes them; 0 or -EBADMSG. */
static int take_ranges(struct virtio_queue *q, const struct virtq_chain *chain,
		       const struct virtio_blk_limits *limits, const struct virtio_blk_request *req)
{
	uint8_t bytes[VIRTIO_BLK_RANGES_MAX * VIRTIO_BLK_RANGE_SIZE];
	bool discard = req->kind == VIRTIO_BLK_KIND_DISCARD;

	assert(req->len > 0 && req->len <= sizeof(bytes) && req->len % VIRTIO_BLK_RANGE_SIZE == 0 &&
	       !limits->readonly);
	if (virtq_chain_read(q, chain, VIRTIO_BLK_HEADER_SIZE, bytes, (size_t)req->len) < 0)
		return -EBADMSG;
	for (size_t at = 0; at < req->len; at += VIRTIO_BLK_RANGE_SIZE) {
		struct virtio_blk_range range = { 0 };

		if (virtio_blk_parse_range(limits, req->kind, bytes + at, &range) != 0)
			return 0;
		assert(range_fits(range.off, range.len, limits->size));
		assert((range.off | range.len) % limits->align == 0);
		assert(range.len <= (discard ? limits->discard_max : limits->write_zeroes_max));
		assert(!range.unmap || (limits->may_unmap && !discard));
	}
	return 0;
}

/* 0, or -EBADMSG where the device would break. */
static int take(struct virtio_queue *q, const struct virtq_chain *chain,
		const struct virtio_blk_limits *limits)
{
	uint8_t header[VIRTIO_BLK_HEADER_SIZE], status = 0;
	struct virtio_blk_request req = { 0 };
	struct iovec iov[QUEUE_SIZE + 2];
	uint64_t gpa = 0, sum = 0;
	size_t n = 0;
	bool read;
	int r;

	if (chain->readable_len < sizeof(header) ||
	    virtq_chain_read(q, chain, 0, header, sizeof(header)) < 0 ||
	    virtio_blk_parse(limits, header, chain->readable_len, chain->writable_len, &req) < 0 ||
	    virtq_chain_gpa(chain, true, chain->writable_len - 1, &gpa) < 0)
		return -EBADMSG;
	check(limits, &req);
	if ((req.kind == VIRTIO_BLK_KIND_DISCARD || req.kind == VIRTIO_BLK_KIND_WRITE_ZEROES) &&
	    take_ranges(q, chain, limits, &req) < 0)
		return -EBADMSG;
	read = req.kind == VIRTIO_BLK_KIND_READ;
	if (read || req.kind == VIRTIO_BLK_KIND_WRITE) {
		r = virtq_chain_iov(q, chain, read, read ? 0 : sizeof(header), req.len, iov,
				    ARRAY_SIZE(iov), &n);
		if (r < 0)
			return -EBADMSG;
		for (size_t i = 0; i < n; i++) {
			sum += iov[i].iov_len;
			if (iov[i].iov_len > 0) /* both ends are in RAM, or this faults */
				((volatile uint8_t *)iov[i].iov_base)[iov[i].iov_len - 1] =
					((volatile uint8_t *)iov[i].iov_base)[0];
		}
		assert(sum == req.len);
	}
	if (guest_write(q->dev->mem, gpa, &status, 1) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain->head, 1);
	return 0;
}

static void no_queue_interrupt(void *transport _unused_, struct virtio_queue *q _unused_)
{
}

static void no_config_interrupt(void *transport _unused_)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct virtio_transport_ops transport = { no_queue_interrupt,
							       no_config_interrupt };
	static const struct guest_mem_params params = { .size = 1 * MIB,
							.hole_start = 3 * GIB,
							.hole_end = 4 * GIB };
	static struct guest_mem mem;
	static struct virtio_device dev;
	static struct virtio_queue q;
	struct virtio_blk_limits limits = { .size = DISK_SIZE, .align = 512 };
	struct virtq_chain chain;
	uint8_t flags;

	if (!dev.mem) {
		int r = guest_mem_init(&mem, NULL, &params, NULL);

		assert(r == 0);
		dev.mem = &mem;
		dev.transport = &transport;
		r = virtio_queue_init(&q, &dev, 0, QUEUE_SIZE, NULL);
		assert(r == 0);
	}
	if (size < 1 || size > RAM)
		return 0;
	flags = *data++;
	size--;
	limits.align = flags & 1 ? 4096 : 512;
	limits.readonly = flags & 2;
	limits.discard_max = flags & 8 ? 1 << 20 : 0;
	limits.write_zeroes_max = flags & 16 ? 1 << 16 : 0;
	limits.may_unmap = flags & 32;
	if (guest_fill(&mem, 0, 0, RAM) < 0 || guest_write(&mem, 0, data, size) < 0)
		assert(false);
	q.st = (struct virtio_queue_state){ .desc_gpa = DESC_GPA,
					    .avail_gpa = AVAIL_GPA,
					    .used_gpa = USED_GPA,
					    .size = QUEUE_SIZE };
	if (virtio_queue_start(&q, &mem,
			       flags & 4 ? VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) : 0,
			       NULL) < 0)
		return 0;
	for (unsigned int i = 0; i < 2 * QUEUE_SIZE; i++)
		if (virtio_queue_pop(&q, &chain) <= 0 || take(&q, &chain, &limits) < 0)
			break;
	virtio_queue_notify(&q);
	virtio_queue_stop(&q);
	return 0;
}
