/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables: RSDP, XSDT, and the fields of FADT, MADT and MCFG the guest uses
 */
#include "tests/kvm/guest/acpi.h"

#include <stddef.h>

#include "tests/kvm/guest/platform.h"

#define HEADER            36
#define RSDP_RSDT         16
#define RSDP_XSDT         24
#define FADT_DSDT         40
#define FADT_PM1A_CONTROL 64
#define FADT_X_DSDT       140
#define MADT_ENTRIES      44
#define MADT_LAPIC        0
#define MADT_OVERRIDE     2
#define MADT_X2APIC       9
#define MCFG_FIRST        44

static uint32_t get32(const void *p, uint32_t off)
{
	uint32_t v;

	__builtin_memcpy(&v, (const uint8_t *)p + off, sizeof(v));
	return v;
}

static uint64_t get64(const void *p, uint32_t off)
{
	return get32(p, off) | (uint64_t)get32(p, off + 4) << 32;
}

static uint16_t get16(const void *p, uint32_t off)
{
	const uint8_t *b = p;

	return (uint16_t)(b[off] | b[off + 1] << 8);
}

static const struct acpi_header *table_at(uint64_t address)
{
	const struct acpi_header *table = (const void *)address;

	if (!address)
		return NULL;
	map_range(address, HEADER);
	map_range(address, table->length);
	return table;
}

const uint8_t *acpi_rsdp(void)
{
	uint64_t address = start_info->rsdp_paddr;

	if (address)
		return (const uint8_t *)address;
	/* the BIOS read-only area, for firmware that leaves the field empty (ACPI 6.5, 5.2.5.1) */
	for (address = 0xe0000; address < 0x100000; address += 16)
		if (memcmp((const void *)address, "RSD PTR ", 8) == 0)
			return (const uint8_t *)address;
	return NULL;
}

uint8_t acpi_sum(const void *table, uint32_t len)
{
	const uint8_t *p = table;
	uint8_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return sum;
}

const struct acpi_header *acpi_table(unsigned int index)
{
	const uint8_t *rsdp = acpi_rsdp();
	const struct acpi_header *root;
	bool wide;

	if (!rsdp)
		return NULL;
	wide = rsdp[15] >= 2 && get64(rsdp, RSDP_XSDT);
	root = table_at(wide ? get64(rsdp, RSDP_XSDT) : get32(rsdp, RSDP_RSDT));
	if (!root || root->length < HEADER || index >= (root->length - HEADER) / (wide ? 8 : 4))
		return NULL;
	return table_at(wide ? get64(root, HEADER + index * 8) : get32(root, HEADER + index * 4));
}

const struct acpi_header *acpi_find(const char *signature)
{
	for (unsigned int i = 0;; i++) {
		const struct acpi_header *table = acpi_table(i);

		if (!table || memcmp(table->signature, signature, 4) == 0)
			return table;
	}
}

const struct acpi_header *acpi_dsdt(void)
{
	const struct acpi_header *fadt = acpi_find("FACP");

	if (!fadt)
		return NULL;
	if (fadt->length >= FADT_X_DSDT + 8 && get64(fadt, FADT_X_DSDT))
		return table_at(get64(fadt, FADT_X_DSDT));
	return table_at(get32(fadt, FADT_DSDT));
}

/* entry behind @entry, or the first one when NULL; NULL behind the last */
static const uint8_t *madt_next(const struct acpi_header *madt, const uint8_t *entry)
{
	const uint8_t *start = (const uint8_t *)madt;
	const uint8_t *end;

	if (!madt)
		return NULL;
	end = start + madt->length;
	entry = entry ? entry + entry[1] : start + MADT_ENTRIES;
	return entry + 2 <= end && entry[1] >= 2 && entry + entry[1] <= end ? entry : NULL;
}

unsigned int acpi_cpus(struct acpi_cpu *ret, unsigned int max)
{
	const struct acpi_header *madt = acpi_find("APIC");
	const uint8_t *entry = NULL;
	unsigned int n = 0;

	while ((entry = madt_next(madt, entry))) {
		struct acpi_cpu cpu;

		if (entry[0] == MADT_LAPIC && entry[1] >= 8)
			cpu = (struct acpi_cpu){ entry[3], get32(entry, 4) };
		else if (entry[0] == MADT_X2APIC && entry[1] >= 16)
			cpu = (struct acpi_cpu){ get32(entry, 4), get32(entry, 8) };
		else
			continue;
		if (n < max)
			ret[n] = cpu;
		n++;
	}
	return n;
}

struct acpi_ioapic_pin acpi_isa_pin(uint8_t irq)
{
	const struct acpi_header *madt = acpi_find("APIC");
	struct acpi_ioapic_pin pin = { .gsi = irq };
	const uint8_t *entry = NULL;

	while ((entry = madt_next(madt, entry))) {
		uint16_t flags;

		if (entry[0] != MADT_OVERRIDE || entry[1] < 10 || entry[3] != irq)
			continue;
		/* MPS INTI flags: polarity in bits 0-1, trigger in bits 2-3, 0 = as the bus (ISA)
		 */
		flags = get16(entry, 8);
		pin.gsi = get32(entry, 4);
		pin.active_low = (flags & 3) == 3;
		pin.level = (flags >> 2 & 3) == 3;
	}
	return pin;
}

uint64_t acpi_ecam(void)
{
	const struct acpi_header *mcfg = acpi_find("MCFG");

	for (uint32_t off = MCFG_FIRST; mcfg && off + 16 <= mcfg->length; off += 16)
		if (get16(mcfg, off + 8) == 0)
			return get64(mcfg, off);
	return 0;
}

uint16_t acpi_pm1a_control(void)
{
	const struct acpi_header *fadt = acpi_find("FACP");

	return fadt ? (uint16_t)get32(fadt, FADT_PM1A_CONTROL) : 0;
}
