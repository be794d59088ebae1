/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What brumectl prints: tables for people, JSON for programs
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPUT_COLUMNS_MAX 8

/* Left-aligned columns, as wide as their longest cell; the last is not padded. */
struct table {
	size_t n_columns;
	GPtrArray *cells; /* row by row, the heading first */
};

void table_init(struct table *t, const char *const *headings);
void table_deinit(struct table *t);
/* Takes n_columns strings, copied. */
void table_add(struct table *t, ...);
/* The heading only when there are rows. */
void table_print(const struct table *t);

/* "512M", "1.5G", "0" */
const char *format_size(uint64_t bytes, char buf[static 24]);
/* Local time of CLOCK_REALTIME microseconds, "-" for 0. */
const char *format_time(uint64_t usec, char buf[static 40]);
/* Without what could move the cursor; g_free() it. */
char *clean_text(const char *s);

/* One line of compact JSON, or with `pretty` several. Sinks a floating value. */
void print_json(GVariant *value, bool pretty);
/* JSON text from the service, re-indented; printed as it came if it is none. */
void print_json_text(const char *text, bool pretty);
/* A value for people: strings bare, lists with spaces. g_free() it. */
char *format_value(GVariant *value);
