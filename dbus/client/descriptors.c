/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <string.h>

#include "vmm/config/json.h"
#include "vmm/config/value.h"

/* The number that {"fd": "3"} names; -1: another object, or another kind of name. */
static int own_descriptor(GVariant *object)
{
	g_autoptr(GVariant) name = NULL, plain = NULL;
	guint64 number;

	if (g_variant_n_children(object) != 1)
		return -1;
	name = g_variant_lookup_value(object, "fd", NULL);
	plain = name ? config_value_unwrap(name) : NULL;
	if (!plain || !g_variant_is_of_type(plain, G_VARIANT_TYPE_STRING) ||
	    !g_ascii_string_to_unsigned(g_variant_get_string(plain, NULL), 10, 0, INT_MAX, &number,
					NULL))
		return -1;
	return (int)number;
}

/* The JSON parser has seen to the depth. */
static void collect(GVariant *value, GHashTable *numbers)
{
	g_autoptr(GVariant) plain = config_value_unwrap(value);
	int number;

	if (config_value_is_object(plain)) {
		number = own_descriptor(plain);
		if (number >= 0)
			g_hash_table_add(numbers, GINT_TO_POINTER(number));
	}
	for (gsize i = 0; g_variant_is_container(plain) && i < g_variant_n_children(plain); i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(plain, i);

		collect(child, numbers);
	}
}

int client_check_descriptor(const struct client *c, int fd)
{
	if (c->host) {
		client_complain("descriptor %d cannot go to another host", fd);
		return EXIT_USAGE;
	}
	if (fcntl(fd, F_GETFD) < 0) {
		client_complain("descriptor %d is not open, must be one that brumectl was started "
				"with",
				fd);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int append(const struct client *c, sd_bus_message *m, int number)
{
	g_autofree char *name = g_strdup_printf("%d", number);
	int r = client_check_descriptor(c, number);

	if (r != EXIT_OK)
		return r;
	r = sd_bus_message_append(m, "{sh}", name, number);
	return r < 0 ? client_report(c, NULL, r, NULL) : EXIT_OK;
}

int client_append_descriptors(const struct client *c, sd_bus_message *m, const char *definition)
{
	g_autoptr(GHashTable) numbers = g_hash_table_new(NULL, NULL);
	g_autoptr(GVariant) parsed = NULL;
	GHashTableIter iter;
	void *number;
	int r, status = EXIT_OK;

	/* What is wrong with the text is the service's to tell. */
	if (config_json_parse(definition, strlen(definition), &parsed, NULL) >= 0)
		collect(parsed, numbers);
	r = sd_bus_message_open_container(m, 'a', "{sh}");
	g_hash_table_iter_init(&iter, numbers);
	while (r >= 0 && status == EXIT_OK && g_hash_table_iter_next(&iter, &number, NULL))
		status = append(c, m, GPOINTER_TO_INT(number));
	if (r >= 0 && status == EXIT_OK)
		r = sd_bus_message_close_container(m);
	return r < 0 ? client_report(c, NULL, r, NULL) : status;
}
