/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/client/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dbus/bus-path.h"
#include "dbus/client/output.h"
#include "dbus/client/verbs.h"
#include "dbus/variant.h"

#define PROPERTIES_INTERFACE     "org.freedesktop.DBus.Properties"
#define OBJECT_MANAGER_INTERFACE "org.freedesktop.DBus.ObjectManager"

/* The machine named by an object path or an argument of the body; free() it, NULL = none. */
static char *vm_of(const struct event *event)
{
	_cleanup_free_ char *path = NULL;
	char *name = NULL;
	const char *rest;

	/* a VM, or something below it */
	if (g_str_has_prefix(event->path, BRUME_VM_PATH_PREFIX "/")) {
		rest = event->path + strlen(BRUME_VM_PATH_PREFIX "/");
		path = strndup(event->path, (size_t)(rest - event->path) + strcspn(rest, "/"));
		return path && bus_path_parse_vm(path, &name) == 0 ? name : NULL;
	}
	for (size_t i = 0; i < g_variant_n_children(event->body); i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(event->body, i);

		if (g_variant_is_of_type(child, G_VARIANT_TYPE_OBJECT_PATH) &&
		    bus_path_parse_vm(g_variant_get_string(child, NULL), &name) == 0)
			return name;
	}
	return NULL;
}

bool event_is_about(const struct event *event, const char *vm)
{
	_cleanup_free_ char *name = vm_of(event);

	return !vm || (name && strcmp(name, vm) == 0);
}

/* PropertiesChanged(s interface, a{sv} changed, as invalidated): "State=running MainPID=17" */
static void append_changes(GString *line, GVariant *body)
{
	g_autoptr(GVariant) changed = g_variant_get_child_value(body, 1);
	GVariant *value;
	GVariantIter iter;
	const char *key;

	g_variant_iter_init(&iter, changed);
	while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
		g_autofree char *text = format_value(value);

		g_string_append_printf(line, " %s=%s", key, text);
	}
}

/*
 * InterfacesAdded(o, a{sa{sv}}), InterfacesRemoved(o, as): the object and its interfaces; the
 * properties are what `brumectl show` is for, and every object has the standard interfaces.
 */
static void append_interfaces(GString *line, GVariant *body)
{
	g_autoptr(GVariant) object = g_variant_get_child_value(body, 0);
	g_autoptr(GVariant) list = g_variant_get_child_value(body, 1);

	g_string_append_printf(line, " %s", g_variant_get_string(object, NULL));
	for (size_t i = 0; i < g_variant_n_children(list); i++) {
		g_autoptr(GVariant) entry = g_variant_get_child_value(list, i);
		g_autoptr(GVariant) name = g_variant_is_container(entry)
						   ? g_variant_get_child_value(entry, 0)
						   : g_variant_ref(entry);

		if (!g_str_has_prefix(g_variant_get_string(name, NULL), "org.freedesktop.DBus."))
			g_string_append_printf(line, " %s", g_variant_get_string(name, NULL));
	}
}

static void append_arguments(GString *line, GVariant *body)
{
	for (size_t i = 0; i < g_variant_n_children(body); i++) {
		g_autoptr(GVariant) child = g_variant_get_child_value(body, i);
		g_autofree char *text = format_value(child);

		g_string_append_printf(line, " %s", text[0] ? text : "\"\"");
	}
}

char *event_to_text(const struct event *event)
{
	_cleanup_free_ char *vm = vm_of(event);
	GString *line = g_string_new(NULL);
	uint32_t job;

	if (vm)
		g_string_append_printf(line, "%s ", vm);
	else if (bus_path_parse_job(event->path, &job) == 0)
		g_string_append_printf(line, "job/%u ", job);
	else
		g_string_append(line, "- ");

	g_string_append(line, event->member);
	if (strcmp(event->interface, PROPERTIES_INTERFACE) == 0 &&
	    g_variant_is_of_type(event->body, G_VARIANT_TYPE("(sa{sv}as)")))
		append_changes(line, event->body);
	else if (strcmp(event->interface, OBJECT_MANAGER_INTERFACE) == 0 &&
		 (g_variant_is_of_type(event->body, G_VARIANT_TYPE("(oa{sa{sv}})")) ||
		  g_variant_is_of_type(event->body, G_VARIANT_TYPE("(oas)"))))
		append_interfaces(line, event->body);
	else
		append_arguments(line, event->body);
	return g_string_free(line, FALSE);
}

GVariant *event_to_json(const struct event *event)
{
	_cleanup_free_ char *vm = vm_of(event);
	GVariantBuilder b;

	g_variant_builder_init(&b, G_VARIANT_TYPE_VARDICT);
	g_variant_builder_add(&b, "{sv}", "timestamp", g_variant_new_uint64(event->usec));
	if (vm)
		g_variant_builder_add(&b, "{sv}", "vm", g_variant_new_string(vm));
	g_variant_builder_add(&b, "{sv}", "path", g_variant_new_string(event->path));
	g_variant_builder_add(&b, "{sv}", "interface", g_variant_new_string(event->interface));
	g_variant_builder_add(&b, "{sv}", "signal", g_variant_new_string(event->member));
	g_variant_builder_add(&b, "{sv}", "arguments", event->body);
	return g_variant_builder_end(&b);
}

struct watch {
	struct client *client;
	const char *vm;
};

/* All values of a message as one tuple; NULL when one cannot be shown. */
static GVariant *read_body(sd_bus_message *m)
{
	const char *type = sd_bus_message_get_signature(m, 1), *next = type;
	GVariantBuilder b;

	g_variant_builder_init(&b, G_VARIANT_TYPE_TUPLE);
	for (; *type; type = next) {
		g_autofree char *one = NULL;
		g_autoptr(GVariant) value = NULL;

		if (g_variant_type_string_scan(type, NULL, &next))
			one = g_strndup(type, (size_t)(next - type));
		if (!one || variant_from_message(m, one, &value, NULL) < 0) {
			g_variant_builder_clear(&b);
			return NULL;
		}
		g_variant_builder_add_value(&b, value);
	}
	return g_variant_ref_sink(g_variant_builder_end(&b));
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *ret)
{
	g_autoptr(GVariant) body = read_body(m);
	struct watch *w = userdata;
	struct event event = {
		.usec = (uint64_t)g_get_real_time(),
		.path = sd_bus_message_get_path(m),
		.interface = sd_bus_message_get_interface(m),
		.member = sd_bus_message_get_member(m),
		.body = body,
	};

	(void)ret;
	if (!body || !event.path || !event.interface || !event_is_about(&event, w->vm))
		return 0;
	if (w->client->json) {
		print_json(event_to_json(&event), false);
	} else {
		g_autofree char *line = event_to_text(&event);
		char when[40];

		printf("%s %s\n", format_time(event.usec, when), line);
	}
	fflush(stdout);
	return 0;
}

int verb_events(struct client *c, const struct arguments *a)
{
	struct watch w = { c, a->n_positional > 0 ? a->positional[0] : NULL };
	uint64_t end = UINT64_MAX, now;
	int r;

	r = client_connect(c);
	if (r != EXIT_OK)
		return r;
	r = sd_bus_add_match(c->bus, NULL,
			     "type='signal',sender='" BRUME_BUS_NAME
			     "',path_namespace='" BRUME_ROOT_PATH "'",
			     on_signal, &w);
	if (a->has_timeout && a->timeout_usec != UINT64_MAX)
		end = (uint64_t)g_get_monotonic_time() + a->timeout_usec;
	while (r >= 0 && !ferror(stdout)) {
		r = sd_bus_process(c->bus, NULL);
		if (r != 0)
			continue;
		now = (uint64_t)g_get_monotonic_time();
		if (now >= end)
			return EXIT_OK;
		r = sd_bus_wait(c->bus, end == UINT64_MAX ? UINT64_MAX : end - now);
		if (r == -EINTR)
			r = 0;
	}
	if (r < 0)
		return client_report(c, NULL, r, NULL);
	client_complain("cannot write the output");
	return EXIT_FAILED;
}
