/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/value.h"

struct json {
	const char *text, *end;
	const char *at;
	unsigned int depth;
	size_t n_values, values_max;
	struct err *err;
};

/* --- reading ------------------------------------------------------------------ */

static int fail_at(struct json *j, const char *at, const char *what)
{
	unsigned int line = 1;
	const char *start = j->text;

	for (const char *p = j->text; p < at; p++) {
		if (*p == '\n') {
			line++;
			start = p + 1;
		}
	}
	return err_fault(j->err, FAULT_BAD_CONFIG, EINVAL, "line %u, column %ld: %s", line,
			 g_utf8_strlen(start, at - start) + 1, what);
}

static int fail_here(struct json *j, const char *expected)
{
	g_autofree char *what = NULL;
	char quoted[CONFIG_QUOTE_MAX], one[8];

	if (j->at >= j->end) {
		what = g_strdup_printf("text ends here, must have %s", expected);
	} else {
		one[g_unichar_to_utf8(g_utf8_get_char(j->at), one)] = '\0';
		what = g_strdup_printf("must be %s, is %s", expected, config_quote(one, quoted));
	}
	return fail_at(j, j->at, what);
}

static void skip_space(struct json *j)
{
	while (j->at < j->end && strchr(" \t\r\n", *j->at))
		j->at++;
}

static bool take(struct json *j, char c)
{
	if (j->at >= j->end || *j->at != c)
		return false;
	j->at++;
	return true;
}

static bool take_digits(struct json *j)
{
	const char *start = j->at;

	while (j->at < j->end && g_ascii_isdigit(*j->at))
		j->at++;
	return j->at > start;
}

/* RFC 8259, 6: no leading zero, no leading '+', digits on both sides of the dot. */
static int read_number(struct json *j, GVariant **ret)
{
	const char *start = j->at;
	bool negative = take(j, '-'), integer = true;
	const char *first = j->at;
	g_autofree char *token = NULL;
	uint64_t n;
	double d;

	if (!take_digits(j))
		return fail_here(j, "a digit");
	if (*first == '0' && j->at - first > 1)
		return fail_at(j, start, "numbers must not start with 0");
	if (take(j, '.')) {
		integer = false;
		if (!take_digits(j))
			return fail_here(j, "a digit");
	}
	if (take(j, 'e') || take(j, 'E')) {
		integer = false;
		if (!take(j, '+'))
			take(j, '-');
		if (!take_digits(j))
			return fail_here(j, "a digit");
	}
	token = g_strndup(start, (size_t)(j->at - start));
	if (!integer) {
		d = g_ascii_strtod(token, NULL);
		if (d - d != 0) /* infinity */
			return fail_at(j, start, "number is too large");
		*ret = g_variant_new_double(d);
		return 0;
	}
	errno = 0;
	n = g_ascii_strtoull(token + negative, NULL, 10);
	if (errno || (negative && n > (uint64_t)INT64_MAX + 1))
		return fail_at(j, start, "integer is too large, must fit 64 bits");
	if (negative)
		*ret = g_variant_new_int64((int64_t)(0 - n));
	else if (n <= INT64_MAX)
		*ret = g_variant_new_int64((int64_t)n);
	else
		*ret = g_variant_new_uint64(n);
	return 0;
}

static bool read_hex4(struct json *j, gunichar *ret)
{
	gunichar c = 0;

	if (j->end - j->at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		int digit = g_ascii_xdigit_value(j->at[i]);

		if (digit < 0)
			return false;
		c = c << 4 | (gunichar)digit;
	}
	j->at += 4;
	*ret = c;
	return true;
}

/* After "\u": one UTF-16 unit, or two that are a pair (RFC 8259, 7). */
static int read_unicode(struct json *j, const char *start, GString *out)
{
	gunichar c, low;

	if (!read_hex4(j, &c))
		return fail_at(j, start, "must be four hexadecimal digits after '\\u'");
	if (c >= 0xd800 && c < 0xdc00) {
		if (!take(j, '\\') || !take(j, 'u') || !read_hex4(j, &low) || low < 0xdc00 ||
		    low > 0xdfff)
			return fail_at(j, start, "surrogate must be followed by its second half");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c >= 0xdc00 && c < 0xe000) {
		return fail_at(j, start, "surrogate must follow its first half");
	}
	if (c == 0)
		return fail_at(j, start, "strings must not hold NUL");
	g_string_append_unichar(out, c);
	return 0;
}

static int read_escape(struct json *j, GString *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *start = j->at++; /* the backslash */
	const char *which;

	if (j->at >= j->end)
		return fail_here(j, "the rest of the string");
	if (take(j, 'u'))
		return read_unicode(j, start, out);
	which = strchr(from, *j->at);
	if (!which)
		return fail_at(j, start,
			       "unknown escape, must be one of \\\" \\\\ \\/ \\b \\f \\n "
			       "\\r \\t \\u");
	g_string_append_c(out, to[which - from]);
	j->at++;
	return 0;
}

static int read_string(struct json *j, char **ret)
{
	g_autoptr(GString) out = g_string_new(NULL);
	int r;

	if (!take(j, '"'))
		return fail_here(j, "a string in double quotes");
	for (;;) {
		const char *start = j->at;

		while (j->at < j->end && *j->at != '"' && *j->at != '\\' &&
		       (unsigned char)*j->at >= 0x20)
			j->at++;
		g_string_append_len(out, start, j->at - start);
		if (j->at >= j->end)
			return fail_here(j, "the rest of the string");
		if (take(j, '"'))
			break;
		if (*j->at != '\\')
			return fail_at(j, j->at, "control characters must be escaped in strings");
		r = read_escape(j, out);
		if (r < 0)
			return r;
	}
	*ret = g_string_free(g_steal_pointer(&out), FALSE);
	return 0;
}

static int read_value(struct json *j, GVariant **ret);

static int read_member(struct json *j, GHashTable *seen, GVariantBuilder *dict)
{
	g_autofree char *key = NULL, *what = NULL;
	char quoted[CONFIG_QUOTE_MAX];
	const char *start;
	GVariant *value;
	int r;

	skip_space(j);
	start = j->at;
	r = read_string(j, &key);
	if (r < 0)
		return r;
	skip_space(j);
	if (!take(j, ':'))
		return fail_here(j, "':'");
	r = read_value(j, &value);
	if (r < 0)
		return r;
	g_variant_builder_add(dict, "{sv}", key, value);
	if (g_hash_table_add(seen, g_strdup(key)))
		return 0;
	what = g_strdup_printf("key %s is given twice", config_quote(key, quoted));
	return fail_at(j, start, what);
}

static int read_object(struct json *j, GVariant **ret)
{
	g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	g_auto(GVariantBuilder) dict = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
	int r;

	j->at++; /* the brace */
	skip_space(j);
	if (!take(j, '}')) {
		do {
			r = read_member(j, seen, &dict);
			if (r < 0)
				return r;
			skip_space(j);
		} while (take(j, ','));
		if (!take(j, '}'))
			return fail_here(j, "',' or '}'");
	}
	*ret = g_variant_builder_end(&dict);
	return 0;
}

static int read_array(struct json *j, GVariant **ret)
{
	g_auto(GVariantBuilder) list = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("av"));
	int r;

	j->at++; /* the bracket */
	skip_space(j);
	if (!take(j, ']')) {
		do {
			GVariant *item;

			r = read_value(j, &item);
			if (r < 0)
				return r;
			g_variant_builder_add(&list, "v", item);
			skip_space(j);
		} while (take(j, ','));
		if (!take(j, ']'))
			return fail_here(j, "',' or ']'");
	}
	*ret = g_variant_builder_end(&list);
	return 0;
}

static bool take_word(struct json *j, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(j->end - j->at) < len || memcmp(j->at, word, len) != 0 ||
	    (j->at + len < j->end && g_ascii_isalnum(j->at[len])))
		return false;
	j->at += len;
	return true;
}

/* *ret is floating. */
static int read_value(struct json *j, GVariant **ret)
{
	int r;

	skip_space(j);
	if (j->at >= j->end)
		return fail_here(j, "a value");
	if (j->n_values++ >= j->values_max)
		return fail_at(j, j->at,
			       "too many values, must be at most " G_STRINGIFY(
				       CONFIG_JSON_VALUES_MAX) " in all");
	if (*j->at == '{' || *j->at == '[') {
		if (j->depth == CONFIG_JSON_DEPTH_MAX)
			return fail_at(j, j->at, "too deep, must be at most 32 levels");
		j->depth++;
		r = *j->at == '{' ? read_object(j, ret) : read_array(j, ret);
		j->depth--;
		return r;
	}
	if (*j->at == '"') {
		char *string;

		r = read_string(j, &string);
		if (r == 0)
			*ret = g_variant_new_take_string(string);
		return r;
	}
	if (*j->at == '-' || g_ascii_isdigit(*j->at))
		return read_number(j, ret);
	if (take_word(j, "true"))
		*ret = g_variant_new_boolean(TRUE);
	else if (take_word(j, "false"))
		*ret = g_variant_new_boolean(FALSE);
	else if (take_word(j, "null"))
		*ret = g_variant_new_maybe(G_VARIANT_TYPE_VARIANT, NULL);
	else
		return fail_here(j, "a value");
	return 0;
}

static int parse(const char *text, size_t len, size_t max, size_t values_max, GVariant **ret,
		 struct err *err)
{
	struct json j = { .values_max = values_max, .err = err };
	g_autoptr(GVariant) result = NULL;
	GVariant *value = NULL;
	const char *bad;
	int r;

	if (len > max)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "text of %zu bytes is too long, must be at most %zu", len, max);
	j.text = j.at = len ? text : ""; /* nothing may come as NULL */
	j.end = j.text + len;
	if (!g_utf8_validate_len(j.text, len, &bad)) /* NUL is refused too */
		return fail_at(&j, bad, "text is not UTF-8");
	r = read_value(&j, &value);
	if (r < 0)
		return r;
	result = g_variant_ref_sink(value);
	skip_space(&j);
	if (j.at < j.end)
		return fail_here(&j, "the end of the text");
	*ret = g_steal_pointer(&result);
	return 0;
}

int config_json_parse(const char *text, size_t len, GVariant **ret, struct err *err)
{
	return parse(text, len, CONFIG_JSON_MAX, CONFIG_JSON_VALUES_MAX, ret, err);
}

int config_json_parse_max(const char *text, size_t len, size_t max, GVariant **ret, struct err *err)
{
	return parse(text, len, max, SIZE_MAX, ret, err);
}

/* --- writing ------------------------------------------------------------------- */

struct printer {
	GString *out;
	bool pretty;
	unsigned int depth;
};

static void print_value(struct printer *p, GVariant *value);

static void print_break(struct printer *p)
{
	if (!p->pretty)
		return;
	g_string_append_c(p->out, '\n');
	for (unsigned int i = 0; i < p->depth; i++)
		g_string_append(p->out, "  ");
}

static void print_string(struct printer *p, const char *s)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";

	g_string_append_c(p->out, '"');
	for (; *s; s++) {
		const char *which = strchr(from, *s);

		if (which)
			g_string_append_printf(p->out, "\\%c", to[which - from]);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			g_string_append_printf(p->out, "\\u%04x", (unsigned int)*s);
		else
			g_string_append_c(p->out, *s);
	}
	g_string_append_c(p->out, '"');
}

static void print_double(struct printer *p, double d)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];

	if (d - d != 0) {
		g_string_append(p->out, "null");
		return;
	}
	g_ascii_dtostr(text, sizeof(text), d);
	g_string_append(p->out, text);
	if (!strpbrk(text, ".e"))
		g_string_append(p->out, ".0"); /* so that it is read as a double again */
}

static void print_object(struct printer *p, GVariant *value)
{
	size_t n = g_variant_n_children(value);

	g_string_append_c(p->out, '{');
	p->depth++;
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) entry = g_variant_get_child_value(value, i);
		g_autoptr(GVariant) key = g_variant_get_child_value(entry, 0);
		g_autoptr(GVariant) content = g_variant_get_child_value(entry, 1);

		if (i)
			g_string_append_c(p->out, ',');
		print_break(p);
		print_string(p, g_variant_get_string(key, NULL));
		g_string_append(p->out, p->pretty ? ": " : ":");
		print_value(p, content);
	}
	p->depth--;
	if (n)
		print_break(p);
	g_string_append_c(p->out, '}');
}

static void print_array(struct printer *p, GVariant *value)
{
	size_t n = g_variant_n_children(value);

	g_string_append_c(p->out, '[');
	p->depth++;
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) item = g_variant_get_child_value(value, i);

		if (i)
			g_string_append_c(p->out, ',');
		print_break(p);
		print_value(p, item);
	}
	p->depth--;
	if (n)
		print_break(p);
	g_string_append_c(p->out, ']');
}

static void print_value(struct printer *p, GVariant *value)
{
	g_autoptr(GVariant) v = config_value_unwrap(value);
	bool negative;
	uint64_t n;

	if (g_variant_is_of_type(v, G_VARIANT_TYPE_DOUBLE))
		print_double(p, g_variant_get_double(v));
	else if (config_value_integer(v, &negative, &n))
		g_string_append_printf(p->out, "%s%" G_GUINT64_FORMAT, negative ? "-" : "", n);
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_HANDLE))
		g_string_append_printf(p->out, "%d", g_variant_get_handle(v));
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
		g_string_append(p->out, g_variant_get_boolean(v) ? "true" : "false");
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING) ||
		 g_variant_is_of_type(v, G_VARIANT_TYPE_OBJECT_PATH) ||
		 g_variant_is_of_type(v, G_VARIANT_TYPE_SIGNATURE))
		print_string(p, g_variant_get_string(v, NULL));
	else if (config_value_is_object(v))
		print_object(p, v);
	else if (config_value_is_null(v))
		g_string_append(p->out, "null");
	else
		print_array(p, v);
}

char *config_json_print(GVariant *value, enum config_json_flags flags)
{
	struct printer p = { g_string_new(NULL), flags == CONFIG_JSON_PRETTY, 0 };

	print_value(&p, value);
	if (p.pretty)
		g_string_append_c(p.out, '\n');
	return g_string_free(p.out, FALSE);
}
