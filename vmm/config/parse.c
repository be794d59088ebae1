/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a GVariant to a struct, by its table (config_parse() of config.h)
 *
 * A function that returns an error has noted the problem; its caller goes on
 * with what comes next, until there are too many.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/config/check.h"
#include "vmm/config/config.h"
#include "vmm/config/problems.h"

static size_t *count_member(const struct config_field *field, void *base)
{
	return (size_t *)(void *)((char *)base + field->count);
}

static uint64_t natural_max(size_t size)
{
	return size >= 8 ? UINT64_MAX : (1ULL << (size * 8)) - 1;
}

static int parse_number(GVariant *v, const struct config_path *path, uint64_t min, uint64_t max,
			uint64_t *ret, struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];
	bool negative;
	uint64_t n;

	if (!config_value_integer(v, &negative, &n))
		return config_problem(problems, path, "must be an integer, is %s",
				      config_value_describe(v, text));
	if ((negative && n) || n < min || n > max)
		return config_problem(problems, path,
				      "%s%" PRIu64 " is out of range, must be %" PRIu64
				      " to %" PRIu64,
				      negative ? "-" : "", n, min, max);
	*ret = n;
	return 0;
}

static int parse_uint(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct config_problems *problems)
{
	bool natural = field->min == 0 && field->max == 0;
	uint64_t n;
	int r;

	r = parse_number(v, path, field->min, natural ? natural_max(field->size) : field->max, &n,
			 problems);
	if (r < 0)
		return r;
	config_set_uint(field, base, n);
	return 0;
}

static int parse_text(GVariant *v, const struct config_path *path, const char **ret,
		      struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (!g_variant_is_of_type(v, G_VARIANT_TYPE_STRING) &&
	    !g_variant_is_of_type(v, G_VARIANT_TYPE_OBJECT_PATH))
		return config_problem(problems, path, "must be a string, is %s",
				      config_value_describe(v, text));
	*ret = g_variant_get_string(v, NULL);
	return 0;
}

static int check_text(const struct config_field *field, const char *text,
		      const struct config_path *path, struct config_problems *problems)
{
	const char *wrong = field->check ? field->check(text) : NULL;
	char quoted[CONFIG_QUOTE_MAX];

	if (wrong)
		return config_problem(problems, path, "%s %s", config_quote(text, quoted), wrong);
	return 0;
}

/* {"fd": NAME}; *ret: "fd:NAME" */
static int parse_fd(GVariant *v, const struct config_path *path, const char *wanted, char **ret,
		    struct config_problems *problems)
{
	const struct config_path at = { .parent = path, .key = "fd" };
	g_autoptr(GVariant) name = g_variant_lookup_value(v, "fd", NULL);
	g_autoptr(GVariant) plain = name ? config_value_unwrap(name) : NULL;
	char quoted[CONFIG_QUOTE_MAX];
	const char *text, *wrong;
	int r;

	if (!plain || g_variant_n_children(v) != 1)
		return config_problem(problems, path, "must be %s, is another object", wanted);
	r = parse_text(plain, &at, &text, problems);
	if (r < 0)
		return r;
	wrong = check_id(text);
	if (wrong)
		return config_problem(problems, &at, "%s %s", config_quote(text, quoted), wrong);
	g_free(*ret);
	*ret = g_strconcat(CONFIG_FD_PREFIX, text, NULL);
	return 0;
}

static int parse_string(const struct config_field *field, GVariant *v,
			const struct config_path *path, void *base,
			struct config_problems *problems)
{
	char **at = config_member_mut(field, base);
	char quoted[CONFIG_QUOTE_MAX];
	const char *text;
	int r;

	if ((field->flags & CONFIG_RESOURCE) && config_value_is_object(v))
		return parse_fd(v, path, "a string or {\"fd\": NAME}", at, problems);
	r = parse_text(v, path, &text, problems);
	if (r < 0)
		return r;
	/* The member's form of {"fd": NAME} is not one of the text's. */
	if ((field->flags & CONFIG_RESOURCE) && vm_config_fd_name(text))
		return config_problem(problems, path,
				      "%s is no name of a descriptor, must be {\"fd\": NAME}",
				      config_quote(text, quoted));
	r = check_text(field, text, path, problems);
	if (r < 0)
		return r;
	g_free(*at);
	*at = g_strdup(text);
	return 0;
}

static int parse_mac(const struct config_field *field, GVariant *v, const struct config_path *path,
		     void *base, struct config_problems *problems)
{
	char quoted[CONFIG_QUOTE_MAX];
	const char *text;
	int r;

	r = parse_text(v, path, &text, problems);
	if (r < 0)
		return r;
	if (!config_mac_parse(text, config_member_mut(field, base)))
		return config_problem(problems, path,
				      "%s is not a MAC address, must be like 52:54:00:12:34:56",
				      config_quote(text, quoted));
	return 0;
}

static int parse_enum(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct config_problems *problems)
{
	const struct config_names *names = field->names;
	g_autoptr(GString) choice = NULL;
	char quoted[CONFIG_QUOTE_MAX];
	const char *text;
	int r;

	r = parse_text(v, path, &text, problems);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names->n; i++) {
		if (strcmp(text, names->names[i]) == 0 ||
		    (names->also && strcmp(text, names->also[i]) == 0)) {
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
			return config_problem_unsupported(problems, path,
							  "%s is not supported yet, must be %s",
							  config_quote(text, quoted), choice->str);
	}
	return config_problem(problems, path, "%s is unknown, must be %s",
			      config_quote(text, quoted), choice->str);
}

/* --- lists --------------------------------------------------------------- */

static int check_list(const struct config_field *field, GVariant *v, const struct config_path *path,
		      struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];
	size_t n;

	if (!config_value_is_list(v))
		return config_problem(problems, path, "must be a list, is %s",
				      config_value_describe(v, text));
	n = g_variant_n_children(v);
	if (field->list_max && n > field->list_max)
		return config_problem(problems, path,
				      "%zu entries are too many, must be at most %zu", n,
				      field->list_max);
	return 0;
}

/* A new reference to element i, without its variant. */
static GVariant *list_item(GVariant *list, size_t i)
{
	g_autoptr(GVariant) child = g_variant_get_child_value(list, i);

	return config_value_unwrap(child);
}

static int parse_list(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct config_problems *problems)
{
	size_t n, *count = count_member(field, base);
	char **list = config_member_mut(field, base);
	int r;

	r = check_list(field, v, path, problems);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_malloc0_n(n, field->table->size);
	*count = n;
	for (size_t i = 0; i < n && !config_problems_full(problems); i++) {
		g_autoptr(GVariant) item = list_item(v, i);
		struct config_path at = { .parent = path, .index = i };

		config_parse(field->table, item, &at, *list + i * field->table->size, problems);
	}
	return 0;
}

/* An element, new. */
static int parse_list_string(const struct config_field *field, GVariant *item,
			     const struct config_path *path, char **ret,
			     struct config_problems *problems)
{
	char described[CONFIG_QUOTE_MAX + 16];
	const char *text;
	int r;

	if (field->flags & CONFIG_RESOURCE) {
		if (config_value_is_object(item))
			return parse_fd(item, path, "{\"fd\": NAME}", ret, problems);
		return config_problem(problems, path, "must be {\"fd\": NAME}, is %s",
				      config_value_describe(item, described));
	}
	r = parse_text(item, path, &text, problems);
	if (r == 0)
		r = check_text(field, text, path, problems);
	if (r == 0)
		*ret = g_strdup(text);
	return r;
}

static int parse_strings(const struct config_field *field, GVariant *v,
			 const struct config_path *path, void *base,
			 struct config_problems *problems)
{
	char ***list = config_member_mut(field, base);
	size_t n;
	int r;

	r = check_list(field, v, path, problems);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_new0(char *, n + 1);
	for (size_t i = 0, kept = 0; i < n && !config_problems_full(problems); i++) {
		g_autoptr(GVariant) item = list_item(v, i);
		struct config_path at = { .parent = path, .index = i };

		if (parse_list_string(field, item, &at, &(*list)[kept], problems) == 0)
			kept++;
	}
	return 0;
}

static int parse_uints(const struct config_field *field, GVariant *v,
		       const struct config_path *path, void *base, struct config_problems *problems)
{
	size_t n, *count = count_member(field, base);
	uint32_t **list = config_member_mut(field, base);
	int r;

	r = check_list(field, v, path, problems);
	if (r < 0)
		return r;
	n = g_variant_n_children(v);
	if (n == 0)
		return 0;
	*list = g_new0(uint32_t, n);
	*count = n;
	for (size_t i = 0; i < n && !config_problems_full(problems); i++) {
		g_autoptr(GVariant) item = list_item(v, i);
		struct config_path at = { .parent = path, .index = i };
		uint64_t value;

		r = parse_number(item, &at, field->min, field->max ? field->max : UINT32_MAX,
				 &value, problems);
		if (r == 0)
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
		       const struct config_path *path, struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (field->table && config_value_is_object(v)) {
		config_parse(field->table, v, path, NULL, problems);
		return 0;
	}
	if (is_harmless(field, v))
		return 0;
	if (!field->harmless || strcmp(field->harmless, "false") == 0)
		return config_problem_unsupported(problems, path, "not supported yet");
	if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING))
		config_quote(g_variant_get_string(v, NULL), text);
	else
		config_value_describe(v, text);
	return config_problem_unsupported(problems, path, "%s is not supported yet, must be %.*s",
					  text, (int)strcspn(field->harmless, "|"),
					  field->harmless);
}

/* --- objects ------------------------------------------------------------- */

static int parse_bool(const struct config_field *field, GVariant *v, const struct config_path *path,
		      void *base, struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];

	if (!g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
		return config_problem(problems, path, "must be true or false, is %s",
				      config_value_describe(v, text));
	*(bool *)config_member_mut(field, base) = g_variant_get_boolean(v);
	return 0;
}

static int parse_field(const struct config_field *field, GVariant *v,
		       const struct config_path *path, void *base, struct config_problems *problems)
{
	switch (field->kind) {
	case CONFIG_BOOL:
		return parse_bool(field, v, path, base, problems);
	case CONFIG_UINT:
	case CONFIG_SIZE:
		return parse_uint(field, v, path, base, problems);
	case CONFIG_STRING:
		return parse_string(field, v, path, base, problems);
	case CONFIG_ENUM:
		return parse_enum(field, v, path, base, problems);
	case CONFIG_MAC:
		return parse_mac(field, v, path, base, problems);
	case CONFIG_STRUCT:
		config_parse(field->table, v, path, config_member_mut(field, base), problems);
		return 0;
	case CONFIG_LIST:
		return parse_list(field, v, path, base, problems);
	case CONFIG_STRINGS:
		return parse_strings(field, v, path, base, problems);
	case CONFIG_UINTS:
		return parse_uints(field, v, path, base, problems);
	case CONFIG_LATER:
		return parse_later(field, v, path, problems);
	}
	assert(false);
	return -EINVAL;
}

static void parse_entry(const struct config_table *table, const char *key, GVariant *value,
			uint64_t *seen, const struct config_path *path, void *base,
			struct config_problems *problems)
{
	struct config_path at = { .parent = path, .key = key };
	const struct config_field *field = config_find(table, key, false);
	g_autoptr(GVariant) v = config_value_unwrap(value);
	size_t before = config_problems_count(problems);
	uint64_t bit;

	if (!field) {
		field = config_unknown_key(table, &at, problems);
		if (!path->parent && field)
			problems->wrong_rows |= 1ULL << (field - table->fields);
		return;
	}
	at.option = field->option;
	bit = 1ULL << (field - table->fields);
	if (*seen & bit) {
		if (strcmp(key, field->key) == 0 && !field->alias)
			config_problem(problems, &at, "given twice");
		else
			config_problem(problems, &at, "given twice, '%s' and '%s' are the same key",
				       field->key, field->alias ? field->alias : key);
		return;
	}
	*seen |= bit;
	if (config_value_is_null(v) && (field->flags & (CONFIG_OPTIONAL | CONFIG_HAS))) {
		if (field->kind == CONFIG_STRING)
			g_clear_pointer((char **)config_member_mut(field, base), g_free);
		return;
	}
	if (parse_field(field, v, &at, base, problems) == 0 && (field->flags & CONFIG_HAS))
		*((bool *)base + field->present) = true;
	if (!path->parent && config_problems_count(problems) != before)
		problems->wrong_rows |= bit;
}

static void check_required(const struct config_table *table, uint64_t seen,
			   const struct config_path *path, struct config_problems *problems)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		struct config_path at = { path, field->key, field->option, 0 };

		if ((field->flags & CONFIG_REQUIRED) && !(seen & 1ULL << i))
			config_problem(problems, &at, "missing, must be given");
	}
}

void config_parse(const struct config_table *table, GVariant *dict, const struct config_path *path,
		  void *base, struct config_problems *problems)
{
	char text[CONFIG_QUOTE_MAX + 16];
	GVariant *value;
	GVariantIter iter;
	uint64_t seen = 0;

	assert(table->n_fields <= 64);
	config_defaults(table, base);
	if (!config_value_is_object(dict)) {
		config_problem(problems, path, "must be an object, is %s",
			       config_value_describe(dict, text));
		if (!path->parent)
			problems->wrong_rows = UINT64_MAX;
		return;
	}
	g_variant_iter_init(&iter, dict);
	while (!config_problems_full(problems) && (value = g_variant_iter_next_value(&iter))) {
		g_autoptr(GVariant) entry = value;
		g_autoptr(GVariant) name = g_variant_get_child_value(entry, 0);
		g_autoptr(GVariant) content = g_variant_get_child_value(entry, 1);

		parse_entry(table, g_variant_get_string(name, NULL), content, &seen, path, base,
			    problems);
	}
	check_required(table, seen, path, problems);
}
