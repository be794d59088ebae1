/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/console-paths.h"

#include "daemon/definition.h"
#include <string.h>

const char *console_paths_find(const struct console_paths *paths, const char *console)
{
	for (size_t i = 0; i < paths->n; i++)
		if (strcmp(paths->items[i].console, console) == 0)
			return paths->items[i].path;
	return "";
}

GVariant *console_paths_save(const struct console_paths *paths)
{
	GVariantBuilder dict;

	g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
	for (size_t i = 0; i < paths->n; i++)
		dict_add(&dict, paths->items[i].console, "s", paths->items[i].path);
	return g_variant_builder_end(&dict);
}

void console_paths_load(GVariant *dict, struct console_paths *ret)
{
	static const char *const consoles[] = { "serial", "console", "debug" };

	*ret = (struct console_paths){ 0 };
	for (size_t i = 0; dict && i < G_N_ELEMENTS(consoles); i++) {
		g_autofree char *path = dict_dup_string(dict, consoles[i]);
		struct console_path *item = &ret->items[ret->n];

		if (!path || !g_str_has_prefix(path, "/dev/pts/") ||
		    strlen(path) >= sizeof(item->path))
			continue;
		g_strlcpy(item->console, consoles[i], sizeof(item->console));
		g_strlcpy(item->path, path, sizeof(item->path));
		ret->n++;
	}
}
