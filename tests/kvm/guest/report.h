/* SPDX-License-Identifier: Apache-2.0 */
/*
 * what the guest says, and how
 *
 * Every line goes to port 0xe9 and to COM1 (where there is one): `ok NAME - text`,
 * `not ok NAME - text (expected X got Y)`, `# information`, `# skip NAME reason` and at the end
 * `done PASSED FAILED`. NAME is the scenario running now.
 *
 * Formats know %s %c %d %u %x with `l` and a zero-padded or blank-padded width: nothing more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void report_init(void);
void report_scenario(const char *name);
unsigned int report_failed(void);

/* raw output, no line discipline */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* to COM1 whatever out= says */
void com1_put(char c);

void info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool check(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool check_eq(uint64_t got, uint64_t expected, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* the `done` line and code 0x41 */
void report_done(void);
