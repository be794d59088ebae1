/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset and sleep register, PM timer
 */
#include <glib.h>

#include "vmm/acpi/pm.h"
#include "vmm/base/err.h"

struct seen {
	int n;
	enum machine_request last;
};

static void request(void *data, enum machine_request r)
{
	struct seen *seen = data;

	seen->n++;
	seen->last = r;
}

static uint32_t timer(struct pm *pm)
{
	uint32_t v = 0;

	pm->timer.ops->read(&pm->timer, 0, &v, 4);
	return v;
}

static void test_requests(void)
{
	static const struct {
		uint8_t value;
		int n;
		enum machine_request request;
	} cases[] = {
		{ 0x01, 1, MACHINE_REQUEST_RESET },
		{ 0x34, 1, MACHINE_REQUEST_SHUTDOWN },
		{ 0x00, 0, 0 },
		{ 0x14, 0, 0 }, /* SLP_TYP 5 without SLP_EN */
		{ 0x20, 0, 0 }, /* SLP_EN with SLP_TYP 0 */
		{ 0x80, 0, 0 }, /* WAK_STS is cleared by writing it */
		{ 0xff, 0, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct seen seen = { 0 };
		struct pm pm;
		uint8_t v = 0xaa;

		pm_init(&pm, request, &seen);
		pm.reset.ops->write(&pm.reset, 0, &cases[i].value, 1);
		g_assert_cmpint(seen.n, ==, cases[i].n);
		if (seen.n)
			g_assert_cmpint(seen.last, ==, cases[i].request);
		pm.reset.ops->read(&pm.reset, 0, &v, 1);
		g_assert_cmphex(v, ==, 0);
		pm_deinit(&pm);
	}
}

static void test_timer(void)
{
	struct pm pm;
	uint32_t first, second;
	gint64 start;

	pm_init(&pm, request, NULL);
	g_assert_cmpuint(timer(&pm), ==, 0);
	g_assert_cmpuint(timer(&pm), ==, 0); /* stopped */
	pm_resume(&pm);
	pm_resume(&pm);
	start = g_get_monotonic_time();
	first = timer(&pm);
	while (g_get_monotonic_time() - start < 2000)
		;
	second = timer(&pm);
	g_assert_cmpuint(second - first, >=, 7150); /* 2 ms; no upper bound on a busy machine */
	pm_pause(&pm);
	first = timer(&pm);
	g_assert_cmpuint(timer(&pm), ==, first);
	pm_deinit(&pm);
}

static void test_wrap_and_parts(void)
{
	struct pm pm;
	uint8_t byte = 0;
	uint16_t word = 0;

	pm_init(&pm, request, NULL);
	pm.st.elapsed_ns = 2000000000000ULL; /* 2,000 s: 7,159,090,000 ticks */
	g_assert_cmphex(timer(&pm), ==, (uint32_t)7159090000ULL);
	pm.timer.ops->read(&pm.timer, 1, &byte, 1);
	g_assert_cmphex(byte, ==, (uint32_t)7159090000ULL >> 8 & 0xff);
	pm.timer.ops->read(&pm.timer, 2, &word, 2);
	g_assert_cmphex(word, ==, (uint32_t)7159090000ULL >> 16);
	/* the highest state there can be is still arithmetic, not overflow */
	pm.st.elapsed_ns = UINT64_MAX;
	timer(&pm);
	pm_reset(&pm);
	pm_reset(&pm);
	g_assert_cmpuint(timer(&pm), ==, 0);
	pm_deinit(&pm);
}

static void test_state(void)
{
	struct err err = { 0 };

	g_assert_true(state_desc_tiles(&pm_state_desc, &err));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/pm/requests", test_requests);
	g_test_add_func("/acpi/pm/timer", test_timer);
	g_test_add_func("/acpi/pm/wrap-and-parts", test_wrap_and_parts);
	g_test_add_func("/acpi/pm/state", test_state);
	return g_test_run();
}
