/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output lines and their counters
 */
#include "tests/kvm/guest/report.h"

#include <stdarg.h>

#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"

#define COM1_LSR_THRE 0x20

static const char *scenario_name;
static unsigned int n_passed, n_failed;
static bool use_com1, use_debug_console;

void com1_put(char c)
{
	/* bounded: a UART that never drains must show up as lost text, not as a guest that hangs */
	for (unsigned int i = 0; i < 10000; i++)
		if (inb(COM1 + UART_LSR) & COM1_LSR_THRE)
			break;
	outb(COM1, (uint8_t)c);
}

static void put_char(char c)
{
	if (use_debug_console)
		outb(PORT_DEBUG_CONSOLE, (uint8_t)c);
	if (use_com1)
		com1_put(c);
}

static void put_string(const char *s)
{
	for (; *s; s++)
		put_char(*s);
}

static void put_number(uint64_t value, unsigned int base, unsigned int width, char pad)
{
	char digits[24];
	unsigned int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value > 0);
	while (n < width && n < sizeof(digits))
		digits[n++] = pad;
	while (n > 0)
		put_char(digits[--n]);
}

static void put_signed(int64_t value)
{
	if (value < 0)
		put_char('-');
	put_number(value < 0 ? -(uint64_t)value : (uint64_t)value, 10, 0, ' ');
}

static void vprint(const char *fmt, va_list args)
{
	for (; *fmt; fmt++) {
		unsigned int width = 0;
		bool wide = false;
		char pad = ' ';

		if (*fmt != '%') {
			put_char(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = '0';
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned int)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			wide = true;
		switch (*fmt) {
		case 's':
			put_string(va_arg(args, const char *));
			break;
		case 'c':
			put_char((char)va_arg(args, int));
			break;
		case 'd':
			put_signed(wide ? va_arg(args, int64_t) : va_arg(args, int));
			break;
		case 'u':
			put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned int), 10,
				   width, pad);
			break;
		case 'x':
			put_number(wide ? va_arg(args, uint64_t) : va_arg(args, unsigned int), 16,
				   width, pad);
			break;
		default:
			put_char(*fmt);
			break;
		}
	}
}

void report_init(void)
{
	char out[8] = "both";

	arg_get("out", out, sizeof(out));
	/* an absent UART reads all ones */
	use_com1 = !string_equal(out, "e9") && inb(COM1 + UART_LSR) != 0xff;
	use_debug_console = !string_equal(out, "com1");
}

void report_scenario(const char *name)
{
	scenario_name = name;
}

unsigned int report_failed(void)
{
	return n_failed;
}

void print(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprint(fmt, args);
	va_end(args);
}

void info(const char *fmt, ...)
{
	va_list args;

	put_string("# ");
	va_start(args, fmt);
	vprint(fmt, args);
	va_end(args);
	put_char('\n');
}

void skip(const char *fmt, ...)
{
	va_list args;

	print("# skip %s ", scenario_name);
	va_start(args, fmt);
	vprint(fmt, args);
	va_end(args);
	put_char('\n');
}

static void verdict(bool good)
{
	if (good)
		n_passed++;
	else
		n_failed++;
	print("%s %s - ", good ? "ok" : "not ok", scenario_name);
}

bool check(bool good, const char *fmt, ...)
{
	va_list args;

	verdict(good);
	va_start(args, fmt);
	vprint(fmt, args);
	va_end(args);
	put_char('\n');
	return good;
}

bool check_eq(uint64_t got, uint64_t expected, const char *fmt, ...)
{
	va_list args;

	verdict(got == expected);
	va_start(args, fmt);
	vprint(fmt, args);
	va_end(args);
	if (got != expected)
		print(" (expected 0x%lx got 0x%lx)", expected, got);
	put_char('\n');
	return got == expected;
}

void report_done(void)
{
	print("done %u %u\n", n_passed, n_failed);
	outb(PORT_CODE, CODE_DONE);
}
