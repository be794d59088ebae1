/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of malformed rings (what virtio 1.3, 2.7 forbids a driver)
 *
 * A table of cases: each starts from a running device with the well-formed chain in descriptors
 * 0..n-1 and head 0 about to be published, and breaks one thing.
 */
#include <stddef.h>

#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define WILD_PAGE   0xfffffffffffff000ULL
#define WILD_HIGH   (1ULL << 45)
#define WILD_SIGN   (1ULL << 63)
#define HOLE        0xe8000000ULL /* our ECAM: never RAM */
#define HEADER_DESC 0
#define DATA_DESC   0xfffe
#define LAST_DESC   0xffff
#define RAM_END     1 /* as an address: relative to the end of RAM */

struct ring_case {
	const char *name;
	void (*mangle)(struct victim *v, const struct ring_case *c);
	uint64_t value;
	uint32_t len;
	uint16_t which;
	bool indirect; /* negotiate the feature; the case is skipped where it is not offered */
};

static uint16_t pick(const struct victim *v, uint16_t which)
{
	return which == DATA_DESC ? v->data : which == LAST_DESC ? (uint16_t)(v->n - 1) : which;
}

static void loop_to_start(struct victim *v, const struct ring_case *c)
{
	struct virtq_desc *desc = &v->vq.desc[pick(v, c->which)];

	desc->flags |= VIRTQ_NEXT;
	desc->next = (uint16_t)c->value;
}

static void set_address(struct victim *v, const struct ring_case *c)
{
	v->vq.desc[pick(v, c->which)].addr = c->value == RAM_END ? platform_ram_end() : c->value;
}

static void set_range(struct victim *v, const struct ring_case *c)
{
	struct virtq_desc *desc = &v->vq.desc[v->data];

	if (c->value)
		desc->addr = c->value == RAM_END ? platform_ram_end() - 256 : c->value;
	desc->len = c->len;
}

/* a second payload descriptor like the first, so that the lengths add up to more than 32 bits */
static void sum_overflow(struct victim *v, const struct ring_case *c)
{
	struct virtq_desc *desc = &v->vq.desc[v->data];
	uint16_t extra = (uint16_t)(v->n + 1);

	v->vq.desc[extra] = *desc;
	v->vq.desc[extra].len = c->len;
	desc->len = c->len;
	desc->flags |= VIRTQ_NEXT;
	desc->next = extra;
}

static void set_head(struct victim *v, const struct ring_case *c)
{
	v->vq.avail->ring[0] = (uint16_t)(c->value ? c->value : v->vq.size);
	v->vq.avail->idx = 1;
}

static void set_next(struct victim *v, const struct ring_case *c)
{
	v->vq.desc[0].flags |= VIRTQ_NEXT;
	v->vq.desc[0].next = (uint16_t)(c->value ? c->value : v->vq.size);
}

static void jump(struct victim *v, const struct ring_case *c)
{
	v->vq.avail->idx = c->value ? (uint16_t)c->value : (uint16_t)(v->vq.size + 1);
}

/* moves the chain into a table that descriptor 0 refers to */
static struct virtq_desc *make_indirect(struct victim *v)
{
	struct virtq_desc *table = (struct virtq_desc *)(void *)(v->page + 2048);

	memcpy(table, v->vq.desc, v->n * sizeof(*table));
	v->vq.desc[0] = (struct virtq_desc){
		.addr = (uint64_t)table,
		.len = (uint32_t)(v->n * sizeof(*table)),
		.flags = VIRTQ_INDIRECT,
	};
	return table;
}

static void nested(struct victim *v, const struct ring_case *c)
{
	struct virtq_desc *table = make_indirect(v);

	table[pick(v, c->which)].flags |= VIRTQ_INDIRECT;
	table[pick(v, c->which)].addr = (uint64_t)table;
	table[pick(v, c->which)].len = sizeof(*table);
}

static void indirect_loop(struct victim *v, const struct ring_case *c)
{
	struct virtq_desc *table = make_indirect(v);

	table[v->n - 1].flags |= VIRTQ_NEXT;
	table[v->n - 1].next = (uint16_t)c->value;
}

static void indirect_length(struct victim *v, const struct ring_case *c)
{
	make_indirect(v);
	v->vq.desc[0].len = c->len;
}

static void indirect_address(struct victim *v, const struct ring_case *c)
{
	make_indirect(v);
	v->vq.desc[0].addr = c->value == RAM_END ? platform_ram_end() - 16 : c->value;
	if (c->len)
		v->vq.desc[0].len = c->len;
}

static void indirect_with_next(struct victim *v, const struct ring_case *c)
{
	(void)c;
	make_indirect(v);
	v->vq.desc[0].flags |= VIRTQ_NEXT;
	v->vq.desc[0].next = 1;
}

static void plain_indirect(struct victim *v, const struct ring_case *c)
{
	(void)c;
	make_indirect(v);
}

/* device-writable first, then one it is to read (2.7.4.2) */
static void wrong_order(struct victim *v, const struct ring_case *c)
{
	(void)c;
	v->vq.desc[0].flags = VIRTQ_WRITE | VIRTQ_NEXT;
	v->vq.desc[0].next = 1;
	if (v->n == 1)
		v->vq.desc[1] = v->vq.desc[0];
	v->vq.desc[1].flags = 0;
	if (v->n == 3) {
		v->vq.desc[1].flags = VIRTQ_NEXT;
		v->vq.desc[1].next = 2;
	}
}

static const struct ring_case loop_cases[] = {
	{ "last descriptor points to the first", loop_to_start, 0, 0, LAST_DESC, false },
	{ "first descriptor points to itself", loop_to_start, 0, 0, HEADER_DESC, false },
	{ 0 },
};

static const struct ring_case address_cases[] = {
	{ "payload at the top of the address space", set_address, WILD_PAGE, 0, DATA_DESC, false },
	{ "payload right behind RAM", set_address, RAM_END, 0, DATA_DESC, false },
	{ "payload at 32 TiB", set_address, WILD_HIGH, 0, DATA_DESC, false },
	{ "payload with bit 63", set_address, WILD_SIGN, 0, DATA_DESC, false },
	{ "payload in the hole", set_address, HOLE, 0, DATA_DESC, false },
	{ "first descriptor at the top", set_address, WILD_PAGE, 0, HEADER_DESC, false },
	{ "last descriptor at 32 TiB", set_address, WILD_HIGH, 0, LAST_DESC, false },
	{ 0 },
};

static const struct ring_case length_cases[] = {
	{ "length 0xffffffff", set_range, 0, 0xffffffff, 0, false },
	{ "range wraps around", set_range, WILD_PAGE, 0x2000, 0, false },
	{ "range crosses the end of RAM", set_range, RAM_END, 512, 0, false },
	{ "lengths add up to more than 4 GiB", sum_overflow, 0, 0xf0000000, 0, false },
	{ 0 },
};

static const struct ring_case index_cases[] = {
	{ "head equal to the queue size", set_head, 0, 0, 0, false },
	{ "head 0xffff", set_head, 0xffff, 0, 0, false },
	{ 0 },
};

static const struct ring_case next_cases[] = {
	{ "next equal to the queue size", set_next, 0, 0, 0, false },
	{ "next 0xffff", set_next, 0xffff, 0, 0, false },
	{ 0 },
};

static const struct ring_case jump_cases[] = {
	{ "avail index ahead by size + 1", jump, 0, 0, 0, false },
	{ "avail index ahead by 0x8000", jump, 0x8000, 0, 0, false },
	{ "avail index one back", jump, 0xffff, 0, 0, false },
	{ 0 },
};

static const struct ring_case nested_cases[] = {
	{ "indirect table inside an indirect table", nested, 0, 0, HEADER_DESC, true },
	{ "nested at the end of the table", nested, 0, 0, LAST_DESC, true },
	{ "loop inside the table", indirect_loop, 0, 0, 0, true },
	{ "next behind the end of the table", indirect_loop, 100, 0, 0, true },
	{ 0 },
};

static const struct ring_case indirect_cases[] = {
	{ "indirect length 0", indirect_length, 0, 0, 0, true },
	{ "indirect length 15", indirect_length, 0, 15, 0, true },
	{ "indirect length 24", indirect_length, 0, 24, 0, true },
	{ "indirect length 0xfffffff0", indirect_length, 0, 0xfffffff0, 0, true },
	{ "indirect table at the top of the address space", indirect_address, WILD_PAGE, 0, 0,
	  true },
	{ "indirect table across the end of RAM", indirect_address, RAM_END, 64, 0, true },
	{ "indirect and next together", indirect_with_next, 0, 0, 0, true },
	{ "indirect without the feature", plain_indirect, 0, 0, 0, false },
	{ 0 },
};

static const struct ring_case order_cases[] = {
	{ "readable after writable", wrong_order, 0, 0, 0, false },
	{ 0 },
};

static const struct ring_case *cases;

static void attack(struct victim *v)
{
	for (const struct ring_case *c = cases; c->name; c++) {
		if (!victim_start(v, c->indirect ? VIRTIO_F_INDIRECT_DESC : 0)) {
			check(false, "%s on %s: device starts", c->name, v->type->name);
			continue;
		}
		if (c->indirect && !(v->dev.features & VIRTIO_F_INDIRECT_DESC)) {
			info("%s on %s: VIRTIO_F_INDIRECT_DESC not offered", c->name,
			     v->type->name);
			continue;
		}
		c->mangle(v, c);
		/*
		 * Only now: a device may look at its queue without a doorbell, and would find
		 * the request still in order.  A case about the index has set it itself.
		 */
		if (v->vq.avail->idx == 0)
			virtqueue_publish(&v->vq, 0);
		victim_settle(v, c->name);
	}
}

static void run_cases(const struct ring_case *table)
{
	cases = table;
	victim_each(attack);
}

static void run_bad_loop(void)
{
	run_cases(loop_cases);
}

static void run_bad_addr(void)
{
	run_cases(address_cases);
}

static void run_bad_len(void)
{
	run_cases(length_cases);
}

static void run_bad_index(void)
{
	run_cases(index_cases);
}

static void run_bad_next(void)
{
	run_cases(next_cases);
}

static void run_bad_avail_jump(void)
{
	run_cases(jump_cases);
}

static void run_bad_indirect_nested(void)
{
	run_cases(nested_cases);
}

static void run_bad_indirect_size(void)
{
	run_cases(indirect_cases);
}

static void run_bad_rw_order(void)
{
	run_cases(order_cases);
}

const struct scenario ring_scenarios[] = {
	{ "bad-loop", run_bad_loop },
	{ "bad-addr", run_bad_addr },
	{ "bad-len", run_bad_len },
	{ "bad-index", run_bad_index },
	{ "bad-next", run_bad_next },
	{ "bad-avail-jump", run_bad_avail_jump },
	{ "bad-indirect-nested", run_bad_indirect_nested },
	{ "bad-indirect-size", run_bad_indirect_size },
	{ "bad-rw-order", run_bad_rw_order },
	{ 0 },
};
