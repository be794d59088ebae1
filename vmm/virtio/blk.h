/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.3, 5.2): a disk image as a block device
 *
 * Each queue has a thread, a block_queue and a slot for each descriptor it can
 * have in flight, indexed by the head of the chain; nothing is allocated while
 * it runs.  A request goes through parse (blk-parse.c: guest bytes to a validated
 * struct, pure), execute (the block_queue) and finish (status byte, used ring).
 *
 * Offered: FLUSH, CONFIG_WCE, BLK_SIZE, TOPOLOGY, SEG_MAX, RO, MQ, event index,
 * indirect descriptors; DISCARD and WRITE_ZEROES where the image can.  A driver
 * that did not negotiate FLUSH gets writes that are durable when they complete
 * (5.2.6.2).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct block_backing;
struct block_format_ops;
struct err;
struct rate_limiter;
struct virtio_device;

#define VIRTIO_BLK_QUEUES_MAX  64
#define VIRTIO_BLK_SERIAL_MAX  20
#define VIRTIO_BLK_HEADER_SIZE 16
#define VIRTIO_BLK_RANGE_SIZE  16 /* a segment of DISCARD and WRITE_ZEROES */
#define VIRTIO_BLK_RANGES_MAX  8U /* of one request */

/* The host's CPUs that a queue's thread may run on. */
struct virtio_blk_affinity {
	uint16_t queue;
	const uint32_t *host_cpus;
	size_t n_host_cpus;
};

struct virtio_blk_params {
	const char *id;
	int fd;                                /* the image */
	const struct block_format_ops *format; /* NULL = raw */
	/* What the image is based on, the nearest first; taken over on success as well. */
	const struct block_backing *backing;
	unsigned int n_backing;
	bool readonly, direct;
	bool keep_allocated; /* nothing the guest does gives the image's storage back */
	const char *serial;  /* at most 20 bytes; NULL = derived from id */
	uint16_t n_queues;
	uint16_t queue_size;
	const char *engine;           /* "io_uring", "aio", "sync", NULL = the best that works */
	unsigned int without_engines; /* BLOCK_WITHOUT_*: not these, if none is named */
	struct rate_limiter *limiter; /* NULL: none, and none can be set; outlives the device */
	const struct virtio_blk_affinity *affinity;
	size_t n_affinity;
};

struct virtio_blk_state {
	bool writeback; /* the driver's choice of cache mode, CONFIG_WCE */
	uint8_t pad[7];
};
extern const struct state_desc virtio_blk_state_desc;

/* Control thread. Takes params->fd over on success. */
int virtio_blk_new(const struct virtio_blk_params *params, struct virtio_device **ret,
		   struct err *err);

/* What takes the place of a disk's image. */
struct virtio_blk_medium {
	int fd;
	const struct block_format_ops *format;
	const struct block_backing *backing;
	unsigned int n_backing;
};

/*
 * Control thread, of a virtio_blk; the driver is told by a configuration change.  paused:
 * the device's threads are parked, as those of a paused machine.  What fails leaves the
 * disk as it was.
 *
 * resize: what is in flight ends first, and what comes later sees the new end.
 */
int virtio_blk_resize(struct virtio_device *dev, uint64_t size, bool paused, struct err *err);
/* Takes the descriptors over, also when it fails; the old image's are closed. */
int virtio_blk_replace(struct virtio_device *dev, const struct virtio_blk_medium *medium,
		       bool paused, struct err *err);

/* Control thread: of a virtio_blk, how many images it has had: 1 until one is replaced. */
uint64_t virtio_blk_n_images(struct virtio_device *dev);
/* Control thread: of a virtio_blk, the engine of its queues; NULL while it is not active. */
const char *virtio_blk_engine(struct virtio_device *dev);

/* For the device, its test and the fuzzer. */

enum virtio_blk_kind {
	VIRTIO_BLK_KIND_REFUSED, /* nothing to do but to answer status */
	VIRTIO_BLK_KIND_READ,
	VIRTIO_BLK_KIND_WRITE,
	VIRTIO_BLK_KIND_FLUSH,
	VIRTIO_BLK_KIND_GET_ID,
	VIRTIO_BLK_KIND_DISCARD,
	VIRTIO_BLK_KIND_WRITE_ZEROES,
};

struct virtio_blk_limits {
	uint64_t size;  /* of the disk, bytes */
	uint32_t align; /* of offset and length, bytes, power of two, at least 512 */
	bool readonly;
	uint64_t discard_max;      /* bytes of a range; 0 = not offered */
	uint64_t write_zeroes_max; /* the same */
	bool may_unmap;            /* WRITE_ZEROES may free what it zeroes */
};

struct virtio_blk_request {
	enum virtio_blk_kind kind;
	uint8_t status; /* VIRTIO_BLK_S_*: the answer to a refused request */
	/*
	 * READ, WRITE: bytes of the disk, inside it and aligned.  GET_ID: len bytes.
	 * DISCARD, WRITE_ZEROES: len bytes of ranges follow the header.
	 */
	uint64_t off, len;
};

struct virtio_blk_range {
	uint64_t off; /* bytes, like those of a write */
	uint32_t len;
	bool unmap;
};

/*
 * header: the first 16 bytes of the readable part, if it has that many.
 * 0, or -EBADMSG when the chain cannot even carry an answer.
 */
int virtio_blk_parse(const struct virtio_blk_limits *limits,
		     const uint8_t header[VIRTIO_BLK_HEADER_SIZE], uint64_t readable_len,
		     uint64_t writable_len, struct virtio_blk_request *ret);
/* kind DISCARD or WRITE_ZEROES. Returns the status: OK, or what refuses the whole request. */
uint8_t virtio_blk_parse_range(const struct virtio_blk_limits *limits, enum virtio_blk_kind kind,
			       const uint8_t range[VIRTIO_BLK_RANGE_SIZE],
			       struct virtio_blk_range *ret);
