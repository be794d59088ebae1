/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables in guest memory: found, checksummed, with the right contents, and
 * accepted by Intel's disassembler and compiler without a warning
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/tables.h"
#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"

/* The nodes: vCPU 1 and the second zone are node 1's, and PCI segment 1 is; node 1 is further. */
static uint32_t cpus_of_node_1[] = { 1 };
static uint32_t segments_of_node_1[] = { 1 };
static char *zones_of_node_1[] = { (char *)"b", NULL };
static struct numa_distance_config distances[] = { { .destination = 1, .distance = 30 } };
static struct numa_config numa[] = {
	{ .guest_numa_id = 0, .distances = distances, .n_distances = 1 },
	{ .guest_numa_id = 1,
	  .cpus = cpus_of_node_1,
	  .n_cpus = 1,
	  .memory_zones = zones_of_node_1,
	  .pci_segments = segments_of_node_1,
	  .n_pci_segments = 1 },
};
static struct memory_zone_config zones[] = {
	{ .id = (char *)"a", .size = 32 * MIB },
	{ .id = (char *)"b", .size = 32 * MIB },
};

static const struct acpi_iommu_range iommu_ranges[] = { { 0, 3, 3 }, { 1, 0, 31 } };
static const struct acpi_iommu iommu = { 0, 1, iommu_ranges, G_N_ELEMENTS(iommu_ranges) };

struct fixture {
	struct guest_mem mem;
	struct x86_windows windows;
	struct vm_config config;
	struct acpi_segment segments[VM_PCI_SEGMENTS_MAX];
	struct acpi_topology topology;
	uint64_t rsdp_gpa;
};

/* Windows of all segments: shares of the machine's. */
static void share_windows(struct fixture *f, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		f->segments[i].windows = (struct x86_segment_windows){
			f->windows.mmio32_start + i * 0x600000ULL, 0x600000,
			f->windows.mmio64_start + i * 4 * GIB, 4 * GIB
		};
		f->segments[i].node = numa_of_segment(&f->config, (uint16_t)i);
	}
}

static void build(struct fixture *f, uint32_t boot, uint32_t max, uint32_t n_segments, bool serial)
{
	const struct guest_zone_params backing[] = {
		{ "/memory/zones/0", .size = 32 * MIB, .file_fd = -1, .host_node = -1 },
		{ "/memory/zones/1", .size = 32 * MIB, .file_fd = -1, .host_node = -1 },
	};
	const struct guest_layout layout = {
		.zones = backing,
		.n_zones = G_N_ELEMENTS(backing),
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};
	struct err err = { 0 };
	int r;

	memset(f, 0, sizeof(*f));
	r = guest_mem_init_zones(&f->mem, NULL, &layout, &err);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(r, ==, 0);
	r = x86_windows_init(&f->windows, 6 * GIB, 46, &err);
	g_assert_cmpint(r, ==, 0);
	if (serial)
		g_assert_cmpint(x86_windows_add_hotplug(&f->windows, 6 * GIB, 2 * GIB, NULL), ==,
				0);
	f->config.cpus = (struct cpus_config){ .boot_vcpus = boot, .max_vcpus = max };
	f->config.memory.zones = zones;
	f->config.memory.n_zones = G_N_ELEMENTS(zones);
	f->config.numa = numa;
	f->config.n_numa = G_N_ELEMENTS(numa);
	share_windows(f, n_segments);
	f->topology = (struct acpi_topology){ .segments = f->segments,
					      .n_segments = n_segments,
					      .numa = n_segments > 1 ? &f->config : NULL,
					      .iommu = n_segments > 1 ? &iommu : NULL };
	r = acpi_build(&f->mem,
		       &(struct acpi_params){ .cpus = &f->config.cpus,
					      .windows = &f->windows,
					      .topology = &f->topology,
					      .serial = serial,
					      .watchdog = true,
					      .fw_cfg = serial },
		       &f->rsdp_gpa, &err);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(r, ==, 0);
}

static void fixture_cleanup(struct fixture *f)
{
	guest_mem_deinit(&f->mem);
}

static uint8_t sum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* A copy of the table at gpa, checksum verified; g_free it. */
static void *table_at(struct fixture *f, uint64_t gpa, size_t *ret_len)
{
	struct acpi_header h;
	uint8_t *table;

	g_assert_cmpint(guest_read(&f->mem, gpa, &h, sizeof(h)), ==, 0);
	*ret_len = le32_get(h.length);
	table = g_malloc(*ret_len);
	g_assert_cmpint(guest_read(&f->mem, gpa, table, *ret_len), ==, 0);
	g_assert_cmpuint(sum(table, *ret_len), ==, 0);
	g_assert_cmpmem(h.oem_id, 6, "BRUME ", 6);
	return table;
}

static uint64_t find_gpa(struct fixture *f, const char *signature)
{
	struct acpi_rsdp rsdp;
	g_autofree uint8_t *xsdt = NULL;
	size_t len;

	g_assert_cmpint(guest_read(&f->mem, f->rsdp_gpa, &rsdp, sizeof(rsdp)), ==, 0);
	if (strcmp(signature, "XSDT") == 0)
		return le64_get(rsdp.xsdt_address);
	xsdt = table_at(f, le64_get(rsdp.xsdt_address), &len);
	for (size_t i = sizeof(struct acpi_header); i + 8 <= len; i += 8) {
		uint64_t gpa = bytes_get_le(xsdt + i, 8);
		char sig[4];

		g_assert_cmpint(guest_read(&f->mem, gpa, sig, 4), ==, 0);
		if (memcmp(sig, signature, 4) == 0)
			return gpa;
		if (memcmp(sig, "FACP", 4) == 0 && strcmp(signature, "DSDT") == 0) {
			struct acpi_fadt fadt;

			g_assert_cmpint(guest_read(&f->mem, gpa, &fadt, sizeof(fadt)), ==, 0);
			return le64_get(fadt.x_dsdt);
		}
	}
	g_assert_not_reached();
}

static void test_rsdp(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	struct acpi_rsdp rsdp;

	build(&f, 1, 1, 1, true);
	g_assert_cmphex(f.rsdp_gpa, ==, 0xa0000);
	g_assert_cmpint(guest_read(&f.mem, f.rsdp_gpa, &rsdp, sizeof(rsdp)), ==, 0);
	g_assert_cmpmem(rsdp.signature, 8, "RSD PTR ", 8);
	g_assert_cmpuint(sum(&rsdp, 20), ==, 0);
	g_assert_cmpuint(sum(&rsdp, sizeof(rsdp)), ==, 0);
	g_assert_cmpuint(rsdp.revision, ==, 2);
}

static void test_fadt(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree struct acpi_fadt *fadt = NULL;
	g_autofree struct acpi_header *dsdt = NULL;
	size_t len;

	build(&f, 1, 1, 1, true);
	fadt = table_at(&f, find_gpa(&f, "FACP"), &len);
	g_assert_cmpuint(len, ==, 276);
	g_assert_cmpuint(fadt->header.revision, ==, 6);
	g_assert_cmphex(le32_get(fadt->flags) & ACPI_FADT_HW_REDUCED, !=, 0);
	g_assert_cmphex(le64_get(fadt->reset_reg.address), ==, 0x600);
	g_assert_cmphex(le64_get(fadt->sleep_control_reg.address), ==, 0x600);
	g_assert_cmphex(le64_get(fadt->sleep_status_reg.address), ==, 0x600);
	g_assert_cmphex(le64_get(fadt->x_pm_tmr_blk.address), ==, 0x608);
	dsdt = table_at(&f, le64_get(fadt->x_dsdt), &len);
	g_assert_cmpmem(dsdt->signature, 4, "DSDT", 4);
	g_assert_cmpuint(dsdt->revision, >=, 2);
}

static void test_madt(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *madt = NULL;
	size_t len, n_cpus = 0, n_ioapics = 0;

	build(&f, 2, 300, 1, true);
	madt = table_at(&f, find_gpa(&f, "APIC"), &len);
	for (size_t i = sizeof(struct acpi_madt); i < len; i += madt[i + 1]) {
		struct acpi_madt_x2apic cpu;

		g_assert_cmpuint(madt[i + 1], >=, 8);
		if (madt[i] == ACPI_MADT_IOAPIC)
			n_ioapics++;
		if (madt[i] != ACPI_MADT_X2APIC)
			continue;
		memcpy(&cpu, madt + i, sizeof(cpu));
		g_assert_cmpuint(le32_get(cpu.uid), ==, n_cpus);
		g_assert_cmpuint(le32_get(cpu.apic_id), ==, n_cpus);
		g_assert_cmphex(le32_get(cpu.flags), ==, n_cpus < 2 ? 1 : 2);
		n_cpus++;
	}
	g_assert_cmpuint(n_cpus, ==, 300);
	g_assert_cmpuint(n_ioapics, ==, 1);
}

static void test_mcfg(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *mcfg = NULL;
	struct acpi_mcfg_segment segment;
	size_t len;

	build(&f, 1, 1, 3, true);
	mcfg = table_at(&f, find_gpa(&f, "MCFG"), &len);
	g_assert_cmpuint(len, ==, 44 + 3 * 16);
	memcpy(&segment, mcfg + 44 + 32, sizeof(segment));
	g_assert_cmphex(le64_get(segment.base), ==, 0xe8200000);
	g_assert_cmpuint(le16_get(segment.segment), ==, 2);
	g_assert_cmpuint(segment.bus_end, ==, 0);
}

static void test_srat(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *srat = NULL;
	size_t len, n_cpus = 0, n_pieces = 0;

	build(&f, 2, 4, 2, true);
	srat = table_at(&f, find_gpa(&f, "SRAT"), &len);
	g_assert_cmpuint(srat[36], ==, 1);
	for (size_t i = 48; i < len; i += srat[i + 1]) {
		struct acpi_srat_x2apic cpu;
		struct acpi_srat_memory piece;

		if (srat[i] == ACPI_SRAT_X2APIC) {
			memcpy(&cpu, srat + i, sizeof(cpu));
			g_assert_cmpuint(le32_get(cpu.apic_id), ==, n_cpus);
			g_assert_cmpuint(le32_get(cpu.domain), ==, n_cpus == 1);
			g_assert_cmphex(le32_get(cpu.flags), ==, 1);
			n_cpus++;
		} else {
			g_assert_cmpuint(srat[i], ==, ACPI_SRAT_MEMORY);
			memcpy(&piece, srat + i, sizeof(piece));
			g_assert_cmphex(le64_get(piece.base), ==, n_pieces * 32 * MIB);
			g_assert_cmphex(le64_get(piece.size), ==, 32 * MIB);
			g_assert_cmpuint(le32_get(piece.domain), ==, n_pieces);
			n_pieces++;
		}
	}
	g_assert_cmpuint(n_cpus, ==, 4);
	g_assert_cmpuint(n_pieces, ==, 2);
}

static void test_slit(void)
{
	static const uint8_t matrix[] = { 10, 30, 30, 10 };
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *slit = NULL;
	size_t len;

	build(&f, 1, 1, 2, true);
	slit = table_at(&f, find_gpa(&f, "SLIT"), &len);
	g_assert_cmpuint(bytes_get_le(slit + 36, 8), ==, 2);
	g_assert_cmpmem(slit + 44, len - 44, matrix, sizeof(matrix));
}

static void test_viot(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *viot = NULL;
	struct acpi_viot_virtio_iommu node;
	struct acpi_viot_pci_range range;
	size_t len;

	build(&f, 1, 1, 2, true);
	viot = table_at(&f, find_gpa(&f, "VIOT"), &len);
	g_assert_cmpuint(len, ==, 48 + 16 + 2 * 24);
	g_assert_cmpuint(bytes_get_le(viot + 36, 2), ==, 3);
	g_assert_cmpuint(bytes_get_le(viot + 38, 2), ==, 48);
	memcpy(&node, viot + 48, sizeof(node));
	g_assert_cmpuint(node.type, ==, ACPI_VIOT_VIRTIO_PCI);
	g_assert_cmphex(le16_get(node.bdf), ==, 1 << 3);
	memcpy(&range, viot + 64, sizeof(range));
	g_assert_cmphex(le32_get(range.endpoint_start), ==, 3 << 3);
	g_assert_cmphex(le16_get(range.bdf_start), ==, 3 << 3);
	g_assert_cmphex(le16_get(range.bdf_end), ==, 3 << 3 | 7);
	memcpy(&range, viot + 88, sizeof(range));
	g_assert_cmphex(le32_get(range.endpoint_start), ==, 1 << 16);
	g_assert_cmpuint(le16_get(range.segment_start), ==, 1);
	g_assert_cmphex(le16_get(range.bdf_end), ==, 0xff);
	g_assert_cmpuint(le16_get(range.output_node), ==, 48);
	g_assert_cmphex(acpi_iommu_endpoint(2, 5), ==, 0x20028);
}

/* As Linux wdat_wdt wants it: not of a PCI device, with a period and limits. */
static void test_wdat(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree struct acpi_wdat *wdat = NULL;
	size_t len;

	build(&f, 1, 1, 1, true);
	wdat = table_at(&f, find_gpa(&f, "WDAT"), &len);
	g_assert_cmpuint(len, ==, 68 + 24 * le32_get(wdat->entries));
	g_assert_cmpuint(le32_get(wdat->header_length), ==, 32);
	g_assert_cmphex(le16_get(wdat->pci_segment), ==, 0xff);
	g_assert_cmphex(wdat->pci_bus & wdat->pci_device & wdat->pci_function, ==, 0xff);
	g_assert_cmpuint(le32_get(wdat->timer_period), ==, 100);
	g_assert_cmpuint(le32_get(wdat->min_count), <, le32_get(wdat->max_count));
	g_assert_cmphex(wdat->flags, ==, ACPI_WDAT_ENABLED);
}

/* 1,024 vCPUs still fit between 640 KiB and the SMBIOS tables. */
static void test_big(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree uint8_t *xsdt = NULL;
	size_t len;

	build(&f, 1, VM_VCPUS_MAX, 96, true);
	xsdt = table_at(&f, find_gpa(&f, "XSDT"), &len);
	g_assert_cmpuint(find_gpa(&f, "XSDT") + len, <=, LAYOUT_VMGENID);
}

static void test_too_big(void)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	struct err err = { 0 };
	struct cpus_config cpus = { .boot_vcpus = 1, .max_vcpus = 30000 };

	build(&f, 1, 1, 1, true);
	g_assert_cmpint(acpi_build(&f.mem,
				   &(struct acpi_params){ .cpus = &cpus,
							  .windows = &f.windows,
							  .topology = &f.topology },
				   &f.rsdp_gpa, &err),
			==, -ENOSPC);
	g_assert_true(g_str_has_prefix(err.msg, "ACPI: table DSDT of "));
	g_assert_true(g_str_has_suffix(err.msg, " bytes does not fit below 0xef000"));
}

/* Runs iasl and returns its output; fails the test unless it says nothing is wrong. */
static void run_iasl(const char *dir, const char *const *args)
{
	g_autoptr(GPtrArray) argv = g_ptr_array_new();
	g_autofree char *out = NULL, *errors = NULL;
	int status = 0;

	g_ptr_array_add(argv, (gpointer) "iasl");
	for (size_t i = 0; args[i]; i++)
		g_ptr_array_add(argv, (gpointer)args[i]);
	g_ptr_array_add(argv, NULL);
	g_assert_true(g_spawn_sync(dir, (char **)argv->pdata, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
				   &out, &errors, &status, NULL));
	g_test_message("%s%s", out, errors);
	g_assert_cmpint(status, ==, 0);
	g_assert_null(strstr(errors, "Warning"));
	g_assert_null(strstr(errors, "Error"));
	g_assert_null(strstr(out, "Warning  "));
	g_assert_null(strstr(out, "Error  "));
	if (strstr(out, "Compilation"))
		g_assert_nonnull(strstr(out, "0 Errors, 0 Warnings"));
}

static void test_iasl(void)
{
	static const char *const names[] = { "DSDT", "FACP", "APIC", "MCFG",
					     "WDAT", "SRAT", "SLIT", "XSDT" };
	_cleanup_(fixture_cleanup) struct fixture f = { 0 };
	g_autofree char *iasl = g_find_program_in_path("iasl");
	g_autofree char *dir = NULL;
	const char *keep = g_getenv("BRUME_TEST_ACPI_DIR");

	/* all enabled: iasl of 2020 does not know the online-capable bit and drops it */
	build(&f, 4, 4, 2, true);
	if (!iasl && !keep) {
		g_test_skip("iasl is not installed (acpica-tools)");
		return;
	}
	dir = keep ? g_strdup(keep) : g_dir_make_tmp("brume-acpi-XXXXXX", NULL);
	g_assert_nonnull(dir);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *name = g_strdup_printf("%s.dat", names[i]);
		g_autofree char *path = g_build_filename(dir, name, NULL);
		g_autofree char *source = g_strdup_printf("%s.dsl", names[i]);
		g_autofree char *aml = g_strdup_printf("%s.aml", names[i]);
		g_autofree char *aml_path = g_build_filename(dir, aml, NULL);
		g_autofree char *source_path = g_build_filename(dir, source, NULL);
		g_autofree char *again = NULL;
		gsize again_len = 0;
		g_autofree char *table = NULL;
		size_t len;

		table = table_at(&f, find_gpa(&f, names[i]), &len);
		g_assert_true(g_file_set_contents(path, table, (gssize)len, NULL));
		if (!iasl)
			continue;
		run_iasl(dir, (const char *const[]){ "-d", name, NULL });
		/* -oa: leave full paths as they are, so that the result can be compared */
		run_iasl(dir, (const char *const[]){ "-oa", "-tc", source, NULL });
		g_assert_true(g_file_get_contents(aml_path, &again, &again_len, NULL));
		/* The compiler puts its own name and checksum in; all else comes out as it went in.
		 */
		g_assert_cmpmem(again + sizeof(struct acpi_header),
				again_len - sizeof(struct acpi_header),
				table + sizeof(struct acpi_header),
				len - sizeof(struct acpi_header));
		if (!keep) {
			g_autofree char *hex = g_strdup_printf("%s.hex", names[i]);
			g_autofree char *hex_path = g_build_filename(dir, hex, NULL);

			g_unlink(path);
			g_unlink(aml_path);
			g_unlink(source_path);
			g_unlink(hex_path);
		}
	}
	if (!keep)
		g_assert_cmpint(g_rmdir(dir), ==, 0);
}

static bool dsdt_contains(bool serial, const char *text)
{
	_cleanup_(fixture_cleanup) struct fixture f;
	g_autofree char *dsdt = NULL;
	size_t len;

	build(&f, 1, 1, 1, serial);
	dsdt = table_at(&f, find_gpa(&f, "DSDT"), &len);
	return memmem(dsdt, len, text, strlen(text)) != NULL;
}

static void test_devices(void)
{
	static const char *const always[] = {
		"PC00", "MBRD", "GED_",     "GEC_", "PWRB",
		"RTC0", "_S5_", "ACPI0013", "VGEN", "VM_Gen_Counter"
	};

	for (size_t i = 0; i < G_N_ELEMENTS(always); i++)
		g_assert_true(dsdt_contains(true, always[i]));
	g_assert_true(dsdt_contains(true, "COM1"));
	g_assert_false(dsdt_contains(false, "COM1"));
	g_assert_true(dsdt_contains(true, "QEMU0002"));
	g_assert_false(dsdt_contains(false, "QEMU0002"));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/tables/rsdp", test_rsdp);
	g_test_add_func("/acpi/tables/fadt", test_fadt);
	g_test_add_func("/acpi/tables/madt", test_madt);
	g_test_add_func("/acpi/tables/mcfg", test_mcfg);
	g_test_add_func("/acpi/tables/srat", test_srat);
	g_test_add_func("/acpi/tables/slit", test_slit);
	g_test_add_func("/acpi/tables/viot", test_viot);
	g_test_add_func("/acpi/tables/wdat", test_wdat);
	g_test_add_func("/acpi/tables/big", test_big);
	g_test_add_func("/acpi/tables/too-big", test_too_big);
	g_test_add_func("/acpi/tables/devices", test_devices);
	g_test_add_func("/acpi/tables/iasl", test_iasl);
	return g_test_run();
}
