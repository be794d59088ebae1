/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/bytes.h"

#include <glib.h>

static void test_typed(void)
{
	le16 a = le16_make(0x1234);
	le32 b = le32_make(0x12345678);
	le64 c = le64_make(0x123456789abcdef0);
	be32 d = be32_make(0x12345678);

	g_assert_cmpmem(&a, 2, "\x34\x12", 2);
	g_assert_cmpmem(&b, 4, "\x78\x56\x34\x12", 4);
	g_assert_cmpmem(&c, 8, "\xf0\xde\xbc\x9a\x78\x56\x34\x12", 8);
	g_assert_cmpmem(&d, 4, "\x12\x34\x56\x78", 4);
	g_assert_cmphex(le16_get(a), ==, 0x1234);
	g_assert_cmphex(le32_get(b), ==, 0x12345678);
	g_assert_cmphex(le64_get(c), ==, 0x123456789abcdef0);
	g_assert_cmphex(be32_get(d), ==, 0x12345678);
}

static void test_buffer(void)
{
	static const unsigned int lens[] = { 1, 2, 4, 8 };
	static const uint64_t value = 0x8877665544332211;

	for (size_t i = 0; i < G_N_ELEMENTS(lens); i++) {
		uint64_t mask = lens[i] == 8 ? UINT64_MAX : (1ULL << (8 * lens[i])) - 1;
		uint8_t buf[10] = { 0 };

		bytes_put_le(buf + 1, lens[i], value); /* unaligned */
		g_assert_cmpmem(buf + 1, lens[i], "\x11\x22\x33\x44\x55\x66\x77\x88", lens[i]);
		g_assert_cmphex(buf[0], ==, 0);
		g_assert_cmphex(buf[1 + lens[i]], ==, 0);
		g_assert_cmphex(bytes_get_le(buf + 1, lens[i]), ==, value & mask);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/bytes/typed", test_typed);
	g_test_add_func("/base/bytes/buffer", test_buffer);
	return g_test_run();
}
