/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/pci.h"

#include <assert.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/mailbox.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"
#include "vmm/pci/segment.h"

#define BAR_OFFSET(bar) (PCI_BASE_ADDRESS_0 + 4U * (bar))

static const struct state_field pci_config_fields[] = {
	STATE_BYTES(struct pci_config_state, config),
};
const struct state_desc pci_config_state_desc = {
	"pci-config",
	.version = 1,
	STATE_LAYOUT(struct pci_config_state, pci_config_fields),
};

uint32_t pci_config_get(const struct pci_device *pci, uint32_t off, uint32_t len)
{
	return (uint32_t)bytes_get_le(pci->st.config + off, len);
}

void pci_config_put(struct pci_device *pci, uint32_t off, uint32_t len, uint32_t value)
{
	bytes_put_le(pci->st.config + off, len, value);
}

void pci_set_writable(struct pci_device *pci, uint32_t off, uint64_t mask, uint32_t len)
{
	bytes_put_le(pci->writable + off, len, mask);
}

void pci_device_init(struct pci_device *pci, const struct pci_device_ops *ops, const char *id,
		     const struct pci_header *header)
{
	*pci = (struct pci_device){ .ops = ops, .cap_end = 0x40 };
	snprintf(pci->id, sizeof(pci->id), "%s", id);
	pthread_mutex_init(&pci->lock, NULL);
	pci_config_put(pci, PCI_VENDOR_ID, 2, header->vendor);
	pci_config_put(pci, PCI_DEVICE_ID, 2, header->device);
	pci_config_put(pci, PCI_REVISION_ID, 1, header->revision);
	pci_config_put(pci, PCI_CLASS_PROG, 1, header->prog_if);
	pci_config_put(pci, PCI_CLASS_DEVICE, 1, header->subclass);
	pci_config_put(pci, PCI_CLASS_DEVICE + 1, 1, header->class);
	pci_config_put(pci, PCI_SUBSYSTEM_VENDOR_ID, 2, header->subsystem_vendor);
	pci_config_put(pci, PCI_SUBSYSTEM_ID, 2, header->subsystem);
	pci_set_writable(pci, PCI_COMMAND,
			 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
				 PCI_COMMAND_INTX_DISABLE,
			 2);
	pci_set_writable(pci, PCI_CACHE_LINE_SIZE, 0xff, 1);
	pci_set_writable(pci, PCI_INTERRUPT_LINE, 0xff, 1);
}

void pci_device_deinit(struct pci_device *pci)
{
	pthread_mutex_destroy(&pci->lock);
}

/* The registers of a BAR at addr. */
static void bar_put(struct pci_device *pci, unsigned int bar, uint64_t addr)
{
	bool is_64 = pci->bars[bar].is_64;

	bytes_put_le(pci->st.config + BAR_OFFSET(bar), is_64 ? 8 : 4,
		     addr | (is_64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0));
}

static uint64_t bar_get(const struct pci_device *pci, unsigned int bar)
{
	return bytes_get_le(pci->st.config + BAR_OFFSET(bar), pci->bars[bar].is_64 ? 8 : 4) &
	       (uint64_t)PCI_BASE_ADDRESS_MEM_MASK;
}

void pci_add_bar(struct pci_device *pci, unsigned int bar, uint64_t size, uint64_t align,
		 bool is_64, struct bus_device *region)
{
	assert(bar + is_64 < PCI_BARS && is_pow2(size) && size >= 4096);
	pci->bars[bar] = (struct pci_bar){
		.size = size, .align = MAX(size, align), .is_64 = is_64, .region = region
	};
	bar_put(pci, bar, 0);
	pci_set_writable(pci, BAR_OFFSET(bar), ~(size - 1), is_64 ? 8 : 4);
}

uint8_t pci_add_capability(struct pci_device *pci, uint8_t id, const void *body, uint8_t len)
{
	uint8_t at = pci->cap_end;

	assert(at + len <= PCI_CONFIG_SIZE);
	memcpy(pci->st.config + at, body, len);
	pci->st.config[at] = id;
	pci->st.config[at + 1] = 0;
	if (pci->last_cap)
		pci->st.config[pci->last_cap + 1] = at;
	else
		pci->st.config[PCI_CAPABILITY_LIST] = at;
	pci->st.config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	pci->last_cap = at;
	pci->cap_end = (uint8_t)align_up(at + (uint64_t)len, 4);
	return at;
}

uint32_t pci_config_read(struct pci_device *pci, uint32_t off, uint32_t len)
{
	uint32_t value = 0;

	if (off + len > PCI_CONFIG_SIZE)
		return 0; /* an empty extended capability list */
	if (pci->ops->config_read_special && pci->ops->config_read_special(pci, off, &value, len))
		return value;
	pthread_mutex_lock(&pci->lock);
	value = pci_config_get(pci, off, len);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

/* pci->lock held */
static void update_decoding(struct pci_device *pci)
{
	atomic_store_explicit(&pci->decoding,
			      pci_config_get(pci, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY,
			      memory_order_relaxed);
}

static int sync_bars_call(void *data)
{
	struct pci_device *pci = data;

	pci_sync_bars(&pci, 1);
	return 0;
}

static bool touches_bars(uint32_t off, uint32_t len)
{
	return (off < PCI_CARDBUS_CIS && off + len > PCI_BASE_ADDRESS_0) ||
	       (off < PCI_STATUS && off + len > PCI_COMMAND);
}

/* pci->lock held */
static bool bars_differ(const struct pci_device *pci)
{
	if (!(pci_config_get(pci, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY))
		return false;
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (pci->bars[bar].size && bar_get(pci, bar) != pci->bars[bar].addr)
			return true;
	return false;
}

void pci_config_write(struct pci_device *pci, uint32_t off, uint32_t len, uint32_t value)
{
	bool move;

	if (off + len > PCI_CONFIG_SIZE)
		return;
	if (pci->ops->config_write_special && pci->ops->config_write_special(pci, off, &value, len))
		return;
	pthread_mutex_lock(&pci->lock);
	for (uint32_t i = 0; i < len; i++) {
		uint8_t mask = pci->writable[off + i], byte = (uint8_t)(value >> (8 * i));
		uint8_t *reg = &pci->st.config[off + i];

		*reg = (uint8_t)((*reg & ~mask) | (byte & mask));
	}
	update_decoding(pci);
	if (pci->ops->config_written)
		pci->ops->config_written(pci, off, len);
	move = touches_bars(off, len) && bars_differ(pci);
	pthread_mutex_unlock(&pci->lock);
	if (move)
		mailbox_call(pci->segment->mailbox, sync_bars_call, pci);
}

static bool in_window(const struct pci_window *w, uint64_t addr, uint64_t size)
{
	return addr >= w->start && range_fits(addr - w->start, size, w->size);
}

static bool may_be_at(const struct pci_device *pci, unsigned int bar, uint64_t at)
{
	uint64_t size = pci->bars[bar].size;

	return in_window(&pci->segment->mmio32, at, size) ||
	       in_window(&pci->segment->mmio64, at, size);
}

/* Where the register wants the BAR to be; a place outside the windows is refused at once. */
static uint64_t bar_wanted(struct pci_device *pci, unsigned int bar)
{
	struct pci_bar *b = &pci->bars[bar];
	uint64_t want;
	bool refused;

	pthread_mutex_lock(&pci->lock);
	want = bar_get(pci, bar);
	refused = want != b->addr && !may_be_at(pci, bar, want);
	if (refused)
		bar_put(pci, bar, b->addr);
	pthread_mutex_unlock(&pci->lock);
	if (!refused)
		return want;
	log_guest("device '%s': BAR %u cannot move to 0x%lx, outside the windows", pci->id, bar,
		  want);
	return b->addr;
}

/* Takes the BARs that are to move out of the map. */
static void lift_bars(struct pci_device *pci)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &pci->bars[bar];
		uint64_t want = b->size ? bar_wanted(pci, bar) : b->addr;

		if (want == b->addr)
			continue;
		if (pci->ops->bar_unmapping)
			pci->ops->bar_unmapping(pci, bar);
		bus_remove(pci->segment->mmio, b->region);
		b->to = want;
	}
}

/* 0, or -EBUSY with a sentence: then some of the lifted BARs are there. */
static int put_bars(struct pci_device *pci, struct err *err)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &pci->bars[bar];
		int r;

		if (!b->to)
			continue;
		r = bus_add(pci->segment->mmio, b->region, b->to, b->size, err);
		if (r < 0)
			return err_prefix(err, r, "device '%s': BAR %u cannot move", pci->id, bar);
		b->there = true;
	}
	return 0;
}

static void take_bars_back(struct pci_device *pci)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &pci->bars[bar];

		if (b->there)
			bus_remove(pci->segment->mmio, b->region);
		b->there = false;
	}
}

/* All BARs are lifted again, so where they came from is free. */
static void restore_bars(struct pci_device *pci)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &pci->bars[bar];
		int r;

		if (!b->to)
			continue;
		r = bus_add(pci->segment->mmio, b->region, b->addr, b->size, NULL);
		assert(r == 0);
	}
}

static void bars_arrived(struct pci_device *pci)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		struct pci_bar *b = &pci->bars[bar];

		if (!b->to)
			continue;
		pthread_mutex_lock(&pci->lock);
		if (b->there)
			b->addr = b->to;
		else
			bar_put(pci, bar, b->addr); /* the register says where the BAR still is */
		pthread_mutex_unlock(&pci->lock);
		b->to = 0;
		b->there = false;
		if (pci->ops->bar_mapped)
			pci->ops->bar_mapped(pci, bar);
	}
}

void pci_sync_bars(struct pci_device *const devices[], size_t n)
{
	struct err err = { 0 };
	int r = 0;

	assert_on_control();
	for (size_t i = 0; i < n; i++)
		lift_bars(devices[i]);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_bars(devices[i], &err);
	if (r < 0) {
		log_guest("%s", err.msg);
		for (size_t i = 0; i < n; i++)
			take_bars_back(devices[i]);
		for (size_t i = 0; i < n; i++)
			restore_bars(devices[i]);
	}
	for (size_t i = 0; i < n; i++)
		bars_arrived(devices[i]);
}

void pci_device_reset(struct pci_device *pci)
{
	assert_on_control();
	if (pci->ops->reset)
		pci->ops->reset(pci);
	pthread_mutex_lock(&pci->lock);
	memcpy(pci->st.config, pci->initial, sizeof(pci->st.config));
	update_decoding(pci);
	pthread_mutex_unlock(&pci->lock);
}
