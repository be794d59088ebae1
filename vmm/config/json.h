/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text (RFC 8259) to GVariant and back
 *
 *   object a{sv}   array av   string s   true/false b   null: an empty maybe
 *   integer x, above INT64_MAX t; with fraction or exponent d
 *
 * Strict, because definitions come from callers without privileges: no
 * comments, no octal numbers, no key twice in an object, bounded depth and
 * length.  Not json-glib 1.6, for that: it recurses without bound
 * (a megabyte of '[' ends the process), reads 010 as 8 and 18446744073709551615
 * as -1, and lets the last of equal keys win.
 *
 * Never linked into the worker.  Pure functions; any thread.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

#include "vmm/base/cleanup.h"

struct err;

/*
 * The text comes from anybody, before anything is authorised, and every value
 * costs some hundred bytes and a microsecond of the only thread.  The largest
 * definition there can be, 1024 CPUs with an affinity each, has 330 KB.
 */
#define CONFIG_JSON_MAX        (512u << 10) /* bytes of text */
#define CONFIG_JSON_VALUES_MAX 100000
#define CONFIG_JSON_DEPTH_MAX  32

/*
 * *ret is a full reference.  Errors begin with "line 3, column 7: ", columns
 * count characters from 1; FAULT_BAD_CONFIG.
 */
_must_check_ int config_json_parse(const char *text, size_t len, GVariant **ret, struct err *err);
/* For texts of our own that hold more than one such text: at most max bytes, of any values. */
_must_check_ int config_json_parse_max(const char *text, size_t len, size_t max, GVariant **ret,
				       struct err *err);

enum config_json_flags {
	CONFIG_JSON_COMPACT,
	CONFIG_JSON_PRETTY, /* two spaces a level, a line break at the end */
};

/*
 * Any GVariant: dictionaries with string keys become objects, other arrays and
 * tuples arrays, paths and signatures strings, numbers that JSON has no text
 * for (infinity, not-a-number) null.  g_free() the result.
 */
char *config_json_print(GVariant *value, enum config_json_flags flags);
