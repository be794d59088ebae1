/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog's registers and its time
 */
#include "vmm/devices/watchdog.h"

#include <glib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define PERIOD_USEC 10000ULL
#define FULL_USEC   (WATCHDOG_COUNT_MIN * PERIOD_USEC)

struct fixture {
	struct watchdog wd;
	struct loop loop;
	_Atomic unsigned int told;
};

static void on_expired(void *data)
{
	struct fixture *f = data;

	f->told++;
}

static void setup(struct fixture *f)
{
	struct err err = { 0 };

	*f = (struct fixture){ 0 };
	if (loop_start(&f->loop, "shared", NULL, &err) < 0 ||
	    watchdog_init(&f->wd, &f->loop, on_expired, f, &err) < 0)
		g_error("%s", err.msg);
	f->wd.period_ns = PERIOD_USEC * 1000;
	watchdog_resume(&f->wd);
}

static void teardown(struct fixture *f)
{
	watchdog_deinit(&f->wd);
	loop_stop(&f->loop);
}

static uint32_t get(struct fixture *f, uint32_t off)
{
	uint32_t v;

	f->wd.region.ops->read(&f->wd.region, off, &v, 4);
	return v;
}

static void put(struct fixture *f, uint32_t off, uint32_t value)
{
	f->wd.region.ops->write(&f->wd.region, off, &value, 4);
}

/* Up to 10 s. */
static void wait_told(struct fixture *f, unsigned int n)
{
	for (int ms = 0; ms < 10000 && f->told < n; ms++)
		g_usleep(1000);
	g_assert_cmpuint(f->told, ==, n);
}

static void test_registers(void)
{
	struct fixture f;
	uint8_t byte = 1;
	uint64_t wide = 1;

	setup(&f);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 0);
	g_assert_cmpuint(get(&f, WATCHDOG_STATUS), ==, 0);
	put(&f, WATCHDOG_COUNT, 1);
	g_assert_cmpuint(get(&f, WATCHDOG_COUNT), ==, WATCHDOG_COUNT_MIN);
	put(&f, WATCHDOG_COUNT, UINT32_MAX);
	g_assert_cmpuint(get(&f, WATCHDOG_COUNT), ==, WATCHDOG_COUNT_MAX);
	put(&f, WATCHDOG_FEED, 1); /* not while it stands */
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 0);
	put(&f, WATCHDOG_CONTROL, 1);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 1);
	g_assert_cmpuint(get(&f, WATCHDOG_FEED), >, WATCHDOG_COUNT_MAX - 100);
	/* other widths and places are not its registers */
	f.wd.region.ops->write(&f.wd.region, WATCHDOG_CONTROL, &(uint8_t){ 0 }, 1);
	f.wd.region.ops->read(&f.wd.region, WATCHDOG_CONTROL, &byte, 1);
	g_assert_cmphex(byte, ==, 0xff);
	f.wd.region.ops->read(&f.wd.region, WATCHDOG_FEED, &wide, 8);
	g_assert_cmphex(wide, ==, UINT64_MAX);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 1);
	put(&f, WATCHDOG_CONTROL, 0);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 0);
	g_assert_cmpuint(f.told, ==, 0);
	teardown(&f);
}

static void test_expires(void)
{
	struct fixture f;
	gint64 start = g_get_monotonic_time();

	setup(&f);
	put(&f, WATCHDOG_COUNT, WATCHDOG_COUNT_MIN);
	put(&f, WATCHDOG_CONTROL, 1);
	g_usleep(FULL_USEC / 4);
	put(&f, WATCHDOG_FEED, 1);
	wait_told(&f, 1);
	g_assert_cmpint(g_get_monotonic_time() - start, >=, FULL_USEC + FULL_USEC / 4);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 0);
	g_assert_cmpuint(get(&f, WATCHDOG_STATUS), ==, 1);
	g_assert_true(watchdog_take(&f.wd));
	g_assert_false(watchdog_take(&f.wd));
	/* the status outlives a reset, and is cleared by the guest */
	watchdog_reset(&f.wd);
	g_assert_cmpuint(get(&f, WATCHDOG_STATUS), ==, 1);
	put(&f, WATCHDOG_STATUS, 0);
	g_assert_cmpuint(get(&f, WATCHDOG_STATUS), ==, 1);
	put(&f, WATCHDOG_STATUS, 1);
	g_assert_cmpuint(get(&f, WATCHDOG_STATUS), ==, 0);
	teardown(&f);
}

/* A machine that stands does not grow old, and what came too late is told when it goes on. */
static void test_pause(void)
{
	struct fixture f;

	setup(&f);
	put(&f, WATCHDOG_COUNT, WATCHDOG_COUNT_MIN);
	put(&f, WATCHDOG_CONTROL, 1);
	watchdog_pause(&f.wd);
	watchdog_pause(&f.wd);
	g_usleep(FULL_USEC + FULL_USEC / 4);
	g_assert_cmpuint(f.told, ==, 0);
	g_assert_cmpuint(get(&f, WATCHDOG_FEED), >, 0);
	watchdog_resume(&f.wd);
	watchdog_resume(&f.wd);
	wait_told(&f, 1);
	watchdog_pause(&f.wd);
	watchdog_resume(&f.wd);
	g_assert_cmpuint(f.told, ==, 2);
	g_assert_true(watchdog_take(&f.wd));
	watchdog_resume(&f.wd);
	g_assert_cmpuint(f.told, ==, 2);
	teardown(&f);
}

/* A shorter count counts at once, and resetting ends it. */
static void test_count(void)
{
	struct fixture f;

	setup(&f);
	put(&f, WATCHDOG_COUNT, 600);
	put(&f, WATCHDOG_CONTROL, 1);
	put(&f, WATCHDOG_COUNT, WATCHDOG_COUNT_MIN);
	wait_told(&f, 1);
	put(&f, WATCHDOG_FEED, 1); /* nothing came of it: it runs again */
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 1);
	watchdog_reset(&f.wd);
	g_assert_cmpuint(get(&f, WATCHDOG_CONTROL), ==, 0);
	g_usleep(FULL_USEC + FULL_USEC / 4);
	g_assert_cmpuint(f.told, ==, 1);
	teardown(&f);
}

static void test_state(void)
{
	struct watchdog_state st = { .count = 10, .left_ns = 1000000000 };
	struct err err = { 0 };

	g_assert_cmpint(watchdog_state_desc.validate(&st, NULL), ==, 0);
	st.left_ns++;
	g_assert_cmpint(watchdog_state_desc.validate(&st, &err), ==, -EBADMSG);
	st = (struct watchdog_state){ .count = 0 };
	g_assert_cmpint(watchdog_state_desc.validate(&st, NULL), ==, -EBADMSG);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/watchdog/registers", test_registers);
	g_test_add_func("/devices/watchdog/expires", test_expires);
	g_test_add_func("/devices/watchdog/pause", test_pause);
	g_test_add_func("/devices/watchdog/count", test_count);
	g_test_add_func("/devices/watchdog/state", test_state);
	return g_test_run();
}
