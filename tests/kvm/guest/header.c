/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario of requests whose ring is right and whose device header is not (virtio 1.3, 5.1.6
 * and 5.2.6)
 *
 * Some cases are odd but legal, because framing must not matter (2.7.4): those must succeed.
 */
#include <stddef.h>

#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define ODD_TYPE     0x7777
#define WAIT_MS      1000
#define ANY          0xff /* status: whatever but success */
#define EITHER       0xfe /* as good as a request without data, or refused */
#define BIG_SEGMENTS 12
#define BIG_SEGMENT  8192

struct part {
	uint32_t offset, len;
	bool write;
};

struct header_case {
	const char *name;
	uint32_t type;
	uint64_t sector;
	uint8_t status; /* wanted, or ANY or EITHER; with these DEVICE_NEEDS_RESET is fine, too */
	uint8_t n;
	struct part parts[5];
};

/* clang-format off */
#define HDR(o, l)  { (o), (l), false }
#define OUT(l)	   { VICTIM_DATA, (l), false }
#define IN(l)	   { VICTIM_DATA, (l), true }
#define STATUS	   { VICTIM_STATUS, 1, true }

static const struct header_case blk_cases[] = {
	{ "header of 15 bytes", BLK_T_IN, 0, ANY, 3, { HDR(0, 15), IN(512), STATUS } },
	{ "header of 1 byte", BLK_T_IN, 0, ANY, 3, { HDR(0, 1), IN(512), STATUS } },
	{ "no header", BLK_T_IN, 0, ANY, 2, { IN(512), STATUS } },
	{ "no writable descriptor", BLK_T_IN, 0, ANY, 1, { HDR(0, 16) } },
	{ "write without a status byte", BLK_T_OUT, 0, ANY, 2, { HDR(0, 16), OUT(512) } },
	{ "unknown type", ODD_TYPE, 0, BLK_S_UNSUPP, 2, { HDR(0, 16), STATUS } },
	{ "unknown type with data", ODD_TYPE, 0, BLK_S_UNSUPP, 3, { HDR(0, 16), IN(512), STATUS } },
	{ "sector that overflows", BLK_T_IN, 1ULL << 55, BLK_S_IOERR, 3,
	  { HDR(0, 16), IN(512), STATUS } },
	{ "last sector number", BLK_T_IN, ~0ULL, BLK_S_IOERR, 3, { HDR(0, 16), IN(512), STATUS } },
	{ "length not a multiple of 512", BLK_T_IN, 0, ANY, 3, { HDR(0, 16), IN(511), STATUS } },
	{ "write with its data writable", BLK_T_OUT, 0, EITHER, 3, { HDR(0, 16), IN(512), STATUS } },
	{ "read with its data readable", BLK_T_IN, 0, EITHER, 3, { HDR(0, 16), OUT(512), STATUS } },
	{ "header in two parts (legal)", BLK_T_IN, 0, BLK_S_OK, 4,
	  { HDR(0, 1), HDR(1, 15), IN(512), STATUS } },
	{ "data in odd parts (legal)", BLK_T_IN, 0, BLK_S_OK, 4,
	  { HDR(0, 16), IN(13), { 2048, 499, true }, STATUS } },
	{ "data and status in one part (legal)", BLK_T_IN, 0, BLK_S_OK, 2,
	  { HDR(0, 16), { VICTIM_STATUS - 512, 513, true } } },
};
/* clang-format on */

static void load_chain(struct victim *v, const struct part *parts, unsigned int n)
{
	for (uint16_t i = 0; i < n; i++)
		v->vq.desc[i] = (struct virtq_desc){
			.addr = (uint64_t)v->page + parts[i].offset,
			.len = parts[i].len,
			.flags = (uint16_t)((parts[i].write ? VIRTQ_WRITE : 0) |
					    (i + 1U < n ? VIRTQ_NEXT : 0)),
			.next = (uint16_t)(i + 1),
		};
}

static void blk_case(struct victim *v, const struct header_case *c)
{
	struct blk_header *header = (struct blk_header *)(void *)v->page;
	enum virtio_outcome outcome;
	uint8_t status;
	bool good;

	if (!check(victim_start(v, 0), "%s: device starts", c->name))
		return;
	*header = (struct blk_header){ .type = c->type, .sector = c->sector };
	load_chain(v, c->parts, c->n);
	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	outcome = virtio_wait(&v->dev, &v->vq, WAIT_MS);
	status = *(volatile uint8_t *)&v->page[VICTIM_STATUS];
	info("%s on blk: %s, status byte 0x%x", c->name,
	     outcome == OUTCOME_USED          ? "completed"
	     : outcome == OUTCOME_NEEDS_RESET ? "needs reset"
					      : "no reaction",
	     status);
	if (c->status == EITHER)
		good = outcome != OUTCOME_NOTHING;
	else if (c->status == ANY)
		good = outcome == OUTCOME_NEEDS_RESET ||
		       (outcome == OUTCOME_USED && status != BLK_S_OK);
	else
		good = outcome == OUTCOME_USED && status == c->status;
	check(good || (arg_u64("lenient", 0) && c->status == ANY), "%s on blk", c->name);
	victim_recovers(v, c->name);
}

/* net: what a transmit header can get wrong. No outcome is wrong but a device that stays broken. */

struct net_case {
	const char *name;
	uint8_t header[12]; /* flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, buffers
			     */
	uint8_t n;
	struct part parts[3];
};

static const struct net_case net_cases[] = {
	{ "header of 5 bytes and nothing else", { 0 }, 1, { { 0, 5, false } } },
	{ "header alone", { 0 }, 1, { { 0, 12, false } } },
	{ "frame of 1 byte", { 0 }, 2, { { 0, 12, false }, { VICTIM_DATA, 1, false } } },
	{ "empty descriptor first", { 0 }, 3, { { 0, 0, false }, { 0, 12, false }, OUT(60) } },
	{ "unknown gso_type", { 0, 0x7f }, 2, { { 0, 12, false }, OUT(60) } },
	{ "TSO with gso_size 0",
	  { 1, 1, 54, 0, 0, 0, 34, 0, 16 },
	  2,
	  { { 0, 12, false }, OUT(60) } },
	{ "checksum behind the frame",
	  { 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff },
	  2,
	  { { 0, 12, false }, OUT(60) } },
	{ "hdr_len behind the frame",
	  { 0, 1, 0xff, 0xff, 1, 0, 34, 0, 16 },
	  2,
	  { { 0, 12, false }, OUT(60) } },
	{ "writable buffer on the transmit queue", { 0 }, 2, { { 0, 12, false }, IN(60) } },
};

static void net_settle(struct victim *v, const char *name)
{
	enum virtio_outcome outcome;

	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	outcome = virtio_wait(&v->dev, &v->vq, WAIT_MS);
	check(outcome != OUTCOME_NOTHING || arg_u64("lenient", 0), "%s on net: %s", name,
	      outcome == OUTCOME_USED          ? "completed"
	      : outcome == OUTCOME_NEEDS_RESET ? "needs reset"
					       : "no reaction");
	victim_recovers(v, name);
}

static void net_oversize(struct victim *v)
{
	if (!check(victim_start(v, 0), "oversize chain: device starts"))
		return;
	memset(v->page, 0, 12);
	/* more than 64 KiB, all of it the same two pages of RAM behind the image */
	for (uint16_t i = 0; i < BIG_SEGMENTS; i++)
		v->vq.desc[i] = (struct virtq_desc){
			.addr = (uint64_t)v->page,
			.len = BIG_SEGMENT,
			.flags = i + 1 < BIG_SEGMENTS ? VIRTQ_NEXT : 0,
			.next = (uint16_t)(i + 1),
		};
	net_settle(v, "chain of 96 KiB");
}

static void attack(struct victim *v)
{
	unsigned int first = (unsigned int)arg_u64("first", 0);

	if (v->type->device == VIRTIO_BLK)
		for (unsigned int i = first; i < sizeof(blk_cases) / sizeof(blk_cases[0]); i++)
			blk_case(v, &blk_cases[i]);
	if (v->type->device != VIRTIO_NET)
		return;
	for (unsigned int i = first; i < sizeof(net_cases) / sizeof(net_cases[0]); i++) {
		if (!check(victim_start(v, 0), "%s: device starts", net_cases[i].name))
			continue;
		memcpy(v->page, net_cases[i].header, sizeof(net_cases[i].header));
		load_chain(v, net_cases[i].parts, net_cases[i].n);
		net_settle(v, net_cases[i].name);
	}
	net_oversize(v);
}

static void run_bad_header(void)
{
	victim_each(attack);
}

const struct scenario header_scenarios[] = {
	{ "bad-header", run_bad_header },
	{ 0 },
};
