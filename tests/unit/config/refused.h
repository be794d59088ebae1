/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of definitions that are refused, a test result each
 */
#pragma once

#include <errno.h>

#include "definition.h"

struct refused {
	const char *name, *json;
	const char *text; /* the sentence */
};

static inline void test_refused(gconstpointer data)
{
	const struct refused *refused = data;
	g_autoptr(GVariant) dict = definition_from_json(refused->json);
	struct vm_config *config = NULL;
	struct err err = { 0 };
	int r;

	r = vm_config_parse(dict, &config, &err);
	g_assert_cmpstr(err.msg, ==, refused->text);
	g_assert_cmpint(r, ==, -EINVAL);
	g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
	g_assert_null(config);
	/* a caller that does not want the sentence gets the same answer */
	g_assert_cmpint(vm_config_parse(dict, &config, NULL), ==, -EINVAL);
}

/* The table stays where it is. */
static inline void add_refused(const struct refused *refused, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		g_autofree char *path = g_strdup_printf("/config/parse/bad/%s", refused[i].name);

		g_test_add_data_func(path, &refused[i], test_refused);
	}
}
