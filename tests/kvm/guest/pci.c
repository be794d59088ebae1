/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI configuration space, BARs and MSI-X of bus 0
 */
#include "tests/kvm/guest/pci.h"

#include <stddef.h>

#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"

#define BAR_IO             1
#define BAR_TYPE_64        4
#define BAR_PREFETCHABLE   8
#define BAR_FLAGS_IO       3ULL
#define BAR_FLAGS_MEMORY   15ULL
#define BAR_PLACE_FIRST    0xd0000000ULL
#define MSIX_CONTROL       2
#define MSIX_TABLE         4
#define MSIX_PBA           8
#define MSIX_ENABLE        0x8000
#define MSIX_FUNCTION_MASK 0x4000
#define MSIX_ENTRY_SIZE    16
#define MSI_ADDRESS        0xfee00000
#define CAPABILITIES_MAX   48

struct pci_device pci_devices[PCI_DEVICES_MAX];
unsigned int pci_n_devices;

static uint64_t ecam;
static uint64_t place_next = BAR_PLACE_FIRST;

uint64_t pci_ecam_base(void)
{
	return ecam;
}

static uint16_t cf8_select(uint8_t slot, uint8_t function, uint16_t off)
{
	outl(0xcf8, 0x80000000 | (uint32_t)slot << 11 | (uint32_t)function << 8 | (off & 0xfc));
	return (uint16_t)(0xcfc + (off & 3));
}

uint32_t pci_cf8_read(uint8_t slot, uint8_t function, uint16_t off, unsigned int size)
{
	uint16_t port = cf8_select(slot, function, off);

	return size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
}

static uint64_t ecam_address(uint8_t slot, uint8_t function, uint16_t off)
{
	return ecam + ((uint64_t)slot << 15) + ((uint64_t)function << 12) + off;
}

uint32_t pci_ecam_read(uint8_t slot, uint8_t function, uint16_t off, unsigned int size)
{
	uint64_t address = ecam_address(slot, function, off);

	return size == 1   ? mmio_read8(address)
	       : size == 2 ? mmio_read16(address)
			   : mmio_read32(address);
}

uint32_t pci_read(const struct pci_device *pci, uint16_t off, unsigned int size)
{
	return ecam ? pci_ecam_read(pci->slot, pci->function, off, size)
		    : pci_cf8_read(pci->slot, pci->function, off, size);
}

void pci_write(const struct pci_device *pci, uint16_t off, unsigned int size, uint32_t value)
{
	uint64_t address = ecam_address(pci->slot, pci->function, off);
	uint16_t port = 0;

	if (!ecam)
		port = cf8_select(pci->slot, pci->function, off);
	switch (size) {
	case 1:
		if (ecam)
			mmio_write8(address, (uint8_t)value);
		else
			outb(port, (uint8_t)value);
		break;
	case 2:
		if (ecam)
			mmio_write16(address, (uint16_t)value);
		else
			outw(port, (uint16_t)value);
		break;
	default:
		if (ecam)
			mmio_write32(address, value);
		else
			outl(port, value);
		break;
	}
}

static void add_function(uint8_t slot, uint8_t function)
{
	struct pci_device *pci = &pci_devices[pci_n_devices];
	uint32_t id;

	if (pci_n_devices == PCI_DEVICES_MAX)
		return;
	*pci = (struct pci_device){ .slot = slot, .function = function };
	id = pci_read(pci, PCI_VENDOR, 4);
	if ((id & 0xffff) == 0xffff)
		return;
	pci->vendor = (uint16_t)id;
	pci->device = (uint16_t)(id >> 16);
	pci->class_revision = pci_read(pci, PCI_CLASS, 4);
	pci_n_devices++;
}

void pci_scan(void)
{
	if (pci_n_devices)
		return;
	/* ecam=ADDRESS for machines that tell it in AML only */
	ecam = arg_u64("ecam", acpi_ecam());
	if (ecam)
		map_range(ecam, MIB(1));
	for (uint8_t slot = 0; slot < 32; slot++) {
		unsigned int before = pci_n_devices;

		add_function(slot, 0);
		if (pci_n_devices == before ||
		    !(pci_read(&pci_devices[before], PCI_HEADER_TYPE, 1) & 0x80))
			continue;
		for (uint8_t function = 1; function < 8; function++)
			add_function(slot, function);
	}
}

void pci_rescan(void)
{
	pci_n_devices = 0;
	pci_scan();
}

struct pci_device *pci_find(uint16_t vendor, uint16_t device, unsigned int nth)
{
	pci_scan();
	for (unsigned int i = 0; i < pci_n_devices; i++)
		if (pci_devices[i].vendor == vendor && pci_devices[i].device == device &&
		    nth-- == 0)
			return &pci_devices[i];
	return NULL;
}

uint8_t pci_capability(const struct pci_device *pci, uint8_t id, uint8_t after)
{
	uint8_t off;

	if (!(pci_read(pci, PCI_STATUS, 2) & PCI_STATUS_CAPS))
		return 0;
	off = (uint8_t)pci_read(pci, after ? after + 1 : PCI_CAPABILITIES, 1);
	for (unsigned int i = 0; off >= 0x40 && i < CAPABILITIES_MAX; i++) {
		if (pci_read(pci, off, 1) == id)
			return off;
		off = (uint8_t)pci_read(pci, off + 1, 1);
	}
	return 0;
}

struct pci_bar pci_bar_probe(const struct pci_device *pci, unsigned int n)
{
	uint32_t command = pci_read(pci, PCI_COMMAND, 2);
	uint32_t low = pci_read(pci, PCI_BAR(n), 4), high = 0;
	uint64_t mask;
	struct pci_bar bar = {
		.io = low & BAR_IO,
		.wide = !(low & BAR_IO) && (low & 6) == BAR_TYPE_64 && n < 5,
		.prefetchable = !(low & BAR_IO) && (low & BAR_PREFETCHABLE),
	};

	pci_write(pci, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
	pci_write(pci, PCI_BAR(n), 4, 0xffffffff);
	mask = pci_read(pci, PCI_BAR(n), 4);
	pci_write(pci, PCI_BAR(n), 4, low);
	mask &= ~(bar.io ? BAR_FLAGS_IO : BAR_FLAGS_MEMORY);
	if (bar.wide) {
		high = pci_read(pci, PCI_BAR(n + 1), 4);
		pci_write(pci, PCI_BAR(n + 1), 4, 0xffffffff);
		mask |= (uint64_t)pci_read(pci, PCI_BAR(n + 1), 4) << 32;
		pci_write(pci, PCI_BAR(n + 1), 4, high);
	} else if (mask) {
		mask |= bar.io ? ~0xffffULL : ~0xffffffffULL;
	}
	pci_write(pci, PCI_COMMAND, 2, command);
	bar.address = (low & ~(bar.io ? BAR_FLAGS_IO : BAR_FLAGS_MEMORY)) | (uint64_t)high << 32;
	bar.size = mask ? ~mask + 1 : 0;
	return bar;
}

void pci_bar_set(const struct pci_device *pci, unsigned int n, bool wide, uint64_t address)
{
	uint32_t command = pci_read(pci, PCI_COMMAND, 2);

	pci_write(pci, PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY);
	pci_write(pci, PCI_BAR(n), 4, (uint32_t)address);
	if (wide)
		pci_write(pci, PCI_BAR(n + 1), 4, (uint32_t)(address >> 32));
	pci_write(pci, PCI_COMMAND, 2, command);
}

uint64_t pci_bar_map(const struct pci_device *pci, unsigned int n)
{
	struct pci_bar bar = pci_bar_probe(pci, n);

	if (bar.io || !bar.size)
		return 0;
	if (!bar.address) {
		bar.address = (place_next + bar.size - 1) & ~(bar.size - 1);
		place_next = bar.address + bar.size;
		pci_bar_set(pci, n, bar.wide, bar.address);
	}
	map_range(bar.address, bar.size);
	pci_write(pci, PCI_COMMAND, 2,
		  pci_read(pci, PCI_COMMAND, 2) | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			  PCI_COMMAND_NOINTX);
	return bar.address;
}

static void msix_control(const struct pci_device *pci, uint16_t set, uint16_t clear)
{
	uint16_t control = (uint16_t)pci_read(pci, pci->msix_cap + MSIX_CONTROL, 2);

	pci_write(pci, pci->msix_cap + MSIX_CONTROL, 2, (uint16_t)((control | set) & ~clear));
}

bool pci_msix_enable(struct pci_device *pci)
{
	uint8_t cap = pci_capability(pci, PCI_CAP_MSIX, 0);
	uint32_t table, pba;

	if (!cap)
		return false;
	pci->msix_cap = cap;
	table = pci_read(pci, cap + MSIX_TABLE, 4);
	pba = pci_read(pci, cap + MSIX_PBA, 4);
	pci->msix_table = pci_bar_map(pci, table & 7) + (table & ~7U);
	pci->msix_pba = pci_bar_map(pci, pba & 7) + (pba & ~7U);
	pci->msix_vectors = (uint16_t)((pci_read(pci, cap + MSIX_CONTROL, 2) & 0x7ff) + 1);
	msix_control(pci, MSIX_ENABLE | MSIX_FUNCTION_MASK, 0);
	/* an earlier scenario's vectors; the first few are all we ever use */
	for (uint16_t i = 0; i < pci->msix_vectors && i < 16; i++)
		pci_msix_mask(pci, i, true);
	msix_control(pci, 0, MSIX_FUNCTION_MASK);
	return true;
}

void pci_msix_set(const struct pci_device *pci, uint16_t entry, uint8_t vector)
{
	uint64_t slot = pci->msix_table + (uint64_t)entry * MSIX_ENTRY_SIZE;

	mmio_write32(slot, MSI_ADDRESS | apic_id() << 12);
	mmio_write32(slot + 4, 0);
	mmio_write32(slot + 8, vector);
}

void pci_msix_mask(const struct pci_device *pci, uint16_t entry, bool mask)
{
	mmio_write32(pci->msix_table + (uint64_t)entry * MSIX_ENTRY_SIZE + 12, mask);
}

void pci_msix_function_mask(const struct pci_device *pci, bool mask)
{
	msix_control(pci, mask ? MSIX_FUNCTION_MASK : 0, mask ? 0 : MSIX_FUNCTION_MASK);
}

bool pci_msix_pending(const struct pci_device *pci, uint16_t entry)
{
	return mmio_read32(pci->msix_pba + entry / 32 * 4) >> entry % 32 & 1;
}
