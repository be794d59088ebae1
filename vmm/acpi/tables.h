/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of a machine (ACPI 6.5, hardware-reduced)
 *
 * RSDP, DSDT, FADT, MADT, MCFG and XSDT are laid out one after another from
 * LAYOUT_RSDP.  No MP table: every guest we run reads ACPI.
 *
 * The DSDT is put together from parts, one file each (dsdt-*.c); a hotplug
 * controller is a further part with its bit in the GED register and the method
 * that handles it.
 *
 * Control thread, before any vCPU runs (also on every reset).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct aml;
struct cpus_config;
struct err;
struct guest_mem;
struct acpi_topology;
struct x86_windows;

struct acpi_params {
	const struct cpus_config *cpus;
	/* Of each processor: is it there as the guest starts?  NULL: the first boot_vcpus are. */
	const bool *cpus_present;
	const struct x86_windows *windows;
	const struct acpi_topology *topology; /* at least one segment */
	bool serial;                          /* there is a COM1 */
	bool watchdog; /* there are the registers of vmm/devices/watchdog.h */
	bool fw_cfg;
};

/* One part of the DSDT; all of them are listed in dsdt.c. */
struct acpi_part {
	const char *name;
	/* Appends devices; \_SB_ is open. */
	void (*emit)(struct aml *a, const struct acpi_params *params);
	/* When this bit of the GED register is set, on_event appends what handles it. 0 = none. */
	uint8_t ged_bit;
	void (*on_event)(struct aml *a);
	/* NULL: always there. */
	bool (*present)(const struct acpi_params *params);
};

extern const struct acpi_part acpi_part_ged, acpi_part_pci, acpi_part_serial, acpi_part_rtc,
	acpi_part_power_button, acpi_part_vmgenid, acpi_part_fw_cfg, acpi_part_pci_hotplug,
	acpi_part_cpu_hotplug, acpi_part_memory_hotplug;

/* The parts of this machine: NULL-terminated. */
const struct acpi_part *const *acpi_parts(void);
/* The DSDT's AML, without table header. */
void acpi_emit_dsdt(struct aml *a, const struct acpi_params *params);

/* Writes all tables; *ret_rsdp: gpa of the RSDP. */
int acpi_build(struct guest_mem *mem, const struct acpi_params *params, uint64_t *ret_rsdp,
	       struct err *err);
