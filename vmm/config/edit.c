/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/edit.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/tables.h"

GVariant *vm_config_element(GVariant *all, const char *key, size_t index)
{
	g_autoptr(GVariant) section = g_variant_lookup_value(all, key, NULL);

	if (section && g_variant_is_of_type(section, G_VARIANT_TYPE_VARDICT))
		return g_steal_pointer(&section);
	if (section && g_variant_is_of_type(section, G_VARIANT_TYPE("aa{sv}")) &&
	    index < g_variant_n_children(section))
		return g_variant_get_child_value(section, index);
	return g_variant_ref_sink(g_variant_new("a{sv}", NULL));
}

/* "/disks/3/path" of this list and field */
static bool is_pointer(const char *text, const char *key, const char *field)
{
	size_t len = strlen(key), digits;

	if (text[0] != '/' || strncmp(text + 1, key, len) != 0 || text[len + 1] != '/')
		return false;
	text += len + 2;
	digits = strspn(text, "0123456789");
	return digits > 0 && text[digits] == '/' && strcmp(text + digits + 1, field) == 0;
}

GVariant *vm_config_place_element(const char *key, GVariant *element, size_t index)
{
	const struct config_field *row = config_find(&vm_table, key, false);
	GVariantDict dict;

	g_variant_dict_init(&dict, element);
	for (size_t i = 0; row && row->kind == CONFIG_LIST && i < row->table->n_fields; i++) {
		const struct config_field *field = &row->table->fields[i];
		g_autofree char *pointer = g_strdup_printf("/%s/%zu/%s", key, index, field->key);
		const char *text;

		if (field->flags & CONFIG_RESOURCE && field->kind == CONFIG_STRING &&
		    g_variant_lookup(element, field->key, "&s", &text) &&
		    is_pointer(text, key, field->key))
			g_variant_dict_insert(&dict, field->key, "s", pointer);
	}
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* The list without element `without` (or all of it), and then `with`, which may be NULL. */
static GVariant *edit_list(GVariant *list, const char *key, size_t without, GVariant *with,
			   size_t *ret_n)
{
	GVariantBuilder elements;
	GVariantIter iter;
	GVariant *element;
	size_t n = 0;

	g_variant_builder_init(&elements, G_VARIANT_TYPE("aa{sv}"));
	if (list)
		g_variant_iter_init(&iter, list);
	for (size_t i = 0; list && g_variant_iter_next(&iter, "@a{sv}", &element); i++) {
		if (i != without) {
			/* No interface is called so; a file may be, and the worker has taken its.
			 */
			g_autoptr(GVariant) moved =
				strcmp(key, "net") == 0 ? vm_config_place_element(key, element, n)
							: g_variant_ref(element);

			g_variant_builder_add_value(&elements, moved);
			n++;
		}
		g_variant_unref(element);
	}
	if (with)
		g_variant_builder_add_value(&elements, with);
	*ret_n = n;
	return g_variant_builder_end(&elements);
}

static int edit(const struct vm_config *config, const char *key, size_t without, GVariant *with,
		struct vm_config **ret, size_t *ret_index, struct err *err)
{
	const struct config_field *row = config_find(&vm_table, key, false);
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(config));
	g_autoptr(GVariant) section = g_variant_lookup_value(all, key, NULL);
	g_autoptr(GVariant) edited = NULL;
	GVariantDict dict;
	size_t n = 0;

	assert(row); /* a key of device-list.h */
	g_variant_dict_init(&dict, all);
	if (row->kind == CONFIG_LIST)
		g_variant_dict_insert_value(&dict, key, edit_list(section, key, without, with, &n));
	else if (with)
		g_variant_dict_insert_value(&dict, key, with);
	else
		g_variant_dict_remove(&dict, key);
	edited = g_variant_ref_sink(g_variant_dict_end(&dict));
	*ret_index = n;
	return vm_config_parse(edited, ret, err);
}

size_t vm_config_count_devices(const struct vm_config *config, const char *key)
{
	const struct config_field *row = config_find(&vm_table, key, false);

	return row && row->kind == CONFIG_LIST ? config_list_count(row, config) : 0;
}

int vm_config_with_device(const struct vm_config *config, const char *key, GVariant *element,
			  struct vm_config **ret, size_t *ret_index, struct err *err)
{
	g_autoptr(GVariant) with = g_variant_ref_sink(element);

	return edit(config, key, SIZE_MAX, with, ret, ret_index, err);
}

int vm_config_without_device(const struct vm_config *config, const char *key, size_t index,
			     struct vm_config **ret, struct err *err)
{
	size_t n;

	return edit(config, key, index, NULL, ret, &n, err);
}

/* Element i of the list with these keys. */
static GVariant *overlay(GVariant *list, size_t index, GVariant *keys)
{
	GVariantBuilder elements;
	GVariantIter iter, of;
	GVariant *element, *value;
	const char *name;

	g_variant_builder_init(&elements, G_VARIANT_TYPE("aa{sv}"));
	g_variant_iter_init(&iter, list);
	for (size_t i = 0; g_variant_iter_next(&iter, "@a{sv}", &element); i++) {
		GVariantDict dict;

		g_variant_dict_init(&dict, element);
		g_variant_iter_init(&of, keys);
		while (i == index && g_variant_iter_next(&of, "{&sv}", &name, &value)) {
			g_variant_dict_insert_value(&dict, name, value);
			g_variant_unref(value);
		}
		g_variant_builder_add_value(&elements, g_variant_dict_end(&dict));
		g_variant_unref(element);
	}
	return g_variant_builder_end(&elements);
}

int vm_config_with_keys(const struct vm_config *config, const char *key, size_t index,
			GVariant *keys, struct vm_config **ret, struct err *err)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(config));
	g_autoptr(GVariant) list = g_variant_lookup_value(all, key, G_VARIANT_TYPE("aa{sv}"));
	g_autoptr(GVariant) edited = NULL;
	GVariantDict dict;

	assert(list && index < g_variant_n_children(list)); /* what the configuration lists */
	g_variant_dict_init(&dict, all);
	g_variant_dict_insert_value(&dict, key, overlay(list, index, keys));
	edited = g_variant_ref_sink(g_variant_dict_end(&dict));
	return vm_config_parse(edited, ret, err);
}
