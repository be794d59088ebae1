/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of time: ticking guests for pause tests, PM timer, CMOS clock
 */
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define RTC_STATUS_A  0x0a
#define RTC_STATUS_B  0x0b
#define RTC_UPDATING  0x80
#define RTC_BINARY    0x04
#define RTC_REGISTERS 10

/* the two clocks are sampled a little apart, and the host is busy */
#define RATE_TOLERANCE_PERCENT 10

static void tick(bool silent)
{
	uint64_t hz = arg_u64("hz", 10), count = arg_u64("count", 0);
	uint32_t seen = irq_count[VECTOR_TIMER];

	if (!hz || hz > 10000) {
		check(false, "hz must be 1 to 10000, not %lu", hz);
		return;
	}
	timer_arm(1000000000 / hz, true);
	for (uint64_t n = 0; !count || n < count;) {
		cpu_wait_interrupt();
		if (irq_count[VECTOR_TIMER] == seen)
			continue;
		seen = irq_count[VECTOR_TIMER];
		n++;
		if (silent)
			outb(PORT_CODE, (uint8_t)n);
		else
			info("tick %lu", n);
	}
	timer_stop();
	check(true, "%lu ticks at %lu Hz", count, hz);
}

static void run_count(void)
{
	tick(false);
}

static void run_ticks(void)
{
	tick(true);
}

static void run_pmtimer(void)
{
	uint32_t first = pm_timer_read(), last = first, now, ticks;
	uint64_t start, ns, expected;
	bool monotonic = true;

	if (first == 0xffffffff) {
		skip("no PM timer at port 0x608");
		return;
	}
	for (unsigned int i = 0; i < 64; i++) {
		now = pm_timer_read();
		/* 24 or 32 bits wide: compare what both have */
		monotonic = monotonic && ((now - last) & 0xffffff) < 0x800000;
		last = now;
	}
	check(monotonic, "64 readings never go back");
	start = now_ns();
	first = pm_timer_read();
	sleep_ms(100);
	ns = now_ns() - start;
	ticks = (pm_timer_read() - first) & 0xffffff;
	/* 3.579545 MHz */
	expected = ns * 3579 / 1000000;
	info("%u ticks in %lu us, %lu expected", ticks, ns / 1000, expected);
	check(ticks * 100ULL > expected * (100 - RATE_TOLERANCE_PERCENT) &&
		      ticks * 100ULL < expected * (100 + RATE_TOLERANCE_PERCENT),
	      "rate within %u percent of 3.58 MHz", RATE_TOLERANCE_PERCENT);
}

static bool is_bcd(uint8_t value, uint8_t low, uint8_t high)
{
	uint8_t binary = (uint8_t)((value >> 4) * 10 + (value & 15));

	return (value & 15) < 10 && (value >> 4) < 10 && binary >= low && binary <= high;
}

static void read_rtc(uint8_t *ret)
{
	for (unsigned int tries = 0; tries < 100; tries++) {
		if (!(cmos_read(RTC_STATUS_A) & RTC_UPDATING))
			break;
		sleep_ms(1);
	}
	for (uint8_t i = 0; i < RTC_REGISTERS; i++)
		ret[i] = cmos_read(i);
}

static void run_rtc(void)
{
	uint8_t now[RTC_REGISTERS], later[RTC_REGISTERS], mode = cmos_read(RTC_STATUS_B);

	read_rtc(now);
	info("20%02x-%02x-%02x %02x:%02x:%02x, status B 0x%x", now[9], now[8], now[7], now[4],
	     now[2], now[0], mode);
	if (mode != 0xff && mode & RTC_BINARY) {
		skip("clock in binary mode");
		return;
	}
	check(is_bcd(now[0], 0, 59) && is_bcd(now[2], 0, 59), "seconds and minutes are BCD");
	check(is_bcd(now[4], 0, 23), "hours are BCD, 24 h");
	check(is_bcd(now[7], 1, 31) && is_bcd(now[8], 1, 12), "day and month are BCD");
	check(is_bcd(now[9], 24, 99), "year is plausible");
	sleep_ms(1100);
	read_rtc(later);
	check(later[0] != now[0], "seconds move on");
}

/* Looks at the clock all the time: what is missing in each window of ms=, the processor did not
 * have. */
static void run_gap(void)
{
	uint64_t ms = arg_u64("ms", 200), windows = arg_u64("windows", 0);

	for (uint64_t i = 0; !windows || i < windows; i++) {
		uint64_t start = now_ns(), last = start, gap = 0, now;

		do {
			now = now_ns();
			if (now - last > gap)
				gap = now - last;
			last = now;
		} while (now - start < ms * 1000000);
		info("gap %lu ns", gap);
	}
}

const struct scenario time_scenarios[] = {
	{ "count", run_count }, { "ticks", run_ticks }, { "pmtimer", run_pmtimer },
	{ "rtc", run_rtc },     { "gap", run_gap },     { 0 },
};
