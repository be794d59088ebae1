/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"

/* One segment: clipped, because an unknown key is foreign text. */
static void append_segment(GString *out, const char *key)
{
	size_t n = 0;

	for (const char *p = key; *p && n < 64; p = g_utf8_next_char(p), n++) {
		gunichar c = g_utf8_get_char(p);

		if (c == '~')
			g_string_append(out, "~0");
		else if (c == '/')
			g_string_append(out, "~1");
		else if (g_unichar_iscntrl(c))
			g_string_append_c(out, '?');
		else
			g_string_append_unichar(out, c);
	}
}

static void render(const struct config_path *path, bool option, GString *out)
{
	if (!path->parent) {
		if (path->option)
			g_string_append(out, path->option);
		return;
	}
	render(path->parent, option, out);
	if (option) {
		if (path->key) {
			g_string_append(out, ": ");
			append_segment(out, path->option ? path->option : path->key);
		} else {
			g_string_append_printf(out, "[%zu]", path->index);
		}
	} else {
		g_string_append_c(out, '/');
		if (path->key)
			append_segment(out, path->key);
		else
			g_string_append_printf(out, "%zu", path->index);
	}
}

static void copy_clipped(char *buf, size_t size, const char *text)
{
	const char *end;

	/* At a character boundary: the text ends up on the bus, which wants UTF-8. */
	g_strlcpy(buf, text, size);
	if (!g_utf8_validate(buf, -1, &end))
		buf[end - buf] = '\0';
}

const char *config_path_render(const struct config_path *path, char buf[CONFIG_POINTER_MAX])
{
	const struct config_path *root = path;
	g_autoptr(GString) out = g_string_new(NULL);

	while (root->parent)
		root = root->parent;
	render(path, root->option != NULL, out);
	copy_clipped(buf, CONFIG_POINTER_MAX, out->len ? out->str : "definition");
	return buf;
}

static int fail_va(const struct config_path *path, struct err *err, enum fault fault, int code,
		   const char *fmt, va_list ap) _printf_(5, 0);

static int fail_va(const struct config_path *path, struct err *err, enum fault fault, int code,
		   const char *fmt, va_list ap)
{
	char pointer[CONFIG_POINTER_MAX];
	g_autofree char *text = NULL;

	if (!err)
		return -code;
	text = g_strdup_vprintf(fmt, ap);
	return err_fault(err, fault, code, "%s: %s", config_path_render(path, pointer), text);
}

int config_fail(const struct config_path *path, struct err *err, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = fail_va(path, err, FAULT_BAD_CONFIG, EINVAL, fmt, ap);
	va_end(ap);
	return r;
}

int config_unsupported(const struct config_path *path, struct err *err, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = fail_va(path, err, FAULT_UNSUPPORTED, EOPNOTSUPP, fmt, ap);
	va_end(ap);
	return r;
}

const char *config_quote(const char *text, char buf[CONFIG_QUOTE_MAX])
{
	const size_t room = CONFIG_QUOTE_MAX - 6; /* quotes, dots, NUL */
	size_t n = 1;

	buf[0] = '\'';
	for (const char *p = text; *p;) {
		const char *next = g_utf8_next_char(p);
		size_t len = (size_t)(next - p);

		if (n + len > room) {
			memcpy(buf + n, "...", 3);
			n += 3;
			break;
		}
		if (g_unichar_iscntrl(g_utf8_get_char(p)))
			buf[n++] = '?';
		else
			for (; p < next; p++)
				buf[n++] = *p;
		p = next;
	}
	buf[n++] = '\'';
	buf[n] = '\0';
	return buf;
}

const char *config_value_describe(GVariant *value, char buf[CONFIG_QUOTE_MAX + 16])
{
	const size_t size = CONFIG_QUOTE_MAX + 16;
	g_autoptr(GVariant) v = config_value_unwrap(value);
	char quoted[CONFIG_QUOTE_MAX];
	bool negative;
	uint64_t n;

	if (config_value_is_null(v))
		g_strlcpy(buf, "null", size);
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_STRING))
		snprintf(buf, size, "the string %s",
			 config_quote(g_variant_get_string(v, NULL), quoted));
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_BOOLEAN))
		g_strlcpy(buf, g_variant_get_boolean(v) ? "true" : "false", size);
	else if (config_value_integer(v, &negative, &n))
		snprintf(buf, size, "%s%" PRIu64, negative ? "-" : "", n);
	else if (g_variant_is_of_type(v, G_VARIANT_TYPE_DOUBLE))
		g_ascii_formatd(buf, (int)size, "%.15g", g_variant_get_double(v));
	else if (config_value_is_object(v))
		g_strlcpy(buf, "an object", size);
	else if (config_value_is_list(v))
		g_strlcpy(buf, "a list", size);
	else
		snprintf(buf, size, "of D-Bus type %.64s", g_variant_get_type_string(v));
	return buf;
}

GVariant *config_value_unwrap(GVariant *value)
{
	GVariant *v = g_variant_ref(value);

	for (;;) {
		GVariant *inner = NULL;

		if (g_variant_is_of_type(v, G_VARIANT_TYPE_VARIANT))
			inner = g_variant_get_variant(v);
		else if (g_variant_is_of_type(v, G_VARIANT_TYPE_MAYBE))
			inner = g_variant_get_maybe(v);
		if (!inner)
			return v;
		g_variant_unref(v);
		v = inner;
	}
}

bool config_value_is_null(GVariant *value)
{
	return g_variant_is_of_type(value, G_VARIANT_TYPE_MAYBE) &&
	       g_variant_n_children(value) == 0;
}

bool config_value_is_object(GVariant *value)
{
	return g_variant_is_of_type(value, G_VARIANT_TYPE("a{s*}"));
}

bool config_value_is_list(GVariant *value)
{
	return g_variant_is_of_type(value, G_VARIANT_TYPE_ARRAY) &&
	       !g_variant_is_of_type(value, G_VARIANT_TYPE("a{?*}"));
}

static bool from_signed(int64_t n, bool *ret_negative, uint64_t *ret_magnitude)
{
	*ret_negative = n < 0;
	*ret_magnitude = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	return true;
}

static bool from_double(double d, bool *ret_negative, uint64_t *ret_magnitude)
{
	double magnitude = d < 0 ? -d : d;

	/* Up to 2^53 a double holds every integer; above it would be a guess. */
	if (!(magnitude <= 9007199254740992.0) || magnitude != (double)(uint64_t)magnitude)
		return false;
	*ret_negative = d < 0;
	*ret_magnitude = (uint64_t)magnitude;
	return true;
}

static bool from_unsigned(uint64_t n, bool *ret_negative, uint64_t *ret_magnitude)
{
	*ret_negative = false;
	*ret_magnitude = n;
	return true;
}

bool config_value_integer(GVariant *value, bool *ret_negative, uint64_t *ret_magnitude)
{
	g_autoptr(GVariant) v = config_value_unwrap(value);

	switch ((char)g_variant_classify(v)) {
	case 'y':
		return from_unsigned(g_variant_get_byte(v), ret_negative, ret_magnitude);
	case 'q':
		return from_unsigned(g_variant_get_uint16(v), ret_negative, ret_magnitude);
	case 'u':
		return from_unsigned(g_variant_get_uint32(v), ret_negative, ret_magnitude);
	case 't':
		return from_unsigned(g_variant_get_uint64(v), ret_negative, ret_magnitude);
	case 'n':
		return from_signed(g_variant_get_int16(v), ret_negative, ret_magnitude);
	case 'i':
		return from_signed(g_variant_get_int32(v), ret_negative, ret_magnitude);
	case 'x':
		return from_signed(g_variant_get_int64(v), ret_negative, ret_magnitude);
	case 'd':
		return from_double(g_variant_get_double(v), ret_negative, ret_magnitude);
	default:
		return false;
	}
}
