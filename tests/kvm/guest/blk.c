/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk driver and its scenarios
 */
#include "tests/kvm/guest/blk.h"

#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define QUEUE_SIZE     128
#define REQUEST_MS     5000
#define FLAG_READ_ONLY BLK_F_RO

static struct blk disk;

bool blk_start(struct blk *blk, uint64_t features, bool all_queues)
{
	uint64_t config = blk->dev.region[REGION_CONFIG];
	uint16_t n = 1;

	if (!virtio_negotiate(&blk->dev, features | (all_queues ? BLK_F_MQ : 0)))
		return check(false, "blk device accepts features 0x%lx", blk->dev.features);
	if (all_queues && blk->dev.features & BLK_F_MQ)
		n = mmio_read16(config + BLK_CFG_NUM_QUEUES);
	blk->n_queues = n < BLK_QUEUES ? n : BLK_QUEUES;
	for (uint16_t i = 0; i < blk->n_queues; i++)
		if (!virtqueue_setup(&blk->dev, &blk->queue[i], i, QUEUE_SIZE))
			return check(false, "blk queue %u exists", i);
	virtio_driver_ok(&blk->dev);
	blk->capacity = mmio_read32(config) | (uint64_t)mmio_read32(config + 4) << 32;
	for (unsigned int i = 0; i < BLK_SLOTS; i++) {
		if (!blk->slot[i].data)
			blk->slot[i].data = alloc_pages(1);
		blk->slot[i].head = -1;
	}
	return true;
}

bool blk_open(struct blk *blk, uint64_t features, bool all_queues)
{
	if (!virtio_find(VIRTIO_BLK, (unsigned int)arg_u64("nth", 0), &blk->dev)) {
		skip("no virtio-blk device");
		return false;
	}
	return blk_start(blk, features, all_queues);
}

static int submit(struct blk *blk, unsigned int queue, unsigned int index, uint32_t type,
		  uint64_t sector, void *data, uint32_t len)
{
	struct blk_slot *slot = &blk->slot[index];
	const struct segment chain[] = {
		{ &slot->header, sizeof(slot->header), false },
		{ data, len, !(type & BLK_T_OUT) },
		{ (const void *)&slot->status, 1, true },
	};
	const struct segment no_data[] = { chain[0], chain[2] };

	slot->header = (struct blk_header){ .type = type, .sector = sector };
	slot->status = BLK_STATUS_UNSET;
	slot->head = data ? virtqueue_add(&blk->queue[queue], chain, 3)
			  : virtqueue_add(&blk->queue[queue], no_data, 2);
	return slot->head;
}

int blk_request(struct blk *blk, unsigned int queue, uint32_t type, uint64_t sector, void *data,
		uint32_t len)
{
	struct virtqueue *vq = &blk->queue[queue];
	struct virtq_used_elem used;
	int head = submit(blk, queue, 0, type, sector, data, len);
	enum virtio_outcome outcome;

	if (head < 0) {
		check(false, "blk ring has room");
		return -1;
	}
	virtqueue_kick(vq);
	outcome = virtio_wait(&blk->dev, vq, REQUEST_MS);
	if (outcome != OUTCOME_USED || !virtqueue_take(vq, &used)) {
		check(false, "blk request type %u sector 0x%lx completes, device status 0x%x", type,
		      sector, virtio_status(&blk->dev));
		return -1;
	}
	if (used.id != (uint32_t)head) {
		check_eq(used.id, (uint32_t)head, "blk used id");
		return -1;
	}
	blk->slot[0].head = -1;
	return blk->slot[0].status;
}

bool blk_submit(struct blk *blk, unsigned int queue, unsigned int slot, uint32_t type,
		uint64_t sector, uint32_t len)
{
	return submit(blk, queue, slot, type, sector, blk->slot[slot].data, len) >= 0;
}

unsigned int blk_reap(struct blk *blk, unsigned int queue, unsigned int *ret_bad)
{
	struct virtq_used_elem used;
	unsigned int n = 0, bad = 0;

	while (virtqueue_take(&blk->queue[queue], &used)) {
		unsigned int i = 0;

		while (i < BLK_SLOTS && blk->slot[i].head != (int)used.id)
			i++;
		if (i == BLK_SLOTS || blk->slot[i].status != BLK_S_OK)
			bad++;
		if (i < BLK_SLOTS)
			blk->slot[i].head = -1;
		n++;
	}
	*ret_bad += bad;
	return n;
}

/* what sector @sector holds when written with pattern @seed: 64 words that differ everywhere */
static void fill_pattern(uint64_t *words, uint64_t seed, uint64_t sector)
{
	for (uint64_t i = 0; i < BLK_SECTOR / 8; i++)
		words[i] = (seed << 48) ^ (sector << 8) ^ i ^ 0x6272756d65000000;
}

static bool matches_pattern(const uint64_t *words, uint64_t seed, uint64_t sector)
{
	for (uint64_t i = 0; i < BLK_SECTOR / 8; i++)
		if (words[i] != ((seed << 48) ^ (sector << 8) ^ i ^ 0x6272756d65000000))
			return false;
	return true;
}

static unsigned int verify_pattern(struct blk *blk, void *page, uint64_t seed, uint64_t at,
				   uint64_t n)
{
	unsigned int bad = 0;

	for (uint64_t i = 0; i < n; i++) {
		memset(page, 0, BLK_SECTOR);
		if (blk_request(blk, 0, BLK_T_IN, at + i, page, BLK_SECTOR) != BLK_S_OK ||
		    !matches_pattern(page, seed, at + i))
			bad++;
	}
	return bad;
}

static void check_serial(struct blk *blk)
{
	char serial[24] = "";
	int status = blk_request(blk, 0, BLK_T_GET_ID, 0, serial, 20);

	check_eq((uint64_t)status, BLK_S_OK, "GET_ID");
	info("serial %s", serial);
}

static bool queues_done(void *arg)
{
	const struct blk *blk = arg;

	for (unsigned int i = 0; i < blk->n_queues; i++)
		if (!virtqueue_has_used(&blk->queue[i]))
			return false;
	return true;
}

static bool queues_interrupted(void *arg)
{
	const struct blk *blk = arg;

	for (uint16_t i = 0; i < blk->n_queues; i++)
		if (!virtio_interrupts(&blk->dev, i))
			return false;
	return true;
}

static void run_blk_rw(void)
{
	uint64_t seed = arg_u64("pattern", 1), at = arg_u64("at", 8), n = arg_u64("n", 8);
	uint64_t sectors = arg_u64("sectors", 0);
	void *page = alloc_pages(1);
	unsigned int bad = 0;

	if (!blk_open(&disk, BLK_F_FLUSH, false))
		return;
	info("capacity %lu sectors, features 0x%lx", disk.capacity, disk.dev.offered);
	if (sectors)
		check_eq(disk.capacity, sectors, "capacity");
	check_eq((uint64_t)blk_request(&disk, 0, BLK_T_IN, 0, page, 4096), BLK_S_OK,
		 "read 8 sectors");
	for (uint64_t i = 0; i < n; i++) {
		fill_pattern(page, seed, at + i);
		if (blk_request(&disk, 0, BLK_T_OUT, at + i, page, BLK_SECTOR) != BLK_S_OK)
			bad++;
	}
	check_eq(bad, 0, "write %lu sectors at %lu", n, at);
	check_eq(verify_pattern(&disk, page, seed, at, n), 0, "read back");
	if (disk.dev.features & BLK_F_FLUSH)
		check_eq((uint64_t)blk_request(&disk, 0, BLK_T_FLUSH, 0, NULL, 0), BLK_S_OK,
			 "flush");
	check_serial(&disk);
	if (disk.dev.have_msix)
		check(wait_until(queues_interrupted, &disk, REQUEST_MS), "%u interrupts came",
		      virtio_interrupts(&disk.dev, 0));
}

static void run_blk_read(void)
{
	uint64_t seed = arg_u64("pattern", 1), at = arg_u64("at", 8), n = arg_u64("n", 8);

	if (blk_open(&disk, 0, false))
		check_eq(verify_pattern(&disk, alloc_pages(1), seed, at, n), 0,
			 "%lu sectors at %lu hold pattern %lu", n, at, seed);
}

static void run_blk_ro(void)
{
	uint8_t *page = alloc_pages(1);

	if (!blk_open(&disk, FLAG_READ_ONLY, false))
		return;
	check(disk.dev.offered & FLAG_READ_ONLY, "VIRTIO_BLK_F_RO offered");
	check_eq((uint64_t)blk_request(&disk, 0, BLK_T_IN, 0, page, BLK_SECTOR), BLK_S_OK, "read");
	check_eq((uint64_t)blk_request(&disk, 0, BLK_T_OUT, 0, page, BLK_SECTOR), BLK_S_IOERR,
		 "write refused");
	check_eq((uint64_t)blk_request(&disk, 0, BLK_T_IN, 0, page, BLK_SECTOR), BLK_S_OK,
		 "read after the refusal");
}

static void run_blk_oob(void)
{
	uint8_t *page = alloc_pages(1);

	if (!blk_open(&disk, 0, false))
		return;
	const struct {
		const char *name;
		uint64_t sector;
	} cases[] = {
		{ "just past the end", disk.capacity },
		{ "across the end", disk.capacity - 1 },
		{ "sector that overflows as a byte offset", 1ULL << 55 },
		{ "last sector number there is", ~0ULL },
		{ "sector plus length wraps", ~0ULL - 3 },
	};
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check_eq((uint64_t)blk_request(&disk, 0, BLK_T_IN, cases[i].sector, page, 4096),
			 BLK_S_IOERR, "read %s", cases[i].name);
		check_eq((uint64_t)blk_request(&disk, 0, BLK_T_OUT, cases[i].sector, page, 4096),
			 BLK_S_IOERR, "write %s", cases[i].name);
	}
	check_eq((uint64_t)blk_request(&disk, 0, BLK_T_IN, disk.capacity - 1, page, BLK_SECTOR),
		 BLK_S_OK, "read of the last sector");
}

static void run_blk_mq(void)
{
	uint64_t expected = arg_u64("queues", 0);
	unsigned int bad = 0, done = 0;

	if (!blk_open(&disk, 0, true))
		return;
	if (!(disk.dev.offered & BLK_F_MQ)) {
		skip("VIRTIO_BLK_F_MQ not offered");
		return;
	}
	if (expected)
		check_eq(mmio_read16(disk.dev.region[REGION_CONFIG] + BLK_CFG_NUM_QUEUES), expected,
			 "num_queues");
	for (unsigned int i = 0; i < disk.n_queues; i++)
		blk_submit(&disk, i, i, BLK_T_IN, i, BLK_SECTOR);
	/* last queue first: the doorbells are not mixed up */
	for (unsigned int i = disk.n_queues; i-- > 0;)
		virtqueue_kick(&disk.queue[i]);
	check(wait_until(queues_done, &disk, REQUEST_MS), "every queue of %u completes",
	      disk.n_queues);
	if (disk.dev.have_msix)
		check(wait_until(queues_interrupted, &disk, REQUEST_MS),
		      "every queue interrupts on its own vector");
	for (unsigned int i = 0; i < disk.n_queues; i++)
		done += blk_reap(&disk, i, &bad);
	check_eq(done, disk.n_queues, "one completion per queue");
	check_eq(bad, 0, "all succeeded");
}

static void run_blk_indirect(void)
{
	struct virtqueue *vq = &disk.queue[0];
	struct virtq_desc *table = alloc_pages(1);
	uint8_t *page = alloc_pages(1);
	struct virtq_used_elem used;
	struct blk_slot *slot = &disk.slot[0];
	int head;

	if (!blk_open(&disk, VIRTIO_F_INDIRECT_DESC, false))
		return;
	if (!(disk.dev.features & VIRTIO_F_INDIRECT_DESC)) {
		skip("VIRTIO_F_INDIRECT_DESC not offered");
		return;
	}
	slot->header = (struct blk_header){ .type = BLK_T_IN };
	slot->status = BLK_STATUS_UNSET;
	/* out of order on purpose: 0 -> 2 -> 1 -> 3 */
	table[0] = (struct virtq_desc){ (uint64_t)&slot->header, 16, VIRTQ_NEXT, 2 };
	table[2] = (struct virtq_desc){ (uint64_t)page, 512, VIRTQ_NEXT | VIRTQ_WRITE, 1 };
	table[1] = (struct virtq_desc){ (uint64_t)page + 512, 512, VIRTQ_NEXT | VIRTQ_WRITE, 3 };
	table[3] = (struct virtq_desc){ (uint64_t)&slot->status, 1, VIRTQ_WRITE, 0 };
	head = virtqueue_add(vq, &(struct segment){ table, 4 * sizeof(*table), false }, 1);
	vq->desc[head].flags = VIRTQ_INDIRECT;
	virtqueue_kick(vq);
	if (!check(virtio_wait(&disk.dev, vq, REQUEST_MS) == OUTCOME_USED, "request completes"))
		return;
	virtqueue_take(vq, &used);
	check_eq(slot->status, BLK_S_OK, "status");
	check_eq(used.len, 1025, "used length");
}

/* 5.2.6: a segment of discard and write zeroes */
struct range {
	uint64_t sector;
	uint32_t n, flags;
};

static unsigned int count_zeroes(const uint8_t *page, uint64_t sectors)
{
	unsigned int n = 0;

	for (uint64_t i = 0; i < sectors * BLK_SECTOR; i++)
		n += page[i] == 0;
	return n;
}

/* 8 sectors of pattern at 16, then zeroes or nothing over the middle of them */
static void zero_middle(struct blk *blk, uint32_t type, const char *name)
{
	struct range ranges[] = { { 18, 2, 0 }, { 0, 0, 0 }, { 20, 2, 0 } };
	uint8_t *page = alloc_pages(1);

	for (uint64_t i = 0; i < 8; i++) {
		fill_pattern((uint64_t *)page, 5, 16 + i);
		blk_request(blk, 0, BLK_T_OUT, 16 + i, page, BLK_SECTOR);
	}
	check_eq((uint64_t)blk_request(blk, 0, type, 0, ranges, sizeof(ranges)), BLK_S_OK,
		 "%s of three ranges", name);
	memset(page, 0xff, 4 * BLK_SECTOR);
	check_eq((uint64_t)blk_request(blk, 0, BLK_T_IN, 18, page, 4 * BLK_SECTOR), BLK_S_OK,
		 "read after %s", name);
	/* what was discarded may be anything (5.2.6.2) */
	if (type == BLK_T_WRITE_ZEROES)
		check_eq(count_zeroes(page, 4), 4 * BLK_SECTOR, "zeroes after %s", name);
	check_eq(verify_pattern(blk, page, 5, 16, 2), 0, "what lies before %s", name);
	check_eq(verify_pattern(blk, page, 5, 22, 2), 0, "what lies behind %s", name);
}

static void run_blk_ranges(void)
{
	if (!blk_open(&disk, BLK_F_FLUSH | BLK_F_DISCARD | BLK_F_WRITE_ZEROES, false))
		return;
	const uint64_t last = disk.capacity - 1;
	const struct {
		const char *name;
		uint32_t type, len;
		struct range range;
		uint8_t status;
	} cases[] = {
		{ "discard with unmap", BLK_T_DISCARD, 16, { 0, 8, 1 }, BLK_S_UNSUPP },
		{ "discard with an unknown flag", BLK_T_DISCARD, 16, { 0, 8, 2 }, BLK_S_UNSUPP },
		{ "zeroes with an unknown flag",
		  BLK_T_WRITE_ZEROES,
		  16,
		  { 0, 8, 1U << 31 },
		  BLK_S_UNSUPP },
		{ "discard past the end", BLK_T_DISCARD, 16, { last + 1, 1, 0 }, BLK_S_IOERR },
		{ "discard across the end", BLK_T_DISCARD, 16, { last, 2, 0 }, BLK_S_IOERR },
		{ "zeroes of a wrapping sector",
		  BLK_T_WRITE_ZEROES,
		  16,
		  { ~0ULL, 1, 0 },
		  BLK_S_IOERR },
		{ "zeroes of a sector that wraps as bytes",
		  BLK_T_WRITE_ZEROES,
		  16,
		  { 1ULL << 55, 1, 0 },
		  BLK_S_IOERR },
		{ "more zeroes than a request may ask for",
		  BLK_T_WRITE_ZEROES,
		  16,
		  { 0, ~0U, 0 },
		  BLK_S_IOERR },
		{ "half a range", BLK_T_DISCARD, 8, { 0, 8, 0 }, BLK_S_IOERR },
		{ "a range and a half", BLK_T_DISCARD, 24, { 0, 8, 0 }, BLK_S_IOERR },
		{ "no range", BLK_T_DISCARD, 0, { 0, 8, 0 }, BLK_S_IOERR },
		{ "a page of ranges", BLK_T_DISCARD, 4096, { 0, 8, 0 }, BLK_S_IOERR },
	};
	uint8_t *page = alloc_pages(1);

	if (!check(disk.dev.features & BLK_F_WRITE_ZEROES, "write zeroes is offered"))
		return;
	zero_middle(&disk, BLK_T_WRITE_ZEROES, "write zeroes");
	if (!(disk.dev.features & BLK_F_DISCARD)) {
		info("the host's file cannot be discarded");
		return;
	}
	zero_middle(&disk, BLK_T_DISCARD, "discard");
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(page, 0, 4096);
		*(struct range *)page = cases[i].range;
		check_eq((uint64_t)blk_request(&disk, 0, cases[i].type, 0,
					       cases[i].len ? page : NULL, cases[i].len),
			 cases[i].status, "%s", cases[i].name);
	}
	check_eq(verify_pattern(&disk, page, 5, 16, 2), 0, "nothing was done");
}

static void full_barrier(void)
{
	__asm__ volatile("lock; addl $0, (%%rsp)" : : : "memory", "cc");
}

/* four requests one after the other, polled; interrupts that came meanwhile */
static uint32_t interrupts_of_four(struct blk *blk, uint16_t used_event)
{
	struct virtqueue *vq = &blk->queue[0];
	uint32_t before = virtio_interrupts(&blk->dev, 0);

	for (unsigned int i = 0; i < 4; i++) {
		vq->avail->ring[vq->size] = used_event;
		full_barrier();
		blk_request(blk, 0, BLK_T_IN, i, blk->slot[1].data, BLK_SECTOR);
	}
	sleep_ms(5);
	return virtio_interrupts(&blk->dev, 0) - before;
}

static void run_blk_eventidx(void)
{
	struct virtqueue *vq = &disk.queue[0];

	if (!blk_open(&disk, VIRTIO_F_EVENT_IDX, false))
		return;
	if (!(disk.dev.features & VIRTIO_F_EVENT_IDX)) {
		skip("VIRTIO_F_EVENT_IDX not offered");
		return;
	}
	/* a device may always interrupt for the first one: it has nothing to compare with yet */
	interrupts_of_four(&disk, 0);
	check_eq(interrupts_of_four(&disk, (uint16_t)(vq->last_used - 2)), 0,
		 "no interrupt while used_event lies behind");
	check_eq(interrupts_of_four(&disk, (uint16_t)(vq->last_used + 2)), 1,
		 "one interrupt when used_event is crossed");
	/* avail_event sits behind the used ring: where the device wants the next doorbell */
	check_eq(*(volatile uint16_t *)&vq->used->ring[vq->size], vq->avail->idx,
		 "avail_event follows the avail index");
}

static bool interrupted(void *arg)
{
	return virtio_interrupts(&disk.dev, 0) != *(const uint32_t *)arg;
}

static void run_blk_load(void)
{
	unsigned int count = (unsigned int)arg_u64("count", 64), bad = 0, sent = 0, done = 0;
	unsigned int depth = (unsigned int)arg_u64("depth", 16);

	if (!blk_open(&disk, 0, false))
		return;
	if (depth == 0 || depth > BLK_SLOTS)
		depth = BLK_SLOTS;
	while (done < count) {
		uint32_t seen = virtio_interrupts(&disk.dev, 0);

		for (unsigned int i = 0; i < depth && sent < count; i++)
			if (disk.slot[i].head < 0 &&
			    blk_submit(&disk, 0, i, BLK_T_IN, sent % 8, BLK_SECTOR))
				sent++;
		virtqueue_kick(&disk.queue[0]);
		if (!wait_until(interrupted, &seen, REQUEST_MS))
			break;
		done += blk_reap(&disk, 0, &bad);
	}
	check_eq(done, count, "requests completed, each wake-up by interrupt");
	check_eq(bad, 0, "requests that failed");
}

const struct scenario blk_scenarios[] = {
	{ "blk-rw", run_blk_rw },         { "blk-read", run_blk_read },
	{ "blk-ro", run_blk_ro },         { "blk-oob", run_blk_oob },
	{ "blk-mq", run_blk_mq },         { "blk-indirect", run_blk_indirect },
	{ "blk-ranges", run_blk_ranges }, { "blk-eventidx", run_blk_eventidx },
	{ "blk-load", run_blk_load },     { 0 },
};
