/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/sort.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#define ROWS_MAX 3000

struct row {
	uint64_t key;
	uint32_t key_again; /* what moves, moves as a whole */
	uint8_t pad;
};

static int by_key(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static int by_value(const void *a, const void *b)
{
	const uint8_t *x = a, *y = b;

	return *x - *y;
}

/* Every number of rows up to some, and many; in order, the other way round, all alike, at random.
 */
static void test_orders(void)
{
	static struct row rows[ROWS_MAX];
	static const size_t counts[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 100, ROWS_MAX };

	for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
		for (unsigned int order = 0; order < 4; order++) {
			size_t n = counts[i];
			uint64_t sum = 0, after = 0;

			for (size_t k = 0; k < n; k++) {
				uint64_t key = order == 0   ? k
					       : order == 1 ? n - k
					       : order == 2 ? 7
							    : (uint32_t)g_test_rand_int();

				rows[k] = (struct row){ key, (uint32_t)key, (uint8_t)key };
				sum += key;
			}
			sort_rows(rows, n, sizeof(rows[0]), by_key);
			for (size_t k = 0; k < n; k++) {
				g_assert_cmpuint(rows[k].key_again, ==, (uint32_t)rows[k].key);
				g_assert_cmpuint(rows[k].pad, ==, (uint8_t)rows[k].key);
				g_assert_true(k == 0 || rows[k - 1].key <= rows[k].key);
				after += rows[k].key;
			}
			g_assert_cmpuint(after, ==, sum);
		}
	}
}

static void test_bytes(void)
{
	char text[] = "the quick brown fox";

	sort_rows(text, strlen(text), 1, by_value);
	g_assert_cmpstr(text, ==, "   bcefhiknooqrtuwx");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/base/sort/orders", test_orders);
	g_test_add_func("/base/sort/bytes", test_bytes);
	return g_test_run();
}
