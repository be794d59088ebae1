/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The problems of a definition
 *
 * Parsing does not end with the first problem: what is wrong is noted here, the
 * member keeps its default and the next key is read.  So that no problem is
 * reported that only follows from another (a misspelt key, then what misses it),
 * rules between keys (tables.h) are left out when something was wrong in a section
 * that they look at: that is what `wrong_rows` remembers.
 *
 * At most CONFIG_PROBLEMS_MAX are kept; then reading stops.  Owned by whoever
 * declared it; any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"
#include "vmm/config/value.h"

struct err;

#define CONFIG_PROBLEMS_MAX 100

struct config_problems {
	GArray *list;        /* struct err; NULL: none */
	uint64_t wrong_rows; /* of the root's table: those with a problem below them */
};

void config_problems_deinit(struct config_problems *problems);
size_t config_problems_count(const struct config_problems *problems);
bool config_problems_full(const struct config_problems *problems);
/* The first one becomes *err (NULL allowed); returns its negative code, 0 when there is none. */
int config_problems_first(const struct config_problems *problems, struct err *err);
/* Rules are looked at last; this puts all into the order of the document. */
void config_problems_sort(struct config_problems *problems, GVariant *document);

/* "<path>: <text>", FAULT_BAD_CONFIG; returns -EINVAL. */
int config_problem(struct config_problems *problems, const struct config_path *path,
		   const char *fmt, ...) _printf_(3, 4);
/* What comes in a later version: FAULT_UNSUPPORTED, -EOPNOTSUPP. */
int config_problem_unsupported(struct config_problems *problems, const struct config_path *path,
			       const char *fmt, ...) _printf_(3, 4);
/* What a rule said: its text begins with the pointer. */
void config_problem_add(struct config_problems *problems, const struct err *err);
