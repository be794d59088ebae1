/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#undef MIN
#undef MAX
#include "vmm/base/math.h"

static void test_range_fits(void)
{
	g_assert_true(range_fits(0, 0, 0));
	g_assert_true(range_fits(10, 0, 10));
	g_assert_true(range_fits(0, 10, 10));
	g_assert_false(range_fits(1, 10, 10));
	g_assert_false(range_fits(11, 0, 10));
	g_assert_false(range_fits(UINT64_MAX, 2, 10));
	g_assert_false(range_fits(1, UINT64_MAX, UINT64_MAX));
	g_assert_true(range_fits(0, UINT64_MAX, UINT64_MAX));
}

static void test_overlap(void)
{
	g_assert_true(ranges_overlap(0, 10, 9, 1));
	g_assert_false(ranges_overlap(0, 10, 10, 1));
	g_assert_false(ranges_overlap(10, 1, 0, 10));
	g_assert_true(ranges_overlap(5, 1, 0, 10));
	g_assert_true(ranges_overlap(0, 10, 5, 1));
	g_assert_false(ranges_overlap(5, 0, 0, 10));
	g_assert_false(ranges_overlap(0, 10, 5, 0));
}

static void test_alignment(void)
{
	g_assert_cmpuint(align_up(0, 4096), ==, 0);
	g_assert_cmpuint(align_up(1, 4096), ==, 4096);
	g_assert_cmpuint(align_up(4096, 4096), ==, 4096);
	g_assert_cmpuint(align_up(UINT64_MAX - 4095, 4096), ==, UINT64_MAX - 4095);
	g_assert_cmpuint(align_up(UINT64_MAX - 4094, 4096), ==, UINT64_MAX);
	g_assert_cmpuint(align_up(UINT64_MAX, 1), ==, UINT64_MAX);
	g_assert_cmpuint(align_down(4097, 4096), ==, 4096);
	g_assert_cmpuint(align_down(UINT64_MAX, 2), ==, UINT64_MAX - 1);
}

static void test_pow2(void)
{
	g_assert_false(is_pow2(0));
	g_assert_true(is_pow2(1));
	g_assert_false(is_pow2(3));
	g_assert_true(is_pow2(1ULL << 63));
	g_assert_false(is_pow2(UINT64_MAX));
}

static void test_min_max(void)
{
	int i = 3;

	g_assert_cmpint(MIN(i++, 5), ==, 3);
	g_assert_cmpint(i, ==, 4); /* evaluated once */
	g_assert_cmpint(MAX(-1, 1), ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/math/range-fits", test_range_fits);
	g_test_add_func("/base/math/overlap", test_overlap);
	g_test_add_func("/base/math/alignment", test_alignment);
	g_test_add_func("/base/math/pow2", test_pow2);
	g_test_add_func("/base/math/min-max", test_min_max);
	return g_test_run();
}
