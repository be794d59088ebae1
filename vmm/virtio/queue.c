/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/iova.h"

#define F(kind, member) STATE_##kind(struct virtio_queue_state, member)
static const struct state_field queue_fields[] = {
	F(U64, desc_gpa), F(U64, avail_gpa),        F(U64, used_gpa),  F(U16, size),
	F(U16, vector),   F(U16, next_avail),       F(U16, next_used), F(U16, signalled_used),
	F(BOOL, enabled), F(BOOL, signalled_valid), F(BYTES, pad),
};
#undef F
const struct state_desc virtio_queue_state_desc = {
	"virtio-queue",
	.version = 1,
	STATE_LAYOUT(struct virtio_queue_state, queue_fields),
};

/* Ring words, each read or written once, with the ordering the peer needs (2.7.13). */
static uint16_t ring_load(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static uint16_t ring_load_acquire(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static void ring_store(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static void ring_store_release(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

/*
 * Behind an IOMMU a buffer of the driver's may be pieces of single pages.  Linux's are
 * nearly always one piece; a request of more than this breaks the device.
 */
#define IOVA_PIECES     2U
#define IOVA_PIECES_MIN 512U

#define AVAIL_FLAGS(q)      (&(q)->avail[0])
#define AVAIL_IDX(q)        (&(q)->avail[1])
#define AVAIL_RING(q, i)    (&(q)->avail[2 + ((i) & ((q)->st.size - 1))])
#define AVAIL_USED_EVENT(q) (&(q)->avail[2 + (q)->st.size])
#define USED_FLAGS(q)       (&(q)->used[0])
#define USED_IDX(q)         (&(q)->used[1])
#define USED_ELEM(q, i)     (&(q)->used[2 + 4 * ((i) & ((q)->st.size - 1))])
#define USED_AVAIL_EVENT(q) (&(q)->used[2 + 4 * (q)->st.size])

int virtio_queue_init(struct virtio_queue *q, struct virtio_device *dev, uint16_t index,
		      uint16_t size_max, struct err *err)
{
	assert(is_pow2(size_max) && size_max <= VIRTQ_SIZE_MAX);
	*q = (struct virtio_queue){ .dev = dev, .index = index, .size_max = size_max };
	q->kick_fd = eventfd_new();
	if (q->kick_fd < 0)
		return err_errno(err, -q->kick_fd, "queue %u: cannot make an eventfd", index);
	virtio_queue_reset(q);
	return 0;
}

void virtio_queue_deinit(struct virtio_queue *q)
{
	virtio_queue_stop(q);
	if (q->kick_fd >= 0)
		close(q->kick_fd);
	q->kick_fd = -EBADF;
}

void virtio_queue_reset(struct virtio_queue *q)
{
	virtio_queue_stop(q);
	q->st = (struct virtio_queue_state){ .size = q->size_max, .vector = VIRTIO_NO_VECTOR };
	eventfd_take(q->kick_fd);
}

/*
 * Where a part of the ring is: the device reads and writes all of it.  It stays where it was
 * when the queue started, and what it lies in is always RAM.
 */
static int locate_ring(const struct virtio_queue *q, const char *what, uint64_t *gpa, size_t len,
		       struct err *err)
{
	static const enum iova_access both[] = { IOVA_READ, IOVA_WRITE };
	uint64_t at = *gpa, found = 0, here = 0, done = 0, n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		/* Only the used ring is written. */
		if (both[i] == IOVA_WRITE && strcmp(what, "used ring") != 0)
			continue;
		for (done = 0; done < len; done += n) {
			if (iova_translate(q->dev->iova, at + done, len - done, both[i], &here,
					   &n) < 0)
				return err_set(
					err, EBADMSG,
					"queue %u: the %s at 0x%lx (%zu bytes) is not mapped "
					"by the IOMMU",
					q->index, what, at, len);
			if (done == 0)
				found = here;
			else if (here != found + done)
				return err_set(
					err, EBADMSG,
					"queue %u: the %s at 0x%lx (%zu bytes) is in pieces, "
					"must be in a row in memory",
					q->index, what, at, len);
		}
	}
	*gpa = found;
	return 0;
}

static int map_ring(const struct virtio_queue *q, struct guest_mem *mem, const char *what,
		    uint64_t gpa, size_t len, size_t align, void **ret, struct err *err)
{
	if (q->dev->iova) {
		int r = locate_ring(q, what, &gpa, len, err);

		if (r < 0)
			return r;
	}
	*ret = guest_range(mem, gpa, len, align);
	if (!*ret)
		return err_set(
			err, EBADMSG,
			"queue %u: the %s at 0x%lx (%zu bytes) is not in RAM or not aligned to %zu",
			q->index, what, gpa, len, align);
	return 0;
}

int virtio_queue_start(struct virtio_queue *q, struct guest_mem *mem, uint64_t features,
		       struct err *err)
{
	void *desc, *avail, *used;
	int r;

	if (!is_pow2(q->st.size) || q->st.size > q->size_max)
		return err_set(err, EBADMSG, "queue %u: size %u is not a power of two up to %u",
			       q->index, q->st.size, q->size_max);
	/* alignment: virtio 1.3, 2.7, table of the three parts */
	r = map_ring(q, mem, "descriptor table", q->st.desc_gpa, virtq_desc_bytes(q->st.size), 16,
		     &desc, err);
	if (r < 0)
		return r;
	r = map_ring(q, mem, "available ring", q->st.avail_gpa, virtq_avail_bytes(q->st.size), 2,
		     &avail, err);
	if (r < 0)
		return r;
	r = map_ring(q, mem, "used ring", q->st.used_gpa, virtq_used_bytes(q->st.size), 4, &used,
		     err);
	if (r < 0)
		return r;
	q->bufs_max = q->st.size;
	if (q->dev->iova)
		q->bufs_max = IOVA_PIECES * q->st.size + IOVA_PIECES_MIN;
	q->bufs = calloc(q->bufs_max, sizeof(*q->bufs));
	if (!q->bufs)
		return err_set(err, ENOMEM, "queue %u: out of memory", q->index);
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->event_idx = features & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);
	q->indirect = features & VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	return 0;
}

void virtio_queue_stop(struct virtio_queue *q)
{
	q->desc = NULL;
	q->avail = NULL;
	q->used = NULL;
	q->used_dirty = false;
	free(q->bufs);
	q->bufs = NULL;
}

void virtio_queue_take_back(struct virtio_queue *q, uint16_t next_avail)
{
	q->st.next_avail = next_avail;
	q->st.next_used = ring_load_acquire(USED_IDX(q));
	/* What it signalled last is not known: one interrupt too many is allowed (2.7.7.1). */
	q->st.signalled_valid = false;
}

/*
 * A table of descriptors, the ring's own or an indirect one, being walked.
 * Indirect tables may lie anywhere in RAM, so they are read through guest_read.
 */
struct table {
	const struct virtio_queue *q;
	bool indirect;
	uint64_t gpa;
	uint32_t n;
};

/* Behind an IOMMU an entry, too, may be in two pieces. */
static int table_get_iova(const struct table *t, uint64_t iova, struct virtq_desc *ret)
{
	uint8_t *to = (uint8_t *)ret;
	uint64_t gpa, n, left = sizeof(*ret);

	if (iova > UINT64_MAX - sizeof(*ret))
		return -EBADMSG;
	for (; left > 0; left -= n, iova += n, to += n) {
		if (iova_translate(t->q->dev->iova, iova, left, IOVA_READ, &gpa, &n) < 0 ||
		    guest_read(t->q->dev->mem, gpa, to, n) < 0)
			return -EBADMSG;
	}
	return 0;
}

static int table_get(const struct table *t, uint32_t i, struct virtq_desc *ret)
{
	uint64_t gpa;

	if (i >= t->n)
		return -EBADMSG;
	if (t->indirect) {
		if (__builtin_add_overflow(t->gpa, 16ULL * i, &gpa))
			return -EBADMSG;
		if (t->q->dev->iova)
			return table_get_iova(t, gpa, ret);
		return guest_read(t->q->dev->mem, gpa, ret, sizeof(*ret)) < 0 ? -EBADMSG : 0;
	}
	/* One 16-byte copy; the compiler may not go back to guest memory for a field. */
	memcpy(ret, &t->q->desc[i], sizeof(*ret));
	__asm__ volatile("" : "+m"(*ret));
	return 0;
}

static int chain_add_piece(struct virtio_queue *q, struct virtq_chain *chain, uint64_t gpa,
			   uint32_t len, bool writable)
{
	uint32_t n = (uint32_t)chain->n_readable + chain->n_writable;

	if (n >= q->bufs_max || !guest_covers(q->dev->mem, gpa, len))
		return -EBADMSG;
	q->bufs[n] = (struct virtq_buf){ .gpa = gpa, .len = len };
	if (writable)
		chain->n_writable++;
	else
		chain->n_readable++;
	return 0;
}

/* Pieces that lie in a row become one. */
static int chain_add_iova(struct virtio_queue *q, struct virtq_chain *chain, uint64_t iova,
			  uint32_t len, bool writable)
{
	enum iova_access access = writable ? IOVA_WRITE : IOVA_READ;
	uint64_t gpa = 0, n = 0, start = 0, have = 0;
	int r;

	if (iova > UINT64_MAX - len)
		return -EBADMSG;
	while (len > 0) {
		if (iova_translate(q->dev->iova, iova, len, access, &gpa, &n) < 0)
			return -EBADMSG;
		if (have && gpa != start + have) {
			r = chain_add_piece(q, chain, start, (uint32_t)have, writable);
			if (r < 0)
				return r;
			have = 0;
		}
		if (!have)
			start = gpa;
		have += n;
		iova += n;
		len -= (uint32_t)n;
	}
	return chain_add_piece(q, chain, start, (uint32_t)have, writable);
}

static int chain_add(struct virtio_queue *q, struct virtq_chain *chain, const struct virtq_desc *d)
{
	uint32_t len = le32_get(d->len);
	bool writable = le16_get(d->flags) & VIRTQ_DESC_F_WRITE;
	uint64_t *total = writable ? &chain->writable_len : &chain->readable_len;

	if (!writable && chain->n_writable) /* 2.7.4.2: readable ones come first */
		return -EBADMSG;
	*total += len;           /* at most 1024 * 2^32: cannot wrap */
	if (*total > UINT32_MAX) /* 2.7.5.2: no more than 2^32 bytes */
		return -EBADMSG;
	if (q->dev->iova)
		return chain_add_iova(q, chain, le64_get(d->addr), len, writable);
	return chain_add_piece(q, chain, le64_get(d->addr), len, writable);
}

/* 2.7.5.3.1: negotiated, not nested, no NEXT, a whole number of entries. */
static bool indirect_is_legal(const struct virtio_queue *q, const struct table *t,
			      const struct virtq_desc *d)
{
	uint32_t len = le32_get(d->len);

	return q->indirect && !t->indirect && len > 0 && len % 16 == 0 && len / 16 <= q->st.size &&
	       !(le16_get(d->flags) & VIRTQ_DESC_F_NEXT);
}

static int chain_walk(struct virtio_queue *q, struct virtq_chain *chain)
{
	struct table t = { .q = q, .n = q->st.size };
	uint32_t i = chain->head, n = 0;
	struct virtq_desc d;
	int r;

	/* Ends: every turn adds a buffer, at most st.size of them, or enters the one indirect
	 * table. */
	for (;;) {
		r = table_get(&t, i, &d);
		if (r < 0)
			return r;
		if (le16_get(d.flags) & VIRTQ_DESC_F_INDIRECT) {
			if (!indirect_is_legal(q, &t, &d))
				return -EBADMSG;
			t = (struct table){ .q = q,
					    .indirect = true,
					    .gpa = le64_get(d.addr),
					    .n = le32_get(d.len) / 16 };
			i = 0;
			continue;
		}
		if (n++ >= q->st.size) /* 2.7.5.3.1: no chain longer than the queue */
			return -EBADMSG;
		r = chain_add(q, chain, &d);
		if (r < 0)
			return r;
		if (!(le16_get(d.flags) & VIRTQ_DESC_F_NEXT))
			return 0;
		i = le16_get(d.next);
	}
}

int virtio_queue_pop(struct virtio_queue *q, struct virtq_chain *ret)
{
	struct virtq_chain chain = { .bufs = q->bufs };
	uint16_t n_avail;
	int r;

	/* acquire: the entries the driver wrote before it moved idx */
	n_avail = (uint16_t)(ring_load_acquire(AVAIL_IDX(q)) - q->st.next_avail);
	if (n_avail == 0)
		return 0;
	if (n_avail > q->st.size)
		return -EBADMSG;
	chain.head = ring_load(AVAIL_RING(q, q->st.next_avail));
	if (chain.head >= q->st.size)
		return -EBADMSG;
	r = chain_walk(q, &chain);
	if (r < 0)
		return r;
	q->st.next_avail++;
	*ret = chain;
	return 1;
}

void virtio_queue_unpop(struct virtio_queue *q)
{
	q->st.next_avail--;
}

bool virtio_queue_empty(const struct virtio_queue *q)
{
	return ring_load_acquire(AVAIL_IDX(q)) == q->st.next_avail;
}

void virtio_queue_push(struct virtio_queue *q, uint16_t head, uint32_t n_written)
{
	struct virtq_used_elem elem = { .id = le32_make(head), .len = le32_make(n_written) };

	memcpy(USED_ELEM(q, q->st.next_used), &elem, sizeof(elem));
	q->st.next_used++;
	q->used_dirty = true;
}

/* 2.7.7.2 and 2.7.10: has the driver asked for an interrupt for what was just published? */
static bool wants_interrupt(struct virtio_queue *q)
{
	uint16_t old = q->st.signalled_used, new = q->st.next_used;
	bool valid = q->st.signalled_valid;

	q->st.signalled_used = new;
	q->st.signalled_valid = true;
	if (!q->event_idx)
		return !(ring_load(AVAIL_FLAGS(q)) & VIRTQ_AVAIL_F_NO_INTERRUPT);
	if (!valid)
		return true;
	return (uint16_t)(new - ring_load(AVAIL_USED_EVENT(q)) - 1) < (uint16_t)(new - old);
}

void virtio_queue_notify(struct virtio_queue *q)
{
	if (!q->used_dirty)
		return;
	q->used_dirty = false;
	/* release: the elements before the index */
	ring_store_release(USED_IDX(q), q->st.next_used);
	/* The index is visible before the driver's wish is read; pairs with the driver's fence. */
	atomic_thread_fence(memory_order_seq_cst);
	if (wants_interrupt(q))
		q->dev->transport->queue_interrupt(q->dev->transport_data, q);
}

void virtio_queue_kicks_off(struct virtio_queue *q)
{
	/* With the event index, simply not moving avail_event has the same effect. */
	if (!q->event_idx)
		ring_store(USED_FLAGS(q), VIRTQ_USED_F_NO_NOTIFY);
}

bool virtio_queue_kicks_on(struct virtio_queue *q)
{
	if (q->event_idx)
		ring_store(USED_AVAIL_EVENT(q), q->st.next_avail);
	else
		ring_store(USED_FLAGS(q), 0);
	/* Our wish is visible before idx is looked at again; pairs with the driver's fence. */
	atomic_thread_fence(memory_order_seq_cst);
	return !virtio_queue_empty(q);
}

int virtio_queue_serve_some(struct virtio_queue *q, unsigned int budget,
			    int (*take)(struct virtio_queue *q, void *data), void *data)
{
	int r = 0;

	do {
		virtio_queue_kicks_off(q);
		while (budget > 0 && (r = take(q, data)) > 0)
			budget--;
	} while (r == 0 && budget > 0 && virtio_queue_kicks_on(q));
	virtio_queue_notify(q);
	if (r >= 0 && budget == 0)
		eventfd_signal(q->kick_fd);
	return MIN(r, 0);
}

int virtio_queue_serve(struct virtio_queue *q, int (*take)(struct virtio_queue *q, void *data),
		       void *data)
{
	return virtio_queue_serve_some(q, VIRTQ_SERVE_BUDGET, take, data);
}

/*
 * Calls fn for each piece of [off, off+len) of one part of the chain.
 * -EBADMSG when the part is shorter.
 */
static int foreach_piece(const struct virtq_chain *chain, bool writable, uint64_t off, uint64_t len,
			 int (*fn)(uint64_t gpa, uint32_t n, void *data), void *data)
{
	const struct virtq_buf *b = chain->bufs + (writable ? chain->n_readable : 0);
	const struct virtq_buf *end = b + (writable ? chain->n_writable : chain->n_readable);
	uint32_t n;
	int r;

	if (!range_fits(off, len, writable ? chain->writable_len : chain->readable_len))
		return -EBADMSG;
	for (; len > 0 && b < end; b++) {
		if (off >= b->len) {
			off -= b->len;
			continue;
		}
		n = (uint32_t)MIN(b->len - off, len);
		if (b->gpa > UINT64_MAX - b->len)
			return -EBADMSG;
		r = fn(b->gpa + off, n, data);
		if (r < 0)
			return r;
		len -= n;
		off = 0;
	}
	return 0;
}

struct copy {
	struct guest_mem *mem;
	uint8_t *to;
	const uint8_t *from;
};

static int copy_in(uint64_t gpa, uint32_t n, void *data)
{
	struct copy *c = data;

	if (guest_read(c->mem, gpa, c->to, n) < 0)
		return -EBADMSG;
	c->to += n;
	return 0;
}

static int copy_out(uint64_t gpa, uint32_t n, void *data)
{
	struct copy *c = data;

	if (guest_write(c->mem, gpa, c->from, n) < 0)
		return -EBADMSG;
	c->from += n;
	return 0;
}

int virtq_chain_read(const struct virtio_queue *q, const struct virtq_chain *chain, uint64_t off,
		     void *buf, size_t len)
{
	struct copy c = { .mem = q->dev->mem, .to = buf };

	return foreach_piece(chain, false, off, len, copy_in, &c);
}

int virtq_chain_write(const struct virtio_queue *q, const struct virtq_chain *chain, uint64_t off,
		      const void *buf, size_t len)
{
	struct copy c = { .mem = q->dev->mem, .from = buf };

	return foreach_piece(chain, true, off, len, copy_out, &c);
}

struct gather {
	const struct guest_mem *mem;
	struct iovec *iov;
	size_t max, *n;
};

static int gather_piece(uint64_t gpa, uint32_t n, void *data)
{
	struct gather *g = data;
	int r = guest_iov(g->mem, gpa, n, g->iov, g->max, g->n);

	return r == -EFAULT ? -EBADMSG : r;
}

int virtq_chain_iov(const struct virtio_queue *q, const struct virtq_chain *chain, bool writable,
		    uint64_t off, uint64_t len, struct iovec *iov, size_t max, size_t *n)
{
	struct gather g = { .mem = q->dev->mem, .iov = iov, .max = max, .n = n };

	return foreach_piece(chain, writable, off, len, gather_piece, &g);
}

static int take_gpa(uint64_t gpa, uint32_t n _unused_, void *data)
{
	*(uint64_t *)data = gpa;
	return 0;
}

int virtq_chain_gpa(const struct virtq_chain *chain, bool writable, uint64_t off, uint64_t *ret_gpa)
{
	return foreach_piece(chain, writable, off, 1, take_gpa, ret_gpa);
}
