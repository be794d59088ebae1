/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMBIOS entry point and structures
 */
#include <glib.h>
#include <string.h>

#include "vmm/acpi/smbios-abi.h"
#include "vmm/acpi/smbios.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"

static void mem_init(struct guest_mem *mem)
{
	const struct guest_mem_params mp = {
		.size = 2 * MIB,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};

	g_assert_cmpint(guest_mem_init(mem, NULL, &mp, NULL), ==, 0);
}

/* The structure of a type as a copy, its strings behind it; NULL when there is none. */
static uint8_t *structure(struct guest_mem *mem, uint8_t type)
{
	struct smbios_entry entry;
	g_autofree uint8_t *table = NULL;
	size_t pos = 0, len;
	uint8_t sum = 0;

	g_assert_cmpint(guest_read(mem, LAYOUT_SMBIOS, &entry, sizeof(entry)), ==, 0);
	g_assert_cmpmem(entry.anchor, 5, "_SM3_", 5);
	for (size_t i = 0; i < sizeof(entry); i++)
		sum = (uint8_t)(sum + ((uint8_t *)&entry)[i]);
	g_assert_cmpuint(sum, ==, 0);
	len = le32_get(entry.max_size);
	table = g_malloc(len);
	g_assert_cmpint(guest_read(mem, le64_get(entry.table_gpa), table, len), ==, 0);
	while (pos < len) {
		size_t end = pos + table[pos + 1];

		while (table[end] || table[end + 1])
			end++;
		end += 2;
		g_assert_cmpuint(end, <=, len);
		if (table[pos] == type)
			return g_memdup2(table + pos, end - pos);
		pos = end;
	}
	g_assert_cmpuint(pos, ==, len);
	return NULL;
}

static const char *string(const uint8_t *s, uint8_t number)
{
	const char *p = (const char *)s + s[1];

	if (!number)
		return NULL;
	while (--number)
		p += strlen(p) + 1;
	return p;
}

static void test_defaults(void)
{
	const struct platform_config p = { 0 };
	static const uint8_t zeros[16];
	struct guest_mem mem;
	g_autofree uint8_t *bios = NULL, *system = NULL, *chassis = NULL, *oem = NULL, *end = NULL;

	mem_init(&mem);
	g_assert_cmpint(smbios_build(&mem, &p, NULL), ==, 0);
	bios = structure(&mem, 0);
	g_assert_cmpstr(string(bios, bios[4]), ==, "Brume");
	g_assert_cmphex(bios[0x13] & SMBIOS_BIOS_EXT2_VM, !=, 0);
	system = structure(&mem, 1);
	g_assert_cmpstr(string(system, system[4]), ==, "Brume");
	g_assert_cmpstr(string(system, system[5]), ==, "brume");
	g_assert_cmpuint(system[6], ==, 0);
	g_assert_cmpmem(system + 8, 16, zeros, 16);
	chassis = structure(&mem, 3);
	g_assert_null(chassis);
	oem = structure(&mem, 11);
	g_assert_null(oem);
	end = structure(&mem, 127);
	g_assert_nonnull(end);
	guest_mem_deinit(&mem);
}

static void test_all(void)
{
	char *oem_strings[] = { (char *)"one", (char *)"two words", NULL };
	const struct platform_config p = {
		.serial_number = (char *)"S1",
		.uuid = (char *)"00112233-4455-6677-8899-aabbccddeeff",
		.manufacturer = (char *)"ACME",
		.product_name = (char *)"P",
		.version = (char *)"V",
		.family = (char *)"F",
		.sku_number = (char *)"K",
		.chassis_asset_tag = (char *)"T",
		.oem_strings = oem_strings,
	};
	static const uint8_t uuid[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	struct guest_mem mem;
	g_autofree uint8_t *system = NULL, *chassis = NULL, *oem = NULL;

	mem_init(&mem);
	g_assert_cmpint(smbios_build(&mem, &p, NULL), ==, 0);
	system = structure(&mem, 1);
	g_assert_cmpstr(string(system, system[4]), ==, "ACME");
	g_assert_cmpstr(string(system, system[5]), ==, "P");
	g_assert_cmpstr(string(system, system[6]), ==, "V");
	g_assert_cmpstr(string(system, system[7]), ==, "S1");
	g_assert_cmpmem(system + 8, 16, uuid, 16);
	g_assert_cmpstr(string(system, system[0x19]), ==, "K");
	g_assert_cmpstr(string(system, system[0x1a]), ==, "F");
	chassis = structure(&mem, 3);
	g_assert_cmpstr(string(chassis, chassis[8]), ==, "T");
	oem = structure(&mem, 11);
	g_assert_cmpuint(oem[4], ==, 2);
	g_assert_cmpstr(string(oem, 1), ==, "one");
	g_assert_cmpstr(string(oem, 2), ==, "two words");
	guest_mem_deinit(&mem);
}

static void test_bad(void)
{
	g_autofree char *long_string = g_strnfill(70000, 'x');
	char *empty[] = { (char *)"one", (char *)"", NULL };
	char *many[257] = { 0 };
	const struct {
		struct platform_config p;
		const char *text;
	} cases[] = {
		{ { .uuid = (char *)"nonsense" },
		  "/platform/uuid: 'nonsense' is not of the form "
		  "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" },
		{ { .uuid = (char *)"0011223g-4455-6677-8899-aabbccddeeff" },
		  "/platform/uuid: '0011223g-4455-6677-8899-aabbccddeeff' is not of the form "
		  "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" },
		{ { .oem_strings = empty }, "/platform/oem_strings/1: empty" },
		{ { .oem_strings = many }, "/platform/oem_strings: 256 strings, more than 255" },
		{ { .family = long_string },
		  "/platform: its strings need 70097 bytes of SMBIOS tables, more than 65504" },
	};
	struct guest_mem mem;

	for (size_t i = 0; i < 256; i++)
		many[i] = (char *)"x";
	mem_init(&mem);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };

		g_assert_cmpint(smbios_build(&mem, &cases[i].p, &err), <, 0);
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
	}
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/smbios/defaults", test_defaults);
	g_test_add_func("/acpi/smbios/all", test_all);
	g_test_add_func("/acpi/smbios/bad", test_bad);
	return g_test_run();
}
