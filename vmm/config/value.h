/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading foreign GVariants, and naming the place where one was wrong
 *
 * A definition arrives from JSON, from an option string or from the bus, so the
 * same number may be an `x`, a `q` inside a `v`, or a `d`.  These functions hide
 * that.  A config_path is a chain of stack frames from the value at hand to the
 * root; it is rendered only when there is an error: as JSON pointer (RFC 6901)
 * or, below an option, as "--disk: num_queues".
 *
 * Pure functions; any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;

#define CONFIG_POINTER_MAX 192
#define CONFIG_QUOTE_MAX   80

struct config_path {
	const struct config_path *parent; /* NULL: the root */
	const char *key;                  /* NULL: an element of a list */
	const char *option;               /* the key in option strings; at the root: "--disk" */
	size_t index;
};

/* "/disks/0/path", "definition" for the root, or "--disk: path" */
const char *config_path_render(const struct config_path *path, char buf[CONFIG_POINTER_MAX]);
/* Fills err with "<path>: <text>", FAULT_BAD_CONFIG; returns -EINVAL. */
int config_fail(const struct config_path *path, struct err *err, const char *fmt, ...)
	_printf_(3, 4);
/* The same as FAULT_UNSUPPORTED, -EOPNOTSUPP. */
int config_unsupported(const struct config_path *path, struct err *err, const char *fmt, ...)
	_printf_(3, 4);

/* 'text', shortened, without control characters, always valid UTF-8 */
const char *config_quote(const char *text, char buf[CONFIG_QUOTE_MAX]);
/* "the string 'x'", "an object", "1.5", "null" */
const char *config_value_describe(GVariant *value, char buf[CONFIG_QUOTE_MAX + 16]);

/* Looks through variants and full maybes; a new reference. */
GVariant *config_value_unwrap(GVariant *value);
bool config_value_is_null(GVariant *value);
bool config_value_is_object(GVariant *value); /* string keys */
bool config_value_is_list(GVariant *value);
/* Any integer type, and a double that holds one exactly.  -1 is true, 1. */
bool config_value_integer(GVariant *value, bool *ret_negative, uint64_t *ret_magnitude);
