/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario of a driver gone mad: random ring contents and random registers, reproducible by seed=
 *
 * The guest must survive what it asks for. So every address a device may write to is either in a
 * scratch area of its own or far outside RAM, and lengths that stay inside RAM are small enough not
 * to leave the scratch area.
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define SCRATCH_PAGES                                                                              \
	64 /* targets lie in the first half, lengths reach at most over the second                 \
	    */
#define SCRATCH_TARGET   (SCRATCH_PAGES * 4096 / 2)
#define ROUNDS_PER_CHECK 16
#define REGISTER_WRITES  6

static uint8_t *scratch;

static uint64_t random_address(struct random *r)
{
	static const uint64_t outside[] = {
		0xfffffffffffff000, 0xfffffffffffffff0, 1ULL << 45, 1ULL << 63, 0xe8000000, ~0ULL,
	};

	if (random_below(r, 10) == 0)
		return outside[random_below(r, sizeof(outside) / sizeof(outside[0]))];
	return (uint64_t)scratch + random_below(r, SCRATCH_TARGET);
}

static uint32_t random_length(struct random *r)
{
	static const uint32_t lengths[] = {
		0, 1, 12, 15, 16, 17, 32, 511, 512, 513, 4096, 65536, 0xffffffff, 0xfffffff0,
	};

	return lengths[random_below(r, sizeof(lengths) / sizeof(lengths[0]))];
}

/* rarely outside the ring: most rounds are to get further than the first check */
static uint16_t random_index(struct random *r)
{
	return (uint16_t)(random_below(r, 32) ? random_below(r, VICTIM_QUEUE_SIZE)
					      : VICTIM_QUEUE_SIZE + random_below(r, 3));
}

static struct virtq_desc random_desc(struct random *r)
{
	return (struct virtq_desc){
		.addr = random_address(r),
		.len = random_length(r),
		/* mostly the flags that exist */
		.flags = (uint16_t)(random_below(r, 8) ? random_below(r, 4) : random_next(r)),
		.next = random_index(r),
	};
}

/* descriptors in the ring, indirect tables in the scratch area, heads, index */
static void random_ring(struct victim *v, struct random *r)
{
	struct virtq_desc *tables = (struct virtq_desc *)(void *)scratch;

	for (uint16_t i = 0; i < VICTIM_QUEUE_SIZE; i++) {
		v->vq.desc[i] = random_desc(r);
		if (v->vq.desc[i].flags & VIRTQ_INDIRECT && random_below(r, 4)) {
			v->vq.desc[i].addr = (uint64_t)&tables[random_below(r, 16)];
			v->vq.desc[i].len = 16 * random_below(r, 20);
		}
		v->vq.avail->ring[i] = random_index(r);
	}
	for (uint16_t i = 0; i < 32; i++)
		tables[i] = random_desc(r);
	/* now and then the request starts out well */
	if (random_below(r, 2))
		v->type->build(v);
	v->vq.avail->idx = (uint16_t)(v->vq.avail->idx +
				      (random_below(r, 16) ? random_below(r, 6) : random_next(r)));
}

static void random_register(struct victim *v, struct random *r)
{
	uint64_t common = v->dev.region[REGION_COMMON];
	uint64_t address = random_address(r);
	/* ring addresses in the scratch area or outside RAM only */
	uint64_t reg = common + COMMON_QUEUE_DESC + 8 * random_below(r, 3);

	switch (random_below(r, 10)) {
	case 0:
		mmio_write8(common + COMMON_STATUS, (uint8_t)random_next(r));
		break;
	case 1:
		mmio_write16(common + COMMON_QUEUE_SELECT, (uint16_t)random_below(r, 4));
		break;
	case 2:
		mmio_write16(common + COMMON_QUEUE_SIZE, (uint16_t)(1U << random_below(r, 16)));
		break;
	case 3:
		mmio_write16(common + COMMON_QUEUE_ENABLE, (uint16_t)random_below(r, 3));
		break;
	case 4:
		mmio_write32(reg, (uint32_t)address);
		mmio_write32(reg + 4, (uint32_t)(address >> 32));
		break;
	case 5:
		mmio_write16(common + COMMON_QUEUE_VECTOR, (uint16_t)random_below(r, 6));
		break;
	case 6:
		mmio_write16(common + COMMON_CONFIG_VECTOR, (uint16_t)random_below(r, 6));
		break;
	case 7:
		mmio_write32(common + COMMON_DRIVER_FEATURE, random_next(r));
		break;
	case 8:
		if (v->dev.region[REGION_CONFIG])
			mmio_write32(v->dev.region[REGION_CONFIG] + 4 * random_below(r, 16),
				     random_next(r));
		break;
	default:
		mmio_write16(v->vq.notify, (uint16_t)random_next(r));
		break;
	}
}

static bool storm_round(struct victim *v, struct random *r)
{
	bool registers = arg_u64("registers", 1);
	uint64_t features = random_below(r, 2) ? VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX : 0;

	if (!victim_start(v, features))
		return check(false, "%s starts", v->type->name);
	for (unsigned int kicks = 1 + random_below(r, 3); kicks > 0; kicks--) {
		random_ring(v, r);
		virtqueue_kick(&v->vq);
		for (uint32_t n = random_below(r, REGISTER_WRITES); registers && n > 0; n--)
			random_register(v, r);
	}
	return true;
}

static void attack(struct victim *v)
{
	uint32_t count = (uint32_t)arg_u64("count", 64), broken = 0;
	uint64_t seed = arg_u64("seed", 1);
	struct random r = random_seed(seed);

	if (v->type->frees && v->type->queue == 0)
		return;
	if (!scratch)
		scratch = alloc_pages(SCRATCH_PAGES);
	for (uint32_t i = 0; i < count; i++) {
		if (!storm_round(v, &r))
			return;
		broken += (virtio_status(&v->dev) & VIRTIO_NEEDS_RESET) != 0;
		if (i % ROUNDS_PER_CHECK == ROUNDS_PER_CHECK - 1 && !victim_works(v)) {
			check(false, "%s works after round %u of seed %lu", v->type->name, i, seed);
			return;
		}
	}
	info("%u rounds of seed %lu on %s, %u ended in DEVICE_NEEDS_RESET", count, seed,
	     v->type->name, broken);
	victim_recovers(v, "storm");
}

static void run_bad_storm(void)
{
	victim_each(attack);
}

const struct scenario storm_scenarios[] = {
	{ "bad-storm", run_bad_storm },
	{ 0 },
};
