/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML encodings, each against the bytes that the grammar of ACPI 6.5, 20.2 gives
 */
#include <glib.h>

#include "vmm/acpi/aml.h"

#define CHECK(a, ...)                                                                              \
	do {                                                                                       \
		static const uint8_t want_[] = { __VA_ARGS__ };                                    \
		g_assert_cmpint(aml_finish(&(a)), ==, 0);                                          \
		g_assert_cmpmem((a).data, (a).len, want_, sizeof(want_));                          \
		aml_deinit(&(a));                                                                  \
	} while (0)

static void test_integer(void)
{
	struct aml a = { 0 };

	aml_integer(&a, 0);
	aml_integer(&a, 1);
	aml_integer(&a, 2);
	aml_integer(&a, 0xff);
	CHECK(a, 0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff);
	aml_integer(&a, 0x100);
	aml_integer(&a, 0xffff);
	CHECK(a, 0x0b, 0x00, 0x01, 0x0b, 0xff, 0xff);
	aml_integer(&a, 0x10000);
	CHECK(a, 0x0c, 0x00, 0x00, 0x01, 0x00);
	aml_integer(&a, 0x123456789aULL);
	CHECK(a, 0x0e, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x00, 0x00, 0x00);
}

static void test_path(void)
{
	struct aml a = { 0 };

	aml_path(&a, "_SB_");
	CHECK(a, '_', 'S', 'B', '_');
	aml_path(&a, "\\");
	CHECK(a, '\\', 0);
	aml_path(&a, "^GDAT");
	CHECK(a, '^', 'G', 'D', 'A', 'T');
	aml_path(&a, "\\_SB_.PC00");
	CHECK(a, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', '0', '0');
	aml_path(&a, "\\_SB_.GEC_.ESCN");
	CHECK(a, '\\', 0x2f, 3, '_', 'S', 'B', '_', 'G', 'E', 'C', '_', 'E', 'S', 'C', 'N');
}

static void test_ids(void)
{
	struct aml a = { 0 };

	aml_eisa_id(&a, "PNP0A08");
	CHECK(a, 0x0c, 0x41, 0xd0, 0x0a, 0x08);
	aml_eisa_id(&a, "PNP0501");
	CHECK(a, 0x0c, 0x41, 0xd0, 0x05, 0x01);
	aml_uuid(&a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	CHECK(a, 0x11, 0x13, 0x0a, 0x10, 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57,
	      0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66);
	aml_string(&a, "ok");
	CHECK(a, 0x0d, 'o', 'k', 0);
}

/* PkgLength at each of its widths' limits: 1, 2, 3 and 4 bytes. */
static void test_package_length(void)
{
	static const struct {
		size_t fill;
		uint8_t n, enc[4];
	} cases[] = {
		/* fill is behind two bytes of operator and name bytes: a scope with a 4-byte name
		 */
		{ 0, 1, { 0x05 } },
		{ 0x3f - 5, 1, { 0x3f } },
		{ 0x3f - 4, 2, { 0x41, 0x04 } }, /* 0x41 in all */
		{ 0xfff - 6, 2, { 0x4f, 0xff } },
		{ 0xfff - 5, 3, { 0x81, 0x00, 0x01 } }, /* 0x1001 */
		{ 0xfffff - 7, 3, { 0x8f, 0xff, 0xff } },
		{ 0xfffff - 6, 4, { 0xc1, 0x00, 0x00, 0x01 } }, /* 0x100001 */
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree uint8_t *zeros = g_malloc0(cases[i].fill + 1);
		struct aml a = { 0 };

		aml_open_scope(&a, "_SB_");
		aml_bytes(&a, zeros, cases[i].fill);
		aml_close(&a);
		g_assert_cmpint(aml_finish(&a), ==, 0);
		g_assert_cmpuint(a.data[0], ==, 0x10);
		g_assert_cmpmem(a.data + 1, cases[i].n, cases[i].enc, cases[i].n);
		g_assert_cmpmem(a.data + 1 + cases[i].n, 4, "_SB_", 4);
		g_assert_cmpuint(a.len, ==, 1 + cases[i].n + 4 + cases[i].fill);
		aml_deinit(&a);
	}
}

static void test_nesting(void)
{
	struct aml a = { 0 };

	aml_open_device(&a, "DEV0");
	aml_name_integer(&a, "_UID", 7);
	aml_open_method(&a, "_STA", 0, true);
	aml_op(&a, AML_RETURN);
	aml_integer(&a, 0xf);
	aml_close(&a);
	aml_close(&a);
	CHECK(a, 0x5b, 0x82, 0x16, 'D', 'E', 'V', '0', 0x08, '_', 'U', 'I', 'D', 0x0a, 0x07, 0x14,
	      0x09, '_', 'S', 'T', 'A', 0x08, 0xa4, 0x0a, 0x0f);

	aml_open_package(&a, 2);
	aml_integer(&a, 1);
	aml_integer(&a, 0x20);
	aml_close(&a);
	CHECK(a, 0x12, 0x05, 0x02, 0x01, 0x0a, 0x20);
}

static void test_field(void)
{
	struct aml a = { 0 };

	aml_region(&a, "GDST", AML_SYSTEM_MEMORY, 0x1000, 1);
	aml_open_field(&a, "GDST", AML_ACCESS_BYTE);
	aml_field_member(&a, "GDAT", 8);
	aml_close(&a);
	CHECK(a, 0x5b, 0x80, 'G', 'D', 'S', 'T', 0x00, 0x0b, 0x00, 0x10, 0x01, 0x5b, 0x81, 0x0b,
	      'G', 'D', 'S', 'T', 0x41, 'G', 'D', 'A', 'T', 0x08);
}

static void test_resources(void)
{
	struct aml a = { 0 }, res = { 0 };

	aml_res_io(&res, 0x3f8, 8);
	CHECK(res, 0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08);
	aml_res_irq_edge(&res, 5);
	CHECK(res, 0x89, 0x06, 0x00, 0x03, 0x01, 0x05, 0x00, 0x00, 0x00);
	aml_res_mem32_fixed(&res, 0xe8000000, 0x100000);
	CHECK(res, 0x86, 0x09, 0x00, 0x01, 0x00, 0x00, 0x00, 0xe8, 0x00, 0x00, 0x10, 0x00);
	aml_res_bus(&res, 0, 0);
	CHECK(res, 0x88, 0x0d, 0x00, 0x02, 0x0c, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	aml_res_mem32_window(&res, 0xc0000000, 0x28000000);
	CHECK(res, 0x87, 0x17, 0x00, 0x00, 0x0c, 0x01, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff,
	      0xe7, 0, 0, 0, 0, 0, 0, 0, 0x28);
	aml_res_mem64_window(&res, 0x100000000ULL, 0x100000000ULL);
	CHECK(res, 0x8a, 0x2b, 0x00, 0x00, 0x0c, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
	      0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
	      0);

	aml_res_io(&res, 0x70, 2);
	aml_name_crs(&a, &res);
	g_assert_null(res.data);
	CHECK(a, 0x08, '_', 'C', 'R', 'S', 0x11, 0x0d, 0x0a, 0x0a, 0x47, 0x01, 0x70, 0x00, 0x70,
	      0x00, 0x01, 0x02, 0x79, 0x00);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/aml/integer", test_integer);
	g_test_add_func("/acpi/aml/path", test_path);
	g_test_add_func("/acpi/aml/ids", test_ids);
	g_test_add_func("/acpi/aml/package-length", test_package_length);
	g_test_add_func("/acpi/aml/nesting", test_nesting);
	g_test_add_func("/acpi/aml/field", test_field);
	g_test_add_func("/acpi/aml/resources", test_resources);
	return g_test_run();
}
