/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/edit.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/tables.h"

/*
 * Element i of the networks becomes element n.  In the worker its tap is the pointer of its
 * place (vm_config_strip_resources()), and must be that of its new one: no name of an
 * interface looks so, and as another network's it would be refused.
 */
static GVariant *move_up(GVariant *network, size_t i, size_t n)
{
	g_autofree char *old = g_strdup_printf("/net/%zu/tap", i);
	g_autofree char *moved = g_strdup_printf("/net/%zu/tap", n);
	const char *tap = NULL;
	GVariantDict dict;

	g_variant_lookup(network, "tap", "&s", &tap);
	if (i == n || g_strcmp0(tap, old) != 0)
		return g_variant_ref(network);
	g_variant_dict_init(&dict, network);
	g_variant_dict_insert(&dict, "tap", "s", moved);
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* The list without element `without` (or all of it), and then `with`, which may be NULL. */
static GVariant *edit_list(GVariant *list, bool networks, size_t without, GVariant *with,
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
			g_autoptr(GVariant) moved =
				networks ? move_up(element, i, n) : g_variant_ref(element);

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
		g_variant_dict_insert_value(&dict, key,
					    edit_list(section, strcmp(key, "net") == 0, without,
						      with, &n));
	else if (with)
		g_variant_dict_insert_value(&dict, key, with);
	else
		g_variant_dict_remove(&dict, key);
	edited = g_variant_ref_sink(g_variant_dict_end(&dict));
	*ret_index = n;
	return vm_config_parse(edited, ret, err);
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
