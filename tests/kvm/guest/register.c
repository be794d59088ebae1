/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of malformed register use: queue set-up, doorbells, status, accesses of any width
 * anywhere in the BAR (virtio 1.3, 4.1.4)
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/victim.h"

#define WILD_PAGE 0xfffffffffffff000ULL
#define WILD_HIGH (1ULL << 45)
#define HOLE      0xe8000000ULL
#define QUIET_MS  5
#define RESETS    16

static uint64_t common_of(const struct victim *v)
{
	return v->dev.region[REGION_COMMON];
}

static void write64(uint64_t reg, uint64_t value)
{
	mmio_write32(reg, (uint32_t)value);
	mmio_write32(reg + 4, (uint32_t)(value >> 32));
}

/* queue addresses */

struct address_case {
	const char *name;
	enum virtio_common reg;
	uint64_t address; /* 0: relative to the end of RAM */
	uint64_t add;
};

static const struct address_case address_cases[] = {
	{ "descriptor table at 32 TiB", COMMON_QUEUE_DESC, WILD_HIGH, 0 },
	{ "descriptor table wraps", COMMON_QUEUE_DESC, WILD_PAGE, 0xff0 },
	{ "descriptor table across the end of RAM", COMMON_QUEUE_DESC, 0, -(uint64_t)16 },
	{ "descriptor table in the hole", COMMON_QUEUE_DESC, HOLE, 0 },
	{ "avail ring at 32 TiB", COMMON_QUEUE_AVAIL, WILD_HIGH, 0 },
	{ "avail ring across the end of RAM", COMMON_QUEUE_AVAIL, 0, -(uint64_t)4 },
	{ "used ring at 32 TiB", COMMON_QUEUE_USED, WILD_HIGH, 0 },
	{ "used ring wraps", COMMON_QUEUE_USED, WILD_PAGE, 0xffc },
	{ "used ring across the end of RAM", COMMON_QUEUE_USED, 0, -(uint64_t)8 },
};

static void attack_queue_addr(struct victim *v)
{
	for (unsigned int i = 0; i < sizeof(address_cases) / sizeof(address_cases[0]); i++) {
		const struct address_case *c = &address_cases[i];
		uint64_t base = c->address ? c->address : platform_ram_end();

		if (!victim_negotiate(v, 0)) {
			check(false, "%s on %s: device starts", c->name, v->type->name);
			continue;
		}
		/* as virtqueue_setup() does it, with one address replaced before enabling */
		virtqueue_prepare(&v->vq, v->type->queue, VICTIM_QUEUE_SIZE);
		mmio_write16(common_of(v) + COMMON_QUEUE_SELECT, v->type->queue);
		mmio_write16(common_of(v) + COMMON_QUEUE_SIZE, v->vq.size);
		v->vq.notify = v->dev.region[REGION_NOTIFY] +
			       (uint64_t)mmio_read16(common_of(v) + COMMON_QUEUE_NOTIFY_OFF) *
				       v->dev.notify_multiplier;
		virtqueue_write_addresses(&v->dev, &v->vq);
		write64(common_of(v) + c->reg, base + c->add);
		mmio_write16(common_of(v) + COMMON_QUEUE_ENABLE, 1);
		virtio_driver_ok(&v->dev);
		v->type->build(v);
		virtqueue_publish(&v->vq, 0);
		victim_settle(v, c->name);
	}
}

static void run_bad_queue_addr(void)
{
	victim_each(attack_queue_addr);
}

/* queue sizes */

static void attack_queue_size(struct victim *v)
{
	static const uint16_t sizes[] = { 0, 3, 6, 0x7fff, 0x8000, 0xffff };

	for (unsigned int i = 0; i <= sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint16_t max, size, got;

		if (!check(victim_negotiate(v, 0), "queue size %u on %s: device starts", i,
			   v->type->name))
			return;
		mmio_write16(common_of(v) + COMMON_QUEUE_SELECT, v->type->queue);
		max = mmio_read16(common_of(v) + COMMON_QUEUE_SIZE);
		size = i < sizeof(sizes) / sizeof(sizes[0]) ? sizes[i] : (uint16_t)(max * 2);
		virtqueue_prepare(&v->vq, v->type->queue, VICTIM_QUEUE_SIZE);
		mmio_write16(common_of(v) + COMMON_QUEUE_SIZE, size);
		got = mmio_read16(common_of(v) + COMMON_QUEUE_SIZE);
		virtqueue_write_addresses(&v->dev, &v->vq);
		mmio_write16(common_of(v) + COMMON_QUEUE_ENABLE, 1);
		virtio_driver_ok(&v->dev);
		v->type->build(v);
		v->vq.avail->idx = 1;
		mmio_write16(v->dev.region[REGION_NOTIFY] +
				     (uint64_t)mmio_read16(common_of(v) + COMMON_QUEUE_NOTIFY_OFF) *
					     v->dev.notify_multiplier,
			     v->type->queue);
		sleep_ms(QUIET_MS);
		info("queue size %u of max %u on %s: reads back %u, enabled %u, device status 0x%x",
		     size, max, v->type->name, got, mmio_read16(common_of(v) + COMMON_QUEUE_ENABLE),
		     virtio_status(&v->dev));
		check(got != size || virtio_status(&v->dev) & VIRTIO_NEEDS_RESET ||
			      !mmio_read16(common_of(v) + COMMON_QUEUE_ENABLE) ||
			      arg_u64("lenient", 0),
		      "queue size %u on %s is not taken at face value", size, v->type->name);
		victim_recovers(v, "bad queue size");
	}
	/* queues that do not exist read size 0 and cannot be enabled (4.1.4.3) */
	if (!victim_negotiate(v, 0))
		return;
	mmio_write16(common_of(v) + COMMON_QUEUE_SELECT, 0xffff);
	check(mmio_read16(common_of(v) + COMMON_QUEUE_SIZE) == 0 || arg_u64("lenient", 0),
	      "queue 0xffff of %s has size 0", v->type->name);
	mmio_write16(common_of(v) + COMMON_QUEUE_SIZE, 16);
	write64(common_of(v) + COMMON_QUEUE_DESC, WILD_PAGE);
	mmio_write16(common_of(v) + COMMON_QUEUE_ENABLE, 1);
	victim_recovers(v, "queue 0xffff");
}

static void run_bad_queue_size(void)
{
	victim_each(attack_queue_size);
}

/* doorbells */

static void random_doorbells(struct victim *v, struct random *r, unsigned int n)
{
	uint64_t notify = v->dev.region[REGION_NOTIFY];

	for (unsigned int i = 0; i < n; i++) {
		uint32_t len = v->dev.region_len[REGION_NOTIFY];
		uint64_t at = notify + (len > 8 ? random_below(r, len - 8) : 0);

		switch (random_below(r, 4)) {
		case 0:
			mmio_write8(at, (uint8_t)random_next(r));
			break;
		case 1:
			mmio_write32(at & ~3ULL, random_next(r));
			break;
		case 2:
			mmio_write64(at, random_next(r));
			break;
		default:
			mmio_write16(at & ~1ULL, (uint16_t)random_next(r));
			break;
		}
	}
}

static void attack_notify(struct victim *v)
{
	struct random r = random_seed(arg_u64("seed", 1));

	virtio_reset(&v->dev);
	random_doorbells(v, &r, 16);
	victim_recovers(v, "doorbells before negotiation");
	victim_negotiate(v, 0);
	virtqueue_setup(&v->dev, &v->vq, v->type->queue, VICTIM_QUEUE_SIZE);
	virtqueue_kick(&v->vq);
	random_doorbells(v, &r, 16);
	victim_recovers(v, "doorbells before DRIVER_OK");
	victim_start(v, 0);
	random_doorbells(v, &r, 32);
	mmio_write16(v->vq.notify, 0xffff);
	mmio_write16(v->vq.notify, v->dev.n_queues);
	victim_recovers(v, "doorbells of every kind");
	virtio_reset(&v->dev);
	virtqueue_kick(&v->vq);
	victim_recovers(v, "doorbell after reset");
}

static void run_bad_notify(void)
{
	victim_each(attack_notify);
}

/* accesses of any width */

static void access_all_widths(uint64_t at, uint32_t value, bool write)
{
	if (!write) {
		mmio_read8(at);
		mmio_read16(at);
		mmio_read32(at);
		mmio_read64(at);
		return;
	}
	mmio_write8(at, (uint8_t)value);
	mmio_write16(at, (uint16_t)value);
	mmio_write32(at, value);
	mmio_write64(at, value);
}

/* the size of the BAR the common configuration is in, and where it starts */
static struct pci_bar common_bar(const struct victim *v)
{
	struct pci_bar bar = { 0 };

	for (unsigned int i = 0; i < 6; i++) {
		bar = pci_bar_probe(v->dev.pci, i);
		if (bar.size && common_of(v) >= bar.address &&
		    common_of(v) < bar.address + bar.size)
			return bar;
		if (bar.wide)
			i++;
	}
	return bar;
}

/* random table entries would be messages to random addresses: keep the function masked */
static bool in_msix(const struct victim *v, uint64_t at)
{
	uint64_t end = v->dev.pci->msix_table + 16ULL * v->dev.pci->msix_vectors;

	return v->dev.have_msix && at + 8 > v->dev.pci->msix_table && at < end;
}

static void attack_config(struct victim *v)
{
	struct random r = random_seed(arg_u64("seed", 1));
	struct pci_bar bar = common_bar(v);
	uint64_t end = bar.address + bar.size;
	uint64_t step = bar.size > 0x20000 ? bar.size / 32 : 0x1000;

	if (!check(bar.size >= 0x1000, "BAR of %s found", v->type->name) || !victim_start(v, 0))
		return;
	for (uint64_t at = bar.address; at < end; at += step) {
		access_all_widths(at, 0, false);
		access_all_widths(at + 1, 0, false);
		access_all_widths(at + step - 8, 0, false);
		if (at + step < end)
			access_all_widths(at + step - 3, 0, false);
	}
	victim_recovers(v, "reads of every width all over the BAR");
	for (unsigned int region = 0; region < REGION_N_; region++) {
		uint64_t base = v->dev.region[region];
		uint32_t len = v->dev.region_len[region];

		if (!base || len < 16)
			continue;
		for (unsigned int i = 0; i < 16; i++)
			access_all_widths(base + random_below(&r, len - 8), random_next(&r), true);
		/* across the end of the region */
		for (unsigned int i = 1; i < 8; i++)
			access_all_widths(base + len - i, random_next(&r),
					  !in_msix(v, base + len - i));
	}
	victim_recovers(v, "writes of every width to every region");
	for (unsigned int off = 0; off < 0x40; off++) {
		/* reads of the common configuration between its fields and across them */
		access_all_widths(common_of(v) + off, 0, false);
	}
	for (uint64_t at = bar.address; at < end; at += step) {
		if (in_msix(v, at + 0x800) || in_msix(v, at + 1))
			continue;
		access_all_widths(at + 0x800, random_next(&r), true);
		access_all_widths(at + 1, random_next(&r), true);
	}
	victim_recovers(v, "writes between the regions");
	if (!v->dev.have_msix)
		return;
	pci_msix_function_mask(v->dev.pci, true);
	for (unsigned int i = 0; i < 32; i++) {
		uint64_t at = v->dev.pci->msix_table +
			      random_below(&r, 16U * v->dev.pci->msix_vectors - 8);

		access_all_widths(at, random_next(&r), false);
		mmio_write8(at, 0);
		mmio_write16(at, 1);
		access_all_widths(v->dev.pci->msix_pba + (i & 7), random_next(&r), true);
	}
	/* masked again and rewritten before the function mask goes */
	virtio_reset(&v->dev);
	check(virtio_map(&v->dev), "%s found again", v->type->name);
	victim_recovers(v, "odd accesses to the MSI-X table");
}

static void run_bad_config(void)
{
	victim_each(attack_config);
}

/* status sequences */

/* up to FEATURES_OK with exactly these */
static void offer_features(struct victim *v, uint64_t features)
{
	virtio_reset(&v->dev);
	mmio_write8(common_of(v) + COMMON_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	for (uint32_t i = 0; i < 2; i++) {
		mmio_write32(common_of(v) + COMMON_DRIVER_FEATURE_SELECT, i);
		mmio_write32(common_of(v) + COMMON_DRIVER_FEATURE, (uint32_t)(features >> 32 * i));
	}
	mmio_write8(common_of(v) + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
}

/* a queue that is set up, filled and rung before features are agreed on (3.1.1) */
static void early_queue(struct victim *v)
{
	virtio_reset(&v->dev);
	mmio_write8(common_of(v) + COMMON_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	virtqueue_setup(&v->dev, &v->vq, v->type->queue, VICTIM_QUEUE_SIZE);
	v->type->build(v);
	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	mmio_write8(common_of(v) + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK);
	virtqueue_kick(&v->vq);
	sleep_ms(QUIET_MS);
	check(!virtqueue_has_used(&v->vq), "%s does nothing before FEATURES_OK", v->type->name);
	victim_recovers(v, "queue before features");
}

static void attack_status(struct victim *v)
{
	static const uint8_t values[] = { 0, 1, 3, 4, 7, 8, 0xb, 0xf, 0x40, 0x80, 0xc0, 0xff };
	uint32_t count = (uint32_t)arg_u64("count", 64);
	struct random r = random_seed(arg_u64("seed", 1));

	for (uint32_t i = 0; i < count; i++) {
		mmio_write8(common_of(v) + COMMON_STATUS, values[random_below(&r, sizeof(values))]);
		switch (random_below(&r, 6)) {
		case 0:
			mmio_write16(common_of(v) + COMMON_QUEUE_SELECT,
				     (uint16_t)random_below(&r, v->dev.n_queues + 1U));
			mmio_write16(common_of(v) + COMMON_QUEUE_ENABLE, 1);
			break;
		case 1:
			mmio_write32(common_of(v) + COMMON_DRIVER_FEATURE_SELECT,
				     random_below(&r, 4));
			mmio_write32(common_of(v) + COMMON_DRIVER_FEATURE, random_next(&r));
			break;
		case 2:
			virtqueue_kick(&v->vq);
			break;
		default:
			break;
		}
	}
	victim_recovers(v, "random status sequence");
	/* DRIVER_OK with no queue at all, twice, and FAILED after it */
	victim_negotiate(v, 0);
	virtio_driver_ok(&v->dev);
	virtio_driver_ok(&v->dev);
	mmio_write8(common_of(v) + COMMON_STATUS, VIRTIO_FAILED);
	victim_recovers(v, "DRIVER_OK twice without queues, then FAILED");
	/* features the device never offered must not be accepted (2.2.2) */
	offer_features(v, ~0ULL);
	check(!(virtio_status(&v->dev) & VIRTIO_FEATURES_OK) || arg_u64("lenient", 0),
	      "%s refuses features it did not offer", v->type->name);
	victim_recovers(v, "features never offered");
	/* a modern-only device refuses a driver without VERSION_1 (6.1) */
	offer_features(v, 0);
	check(!(virtio_status(&v->dev) & VIRTIO_FEATURES_OK) || arg_u64("lenient", 0),
	      "%s refuses a driver without VERSION_1", v->type->name);
	victim_recovers(v, "driver without VERSION_1");
	if (v->dev.offered & VIRTIO_F_ACCESS_PLATFORM) {
		offer_features(v, VIRTIO_F_VERSION_1);
		check(!(virtio_status(&v->dev) & VIRTIO_FEATURES_OK),
		      "%s refuses a driver that knows of no IOMMU", v->type->name);
		victim_recovers(v, "driver without ACCESS_PLATFORM");
	}
	early_queue(v);
	/* resets in the middle of requests, sooner and later */
	for (unsigned int i = 0; i < RESETS && victim_start(v, 0); i++) {
		virtqueue_publish(&v->vq, 0);
		virtqueue_kick(&v->vq);
		for (unsigned int k = random_below(&r, 4); k > 0; k--)
			mmio_read8(common_of(v) + COMMON_STATUS);
		mmio_write8(common_of(v) + COMMON_STATUS, 0);
	}
	victim_recovers(v, "resets with a request in flight");
}

static void run_bad_status(void)
{
	victim_each(attack_status);
}

const struct scenario register_scenarios[] = {
	{ "bad-queue-addr", run_bad_queue_addr }, { "bad-queue-size", run_bad_queue_size },
	{ "bad-notify", run_bad_notify },         { "bad-config", run_bad_config },
	{ "bad-status", run_bad_status },         { 0 },
};
