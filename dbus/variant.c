/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/variant.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/err.h"

static const char *type_name(char type)
{
	switch (type) {
	case SD_BUS_TYPE_ARRAY:
		return "array";
	case SD_BUS_TYPE_VARIANT:
		return "variant";
	case SD_BUS_TYPE_STRUCT:
		return "structure";
	case SD_BUS_TYPE_DICT_ENTRY:
		return "dictionary entry";
	case SD_BUS_TYPE_UNIX_FD:
		return "descriptor";
	case SD_BUS_TYPE_STRING:
		return "string";
	case SD_BUS_TYPE_BOOLEAN:
		return "boolean";
	case SD_BUS_TYPE_OBJECT_PATH:
		return "object path";
	case SD_BUS_TYPE_SIGNATURE:
		return "signature";
	default:
		return "number";
	}
}

struct reader {
	sd_bus_message *m;
	size_t left; /* bytes the result may still have */
};

/*
 * What sd-bus said about a field, as a sentence.  The end of the message is 0 from
 * some of its functions and -ENXIO, like a wrong type, from others: look.
 */
static int field_error(struct reader *in, int r, char wanted, struct err *err)
{
	char found = 0;

	if (r == -ENXIO)
		r = sd_bus_message_peek_type(in->m, &found, NULL);
	if (r == 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the message ends where a value of type '%c' (%s) belongs", wanted,
				 type_name(wanted));
	if (r > 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the message holds type '%c' (%s) where '%c' (%s) belongs", found,
				 type_name(found), wanted, type_name(wanted));
	if (r == -ENOMEM)
		return err_set(err, ENOMEM, "out of memory while reading a message");
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "malformed %s in the message",
			 type_name(wanted));
}

/* Charged before anything is copied: a sender must not make us build what we will not take. */
static int charge(struct reader *in, size_t size, struct err *err)
{
	if (size > in->left)
		return err_fault(err, FAULT_BAD_ARGUMENT, E2BIG, "the value is too large");
	in->left -= size;
	return 0;
}

/* Length of the complete type that s starts with. */
static size_t type_length(const char *s)
{
	const char *end = s;

	return g_variant_type_string_scan(s, NULL, &end) ? (size_t)(end - s) : 0;
}

static int read_value(struct reader *in, const char *type, size_t len, unsigned int depth,
		      GVariant **ret, struct err *err);

/* sd-bus checked UTF-8, paths and signatures, but GVariant asserts them: check its way too. */
static GVariant *text_value(char type, const char *s)
{
	switch (type) {
	case SD_BUS_TYPE_OBJECT_PATH:
		return g_variant_is_object_path(s) ? g_variant_new_object_path(s) : NULL;
	case SD_BUS_TYPE_SIGNATURE:
		return g_variant_is_signature(s) ? g_variant_new_signature(s) : NULL;
	default:
		return g_utf8_validate(s, -1, NULL) ? g_variant_new_string(s) : NULL;
	}
}

static int read_basic(struct reader *in, char type, GVariant **ret, struct err *err)
{
	union {
		uint8_t y;
		int b;
		int16_t n;
		uint16_t q;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
		const char *s;
	} v = { 0 };
	GVariant *value = NULL;
	int r;

	r = sd_bus_message_read_basic(in->m, type, &v);
	if (r <= 0)
		return field_error(in, r, type, err);
	if (strchr("sog", type)) {
		r = charge(in, strlen(v.s), err);
		if (r < 0)
			return r;
	}

	switch (type) {
	case SD_BUS_TYPE_BYTE:
		value = g_variant_new_byte(v.y);
		break;
	case SD_BUS_TYPE_BOOLEAN:
		value = g_variant_new_boolean(v.b);
		break;
	case SD_BUS_TYPE_INT16:
		value = g_variant_new_int16(v.n);
		break;
	case SD_BUS_TYPE_UINT16:
		value = g_variant_new_uint16(v.q);
		break;
	case SD_BUS_TYPE_INT32:
		value = g_variant_new_int32(v.i);
		break;
	case SD_BUS_TYPE_UINT32:
		value = g_variant_new_uint32(v.u);
		break;
	case SD_BUS_TYPE_INT64:
		value = g_variant_new_int64(v.x);
		break;
	case SD_BUS_TYPE_UINT64:
		value = g_variant_new_uint64(v.t);
		break;
	case SD_BUS_TYPE_DOUBLE:
		value = g_variant_new_double(v.d);
		break;
	default:
		value = text_value(type, v.s);
		break;
	}
	if (!value)
		return field_error(in, -EBADMSG, type, err);
	*ret = g_variant_ref_sink(value);
	return 0;
}

/* Numbers whose layout in the message is GVariant's own; 0 for every other type. */
static size_t fixed_width(const char *type, size_t len)
{
	if (len != 1)
		return 0;
	switch (type[0]) {
	case 'y':
		return 1;
	case 'n':
	case 'q':
		return 2;
	case 'i':
	case 'u':
		return 4;
	case 'x':
	case 't':
	case 'd':
		return 8;
	default:
		return 0;
	}
}

static int read_fixed_array(struct reader *in, char element, size_t width, GVariant **ret,
			    struct err *err)
{
	char type[] = { element, '\0' };
	const void *data = NULL;
	size_t size = 0;
	int r;

	r = sd_bus_message_read_array(in->m, element, &data, &size);
	if (r <= 0)
		return field_error(in, r, SD_BUS_TYPE_ARRAY, err);
	r = charge(in, size, err);
	if (r < 0)
		return r;
	*ret = g_variant_ref_sink(
		g_variant_new_fixed_array(G_VARIANT_TYPE(type), data, size / width, width));
	return 0;
}

static int enter(struct reader *in, char kind, const char *contents, struct err *err)
{
	int r = sd_bus_message_enter_container(in->m, kind, contents);

	return r <= 0 ? field_error(in, r, kind, err) : 0;
}

static int leave(struct reader *in, char kind, struct err *err)
{
	int r = sd_bus_message_exit_container(in->m);

	return r < 0 ? field_error(in, r, kind, err) : 0;
}

/* An array's elements, up to its end. */
static int read_elements(struct reader *in, const char *type, size_t len, unsigned int depth,
			 GVariantBuilder *builder, struct err *err)
{
	int r;

	while ((r = sd_bus_message_at_end(in->m, 0)) == 0) {
		g_autoptr(GVariant) element = NULL;

		r = read_value(in, type, len, depth, &element, err);
		if (r < 0)
			return r;
		g_variant_builder_add_value(builder, element);
	}
	return r < 0 ? field_error(in, r, SD_BUS_TYPE_ARRAY, err) : 0;
}

/* The members of a structure or dictionary entry, one after the other. */
static int read_members(struct reader *in, const char *types, unsigned int depth,
			GVariantBuilder *builder, struct err *err)
{
	while (*types) {
		g_autoptr(GVariant) member = NULL;
		size_t n = type_length(types);
		int r;

		r = read_value(in, types, n, depth, &member, err);
		if (r < 0)
			return r;
		g_variant_builder_add_value(builder, member);
		types += n;
	}
	return 0;
}

/* sd-bus' name of the container that a type string opens with this character. */
static char container_kind(char opening)
{
	switch (opening) {
	case '(':
		return SD_BUS_TYPE_STRUCT;
	case '{':
		return SD_BUS_TYPE_DICT_ENTRY;
	default:
		return SD_BUS_TYPE_ARRAY;
	}
}

static int read_container(struct reader *in, const char *type, size_t len, unsigned int depth,
			  GVariant **ret, struct err *err)
{
	char kind = container_kind(type[0]);
	/* "aT" holds T, "(T)" and "{T}" lose a closing bracket as well */
	size_t inner_len = kind == SD_BUS_TYPE_ARRAY ? len - 1 : len - 2;
	g_autofree char *inner = g_strndup(type + 1, inner_len);
	g_autofree char *whole = g_strndup(type, len);
	GVariantBuilder builder;
	int r;

	r = enter(in, kind, inner, err);
	if (r < 0)
		return r;
	g_variant_builder_init(&builder, G_VARIANT_TYPE(whole));
	if (kind == SD_BUS_TYPE_ARRAY)
		r = read_elements(in, inner, inner_len, depth, &builder, err);
	else
		r = read_members(in, inner, depth, &builder, err);
	if (r >= 0)
		r = leave(in, kind, err);
	if (r < 0) {
		g_variant_builder_clear(&builder);
		return r;
	}
	*ret = g_variant_ref_sink(g_variant_builder_end(&builder));
	return 0;
}

static int read_variant(struct reader *in, unsigned int depth, GVariant **ret, struct err *err)
{
	g_autofree char *contents = NULL;
	g_autoptr(GVariant) inner = NULL;
	const char *peeked = NULL;
	char found = 0;
	int r;

	r = sd_bus_message_peek_type(in->m, &found, &peeked);
	if (r > 0 && found != SD_BUS_TYPE_VARIANT)
		r = -ENXIO;
	if (r <= 0)
		return field_error(in, r, SD_BUS_TYPE_VARIANT, err);
	contents = g_strdup(peeked); /* the message's own copy moves with the cursor */

	r = enter(in, SD_BUS_TYPE_VARIANT, contents, err);
	if (r < 0)
		return r;
	r = read_value(in, contents, strlen(contents), depth, &inner, err);
	if (r < 0)
		return r;
	r = leave(in, SD_BUS_TYPE_VARIANT, err);
	if (r < 0)
		return r;
	*ret = g_variant_ref_sink(g_variant_new_variant(inner));
	return 0;
}

static int read_value(struct reader *in, const char *type, size_t len, unsigned int depth,
		      GVariant **ret, struct err *err)
{
	size_t width;
	int r;

	r = charge(in, VARIANT_VALUE_COST, err);
	if (r < 0)
		return r;
	if (strchr("a({v", type[0]) && depth == 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the value is nested deeper than %d levels", VARIANT_DEPTH_MAX);

	switch (type[0]) {
	case 'a':
		width = fixed_width(type + 1, len - 1);
		if (width)
			return read_fixed_array(in, type[1], width, ret, err);
		return read_container(in, type, len, depth - 1, ret, err);
	case '(':
	case '{':
		return read_container(in, type, len, depth - 1, ret, err);
	case 'v':
		return read_variant(in, depth - 1, ret, err);
	case 'h':
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "a file descriptor ('h') is not possible here");
	case 'y':
	case 'b':
	case 'n':
	case 'q':
	case 'i':
	case 'u':
	case 'x':
	case 't':
	case 'd':
	case 's':
	case 'o':
	case 'g':
		return read_basic(in, type[0], ret, err);
	default: /* GVariant's own: maybe types and the indefinite ones */
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "'%.*s' is not a D-Bus type",
				 (int)len, type);
	}
}

int variant_from_message_max(sd_bus_message *m, const char *type, size_t max, GVariant **ret,
			     struct err *err)
{
	struct reader in = { m, max };
	size_t len = type_length(type);

	if (len == 0 || type[len] != '\0')
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "'%s' is not one complete D-Bus type", type);
	return read_value(&in, type, len, VARIANT_DEPTH_MAX, ret, err);
}

int variant_from_message(sd_bus_message *m, const char *type, GVariant **ret, struct err *err)
{
	return variant_from_message_max(m, type, SIZE_MAX, ret, err);
}

static int append_basic(sd_bus_message *m, char type, GVariant *value)
{
	switch (type) {
	case 'b':
		return sd_bus_message_append_basic(m, type, &(int){ g_variant_get_boolean(value) });
	case 'y':
		return sd_bus_message_append_basic(m, type,
						   &(uint8_t){ g_variant_get_byte(value) });
	case 'n':
		return sd_bus_message_append_basic(m, type,
						   &(int16_t){ g_variant_get_int16(value) });
	case 'q':
		return sd_bus_message_append_basic(m, type,
						   &(uint16_t){ g_variant_get_uint16(value) });
	case 'i':
		return sd_bus_message_append_basic(m, type,
						   &(int32_t){ g_variant_get_int32(value) });
	case 'u':
		return sd_bus_message_append_basic(m, type,
						   &(uint32_t){ g_variant_get_uint32(value) });
	case 'x':
		return sd_bus_message_append_basic(m, type,
						   &(int64_t){ g_variant_get_int64(value) });
	case 't':
		return sd_bus_message_append_basic(m, type,
						   &(uint64_t){ g_variant_get_uint64(value) });
	case 'd':
		return sd_bus_message_append_basic(m, type,
						   &(double){ g_variant_get_double(value) });
	case 's':
	case 'o':
	case 'g':
		return sd_bus_message_append_basic(m, type, g_variant_get_string(value, NULL));
	default:
		return -EOPNOTSUPP;
	}
}

static int append_value(sd_bus_message *m, GVariant *value, unsigned int depth)
{
	const char *type = g_variant_get_type_string(value);
	g_autofree char *contents = NULL;
	size_t len = strlen(type), width, n = 0;
	char kind;
	int r;

	switch (type[0]) {
	case 'a':
		width = fixed_width(type + 1, len - 1);
		if (width) {
			const void *data = g_variant_get_fixed_array(value, &n, width);

			return sd_bus_message_append_array(m, type[1], data, n * width);
		}
		kind = SD_BUS_TYPE_ARRAY;
		contents = g_strdup(type + 1);
		break;
	case '(':
	case '{':
		kind = container_kind(type[0]);
		contents = g_strndup(type + 1, len - 2);
		break;
	case 'v': {
		g_autoptr(GVariant) inner = g_variant_get_variant(value);

		kind = SD_BUS_TYPE_VARIANT;
		contents = g_strdup(g_variant_get_type_string(inner));
		break;
	}
	default:
		return append_basic(m, type[0], value);
	}

	/* asked of the type, since an empty array has no element that would refuse */
	if (strpbrk(contents, "hm"))
		return -EOPNOTSUPP;
	if (depth == 0)
		return -ELOOP;
	r = sd_bus_message_open_container(m, kind, contents);
	if (r < 0)
		return r;
	n = g_variant_n_children(value);
	for (size_t i = 0; i < n; i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(value, i);

		r = append_value(m, child, depth - 1);
		if (r < 0)
			return r;
	}
	return sd_bus_message_close_container(m);
}

int variant_append(sd_bus_message *m, GVariant *value)
{
	g_autoptr(GVariant) ref = g_variant_ref_sink(value);
	int r;

	r = append_value(m, ref, VARIANT_DEPTH_MAX);
	return r < 0 ? r : 0;
}
