/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.3, 5.2): a disk image as a block device
 *
 * Each queue has a thread, a block_queue and a slot for each descriptor it can
 * have in flight, indexed by the head of the chain; nothing is allocated while
 * it runs.  A request goes through parse (guest bytes to a validated struct,
 * pure), execute (the block_queue) and finish (status byte, used ring).
 *
 * Offered: FLUSH, CONFIG_WCE, BLK_SIZE, TOPOLOGY, SEG_MAX, RO, MQ, event index,
 * indirect descriptors.  A driver that did not negotiate FLUSH gets writes that
 * are durable when they complete (5.2.6.2).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct virtio_device;

#define VIRTIO_BLK_QUEUES_MAX  64
#define VIRTIO_BLK_SERIAL_MAX  20
#define VIRTIO_BLK_HEADER_SIZE 16

struct virtio_blk_params {
	const char *id;
	int fd; /* the image, raw */
	bool readonly, direct;
	const char *serial; /* at most 20 bytes; NULL = derived from id */
	uint16_t n_queues;
	uint16_t queue_size;
	const char *engine; /* "io_uring", "sync", NULL = the best that works */
};

struct virtio_blk_state {
	bool writeback; /* the driver's choice of cache mode, CONFIG_WCE */
	uint8_t pad[7];
};
extern const struct state_desc virtio_blk_state_desc;

/* Control thread. Takes params->fd over on success. */
int virtio_blk_new(const struct virtio_blk_params *params, struct virtio_device **ret,
		   struct err *err);

/* For the device, its test and the fuzzer. */

enum virtio_blk_kind {
	VIRTIO_BLK_KIND_REFUSED, /* nothing to do but to answer status */
	VIRTIO_BLK_KIND_READ,
	VIRTIO_BLK_KIND_WRITE,
	VIRTIO_BLK_KIND_FLUSH,
	VIRTIO_BLK_KIND_GET_ID,
};

struct virtio_blk_limits {
	uint64_t size;  /* of the disk, bytes */
	uint32_t align; /* of offset and length, bytes, power of two, at least 512 */
	bool readonly;
};

struct virtio_blk_request {
	enum virtio_blk_kind kind;
	uint8_t status;    /* VIRTIO_BLK_S_*: the answer to a refused request */
	uint64_t off, len; /* bytes of the disk, inside it and aligned; len: GET_ID's too */
};

/*
 * header: the first 16 bytes of the readable part, if it has that many.
 * 0, or -EBADMSG when the chain cannot even carry an answer.
 */
int virtio_blk_parse(const struct virtio_blk_limits *limits,
		     const uint8_t header[VIRTIO_BLK_HEADER_SIZE], uint64_t readable_len,
		     uint64_t writable_len, struct virtio_blk_request *ret);
