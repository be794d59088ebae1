/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/option.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/device-list.h"
#include "vmm/config/problems.h"
#include "vmm/config/tables.h"

#define DEPTH_MAX 8 /* brackets inside brackets; the deepest syntax needs 2 */

/* --- cutting ----------------------------------------------------------------- */

/*
 * Cuts at `separator` where neither quotes nor brackets are open.  An empty
 * text has no pieces.  The pieces keep their quotes and brackets.
 */
static int split(const char *text, char separator, const struct config_path *path, GPtrArray **ret,
		 struct err *err)
{
	g_autoptr(GPtrArray) pieces = g_ptr_array_new_with_free_func(g_free);
	const char *start = text, *p;
	unsigned int depth = 0;
	bool quoted = false;

	for (p = text; *p; p++) {
		if (*p == '"') {
			quoted = !quoted;
		} else if (quoted) {
			continue;
		} else if (*p == '[') {
			if (++depth > DEPTH_MAX)
				return config_fail(path, err,
						   "too many '[', must be at most %d deep",
						   DEPTH_MAX);
		} else if (*p == ']') {
			if (depth-- == 0)
				return config_fail(path, err, "']' without '['");
		} else if (*p == separator && depth == 0) {
			g_ptr_array_add(pieces, g_strndup(start, (size_t)(p - start)));
			start = p + 1;
		}
	}
	if (quoted)
		return config_fail(path, err, "quote is not closed, must end with '\"'");
	if (depth)
		return config_fail(path, err, "'[' is not closed, must end with ']'");
	if (*text)
		g_ptr_array_add(pieces, g_strdup(start));
	*ret = g_steal_pointer(&pieces);
	return 0;
}

static char *unquote(const char *text)
{
	g_autoptr(GString) out = g_string_new(NULL);

	for (; *text; text++) {
		if (*text != '"')
			g_string_append_c(out, *text);
	}
	return g_string_free(g_steal_pointer(&out), FALSE);
}

/* Pieces of "[a,b]"; without brackets one piece. */
static int split_list(const char *text, const struct config_path *path, GPtrArray **ret,
		      struct err *err)
{
	size_t len = strlen(text);
	g_autofree char *inner = NULL;

	if (text[0] != '[')
		return split(text, ',', path, ret, err);
	if (text[len - 1] != ']')
		return config_fail(path, err, "text after ']', must end with ']'");
	inner = g_strndup(text + 1, len - 2);
	return split(inner, ',', path, ret, err);
}

/* --- single values ------------------------------------------------------------- */

static int parse_toggle(const char *text, const struct config_path *path, GVariant **ret,
			struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	bool on = strcmp(text, "on") == 0 || strcmp(text, "true") == 0;

	if (!on && strcmp(text, "off") != 0 && strcmp(text, "false") != 0)
		return config_fail(path, err, "%s is not a toggle, must be on or off",
				   config_quote(text, quoted));
	*ret = g_variant_new_boolean(on);
	return 0;
}

/* Digits up to *ret_end; false on overflow or without a digit. */
static bool scan_number(const char *text, uint64_t *ret, const char **ret_end)
{
	unsigned int base = 10;
	const char *p = text;
	uint64_t n = 0;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	}
	text = p;
	for (; g_ascii_isxdigit(*p) && (base == 16 || g_ascii_isdigit(*p)); p++) {
		uint64_t digit = (uint64_t)g_ascii_xdigit_value(*p);

		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	*ret = n;
	*ret_end = p;
	return p > text;
}

static int parse_number(const char *text, const struct config_path *path, uint64_t *ret,
			struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	const char *end;

	if (scan_number(text, ret, &end) && !*end)
		return 0;
	return config_fail(path, err, "%s is not a number", config_quote(text, quoted));
}

static int parse_size(const char *text, const struct config_path *path, GVariant **ret,
		      struct err *err)
{
	static const char suffixes[] = "KMGT";
	char quoted[CONFIG_QUOTE_MAX];
	const char *end, *suffix;
	uint64_t n;

	if (!scan_number(text, &n, &end))
		goto wrong;
	if (*end) {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1] ||
		    __builtin_mul_overflow(n, 1024ULL << (10 * (suffix - suffixes)), &n))
			goto wrong;
	}
	*ret = g_variant_new_uint64(n);
	return 0;
wrong:
	return config_fail(path, err,
			   "%s is not a size, must be a number of bytes, or with K, M, G or T like "
			   "512M",
			   config_quote(text, quoted));
}

static int parse_range(const char *text, const struct config_field *field,
		       const struct config_path *path, GArray *list, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];
	uint64_t first, last;
	const char *end;

	if (!scan_number(text, &first, &end))
		goto wrong;
	last = first;
	if (*end == '-' && !scan_number(end + 1, &last, &end))
		goto wrong;
	if (*end || last < first)
		goto wrong;
	if (last > UINT32_MAX || last - first >= field->list_max ||
	    list->len + (last - first) >= field->list_max)
		return config_fail(path, err, "%s is too much, must be at most %zu numbers",
				   config_quote(text, quoted), field->list_max);
	for (uint64_t n = first; n <= last; n++) {
		uint32_t value = (uint32_t)n;

		g_array_append_val(list, value);
	}
	return 0;
wrong:
	return config_fail(path, err, "%s is not a number or range, must be like [1,3-5]",
			   config_quote(text, quoted));
}

static int parse_uints(const char *text, const struct config_field *field,
		       const struct config_path *path, GVariant **ret, struct err *err)
{
	g_autoptr(GPtrArray) pieces = NULL;
	g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(uint32_t));
	int r;

	r = split_list(text, path, &pieces, err);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < pieces->len; i++) {
		r = parse_range(g_ptr_array_index(pieces, i), field, path, list, err);
		if (r < 0)
			return r;
	}
	*ret = g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, list->data, list->len,
					 sizeof(uint32_t));
	return 0;
}

/* Of descriptors it has the names. */
static int parse_strings(const char *text, const struct config_field *field,
			 const struct config_path *path, GVariant **ret, struct err *err)
{
	bool fds = field->flags & CONFIG_RESOURCE;
	g_autoptr(GPtrArray) pieces = NULL;
	GVariantBuilder list;
	int r;

	r = split_list(text, path, &pieces, err);
	if (r < 0)
		return r;
	g_variant_builder_init(&list, fds ? G_VARIANT_TYPE("aa{sv}") : G_VARIANT_TYPE_STRING_ARRAY);
	for (unsigned int i = 0; i < pieces->len; i++) {
		g_autofree char *plain = unquote(g_ptr_array_index(pieces, i));

		if (fds)
			g_variant_builder_add_parsed(&list, "@a{sv} {'fd': <%s>}", plain);
		else
			g_variant_builder_add(&list, "s", plain);
	}
	*ret = g_variant_builder_end(&list);
	return 0;
}

static int parse_enum(const char *text, const struct config_field *field, GVariant **ret)
{
	const struct config_names *names = field->names;

	/* What is no name goes on as it is: the table's parser knows the sentence. */
	*ret = NULL;
	for (size_t i = 0; i < names->n && !*ret; i++) {
		if (g_ascii_strcasecmp(text, names->names[i]) == 0 ||
		    (names->also && g_ascii_strcasecmp(text, names->also[i]) == 0))
			*ret = g_variant_new_string(names->names[i]);
	}
	for (size_t i = 0; names->later && names->later[i] && !*ret; i++) {
		if (g_ascii_strcasecmp(text, names->later[i]) == 0)
			*ret = g_variant_new_string(names->later[i]);
	}
	if (!*ret)
		*ret = g_variant_new_string(text);
	return 0;
}

static GVariant *parse_string(const char *text, const struct config_field *field, const char *dir)
{
	bool path = (field->flags & CONFIG_RESOURCE) && field->resource != RESOURCE_TAP;

	if (path && dir && *text && !g_path_is_absolute(text))
		return g_variant_new_take_string(g_canonicalize_filename(text, dir));
	return g_variant_new_string(text);
}

/* The type of a key that has no member is what its text looks like. */
static GVariant *parse_later(const char *text)
{
	const char *end;
	uint64_t n;

	if (strcmp(text, "off") == 0 || strcmp(text, "false") == 0)
		return g_variant_new_boolean(FALSE);
	if (strcmp(text, "on") == 0 || strcmp(text, "true") == 0)
		return g_variant_new_boolean(TRUE);
	if (scan_number(text, &n, &end) && !*end)
		return g_variant_new_uint64(n);
	return g_variant_new_string(text);
}

/* --- tuples and sections --------------------------------------------------------- */

static int parse_value(const char *text, const struct config_field *field,
		       const struct config_path *path, const char *dir, GVariant **ret,
		       struct err *err);

static int parse_piece(const struct config_table *table, const char *piece,
		       const struct config_path *path, const char *dir, GVariantDict *dict,
		       struct err *err);

static bool is_keyed(const struct config_table *table, const char *piece)
{
	const char *equals = strchr(piece, '=');
	g_autofree char *key = equals ? g_strndup(piece, (size_t)(equals - piece)) : NULL;

	return key && config_find(table, key, true);
}

/* "name=x@file=/y": like a tuple, where not all keys are needed. */
static int parse_keyed(const struct config_table *table, const GPtrArray *pieces,
		       const struct config_path *path, const char *dir, GVariant **ret,
		       struct err *err)
{
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);

	for (unsigned int i = 0; i < pieces->len; i++) {
		int r = parse_piece(table, g_ptr_array_index(pieces, i), path, dir, dict, err);

		if (r < 0)
			return r;
	}
	*ret = g_variant_dict_end(dict);
	return 0;
}

/* "2:4:1:1" or "0@[1,2]": the sub-table's keys in their order. */
static int parse_tuple(const char *text, char separator, const struct config_field *field,
		       const struct config_path *path, const char *dir, GVariant **ret,
		       struct err *err)
{
	const struct config_table *table = field->table;
	g_autoptr(GPtrArray) pieces = NULL;
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	char quoted[CONFIG_QUOTE_MAX];
	int r;

	r = split(text, separator, path, &pieces, err);
	if (r < 0)
		return r;
	if (pieces->len && is_keyed(table, g_ptr_array_index(pieces, 0)))
		return parse_keyed(table, pieces, path, dir, ret, err);
	if (pieces->len != table->n_fields)
		return config_fail(path, err, "%s is not complete, must be %s",
				   config_quote(text, quoted), field->arg);
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *part = &table->fields[i];
		struct config_path at = { path, part->key, part->option, 0 };
		GVariant *value;

		r = parse_value(g_ptr_array_index(pieces, i), part, &at, NULL, &value, err);
		if (r < 0)
			return r;
		g_variant_dict_insert_value(dict, part->key, value);
	}
	*ret = g_variant_dict_end(dict);
	return 0;
}

static int parse_list(const char *text, const struct config_field *field,
		      const struct config_path *path, const char *dir, GVariant **ret,
		      struct err *err)
{
	g_autoptr(GPtrArray) pieces = NULL;
	GVariantBuilder builder;
	int r;

	r = split_list(text, path, &pieces, err);
	if (r < 0)
		return r;
	g_variant_builder_init(&builder, G_VARIANT_TYPE("aa{sv}"));
	for (unsigned int i = 0; i < pieces->len; i++) {
		struct config_path at = { .parent = path, .index = i };
		GVariant *item;

		r = parse_tuple(g_ptr_array_index(pieces, i), '@', field, &at, dir, &item, err);
		if (r < 0) {
			g_variant_builder_clear(&builder);
			return r;
		}
		g_variant_builder_add_value(&builder, item);
	}
	*ret = g_variant_builder_end(&builder);
	return 0;
}

/* An object with one key: the text is that key's. */
static int parse_only(const char *text, const struct config_table *table,
		      const struct config_path *path, const char *dir, GVariant **ret,
		      struct err *err)
{
	const struct config_path at = { path, table->fields[0].key, table->fields[0].option, 0 };
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	GVariant *value;
	int r = parse_value(text, &table->fields[0], &at, dir, &value, err);

	if (r < 0)
		return r;
	g_variant_dict_insert_value(dict, table->fields[0].key, value);
	*ret = g_variant_dict_end(dict);
	return 0;
}

/* *ret is floating. */
static int parse_value(const char *text, const struct config_field *field,
		       const struct config_path *path, const char *dir, GVariant **ret,
		       struct err *err)
{
	g_autofree char *plain = unquote(text);
	uint64_t n;
	int r;

	switch (field->kind) {
	case CONFIG_BOOL:
		return parse_toggle(plain, path, ret, err);
	case CONFIG_UINT:
		r = parse_number(plain, path, &n, err);
		if (r < 0)
			return r;
		*ret = g_variant_new_uint64(n);
		return 0;
	case CONFIG_SIZE:
		return parse_size(plain, path, ret, err);
	case CONFIG_ENUM:
		return parse_enum(plain, field, ret);
	case CONFIG_STRING:
	case CONFIG_MAC:
		*ret = parse_string(plain, field, dir);
		return 0;
	case CONFIG_STRUCT:
		if (field->table->n_fields == 1)
			return parse_only(text, field->table, path, dir, ret, err);
		return parse_tuple(plain, ':', field, path, dir, ret, err);
	case CONFIG_LIST:
		return parse_list(text, field, path, dir, ret, err);
	case CONFIG_STRINGS:
		return parse_strings(text, field, path, ret, err);
	case CONFIG_UINTS:
		return parse_uints(plain, field, path, ret, err);
	case CONFIG_LATER:
		*ret = parse_later(plain);
		return 0;
	}
	assert(false);
	return -EINVAL;
}

static int add_value(const struct config_field *field, const char *text,
		     const struct config_path *path, const char *dir, GVariantDict *dict,
		     struct err *err)
{
	struct config_path at = { path, field->key, field->option, 0 };
	GVariant *value = NULL;
	int r;

	if (g_variant_dict_contains(dict, field->key))
		return config_fail(&at, err, "given twice");
	if (field->flags & CONFIG_NO_OPTION)
		return config_fail(&at, err, "is for JSON, option strings have other keys for it");
	if (!*text)
		return config_fail(&at, err, "has no value, must be key=value");
	r = parse_value(text, field, &at, dir, &value, err);
	if (r < 0)
		return r;
	g_variant_dict_insert_value(dict, field->key, value);
	return 0;
}

static const struct config_field *bare_field(const struct config_table *table)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		if (table->fields[i].flags & CONFIG_BARE)
			return &table->fields[i];
	}
	return NULL;
}

static int fail_unknown_key(const struct config_table *table, const struct config_path *path,
			    struct err *err)
{
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };

	config_unknown_key(table, path, &problems);
	return config_problems_first(&problems, err);
}

static int parse_piece(const struct config_table *table, const char *piece,
		       const struct config_path *path, const char *dir, GVariantDict *dict,
		       struct err *err)
{
	const char *equals = strchr(piece, '=');
	g_autofree char *key = equals ? g_strndup(piece, (size_t)(equals - piece)) : NULL;
	const struct config_field *field;
	struct config_path at = { .parent = path, .key = key ? key : piece };
	char quoted[CONFIG_QUOTE_MAX];

	if (!*piece)
		return config_fail(path, err, "nothing between two commas, must be key=value");
	if (!equals) {
		field = bare_field(table);
		if (field && !config_find(table, piece, true))
			return add_value(field, piece, path, dir, dict, err);
		return config_fail(path, err, "%s has no value, must be key=value",
				   config_quote(piece, quoted));
	}
	field = config_find(table, key, true);
	if (!field)
		return fail_unknown_key(table, &at, err);
	return add_value(field, equals + 1, path, dir, dict, err);
}

/* "file=/x" alone means "mode=File" too. */
static void add_implied(const struct config_table *table, GVariantDict *dict)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		g_autofree char *key = NULL;
		const char *equals;

		if (!field->implies || !g_variant_dict_contains(dict, field->key))
			continue;
		equals = strchr(field->implies, '=');
		key = g_strndup(field->implies, (size_t)(equals - field->implies));
		if (!g_variant_dict_contains(dict, key))
			g_variant_dict_insert(dict, key, "s", equals + 1);
	}
}

/* All defaults is what leaving the option out means; an empty text is a variable that was not set.
 */
static int fail_empty(const struct config_table *table, const struct config_path *path,
		      struct err *err)
{
	const struct config_field *field = bare_field(table);
	g_autofree char *word = NULL;

	if (field) {
		word = g_ascii_strdown(field->names->names[field->def], -1);
		return config_fail(path, err, "is empty, must be like %s", word);
	}
	field = &table->fields[0];
	return config_fail(path, err, "is empty, must be like %s=%s",
			   field->option ? field->option : field->key,
			   field->arg ? field->arg : "on|off");
}

int config_option_parse(const struct config_table *table, const char *shown, const char *text,
			const char *dir, GVariant **ret, struct err *err)
{
	const struct config_path root = { .option = shown };
	g_autoptr(GPtrArray) pieces = NULL;
	g_autoptr(GVariantDict) dict = g_variant_dict_new(NULL);
	g_autoptr(GVariant) result = NULL;
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	g_autofree void *scratch = NULL;
	int r;

	if (!g_utf8_validate(text, -1, NULL))
		return config_fail(&root, err, "text is not UTF-8");
	if (!*text)
		return fail_empty(table, &root, err);
	r = split(text, ',', &root, &pieces, err);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < pieces->len; i++) {
		r = parse_piece(table, g_ptr_array_index(pieces, i), &root, dir, dict, err);
		if (r < 0)
			return r;
	}
	add_implied(table, dict);
	result = g_variant_ref_sink(g_variant_dict_end(dict));

	/* Ranges, formats, required and later keys are the table's business; ask it now. */
	scratch = g_malloc0(table->size);
	config_parse(table, result, &root, scratch, &problems);
	config_clear(table, scratch);
	r = config_problems_first(&problems, err);
	if (r < 0)
		return r;
	*ret = g_steal_pointer(&result);
	return 0;
}

/* --- options of a machine ---------------------------------------------------------- */

/* What there is only if it is asked for may be asked for without saying more: "--rtc on". */
static int parse_section(const struct config_field *field, const char *shown, const char *text,
			 const char *dir, GVariant **ret, struct err *err)
{
	if (!(field->flags & CONFIG_HAS) || strcmp(text, "on") != 0)
		return config_option_parse(field->table, shown, text, dir, ret, err);
	*ret = g_variant_ref_sink(g_variant_new_parsed("@a{sv} {}"));
	return 0;
}

/* A key of the definition itself: "--pvpanic on" */
static int parse_scalar(const struct config_field *field, const struct config_path *root,
			const char *text, const char *dir, GVariant **ret, struct err *err)
{
	GVariant *value = NULL;
	int r;

	if (!g_utf8_validate(text, -1, NULL))
		return config_fail(root, err, "text is not UTF-8");
	r = parse_value(text, field, root, dir, &value, err);
	if (r >= 0)
		*ret = g_variant_ref_sink(value);
	return r;
}

static int apply_payload(GVariantDict *definition, const struct config_field *field,
			 const char *shown, const char *text, const char *dir, struct err *err)
{
	const struct config_path root = { .option = shown };
	g_autoptr(GVariant) old =
		g_variant_dict_lookup_value(definition, "payload", G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariantDict) payload = g_variant_dict_new(old);
	g_autoptr(GVariant) value = NULL;
	char quoted[CONFIG_QUOTE_MAX];
	const char *wrong;

	if (!g_utf8_validate(text, -1, NULL))
		return config_fail(&root, err, "text is not UTF-8");
	if (field->kind == CONFIG_LATER)
		return config_unsupported(&root, err, "not supported yet");
	if (g_variant_dict_contains(payload, field->key))
		return config_fail(&root, err, "given twice");
	if (field->kind == CONFIG_STRUCT) {
		int r = parse_section(field, shown, text, dir, &value, err);

		if (r < 0)
			return r;
	} else {
		value = g_variant_ref_sink(parse_string(text, field, dir));
		text = g_variant_get_string(value, NULL);
		wrong = field->check ? field->check(text) : NULL;
		if (wrong)
			return config_fail(&root, err, "%s %s", config_quote(text, quoted), wrong);
	}
	g_variant_dict_insert_value(payload, field->key, value);
	g_variant_dict_insert_value(definition, "payload", g_variant_dict_end(payload));
	return 0;
}

static int apply_list(GVariantDict *definition, const struct config_field *field,
		      const struct config_path *root, GVariant *item, struct err *err)
{
	g_autoptr(GVariant) old = g_variant_dict_lookup_value(definition, field->key, NULL);
	GVariantBuilder list;

	/* A JSON text gives "av", this function "aa{sv}". */
	if (old && !config_value_is_list(old))
		return config_fail(root, err, "'%s' of the definition is not a list", field->key);
	g_variant_builder_init(&list, G_VARIANT_TYPE("av"));
	for (size_t i = 0; old && i < g_variant_n_children(old); i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(old, i);
		g_autoptr(GVariant) plain = config_value_unwrap(child);

		g_variant_builder_add(&list, "v", plain);
	}
	g_variant_builder_add(&list, "v", item);
	g_variant_dict_insert_value(definition, field->key, g_variant_builder_end(&list));
	return 0;
}

int config_option_apply(GVariantDict *definition, const char *option, const char *text,
			const char *dir, struct err *err)
{
	g_autofree char *shown = g_strdup_printf("--%s", option);
	const struct config_path root = { .option = shown };
	const struct config_field *field = config_find(&vm_table, option, true);
	g_autoptr(GVariant) section = NULL;
	char quoted[CONFIG_QUOTE_MAX];
	int r;

	if (!g_utf8_validate(option, -1, NULL))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "name of an option is not UTF-8");
	if (!field || field->table == &payload_table) {
		field = config_find(&payload_table, option, true);
		if (field)
			return apply_payload(definition, field, shown, text, dir, err);
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "%s is not an option of a machine", config_quote(shown, quoted));
	}
	if (field->kind == CONFIG_LATER)
		return config_unsupported(&root, err, "not supported yet");
	r = field->table ? parse_section(field, shown, text, dir, &section, err)
			 : parse_scalar(field, &root, text, dir, &section, err);
	if (r < 0)
		return r;
	if (field->kind == CONFIG_LIST)
		return apply_list(definition, field, &root, section, err);
	if (g_variant_dict_contains(definition, field->key))
		return config_fail(&root, err, "given twice");
	g_variant_dict_insert_value(definition, field->key, section);
	return 0;
}

/* --- devices that come and go -------------------------------------------------------- */

static bool is_plug_kind(const struct config_field *field)
{
	return field->kind != CONFIG_LATER && config_device_is_removable(field->key);
}

/* "disk, net or vsock" */
static int fail_kind(const char *kind, struct err *err)
{
	g_autoptr(GString) kinds = g_string_new(NULL);
	char quoted[CONFIG_QUOTE_MAX];
	const char *last = NULL;

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		const struct config_field *field = &vm_table.fields[i];

		if (!is_plug_kind(field))
			continue;
		if (last)
			g_string_append_printf(kinds, "%s%s", kinds->len ? ", " : "", last);
		last = field->option ? field->option : field->key;
	}
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "%s is no kind of device that can be added, must be %s or %s",
			 config_quote(kind, quoted), kinds->str, last);
}

int config_option_device(const char *kind, const char *text, const char *dir, GVariant **ret,
			 struct err *err)
{
	const struct config_field *field;

	if (!g_utf8_validate(kind, -1, NULL))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "kind of a device is not UTF-8");
	field = config_find(&vm_table, kind, true);
	if (!field || !is_plug_kind(field) ||
	    strcmp(kind, field->option ? field->option : field->key) != 0)
		return fail_kind(kind, err);
	return parse_section(field, kind, text, dir, ret, err);
}
