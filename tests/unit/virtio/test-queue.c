/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split queue from both sides, on one thread: rings, chains, event index
 *
 * RAM has a hole, [HOLE, HOLE_END), so that ranges which leave RAM and chains
 * on both sides of it can be made.
 */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

#define SIZE     8U
#define HOLE     0x100000UL
#define HOLE_END 0x200000UL
#define RAM      0x200000UL
#define DESC     0x1000UL
#define AVAIL    0x2000UL
#define USED     0x3000UL
#define TABLE    0x4000UL
#define DATA     0x8000UL

#define NEXT     VIRTQ_DESC_F_NEXT
#define WRITE    VIRTQ_DESC_F_WRITE
#define INDIRECT VIRTQ_DESC_F_INDIRECT

struct fixture {
	struct guest_mem mem;
	struct virtio_device dev;
	struct virtio_queue q;
	unsigned int interrupts;
	uint16_t avail_idx;
};

static void queue_interrupt(void *transport, struct virtio_queue *q)
{
	struct fixture *f = transport;

	g_assert_true(q == &f->q);
	f->interrupts++;
}

static void config_interrupt(void *transport G_GNUC_UNUSED)
{
	g_assert_not_reached();
}

static const struct virtio_transport_ops transport = { queue_interrupt, config_interrupt };

static void start(struct fixture *f, uint64_t features)
{
	struct err err = { 0 };

	f->q.st.desc_gpa = DESC;
	f->q.st.avail_gpa = AVAIL;
	f->q.st.used_gpa = USED;
	f->q.st.size = SIZE;
	if (virtio_queue_start(&f->q, &f->mem, features, &err) < 0)
		g_error("%s", err.msg);
}

static void setup(struct fixture *f, uint64_t features)
{
	const struct guest_mem_params params = { .size = RAM,
						 .hole_start = HOLE,
						 .hole_end = HOLE_END };
	struct err err = { 0 };

	*f = (struct fixture){ 0 };
	f->dev.mem = &f->mem;
	f->dev.transport = &transport;
	f->dev.transport_data = f;
	if (guest_mem_init(&f->mem, NULL, &params, &err) < 0 ||
	    virtio_queue_init(&f->q, &f->dev, 3, 16, &err) < 0)
		g_error("%s", err.msg);
	start(f, features);
}

static void teardown(struct fixture *f)
{
	virtio_queue_deinit(&f->q);
	guest_mem_deinit(&f->mem);
}

static void put16(struct fixture *f, uint64_t gpa, uint16_t v)
{
	const le16 raw = le16_make(v);

	g_assert_cmpint(guest_write(&f->mem, gpa, &raw, sizeof(raw)), ==, 0);
}

static uint16_t get16(struct fixture *f, uint64_t gpa)
{
	le16 raw;

	g_assert_cmpint(guest_read(&f->mem, gpa, &raw, sizeof(raw)), ==, 0);
	return le16_get(raw);
}

static void put_desc(struct fixture *f, uint64_t table, uint16_t i, uint64_t gpa, uint32_t len,
		     uint16_t flags, uint16_t next)
{
	const struct virtq_desc d = { le64_make(gpa), le32_make(len), le16_make(flags),
				      le16_make(next) };

	g_assert_cmpint(guest_write(&f->mem, table + 16UL * i, &d, sizeof(d)), ==, 0);
}

static void publish(struct fixture *f, uint16_t head)
{
	put16(f, AVAIL + 4 + 2UL * (f->avail_idx % SIZE), head);
	put16(f, AVAIL + 2, ++f->avail_idx);
}

/* Both indices of both sides as if the queue had run this long. */
static void run_to(struct fixture *f, uint16_t idx)
{
	f->avail_idx = idx;
	f->q.st.next_avail = idx;
	f->q.st.next_used = idx;
	put16(f, AVAIL + 2, idx);
	put16(f, USED + 2, idx);
}

static void test_pop_chain(void)
{
	struct virtq_chain c = { 0 };
	struct fixture f;

	setup(&f, 0);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 0);
	g_assert_true(virtio_queue_empty(&f.q));
	put_desc(&f, DESC, 5, DATA, 16, NEXT, 2);
	put_desc(&f, DESC, 2, DATA + 64, 0, NEXT, 7); /* zero length is legal */
	put_desc(&f, DESC, 7, DATA + 128, 100, NEXT | WRITE, 0);
	put_desc(&f, DESC, 0, DATA + 256, 1, WRITE, 99); /* next without NEXT means nothing */
	publish(&f, 5);
	g_assert_false(virtio_queue_empty(&f.q));
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_cmpuint(c.head, ==, 5);
	g_assert_cmpuint(c.n_readable, ==, 2);
	g_assert_cmpuint(c.n_writable, ==, 2);
	g_assert_cmpuint(c.readable_len, ==, 16);
	g_assert_cmpuint(c.writable_len, ==, 101);
	g_assert_cmphex(c.bufs[2].gpa, ==, DATA + 128);
	g_assert_cmpuint(c.bufs[3].len, ==, 1);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 0);

	virtio_queue_unpop(&f.q);
	g_assert_false(virtio_queue_empty(&f.q));
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_cmpuint(c.head, ==, 5);
	teardown(&f);
}

static void test_push_notify(void)
{
	struct virtq_used_elem e;
	struct fixture f;

	setup(&f, 0);
	virtio_queue_notify(&f.q);
	g_assert_cmpuint(f.interrupts, ==, 0); /* nothing was pushed */
	virtio_queue_push(&f.q, 6, 0x12345);
	g_assert_cmpuint(get16(&f, USED + 2), ==, 0); /* not before notify */
	virtio_queue_push(&f.q, 1, 0);
	virtio_queue_notify(&f.q);
	g_assert_cmpuint(get16(&f, USED + 2), ==, 2);
	g_assert_cmpuint(f.interrupts, ==, 1);
	g_assert_cmpint(guest_read(&f.mem, USED + 4, &e, sizeof(e)), ==, 0);
	g_assert_cmpuint(le32_get(e.id), ==, 6);
	g_assert_cmphex(le32_get(e.len), ==, 0x12345);
	virtio_queue_notify(&f.q);
	g_assert_cmpuint(f.interrupts, ==, 1);

	put16(&f, AVAIL, VIRTQ_AVAIL_F_NO_INTERRUPT);
	virtio_queue_push(&f.q, 0, 0);
	virtio_queue_notify(&f.q);
	g_assert_cmpuint(f.interrupts, ==, 1);
	g_assert_cmpuint(get16(&f, USED + 2), ==, 3);
	teardown(&f);
}

static void test_wrap(void)
{
	struct virtq_chain c = { 0 };
	struct fixture f;

	setup(&f, 0);
	run_to(&f, 65534);
	for (uint16_t i = 0; i < 5; i++) {
		put_desc(&f, DESC, i, DATA, 1, 0, 0);
		publish(&f, i);
	}
	for (uint16_t i = 0; i < 5; i++) {
		g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
		g_assert_cmpuint(c.head, ==, i);
		virtio_queue_push(&f.q, c.head, 0);
	}
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 0);
	virtio_queue_notify(&f.q);
	g_assert_cmpuint(get16(&f, USED + 2), ==, 3);
	g_assert_cmpuint(get16(&f, USED + 4 + 8 * (65534 % SIZE)), ==, 0);
	g_assert_cmpuint(get16(&f, USED + 4 + 8 * 2), ==, 4);
	virtio_queue_unpop(&f.q);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_cmpuint(c.head, ==, 4);
	teardown(&f);
}

/* 2.7.10: interrupt when used_event is in [old, new), modulo 2^16. */
static void test_used_event(void)
{
	static const struct {
		const char *name;
		uint16_t old, n, event;
		bool interrupt;
	} cases[] = {
		{ "first of a batch", 10, 3, 10, true },
		{ "last of a batch", 10, 3, 12, true },
		{ "not yet", 10, 3, 13, false },
		{ "long ago", 10, 3, 9, false },
		{ "last before the wrap", 65534, 3, 65535, true },
		{ "first after the wrap", 65534, 3, 0, true },
		{ "not yet, over the wrap", 65534, 3, 1, false },
		{ "long ago, over the wrap", 65534, 3, 65533, false },
		{ "ends at zero", 65535, 1, 65535, true },
		{ "far away", 0, 1, 0x8000, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		unsigned int before;
		struct fixture f;

		g_test_message("%s", cases[i].name);
		setup(&f, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
		run_to(&f, (uint16_t)(cases[i].old - 1));
		put16(&f, AVAIL + 4 + 2 * SIZE, 0x4000);
		put16(&f, AVAIL, VIRTQ_AVAIL_F_NO_INTERRUPT); /* 2.7.7.1: not looked at */
		virtio_queue_push(&f.q, 0, 0);
		virtio_queue_notify(&f.q);
		g_assert_cmpuint(f.interrupts, ==, 1); /* the first one always interrupts */
		before = f.interrupts;
		put16(&f, AVAIL + 4 + 2 * SIZE, cases[i].event);
		for (uint16_t n = 0; n < cases[i].n; n++)
			virtio_queue_push(&f.q, 0, 0);
		virtio_queue_notify(&f.q);
		g_assert_cmpuint(f.interrupts - before, ==, cases[i].interrupt);
		teardown(&f);
	}
}

static void test_kicks(void)
{
	struct virtq_chain c = { 0 };
	struct fixture f;

	setup(&f, 0);
	virtio_queue_kicks_off(&f.q);
	g_assert_cmpuint(get16(&f, USED), ==, VIRTQ_USED_F_NO_NOTIFY);
	g_assert_false(virtio_queue_kicks_on(&f.q));
	g_assert_cmpuint(get16(&f, USED), ==, 0);
	put_desc(&f, DESC, 0, DATA, 1, 0, 0);
	publish(&f, 0);
	g_assert_true(virtio_queue_kicks_on(&f.q));
	teardown(&f);

	setup(&f, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	run_to(&f, 65535);
	virtio_queue_kicks_off(&f.q);
	g_assert_cmpuint(get16(&f, USED), ==, 0); /* 2.7.10.1: the flag stays clear */
	g_assert_false(virtio_queue_kicks_on(&f.q));
	g_assert_cmpuint(get16(&f, USED + 4 + 8 * SIZE), ==, 65535);
	put_desc(&f, DESC, 0, DATA, 1, 0, 0);
	publish(&f, 0);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_false(virtio_queue_kicks_on(&f.q));
	g_assert_cmpuint(get16(&f, USED + 4 + 8 * SIZE), ==, 0);
	teardown(&f);
}

struct bad_desc {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

/* One or more descriptors of the ring from 0, and of the indirect table. */
static void test_malformed(void)
{
	static const struct {
		const char *rule;
		bool no_indirect;
		uint16_t head;
		struct bad_desc ring[3], table[3];
	} cases[] = {
		{ "2.7.6: the head is an index of the table", .head = SIZE },
		{ "2.7.5: next is an index of the table", .ring = { { DATA, 1, NEXT, SIZE } } },
		{ "2.7.5.3: no loops", .ring = { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 0 } } },
		{ "2.7.5.3: no loop of one", .ring = { { DATA, 1, NEXT | WRITE, 0 } } },
		{ "2.7.4.2: readable buffers come first",
		  .ring = { { DATA, 1, NEXT | WRITE, 1 }, { DATA, 1, 0, 0 } } },
		{ "2.7.5: a buffer is in RAM: above", .ring = { { 0x10000000, 1, 0, 0 } } },
		{ "2.7.5: a buffer is in RAM: in the hole", .ring = { { HOLE, 1, 0, 0 } } },
		{ "2.7.5: a buffer is in RAM: into the hole", .ring = { { HOLE - 4, 5, 0, 0 } } },
		{ "2.7.5: a buffer is in RAM: wraps", .ring = { { UINT64_MAX - 1, 16, 0, 0 } } },
		{ "2.7.5.3.1: INDIRECT was not negotiated", true,
		  .ring = { { TABLE, 16, INDIRECT, 0 } }, .table = { { DATA, 1, 0, 0 } } },
		{ "2.7.5.3.1: INDIRECT and NEXT exclude each other",
		  .ring = { { TABLE, 16, INDIRECT | NEXT, 1 }, { DATA, 1, 0, 0 } },
		  .table = { { DATA, 1, 0, 0 } } },
		{ "2.7.5.3.1: no table in a table", .ring = { { TABLE, 16, INDIRECT, 0 } },
		  .table = { { TABLE, 16, INDIRECT, 0 } } },
		{ "2.7.5.3: a table has an entry", .ring = { { TABLE, 0, INDIRECT, 0 } } },
		{ "2.7.5.3: a table has whole entries", .ring = { { TABLE, 24, INDIRECT, 0 } },
		  .table = { { DATA, 1, 0, 0 } } },
		{ "2.7.5.3.1: a table is no longer than the queue",
		  .ring = { { TABLE, 16 * (SIZE + 1), INDIRECT, 0 } },
		  .table = { { DATA, 1, 0, 0 } } },
		{ "2.7.5.3: next is an index of the indirect table",
		  .ring = { { TABLE, 32, INDIRECT, 0 } }, .table = { { DATA, 1, NEXT, 2 } } },
		{ "2.7.5.3: no loop in a table", .ring = { { TABLE, 32, INDIRECT, 0 } },
		  .table = { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 0 } } },
		{ "2.7.5.3: a table is in RAM", .ring = { { HOLE, 16, INDIRECT, 0 } } },
		{ "2.7.5.3: a table does not wrap",
		  .ring = { { UINT64_MAX - 15, 32, INDIRECT, 0 } } },
		{ "2.7.5.3.1: no chain longer than the queue: a buffer, then a full table",
		  .ring = { { DATA, 1, NEXT, 1 }, { TABLE, 32, INDIRECT, 0 } },
		  .table = { { DATA, 1, NEXT, 1 }, { DATA, 1, NEXT, 1 } } },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct virtq_chain c = { .head = 77 };
		struct fixture f;

		g_test_message("%s", cases[i].rule);
		setup(&f, cases[i].no_indirect ? 0 : VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
		for (uint16_t d = 0; d < 3; d++) {
			const struct bad_desc *r = &cases[i].ring[d], *t = &cases[i].table[d];

			put_desc(&f, DESC, d, r->gpa, r->len, r->flags, r->next);
			put_desc(&f, TABLE, d, t->gpa, t->len, t->flags, t->next);
		}
		publish(&f, cases[i].head);
		g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, -EBADMSG);
		g_assert_cmpuint(c.head, ==, 77); /* untouched */
		g_assert_cmpuint(f.q.st.next_avail, ==, 0);
		teardown(&f);
	}
}

/* 2.7.13.3: the driver may not be further ahead than the queue is long. */
static void test_avail_idx_too_far(void)
{
	struct virtq_chain c = { 0 };
	struct fixture f;

	setup(&f, 0);
	put_desc(&f, DESC, 0, DATA, 1, 0, 0);
	put16(&f, AVAIL + 2, SIZE + 1);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, -EBADMSG);
	put16(&f, AVAIL + 2, 0xffff); /* backwards */
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, -EBADMSG);
	put16(&f, AVAIL + 2, SIZE);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	teardown(&f);
}

static void test_indirect(void)
{
	struct virtq_chain c = { 0 };
	struct fixture f;

	setup(&f, VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	/* 2.7.5.3.2: WRITE of the descriptor that refers to a table is ignored. */
	put_desc(&f, DESC, 4, TABLE, 16 * SIZE, INDIRECT | WRITE, 0);
	for (uint16_t i = 0; i < SIZE; i++)
		put_desc(&f, TABLE, i, DATA + i, 1,
			 (uint16_t)((i + 1U < SIZE ? NEXT : 0) | (i > 1 ? WRITE : 0)),
			 (uint16_t)(i + 1));
	publish(&f, 4);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_cmpuint(c.head, ==, 4);
	g_assert_cmpuint(c.n_readable, ==, 2);
	g_assert_cmpuint(c.n_writable, ==, SIZE - 2);

	/* After a buffer of the ring's own. */
	put_desc(&f, DESC, 0, DATA, 8, NEXT, 4);
	put_desc(&f, DESC, 4, TABLE, 16, INDIRECT, 0);
	put_desc(&f, TABLE, 0, DATA + 8, 8, WRITE, 0);
	publish(&f, 0);
	g_assert_cmpint(virtio_queue_pop(&f.q, &c), ==, 1);
	g_assert_cmpuint(c.readable_len, ==, 8);
	g_assert_cmpuint(c.writable_len, ==, 8);
	teardown(&f);
}

/* Readable: 3 + 0 + 5 bytes on both sides of the hole; writable: 4 + 4. */
static void push_split(struct fixture *f, struct virtq_chain *c)
{
	put_desc(f, DESC, 0, HOLE - 3, 3, NEXT, 1);
	put_desc(f, DESC, 1, DATA, 0, NEXT, 2);
	put_desc(f, DESC, 2, HOLE_END, 5, NEXT, 3);
	put_desc(f, DESC, 3, HOLE - 16, 4, NEXT | WRITE, 4);
	put_desc(f, DESC, 4, HOLE_END + 16, 4, WRITE, 0);
	publish(f, 0);
	g_assert_cmpint(guest_write(&f->mem, HOLE - 3, "abc", 3), ==, 0);
	g_assert_cmpint(guest_write(&f->mem, HOLE_END, "defgh", 5), ==, 0);
	g_assert_cmpint(virtio_queue_pop(&f->q, c), ==, 1);
}

struct server {
	struct fixture *f;
	unsigned int taken, more; /* more: the driver makes another one available meanwhile */
	int fail;
};

static int serve_one(struct virtio_queue *q, void *data)
{
	struct server *s = data;
	struct virtq_chain chain;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	if (s->fail)
		return s->fail;
	s->taken++;
	virtio_queue_push(q, chain.head, 0);
	if (s->more && s->more--)
		publish(s->f, chain.head);
	return 1;
}

static void test_serve(void)
{
	struct fixture f;
	struct server s = { .f = &f };

	setup(&f, 0);
	put_desc(&f, DESC, 0, DATA, 64, 0, 0);
	/* nothing there: doorbells are wanted, and nobody is interrupted */
	g_assert_cmpint(virtio_queue_serve(&f.q, serve_one, &s), ==, 0);
	g_assert_cmphex(get16(&f, USED), ==, 0);
	g_assert_cmpuint(f.interrupts, ==, 0);
	/* what comes in meanwhile is served too, with one interrupt */
	publish(&f, 0);
	s.more = 2;
	g_assert_cmpint(virtio_queue_serve(&f.q, serve_one, &s), ==, 0);
	g_assert_cmpuint(s.taken, ==, 3);
	g_assert_cmphex(get16(&f, USED), ==, 0);
	g_assert_cmpuint(get16(&f, USED + 2), ==, 3);
	g_assert_cmpuint(f.interrupts, ==, 1);
	g_assert_false(eventfd_take(f.q.kick_fd));
	/* a driver that never rests: others get a turn, and it is not forgotten */
	s = (struct server){ .f = &f, .more = UINT_MAX };
	publish(&f, 0);
	g_assert_cmpint(virtio_queue_serve(&f.q, serve_one, &s), ==, 0);
	g_assert_cmpuint(s.taken, ==, VIRTQ_SERVE_BUDGET);
	g_assert_cmpuint(f.interrupts, ==, 2);
	g_assert_true(eventfd_take(f.q.kick_fd));
	/* a mistake: what was answered before is announced, and there is no next time */
	s.fail = -EIO;
	g_assert_cmpint(virtio_queue_serve(&f.q, serve_one, &s), ==, -EIO);
	s.fail = 0;
	s.more = 0;
	put_desc(&f, DESC, 1, 1UL << 40, 64, 0, 0);
	publish(&f, 0);
	publish(&f, 1);
	g_assert_cmpint(virtio_queue_serve(&f.q, serve_one, &s), ==, -EBADMSG);
	g_assert_cmpuint(s.taken, ==, VIRTQ_SERVE_BUDGET + 1);
	g_assert_cmpuint(f.interrupts, ==, 3);
	g_assert_false(eventfd_take(f.q.kick_fd));
	teardown(&f);
}

static void test_chain_helpers(void)
{
	const char text[] = "abcdefgh";
	struct virtq_chain c = { 0 };
	struct iovec iov[4];
	uint64_t gpa = 0;
	uint8_t buf[16];
	struct fixture f;
	size_t n = 0;

	setup(&f, 0);
	push_split(&f, &c);
	for (size_t off = 0; off <= 8; off++)
		for (size_t len = 0; off + len <= 8; len++) {
			memset(buf, '.', sizeof(buf));
			g_assert_cmpint(virtq_chain_read(&f.q, &c, off, buf, len), ==, 0);
			g_assert_cmpmem(buf, len, text + off, len);
			g_assert_cmpint(buf[len], ==, '.');
		}
	g_assert_cmpint(virtq_chain_read(&f.q, &c, 8, buf, 1), ==, -EBADMSG);
	g_assert_cmpint(virtq_chain_read(&f.q, &c, UINT64_MAX, buf, 2), ==, -EBADMSG);

	g_assert_cmpint(virtq_chain_write(&f.q, &c, 2, "1234", 4), ==, 0);
	g_assert_cmpint(virtq_chain_write(&f.q, &c, 5, "1234", 4), ==, -EBADMSG);
	g_assert_cmpint(guest_read(&f.mem, HOLE - 14, buf, 2), ==, 0);
	g_assert_cmpint(guest_read(&f.mem, HOLE_END + 16, buf + 2, 2), ==, 0);
	g_assert_cmpmem(buf, 4, "1234", 4);

	g_assert_cmpint(virtq_chain_iov(&f.q, &c, false, 1, 6, iov, 4, &n), ==, 0);
	g_assert_cmpuint(n, ==, 2);
	g_assert_cmpuint(iov[0].iov_len, ==, 2);
	g_assert_cmpuint(iov[1].iov_len, ==, 4);
	g_assert_cmpmem(iov[1].iov_base, 4, "defg", 4);
	g_assert_cmpint(virtq_chain_iov(&f.q, &c, true, 0, 8, iov, 3, &n), ==, -ENOBUFS);
	n = 0;
	g_assert_cmpint(virtq_chain_iov(&f.q, &c, true, 1, 8, iov, 4, &n), ==, -EBADMSG);
	g_assert_cmpuint(n, ==, 0);

	g_assert_cmpint(virtq_chain_gpa(&c, true, 7, &gpa), ==, 0);
	g_assert_cmphex(gpa, ==, HOLE_END + 19);
	g_assert_cmpint(virtq_chain_gpa(&c, false, 3, &gpa), ==, 0);
	g_assert_cmphex(gpa, ==, HOLE_END);
	g_assert_cmpint(virtq_chain_gpa(&c, true, 8, &gpa), ==, -EBADMSG);
	teardown(&f);
}

static void test_start_refused(void)
{
	static const struct {
		uint64_t desc, avail, used;
		uint16_t size;
		const char *msg;
	} cases[] = {
		{ DESC + 8, AVAIL, USED, SIZE,
		  "queue 3: the descriptor table at 0x1008 (128 bytes) is not in RAM or not aligned "
		  "to 16" },
		{ DESC, AVAIL + 1, USED, SIZE,
		  "queue 3: the available ring at 0x2001 (22 bytes) is not in RAM or not aligned "
		  "to 2" },
		{ DESC, AVAIL, USED + 2, SIZE,
		  "queue 3: the used ring at 0x3002 (70 bytes) is not in RAM or not aligned to 4" },
		{ HOLE - 64, AVAIL, USED, SIZE,
		  "queue 3: the descriptor table at 0xfffc0 (128 bytes) is not in RAM or not "
		  "aligned to 16" },
		{ DESC, AVAIL, ~7ULL, SIZE,
		  "queue 3: the used ring at 0xfffffffffffffff8 (70 bytes) is not in RAM or not "
		  "aligned to 4" },
		{ DESC, AVAIL, USED, 6, "queue 3: size 6 is not a power of two up to 16" },
		{ DESC, AVAIL, USED, 32, "queue 3: size 32 is not a power of two up to 16" },
		{ DESC, AVAIL, USED, 0, "queue 3: size 0 is not a power of two up to 16" },
	};
	struct fixture f;

	setup(&f, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };

		virtio_queue_reset(&f.q);
		g_assert_cmpuint(f.q.st.size, ==, 16);
		g_assert_cmpuint(f.q.st.vector, ==, VIRTIO_NO_VECTOR);
		f.q.st.desc_gpa = cases[i].desc;
		f.q.st.avail_gpa = cases[i].avail;
		f.q.st.used_gpa = cases[i].used;
		f.q.st.size = cases[i].size;
		g_assert_cmpint(virtio_queue_start(&f.q, &f.mem, 0, &err), ==, -EBADMSG);
		g_assert_cmpstr(err.msg, ==, cases[i].msg);
		g_assert_null(f.q.desc);
	}
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/queue/pop/chain", test_pop_chain);
	g_test_add_func("/virtio/queue/pop/indirect", test_indirect);
	g_test_add_func("/virtio/queue/pop/malformed", test_malformed);
	g_test_add_func("/virtio/queue/pop/avail-idx-too-far", test_avail_idx_too_far);
	g_test_add_func("/virtio/queue/push-notify", test_push_notify);
	g_test_add_func("/virtio/queue/wrap", test_wrap);
	g_test_add_func("/virtio/queue/notify/used-event", test_used_event);
	g_test_add_func("/virtio/queue/kicks", test_kicks);
	g_test_add_func("/virtio/queue/serve", test_serve);
	g_test_add_func("/virtio/queue/chain-helpers", test_chain_helpers);
	g_test_add_func("/virtio/queue/start/refused", test_start_refused);
	return g_test_run();
}
