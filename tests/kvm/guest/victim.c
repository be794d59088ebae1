/* SPDX-License-Identifier: Apache-2.0 */
/*
 * victims: devices that malformed-driver scenarios attack
 */
#include "tests/kvm/guest/victim.h"

#include <stddef.h>

#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"

#define NO_QUEUE         0xffff
#define SETTLE_MS        5000 /* a busy host takes its time; what is right is quick */
#define FRAME_LEN        60
#define VNET_HEADER      12
#define VSOCK_HEADER     44
#define IOMMU_PROBE      72
#define IOMMU_PROPERTIES 512
#define SLACK_PAGES                                                                                \
	32 /* behind the page: where a device that believes a huge length writes first */

static void set(struct victim *v, uint16_t i, uint32_t offset, uint32_t len, uint16_t flags)
{
	v->vq.desc[i] = (struct virtq_desc){
		.addr = (uint64_t)v->page + offset,
		.len = len,
		.flags = flags,
		.next = (uint16_t)(flags & VIRTQ_NEXT ? i + 1 : 0),
	};
}

static void build_blk(struct victim *v)
{
	struct blk_header *header = (struct blk_header *)(void *)v->page;

	*header = (struct blk_header){ .type = BLK_T_IN };
	v->page[VICTIM_STATUS] = BLK_STATUS_UNSET;
	set(v, 0, 0, sizeof(*header), VIRTQ_NEXT);
	set(v, 1, VICTIM_DATA, BLK_SECTOR, VIRTQ_NEXT | VIRTQ_WRITE);
	set(v, 2, VICTIM_STATUS, 1, VIRTQ_WRITE);
	v->n = 3;
	v->data = 1;
}

static bool blk_succeeded(const struct victim *v, uint32_t used_len)
{
	return used_len > 0 && v->page[VICTIM_STATUS] == BLK_S_OK;
}

static void build_net(struct victim *v)
{
	memset(v->page, 0, VNET_HEADER);
	memset(v->page + VICTIM_DATA, 0xff, 12);
	v->page[VICTIM_DATA + 12] = 0x88;
	v->page[VICTIM_DATA + 13] = 0xb5;
	set(v, 0, 0, VNET_HEADER, VIRTQ_NEXT);
	set(v, 1, VICTIM_DATA, FRAME_LEN, 0);
	v->n = 2;
	v->data = 1;
}

static void build_rng(struct victim *v)
{
	set(v, 0, VICTIM_DATA, 64, VIRTQ_WRITE);
	v->n = 1;
	v->data = 0;
}

static void build_console(struct victim *v)
{
	memcpy(v->page + VICTIM_DATA, "bad-driver\n", 11);
	set(v, 0, VICTIM_DATA, 11, 0);
	v->n = 1;
	v->data = 0;
}

static void build_rtc(struct victim *v)
{
	memset(v->page, 0, 16);
	v->page[1] = 0x10; /* CFG */
	v->page[VICTIM_DATA] = 0xff;
	set(v, 0, 0, 16, VIRTQ_NEXT);
	set(v, 1, VICTIM_DATA, 16, VIRTQ_WRITE);
	v->n = 2;
	v->data = 1;
}

static bool rtc_succeeded(const struct victim *v, uint32_t used_len)
{
	return used_len == 16 && v->page[VICTIM_DATA] == 0;
}

static void put32(struct victim *v, uint32_t offset, uint32_t value)
{
	memcpy(v->page + offset, &value, sizeof(value));
}

/* 5.10.6: RST of a connection that there is not, the one packet that is never answered */
static void build_vsock(struct victim *v)
{
	memset(v->page, 0, VSOCK_HEADER);
	put32(v, 0, *(volatile uint32_t *)v->dev.region[REGION_CONFIG]);
	put32(v, 8, 2);
	put32(v, 16, 1024);
	put32(v, 20, 80);
	v->page[28] = 1;
	v->page[30] = 3;
	set(v, 0, 0, VSOCK_HEADER, 0);
	v->n = 1;
	v->data = 0;
}

/* the page behind our own is given away */
static void build_balloon(struct victim *v)
{
	put32(v, 0, (uint32_t)((uint64_t)v->page / 4096 + 1));
	set(v, 0, 0, 4, 0);
	v->n = 1;
	v->data = 0;
}

static void build_report(struct victim *v)
{
	set(v, 0, 4096, 4096, VIRTQ_WRITE);
	v->n = 1;
	v->data = 0;
}

static void build_pmem(struct victim *v)
{
	put32(v, 0, 0); /* FLUSH */
	memset(v->page + VICTIM_DATA, 0xff, 4);
	set(v, 0, 0, 4, VIRTQ_NEXT);
	set(v, 1, VICTIM_DATA, 4, VIRTQ_WRITE);
	v->n = 2;
	v->data = 1;
}

static bool pmem_succeeded(const struct victim *v, uint32_t used_len)
{
	return used_len == 4 && v->page[VICTIM_DATA] == 0;
}

uint32_t victim_endpoint(void)
{
	const struct pci_device *rng = pci_find(0x1af4, 0x1044, 0);

	return rng ? rng->slot * 8U : 0xffffffff;
}

/* 5.13.6.7: PROBE of the entropy source */
static void build_iommu(struct victim *v)
{
	memset(v->page, 0, IOMMU_PROBE);
	v->page[0] = 5;
	put32(v, 4, victim_endpoint());
	v->page[VICTIM_DATA + IOMMU_PROPERTIES] = 0xff;
	set(v, 0, 0, IOMMU_PROBE, VIRTQ_NEXT);
	set(v, 1, VICTIM_DATA, IOMMU_PROPERTIES + 4, VIRTQ_WRITE);
	v->n = 2;
	v->data = 1;
}

static bool iommu_succeeded(const struct victim *v, uint32_t used_len)
{
	return used_len == IOMMU_PROPERTIES + 4 && v->page[VICTIM_DATA + IOMMU_PROPERTIES] == 0;
}

/* what is wrong breaks these: a completion says that it was taken for right */
static bool completes(const struct victim *v, uint32_t used_len)
{
	(void)v;
	(void)used_len;
	return true;
}

static bool has_length(const struct victim *v, uint32_t used_len)
{
	(void)v;
	return used_len > 0;
}

/* a transmit queue completes what it drops, too: completion says nothing about success */
static bool unknown(const struct victim *v, uint32_t used_len)
{
	(void)v;
	(void)used_len;
	return false;
}

/* the IOMMU first: what was done to it ends before the device behind it is looked at */
static const struct victim_type types[] = {
	{ "iommu", VIRTIO_IOMMU, 0, NO_QUEUE, build_iommu, iommu_succeeded },
	{ "blk", VIRTIO_BLK, 0, NO_QUEUE, build_blk, blk_succeeded },
	{ "net", VIRTIO_NET, 1, 0, build_net, unknown },
	{ "vsock", VIRTIO_VSOCK, 1, 0, build_vsock, completes },
	{ "balloon", VIRTIO_BALLOON, 0, NO_QUEUE, build_balloon, completes, .frees = true },
	{ "report", VIRTIO_BALLOON, 2, NO_QUEUE, build_report, completes,
	  .features = VIRTIO_BALLOON_REPORTING, .frees = true },
	{ "pmem", VIRTIO_PMEM, 0, NO_QUEUE, build_pmem, pmem_succeeded },
	{ "rng", VIRTIO_RNG, 0, NO_QUEUE, build_rng, has_length },
	{ "console", VIRTIO_CONSOLE, 1, 0, build_console, unknown },
	{ "rtc", VIRTIO_RTC, 0, NO_QUEUE, build_rtc, rtc_succeeded },
};

#define TYPES_N (sizeof(types) / sizeof(types[0]))

/* kept between scenarios of one run: rings and pages are allocated once */
static struct victim victims[TYPES_N];

void victim_each(void (*attack)(struct victim *v))
{
	char wanted[16] = "all";
	unsigned int n = 0;

	arg_get("dev", wanted, sizeof(wanted));
	for (unsigned int i = 0; i < TYPES_N; i++) {
		struct victim *v = &victims[i];

		if (!string_equal(wanted, "all") && !string_equal(wanted, types[i].name))
			continue;
		v->type = &types[i];
		if (!virtio_find(types[i].device, (unsigned int)arg_u64("nth", 0), &v->dev))
			continue;
		if (!v->page)
			v->page = alloc_pages(1 + SLACK_PAGES);
		n++;
		attack(v);
	}
	if (!n)
		skip("no device of type %s", wanted);
	if (arg_u64("victims", 0))
		check_eq(n, arg_u64("victims", 0), "devices that can be attacked");
	/* and none has harmed another */
	for (unsigned int i = 0; n > 1 && i < TYPES_N; i++)
		if (victims[i].type && victims[i].page)
			victim_recovers(&victims[i], "after all others");
}

bool victim_negotiate(struct victim *v, uint64_t features)
{
	if (!virtio_negotiate(&v->dev, features | v->type->features))
		return false;
	return v->type->other_queue == NO_QUEUE ||
	       virtqueue_setup(&v->dev, &v->other, v->type->other_queue, VICTIM_QUEUE_SIZE);
}

bool victim_start(struct victim *v, uint64_t features)
{
	if (!victim_negotiate(v, features) ||
	    !virtqueue_setup(&v->dev, &v->vq, v->type->queue, VICTIM_QUEUE_SIZE))
		return false;
	virtio_driver_ok(&v->dev);
	v->type->build(v);
	return true;
}

bool victim_works(struct victim *v)
{
	struct virtq_used_elem used;

	if (!victim_start(v, 0))
		return false;
	virtqueue_publish(&v->vq, 0);
	virtqueue_kick(&v->vq);
	if (virtio_wait(&v->dev, &v->vq, SETTLE_MS) != OUTCOME_USED)
		return false;
	used.id = v->vq.used->ring[0].id;
	used.len = v->vq.used->ring[0].len;
	return used.id == 0 && (v->type->succeeded == unknown || v->type->succeeded(v, used.len)) &&
	       !(virtio_status(&v->dev) & VIRTIO_NEEDS_RESET);
}

void victim_recovers(struct victim *v, const char *name)
{
	check(victim_works(v), "%s on %s: works after reset", name, v->type->name);
}

void victim_settle(struct victim *v, const char *name)
{
	static const char *const outcomes[] = {
		[OUTCOME_USED] = "completed",
		[OUTCOME_NEEDS_RESET] = "needs reset",
		[OUTCOME_NOTHING] = "no reaction",
	};
	uint32_t config_irqs = irq_count[v->dev.vector - 1];
	enum virtio_outcome outcome;
	uint32_t len;
	bool good;

	virtqueue_kick(&v->vq);
	outcome = virtio_wait(&v->dev, &v->vq, SETTLE_MS);
	len = v->vq.used->ring[0].len;
	good = outcome == OUTCOME_NEEDS_RESET || arg_u64("lenient", 0) ||
	       (outcome == OUTCOME_USED && !v->type->succeeded(v, len));
	if (outcome == OUTCOME_USED)
		info("%s on %s: completed with length %u, status byte 0x%x", name, v->type->name,
		     len, v->type->device == VIRTIO_BLK ? v->page[VICTIM_STATUS] : 0);
	else
		info("%s on %s: %s, %u configuration interrupts", name, v->type->name,
		     outcomes[outcome], irq_count[v->dev.vector - 1] - config_irqs);
	check(good, "%s on %s: %s", name, v->type->name,
	      good ? outcomes[outcome] : "neither error nor DEVICE_NEEDS_RESET");
	victim_recovers(v, name);
}
