/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/definition.h"

#include "dbus/resource-properties.h"
#include "vmm/base/err.h"
#include "vmm/config/json.h"
#include <string.h>
#include <systemd/sd-id128.h>

void definition_deinit(struct definition *def)
{
	g_free(def->name);
	g_free(def->uuid);
	g_free(def->description);
	g_free(def->slice);
	g_free(def->config);
	g_clear_pointer(&def->properties, g_variant_unref);
	given_fds_deinit(&def->fds);
	*def = (struct definition){ 0 };
}

int vm_name_check(const char *name, struct err *err)
{
	size_t len = strlen(name);
	char before = '.'; /* a label starts here */

	if (len == 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "the name of a VM is empty");
	if (len > VM_NAME_MAX) {
		g_autofree char *shown =
			g_utf8_substring(name, 0, MIN(g_utf8_strlen(name, -1), 40));

		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM name '%s...' has %zu bytes, at most %d are allowed", shown,
				 len, VM_NAME_MAX);
	}
	for (const char *p = name; *p; p++) {
		bool edge = before == '.' || p[1] == '.' || p[1] == '\0';

		if (!g_ascii_isalnum(*p) && !((*p == '-' || *p == '_') && !edge) &&
		    !(*p == '.' && before != '.' && p[1] != '\0'))
			return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
					 "VM name '%s' is not a host name: letters, digits, and "
					 "inside of it '-', '_' and '.'",
					 name);
		before = *p;
	}
	return 0;
}

int vm_description_check(const char *description, struct err *err)
{
	size_t len = strlen(description);

	if (len <= VM_DESCRIPTION_MAX)
		return 0;
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "the description of a VM has %zu bytes, at most %d are allowed", len,
			 VM_DESCRIPTION_MAX);
}

int uuid_normalise(const char *text, char ret[static 37], struct err *err)
{
	sd_id128_t id;

	if (sd_id128_from_string(text, &id) < 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "'%s' is not a UUID, must look like "
				 "'12345678-9abc-def0-1234-56789abcdef0'",
				 text);
	sd_id128_to_uuid_string(id, ret);
	return 0;
}

static int take_object(GVariant *value, GVariant **ret, struct err *err)
{
	if (!g_variant_is_of_type(value, G_VARIANT_TYPE_VARDICT))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/: the JSON text must be an object");
	*ret = g_variant_ref(value);
	return 0;
}

int json_object_parse(const char *text, GVariant **ret, struct err *err)
{
	g_autoptr(GVariant) value = NULL;
	int r;

	r = config_json_parse(text, strlen(text), &value, err);
	return r < 0 ? r : take_object(value, ret, err);
}

int json_object_parse_max(const char *text, size_t max, GVariant **ret, struct err *err)
{
	g_autoptr(GVariant) value = NULL;
	int r;

	r = config_json_parse_max(text, strlen(text), max, &value, err);
	return r < 0 ? r : take_object(value, ret, err);
}

char *dict_dup_string(GVariant *dict, const char *key)
{
	char *s = NULL;

	g_variant_lookup(dict, key, "s", &s);
	return s;
}

bool dict_get_bool(GVariant *dict, const char *key, bool fallback)
{
	gboolean b = fallback;

	g_variant_lookup(dict, key, "b", &b);
	return b;
}

uint64_t dict_get_uint(GVariant *dict, const char *key, uint64_t fallback)
{
	guint64 t;
	gint64 x;
	guint32 u;

	if (g_variant_lookup(dict, key, "t", &t))
		return t;
	if (g_variant_lookup(dict, key, "x", &x) && x >= 0)
		return (uint64_t)x;
	if (g_variant_lookup(dict, key, "u", &u))
		return u;
	return fallback;
}

void dict_add(GVariantBuilder *dict, const char *key, const char *format, ...)
{
	GVariant *value;
	va_list ap;

	va_start(ap, format);
	value = g_variant_new_va(format, NULL, &ap);
	va_end(ap);
	dict_add_value(dict, key, value);
}

void dict_add_value(GVariantBuilder *dict, const char *key, GVariant *value)
{
	g_variant_builder_add(dict, "{sv}", key, value);
}

int definition_save(const struct definition *def, GVariantBuilder *dict, struct err *err)
{
	g_autoptr(GVariant) config = NULL;
	int r;

	r = json_object_parse(def->config, &config, err);
	if (r < 0)
		return r;
	dict_add(dict, "name", "s", def->name);
	dict_add(dict, "uuid", "s", def->uuid);
	dict_add(dict, "owner", "t", (guint64)def->owner);
	dict_add(dict, "persistent", "b", def->persistent);
	dict_add(dict, "autostart", "b", def->autostart);
	dict_add(dict, "description", "s", def->description ? def->description : "");
	if (def->slice)
		dict_add(dict, "slice", "s", def->slice);
	if (def->properties)
		dict_add_value(dict, "resource-properties",
			       resource_properties_to_json(def->properties));
	dict_add_value(dict, "config", config);
	return 0;
}

static int load_properties(GVariant *dict, GVariant **ret, struct err *err)
{
	g_autoptr(GVariant) value = g_variant_lookup_value(dict, "resource-properties", NULL);

	if (!value)
		return 0;
	if (!g_variant_is_of_type(value, G_VARIANT_TYPE_VARDICT))
		return err_set(err, EBADMSG, "'resource-properties' is not an object");
	return resource_properties_from_json(value, ret, err);
}

int definition_load(GVariant *dict, struct definition *ret, struct err *err)
{
	_cleanup_(definition_deinit) struct definition def = { 0 };
	g_autoptr(GVariant) config = NULL;
	g_autofree char *uuid_text = dict_dup_string(dict, "uuid");
	uint64_t owner = dict_get_uint(dict, "owner", UINT64_MAX);
	char uuid[37];
	int r;

	def.name = dict_dup_string(dict, "name");
	if (!def.name || !uuid_text || owner >= UINT32_MAX)
		return err_set(err, EBADMSG, "'name', 'uuid' or 'owner' is missing or wrong");
	r = vm_name_check(def.name, err);
	if (r < 0)
		return r;
	r = uuid_normalise(uuid_text, uuid, err);
	if (r < 0)
		return r;
	config = g_variant_lookup_value(dict, "config", G_VARIANT_TYPE_VARDICT);
	if (!config)
		return err_set(err, EBADMSG, "'config' is missing or not an object");
	r = load_properties(dict, &def.properties, err);
	if (r < 0)
		return r;
	def.uuid = g_strdup(uuid);
	def.owner = (uid_t)owner;
	def.persistent = dict_get_bool(dict, "persistent", true);
	def.autostart = dict_get_bool(dict, "autostart", false);
	def.description = dict_dup_string(dict, "description");
	def.slice = dict_dup_string(dict, "slice");
	def.config = config_json_print(config, CONFIG_JSON_COMPACT);
	*ret = def;
	def = (struct definition){ 0 };
	return 0;
}
