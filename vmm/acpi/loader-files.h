/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables as firmware takes them from fw_cfg: the tables in one file, the
 * RSDP in another, and the commands by which the firmware places and links them
 * (etc/acpi/tables, etc/acpi/rsdp, etc/table-loader)
 *
 * Made from the tables that acpi_build() has put into guest memory.  Control
 * thread, before any vCPU runs.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct err;
struct guest_mem;

#define ACPI_LOADER_TABLES   "etc/acpi/tables"
#define ACPI_LOADER_RSDP     "etc/acpi/rsdp"
#define ACPI_LOADER_SCRIPT   "etc/table-loader"
#define ACPI_LOADER_MAX_XSDT 64

struct acpi_loader_files {
	uint8_t *tables, *rsdp, *script;
	size_t tables_len, rsdp_len, script_len;
};

int acpi_loader_files_make(const struct guest_mem *mem, uint64_t rsdp_gpa,
			   struct acpi_loader_files *ret, struct err *err);
void acpi_loader_files_deinit(struct acpi_loader_files *files);
