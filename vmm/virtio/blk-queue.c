/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One queue of a virtio-blk device, on its own thread: requests are taken, started
 * in batches and finished
 */
#include "vmm/virtio/blk-internal.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block-queue.h"
#include "vmm/memory/guest-memory.h"

#define SLOT_IOVS    8 /* buffers of a request that needs no large vector */
#define REGION_EXTRA 2 /* buffers that span two memory regions have two iovecs */

/* Requests served in one go before the thread looks at its loop again. */
#define SERVE_BUDGET 4096

struct slot {
	struct block_request req;
	uint64_t status_gpa;
	uint64_t started_ns;
	uint64_t len; /* bytes of data, or of all ranges */
	bool busy;
	bool through; /* durable when it is finished */
	enum blk_stat stat;
	uint8_t n_ranges, next_range;
	struct iovec *large; /* taken from the queue's, or NULL */
	union {
		struct iovec iov[SLOT_IOVS];
		struct virtio_blk_range ranges[VIRTIO_BLK_RANGES_MAX];
	};
};

static void count(struct virtio_blk *blk, unsigned int counter, uint64_t n)
{
	atomic_fetch_add_explicit(&blk->values[counter], n, memory_order_relaxed);
}

/* Latencies, from when a request is taken until it is finished; relaxed like the sums. */
static void count_done(struct blk_queue *bq, const struct slot *slot)
{
	struct virtio_blk *blk = bq->blk;
	_Atomic uint64_t *max = &blk->values[COUNTER(slot->stat, LATENCY_MAX_NS)];
	uint64_t took = bq->now_ns - slot->started_ns;
	uint64_t seen = atomic_load_explicit(max, memory_order_relaxed);

	count(blk, COUNTER(slot->stat, OPS), 1);
	count(blk, COUNTER(slot->stat, BYTES), slot->len);
	count(blk, COUNTER(slot->stat, LATENCY_NS), took);
	while (took > seen &&
	       !atomic_compare_exchange_weak_explicit(max, &seen, took, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

static void read_clock(struct blk_queue *bq)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	bq->now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* The request of chain head is over. */
static void finish(struct blk_queue *bq, uint16_t head, uint64_t status_gpa, uint8_t status,
		   uint32_t n_written)
{
	struct virtio_device *dev = &bq->blk->dev;

	if (status != VIRTIO_BLK_S_OK)
		count(bq->blk, COUNTER_ERRORS, 1);
	if (virtio_device_is_broken(dev))
		return;
	if (guest_write(dev->mem, status_gpa, &status, 1) < 0)
		virtio_device_broken(dev, "queue %u: a status byte outside RAM", bq->q->index);
	else
		virtio_queue_push(bq->q, head, n_written);
}

static void release_slot(struct blk_queue *bq, struct slot *slot)
{
	slot->busy = false;
	if (slot->large)
		bq->free_large[bq->n_free_large++] = TAKE_PTR(slot->large);
}

/*
 * Points the request at the guest's buffers: 1, 0 when every large vector is
 * in use, or -EBADMSG.
 */
static int map_data(struct blk_queue *bq, const struct virtq_chain *chain, struct slot *slot,
		    uint64_t len)
{
	bool read = slot->req.op == BLOCK_OP_READ;
	uint64_t off = read ? 0 : VIRTIO_BLK_HEADER_SIZE;
	size_t n = 0;
	int r;

	slot->req.iov = slot->iov;
	r = virtq_chain_iov(bq->q, chain, read, off, len, slot->iov, SLOT_IOVS, &n);
	if (r == -ENOBUFS) {
		if (bq->n_free_large == 0)
			return 0;
		slot->large = bq->free_large[--bq->n_free_large];
		slot->req.iov = slot->large;
		n = 0;
		r = virtq_chain_iov(bq->q, chain, read, off, len, slot->large, bq->n_large_iov, &n);
	}
	slot->req.n_iov = (unsigned int)n;
	return r < 0 ? -EBADMSG : 1;
}

/* Starts the next range of a slot; false: there was none left to do. */
static bool start_range(struct blk_queue *bq, struct slot *slot)
{
	while (slot->next_range < slot->n_ranges) {
		const struct virtio_blk_range *range = &slot->ranges[slot->next_range++];

		if (range->len == 0)
			continue;
		slot->req.off = range->off;
		slot->req.len = range->len;
		slot->req.unmap = range->unmap;
		block_queue_add(bq->io, &slot->req);
		return true;
	}
	/* Zeroes are data, and the calls that make them know no "durable when finished". */
	if (slot->through && slot->req.op == BLOCK_OP_WRITE_ZEROES) {
		slot->req.op = BLOCK_OP_FLUSH;
		block_queue_add(bq->io, &slot->req);
		return true;
	}
	return false;
}

/* The ranges behind the header: a status, or -EBADMSG. */
static int take_ranges(struct blk_queue *bq, const struct virtq_chain *chain,
		       const struct virtio_blk_request *parsed, struct slot *slot)
{
	uint8_t bytes[VIRTIO_BLK_RANGES_MAX * VIRTIO_BLK_RANGE_SIZE];
	uint64_t sum = 0;

	if (virtq_chain_read(bq->q, chain, VIRTIO_BLK_HEADER_SIZE, bytes, (size_t)parsed->len) < 0)
		return -EBADMSG;
	slot->n_ranges = (uint8_t)(parsed->len / VIRTIO_BLK_RANGE_SIZE);
	slot->next_range = 0;
	for (unsigned int i = 0; i < slot->n_ranges; i++) {
		uint8_t status =
			virtio_blk_parse_range(&bq->blk->limits, parsed->kind,
					       bytes + i * VIRTIO_BLK_RANGE_SIZE, &slot->ranges[i]);

		if (status != VIRTIO_BLK_S_OK)
			return status;
		sum += slot->ranges[i].len;
	}
	slot->len = sum;
	return VIRTIO_BLK_S_OK;
}

/* Starts DISCARD or WRITE_ZEROES: 1, or -EBADMSG. */
static int execute_ranged(struct blk_queue *bq, const struct virtq_chain *chain,
			  const struct virtio_blk_request *parsed, struct slot *slot)
{
	int status = take_ranges(bq, chain, parsed, slot);

	if (status < 0)
		return status;
	slot->busy = true;
	if (status != VIRTIO_BLK_S_OK || !start_range(bq, slot)) {
		slot->busy = false;
		finish(bq, chain->head, slot->status_gpa, (uint8_t)status, 1);
	}
	return 1;
}

/* Starts a validated request: 1, 0 no room, -EBADMSG. */
static int execute(struct blk_queue *bq, const struct virtq_chain *chain,
		   const struct virtio_blk_request *parsed, uint64_t status_gpa)
{
	static const struct {
		enum block_op op;
		enum blk_stat stat;
	} kinds[] = {
		[VIRTIO_BLK_KIND_READ] = { BLOCK_OP_READ, STAT_READ },
		[VIRTIO_BLK_KIND_WRITE] = { BLOCK_OP_WRITE, STAT_WRITE },
		[VIRTIO_BLK_KIND_FLUSH] = { BLOCK_OP_FLUSH, STAT_FLUSH },
		[VIRTIO_BLK_KIND_DISCARD] = { BLOCK_OP_DISCARD, STAT_DISCARD },
		[VIRTIO_BLK_KIND_WRITE_ZEROES] = { BLOCK_OP_WRITE_ZEROES, STAT_WRITE_ZEROES },
	};
	struct slot *slot = &bq->slots[chain->head];
	int r;

	slot->status_gpa = status_gpa;
	slot->started_ns = bq->now_ns;
	slot->stat = kinds[parsed->kind].stat;
	slot->through = atomic_load_explicit(&bq->blk->write_through, memory_order_relaxed);
	slot->n_ranges = 0;
	slot->req.op = kinds[parsed->kind].op;
	slot->req.n_iov = 0;
	slot->req.dsync = slot->through;
	slot->req.unmap = false;
	if (parsed->kind == VIRTIO_BLK_KIND_DISCARD || parsed->kind == VIRTIO_BLK_KIND_WRITE_ZEROES)
		return execute_ranged(bq, chain, parsed, slot);
	slot->len = parsed->len;
	slot->req.off = parsed->off;
	slot->req.len = parsed->len;
	if (parsed->len > 0) {
		r = map_data(bq, chain, slot, parsed->len);
		if (r <= 0) {
			release_slot(bq, slot);
			return r;
		}
	}
	slot->busy = true;
	block_queue_add(bq->io, &slot->req);
	return 1;
}

/* What a rate limit counts of it. */
static uint64_t limited_bytes(const struct virtio_blk_request *parsed)
{
	return parsed->kind == VIRTIO_BLK_KIND_READ || parsed->kind == VIRTIO_BLK_KIND_WRITE
		       ? parsed->len
		       : 0;
}

/* execute(), within the rate limit. */
static int execute_limited(struct blk_queue *bq, const struct virtq_chain *chain,
			   const struct virtio_blk_request *parsed, uint64_t status_gpa)
{
	uint64_t bytes = limited_bytes(parsed);
	int r;

	if (!rate_gate_take(&bq->gate, bytes, 1)) {
		virtio_queue_unpop(bq->q);
		bq->throttled = true;
		return 0;
	}
	r = execute(bq, chain, parsed, status_gpa);
	if (r == 0) {
		rate_gate_charge(&bq->gate, -(int64_t)bytes, -1);
		virtio_queue_unpop(bq->q);
		bq->stalled = true;
	}
	return r;
}

/* Takes one request: 1, 0 when there is none or it has to wait, -EBADMSG. */
static int take(struct blk_queue *bq)
{
	struct virtio_blk_request parsed = { 0 };
	uint8_t header[VIRTIO_BLK_HEADER_SIZE];
	struct virtq_chain chain;
	uint64_t status_gpa = 0;
	int r;

	r = virtio_queue_pop(bq->q, &chain);
	if (r <= 0)
		return r;
	if (bq->slots[chain.head].busy)
		return -EBADMSG; /* 2.7.13: a chain is the device's until it is in the used ring */
	if (chain.readable_len < sizeof(header) ||
	    virtq_chain_read(bq->q, &chain, 0, header, sizeof(header)) < 0 ||
	    virtio_blk_parse(&bq->blk->limits, header, chain.readable_len, chain.writable_len,
			     &parsed) < 0 ||
	    virtq_chain_gpa(&chain, true, chain.writable_len - 1, &status_gpa) < 0)
		return -EBADMSG;
	switch (parsed.kind) {
	case VIRTIO_BLK_KIND_READ:
	case VIRTIO_BLK_KIND_WRITE:
	case VIRTIO_BLK_KIND_FLUSH:
	case VIRTIO_BLK_KIND_DISCARD:
	case VIRTIO_BLK_KIND_WRITE_ZEROES:
		return execute_limited(bq, &chain, &parsed, status_gpa);
	case VIRTIO_BLK_KIND_GET_ID:
		if (virtq_chain_write(bq->q, &chain, 0, bq->blk->serial, (size_t)parsed.len) < 0)
			return -EBADMSG;
		finish(bq, chain.head, status_gpa, VIRTIO_BLK_S_OK, (uint32_t)parsed.len + 1);
		return 1;
	case VIRTIO_BLK_KIND_REFUSED:
		break;
	}
	finish(bq, chain.head, status_gpa, parsed.status, 1);
	return 1;
}

static uint8_t failed_slot(const struct blk_queue *bq, const struct slot *slot)
{
	static const char *const names[STAT_N_] = {
		[STAT_READ] = "read",
		[STAT_WRITE] = "write",
		[STAT_FLUSH] = "flush",
		[STAT_DISCARD] = "discard",
		[STAT_WRITE_ZEROES] = "write-zeroes",
	};

	log_guest("disk '%s': %s of %llu bytes failed near byte %llu: %s", bq->blk->dev.id,
		  names[slot->stat], (unsigned long long)slot->len,
		  (unsigned long long)slot->req.off, strerrordesc_np(-slot->req.result));
	return slot->req.result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void finish_slot(struct blk_queue *bq, struct slot *slot)
{
	uint16_t head = (uint16_t)(slot - bq->slots);
	uint32_t n_written = 1;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (slot->req.result < 0) {
		status = failed_slot(bq, slot);
	} else if (slot->n_ranges > 0 && slot->req.op != BLOCK_OP_FLUSH && start_range(bq, slot)) {
		return;
	} else {
		count_done(bq, slot);
		if (slot->stat == STAT_READ)
			n_written += (uint32_t)slot->len;
	}
	release_slot(bq, slot);
	finish(bq, head, slot->status_gpa, status, n_written);
}

static void reap(struct blk_queue *bq)
{
	struct block_request *req = block_queue_reap(bq->io);

	if (!req)
		return;
	read_clock(bq);
	do {
		finish_slot(bq, container_of(req, struct slot, req));
		bq->stalled = false;
		/* What went on to its next range is in no one's hands yet. */
		block_queue_submit(bq->io);
	} while ((req = block_queue_reap(bq->io)));
}

/*
 * Takes what the driver made available, starts it with one system call,
 * finishes what is done with one interrupt, until the driver rests.
 */
void blk_queue_serve(struct blk_queue *bq)
{
	struct virtio_device *dev = &bq->blk->dev;
	unsigned int budget = SERVE_BUDGET;
	int r = 0;

	while (!virtio_device_is_broken(dev)) {
		virtio_queue_kicks_off(bq->q);
		read_clock(bq);
		while (budget > 0 && !bq->stalled && !bq->throttled && (r = take(bq)) > 0)
			budget--;
		if (r < 0)
			virtio_device_broken(dev, "queue %u: malformed request", bq->q->index);
		block_queue_submit(bq->io);
		reap(bq);
		virtio_queue_notify(bq->q);
		if (bq->stalled || bq->throttled)
			return; /* the next completion, or the gate, goes on */
		if (budget == 0) {
			/* Lets the loop see pause and reset, then comes back. */
			eventfd_signal(bq->q->kick_fd);
			return;
		}
		if (!virtio_queue_kicks_on(bq->q))
			return;
	}
}

static void on_gate(void *data)
{
	struct blk_queue *bq = data;

	bq->throttled = false;
	blk_queue_serve(bq);
}

static void on_done(struct loop_source *source, uint32_t events _unused_)
{
	struct blk_queue *bq = source->data;
	bool stalled = bq->stalled;

	reap(bq);
	if (stalled && !bq->stalled)
		blk_queue_serve(bq);
	else if (!virtio_device_is_broken(&bq->blk->dev))
		virtio_queue_notify(bq->q);
}

void blk_queue_drain(void *data)
{
	struct blk_queue *bq = data;

	do {
		block_queue_drain(bq->io);
		reap(bq); /* which starts the next ranges */
	} while (block_queue_n_in_flight(bq->io) > 0);
	if (!virtio_device_is_broken(&bq->blk->dev))
		virtio_queue_notify(bq->q);
}

static void detach(void *data)
{
	struct blk_queue *bq = data;

	blk_queue_drain(bq);
	loop_remove(bq->q->loop, &bq->done);
}

struct attach {
	struct blk_queue *bq;
	int r;
};

static void attach(void *data)
{
	struct attach *a = data;

	a->r = loop_add(a->bq->q->loop, &a->bq->done);
}

void blk_queue_deinit(struct blk_queue *bq)
{
	rate_gate_deinit(&bq->gate);
	if (bq->io && bq->q->loop)
		loop_call(bq->q->loop, detach, bq);
	block_queue_free(bq->io);
	bq->io = NULL;
	if (bq->slots)
		munmap(bq->slots, bq->pages_len);
	bq->slots = NULL;
}

/* Not from malloc, which would touch all of it to clear it: most disks use a few slots. */
static int map_slots(struct blk_queue *bq, uint16_t n, struct err *err)
{
	struct iovec *large;
	void *pages;

	bq->n_large_iov = (size_t)n + REGION_EXTRA;
	bq->pages_len = n * sizeof(*bq->slots) + LARGE_IOVS * bq->n_large_iov * sizeof(*large);
	pages = mmap(NULL, bq->pages_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (pages == MAP_FAILED)
		return err_errno(err, errno, "queue %u: cannot make %u request slots", bq->q->index,
				 n);
	bq->slots = pages;
	large = (void *)(bq->slots + n);
	for (; bq->n_free_large < LARGE_IOVS; bq->n_free_large++)
		bq->free_large[bq->n_free_large] = large + bq->n_free_large * bq->n_large_iov;
	return 0;
}

/* The engine that was asked for, joined with the image. */
int blk_queue_open_io(const struct blk_queue *bq, struct block_image *img, struct block_queue **ret,
		      struct err *err)
{
	const struct virtio_blk *blk = bq->blk;
	struct block_engine *engine = NULL;
	uint16_t depth = bq->q->st.size;
	int r;

	if (blk->engine)
		r = block_engine_open(blk->engine, img->files, img->n_files, depth, &engine, err);
	else
		r = block_engine_open_best(blk->without_engines, img->files, img->n_files, depth,
					   &engine, err);
	if (r < 0)
		return r;
	r = block_queue_new_on(img, engine, depth, ret, err);
	if (r < 0)
		block_engine_free(engine);
	return r;
}

/* Completions of bq->io, if they come by a descriptor. */
static int watch_io(struct blk_queue *bq)
{
	struct attach a = { .bq = bq };

	bq->done = (struct loop_source){
		.fd = block_queue_event_fd(bq->io), .events = EPOLLIN, .fn = on_done, .data = bq
	};
	if (bq->done.fd >= 0)
		loop_call(bq->q->loop, attach, &a);
	return a.r;
}

int blk_queue_swap_io(struct blk_queue *bq, struct block_queue **io)
{
	struct block_queue *old = bq->io;
	int r;

	loop_call(bq->q->loop, detach, bq);
	bq->io = *io;
	r = watch_io(bq);
	if (r >= 0) {
		*io = old;
		return 0;
	}
	bq->io = old;
	if (watch_io(bq) < 0)
		virtio_device_broken(&bq->blk->dev, "queue %u: cannot watch completions",
				     bq->q->index);
	return r;
}

int blk_queue_init(struct blk_queue *bq, struct virtio_blk *blk, struct virtio_queue *q,
		   struct err *err)
{
	int r;

	*bq = (struct blk_queue){ .blk = blk, .q = q };
	r = map_slots(bq, q->st.size, err);
	if (r < 0)
		return r;
	r = blk_queue_open_io(bq, blk->img, &bq->io, err);
	if (r < 0)
		return err_prefix(err, r, "queue %u", q->index);
	r = watch_io(bq);
	if (r < 0)
		return err_errno(err, -r, "queue %u: cannot watch completions", q->index);
	r = rate_gate_init(&bq->gate, blk->limiter, q->loop, on_gate, bq, err);
	return r < 0 ? err_prefix(err, r, "queue %u", q->index) : 0;
}
