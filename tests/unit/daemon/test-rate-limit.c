/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/rate-limit.h"
#include "vmm/base/cleanup.h"
#include <glib.h>

#define SECOND 1000000ULL

/* Ten at once, then one a second. */
static const struct {
	const char *name;
	uint64_t usec; /* since the step before */
	unsigned int n, passed;
	uint32_t dropped; /* told with the first that passes */
} steps[] = {
	{ "a burst", 5 * SECOND, 10, 10, 0 },
	{ "too many", 0, 5, 0, 0 },
	{ "not yet", SECOND - 1, 1, 0, 0 },
	{ "one came back", 1, 3, 1, 6 },
	{ "half a second", SECOND / 2, 1, 0, 0 },
	{ "the other half", SECOND / 2, 1, 1, 3 },
	{ "three seconds", 3 * SECOND, 4, 3, 0 },
	{ "never more than the burst", 1000 * SECOND, 12, 10, 1 },
	{ "a second after that", SECOND, 1, 1, 2 },
};

static void test_steps(void)
{
	struct rate_limit limit = { .burst = 10, .interval_usec = SECOND };
	uint64_t now = 77;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned int passed = 0;
		uint32_t dropped, told = 0;

		g_test_message("%s", steps[i].name);
		now += steps[i].usec;
		for (unsigned int n = 0; n < steps[i].n; n++) {
			passed += rate_limit_pass(&limit, now, &dropped);
			told += dropped;
		}
		g_assert_cmpuint(passed, ==, steps[i].passed);
		g_assert_cmpuint(told, ==, steps[i].dropped);
	}
}

/* Whoever keeps trying gets one a second, and every refusal is told once. */
static void test_flood(void)
{
	struct rate_limit limit = { .burst = 10, .interval_usec = SECOND };
	uint32_t dropped;
	uint64_t passed = 0, told = 0, n = 0;

	for (uint64_t now = 0; now <= 100 * SECOND; now += 1000, n++) {
		passed += rate_limit_pass(&limit, now, &dropped);
		told += dropped;
	}
	g_assert_cmpuint(passed, ==, 110);
	g_assert_cmpuint(told + limit.dropped, ==, n - passed);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/rate-limit/steps", test_steps);
	g_test_add_func("/daemon/rate-limit/flood", test_flood);
	return g_test_run();
}
