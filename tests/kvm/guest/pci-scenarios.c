/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of the PCI bus: enumeration, BARs that move
 */
#include <stddef.h>

#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/stream.h"

#define WINDOW_START 0xc0000000ULL
#define WINDOW_END   0xe8000000ULL
#define BARS_MAX     (PCI_DEVICES_MAX * 6)

/* every memory BAR in use, to find room between them */
static struct pci_bar bars[BARS_MAX];
static unsigned int n_bars;

static bool compare_mechanisms(const struct pci_device *pci)
{
	for (uint16_t off = 0; off < 64; off += 4)
		if (pci_ecam_read(pci->slot, pci->function, off, 4) !=
		    pci_cf8_read(pci->slot, pci->function, off, 4))
			return false;
	/* narrow accesses agree with the wide one */
	return pci_ecam_read(pci->slot, pci->function, PCI_DEVICE, 2) == pci->device &&
	       pci_cf8_read(pci->slot, pci->function, PCI_DEVICE, 2) == pci->device &&
	       pci_ecam_read(pci->slot, pci->function, PCI_VENDOR + 1, 1) == pci->vendor >> 8 &&
	       pci_cf8_read(pci->slot, pci->function, PCI_VENDOR + 1, 1) == pci->vendor >> 8;
}

/* each in the upper part of configuration space, aligned, none twice, ending in 0 */
static bool capabilities_sane(const struct pci_device *pci)
{
	uint64_t seen = 0;
	uint8_t off;

	if (!(pci_read(pci, PCI_STATUS, 2) & PCI_STATUS_CAPS))
		return true;
	off = (uint8_t)pci_read(pci, PCI_CAPABILITIES, 1);
	while (off) {
		if (off < 0x40 || off & 3 || seen >> (off / 4) & 1)
			return false;
		seen |= 1ULL << off / 4;
		off = (uint8_t)pci_read(pci, off + 1, 1);
	}
	return true;
}

static bool overlaps(const struct pci_bar *a, const struct pci_bar *b)
{
	return a->io == b->io && a->size && b->size && a->address < b->address + b->size &&
	       b->address < a->address + a->size;
}

static bool list_bars(const struct pci_device *pci)
{
	bool good = true;

	for (unsigned int i = 0; i < 6; i++) {
		uint32_t before = pci_read(pci, PCI_BAR(i), 4);
		struct pci_bar bar = pci_bar_probe(pci, i);

		good = good && pci_read(pci, PCI_BAR(i), 4) == before;
		if (!bar.size)
			continue;
		info("  BAR%u %s%s%s at 0x%lx size 0x%lx", i, bar.io ? "io" : "mem",
		     bar.wide ? "64" : "", bar.prefetchable ? " prefetchable" : "", bar.address,
		     bar.size);
		good = good && !(bar.size & (bar.size - 1)) && !(bar.address & (bar.size - 1));
		for (unsigned int k = 0; bar.address && k < n_bars; k++)
			good = good && !overlaps(&bars[k], &bar);
		if (bar.address && n_bars < BARS_MAX)
			bars[n_bars++] = bar;
		if (bar.wide)
			i++;
	}
	return good;
}

static void check_empty_slots(void)
{
	unsigned int bad = 0;

	for (uint8_t slot = 0; slot < 32; slot++) {
		bool used = false;

		for (unsigned int i = 0; i < pci_n_devices; i++)
			used = used || pci_devices[i].slot == slot;
		if (used)
			continue;
		bad += pci_cf8_read(slot, 0, 0, 4) != 0xffffffff;
		bad += pci_cf8_read(slot, 0, 0x10, 2) != 0xffff;
		if (!pci_ecam_base())
			continue;
		bad += pci_ecam_read(slot, 0, 0, 4) != 0xffffffff;
		bad += pci_ecam_read(slot, 0, 0x3d, 1) != 0xff;
		bad += pci_ecam_read(slot, 0, 0x100, 4) != 0xffffffff;
	}
	check_eq(bad, 0, "empty slots read all ones");
}

static void run_pci_enum(void)
{
	bool cf8;

	pci_scan();
	n_bars = 0;
	outl(0xcf8, 0x80000000);
	cf8 = inl(0xcf8) == 0x80000000;
	check(pci_n_devices > 0, "%u functions found", pci_n_devices);
	if (!cf8)
		skip("no configuration mechanism #1");
	if (!pci_ecam_base())
		skip("no ECAM");
	for (unsigned int i = 0; i < pci_n_devices; i++) {
		const struct pci_device *pci = &pci_devices[i];

		info("device %x.%u %04x:%04x class %06x revision %02x", pci->slot, pci->function,
		     pci->vendor, pci->device, pci->class_revision >> 8,
		     pci->class_revision & 0xff);
		if (cf8 && pci_ecam_base())
			check(compare_mechanisms(pci), "%x.%u same through ECAM and 0xcf8",
			      pci->slot, pci->function);
		check(list_bars(pci), "%x.%u BARs power of two, aligned, apart, restored",
		      pci->slot, pci->function);
		check(capabilities_sane(pci), "%x.%u capability list", pci->slot, pci->function);
	}
	if (cf8)
		check_empty_slots();
}

/* a place for a BAR like @bar that no other one uses, or 0 */
static uint64_t find_room(const struct pci_bar *bar)
{
	struct pci_bar candidate = *bar;
	uint64_t start = bar->address < GIB(4) ? WINDOW_START : bar->address;
	uint64_t end = bar->address < GIB(4) ? WINDOW_END : bar->address + GIB(1);

	for (uint64_t at = (start + bar->size - 1) & ~(bar->size - 1); at + bar->size <= end;
	     at += bar->size) {
		bool clash = false;

		candidate.address = at;
		for (unsigned int i = 0; i < n_bars; i++)
			clash = clash || overlaps(&bars[i], &candidate);
		if (!clash && at != bar->address)
			return at;
	}
	return 0;
}

static void check_silent(uint64_t address, const char *when)
{
	check(mmio_read32(address) == 0xffffffff || arg_u64("lenient", 0),
	      "nothing answers at 0x%lx %s", address, when);
}

static bool works(struct virtio_device *dev, struct blk *blk)
{
	if (blk) {
		blk->dev = *dev;
		return blk_start(blk, 0, false) &&
		       blk_request(blk, 0, BLK_T_IN, 0, blk->slot[1].data, BLK_SECTOR) == BLK_S_OK;
	}
	return rng_works(dev);
}

static void run_bar_move(void)
{
	static struct blk blk;
	unsigned int nth = (unsigned int)arg_u64("nth", 0), index;
	struct virtio_device dev;
	struct pci_bar bar;
	uint64_t to, old;
	bool have_blk = virtio_find(VIRTIO_BLK, nth, &dev);

	if (!have_blk && !virtio_find(VIRTIO_RNG, nth, &dev)) {
		skip("neither virtio-blk nor virtio-rng");
		return;
	}
	n_bars = 0;
	for (unsigned int i = 0; i < pci_n_devices; i++)
		list_bars(&pci_devices[i]);
	/* the BAR that holds the common configuration */
	for (index = 0; index < 6; index++) {
		bar = pci_bar_probe(dev.pci, index);
		if (bar.size && dev.region[REGION_COMMON] >= bar.address &&
		    dev.region[REGION_COMMON] < bar.address + bar.size)
			break;
		if (bar.wide)
			index++;
	}
	to = arg_u64("to", find_room(&bar));
	old = bar.address;
	if (!check(index < 6 && to, "room for BAR%u of %x.%u", index, dev.pci->slot,
		   dev.pci->function))
		return;
	check(works(&dev, have_blk ? &blk : NULL), "works at 0x%lx", old);
	pci_bar_set(dev.pci, index, bar.wide, to);
	check(virtio_map(&dev) && works(&dev, have_blk ? &blk : NULL), "works at 0x%lx", to);
	check_silent(old, "any more");
	pci_bar_set(dev.pci, index, bar.wide, old);
	check(virtio_map(&dev) && works(&dev, have_blk ? &blk : NULL), "works back at 0x%lx", old);
	check_silent(to, "any more");
	/* decoding off: the BAR is gone, configuration space stays */
	pci_write(dev.pci, PCI_COMMAND, 2, pci_read(dev.pci, PCI_COMMAND, 2) & ~PCI_COMMAND_MEMORY);
	check_silent(old, "with memory decoding off");
	check(virtio_map(&dev) && works(&dev, have_blk ? &blk : NULL),
	      "works with decoding on again");
}

/* all queues at once, as a driver of the device would */
static bool activate(struct virtio_device *dev)
{
	if (!virtio_reset(dev) || !virtio_negotiate(dev, ~0ULL))
		return false;
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct virtqueue vq;

		if (!virtqueue_setup(dev, &vq, i, VIRTQUEUE_SIZE_MAX))
			return false;
	}
	virtio_driver_ok(dev);
	return true;
}

static void run_activate(void)
{
	static const enum virtio_type types[] = {
		VIRTIO_BLK,  VIRTIO_NET,     VIRTIO_RNG,   VIRTIO_CONSOLE, VIRTIO_RTC,
		VIRTIO_PMEM, VIRTIO_BALLOON, VIRTIO_VSOCK, VIRTIO_IOMMU,
	};

	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct virtio_device dev;

		for (unsigned int nth = 0; virtio_find(types[i], nth, &dev); nth++) {
			check(activate(&dev), "device %u of type %u starts", nth, types[i]);
			info("active %u %u", types[i], nth);
		}
	}
}

const struct scenario pci_scenarios[] = {
	{ "pci-enum", run_pci_enum },
	{ "activate", run_activate },
	{ "bar-move", run_bar_move },
	{ 0 },
};
