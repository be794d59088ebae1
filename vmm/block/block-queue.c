/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/block-queue.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block-epoch.h"

#define REAP_BATCH   32
#define RETRIES_MAX  16
#define BOUNCE_BYTES (64U << 10)
#define BOUNCE_ALIGN 4096U

struct request_list {
	struct block_request *head, *tail;
};

struct block_queue {
	struct block_image *img;
	struct block_engine *engine;
	unsigned int depth;
	unsigned int n_in_flight; /* added, not finished */
	struct block_io **batch;  /* to be submitted; depth entries */
	unsigned int n_batch;
	struct request_list finished;
	struct block_reader *reader; /* of img->epoch, NULL when it has none */

	/*
	 * O_DIRECT refuses memory that is not aligned.  Such transfers go through
	 * one buffer, a piece at a time and one request at a time: drivers align
	 * their buffers, only firmware sometimes does not.
	 */
	uint8_t *bounce; /* NULL when the image asks for no alignment */
	struct iovec bounce_iov;
	struct block_request *bounce_owner;
	struct request_list bounce_waiting;
};

static void list_push(struct request_list *list, struct block_request *req)
{
	req->next = NULL;
	if (list->head)
		list->tail->next = req;
	else
		list->head = req;
	list->tail = req;
}

static struct block_request *list_pop(struct request_list *list)
{
	struct block_request *req = list->head;

	if (req)
		list->head = req->next;
	return req;
}

int block_queue_new_on(struct block_image *img, struct block_engine *engine, unsigned int depth,
		       struct block_queue **ret, struct err *err)
{
	struct block_queue *bq = calloc(1, sizeof(*bq));

	if (!bq)
		return err_errno(err, ENOMEM, "cannot make a disk queue");
	bq->img = img;
	bq->depth = depth;
	bq->batch = calloc(depth, sizeof(struct block_io *));
	if (img->epoch) {
		bq->reader = aligned_alloc(BLOCK_READER_BYTES, BLOCK_READER_BYTES);
		if (bq->reader)
			block_epoch_add(img->epoch, bq->reader);
	}
	if (bq->batch && img->mem_align > 1)
		bq->bounce = aligned_alloc(MAX(BOUNCE_ALIGN, img->mem_align), BOUNCE_BYTES);
	if (!bq->batch || (img->epoch && !bq->reader) || (img->mem_align > 1 && !bq->bounce)) {
		block_queue_free(bq);
		return err_errno(err, ENOMEM, "cannot make a disk queue for %u requests", depth);
	}
	bq->engine = engine;
	*ret = bq;
	return 0;
}

int block_queue_new(struct block_image *img, const char *engine_name, unsigned int depth,
		    struct block_queue **ret, struct err *err)
{
	struct block_engine *engine = NULL;
	int r;

	r = block_engine_open(engine_name, img->files, img->n_files, depth, &engine, err);
	if (r < 0)
		return r;
	r = block_queue_new_on(img, engine, depth, ret, err);
	if (r < 0)
		block_engine_free(engine);
	return r;
}

void block_queue_free(struct block_queue *bq)
{
	if (!bq)
		return;
	assert(bq->n_in_flight == 0);
	block_engine_free(bq->engine);
	if (bq->reader)
		block_epoch_remove(bq->img->epoch, bq->reader);
	free(bq->reader);
	free(bq->bounce);
	free(bq->batch);
	free(bq);
}

const char *block_queue_engine_name(const struct block_queue *bq)
{
	return bq->engine->ops->name;
}

int block_queue_event_fd(const struct block_queue *bq)
{
	return bq->engine->event_fd;
}

unsigned int block_queue_n_in_flight(const struct block_queue *bq)
{
	return bq->n_in_flight;
}

static void finish(struct block_queue *bq, struct block_request *req, int result)
{
	req->result = result;
	req->io.iov = NULL;
	assert(bq->n_in_flight > 0);
	bq->n_in_flight--;
	list_push(&bq->finished, req);
}

static void batch_io(struct block_queue *bq, struct block_request *req)
{
	assert(bq->n_batch < bq->depth);
	bq->batch[bq->n_batch++] = &req->io;
}

/* Takes n bytes off the front of the request. */
static void advance(struct block_request *req, uint64_t n)
{
	req->off += n;
	req->len -= n;
	while (n > 0 && req->n_iov > 0) {
		size_t here = MIN(n, (uint64_t)req->iov->iov_len);

		req->iov->iov_base = (uint8_t *)req->iov->iov_base + here;
		req->iov->iov_len -= here;
		n -= here;
		if (req->iov->iov_len == 0) {
			req->iov++;
			req->n_iov--;
		}
	}
}

static void fill_zero(struct block_request *req, uint64_t n)
{
	for (unsigned int i = 0; n > 0; i++) {
		size_t here = MIN(n, (uint64_t)req->iov[i].iov_len);

		memset(req->iov[i].iov_base, 0, here);
		n -= here;
	}
}

/* Moves n bytes between the bounce buffer and the front of the request's memory. */
static void bounce_copy(struct block_queue *bq, const struct block_request *req, size_t n,
			bool to_request)
{
	size_t at = 0;

	for (unsigned int i = 0; at < n; i++) {
		size_t here = MIN(n - at, req->iov[i].iov_len);

		if (to_request)
			memcpy(req->iov[i].iov_base, bq->bounce + at, here);
		else
			memcpy(bq->bounce + at, req->iov[i].iov_base, here);
		at += here;
	}
}

static bool needs_bounce(const struct block_image *img, const struct block_request *req)
{
	if (img->mem_align <= 1)
		return false;
	for (unsigned int i = 0; i < req->n_iov; i++)
		if (((uintptr_t)req->iov[i].iov_base & (img->mem_align - 1)) ||
		    (req->iov[i].iov_len & (img->off_align - 1)))
			return true;
	return false;
}

/* Points the transfer at the first n bytes of the request's own memory, or as far as it may go. */
static void take_iov(struct block_request *req, uint64_t n)
{
	unsigned int i = 0;

	for (; n > req->iov[i].iov_len && i + 1 < IOV_MAX; i++)
		n -= req->iov[i].iov_len;
	n = MIN(n, (uint64_t)req->iov[i].iov_len);
	req->cut = req->iov[i].iov_len - (size_t)n;
	req->iov[i].iov_len = (size_t)n;
	req->io.iov = req->iov;
	req->io.n_iov = i + 1;
}

/* What is on its way to the file from here on stays in its place until leave(). */
static void enter(struct block_queue *bq, struct block_request *req)
{
	if (bq->reader)
		req->entered = block_epoch_enter(bq->img->epoch, bq->reader);
}

static void leave(struct block_queue *bq, const struct block_request *req)
{
	if (bq->reader)
		block_epoch_leave(bq->reader, req->entered);
}

static void start_flush(struct block_queue *bq, struct block_request *req)
{
	struct block_image *img = bq->img;
	int r;

	/* Before, as what is changed meanwhile may come too late; relaxed: the format has a lock.
	 */
	req->changes = atomic_load_explicit(&img->changes, memory_order_relaxed);
	r = img->ops->sync_metadata ? img->ops->sync_metadata(img) : 0;
	if (r < 0) {
		finish(bq, req, r);
		return;
	}
	enter(bq, req);
	req->io = (struct block_io){ .op = BLOCK_OP_FLUSH };
	batch_io(bq, req);
}

/* A flush is over: what it covers is in the file for good. */
static void note_durable(struct block_queue *bq, const struct block_request *req)
{
	_Atomic uint64_t *durable = &bq->img->durable_changes;
	uint64_t seen = atomic_load_explicit(durable, memory_order_relaxed);

	/* relaxed: whoever reads it knows by it that the file has them, and nothing in memory */
	while (seen < req->changes &&
	       !atomic_compare_exchange_weak_explicit(durable, &seen, req->changes,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

/* Is the way to all data that a finished request may have used in the file for good? */
static bool is_durable(const struct block_image *img)
{
	/* relaxed: map() has seen the change that it used, and with it that it was counted */
	return atomic_load_explicit(&img->durable_changes, memory_order_relaxed) ==
	       atomic_load_explicit(&img->changes, memory_order_relaxed);
}

/* Points the transfer at ext; false: the request waits for the bounce buffer. */
static bool aim(struct block_queue *bq, struct block_request *req, const struct block_extent *ext)
{
	uint64_t n = ext->len;

	req->io = (struct block_io){ .op = req->op,
				     .dsync = req->dsync,
				     .unmap = req->unmap,
				     .file = ext->file,
				     .off = ext->off };
	if (req->op != BLOCK_OP_READ && req->op != BLOCK_OP_WRITE) {
		req->io.len = n; /* nothing of the guest's memory moves */
		return true;
	}
	if (!needs_bounce(bq->img, req)) {
		take_iov(req, n);
		return true;
	}
	if (bq->bounce_owner && bq->bounce_owner != req)
		return false;
	bq->bounce_owner = req;
	n = MIN(n, (uint64_t)BOUNCE_BYTES);
	bq->bounce_iov = (struct iovec){ bq->bounce, (size_t)n };
	if (req->op == BLOCK_OP_WRITE)
		bounce_copy(bq, req, (size_t)n, false);
	req->io.iov = &bq->bounce_iov;
	req->io.n_iov = 1;
	return true;
}

/* Goes on with a request up to its next transfer or its end. */
static void start(struct block_queue *bq, struct block_request *req)
{
	struct block_image *img = bq->img;
	int r;

	req->io.iov = NULL;
	req->cut = 0;
	while (req->op != BLOCK_OP_FLUSH && req->len > 0) {
		const struct block_access access = { .op = req->op,
						     .unmap = req->unmap,
						     .off = req->off,
						     .len = req->len,
						     .iov = req->iov,
						     .n_iov = req->n_iov };
		struct block_extent ext = { 0 };

		enter(bq, req);
		r = img->ops->map(img, &access, &ext);
		if (r < 0) {
			leave(bq, req);
			finish(bq, req, r);
			return;
		}
		ext.len = MIN(ext.len, req->len);
		assert(ext.len > 0 && ext.file < img->n_files);
		if (ext.kind == BLOCK_EXTENT_HOST) {
			if (aim(bq, req, &ext)) {
				batch_io(bq, req);
			} else {
				leave(bq, req); /* it is mapped again when its turn comes */
				list_push(&bq->bounce_waiting, req);
			}
			return;
		}
		assert(ext.kind == BLOCK_EXTENT_DONE || req->op == BLOCK_OP_READ);
		if (ext.kind == BLOCK_EXTENT_ZERO)
			fill_zero(req, ext.len);
		leave(bq, req);
		advance(req, ext.len);
	}
	if (req->op == BLOCK_OP_FLUSH || (req->dsync && !is_durable(img)))
		start_flush(bq, req);
	else
		finish(bq, req, 0);
}

/* One transfer is over. */
static void complete(struct block_queue *bq, struct block_io *io)
{
	struct block_request *req = container_of(io, struct block_request, io);
	bool bounced = bq->bounce_owner == req;
	bool moves = io->op == BLOCK_OP_READ || io->op == BLOCK_OP_WRITE;
	int64_t n = io->result;

	leave(bq, req);
	if (n == 0 && !moves)
		n = (int64_t)io->len; /* 0 for a flush */
	if (req->cut) {
		req->iov[io->n_iov - 1].iov_len += req->cut;
		req->cut = 0;
	}
	if ((n == -EINTR || n == -EAGAIN) && req->retries < RETRIES_MAX) {
		req->retries++;
		start(bq, req);
	} else if (n > 0) {
		if (bounced && req->op == BLOCK_OP_READ)
			bounce_copy(bq, req, (size_t)n, true);
		advance(req, (uint64_t)n);
		req->retries = 0;
		start(bq, req);
	} else if (n < 0) {
		finish(bq, req, (int)n);
	} else {
		/* Nothing moved: the file has become shorter than the image is. */
		if (io->op == BLOCK_OP_FLUSH)
			note_durable(bq, req);
		finish(bq, req, io->op == BLOCK_OP_FLUSH ? 0 : -EIO);
	}
	/* A request that goes on through the bounce buffer keeps it. */
	if (bounced && req->io.iov != &bq->bounce_iov) {
		bq->bounce_owner = NULL;
		while (!bq->bounce_owner && (req = list_pop(&bq->bounce_waiting)))
			start(bq, req);
	}
}

void block_queue_add(struct block_queue *bq, struct block_request *req)
{
	assert(bq->n_in_flight < bq->depth);
	bq->n_in_flight++;
	req->retries = 0;
	start(bq, req);
}

void block_queue_submit(struct block_queue *bq)
{
	unsigned int n = bq->n_batch;

	if (n == 0)
		return;
	bq->n_batch = 0;
	bq->engine->ops->submit(bq->engine, bq->batch, n);
}

/* True when the engine had something. */
static bool collect(struct block_queue *bq, bool wait)
{
	struct block_io *ios[REAP_BATCH];
	unsigned int n = bq->engine->ops->reap(bq->engine, ios, REAP_BATCH, wait);

	for (unsigned int i = 0; i < n; i++)
		complete(bq, ios[i]);
	block_queue_submit(bq);
	return n > 0;
}

struct block_request *block_queue_reap(struct block_queue *bq)
{
	while (!bq->finished.head && collect(bq, false))
		;
	return list_pop(&bq->finished);
}

void block_queue_drain(struct block_queue *bq)
{
	block_queue_submit(bq);
	while (bq->n_in_flight > 0)
		collect(bq, true);
}
