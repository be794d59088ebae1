/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios that are measured from outside: tests/bench
 *
 * Between codes 0x42 and 0x43 on port 0x80 nothing happens but the work. The drivers do what
 * Linux' do: event indexes both ways, one doorbell a batch, and halting when there is nothing to
 * reap, so that what the host spends is spent by the virtual machine monitor.
 */
#include <stddef.h>

#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define CODE_BEGIN 0x42
#define CODE_END   0x43

#define BLK_DEPTH_MAX 64
#define BLK_RING      256
#define DATA_AT       MIB(32) /* RAM nobody else uses: the arena is too small */
#define PAGE          4096U
#define NET_RING      256
#define NET_FRAME_MAX 2048U
#define NET_F_MAC     (1ULL << 5)
#define VNET_HEADER   12

/* 2.7.10: the ring's last word on each side */
static volatile uint16_t *used_event(struct virtqueue *vq)
{
	return &vq->avail->ring[vq->size];
}

static volatile uint16_t *avail_event(struct virtqueue *vq)
{
	return (volatile uint16_t *)&vq->used->ring[vq->size];
}

/* rings the doorbell if the device asked to hear of what came since @from (2.7.10.1) */
static void kick_from(struct virtqueue *vq, uint16_t from)
{
	uint16_t now = vq->avail->idx;

	__asm__ volatile("mfence" : : : "memory");
	if ((uint16_t)(now - *avail_event(vq) - 1) < (uint16_t)(now - from))
		virtqueue_kick(vq);
}

/* halts until something is used; the interrupt is asked for before the last look */
static void wait_used(struct virtqueue *vq)
{
	while (!virtqueue_has_used(vq)) {
		*used_event(vq) = vq->last_used;
		__asm__ volatile("mfence" : : : "memory");
		if (virtqueue_has_used(vq))
			break;
		cpu_wait_interrupt();
	}
}

/* --- blk --- */

/*
 * A guest may run at a million instructions a second here, so there are few in the loop: the
 * chains stay as they are, three descriptors a slot, and a request changes no more than its sector.
 */
#define BLK_SECTORS 4096U

struct bench_blk {
	struct virtio_device dev;
	struct virtqueue vq;
	struct blk_header header[BLK_DEPTH_MAX];
	volatile uint8_t status[BLK_DEPTH_MAX];
	uint64_t sectors[BLK_SECTORS]; /* where requests go, round and round */
	uint32_t next;
};

static void blk_prepare(struct bench_blk *b, unsigned int depth, uint32_t type, uint32_t size)
{
	uint64_t data = DATA_AT;
	uint16_t reads = type == BLK_T_IN ? VIRTQ_WRITE : 0;

	for (uint16_t i = 0; i < depth; i++) {
		struct virtq_desc *desc = &b->vq.desc[i * 3];

		b->header[i].type = type;
		desc[0] = (struct virtq_desc){ (uint64_t)&b->header[i], sizeof(b->header[i]),
					       VIRTQ_NEXT, (uint16_t)(i * 3 + 1) };
		desc[1] = (struct virtq_desc){ data + (uint64_t)i * size, size, VIRTQ_NEXT | reads,
					       (uint16_t)(i * 3 + 2) };
		desc[2] = (struct virtq_desc){ (uint64_t)&b->status[i], 1, VIRTQ_WRITE, 0 };
	}
}

static void blk_choose_sectors(struct bench_blk *b, uint64_t capacity, uint32_t size, bool in_order)
{
	uint64_t blocks = capacity / (size / BLK_SECTOR);
	struct random random = random_seed(1);

	for (uint32_t i = 0; i < BLK_SECTORS; i++)
		b->sectors[i] = (in_order ? i % blocks : random_below(&random, (uint32_t)blocks)) *
				(size / BLK_SECTOR);
}

/* the number of requests that failed */
static unsigned int blk_run(struct bench_blk *b, uint64_t count, unsigned int depth)
{
	struct virtqueue *vq = &b->vq;
	uint16_t mask = (uint16_t)(vq->size - 1), idx = vq->avail->idx, from = idx;
	uint64_t sent = 0, done = 0;
	unsigned int bad = 0;

	for (; sent < depth && sent < count; sent++) {
		b->header[sent].sector = b->sectors[b->next++ & (BLK_SECTORS - 1)];
		vq->avail->ring[idx++ & mask] = (uint16_t)(sent * 3);
	}
	while (done < count) {
		compiler_barrier();
		vq->avail->idx = idx;
		kick_from(vq, from);
		from = idx;
		wait_used(vq);
		for (; vq->last_used != vq->used->idx; vq->last_used++) {
			uint32_t head = vq->used->ring[vq->last_used & mask].id;
			unsigned int slot = head / 3;

			bad += b->status[slot];
			done++;
			if (sent == count)
				continue;
			b->header[slot].sector = b->sectors[b->next++ & (BLK_SECTORS - 1)];
			vq->avail->ring[idx++ & mask] = (uint16_t)head;
			sent++;
		}
	}
	return bad;
}

static void run_bench_blk(void)
{
	static struct bench_blk b;
	uint32_t size = (uint32_t)arg_u64("size", PAGE);
	unsigned int depth = (unsigned int)arg_u64("depth", 1), bad;
	uint64_t count = arg_u64("count", 1000), capacity;

	if (depth == 0 || depth > BLK_DEPTH_MAX || size == 0 || size % PAGE) {
		check(false, "depth=1..%u, size= a multiple of %u", BLK_DEPTH_MAX, PAGE);
		return;
	}
	if (platform_ram_end() < DATA_AT + (uint64_t)depth * size) {
		check(false, "RAM for %u times %u bytes from 32 MiB on", depth, size);
		return;
	}
	if (!virtio_find(VIRTIO_BLK, 0, &b.dev)) {
		skip("no virtio-blk device");
		return;
	}
	if (!check(virtio_negotiate(&b.dev, VIRTIO_F_EVENT_IDX | BLK_F_FLUSH) &&
			   (b.dev.features & VIRTIO_F_EVENT_IDX) &&
			   virtqueue_setup(&b.dev, &b.vq, 0, BLK_RING) && b.vq.size >= 3 * depth,
		   "event index, and room for depth %u", depth))
		return;
	virtio_driver_ok(&b.dev);
	capacity = mmio_read32(b.dev.region[REGION_CONFIG]) |
		   (uint64_t)mmio_read32(b.dev.region[REGION_CONFIG] + 4) << 32;
	blk_prepare(&b, depth, arg_u64("write", 0) ? BLK_T_OUT : BLK_T_IN, size);
	blk_choose_sectors(&b, capacity, size, arg_u64("seq", 0));
	bad = blk_run(&b, count < 64 ? count : 64, depth); /* warm */
	outb(PORT_CODE, CODE_BEGIN);
	bad += blk_run(&b, count, depth);
	outb(PORT_CODE, CODE_END);
	check_eq(bad, 0, "%lu requests of %u bytes, depth %u", count, size, depth);
}

/* --- net --- */

/* as with disks: descriptors stay as they are, and one buffer serves all of them */
static bool net_open(struct virtio_device *dev, struct virtqueue *vq, uint16_t index, uint32_t len)
{
	uint8_t *frame = alloc_pages(1);

	if (!virtio_find(VIRTIO_NET, 0, dev)) {
		skip("no virtio-net device");
		return false;
	}
	if (!check(virtio_negotiate(dev, VIRTIO_F_EVENT_IDX | NET_F_MAC) &&
			   (dev->features & VIRTIO_F_EVENT_IDX) &&
			   virtqueue_setup(dev, vq, index, NET_RING),
		   "set up"))
		return false;
	virtio_driver_ok(dev);
	memset(frame, 0, PAGE);
	memset(frame + VNET_HEADER, 0xff, 6); /* to everybody, and an EtherType nobody has */
	frame[VNET_HEADER + 6] = 2;
	frame[VNET_HEADER + 12] = 0x88;
	frame[VNET_HEADER + 13] = 0xb5;
	for (uint16_t i = 0; i < vq->size; i++)
		vq->desc[i] =
			(struct virtq_desc){ (uint64_t)frame, len, index ? 0 : VIRTQ_WRITE, 0 };
	return true;
}

/* all descriptors are with the device, and come back until @count of them have */
static void net_run(struct virtqueue *vq, uint64_t count)
{
	uint16_t mask = (uint16_t)(vq->size - 1), idx = vq->avail->idx, from = idx;
	uint64_t done = 0;

	while (done < count) {
		compiler_barrier();
		vq->avail->idx = idx;
		kick_from(vq, from);
		from = idx;
		wait_used(vq);
		for (; vq->last_used != vq->used->idx; vq->last_used++, done++)
			vq->avail->ring[idx++ & mask] =
				(uint16_t)vq->used->ring[vq->last_used & mask].id;
	}
}

static void net_bench(uint16_t index, uint32_t len)
{
	static struct virtio_device dev;
	static struct virtqueue vq;
	uint64_t count = arg_u64("count", 1000);

	if (!net_open(&dev, &vq, index, len))
		return;
	for (uint16_t i = 0; i < vq.size; i++)
		vq.avail->ring[i] = i;
	compiler_barrier();
	vq.avail->idx = vq.size;
	virtqueue_kick(&vq);
	wait_used(&vq);
	outb(PORT_CODE, CODE_BEGIN);
	net_run(&vq, count);
	outb(PORT_CODE, CODE_END);
	check(true, "%lu frames", count);
}

/* frames of size= bytes go out as fast as the device takes them */
static void run_bench_net_tx(void)
{
	uint32_t len = (uint32_t)arg_u64("size", 64);

	if (check(len >= 60 && len <= NET_FRAME_MAX, "size=60..%u", NET_FRAME_MAX))
		net_bench(1, VNET_HEADER + len);
}

/* takes frames that somebody outside sends */
static void run_bench_net_rx(void)
{
	net_bench(0, NET_FRAME_MAX);
}

const struct scenario bench_scenarios[] = {
	{ "bench-blk", run_bench_blk },
	{ "bench-net-tx", run_bench_net_tx },
	{ "bench-net-rx", run_bench_net_rx },
	{ 0 },
};
