/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block-queue.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

#define SLOT_IOVS    8  /* buffers of a request that needs no large vector */
#define LARGE_IOVS   16 /* large vectors of a queue */
#define REGION_EXTRA 2  /* buffers that span two memory regions have two iovecs */

/* Requests served in one go before the thread looks at its loop again. */
#define SERVE_BUDGET 4096

#define CONFIG_SIZE offsetof(struct virtio_blk_config, max_discard_sectors)

struct slot {
	struct block_request req;
	uint64_t status_gpa;
	uint32_t len; /* bytes of data */
	bool busy;
	struct iovec *large; /* taken from the queue's, or NULL */
	struct iovec iov[SLOT_IOVS];
};

/* Owned by the queue's I/O thread while active. */
struct blk_queue {
	struct virtio_blk *blk;
	struct virtio_queue *q;
	struct block_queue *io;
	struct loop_source done; /* io's descriptor */
	struct slot *slots;      /* by head of chain; pages, touched as they are used */
	size_t pages_len;        /* bytes mapped at slots: they and the large vectors */
	size_t n_large_iov;      /* of one large vector */
	struct iovec *free_large[LARGE_IOVS];
	unsigned int n_free_large;
	bool stalled; /* a request waits for a large vector */
};

enum {
	COUNTER_READ_BYTES,
	COUNTER_READ_OPS,
	COUNTER_WRITE_BYTES,
	COUNTER_WRITE_OPS,
	COUNTER_FLUSH_OPS,
	COUNTER_ERRORS,
	COUNTER_N_,
};

static const char *const counter_names[COUNTER_N_] = {
	[COUNTER_READ_BYTES] = "read_bytes",   [COUNTER_READ_OPS] = "read_ops",
	[COUNTER_WRITE_BYTES] = "write_bytes", [COUNTER_WRITE_OPS] = "write_ops",
	[COUNTER_FLUSH_OPS] = "flush_ops",     [COUNTER_ERRORS] = "errors",
};

struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_state st; /* under dev.lock */
	struct block_image *img;
	const char *engine; /* one of block.c's names, or NULL */
	struct virtio_blk_limits limits;
	char serial[VIRTIO_BLK_SERIAL_MAX];
	/* written by vCPUs and control, read by the queues for each write: relaxed, a mode only */
	atomic_bool write_through;
	_Atomic uint64_t values[COUNTER_N_]; /* added to by all queues: relaxed, sums only */
	struct virtio_counter counters[COUNTER_N_ + 1];
	struct blk_queue *queues;
};

#define F(kind, member) STATE_##kind(struct virtio_blk_state, member)
static const struct state_field blk_fields[] = { F(BOOL, writeback), F(BYTES, pad) };
#undef F
const struct state_desc virtio_blk_state_desc = {
	"virtio-blk",
	.version = 1,
	STATE_LAYOUT(struct virtio_blk_state, blk_fields),
};

static const struct virtio_device_ops blk_ops;

static struct virtio_blk *virtio_blk(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_blk, dev);
}

static void count(struct virtio_blk *blk, unsigned int counter, uint64_t n)
{
	atomic_fetch_add_explicit(&blk->values[counter], n, memory_order_relaxed);
}

/* 5.2.6: {le32 type, le32 ioprio, le64 sector}, data, status byte */
int virtio_blk_parse(const struct virtio_blk_limits *limits,
		     const uint8_t header[VIRTIO_BLK_HEADER_SIZE], uint64_t readable_len,
		     uint64_t writable_len, struct virtio_blk_request *ret)
{
	struct virtio_blk_request req = { .status = VIRTIO_BLK_S_IOERR };
	uint32_t type;
	uint64_t sector;

	if (readable_len < VIRTIO_BLK_HEADER_SIZE || writable_len < 1)
		return -EBADMSG;
	type = (uint32_t)bytes_get_le(header, 4);
	sector = bytes_get_le(header + 8, 8);
	switch (type) {
	case VIRTIO_BLK_T_IN:
		req.kind = VIRTIO_BLK_KIND_READ;
		req.len = writable_len - 1;
		break;
	case VIRTIO_BLK_T_OUT:
		req.kind = limits->readonly ? VIRTIO_BLK_KIND_REFUSED : VIRTIO_BLK_KIND_WRITE;
		req.len = readable_len - VIRTIO_BLK_HEADER_SIZE;
		break;
	case VIRTIO_BLK_T_FLUSH:
		req.kind = VIRTIO_BLK_KIND_FLUSH;
		break;
	case VIRTIO_BLK_T_GET_ID:
		req.kind = VIRTIO_BLK_KIND_GET_ID;
		req.len = MIN(writable_len - 1, (uint64_t)VIRTIO_BLK_SERIAL_MAX);
		break;
	default:
		req.status = VIRTIO_BLK_S_UNSUPP;
		break;
	}
	if (req.kind == VIRTIO_BLK_KIND_READ || req.kind == VIRTIO_BLK_KIND_WRITE) {
		if (__builtin_mul_overflow(sector, (uint64_t)BLOCK_SECTOR, &req.off) ||
		    !range_fits(req.off, req.len, limits->size) ||
		    ((req.off | req.len) & (limits->align - 1)))
			req.kind = VIRTIO_BLK_KIND_REFUSED;
	}
	*ret = req;
	return 0;
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

/* Starts a validated request: 1, 0 no room, -EBADMSG. */
static int execute(struct blk_queue *bq, const struct virtq_chain *chain,
		   const struct virtio_blk_request *parsed, uint64_t status_gpa)
{
	static const enum block_op ops[] = {
		[VIRTIO_BLK_KIND_READ] = BLOCK_OP_READ,
		[VIRTIO_BLK_KIND_WRITE] = BLOCK_OP_WRITE,
		[VIRTIO_BLK_KIND_FLUSH] = BLOCK_OP_FLUSH,
	};
	struct slot *slot = &bq->slots[chain->head];
	int r;

	slot->status_gpa = status_gpa;
	slot->len = (uint32_t)parsed->len;
	slot->req.op = ops[parsed->kind];
	slot->req.off = parsed->off;
	slot->req.len = parsed->len;
	slot->req.n_iov = 0;
	slot->req.dsync = atomic_load_explicit(&bq->blk->write_through, memory_order_relaxed);
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

/* Takes one request: 1, 0 when there is none or no room for it, -EBADMSG. */
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
		r = execute(bq, &chain, &parsed, status_gpa);
		if (r == 0) {
			virtio_queue_unpop(bq->q);
			bq->stalled = true;
		}
		return r;
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

static void finish_slot(struct blk_queue *bq, struct slot *slot)
{
	static const struct {
		const char *name;
		unsigned int ops;
	} ops[BLOCK_OP_N_] = {
		[BLOCK_OP_READ] = { "read", COUNTER_READ_OPS },
		[BLOCK_OP_WRITE] = { "write", COUNTER_WRITE_OPS },
		[BLOCK_OP_FLUSH] = { "flush", COUNTER_FLUSH_OPS },
	};
	const struct block_request *req = &slot->req;
	uint16_t head = (uint16_t)(slot - bq->slots);
	uint32_t n_written = 1;
	uint8_t status = VIRTIO_BLK_S_OK;

	if (req->result < 0) {
		log_guest("disk '%s': %s of %u bytes failed near byte %llu: %s", bq->blk->dev.id,
			  ops[req->op].name, slot->len, (unsigned long long)req->off,
			  strerrordesc_np(-req->result));
		status = VIRTIO_BLK_S_IOERR;
	} else {
		count(bq->blk, ops[req->op].ops, 1);
		if (req->op == BLOCK_OP_READ) {
			count(bq->blk, COUNTER_READ_BYTES, slot->len);
			n_written += slot->len;
		} else if (req->op == BLOCK_OP_WRITE) {
			count(bq->blk, COUNTER_WRITE_BYTES, slot->len);
		}
	}
	release_slot(bq, slot);
	finish(bq, head, slot->status_gpa, status, n_written);
}

static void reap(struct blk_queue *bq)
{
	struct block_request *req;

	while ((req = block_queue_reap(bq->io))) {
		finish_slot(bq, container_of(req, struct slot, req));
		bq->stalled = false;
	}
}

/*
 * Takes what the driver made available, starts it with one system call,
 * finishes what is done with one interrupt, until the driver rests.
 */
static void serve(struct blk_queue *bq)
{
	struct virtio_device *dev = &bq->blk->dev;
	unsigned int budget = SERVE_BUDGET;
	int r = 0;

	while (!virtio_device_is_broken(dev)) {
		virtio_queue_kicks_off(bq->q);
		while (budget > 0 && !bq->stalled && (r = take(bq)) > 0)
			budget--;
		if (r < 0)
			virtio_device_broken(dev, "queue %u: malformed request", bq->q->index);
		block_queue_submit(bq->io);
		reap(bq);
		virtio_queue_notify(bq->q);
		if (bq->stalled)
			return; /* the next completion goes on */
		if (budget == 0) {
			/* Lets the loop see pause and reset, then comes back. */
			eventfd_signal(bq->q->kick_fd);
			return;
		}
		if (!virtio_queue_kicks_on(bq->q))
			return;
	}
}

static void blk_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	serve(&virtio_blk(dev)->queues[q->index]);
}

static void on_done(struct loop_source *source, uint32_t events _unused_)
{
	struct blk_queue *bq = source->data;
	bool stalled = bq->stalled;

	reap(bq);
	if (stalled && !bq->stalled)
		serve(bq);
	else if (!virtio_device_is_broken(&bq->blk->dev))
		virtio_queue_notify(bq->q);
}

static void drain(void *data)
{
	struct blk_queue *bq = data;

	block_queue_drain(bq->io);
	reap(bq);
	if (!virtio_device_is_broken(&bq->blk->dev))
		virtio_queue_notify(bq->q);
}

static void detach(void *data)
{
	struct blk_queue *bq = data;

	drain(bq);
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

static void queue_deinit(struct blk_queue *bq)
{
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

static int queue_init(struct blk_queue *bq, struct virtio_blk *blk, struct virtio_queue *q,
		      struct err *err)
{
	struct attach a = { .bq = bq };
	int r;

	*bq = (struct blk_queue){ .blk = blk, .q = q };
	r = map_slots(bq, q->st.size, err);
	if (r < 0)
		return r;
	r = block_queue_new(blk->img, blk->engine, q->st.size, &bq->io, err);
	if (r < 0)
		return err_prefix(err, r, "queue %u", q->index);
	log_debug("blk '%s': queue %u is served by engine %s", blk->dev.id, q->index,
		  block_queue_engine_name(bq->io));
	bq->done = (struct loop_source){
		.fd = block_queue_event_fd(bq->io), .events = EPOLLIN, .fn = on_done, .data = bq
	};
	if (bq->done.fd >= 0) {
		loop_call(q->loop, attach, &a);
		if (a.r < 0)
			return err_errno(err, -a.r, "queue %u: cannot watch completions", q->index);
	}
	return 0;
}

static void blk_reset(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (blk->queues[i].q)
			queue_deinit(&blk->queues[i]);
	pthread_mutex_lock(&dev->lock);
	blk->st.writeback = true;
	dev->config[offsetof(struct virtio_blk_config, wce)] = 1;
	pthread_mutex_unlock(&dev->lock);
}

/* 5.2.6.2: who cannot flush, or chose write-through, gets durable writes. */
static void choose_cache_mode(struct virtio_blk *blk)
{
	bool through =
		!virtio_has_feature(&blk->dev, VIRTIO_BLK_F_FLUSH) ||
		(virtio_has_feature(&blk->dev, VIRTIO_BLK_F_CONFIG_WCE) && !blk->st.writeback);

	blk->dev.config[offsetof(struct virtio_blk_config, wce)] = !through;
	atomic_store_explicit(&blk->write_through, through, memory_order_relaxed);
}

static int blk_activate(struct virtio_device *dev, struct err *err)
{
	struct virtio_blk *blk = virtio_blk(dev);
	int r;

	pthread_mutex_lock(&dev->lock);
	choose_cache_mode(blk);
	pthread_mutex_unlock(&dev->lock);
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		if (!dev->queues[i].loop)
			continue;
		r = queue_init(&blk->queues[i], blk, &dev->queues[i], err);
		if (r < 0) {
			blk_reset(dev);
			return r;
		}
	}
	return 0;
}

static void blk_config_write(struct virtio_device *dev, uint32_t off, const void *buf, uint32_t len)
{
	struct virtio_blk *blk = virtio_blk(dev);

	if (off != offsetof(struct virtio_blk_config, wce) || len != 1 ||
	    !virtio_has_feature(dev, VIRTIO_BLK_F_CONFIG_WCE))
		return;
	blk->st.writeback = *(const uint8_t *)buf & 1;
	choose_cache_mode(blk);
}

static void blk_pause(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (blk->queues[i].io)
			loop_call(dev->queues[i].loop, drain, &blk->queues[i]);
}

static void *blk_state_ptr(struct virtio_device *dev)
{
	return &virtio_blk(dev)->st;
}

static const struct virtio_counter *blk_counters(struct virtio_device *dev)
{
	return virtio_blk(dev)->counters;
}

static void blk_free(struct virtio_device *dev)
{
	struct virtio_blk *blk = virtio_blk(dev);

	virtio_device_deinit(dev);
	block_image_close(blk->img);
	free(blk->queues);
	free(blk);
}

static void fill_config(struct virtio_blk *blk, const struct virtio_blk_params *params)
{
	const struct block_image *img = blk->img;
	uint8_t *config = blk->dev.config;
	unsigned int exp = 0;

	while (exp < UINT8_MAX && img->logical_block << exp < img->physical_block)
		exp++;
#define PUT(member, value)                                                                         \
	bytes_put_le(config + offsetof(struct virtio_blk_config, member),                          \
		     sizeof(((struct virtio_blk_config *)0)->member), (value))
	PUT(capacity, img->size / BLOCK_SECTOR);
	/* All buffers but the header and the status byte. */
	PUT(seg_max, params->queue_size - 2U);
	PUT(blk_size, img->logical_block);
	PUT(physical_block_exp, exp);
	PUT(alignment_offset, img->alignment_off);
	PUT(min_io_size, MIN(img->min_io, (uint32_t)UINT16_MAX));
	PUT(opt_io_size, img->opt_io);
	PUT(wce, 1);
	PUT(num_queues, params->n_queues);
#undef PUT
	blk->dev.config_size = CONFIG_SIZE;
}

static uint64_t features_offered(const struct virtio_blk_params *params)
{
	uint64_t features =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |
		VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) | VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY) |
		VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) | VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE);

	if (params->readonly)
		features |= VIRTIO_FEATURE(VIRTIO_BLK_F_RO);
	if (params->n_queues > 1)
		features |= VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
	return features;
}

static int check_params(const struct virtio_blk_params *params, struct err *err)
{
	if (params->n_queues < 1 || params->n_queues > VIRTIO_BLK_QUEUES_MAX)
		return err_set(err, EINVAL, "disk '%s': num_queues is %u: 1 to %u are possible",
			       params->id, params->n_queues, VIRTIO_BLK_QUEUES_MAX);
	if (!is_pow2(params->queue_size) || params->queue_size < 4 ||
	    params->queue_size > VIRTQ_SIZE_MAX)
		return err_set(err, EINVAL,
			       "disk '%s': queue_size is %u: a power of two from 4 to %u is needed",
			       params->id, params->queue_size, VIRTQ_SIZE_MAX);
	if (params->serial && strlen(params->serial) > VIRTIO_BLK_SERIAL_MAX)
		return err_set(err, EINVAL, "disk '%s': serial '%s' is longer than %u bytes",
			       params->id, params->serial, VIRTIO_BLK_SERIAL_MAX);
	return 0;
}

int virtio_blk_new(const struct virtio_blk_params *params, struct virtio_device **ret,
		   struct err *err)
{
	const struct block_image_params image = { .id = params->id,
						  .readonly = params->readonly,
						  .direct = params->direct };
	uint16_t sizes[VIRTIO_BLK_QUEUES_MAX];
	const char *serial = params->serial ?: params->id;
	struct virtio_blk *blk;
	int r;

	r = check_params(params, err);
	if (r < 0)
		return r;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return err_errno(err, ENOMEM, "disk '%s'", params->id);
	blk->queues = calloc(params->n_queues, sizeof(*blk->queues));
	if (!blk->queues) {
		r = err_errno(err, ENOMEM, "disk '%s'", params->id);
		goto fail;
	}
	blk->dev.features_offered = features_offered(params);
	for (uint16_t i = 0; i < params->n_queues; i++)
		sizes[i] = params->queue_size;
	r = virtio_device_init(&blk->dev, &blk_ops, params->id, sizes, params->n_queues, err);
	if (r < 0)
		goto fail;
	/* Last, because closing the image would close the caller's descriptor. */
	r = block_image_open(&block_format_raw, params->fd, &image, &blk->img, err);
	if (r < 0)
		goto fail_device;
	blk->engine = params->engine;
	blk->st.writeback = true;
	blk->limits = (struct virtio_blk_limits){
		.size = blk->img->size,
		.align = MAX(BLOCK_SECTOR, blk->img->off_align),
		.readonly = params->readonly,
	};
	memcpy(blk->serial, serial, strnlen(serial, sizeof(blk->serial)));
	for (unsigned int i = 0; i < COUNTER_N_; i++)
		blk->counters[i] = (struct virtio_counter){ counter_names[i], &blk->values[i] };
	fill_config(blk, params);
	*ret = &blk->dev;
	return 0;

fail_device:
	virtio_device_deinit(&blk->dev);
fail:
	free(blk->queues);
	free(blk);
	return r;
}

static const struct virtio_device_ops blk_ops = {
	.name = "blk",
	.device_id = VIRTIO_ID_BLOCK,
	.pci_class = 0x01,    /* mass storage */
	.pci_subclass = 0x80, /* other */
	.threads = VIRTIO_THREADS_PER_QUEUE,
	.state = &virtio_blk_state_desc,
	.activate = blk_activate,
	.kick = blk_kick,
	.config_write = blk_config_write,
	.reset = blk_reset,
	.pause = blk_pause,
	.state_ptr = blk_state_ptr,
	.counters = blk_counters,
	.free = blk_free,
};
