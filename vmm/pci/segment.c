/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/segment.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define CF8_ENABLE 0x80000000U

static struct pci_device *device_at(struct pci_segment *seg, uint32_t bus, uint32_t slot,
				    uint32_t function)
{
	if (bus != 0 || function != 0)
		return NULL;
	/* acquire: pairs with the release in pci_segment_add */
	return atomic_load_explicit(&seg->slots[slot & (PCI_SLOTS - 1)], memory_order_acquire);
}

/* Splits what is larger than a doubleword or not aligned. */
static void config_access(struct pci_device *pci, uint32_t off, uint8_t *data, uint32_t len,
			  bool write)
{
	while (len > 0) {
		uint32_t n = off % 4 == 0 && len >= 4 ? 4 : off % 2 == 0 && len >= 2 ? 2 : 1;

		if (write)
			pci_config_write(pci, off, n, (uint32_t)bytes_get_le(data, n));
		else
			bytes_put_le(data, n, pci_config_read(pci, off, n));
		off += n;
		data += n;
		len -= n;
	}
}

static struct pci_device *ecam_decode(struct pci_segment *seg, uint64_t off)
{
	return device_at(seg, (uint32_t)(off >> 20), (uint32_t)(off >> 15) & 31,
			 (uint32_t)(off >> 12) & 7);
}

static void ecam_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct pci_device *pci = ecam_decode(container_of(dev, struct pci_segment, ecam), off);

	memset(data, 0xff, len);
	if (pci && (off & 0xfff) + len <= 0x1000)
		config_access(pci, off & 0xfff, data, len, false);
}

static void ecam_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct pci_device *pci = ecam_decode(container_of(dev, struct pci_segment, ecam), off);
	uint8_t copy[8];

	if (!pci || (off & 0xfff) + len > 0x1000)
		return;
	memcpy(copy, data, len);
	config_access(pci, off & 0xfff, copy, len, true);
}

static const struct bus_ops ecam_ops = { "pci-ecam", ecam_read, ecam_write };

/* The ports: 0xcf8 is the address, doublewords only; 0xcfc..0xcff its data. */
static struct pci_device *ports_decode(struct pci_segment *seg, uint64_t off, uint32_t *ret_off)
{
	uint32_t cf8;

	pthread_mutex_lock(&seg->lock);
	cf8 = seg->cf8;
	pthread_mutex_unlock(&seg->lock);
	if (!(cf8 & CF8_ENABLE))
		return NULL;
	*ret_off = (cf8 & 0xfc) + (uint32_t)(off - 4);
	return device_at(seg, (cf8 >> 16) & 0xff, (cf8 >> 11) & 31, (cf8 >> 8) & 7);
}

static void ports_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct pci_segment *seg = container_of(dev, struct pci_segment, ports);
	struct pci_device *pci;
	uint32_t reg = 0;

	memset(data, 0xff, len);
	if (off == 0 && len == 4) {
		pthread_mutex_lock(&seg->lock);
		bytes_put_le(data, 4, seg->cf8);
		pthread_mutex_unlock(&seg->lock);
	} else if (off >= 4) {
		pci = ports_decode(seg, off, &reg);
		if (pci)
			config_access(pci, reg, data, len, false);
	}
}

static void ports_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct pci_segment *seg = container_of(dev, struct pci_segment, ports);
	struct pci_device *pci;
	uint32_t reg = 0;
	uint8_t copy[4];

	if (off == 0 && len == 4) {
		pthread_mutex_lock(&seg->lock);
		seg->cf8 = (uint32_t)bytes_get_le(data, 4);
		pthread_mutex_unlock(&seg->lock);
	} else if (off >= 4 && len <= sizeof(copy)) {
		pci = ports_decode(seg, off, &reg);
		if (!pci)
			return;
		memcpy(copy, data, len);
		config_access(pci, reg, copy, len, true);
	}
}

static const struct bus_ops ports_ops = { "pci-ports", ports_read, ports_write };

static const struct pci_device_ops bridge_ops = { 0 };

static void freeze_initial(struct pci_device *pci)
{
	memcpy(pci->initial, pci->st.config, sizeof(pci->initial));
}

int pci_segment_init(struct pci_segment *seg, uint16_t number, struct bus *mmio, struct bus *pio,
		     struct mailbox *mailbox, uint64_t ecam_gpa, struct pci_window mmio32,
		     struct pci_window mmio64, struct err *err)
{
	/* The identity that firmware of this platform family looks for. */
	static const struct pci_header bridge = { .vendor = 0x8086, .device = 0x0d57, .class = 6 };
	int r;

	*seg = (struct pci_segment){
		.number = number,
		.mmio = mmio,
		.pio = pio,
		.mailbox = mailbox,
		.mmio32 = mmio32,
		.mmio64 = mmio64,
		.ecam.ops = &ecam_ops,
		.ports.ops = &ports_ops,
	};
	pthread_mutex_init(&seg->lock, NULL);
	r = bus_add(mmio, &seg->ecam, ecam_gpa, PCI_ECAM_BYTES, err);
	if (r < 0 || number != 0)
		return r;
	r = bus_add(pio, &seg->ports, 0xcf8, 8, err);
	if (r < 0) {
		bus_remove(mmio, &seg->ecam);
		return r;
	}
	pci_device_init(&seg->bridge, &bridge_ops, "__host_bridge", &bridge);
	seg->bridge.segment = seg;
	freeze_initial(&seg->bridge);
	atomic_store_explicit(&seg->slots[0], &seg->bridge, memory_order_release);
	return 0;
}

void pci_segment_deinit(struct pci_segment *seg)
{
	if (!seg->mmio)
		return;
	bus_remove(seg->mmio, &seg->ecam);
	if (seg->number == 0) {
		bus_remove(seg->pio, &seg->ports);
		pci_device_deinit(&seg->bridge);
	}
	pthread_mutex_destroy(&seg->lock);
	seg->mmio = NULL;
}

static const struct pci_bar *bar_that_overlaps(const struct pci_device *pci, uint64_t at,
					       uint64_t size)
{
	for (unsigned int b = 0; pci && b < PCI_BARS; b++)
		if (pci->bars[b].addr &&
		    ranges_overlap(at, size, pci->bars[b].addr, pci->bars[b].size))
			return &pci->bars[b];
	return NULL;
}

/*
 * A BAR that overlaps [at, at+size), or NULL: BARs are the record of what is
 * taken.  incoming has no slot yet, but may have some of its BARs.
 */
static const struct pci_bar *find_overlap(struct pci_segment *seg,
					  const struct pci_device *incoming, uint64_t at,
					  uint64_t size)
{
	const struct pci_bar *taken = bar_that_overlaps(incoming, at, size);

	for (unsigned int s = 0; !taken && s < PCI_SLOTS; s++)
		taken = bar_that_overlaps(seg->slots[s], at, size);
	return taken;
}

/* First fit; 0 = no room. */
static uint64_t find_room(struct pci_segment *seg, const struct pci_device *incoming,
			  const struct pci_window *w, uint64_t size, uint64_t align)
{
	uint64_t at = align_up(w->start, align);
	const struct pci_bar *taken;

	while (range_fits(at - w->start, size, w->size)) {
		taken = find_overlap(seg, incoming, at, size);
		if (!taken)
			return at;
		at = align_up(taken->addr + taken->size, align);
	}
	return 0;
}

static int place_bars(struct pci_segment *seg, struct pci_device *pci, struct err *err)
{
	int r;

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = &pci->bars[i];
		uint64_t at;

		if (!b->size)
			continue;
		/* Below 4 GiB as long as there is room: any firmware can reach it there. */
		at = find_room(seg, pci, &seg->mmio32, b->size, b->align);
		if (!at && b->is_64)
			at = find_room(seg, pci, &seg->mmio64, b->size, b->align);
		if (!at)
			return err_set(err, ENOSPC, "no room for BAR %u of %lu bytes", i, b->size);
		r = bus_add(seg->mmio, b->region, at, b->size, err);
		if (r < 0)
			return r;
		b->addr = at;
		bytes_put_le(pci->st.config + PCI_BASE_ADDRESS_0 + 4UL * i, b->is_64 ? 8 : 4,
			     at | (b->is_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0));
		if (pci->ops->bar_mapped)
			pci->ops->bar_mapped(pci, i);
	}
	return 0;
}

static void unplace_bars(struct pci_segment *seg, struct pci_device *pci)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct pci_bar *b = &pci->bars[i];

		if (!b->addr)
			continue;
		if (pci->ops->bar_unmapping)
			pci->ops->bar_unmapping(pci, i);
		bus_remove(seg->mmio, b->region);
		b->addr = 0;
	}
}

static int choose_slot(struct pci_segment *seg, const struct pci_device *pci, int slot,
		       struct err *err)
{
	if (slot >= PCI_SLOTS)
		return err_set(err, EINVAL, "device '%s': PCI slot %d must be 0 to 31", pci->id,
			       slot);
	if (slot >= 0 && seg->slots[slot])
		return err_set(err, EBUSY, "device '%s': PCI slot %d is taken by '%s'", pci->id,
			       slot, seg->slots[slot]->id);
	if (slot >= 0)
		return slot;
	for (slot = 0; slot < PCI_SLOTS; slot++)
		if (!seg->slots[slot])
			return slot;
	return err_set(err, ENOSPC, "device '%s': PCI segment %u has no free slot", pci->id,
		       seg->number);
}

int pci_segment_add(struct pci_segment *seg, struct pci_device *pci, int slot, struct err *err)
{
	int r;

	slot = choose_slot(seg, pci, slot, err);
	if (slot < 0)
		return slot;
	pci->segment = seg;
	pci->slot = (uint8_t)slot;
	r = place_bars(seg, pci, err);
	if (r < 0) {
		unplace_bars(seg, pci);
		pci->segment = NULL;
		return err_prefix(err, r, "device '%s'", pci->id);
	}
	freeze_initial(pci);
	/* release: a vCPU that finds the device finds it whole */
	atomic_store_explicit(&seg->slots[slot], pci, memory_order_release);
	return 0;
}

void pci_segment_remove(struct pci_segment *seg, struct pci_device *pci)
{
	atomic_store_explicit(&seg->slots[pci->slot], NULL, memory_order_release);
	unplace_bars(seg, pci);
	pci->segment = NULL;
}

void pci_segment_reset(struct pci_segment *seg)
{
	struct pci_device *devices[PCI_SLOTS];
	size_t n = 0;

	pthread_mutex_lock(&seg->lock);
	seg->cf8 = 0;
	pthread_mutex_unlock(&seg->lock);
	/* The last first: an IOMMU, which is the first, after those behind it. */
	for (unsigned int s = PCI_SLOTS; s-- > 0;) {
		if (!seg->slots[s])
			continue;
		pci_device_reset(seg->slots[s]);
		devices[n++] = seg->slots[s];
	}
	/* Together: the guest may have put one BAR where another one belongs. */
	pci_sync_bars(devices, n);
}

void pci_format_bdf(const struct pci_device *pci, char ret[static 16])
{
	snprintf(ret, 16, "%04x:00:%02x.0", pci->segment->number, pci->slot);
}
