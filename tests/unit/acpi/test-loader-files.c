/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables as firmware takes them: what a firmware makes of the commands
 * must be the tables again, wherever it puts them
 */
#include "vmm/acpi/loader-files.h"

#include <glib.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/tables.h"
#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/devices/fw-cfg-abi.h"
#include "vmm/memory/guest-memory.h"

#define PLACE_TABLES 0x12345000ULL

static uint8_t sum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

static uint8_t *file(struct acpi_loader_files *f, const char *name, size_t *ret_len)
{
	if (strcmp(name, ACPI_LOADER_RSDP) == 0) {
		*ret_len = f->rsdp_len;
		return f->rsdp;
	}
	g_assert_cmpstr(name, ==, ACPI_LOADER_TABLES);
	*ret_len = f->tables_len;
	return f->tables;
}

/* What OVMF does with etc/table-loader. */
static void run_script(struct acpi_loader_files *f)
{
	const struct fw_cfg_loader *c = (const void *)f->script;
	unsigned int allocated = 0;

	g_assert_cmpuint(f->script_len % sizeof(*c), ==, 0);
	for (size_t i = 0; i < f->script_len / sizeof(*c); i++, c++) {
		size_t len, off;
		uint8_t *data = file(f, c->file, &len);

		if (le32_get(c->command) == FW_CFG_ALLOCATE) {
			allocated++;
		} else if (le32_get(c->command) == FW_CFG_ADD_POINTER) {
			g_assert_cmpuint(allocated, ==, 2);
			g_assert_cmpstr(c->pointer.target, ==, ACPI_LOADER_TABLES);
			off = le32_get(c->pointer.offset);
			g_assert_true(range_fits(off, c->pointer.size, len));
			g_assert_cmpuint(bytes_get_le(data + off, 8), <, f->tables_len);
			bytes_put_le(data + off, 8, bytes_get_le(data + off, 8) + PLACE_TABLES);
		} else {
			g_assert_cmpuint(le32_get(c->command), ==, FW_CFG_ADD_CHECKSUM);
			off = le32_get(c->checksum.start);
			g_assert_true(range_fits(off, le32_get(c->checksum.length), len));
			data[le32_get(c->checksum.offset)] =
				(uint8_t)-sum(data + off, le32_get(c->checksum.length));
		}
	}
}

static const uint8_t *table_at(const struct acpi_loader_files *f, uint64_t gpa,
			       const char *signature)
{
	const struct acpi_header *h;

	g_assert_cmpuint(gpa, >=, PLACE_TABLES);
	g_assert_true(range_fits(gpa - PLACE_TABLES, sizeof(*h), f->tables_len));
	h = (const void *)(f->tables + (gpa - PLACE_TABLES));
	g_assert_true(range_fits(gpa - PLACE_TABLES, le32_get(h->length), f->tables_len));
	g_assert_cmpuint(sum(h, le32_get(h->length)), ==, 0);
	if (signature)
		g_assert_cmpmem(h->signature, 4, signature, 4);
	return (const uint8_t *)h;
}

static void test_script(void)
{
	const struct guest_mem_params mp = { .size = 2 * MIB };
	const struct cpus_config cpus = { .boot_vcpus = 2, .max_vcpus = 4 };
	struct x86_windows windows;
	struct acpi_segment segment = { 0 };
	const struct acpi_topology topology = { .segments = &segment, .n_segments = 1 };
	struct acpi_params params = { .cpus = &cpus,
				      .windows = &windows,
				      .topology = &topology,
				      .serial = true,
				      .watchdog = true,
				      .fw_cfg = true };
	struct acpi_loader_files f = { 0 };
	const struct acpi_fadt *fadt = NULL;
	const struct acpi_rsdp *rsdp;
	const uint8_t *xsdt;
	struct guest_mem mem;
	struct err err = { 0 };
	uint64_t rsdp_gpa = 0;
	size_t n;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &mp, &err), ==, 0);
	g_assert_cmpint(x86_windows_init(&windows, 2 * MIB, 46, &err), ==, 0);
	g_assert_cmpint(acpi_build(&mem, &params, &rsdp_gpa, &err), ==, 0);
	g_assert_cmpint(acpi_loader_files_make(&mem, rsdp_gpa, &f, &err), ==, 0);
	run_script(&f);
	rsdp = (const void *)f.rsdp;
	g_assert_cmpuint(sum(rsdp, 20), ==, 0);
	g_assert_cmpuint(sum(rsdp, sizeof(*rsdp)), ==, 0);
	xsdt = table_at(&f, le64_get(rsdp->xsdt_address), "XSDT");
	n = (bytes_get_le(xsdt + 4, 4) - sizeof(struct acpi_header)) / 8;
	g_assert_cmpuint(n, ==, 4);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *t =
			table_at(&f, bytes_get_le(xsdt + sizeof(struct acpi_header) + 8 * i, 8),
				 NULL);

		if (memcmp(t, "FACP", 4) == 0)
			fadt = (const void *)t;
	}
	g_assert_nonnull(fadt);
	table_at(&f, le64_get(fadt->x_dsdt), "DSDT");
	acpi_loader_files_deinit(&f);
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/loader-files/script", test_script);
	return g_test_run();
}
