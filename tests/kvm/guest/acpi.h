/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables as far as the guest needs them (no AML)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};

#define ACPI_MADT_ENABLED        1
#define ACPI_MADT_ONLINE_CAPABLE 2

struct acpi_cpu {
	uint32_t apic_id;
	uint32_t flags;
};

struct acpi_ioapic_pin {
	uint32_t gsi;
	bool level, active_low;
};

const uint8_t *acpi_rsdp(void);
uint8_t acpi_sum(const void *table, uint32_t len);

/* tables in XSDT order; NULL behind the last. The DSDT hangs on the FADT: acpi_dsdt(). */
const struct acpi_header *acpi_table(unsigned int index);
const struct acpi_header *acpi_find(const char *signature);
const struct acpi_header *acpi_dsdt(void);

/* processors the MADT lists (type 0 and type 9 entries); returns how many there are */
unsigned int acpi_cpus(struct acpi_cpu *ret, unsigned int max);

/* how ISA interrupt @irq reaches the IOAPIC, interrupt source overrides applied */
struct acpi_ioapic_pin acpi_isa_pin(uint8_t irq);

/* ECAM base of segment 0, or 0 */
uint64_t acpi_ecam(void);

/* PM1a control port of a machine that is not hardware-reduced, or 0 */
uint16_t acpi_pm1a_control(void);
