/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of requests whose ring is right and whose contents are not, device by device: vsock,
 * balloon, pmem, iommu and clock (virtio 1.3, 5.10, 5.5, 5.19, 5.13, 5.23). header.c has blk and
 * net.
 *
 * A case is the victim's good request with some bytes changed, and what the specification wants: a
 * status, silence, an answer, or DEVICE_NEEDS_RESET. After each the device works again.
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define WAIT_MS 5000
#define PAGE    4096U
#define POKES   4
#define NO_PART 0xffffU

enum {
	BREAKS = -1, /* DEVICE_NEEDS_RESET */
	TAKEN = -2,  /* completed, and there is no status to look at */
	RST = -3,    /* vsock: taken and answered so */
};

/* stand for numbers that are known at run time only */
enum {
	OWN = 0xf0000000U, /* + n: number of the n-th page behind our own */
	BEHIND = 0xf1000000U,
	IN_PMEM = 0xf2000000U,
};

struct poke {
	uint16_t at;
	uint8_t size;
	uint64_t value;
};

struct misuse {
	const char *name;
	int want;
	struct poke pokes[POKES];
	uint32_t readable, writable; /* lengths; 0: as they are */
};

static uint64_t meant(const struct victim *v, uint64_t value)
{
	struct virtio_device pmem;

	if ((value & ~0xffULL) == OWN)
		return (uint64_t)v->page / PAGE + 1 + (value & 0xff);
	if (value == BEHIND)
		return platform_ram_end() / PAGE;
	if (value == IN_PMEM && virtio_find(VIRTIO_PMEM, 0, &pmem))
		return *(volatile uint64_t *)pmem.region[REGION_CONFIG] / PAGE;
	return value;
}

static void change(struct victim *v, const struct misuse *m)
{
	v->type->build(v);
	for (unsigned int i = 0; i < POKES; i++) {
		uint64_t value = meant(v, m->pokes[i].value);

		memcpy(v->page + m->pokes[i].at, &value, m->pokes[i].size);
	}
	if (m->readable)
		v->vq.desc[0].len = m->readable;
	if (m->writable)
		v->vq.desc[v->n - 1].len = m->writable;
	if (m->readable == NO_PART) { /* the answer alone */
		v->vq.desc[0] = v->vq.desc[v->n - 1];
		v->vq.desc[0].flags = VIRTQ_WRITE;
	}
	if (m->writable == NO_PART)
		v->vq.desc[0].flags = 0;
}

static enum virtio_outcome submit(struct victim *v)
{
	enum virtio_outcome outcome;

	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	outcome = virtio_wait(&v->dev, &v->vq, WAIT_MS);
	if (outcome == OUTCOME_USED)
		v->vq.last_used++;
	return outcome;
}

static bool is_broken(void *arg)
{
	return virtio_status(arg) & VIRTIO_NEEDS_RESET;
}

/* @status: where the device puts it */
static void check_case(struct victim *v, const struct misuse *m, uint32_t status)
{
	enum virtio_outcome outcome;

	if (!check(victim_start(v, 0), "%s on %s: device starts", m->name, v->type->name))
		return;
	change(v, m);
	outcome = submit(v);
	if (m->want == BREAKS)
		check_eq(outcome, OUTCOME_NEEDS_RESET, "%s on %s", m->name, v->type->name);
	else if (check_eq(outcome, OUTCOME_USED, "%s on %s is answered", m->name, v->type->name) &&
		 m->want >= 0)
		check_eq(v->page[status], (uint64_t)m->want, "%s on %s", m->name, v->type->name);
	victim_recovers(v, m->name);
}

#define N(cases) (sizeof(cases) / sizeof((cases)[0]))

/* vsock */

#define VSOCK_PORT 1024
#define VSOCK_RX   2048 /* in the page: a buffer for answers */

static const struct misuse vsock_cases[] = {
	{ "a forged source", TAKEN, { { 0, 8, 9 }, { 30, 2, 5 } } },
	{ "the host as the source", TAKEN, { { 0, 8, 2 }, { 30, 2, 5 } } },
	{ "a source above 32 bits", TAKEN, { { 4, 4, 1 }, { 30, 2, 5 } } },
	{ "a stranger as the destination", TAKEN, { { 8, 8, 4 }, { 30, 2, 5 } } },
	{ "a destination above 32 bits", TAKEN, { { 12, 4, 1 }, { 30, 2, 5 } } },
	{ "RST of an unknown type", TAKEN, { { 28, 2, 9 } } },
	{ "an unknown operation", RST, { { 30, 2, 0x7777 } } },
	{ "operation 0", RST, { { 30, 2, 0 } } },
	{ "an unknown type", RST, { { 28, 2, 9 }, { 30, 2, 1 } } },
	{ "SEQPACKET, which was not negotiated", RST, { { 28, 2, 2 }, { 30, 2, 1 } } },
	{ "RESPONSE to nothing", RST, { { 30, 2, 2 } } },
	{ "SHUTDOWN of nothing with unknown flags", RST, { { 30, 2, 4 }, { 32, 4, ~0U } } },
	{ "data for nobody", RST, { { 30, 2, 5 }, { 24, 4, 16 } }, .readable = 60 },
	{ "forged credit of nobody", RST, { { 30, 2, 6 }, { 36, 8, ~0ULL } } },
	{ "a request with a payload", RST, { { 30, 2, 1 }, { 24, 4, 16 } }, .readable = 60 },
	{ "a length of 4 GiB", BREAKS, { { 30, 2, 5 }, { 24, 4, ~0U } } },
	{ "a length behind the request", BREAKS, { { 30, 2, 5 }, { 24, 4, 17 } }, .readable = 60 },
	{ "a payload of more than 64 KiB",
	  BREAKS,
	  { { 30, 2, 5 }, { 24, 4, 65537 } },
	  .readable = 44 + 65537 },
	{ "a header of 43 bytes", BREAKS, { { 30, 2, 1 } }, .readable = 43 },
	{ "a header of one byte", BREAKS, { { 30, 2, 1 } }, .readable = 1 },
	{ "a header that is writable", BREAKS, { { 30, 2, 1 } }, .readable = NO_PART },
};

/* the port that the first packet for us is about; 0: it is no RST, or none came */
static uint32_t reset_port(struct victim *v)
{
	const uint8_t *packet = v->page + VSOCK_RX;
	uint32_t port;

	if (virtio_wait(&v->dev, &v->other, WAIT_MS) != OUTCOME_USED || packet[30] != 3)
		return 0;
	memcpy(&port, packet + 20, sizeof(port));
	return port;
}

static void vsock_case(struct victim *v, const struct misuse *m)
{
	const struct segment rx = { v->page + VSOCK_RX, 512, true };
	static const struct misuse sure = { "", RST, { { 30, 2, 5 }, { 16, 4, VSOCK_PORT + 1 } } };
	enum virtio_outcome outcome;

	if (!check(victim_start(v, 0), "%s on vsock: device starts", m->name))
		return;
	virtqueue_add(&v->other, &rx, 1);
	virtqueue_kick(&v->other);
	change(v, m);
	outcome = submit(v);
	if (m->want == BREAKS) {
		check_eq(outcome, OUTCOME_NEEDS_RESET, "%s on vsock", m->name);
	} else {
		check_eq(outcome, OUTCOME_USED, "%s on vsock is taken", m->name);
		/* whatever is not answered is followed by what is */
		change(v, &sure);
		submit(v);
		check_eq(reset_port(v), m->want == RST ? VSOCK_PORT : VSOCK_PORT + 1,
			 "%s on vsock: who hears of it", m->name);
	}
	victim_recovers(v, m->name);
}

/* answers that no buffer is given for must not pile up without end */
static void vsock_flood(struct victim *v)
{
	static const struct misuse unanswered = { "", RST, { { 30, 2, 5 } } };
	const struct segment rx = { v->page + VSOCK_RX, 512, true };
	unsigned int n = 0;

	if (!check(victim_start(v, 0), "flood on vsock: device starts"))
		return;
	change(v, &unanswered);
	while (n < 1000) {
		virtqueue_publish(&v->vq, 0);
		virtqueue_kick(&v->vq);
		if (virtio_wait(&v->dev, &v->vq, 200) != OUTCOME_USED)
			break;
		v->vq.last_used++;
		n++;
	}
	check(n > 0 && n < 1000 && !(virtio_status(&v->dev) & VIRTIO_NEEDS_RESET),
	      "vsock takes no more after %u unanswered packets", n);
	virtqueue_add(&v->other, &rx, 1);
	virtqueue_kick(&v->other);
	check_eq(reset_port(v), VSOCK_PORT, "a buffer gets the first of the answers");
	check_eq(virtio_wait(&v->dev, &v->vq, WAIT_MS), OUTCOME_USED, "and one more is taken");
	victim_recovers(v, "flood of packets");
}

/* buffers for packets that are none */
static void vsock_buffers(struct victim *v)
{
	static const struct misuse answered = { "", RST, { { 30, 2, 5 } } };
	const struct {
		const char *name;
		struct segment rx;
	} cases[] = {
		{ "a buffer for the header alone", { v->page + VSOCK_RX, 44, true } },
		{ "a buffer of no bytes", { v->page + VSOCK_RX, 0, true } },
		{ "a buffer that is readable", { v->page + VSOCK_RX, 512, false } },
		{ "a buffer in the hole", { (const void *)0xe8000000, 512, true } },
	};

	for (unsigned int i = 0; i < N(cases); i++) {
		if (!check(victim_start(v, 0), "%s on vsock: device starts", cases[i].name))
			continue;
		virtqueue_add(&v->other, &cases[i].rx, 1);
		change(v, &answered);
		virtqueue_publish(&v->vq, 0);
		virtqueue_kick(&v->vq);
		check(wait_until(is_broken, &v->dev, WAIT_MS), "%s on vsock", cases[i].name);
		victim_recovers(v, cases[i].name);
	}
}

static void attack_vsock(struct victim *v)
{
	for (unsigned int i = 0; i < N(vsock_cases); i++)
		vsock_case(v, &vsock_cases[i]);
	vsock_flood(v);
	vsock_buffers(v);
}

/* balloon */

static const struct misuse balloon_cases[] = {
	{ "a page behind RAM", BREAKS, { { 0, 4, BEHIND } } },
	{ "the last page there could be", BREAKS, { { 0, 4, ~0U } } },
	{ "a page in the hole", BREAKS, { { 0, 4, 0xe8000 } } },
	{ "a page of the persistent memory", BREAKS, { { 0, 4, IN_PMEM } } },
	{ "a good page and a bad one", BREAKS, { { 0, 4, OWN }, { 4, 4, BEHIND } }, .readable = 8 },
	{ "three bytes", BREAKS, { { 0 } }, .readable = 3 },
	{ "a number and a byte", BREAKS, { { 0 } }, .readable = 5 },
	{ "one page twice",
	  TAKEN,
	  { { 0, 4, OWN }, { 4, 4, OWN + 1 }, { 8, 4, OWN } },
	  .readable = 12 },
	{ "pages in no order",
	  TAKEN,
	  { { 0, 4, OWN + 1 }, { 4, 4, OWN + 3 }, { 8, 4, OWN }, { 12, 4, OWN + 2 } },
	  .readable = 16 },
};

static void attack_balloon(struct victim *v)
{
	for (unsigned int i = 0; i < N(balloon_cases); i++)
		check_case(v, &balloon_cases[i], 0);
}

/* 5.5.6.3.1: there is one buffer of statistics */
static void attack_statistics(struct victim *v)
{
	static struct virtqueue stats;
	const struct segment buffer = { v->page, 10, false };

	if (!check(virtio_negotiate(&v->dev, VIRTIO_BALLOON_STATS_VQ) &&
			   virtqueue_setup(&v->dev, &stats, 2, VICTIM_QUEUE_SIZE),
		   "statistics: device starts"))
		return;
	virtio_driver_ok(&v->dev);
	memset(v->page, 0xff, 10); /* an unknown figure */
	virtqueue_add(&stats, &buffer, 1);
	virtqueue_kick(&stats);
	check_eq(virtio_wait(&v->dev, &stats, 50), OUTCOME_NOTHING, "statistics are kept");
	virtqueue_add(&stats, &buffer, 1);
	virtqueue_kick(&stats);
	check_eq(virtio_wait(&v->dev, &stats, WAIT_MS), OUTCOME_NEEDS_RESET,
		 "a second buffer of statistics");
	victim_recovers(v, "a second buffer of statistics");
}

static unsigned int count_bytes(const uint8_t *bytes, uint32_t len, uint8_t value)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < len; i++)
		n += bytes[i] == value;
	return n;
}

/* parts of pages, nothing, what the device itself is using */
static void attack_report(struct victim *v)
{
	uint8_t *page = v->page + PAGE;

	if (!check(victim_start(v, 0), "part of a page on report: device starts"))
		return;
	memset(page, 0xaa, 2 * PAGE);
	v->vq.desc[0].addr = (uint64_t)page + 100;
	v->vq.desc[0].len = PAGE;
	check_eq(submit(v), OUTCOME_USED, "parts of two pages are taken");
	check_eq(count_bytes(page, 2 * PAGE, 0xaa), 2 * PAGE, "and stay what they are");
	victim_recovers(v, "parts of pages");

	if (!check(victim_start(v, 0), "nothing on report: device starts"))
		return;
	v->vq.desc[0].len = 0;
	check_eq(submit(v), OUTCOME_NEEDS_RESET, "a report of no bytes");
	victim_recovers(v, "report of no bytes");

	if (!check(victim_start(v, 0), "rings on report: device starts"))
		return;
	/* whatever it reads there afterwards, it is for a reset to end it */
	v->vq.desc[0].addr = (uint64_t)v->vq.avail;
	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	virtio_wait(&v->dev, &v->vq, 200);
	virtqueue_kick(&v->vq);
	sleep_ms(20);
	victim_recovers(v, "report of the available ring");

	if (!check(victim_start(v, 0), "used ring on report: device starts"))
		return;
	v->vq.desc[0].addr = (uint64_t)v->vq.used;
	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	virtio_wait(&v->dev, &v->vq, 200);
	victim_recovers(v, "report of the used ring");
	attack_statistics(v);
}

/* pmem and clock */

static const struct misuse pmem_cases[] = {
	{ "a type that does not exist", 1, { { 0, 4, 1 } } },
	{ "the last type there is", 1, { { 0, 4, ~0U } } },
	{ "a request of a page", 0, { { 0, 4, 0 } }, .readable = 1024 },
	{ "a request of three bytes", BREAKS, { { 0 } }, .readable = 3 },
	{ "room for three bytes of answer", BREAKS, { { 0 } }, .writable = 3 },
	{ "no room for an answer", BREAKS, { { 0 } }, .writable = NO_PART },
	{ "no request", BREAKS, { { 0 } }, .readable = NO_PART },
};

static const struct misuse rtc_cases[] = {
	{ "an unknown request", 2, { { 0, 2, 0x4711 } } },
	{ "a cross timestamp", 2, { { 0, 2, 2 } }, .writable = 24 },
	{ "a clock that there is not", 3, { { 0, 2, 1 }, { 8, 2, 0xffff } } },
	{ "half a request", 4, { { 0, 2, 1 } }, .readable = 12 },
	{ "a request of one byte", 4, { { 0 } }, .readable = 1 },
	{ "no room for the answer but its head", 4, { { 0 } }, .writable = 8 },
	{ "room for seven bytes of answer", BREAKS, { { 0 } }, .writable = 7 },
	{ "no room for an answer", BREAKS, { { 0 } }, .writable = NO_PART },
};

static void attack_pmem(struct victim *v)
{
	for (unsigned int i = 0; i < N(pmem_cases); i++)
		check_case(v, &pmem_cases[i], VICTIM_DATA);
}

static void attack_rtc(struct victim *v)
{
	for (unsigned int i = 0; i < N(rtc_cases); i++)
		check_case(v, &rtc_cases[i], VICTIM_DATA);
}

/* iommu */

#define ATTACH  1
#define DETACH  2
#define MAP     3
#define UNMAP   4
#define PROBE   5
#define OK      0
#define UNSUPP  2
#define INVAL   4
#define RANGE   5
#define NOENT   6
#define EP      0xf3000000U /* the endpoint that there is */
#define WORDS   8
#define MSI     0xfee00000U
#define LEN_ATT 20
#define LEN_MAP 36
#define LEN_UNM 28

struct iommu_case {
	const char *name;
	int want;
	uint8_t type;
	uint8_t readable;
	uint16_t writable;     /* 0: 4 */
	uint32_t words[WORDS]; /* behind the head; 64 bits are two, low one first */
};

/* in this order, without a reset between them */
static const struct iommu_case iommu_cases[] = {
	{ "unmap of a domain that is not", NOENT, UNMAP, LEN_UNM, 0, { 7, 0, 0, 0xfff, 0 } },
	{ "map in a domain that is not", NOENT, MAP, LEN_MAP, 0, { 7, 0, 0, 0xfff, 0, 0, 0, 3 } },
	{ "attach of nobody", NOENT, ATTACH, LEN_ATT, 0, { 7, 0xfff0 } },
	{ "attach with unknown flags", INVAL, ATTACH, LEN_ATT, 0, { 7, EP, 2 } },
	{ "attach with reserved bytes", INVAL, ATTACH, LEN_ATT, 0, { 7, EP, 0, 1 } },
	{ "half an attach", INVAL, ATTACH, LEN_ATT / 2, 0, { 7, EP } },
	{ "detach before attach", INVAL, DETACH, LEN_ATT, 0, { 7, EP } },
	{ "attach", OK, ATTACH, LEN_ATT, 0, { 7, EP } },
	{ "attach again", OK, ATTACH, LEN_ATT, 0, { 7, EP } },
	{ "attach as a bypass now", INVAL, ATTACH, LEN_ATT, 0, { 7, EP, 1 } },
	{ "map of half a page on", RANGE, MAP, LEN_MAP, 0, { 7, 0x800, 1, 0xfff, 1, 0, 0, 3 } },
	{ "map to half a page", RANGE, MAP, LEN_MAP, 0, { 7, 0, 1, 0x7ff, 1, 0, 0, 3 } },
	{ "map to the middle of a page", RANGE, MAP, LEN_MAP, 0, { 7, 0, 1, 0xfff, 1, 1, 0, 3 } },
	{ "map that ends before it starts", RANGE, MAP, LEN_MAP, 0, { 7, 0x1000, 1, 0xfff, 1 } },
	{ "map to memory that wraps",
	  RANGE,
	  MAP,
	  LEN_MAP,
	  0,
	  { 7, 0, 1, 0x1fff, 1, 0xfffff000, ~0U, 3 } },
	{ "map of the interrupts", INVAL, MAP, LEN_MAP, 0, { 7, MSI, 0, MSI + 0xfff, 0, 0, 0, 3 } },
	{ "map of all there is", INVAL, MAP, LEN_MAP, 0, { 7, 0, 0, ~0U, ~0U, 0, 0, 3 } },
	{ "map with unknown flags", INVAL, MAP, LEN_MAP, 0, { 7, 0, 1, 0xfff, 1, 0, 0, 7 } },
	{ "map of eight pages", OK, MAP, LEN_MAP, 0, { 7, 0, 1, 0x7fff, 1, 0, 0, 3 } },
	{ "map of the same", INVAL, MAP, LEN_MAP, 0, { 7, 0, 1, 0x7fff, 1, 0, 0, 3 } },
	{ "map of one page of it", INVAL, MAP, LEN_MAP, 0, { 7, 0x7000, 1, 0x7fff, 1, 0, 0, 3 } },
	{ "map around it", INVAL, MAP, LEN_MAP, 0, { 7, 0, 1, 0xffff, 1, 0, 0, 3 } },
	{ "map beside it", OK, MAP, LEN_MAP, 0, { 7, 0x8000, 1, 0x8fff, 1, 0, 0, 3 } },
	{ "map of the last page", OK, MAP, LEN_MAP, 0, { 7, 0xfffff000, ~0U, ~0U, ~0U, 0, 0, 3 } },
	{ "unmap of a part", RANGE, UNMAP, LEN_UNM, 0, { 7, 0, 1, 0xfff, 1 } },
	{ "unmap of one and a part", RANGE, UNMAP, LEN_UNM, 0, { 7, 0x1000, 1, 0x8fff, 1 } },
	{ "unmap that ends before it starts", RANGE, UNMAP, LEN_UNM, 0, { 7, 1, 1, 0, 1 } },
	{ "unmap with reserved bytes", INVAL, UNMAP, LEN_UNM, 0, { 7, 0, 0, ~0U, ~0U, 1 } },
	{ "half an unmap", INVAL, UNMAP, LEN_UNM / 2, 0, { 7, 0, 0, ~0U, ~0U } },
	{ "unmap of all there is", OK, UNMAP, LEN_UNM, 0, { 7, 0, 0, ~0U, ~0U } },
	{ "unmap of nothing", OK, UNMAP, LEN_UNM, 0, { 7, 0, 0, ~0U, ~0U } },
	{ "detach from another domain", INVAL, DETACH, LEN_ATT, 0, { 8, EP } },
	{ "detach of nobody", NOENT, DETACH, LEN_ATT, 0, { 7, 0xfff0 } },
	{ "detach with reserved bytes", INVAL, DETACH, LEN_ATT, 0, { 7, EP, 1 } },
	{ "detach", OK, DETACH, LEN_ATT, 0, { 7, EP } },
	{ "type 0", UNSUPP, 0, LEN_ATT, 0, { 0 } },
	{ "an unknown type", UNSUPP, 0x77, 4, 0, { 0 } },
	{ "probe with a tiny buffer", INVAL, PROBE, 72, 8, { EP } },
	{ "probe with no room but the tail", INVAL, PROBE, 72, 4, { EP } },
	{ "probe with reserved bytes", INVAL, PROBE, 72, 4, { EP, 1 } },
};

static const struct iommu_case iommu_fatal[] = {
	{ "a head of three bytes", BREAKS, ATTACH, 3, 0, { 7, EP } },
	{ "no head", BREAKS, ATTACH, 0, 0, { 0 } },
	{ "a tail of three bytes", BREAKS, ATTACH, LEN_ATT, 3, { 7, EP } },
};

static void iommu_case(struct victim *v, const struct iommu_case *c)
{
	uint16_t writable = c->writable ? c->writable : 4;
	enum virtio_outcome outcome;

	memset(v->page, 0, 128);
	v->page[0] = c->type;
	for (unsigned int i = 0; i < WORDS; i++) {
		uint32_t word = c->words[i] == EP ? victim_endpoint() : c->words[i];

		memcpy(v->page + 4 + 4 * i, &word, sizeof(word));
	}
	memset(v->page + VICTIM_DATA, 0xee, writable);
	v->vq.desc[0] = (struct virtq_desc){ (uint64_t)v->page, c->readable, VIRTQ_NEXT, 1 };
	v->vq.desc[1] =
		(struct virtq_desc){ (uint64_t)v->page + VICTIM_DATA, writable, VIRTQ_WRITE, 0 };
	outcome = submit(v);
	if (c->want == BREAKS) {
		check_eq(outcome, OUTCOME_NEEDS_RESET, "%s on iommu", c->name);
		return;
	}
	check_eq(outcome, OUTCOME_USED, "%s on iommu is answered", c->name);
	check_eq(v->page[VICTIM_DATA], (uint64_t)c->want, "%s on iommu", c->name);
}

/* one buffer of the entropy source, its rings and memory where they always are */
static enum virtio_outcome use_endpoint(struct victim *v)
{
	static struct virtio_device rng;
	static struct virtqueue vq;
	const struct segment segment = { v->page + VSOCK_RX, 64, true };

	if (!virtio_find(VIRTIO_RNG, 0, &rng) || !virtio_negotiate(&rng, 0) ||
	    !virtqueue_setup(&rng, &vq, 0, VICTIM_QUEUE_SIZE))
		return OUTCOME_NOTHING;
	virtio_driver_ok(&rng);
	virtqueue_add(&vq, &segment, 1);
	virtqueue_kick(&vq);
	return virtio_wait(&rng, &vq, WAIT_MS);
}

/* what a device behind it reaches, and that it breaks itself alone */
static void iommu_translations(struct victim *v)
{
	const uint32_t end = (uint32_t)platform_ram_end() - 1;
	const struct {
		struct iommu_case map;
		enum virtio_outcome outcome;
	} cases[] = {
		{ { "nothing is mapped", OK, UNMAP, LEN_UNM, 0, { 7, 0, 0, ~0U, ~0U } },
		  OUTCOME_NEEDS_RESET },
		{ { "mapped to what is not RAM",
		    OK,
		    MAP,
		    LEN_MAP,
		    0,
		    { 7, 0, 0, end, 0, 0, 1U << 13, 3 } },
		  OUTCOME_NEEDS_RESET },
		{ { "mapped to read", OK, MAP, LEN_MAP, 0, { 7, 0, 0, end, 0, 0, 0, 1 } },
		  OUTCOME_NEEDS_RESET },
		{ { "mapped to write", OK, MAP, LEN_MAP, 0, { 7, 0, 0, end, 0, 0, 0, 2 } },
		  OUTCOME_NEEDS_RESET },
		{ { "mapped for nothing", OK, MAP, LEN_MAP, 0, { 7, 0, 0, end, 0, 0, 0, 0 } },
		  OUTCOME_NEEDS_RESET },
		{ { "mapped well", OK, MAP, LEN_MAP, 0, { 7, 0, 0, end, 0, 0, 0, 3 } },
		  OUTCOME_USED },
	};
	static const struct iommu_case attach = { "attach", OK, ATTACH, LEN_ATT, 0, { 7, EP } };
	static const struct iommu_case detach = { "detach", OK, DETACH, LEN_ATT, 0, { 7, EP } };

	if (!check(victim_start(v, 0), "translations: iommu starts"))
		return;
	for (unsigned int i = 0; i < N(cases); i++) {
		iommu_case(v, &attach);
		iommu_case(v, &cases[i].map);
		check_eq(use_endpoint(v), cases[i].outcome, "the device behind it, %s",
			 cases[i].map.name);
		iommu_case(v, &detach);
	}
	check_eq(use_endpoint(v), OUTCOME_USED, "the device behind it, detached");
	iommu_case(v, &attach);
	check(virtio_reset(&v->dev), "a reset with a device attached");
	check_eq(use_endpoint(v), OUTCOME_USED, "the device behind it, after that reset");
}

static void attack_iommu(struct victim *v)
{
	if (victim_endpoint() == 0xffffffff || !check(victim_start(v, 0), "iommu starts"))
		return;
	for (unsigned int i = 0; i < N(iommu_cases); i++)
		iommu_case(v, &iommu_cases[i]);
	victim_recovers(v, "all kinds of requests");
	for (unsigned int i = 0; i < N(iommu_fatal); i++) {
		if (check(victim_start(v, 0), "iommu starts"))
			iommu_case(v, &iommu_fatal[i]);
		victim_recovers(v, iommu_fatal[i].name);
	}
	iommu_translations(v);
	victim_recovers(v, "translations");
}

static void attack(struct victim *v)
{
	if (v->type->device == VIRTIO_VSOCK)
		attack_vsock(v);
	else if (v->type->device == VIRTIO_BALLOON && v->type->queue == 0)
		attack_balloon(v);
	else if (v->type->device == VIRTIO_BALLOON)
		attack_report(v);
	else if (v->type->device == VIRTIO_PMEM)
		attack_pmem(v);
	else if (v->type->device == VIRTIO_RTC)
		attack_rtc(v);
	else if (v->type->device == VIRTIO_IOMMU)
		attack_iommu(v);
}

static void run_bad_request(void)
{
	victim_each(attack);
}

const struct scenario misuse_scenarios[] = {
	{ "bad-request", run_bad_request },
	{ 0 },
};
