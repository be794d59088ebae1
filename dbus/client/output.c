/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/output.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vmm/base/math.h"
#include "vmm/config/json.h"

void table_init(struct table *t, const char *const *headings)
{
	t->n_columns = 0;
	t->cells = g_ptr_array_new_with_free_func(g_free);
	for (; headings[t->n_columns]; t->n_columns++)
		g_ptr_array_add(t->cells, g_strdup(headings[t->n_columns]));
	assert(t->n_columns <= OUTPUT_COLUMNS_MAX);
}

void table_deinit(struct table *t)
{
	g_ptr_array_unref(t->cells);
}

void table_add(struct table *t, ...)
{
	va_list ap;

	va_start(ap, t);
	for (size_t i = 0; i < t->n_columns; i++)
		g_ptr_array_add(t->cells, clean_text(va_arg(ap, const char *)));
	va_end(ap);
}

void table_print(const struct table *t)
{
	size_t widths[OUTPUT_COLUMNS_MAX] = { 0 };

	if (t->cells->len <= t->n_columns)
		return;
	for (size_t i = 0; i < t->cells->len; i++) {
		size_t width = (size_t)g_utf8_strlen(t->cells->pdata[i], -1);

		widths[i % t->n_columns] = MAX(widths[i % t->n_columns], width);
	}
	for (size_t i = 0; i < t->cells->len; i++) {
		const char *cell = t->cells->pdata[i];
		size_t column = i % t->n_columns;
		size_t pad = widths[column] - (size_t)g_utf8_strlen(cell, -1);

		if (column == t->n_columns - 1)
			printf("%s\n", cell);
		else
			printf("%s%*s", cell, (int)pad + 2, "");
	}
}

const char *format_size(uint64_t bytes, char buf[static 24])
{
	static const char units[] = "BKMGTPE";
	unsigned int unit = 0;
	uint64_t scale = 1;

	while (unit < strlen(units) - 1 && bytes / scale >= 1024) {
		scale *= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(buf, 24, "%" PRIu64, bytes);
	else if (bytes % scale == 0)
		snprintf(buf, 24, "%" PRIu64 "%c", bytes / scale, units[unit]);
	else
		snprintf(buf, 24, "%.1f%c", (double)bytes / (double)scale, units[unit]);
	return buf;
}

const char *format_time(uint64_t usec, char buf[static 40])
{
	time_t t = (time_t)(usec / 1000000);
	struct tm tm;

	if (usec == 0 || !localtime_r(&t, &tm) || strftime(buf, 40, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		g_strlcpy(buf, "-", 40);
	return buf;
}

char *clean_text(const char *s)
{
	g_autofree char *valid = g_utf8_make_valid(s, -1);
	GString *clean = g_string_new(NULL);

	for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		g_string_append_unichar(clean, g_unichar_iscntrl(c) ? '?' : c);
	}
	return g_string_free(clean, FALSE);
}

void print_json(GVariant *value, bool pretty)
{
	g_autoptr(GVariant) ref = g_variant_ref_sink(value);
	g_autofree char *text =
		config_json_print(ref, pretty ? CONFIG_JSON_PRETTY : CONFIG_JSON_COMPACT);

	printf("%s%s", text, pretty ? "" : "\n");
}

void print_json_text(const char *text, bool pretty)
{
	g_autoptr(GVariant) value = NULL;

	if (config_json_parse(text, strlen(text), &value, NULL) == 0)
		print_json(value, pretty);
	else
		printf("%s\n", text);
}

char *format_value(GVariant *value)
{
	if (g_variant_is_of_type(value, G_VARIANT_TYPE_VARIANT)) {
		g_autoptr(GVariant) inner = g_variant_get_variant(value);

		return format_value(inner);
	}
	if (g_variant_is_of_type(value, G_VARIANT_TYPE_BOOLEAN))
		return g_strdup(g_variant_get_boolean(value) ? "yes" : "no");
	if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING) ||
	    g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH))
		return clean_text(g_variant_get_string(value, NULL));
	if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING_ARRAY)) {
		g_autofree const char **strings = g_variant_get_strv(value, NULL);
		g_autofree char *joined = g_strjoinv(" ", (char **)strings);

		return clean_text(joined);
	}
	return g_variant_print(value, FALSE);
}
