/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One I/O thread's way to a disk image: the image joined with an engine
 *
 * Requests belong to their device, which preallocates them; between add and
 * reap they belong to the queue.  A request is a cursor: off, len and iov are
 * consumed as the transfer proceeds.
 *
 * Made and freed by the control thread while the I/O thread is not using it;
 * everything else happens on that I/O thread.  Nothing here allocates after
 * block_queue_new().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/block/block.h"

struct block_queue;

struct block_request {
	/* set by the device */
	enum block_op op;
	bool dsync;
	bool unmap;        /* WRITE_ZEROES may give the storage back */
	uint64_t off, len; /* bytes of the image, inside it; multiples of its off_align */
	struct iovec *iov; /* READ and WRITE: len bytes in total; the contents are consumed */
	unsigned int n_iov;

	int result; /* 0 or -errno, valid once reaped */

	/* the queue's */
	struct block_io io;
	size_t cut;           /* bytes taken off the last iovec of the transfer under way */
	unsigned int entered; /* of the image's epoch, while the transfer is under way */
	uint64_t changes;     /* of the image, that the flush under way covers */
	uint8_t retries;
	struct block_request *next;
};

/* engine_name: see block_engine_open. depth: the most requests ever in flight. */
int block_queue_new(struct block_image *img, const char *engine_name, unsigned int depth,
		    struct block_queue **ret, struct err *err);
/* The same over an engine that is there already, which it takes over on success. */
int block_queue_new_on(struct block_image *img, struct block_engine *engine, unsigned int depth,
		       struct block_queue **ret, struct err *err);
/* Nothing may be in flight. */
void block_queue_free(struct block_queue *bq);
DEFINE_CLEANUP(struct block_queue, block_queue_free);

const char *block_queue_engine_name(const struct block_queue *bq);
/*
 * Readable when something is finished that reap would not have returned right after submit;
 * -EBADF: there is no such thing.
 */
int block_queue_event_fd(const struct block_queue *bq);
unsigned int block_queue_n_in_flight(const struct block_queue *bq);

void block_queue_add(struct block_queue *bq, struct block_request *req);
/* Starts everything that was added. */
void block_queue_submit(struct block_queue *bq);
/* The next finished request or NULL; starts what partly done requests still need. */
struct block_request *block_queue_reap(struct block_queue *bq);
/* Waits until nothing is in flight; finished requests are still to be reaped. */
void block_queue_drain(struct block_queue *bq);
