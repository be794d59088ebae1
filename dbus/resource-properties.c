/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/resource-properties.h"

#include "vmm/base/err.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define MASK_BYTES_CPUS  1024 /* 8192 processors, what the kernel can be built for */
#define MASK_BYTES_NODES 128  /* 1024 nodes, likewise */
#define LIMITS_MAX       64   /* devices of one property */

#define I RESOURCE_PROPERTY_INFINITY
#define U (RESOURCE_PROPERTY_INFINITY | RESOURCE_PROPERTY_UNSET)
#define A RESOURCE_PROPERTY_AT_START
#define S RESOURCE_PROPERTY_SYSTEM

/* The longest values that are not UINT64_MAX; systemd has no limit of its own. */
#define ANY  (UINT64_MAX - 1)
#define USEC (UINT64_C(1000000))

const struct resource_property resource_properties[] = {
	{ "MemoryMin", "MemoryMin", RESOURCE_PROPERTY_BYTES, I, 0, ANY, 1024 },
	{ "MemoryLow", "MemoryLow", RESOURCE_PROPERTY_BYTES, I, 0, ANY, 1024 },
	{ "MemoryHigh", "MemoryHigh", RESOURCE_PROPERTY_BYTES, U, 1, ANY, 1024 },
	{ "MemoryMax", "MemoryMax", RESOURCE_PROPERTY_BYTES, U, 1, ANY, 1024 },
	{ "MemorySwapMax", "MemorySwapMax", RESOURCE_PROPERTY_BYTES, U, 0, ANY, 1024 },
	/* 0 is "idle": processors only while nobody else of the slice wants them */
	{ "CPUWeight", "CPUWeight", RESOURCE_PROPERTY_WEIGHT, U, 0, 10000, 0 },
	{ "StartupCPUWeight", "StartupCPUWeight", RESOURCE_PROPERTY_WEIGHT, U, 0, 10000, 0 },
	/* systemd writes whole percents: less than one is no limit at all after a daemon-reload */
	{ "CPUQuotaPerSecUSec", "CPUQuota", RESOURCE_PROPERTY_QUOTA, U, 10000, ANY, 0 },
	/* the kernel's range, into which systemd moves other values without a word */
	{ "CPUQuotaPeriodUSec", "CPUQuotaPeriodSec", RESOURCE_PROPERTY_USEC, U, 1000, USEC, 0 },
	{ "AllowedCPUs", "AllowedCPUs", RESOURCE_PROPERTY_MASK, S, 0, MASK_BYTES_CPUS, 0 },
	{ "AllowedMemoryNodes", "AllowedMemoryNodes", RESOURCE_PROPERTY_MASK, S, 0,
	  MASK_BYTES_NODES, 0 },
	{ "IOWeight", "IOWeight", RESOURCE_PROPERTY_WEIGHT, S | U, 1, 10000, 0 },
	/* systemd's bus takes 0, its unit files do not */
	{ "IOReadBandwidthMax", "IOReadBandwidthMax", RESOURCE_PROPERTY_LIMITS, S | I, 1, ANY,
	  1000 },
	{ "IOWriteBandwidthMax", "IOWriteBandwidthMax", RESOURCE_PROPERTY_LIMITS, S | I, 1, ANY,
	  1000 },
	{ "IOReadIOPSMax", "IOReadIOPSMax", RESOURCE_PROPERTY_LIMITS, S | I, 1, ANY, 1000 },
	{ "IOWriteIOPSMax", "IOWriteIOPSMax", RESOURCE_PROPERTY_LIMITS, S | I, 1, ANY, 1000 },
	{ "TasksMax", "TasksMax", RESOURCE_PROPERTY_COUNT, I, 1, ANY, 0 },
	{ "Nice", "Nice", RESOURCE_PROPERTY_NUMBER, S | A, -20, 19, 0 },
	{ "OOMScoreAdjust", "OOMScoreAdjust", RESOURCE_PROPERTY_NUMBER, S | A, -1000, 1000, 0 },
	/* how long the guest has when its unit, or the host, is stopped */
	{ "TimeoutStopUSec", "TimeoutStopSec", RESOURCE_PROPERTY_USEC, I | A, (int64_t)USEC, ANY,
	  0 },
};
const size_t n_resource_properties = ARRAY_SIZE(resource_properties);

const struct resource_property *resource_property_find(const char *name)
{
	for (size_t i = 0; i < n_resource_properties; i++)
		if (strcmp(resource_properties[i].name, name) == 0)
			return &resource_properties[i];
	return NULL;
}

const char *resource_property_type(const struct resource_property *property)
{
	switch (property->kind) {
	case RESOURCE_PROPERTY_NUMBER:
		return "i";
	case RESOURCE_PROPERTY_MASK:
		return "ay";
	case RESOURCE_PROPERTY_LIMITS:
		return "a(st)";
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return "t";
}

bool resource_property_is_unset(const struct resource_property *property, GVariant *value)
{
	switch (property->kind) {
	case RESOURCE_PROPERTY_NUMBER:
		return false;
	case RESOURCE_PROPERTY_MASK:
	case RESOURCE_PROPERTY_LIMITS:
		return g_variant_n_children(value) == 0;
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return property->flags & RESOURCE_PROPERTY_UNSET &&
	       g_variant_get_uint64(value) == UINT64_MAX;
}

/* The value of a name, a new reference. */
static GVariant *lookup(GVariant *set, const char *name)
{
	GVariantIter iter;
	const char *key;
	GVariant *value;

	if (!set)
		return NULL;
	g_variant_iter_init(&iter, set);
	while (g_variant_iter_next(&iter, "(&sv)", &key, &value)) {
		if (strcmp(key, name) == 0)
			return value;
		g_variant_unref(value);
	}
	return NULL;
}

bool resource_properties_have(GVariant *set, const char *name)
{
	g_autoptr(GVariant) value = lookup(set, name);

	return value != NULL;
}

/* NULL instead of an empty list. */
static GVariant *finish(GVariantBuilder *builder)
{
	g_autoptr(GVariant) set = g_variant_ref_sink(g_variant_builder_end(builder));

	return g_variant_n_children(set) ? g_steal_pointer(&set) : NULL;
}

static int unknown(const char *name, struct err *err)
{
	g_autoptr(GString) all = g_string_new(NULL);

	for (size_t i = 0; i < n_resource_properties; i++)
		g_string_append_printf(all, "%s%s", i ? ", " : "", resource_properties[i].name);
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "property '%.40s' is not one that a VM can be given, must be one of %s",
			 name, all->str);
}

static int check_uint(const struct resource_property *p, uint64_t value, const char *of,
		      struct err *err)
{
	g_autofree char * or = NULL;

	if ((value >= (uint64_t)p->min && value <= p->max) ||
	    (value == UINT64_MAX && p->flags & RESOURCE_PROPERTY_INFINITY))
		return 0;
	or = g_strdup_printf("%" PRIu64 " for %s", UINT64_MAX,
			     p->kind == RESOURCE_PROPERTY_WEIGHT ? "none of its own" : "infinity");
	if (p->max == ANY)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "property '%s': %" PRIu64 "%s is out of range, must be at least "
				 "%" PRId64 ", or %s",
				 p->name, value, of, p->min, or);
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "property '%s': %" PRIu64 "%s is out of range, must be from %" PRId64
			 " to %" PRIu64 ", or %s",
			 p->name, value, of, p->min, p->max, or);
}

static int check_number(const struct resource_property *p, int32_t value, bool user,
			struct err *err)
{
	if (value < p->min || value > (int64_t)p->max)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "property '%s': %d is out of range, must be from %" PRId64
				 " to %" PRIu64,
				 p->name, value, p->min, p->max);
	if (user && value < 0)
		return err_fault(
			err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			"property '%s': %d is not possible for the VMs of a user, must not "
			"be negative",
			p->name, value);
	return 0;
}

static int check_mask(const struct resource_property *p, GVariant *value, struct err *err)
{
	const uint8_t *bytes;
	size_t n;

	bytes = g_variant_get_fixed_array(value, &n, 1);
	if (n > p->max)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "property '%s': the mask has %zu bytes, at most %" PRIu64
				 " are allowed",
				 p->name, n, p->max);
	for (size_t i = 0; i < n; i++)
		if (bytes[i])
			return 0;
	if (n == 0)
		return 0;
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "property '%s': the mask of %zu bytes has no bit set, must name at least "
			 "one, or have no bytes for all of them",
			 p->name, n);
}

/*
 * systemd writes the path into a unit file as it is: whatever ends a line or a
 * word there, or stands for something else, would become another setting.
 */
static bool path_is_safe(const char *path)
{
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *p = path; *p; p++) {
		if ((unsigned char)*p <= ' ' || strchr("\"'\\%\177", *p))
			return false;
		if (*p != '/')
			continue;
		if (p[1] == '/' || (p[1] == '\0' && p != path))
			return false;
		if (p[1] == '.' &&
		    (p[2] == '/' || p[2] == '\0' || (p[2] == '.' && (p[3] == '/' || p[3] == '\0'))))
			return false;
	}
	return true;
}

static int check_limits(const struct resource_property *p, GVariant *value, struct err *err)
{
	size_t n = g_variant_n_children(value);

	if (n > LIMITS_MAX)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "property '%s': %zu devices are too many, at most %d are allowed",
				 p->name, n, LIMITS_MAX);
	for (size_t i = 0; i < n; i++) {
		g_autofree char *of = NULL;
		const char *path, *other;
		guint64 limit;
		int r;

		g_variant_get_child(value, i, "(&st)", &path, &limit);
		if (!path_is_safe(path))
			return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
					 "property '%s': '%.200s' is not usable as a path, must be "
					 "absolute, without '.', '..' and '//', without spaces, "
					 "quotes, '\\' and '%%'",
					 p->name, path);
		for (size_t j = 0; j < i; j++) {
			g_variant_get_child(value, j, "(&st)", &other, NULL);
			if (strcmp(path, other) == 0)
				return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
						 "property '%s': '%.200s' is given twice, must be "
						 "there once",
						 p->name, path);
		}
		of = g_strdup_printf(" for '%.200s'", path);
		r = check_uint(p, limit, of, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_value(const struct resource_property *p, GVariant *value, bool user,
		       struct err *err)
{
	if (!g_variant_is_of_type(value, G_VARIANT_TYPE(resource_property_type(p))))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "property '%s' has type '%.40s', must be '%s'", p->name,
				 g_variant_get_type_string(value), resource_property_type(p));
	if (p->kind == RESOURCE_PROPERTY_NUMBER)
		return check_number(p, g_variant_get_int32(value), user, err);
	if (user && p->flags & RESOURCE_PROPERTY_SYSTEM)
		return err_fault(
			err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			"property '%s' has no effect on the VMs of a user: the systemd of a "
			"session has no controller for it",
			p->name);
	switch (p->kind) {
	case RESOURCE_PROPERTY_MASK:
		return check_mask(p, value, err);
	case RESOURCE_PROPERTY_LIMITS:
		return check_limits(p, value, err);
	case RESOURCE_PROPERTY_NUMBER:
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return check_uint(p, g_variant_get_uint64(value), "", err);
}

int resource_properties_check(GVariant *list, bool user, GVariant **ret, struct err *err)
{
	GVariant *values[ARRAY_SIZE(resource_properties)] = { 0 };
	GVariantBuilder builder;
	GVariantIter iter;
	const char *name;
	GVariant *value;
	int r = 0;

	g_variant_iter_init(&iter, list);
	while (r == 0 && g_variant_iter_next(&iter, "(&sv)", &name, &value)) {
		const struct resource_property *p = resource_property_find(name);

		if (!p)
			r = unknown(name, err);
		else if (values[p - resource_properties])
			r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				      "property '%s' is given twice", name);
		else
			r = check_value(p, value, user, err);
		if (r == 0)
			values[p - resource_properties] = value;
		else
			g_variant_unref(value);
	}
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sv)"));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		if (!values[i])
			continue;
		g_variant_builder_add(&builder, "(sv)", resource_properties[i].name, values[i]);
		g_variant_unref(values[i]);
	}
	if (r < 0)
		g_variant_builder_clear(&builder);
	else
		*ret = finish(&builder);
	return r;
}

/* Both are a(st).  systemd takes an empty list for "no limits", others device by device. */
static GVariant *merge_limits(GVariant *base, GVariant *changes)
{
	g_autoptr(GHashTable) changed = g_hash_table_new(g_str_hash, g_str_equal);
	GVariantBuilder builder;
	GVariantIter iter;
	const char *path;
	guint64 limit;

	if (g_variant_n_children(changes) == 0)
		return g_variant_ref(changes);
	g_variant_iter_init(&iter, changes);
	while (g_variant_iter_next(&iter, "(&st)", &path, NULL))
		g_hash_table_add(changed, (gpointer)path);
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(st)"));
	if (base) {
		g_variant_iter_init(&iter, base);
		while (g_variant_iter_next(&iter, "(&st)", &path, &limit))
			if (!g_hash_table_contains(changed, path))
				g_variant_builder_add(&builder, "(st)", path, limit);
	}
	g_variant_iter_init(&iter, changes);
	while (g_variant_iter_next(&iter, "(&st)", &path, &limit))
		if (limit != UINT64_MAX)
			g_variant_builder_add(&builder, "(st)", path, limit);
	return g_variant_ref_sink(g_variant_builder_end(&builder));
}

GVariant *resource_properties_merge(GVariant *base, GVariant *changes)
{
	GVariantBuilder builder;

	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sv)"));
	for (size_t i = 0; i < n_resource_properties; i++) {
		const struct resource_property *p = &resource_properties[i];
		g_autoptr(GVariant) before = lookup(base, p->name);
		g_autoptr(GVariant) change = lookup(changes, p->name), after = NULL;

		if (change && p->kind == RESOURCE_PROPERTY_LIMITS)
			after = merge_limits(before, change);
		else if (change)
			after = g_steal_pointer(&change);
		else
			after = g_steal_pointer(&before);
		if (after && !resource_property_is_unset(p, after))
			g_variant_builder_add(&builder, "(sv)", p->name, after);
	}
	return finish(&builder);
}

GVariant *resource_properties_live(GVariant *set)
{
	GVariantBuilder builder;

	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sv)"));
	for (size_t i = 0; i < n_resource_properties; i++) {
		const struct resource_property *p = &resource_properties[i];
		g_autoptr(GVariant) value = lookup(set, p->name);

		if (value && !(p->flags & RESOURCE_PROPERTY_AT_START))
			g_variant_builder_add(&builder, "(sv)", p->name, value);
	}
	return finish(&builder);
}

const struct resource_property *resource_properties_first_at_start(GVariant *set)
{
	for (size_t i = 0; i < n_resource_properties; i++)
		if (resource_properties[i].flags & RESOURCE_PROPERTY_AT_START &&
		    resource_properties_have(set, resource_properties[i].name))
			return &resource_properties[i];
	return NULL;
}

char *resource_properties_names(GVariant *set)
{
	g_autoptr(GString) names = g_string_new(NULL);
	GVariantIter iter;
	const char *name;

	if (set) {
		g_variant_iter_init(&iter, set);
		while (g_variant_iter_next(&iter, "(&sv)", &name, NULL))
			g_string_append_printf(names, "%s%s", names->len ? "\n" : "", name);
	}
	return g_string_free(g_steal_pointer(&names), FALSE);
}

GVariant *resource_mask_parse(const char *text, size_t max_bytes)
{
	g_autofree uint8_t *bytes = g_malloc0(max_bytes ? max_bytes : 1);
	uint64_t n_bits = 8 * (uint64_t)max_bytes;
	const char *p = text;
	size_t used = 0;

	while (*p) {
		guint64 first, last;
		char *end;

		if (!g_ascii_isdigit(*p))
			return NULL;
		first = last = g_ascii_strtoull(p, &end, 10);
		if (*end == '-') {
			p = end + 1;
			if (!g_ascii_isdigit(*p))
				return NULL;
			last = g_ascii_strtoull(p, &end, 10);
		}
		if (first > last || last >= n_bits)
			return NULL;
		for (guint64 bit = first; bit <= last; bit++)
			bytes[bit / 8] |= (uint8_t)(1U << bit % 8);
		used = MAX(used, (size_t)last / 8 + 1);
		p = end;
		if (*p == ',' || *p == ' ') {
			p++;
			if (!g_ascii_isdigit(*p)) /* nothing behind it */
				return NULL;
		}
	}
	return g_variant_ref_sink(g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, used, 1));
}

static char *mask_print(GVariant *value)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const uint8_t *bytes;
	size_t n;

	bytes = g_variant_get_fixed_array(value, &n, 1);
	for (size_t i = 0; i < 8 * n; i++) {
		size_t last = i;

		if (!(bytes[i / 8] & 1U << i % 8))
			continue;
		while (last + 1 < 8 * n && bytes[(last + 1) / 8] & 1U << (last + 1) % 8)
			last++;
		g_string_append_printf(text, "%s%zu", text->len ? "," : "", i);
		if (last > i)
			g_string_append_printf(text, "-%zu", last);
		i = last;
	}
	return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Not 18446744073709551615, which is a number that people take for a mistake. */
static GVariant *uint_to_json(uint64_t value)
{
	return value == UINT64_MAX ? g_variant_new_string("infinity") : g_variant_new_uint64(value);
}

static GVariant *limits_to_json(GVariant *value)
{
	GVariantBuilder dict;
	GVariantIter iter;
	const char *path;
	guint64 limit;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	g_variant_iter_init(&iter, value);
	while (g_variant_iter_next(&iter, "(&st)", &path, &limit))
		g_variant_builder_add(&dict, "{sv}", path, uint_to_json(limit));
	return g_variant_builder_end(&dict);
}

static GVariant *value_to_json(const struct resource_property *p, GVariant *value)
{
	switch (p->kind) {
	case RESOURCE_PROPERTY_NUMBER:
		return g_variant_new_int64(g_variant_get_int32(value));
	case RESOURCE_PROPERTY_MASK:
		return g_variant_new_take_string(mask_print(value));
	case RESOURCE_PROPERTY_LIMITS:
		return limits_to_json(value);
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return uint_to_json(g_variant_get_uint64(value));
}

GVariant *resource_properties_to_json(GVariant *set)
{
	GVariantBuilder dict;
	GVariantIter iter;
	const char *name;
	GVariant *value;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	if (set) {
		g_variant_iter_init(&iter, set);
		while (g_variant_iter_loop(&iter, "(&sv)", &name, &value))
			g_variant_builder_add(&dict, "{sv}", name,
					      value_to_json(resource_property_find(name), value));
	}
	return g_variant_builder_end(&dict);
}

/* What config_json_parse() makes of a number, or "infinity". */
static bool uint_from_json(GVariant *json, uint64_t *ret)
{
	if (g_variant_is_of_type(json, G_VARIANT_TYPE_UINT64))
		*ret = g_variant_get_uint64(json);
	else if (g_variant_is_of_type(json, G_VARIANT_TYPE_INT64) && g_variant_get_int64(json) >= 0)
		*ret = (uint64_t)g_variant_get_int64(json);
	else if (g_variant_is_of_type(json, G_VARIANT_TYPE_STRING) &&
		 strcmp(g_variant_get_string(json, NULL), "infinity") == 0)
		*ret = UINT64_MAX;
	else
		return false;
	return true;
}

static GVariant *limits_from_json(GVariant *json)
{
	GVariantBuilder builder;
	GVariantIter iter;
	const char *path;
	GVariant *limit;

	if (!g_variant_is_of_type(json, G_VARIANT_TYPE_VARDICT))
		return NULL;
	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(st)"));
	g_variant_iter_init(&iter, json);
	while (g_variant_iter_next(&iter, "{&sv}", &path, &limit)) {
		bool good;
		uint64_t value;

		good = uint_from_json(limit, &value);
		g_variant_unref(limit);
		if (!good) {
			g_variant_builder_clear(&builder);
			return NULL;
		}
		g_variant_builder_add(&builder, "(st)", path, value);
	}
	return g_variant_builder_end(&builder);
}

/* Floating, NULL when it is nothing that value_to_json() makes. */
static GVariant *value_from_json(const struct resource_property *p, GVariant *json)
{
	uint64_t value;
	int64_t number;

	switch (p->kind) {
	case RESOURCE_PROPERTY_NUMBER:
		if (!g_variant_is_of_type(json, G_VARIANT_TYPE_INT64))
			return NULL;
		number = g_variant_get_int64(json);
		return number < INT32_MIN || number > INT32_MAX
			       ? NULL
			       : g_variant_new_int32((int32_t)number);
	case RESOURCE_PROPERTY_MASK:
		return g_variant_is_of_type(json, G_VARIANT_TYPE_STRING)
			       ? resource_mask_parse(g_variant_get_string(json, NULL),
						     (size_t)p->max)
			       : NULL;
	case RESOURCE_PROPERTY_LIMITS:
		return limits_from_json(json);
	case RESOURCE_PROPERTY_BYTES:
	case RESOURCE_PROPERTY_WEIGHT:
	case RESOURCE_PROPERTY_QUOTA:
	case RESOURCE_PROPERTY_USEC:
	case RESOURCE_PROPERTY_COUNT:
		break;
	}
	return uint_from_json(json, &value) ? g_variant_new_uint64(value) : NULL;
}

int resource_properties_from_json(GVariant *dict, GVariant **ret, struct err *err)
{
	g_autoptr(GVariant) list = NULL;
	GVariantBuilder builder;
	GVariantIter iter;
	const char *name;
	GVariant *json;
	int r = 0;

	g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sv)"));
	g_variant_iter_init(&iter, dict);
	while (r == 0 && g_variant_iter_next(&iter, "{&sv}", &name, &json)) {
		const struct resource_property *p = resource_property_find(name);
		g_autoptr(GVariant) value = p ? value_from_json(p, json) : NULL;

		if (value)
			g_variant_take_ref(value);
		if (!p)
			r = unknown(name, err);
		else if (!value)
			r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				      "property '%s' is not of the kind that belongs there", name);
		else
			g_variant_builder_add(&builder, "(sv)", name, value);
		g_variant_unref(json);
	}
	list = g_variant_ref_sink(g_variant_builder_end(&builder));
	return r < 0 ? r : resource_properties_check(list, false, ret, err);
}
