/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/device-bus.h"

#include "daemon/device.h"
#include "daemon/manager.h"
#include "daemon/request.h"
#include "daemon/worker.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/service.h"
#include "dbus/variant.h"
#include "dbus/vm-plug-bus.h"
#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- org.brume.vm1.Device --- */

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
		    sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;
	const char *text = strcmp(property, "Id") == 0     ? dev->id
			   : strcmp(property, "Type") == 0 ? dev->type
			   : strcmp(property, "BDF") == 0  ? dev->bdf
			   : dev->ejecting                 ? "ejecting"
							   : "present";

	(void)bus, (void)path, (void)interface, (void)error;
	return sd_bus_message_append(reply, "s", text);
}

static int get_vm(sd_bus *bus, const char *path, const char *interface, const char *property,
		  sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;
	_cleanup_free_ char *vm = bus_path_vm(dev->vm->def.name);

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return vm ? sd_bus_message_append(reply, "o", vm) : -ENOMEM;
}

static int get_hotplugged(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	const struct machine_device *dev = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)dev->hotplugged);
}

static int get_removable(sd_bus *bus, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)config_device_is_removable(dev->key));
}

static int get_persistent(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error)
{
	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	return sd_bus_message_append(reply, "b", (int)machine_device_is_persistent(userdata));
}

/* The device's part of what the worker answers for the whole machine. */
static int reply_counters(sd_bus_message *call, const char *id, GVariant *all)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	g_autoptr(GVariant) counters = g_variant_lookup_value(all, id, G_VARIANT_TYPE("a{st}"));
	int r;

	if (!counters)
		counters = g_variant_ref_sink(g_variant_new("a{st}", NULL));
	r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = variant_append(reply, counters);
	return r < 0 ? r : sd_bus_message_send(reply);
}

static void on_counters(void *data, sd_bus_message *answer, const struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *call = data;
	_cleanup_free_ char *vm = NULL, *id = NULL;
	g_autoptr(GVariant) all = NULL;
	struct err bad = { 0 };
	int r;

	if (err) {
		bus_reply_err(call, err);
		return;
	}
	r = bus_path_parse_device(sd_bus_message_get_path(call), &vm, &id);
	if (r >= 0)
		r = variant_from_message_max(answer, "a{sa{st}}", WORKER_ANSWER_MAX, &all, &bad);
	if (r >= 0)
		r = reply_counters(call, id, all);
	if (r < 0) {
		if (!bad.code)
			err_errno(&bad, -r, "the worker's counters cannot be passed on");
		bad.fault = FAULT_WORKER_FAILED;
		bus_reply_err(call, &bad);
	}
}

static int method_get_counters(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const struct machine_device *dev = userdata;
	struct err err = { 0 };
	int r;

	r = bus_call_no_options(m, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	r = machine_get_counters(dev->vm, on_counters, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

static const sd_bus_vtable device_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("GetCounters", SD_BUS_ARGS("a{sv}", options),
				SD_BUS_RESULT("a{st}", counters), method_get_counters,
				DEVICE_ANYBODY),
	SD_BUS_METHOD_WITH_ARGS("Remove", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
				vm_plug_bus_remove_device, DEVICE_ANYBODY),
	SD_BUS_PROPERTY("Id", "s", get_text, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Type", "s", get_text, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("VM", "o", get_vm, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("BDF", "s", get_text, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("HotPlugged", "b", get_hotplugged, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Removable", "b", get_removable, 0, DEVICE_CONST),
	SD_BUS_PROPERTY("Persistent", "b", get_persistent, 0, DEVICE_EMITS),
	SD_BUS_PROPERTY("State", "s", get_text, 0, DEVICE_EMITS),
	SD_BUS_VTABLE_END,
};

static const struct device_class device_class_any = {
	.interface = BRUME_DEVICE_INTERFACE,
	.vtable = device_vtable,
};

static const struct device_class *const classes[] = {
	&device_class_any,   &device_disk_class, &device_net_class,  &device_balloon_class,
	&device_vsock_class, &device_fs_class,   &device_pmem_class,
};

const struct device_class *device_bus_class(size_t n)
{
	return n < ARRAY_SIZE(classes) ? classes[n] : NULL;
}

/* --- what classes share --- */

static int append_number(sd_bus_message *reply, char type, GVariant *value)
{
	uint64_t n = 0;

	if (value && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
		n = g_variant_get_uint64(value);
	else if (value && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
		n = g_variant_get_uint32(value);
	if (type == 'q')
		return sd_bus_message_append(reply, "q", (uint16_t)n);
	return type == 'u' ? sd_bus_message_append(reply, "u", (uint32_t)n)
			   : sd_bus_message_append(reply, "t", n);
}

static const struct device_class *class_of(const char *interface)
{
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (strcmp(classes[i]->interface, interface) == 0)
			return classes[i];
	return NULL;
}

/* The value, or else the key of the configuration; NULL: neither is there. */
static GVariant *find_value(const struct machine_device *dev, const char *interface,
			    const char *property)
{
	const struct device_class *class = class_of(interface);
	GVariant *value = NULL;

	for (size_t i = 0; class && i < class->n_properties && !value; i++) {
		const struct device_property *row = &class->properties[i];

		if (strcmp(row->name, property) != 0)
			continue;
		value = g_variant_lookup_value(dev->values, row->key, NULL);
		if (!value)
			value = g_variant_lookup_value(dev->config, row->key, NULL);
	}
	return value;
}

static int append_property(sd_bus_message *reply, const struct machine_device *dev,
			   const char *interface, const char *property, const char *signature)
{
	g_autoptr(GVariant) value = find_value(dev, interface, property);

	if (signature[0] == 's')
		/* A descriptor of the caller's has no name: {"fd": ...} */
		return sd_bus_message_append(reply, "s",
					     value && g_variant_is_of_type(value,
									   G_VARIANT_TYPE_STRING)
						     ? g_variant_get_string(value, NULL)
						     : "");
	if (signature[0] == 'b')
		return sd_bus_message_append(reply, "b",
					     value &&
						     g_variant_is_of_type(value,
									  G_VARIANT_TYPE_BOOLEAN) &&
						     g_variant_get_boolean(value));
	return append_number(reply, signature[0], value);
}

#define DEFINE_GETTER(type)                                                                        \
	DEVICE_BUS_GETTER(type)                                                                    \
	{                                                                                          \
		(void)bus, (void)path, (void)error;                                                \
		return append_property(reply, userdata, interface, property, #type);               \
	}
DEFINE_GETTER(s)
DEFINE_GETTER(b)
DEFINE_GETTER(q)
DEFINE_GETTER(u)
DEFINE_GETTER(t)

/* --- objects --- */

static struct machine_device *find_device(struct service *service, const char *path)
{
	_cleanup_free_ char *name = NULL, *id = NULL;
	struct machine *vm;

	if (bus_path_parse_device(path, &name, &id) < 0)
		return NULL;
	vm = manager_find(service->manager, name);
	return vm ? machine_find_device(vm, id) : NULL;
}

static int find_of_class(sd_bus *bus, const char *path, const char *interface, void *userdata,
			 void **ret, sd_bus_error *error)
{
	struct machine_device *dev = find_device(userdata, path);

	(void)bus, (void)error;
	for (size_t i = 0; dev && i < ARRAY_SIZE(classes); i++) {
		if (strcmp(classes[i]->interface, interface) != 0)
			continue;
		if (classes[i]->type && strcmp(classes[i]->type, dev->type) != 0)
			return 0;
		*ret = dev;
		return 1;
	}
	return 0;
}

static int list_devices(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
			sd_bus_error *error)
{
	GPtrArray *paths = g_ptr_array_new();
	struct service *service = userdata;
	GHashTableIter iter;
	gpointer value;
	char **strv;

	(void)bus, (void)prefix, (void)error;
	g_hash_table_iter_init(&iter, service->manager->machines);
	while (g_hash_table_iter_next(&iter, NULL, &value)) {
		const struct machine *vm = value;

		for (guint i = 0; vm->devices && i < vm->devices->len; i++) {
			const struct machine_device *dev = g_ptr_array_index(vm->devices, i);
			char *path = bus_path_device(vm->def.name, dev->id);

			if (path)
				g_ptr_array_add(paths, path);
		}
	}
	/* sd-bus frees what it gets with free(), and so does GLib nowadays, but nobody says so. */
	strv = calloc(paths->len + 1, sizeof(*strv));
	for (guint i = 0; i < paths->len; i++) {
		if (strv)
			strv[i] = g_ptr_array_index(paths, i);
		else
			free(g_ptr_array_index(paths, i));
	}
	g_ptr_array_unref(paths);
	if (!strv)
		return -ENOMEM;
	*ret = strv;
	return 1;
}

int device_bus_register(struct service *service)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(classes); i++)
		r = sd_bus_add_fallback_vtable(service->bus, NULL, BRUME_VM_PATH_PREFIX,
					       classes[i]->interface, classes[i]->vtable,
					       find_of_class, service);
	if (r >= 0)
		r = sd_bus_add_node_enumerator(service->bus, NULL, BRUME_VM_PATH_PREFIX,
					       list_devices, service);
	return r;
}

static void announce(struct service *service, const char *path, const char *interface,
		     const char *const *names)
{
	if (names)
		sd_bus_emit_properties_changed_strv(service->bus, path, interface,
						    (char **)(uintptr_t)names);
}

void device_bus_changed(struct service *service, struct machine_device *dev, uint32_t properties)
{
	static const char *const persistent[] = { "Persistent", NULL };
	static const char *const state[] = { "State", NULL };
	_cleanup_free_ char *path = bus_path_device(dev->vm->def.name, dev->id);

	if (!path)
		return;
	if (properties & MACHINE_DEVICE_DEFINITION)
		announce(service, path, BRUME_DEVICE_INTERFACE, persistent);
	if (properties & MACHINE_DEVICE_EJECTING)
		announce(service, path, BRUME_DEVICE_INTERFACE, state);
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++) {
		if (!classes[i]->type || strcmp(classes[i]->type, dev->type) != 0)
			continue;
		if (properties & MACHINE_DEVICE_VALUES)
			announce(service, path, classes[i]->interface, classes[i]->values);
		if (properties & MACHINE_DEVICE_LIMIT)
			announce(service, path, classes[i]->interface, classes[i]->limits);
		if (properties & MACHINE_DEVICE_CONFIG)
			announce(service, path, classes[i]->interface, classes[i]->config);
	}
}
