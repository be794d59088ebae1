/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions for tests, written as JSON with single quotes
 */
#pragma once

#include <glib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"

/* A machine that is right but for `more`. */
#define VM(more) "{'payload':{'kernel':'/k'}" more "}"

static inline GVariant *definition_from_json(const char *quoted)
{
	g_autofree char *text = g_strdelimit(g_strdup(quoted), "'", '"');
	struct err err = { 0 };
	GVariant *dict = NULL;
	int r;

	r = config_json_parse(text, strlen(text), &dict, &err);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(r, ==, 0);
	return dict;
}

static inline struct vm_config *config_from_json(const char *quoted)
{
	g_autoptr(GVariant) dict = definition_from_json(quoted);
	struct vm_config *config = NULL;
	struct err err = { 0 };
	int r;

	r = vm_config_parse(dict, &config, &err);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(r, ==, 0);
	return config;
}
