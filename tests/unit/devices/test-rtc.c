/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/rtc.h"

#include <glib.h>
#include <string.h>
#include <time.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

struct requests {
	unsigned int n;
	enum machine_request last;
};

static void on_request(void *data, enum machine_request request)
{
	struct requests *requests = data;

	requests->n++;
	requests->last = request;
}

static uint8_t get(struct rtc *rtc, uint8_t index)
{
	uint8_t v = index;

	rtc->region.ops->write(&rtc->region, 0, &v, 1);
	rtc->region.ops->read(&rtc->region, 1, &v, 1);
	return v;
}

static void put(struct rtc *rtc, uint8_t index, uint8_t value)
{
	rtc->region.ops->write(&rtc->region, 0, &index, 1);
	rtc->region.ops->write(&rtc->region, 1, &value, 1);
}

static int from_bcd(uint8_t v)
{
	g_assert_cmpint(v & 0x0f, <=, 9);
	g_assert_cmpint(v >> 4, <=, 9);
	return (v >> 4) * 10 + (v & 0x0f);
}

static void test_time(void)
{
	struct rtc rtc;
	struct tm tm;
	time_t before, seen, after;

	rtc_init(&rtc, GIB, GIB, on_request, NULL);
	/* Again when the minute or the like turned over between two registers. */
	do {
		before = time(NULL);
		memset(&tm, 0, sizeof(tm));
		tm.tm_year = from_bcd(get(&rtc, 0x32)) * 100 + from_bcd(get(&rtc, 9)) - 1900;
		tm.tm_mon = from_bcd(get(&rtc, 8)) - 1;
		tm.tm_mday = from_bcd(get(&rtc, 7));
		tm.tm_hour = from_bcd(get(&rtc, 4));
		tm.tm_min = from_bcd(get(&rtc, 2));
		tm.tm_sec = from_bcd(get(&rtc, 0));
		after = time(NULL);
	} while (before != after);
	seen = timegm(&tm);
	g_assert_cmpint(seen, ==, before);
	g_assert_cmpint(from_bcd(get(&rtc, 6)), ==, tm.tm_wday + 1);
	/* No update in progress; 24 hours, BCD; no interrupt; battery good. */
	g_assert_cmphex(get(&rtc, 0x0a) & 0x80, ==, 0);
	g_assert_cmphex(get(&rtc, 0x0b), ==, 0x02);
	g_assert_cmphex(get(&rtc, 0x0c), ==, 0);
	g_assert_cmphex(get(&rtc, 0x0d), ==, 0x80);
	/* Setting it is taken and has no effect. */
	put(&rtc, 9, 0x99);
	g_assert_cmpint(from_bcd(get(&rtc, 9)), !=, 99);
	rtc_deinit(&rtc);
}

static void test_memory_size(void)
{
	static const struct {
		uint64_t low_end, size;
		uint32_t ext, high;
	} cases[] = {
		{ 8 * MIB, 8 * MIB, 0, 0 },
		{ 128 * MIB, 128 * MIB, 0x700, 0 },
		{ 3 * GIB, 3 * GIB, 0xbf00, 0 },
		{ 3 * GIB, 5 * GIB, 0xbf00, 0x8000 },
		{ 3 * GIB, 1027 * GIB, 0xbf00, 0xffffff },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct rtc rtc;

		rtc_init(&rtc, cases[i].low_end, cases[i].size, on_request, NULL);
		g_assert_cmphex(get(&rtc, 0x34) | get(&rtc, 0x35) << 8, ==, cases[i].ext);
		g_assert_cmphex(get(&rtc, 0x5b) | get(&rtc, 0x5c) << 8 | get(&rtc, 0x5d) << 16, ==,
				cases[i].high);
		rtc_deinit(&rtc);
	}
}

static void test_ram_survives_reset(void)
{
	struct rtc rtc;

	rtc_init(&rtc, GIB, GIB, on_request, NULL);
	put(&rtc, 0x40, 0x12);
	put(&rtc, 0xff, 0x34); /* the NMI bit is no part of the index */
	rtc_reset(&rtc);
	g_assert_cmphex(get(&rtc, 0x40), ==, 0x12);
	g_assert_cmphex(get(&rtc, 0x7f), ==, 0x34);
	rtc_deinit(&rtc);
}

static void test_reset_request(void)
{
	struct requests requests = { 0 };
	struct rtc rtc;
	uint8_t v = 0x5a;

	rtc_init(&rtc, GIB, GIB, on_request, &requests);
	put(&rtc, 0x0f, 0); /* Linux clears the shutdown status, without the NMI bit */
	put(&rtc, 0x8f, 5);
	g_assert_cmpuint(requests.n, ==, 0);
	put(&rtc, 0x8f, 0);
	g_assert_cmpuint(requests.n, ==, 1);
	g_assert_cmpint(requests.last, ==, MACHINE_REQUEST_RESET);
	/* The index is write-only. */
	rtc.region.ops->read(&rtc.region, 0, &v, 1);
	g_assert_cmphex(v, ==, 0xff);
	rtc_deinit(&rtc);
}

static void test_state(void)
{
	struct err err = { 0 };

	g_assert_true(state_desc_tiles(&rtc_state_desc, &err));
	g_assert_cmpstr(err.msg, ==, "");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/rtc/time", test_time);
	g_test_add_func("/devices/rtc/memory-size", test_memory_size);
	g_test_add_func("/devices/rtc/ram-survives-reset", test_ram_survives_reset);
	g_test_add_func("/devices/rtc/reset-request", test_reset_request);
	g_test_add_func("/devices/rtc/state", test_state);
	return g_test_run();
}
