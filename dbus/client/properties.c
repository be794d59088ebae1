/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/properties.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "dbus/client/arguments.h"
#include "dbus/client/client.h"
#include "dbus/client/verbs.h"
#include "dbus/resource-properties.h"
#include "dbus/variant.h"

#define QUOTA_PERCENT 10000.0 /* microseconds a second */

/* What belongs behind the '=', for complaints and help. */
static const struct {
	const char *form, *text;
} forms[] = {
	[RESOURCE_PROPERTY_BYTES] = { "SIZE",
				      "a number of bytes, or with K, M, G, T, or infinity" },
	[RESOURCE_PROPERTY_WEIGHT] = { "WEIGHT", "a number from 1 to 10000, for CPUs also idle" },
	[RESOURCE_PROPERTY_QUOTA] = { "PERCENT%",
				      "a percentage of one processor such as 50% or 200%" },
	[RESOURCE_PROPERTY_USEC] = { "TIME", "a time such as 100ms, 30s or 2min, or infinity" },
	[RESOURCE_PROPERTY_COUNT] = { "NUMBER", "a number, or infinity" },
	[RESOURCE_PROPERTY_NUMBER] = { "NUMBER", "a number" },
	[RESOURCE_PROPERTY_MASK] = { "LIST", "a list such as 0-3,5" },
	[RESOURCE_PROPERTY_LIMITS] = { "PATH RATE",
				       "a device and a rate such as '/dev/sda 10M', or infinity" },
};

/* "10", "1.5G" */
static bool parse_size(const char *text, unsigned int base, uint64_t *ret)
{
	static const char suffixes[] = "KMGTPE";
	double unit = 1, value;
	const char *suffix;
	char *end;

	if (!g_ascii_isdigit(text[0]))
		return false;
	if (text[strspn(text, "0123456789")] == '\0')
		return g_ascii_string_to_unsigned(text, 10, 0, UINT64_MAX - 1, ret, NULL);
	value = g_ascii_strtod(text, &end);
	if (strspn(text, "0123456789.") != (size_t)(end - text))
		return false; /* hexadecimal, exponents */
	suffix = *end && base ? strchr(suffixes, *end) : NULL;
	if (!suffix || end[1])
		return false;
	for (const char *s = suffixes; s <= suffix; s++)
		unit *= base;
	if (value * unit >= 0x1p63)
		return false;
	*ret = (uint64_t)(value * unit);
	return true;
}

static bool parse_uint(const struct resource_property *p, const char *text, uint64_t *ret)
{
	char *end;
	double percent;

	if (strcmp(text, "infinity") == 0 && p->flags & RESOURCE_PROPERTY_INFINITY &&
	    p->kind != RESOURCE_PROPERTY_WEIGHT) {
		*ret = UINT64_MAX;
		return true;
	}
	switch (p->kind) {
	case RESOURCE_PROPERTY_USEC:
		return parse_duration(text, ret);
	case RESOURCE_PROPERTY_QUOTA:
		percent = g_ascii_strtod(text, &end);
		if (!g_ascii_isdigit(text[0]) || strcmp(end, "%") != 0 || !(percent < 1e12))
			return false;
		*ret = (uint64_t)(percent * QUOTA_PERCENT + 0.5);
		return true;
	case RESOURCE_PROPERTY_WEIGHT:
		if (strcmp(text, "idle") == 0 && p->min == 0) {
			*ret = 0;
			return true;
		}
		return parse_size(text, 0, ret);
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_COUNT:
	case RESOURCE_PROPERTY_LIMITS:
	case RESOURCE_PROPERTY_NUMBER:
	case RESOURCE_PROPERTY_MASK:
		break;
	}
	return parse_size(text, p->base, ret);
}

/* "/dev/sda 10M", added to those before it. */
static GVariant *parse_limit(const struct resource_property *p, const char *text, GVariant *before)
{
	const char *space = strrchr(text, ' '), *path, *end;
	g_autofree char *device = NULL;
	GVariantBuilder builder;
	uint64_t limit;

	if (!space || !parse_uint(p, space + 1, &limit))
		return NULL;
	for (end = space; end > text && end[-1] == ' '; end--)
		;
	device = g_strndup(text, (gsize)(end - text));
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(st)"));
	for (gsize i = 0; before && i < g_variant_n_children(before); i++) {
		guint64 other;

		g_variant_get_child(before, i, "(&st)", &path, &other);
		if (strcmp(path, device) != 0)
			g_variant_builder_add(&builder, "(st)", path, other);
	}
	g_variant_builder_add(&builder, "(st)", device, limit);
	return g_variant_builder_end(&builder);
}

/* "MemoryMax=": what a unit has by itself. */
static GVariant *unset_value(const struct resource_property *p)
{
	if (p->kind == RESOURCE_PROPERTY_MASK)
		return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, NULL, 0, 1);
	if (p->kind == RESOURCE_PROPERTY_LIMITS)
		return g_variant_new_array(G_VARIANT_TYPE("(st)"), NULL, 0);
	return p->flags & RESOURCE_PROPERTY_UNSET ? g_variant_new_uint64(UINT64_MAX) : NULL;
}

/* NULL when the text is none. */
static GVariant *parse_value(const struct resource_property *p, const char *text, GVariant *before)
{
	uint64_t value;
	gint64 number;

	if (text[0] == '\0')
		return unset_value(p);
	switch (p->kind) {
	case RESOURCE_PROPERTY_NUMBER:
		return g_ascii_string_to_signed(text, 10, INT32_MIN, INT32_MAX, &number, NULL)
			       ? g_variant_new_int32((gint32)number)
			       : NULL;
	case RESOURCE_PROPERTY_MASK:
		return resource_mask_parse(text, (size_t)p->max);
	case RESOURCE_PROPERTY_LIMITS:
		return parse_limit(p, text, before);
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return parse_uint(p, text, &value) ? g_variant_new_uint64(value) : NULL;
}

static const struct resource_property *find_setting(const char *name, size_t len)
{
	for (size_t i = 0; i < n_resource_properties; i++)
		if (strlen(resource_properties[i].setting) == len &&
		    strncmp(resource_properties[i].setting, name, len) == 0)
			return &resource_properties[i];
	return NULL;
}

static int parse_word(const char *word, GVariant **values)
{
	const char *equals = strchr(word, '=');
	const struct resource_property *p;
	GVariant *value, **slot;

	if (!equals) {
		client_complain("'%s' is not a property, must be NAME=VALUE", word);
		return EXIT_USAGE;
	}
	p = find_setting(word, (size_t)(equals - word));
	if (!p) {
		client_complain("no property '%.*s' that a machine could be given",
				(int)(equals - word), word);
		fprintf(stderr, "hint: 'brumectl help set-property' lists them\n");
		return EXIT_USAGE;
	}
	slot = &values[p - resource_properties];
	value = parse_value(p, equals + 1, *slot);
	if (!value) {
		client_complain("property '%s': '%s' is wrong, must be %s", p->setting, equals + 1,
				forms[p->kind].text);
		return EXIT_USAGE;
	}
	g_variant_take_ref(value);
	/* On the bus a limit and the end of all limits cannot be said at once. */
	if (*slot && p->kind == RESOURCE_PROPERTY_LIMITS &&
	    (g_variant_n_children(*slot) == 0) != (g_variant_n_children(value) == 0)) {
		client_complain("property '%s' is emptied and set at once", p->setting);
		g_variant_unref(value);
		return EXIT_USAGE;
	}
	g_clear_pointer(slot, g_variant_unref);
	*slot = value;
	return EXIT_OK;
}

int properties_parse(const char *const *words, size_t n, GVariant **ret)
{
	g_autofree GVariant **values = g_new0(GVariant *, n_resource_properties);
	g_autoptr(GVariant) list = NULL;
	GVariantBuilder builder;
	int r = EXIT_OK;

	for (size_t i = 0; r == EXIT_OK && i < n; i++)
		r = parse_word(words[i], values);
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sv)"));
	for (size_t i = 0; i < n_resource_properties; i++) {
		if (!values[i])
			continue;
		g_variant_builder_add(&builder, "(sv)", resource_properties[i].name, values[i]);
		g_variant_unref(values[i]);
	}
	list = g_variant_ref_sink(g_variant_builder_end(&builder));
	if (r == EXIT_OK)
		*ret = g_steal_pointer(&list);
	return r;
}

void properties_print_help(void)
{
	for (size_t i = 0; i < n_resource_properties; i++)
		printf("  %s=%s\n", resource_properties[i].setting,
		       forms[resource_properties[i].kind].form);
}

int verb_set_property(struct client *c, const struct arguments *a)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	const char *vm = a->positional[0];
	g_autoptr(GVariant) list = NULL;
	int r;

	r = properties_parse((const char *const *)a->positional + 1, (size_t)a->n_positional - 1,
			     &list);
	if (r == EXIT_OK)
		r = client_vm_call(c, vm, "SetResourceProperties", &m);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "b", (int)a->runtime);
	if (r >= 0)
		r = variant_append(m, list);
	if (r >= 0)
		r = sd_bus_message_append(m, "a{sv}", 0);
	return r < 0 ? client_report(c, vm, r, NULL) : client_call(c, vm, m, NULL);
}
