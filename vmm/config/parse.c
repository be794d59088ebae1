/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a GVariant to a struct, by its table (config_parse() of config.h)
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"

static void *member(const struct config_field *field, void *base)
{
	return (char *)base + field->offset;
}

static size_t *count_member(const struct config_field *field, void *base)
{
	return (size_t *)(void *)((char *)base + field->count);
}

static uint64_t natural_max(size_t size)
{
	return size >= 8 ? UINT64_MAX : (1ULL << (size * 8)) - 1;
}

static int parse_number(GVariant *v, const struct config_path *path, uint64_t min, uint64_t max,
			uint64_t *ret, struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];
	bool negative;
	uint64_t n;

	if (!config_value_integer(v, &negative, &n))
		return config_fail(path, err, "must be an integer, is %s",
				   config_value_describe(v, text));
	if ((negative && n) || n < min || n > max)
		return config_fail(path, err,
				   "%s%" PRIu64 " is out of range, must be %" PRIu64 " to %" PRIu64,
				   negative ? "-" : "", n, min, max);
	*ret = n;
	return 0;
}

static int parse_uint(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct err *err)
{
	bool natural = field->min == 0 && field->max == 0;
	uint64_t n;
	int r;

	r = parse_number(v, path, field->min, natural ? natural_max(field->size) : field->max, &n,
			 err);
	if (r < 0)
		return r;
	config_set_uint(field, base, n);
	return 0;
}

static int parse_text(GVariant *v, const struct config_path *path, const char **ret,
		      struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (!g_variant_is_of_type(v, G_VARIANT_TYPE_STRING) &&
	    !g_variant_is_of_type(v, G_VARIANT_TYPE_OBJECT_PATH))
		return config_fail(path, err, "must be a string, is %s",
				   config_value_describe(v, text));
	*ret = g_variant_get_string(v, NULL);
	return 0;
}

static int check_text(const struct config_field *field, const char *text,
		      const struct config_path *path, struct err *err)
{
	const char *wrong = field->check ? field->check(text) : NULL;
	char quoted[CONFIG_QUOTE_MAX];

	if (wrong)
		return config_fail(path, err, "%s %s", config_quote(text, quoted), wrong);
	return 0;
}

static int parse_string(const struct config_field *field, GVariant *v,
			const struct config_path *path, void *base, struct err *err)
{
	char **at = member(field, base);
	const char *text;
	int r;

	r = parse_text(v, path, &text, err);
	if (r < 0)
		return r;
	r = check_text(field, text, path, err);
	if (r < 0)
		return r;
	g_free(*at);
	*at = g_strdup(text);
	return 0;
}

static int parse_mac(const struct config_field *field, GVariant *v, const struct config_path *path,
		     void *base, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	const char *text;
	int r;

	r = parse_text(v, path, &text, err);
	if (r < 0)
		return r;
	if (!config_mac_parse(text, member(field, base)))
		return config_fail(path, err,
				   "%s is not a MAC address, must be like 52:54:00:12:34:56",
				   config_quote(text, quoted));
	return 0;
}

static int parse_enum(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct err *err)
{
	const struct config_names *names = field->names;
	g_autoptr(GString) choice = NULL;
	char quoted[CONFIG_QUOTE_MAX];
	const char *text;
	int r;

	r = parse_text(v, path, &text, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(text, names->names[i]) == 0) {
			config_set_uint(field, base, i);
			return 0;
		}
	}
	choice = g_string_new(NULL);
	for (size_t i = 0; i < names->n; i++)
		g_string_append_printf(choice, "%s%s",
				       i == 0             ? ""
				       : i + 1 < names->n ? ", "
							  : " or ",
				       names->names[i]);
	for (size_t i = 0; names->later && names->later[i]; i++) {
		if (strcmp(text, names->later[i]) == 0)
			return config_unsupported(path, err, "%s is not supported yet, must be %s",
						  config_quote(text, quoted), choice->str);
	}
	return config_fail(path, err, "%s is unknown, must be %s", config_quote(text, quoted),
			   choice->str);
}

/* --- lists --------------------------------------------------------------- */

static int check_list(const struct config_field *field, GVariant *v, const struct config_path *path,
		      struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];
	size_t n;

	if (!config_value_is_list(v))
		return config_fail(path, err, "must be a list, is %s",
				   config_value_describe(v, text));
	n = g_variant_n_children(v);
	if (field->list_max && n > field->list_max)
		return config_fail(path, err, "%zu entries are too many, must be at most %zu", n,
				   field->list_max);
	return 0;
}

static int parse_list(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct err *err)
{
	size_t n, *count = count_member(field, base);
	char **list = member(field, base);
	int r;

	r = check_list(field, v, path, err);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_malloc0_n(n, field->table->size);
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(v, i);
		g_autoptr(GVariant) item = config_value_unwrap(child);
		struct config_path at = { .parent = path, .index = i };

		(*count)++; /* before parsing: config_clear() then frees a half-read one */
		r = config_parse(field->table, item, &at, *list + i * field->table->size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_strings(const struct config_field *field, GVariant *v,
			 const struct config_path *path, void *base, struct err *err)
{
	char ***list = member(field, base);
	size_t n;
	int r;

	r = check_list(field, v, path, err);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_new0(char *, n + 1);
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(v, i);
		g_autoptr(GVariant) item = config_value_unwrap(child);
		struct config_path at = { .parent = path, .index = i };
		const char *text;

		r = parse_text(item, &at, &text, err);
		if (r < 0)
			return r;
		r = check_text(field, text, &at, err);
		if (r < 0)
			return r;
		(*list)[i] = g_strdup(text);
	}
	return 0;
}

static int parse_uints(const struct config_field *field, GVariant *v,
		       const struct config_path *path, void *base, struct err *err)
{
	size_t n, *count = count_member(field, base);
	uint32_t **list = member(field, base);
	int r;

	r = check_list(field, v, path, err);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_new0(uint32_t, n);
	*count = n;
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(v, i);
		g_autoptr(GVariant) item = config_value_unwrap(child);
		struct config_path at = { .parent = path, .index = i };
		uint64_t value;

		r = parse_number(item, &at, field->min, field->max ? field->max : UINT32_MAX,
				 &value, err);
		if (r < 0)
			return r;
		(*list)[i] = (uint32_t)value;
	}
	return 0;
}

/* --- keys that come later ------------------------------------------------ */

static bool value_is_token(GVariant *v, const char *token, size_t len)
{
	g_autofree char *want = g_strndup(token, len);
	char text[CONFIG_QUOTE_MAX + 16];

	if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING))
		return strcmp(g_variant_get_string(v, NULL), want) == 0;
	return strcmp(config_value_describe(v, text), want) == 0;
}

static bool is_harmless(const struct config_field *field, GVariant *v)
{
	if (config_value_is_null(v))
		return true;
	if (config_value_is_list(v) && g_variant_n_children(v) == 0)
		return true;
	for (const char *p = field->harmless; p && *p;) {
		size_t len = strcspn(p, "|");

		if (value_is_token(v, p, len))
			return true;
		p += len;
		p += *p == '|';
	}
	return false;
}

static int parse_later(const struct config_field *field, GVariant *v,
		       const struct config_path *path, struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (field->table && config_value_is_object(v))
		return config_parse(field->table, v, path, NULL, err);
	if (is_harmless(field, v))
		return 0;
	if (!field->harmless || strcmp(field->harmless, "false") == 0)
		return config_unsupported(path, err, "not supported yet");
	if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING))
		config_quote(g_variant_get_string(v, NULL), text);
	else
		config_value_describe(v, text);
	return config_unsupported(path, err, "%s is not supported yet, must be %.*s", text,
				  (int)strcspn(field->harmless, "|"), field->harmless);
}

/* --- objects ------------------------------------------------------------- */

static int parse_bool(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (!g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
		return config_fail(path, err, "must be true or false, is %s",
				   config_value_describe(v, text));
	*(bool *)member(field, base) = g_variant_get_boolean(v);
	return 0;
}

static int parse_field(const struct config_field *field, GVariant *v,
		       const struct config_path *path, void *base, struct err *err)
{
	switch (field->kind) {
	case CONFIG_BOOL:
		return parse_bool(field, v, path, base, err);
	case CONFIG_UINT:
	case CONFIG_SIZE:
		return parse_uint(field, v, path, base, err);
	case CONFIG_STRING:
		return parse_string(field, v, path, base, err);
	case CONFIG_ENUM:
		return parse_enum(field, v, path, base, err);
	case CONFIG_MAC:
		return parse_mac(field, v, path, base, err);
	case CONFIG_STRUCT:
		return config_parse(field->table, v, path, member(field, base), err);
	case CONFIG_LIST:
		return parse_list(field, v, path, base, err);
	case CONFIG_STRINGS:
		return parse_strings(field, v, path, base, err);
	case CONFIG_UINTS:
		return parse_uints(field, v, path, base, err);
	case CONFIG_LATER:
		return parse_later(field, v, path, err);
	}
	assert(false);
	return -EINVAL;
}

static int parse_entry(const struct config_table *table, const char *key, GVariant *value,
		       uint64_t *seen, const struct config_path *path, void *base, struct err *err)
{
	struct config_path at = { .parent = path, .key = key };
	const struct config_field *field = config_find(table, key, false);
	g_autoptr(GVariant) v = config_value_unwrap(value);
	uint64_t bit;
	int r;

	if (!field)
		return config_unknown_key(table, &at, err);
	at.option = field->option;
	bit = 1ULL << (field - table->fields);
	if (*seen & bit) {
		if (strcmp(key, field->key) == 0 && !field->alias)
			return config_fail(&at, err, "given twice");
		return config_fail(&at, err, "given twice, '%s' and '%s' are the same key",
				   field->key, field->alias ? field->alias : key);
	}
	*seen |= bit;
	if (config_value_is_null(v) && (field->flags & (CONFIG_OPTIONAL | CONFIG_HAS))) {
		if (field->kind == CONFIG_STRING) {
			char **string = member(field, base);

			g_clear_pointer(string, g_free);
		}
		return 0;
	}
	r = parse_field(field, v, &at, base, err);
	if (r < 0)
		return r;
	if (field->flags & CONFIG_HAS)
		*((bool *)base + field->present) = true;
	return 0;
}

int config_parse(const struct config_table *table, GVariant *dict, const struct config_path *path,
		 void *base, struct err *err)
{
	char text[CONFIG_QUOTE_MAX + 16];
	GVariant *value;
	GVariantIter iter;
	uint64_t seen = 0;
	const char *key;
	int r;

	assert(table->n_fields <= 64);
	config_defaults(table, base);
	if (!config_value_is_object(dict))
		return config_fail(path, err, "must be an object, is %s",
				   config_value_describe(dict, text));

	g_variant_iter_init(&iter, dict);
	while ((value = g_variant_iter_next_value(&iter))) {
		g_autoptr(GVariant) entry = value;
		g_autoptr(GVariant) name = g_variant_get_child_value(entry, 0);
		g_autoptr(GVariant) content = g_variant_get_child_value(entry, 1);

		key = g_variant_get_string(name, NULL);
		r = parse_entry(table, key, content, &seen, path, base, err);
		if (r < 0)
			return r;
	}

	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		struct config_path at = { path, field->key, field->option, 0 };

		if ((field->flags & CONFIG_REQUIRED) && !(seen & 1ULL << i))
			return config_fail(&at, err, "missing, must be given");
	}
	return 0;
}
