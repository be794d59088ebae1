/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device.h"

#include "daemon/listen.h"
#include "daemon/manager.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* Where the bus has another word than the configuration. */
static const struct {
	const char *key, *type;
} types[] = {
	{ "disks", "disk" },
	{ "devices", "vfio" },
	{ "user_devices", "user-device" },
	{ "generic_vhost_user", "vhost-user" },
};

const char *machine_device_key(const char *type)
{
	const char *key = type;

	for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
		if (strcmp(types[i].type, type) == 0)
			key = types[i].key;
	return config_device_is_removable(key) ? key : NULL;
}

static const char *type_of(const char *key)
{
	for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
		if (strcmp(types[i].key, key) == 0)
			return types[i].type;
	return key;
}

static void device_free(void *data)
{
	struct machine_device *dev = data;

	g_free(dev->id);
	g_free(dev->host_interface);
	g_clear_pointer(&dev->config, g_variant_unref);
	g_clear_pointer(&dev->values, g_variant_unref);
	g_free(dev);
}

/* --- the interface of the host ------------------------------------------------ */

/* The taps of a machine are in the order of those of its nets that have one. */
static void find_interface(struct machine_device *dev)
{
	const struct vm_config *config = dev->vm->boot;
	char **taps = dev->vm->taps;
	size_t n = 0;

	if (strcmp(dev->key, "net") != 0 || config->nets[dev->index].backend != NET_BACKEND_TAP)
		return;
	for (size_t i = 0; i < dev->index; i++)
		n += config->nets[i].backend == NET_BACKEND_TAP;
	if (!taps || n >= g_strv_length(taps))
		return;
	dev->host_interface = g_strdup(taps[n]);
	dev->host_ifindex = (int)if_nametoindex(taps[n]);
}

/* --- what a worker says ---------------------------------------------------------- */

/* "0000:00:03.0" */
static bool is_bdf(const char *text)
{
	static const char form[] = "xxxx:xx:xx.x";
	size_t i;

	for (i = 0; form[i] && text[i]; i++)
		if (form[i] == 'x' ? !g_ascii_isxdigit(text[i]) : text[i] != form[i])
			return false;
	return !form[i] && !text[i];
}

static bool is_word(const char *text)
{
	const char *p = text;

	while (g_ascii_isalnum(*p) || *p == '_')
		p++;
	return !*p && p - text < 32;
}

static bool is_known_value(const char *name, GVariant *value)
{
	static const struct {
		const char *name, *type;
	} known[] = {
		{ "link_up", "b" }, { "size", "t" },   { "target", "t" },
		{ "actual", "t" },  { "engine", "s" }, { "images", "t" },
	};
	static const char statistics[] = "statistics.";

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (strcmp(known[i].name, name) == 0)
			return strcmp(g_variant_get_type_string(value), known[i].type) == 0 &&
			       (known[i].type[0] != 's' ||
				is_word(g_variant_get_string(value, NULL)));
	if (!g_str_has_prefix(name, statistics) || strlen(name) > 48 ||
	    !g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
		return false;
	for (const char *p = name + strlen(statistics); *p; p++)
		if (!g_ascii_islower(*p) && *p != '_')
			return false;
	return true;
}

static GVariant *take_values(GVariant *said)
{
	unsigned int n = 0;
	GVariantDict dict;
	GVariantIter iter;
	const char *name;
	GVariant *value;

	g_variant_dict_init(&dict, NULL);
	g_variant_iter_init(&iter, said);
	while (n < 64 && g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
		if (is_known_value(name, value)) {
			g_variant_dict_insert_value(&dict, name, value);
			n++;
		}
		g_variant_unref(value);
	}
	return g_variant_ref_sink(g_variant_dict_end(&dict));
}

static bool same_values(GVariant *a, GVariant *b)
{
	GVariantIter iter;
	const char *name;
	GVariant *value;
	bool same = g_variant_n_children(a) == g_variant_n_children(b);

	/* The order in a dictionary says nothing. */
	g_variant_iter_init(&iter, a);
	while (g_variant_iter_next(&iter, "{&sv}", &name, &value)) {
		g_autoptr(GVariant) other = g_variant_lookup_value(b, name, NULL);

		same = same && other && g_variant_equal(value, other);
		g_variant_unref(value);
	}
	return same;
}

static bool set_values(struct machine_device *dev, GVariant *said)
{
	g_autoptr(GVariant) values = take_values(said);

	if (dev->values && same_values(dev->values, values))
		return false;
	g_clear_pointer(&dev->values, g_variant_unref);
	dev->values = g_steal_pointer(&values);
	return true;
}

static void tell_values(struct machine_device *dev)
{
	manager_tell(dev->vm->manager, device_changed, dev, MACHINE_DEVICE_VALUES);
	if (strcmp(dev->type, "balloon") == 0)
		machine_changed(dev->vm, MACHINE_PROPERTY_BALLOON);
}

void machine_device_told(struct machine *vm, const char *id, GVariant *values)
{
	struct machine_device *dev = machine_find_device(vm, id);

	if (dev && set_values(dev, values))
		tell_values(dev);
}

static void take_addresses(struct machine *vm, GVariant *list)
{
	const char *id, *type, *bdf, *state;
	GVariantIter iter;

	g_variant_iter_init(&iter, list);
	while (g_variant_iter_next(&iter, "(&s&s&s&s)", &id, &type, &bdf, &state)) {
		struct machine_device *dev = machine_find_device(vm, id);

		if (dev && !dev->bdf[0] && is_bdf(bdf))
			snprintf(dev->bdf, sizeof(dev->bdf), "%s", bdf);
	}
}

/* --- life --------------------------------------------------------------------------- */

/* all: vm->boot, serialised */
static struct machine_device *device_new(struct machine *vm, const struct config_device *device,
					 GVariant *all)
{
	struct machine_device *dev = g_new0(struct machine_device, 1);

	dev->vm = vm;
	dev->id = g_strdup(device->id);
	dev->key = device->key;
	dev->index = device->index;
	dev->type = type_of(device->key);
	dev->config = vm_config_element(all, device->key, device->index);
	dev->values = g_variant_ref_sink(g_variant_new("a{sv}", NULL));
	find_interface(dev);
	g_ptr_array_add(vm->devices, dev);
	return dev;
}

static void make(struct machine *vm)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(vm->boot));
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(vm->boot, devices);

	vm->devices = g_ptr_array_new_with_free_func(device_free);
	for (size_t i = 0; i < n; i++)
		device_new(vm, &devices[i], all);
}

/* --- those that come and go --------------------------------------------------------- */

static void add_taps(struct machine *vm, const struct resource_set *resources)
{
	size_t n = vm->taps ? g_strv_length(vm->taps) : 0;

	if (resources->n_taps == 0)
		return;
	vm->taps = g_renew(char *, vm->taps, n + resources->n_taps + 1);
	for (size_t i = 0; i < resources->n_taps; i++)
		vm->taps[n + i] = g_strdup(resources->taps[i]);
	vm->taps[n + resources->n_taps] = NULL;
}

static void drop_tap(struct machine *vm, const char *name)
{
	size_t i = 0;

	while (vm->taps && vm->taps[i] && g_strcmp0(vm->taps[i], name) != 0)
		i++;
	if (!name || !vm->taps || !vm->taps[i])
		return;
	g_free(vm->taps[i]);
	for (; vm->taps[i]; i++)
		vm->taps[i] = vm->taps[i + 1];
}

static void replace_boot(struct machine *vm, struct vm_config *boot, uint32_t properties)
{
	vm_config_free(vm->boot);
	vm->boot = boot;
	machine_boot_changed(vm, MACHINE_PROPERTY_CONFIG | properties);
}

void machine_devices_plugged(struct machine *vm, struct vm_config *boot, const char *key,
			     size_t index, const struct resource_set *resources, const char *bdf,
			     GVariant *values)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(boot));
	struct config_device device;
	struct machine_device *dev;

	add_taps(vm, resources);
	replace_boot(vm, boot, MACHINE_PROPERTY_BALLOON);
	if (!vm->devices || !config_device_at(boot, key, index, &device))
		return;
	dev = device_new(vm, &device, all);
	dev->hotplugged = true;
	if (is_bdf(bdf))
		snprintf(dev->bdf, sizeof(dev->bdf), "%s", bdf);
	set_values(dev, values);
	log_info("VM '%s': device '%s' was added", vm->def.name, dev->id);
	manager_tell(vm->manager, device_added, dev);
	manager_tell(vm->manager, device_plugged, dev);
}

void machine_device_gone(struct machine *vm, const char *id)
{
	struct machine_device *dev = machine_find_device(vm, id);
	struct vm_config *boot = NULL;
	struct err err = { 0 };

	if (!dev)
		return;
	log_info("VM '%s': device '%s' was removed", vm->def.name, id);
	manager_tell(vm->manager, device_unplugged, dev);
	manager_tell(vm->manager, device_removed, dev);
	for (guint i = 0; i < vm->devices->len; i++) {
		struct machine_device *other = g_ptr_array_index(vm->devices, i);

		if (strcmp(other->key, dev->key) == 0 && other->index > dev->index)
			other->index--;
	}
	drop_tap(vm, dev->host_interface);
	/* What it has left in the file system is nobody's now. */
	listen_remove_later(vm->boot, vm->def.owner, vm->manager->event, vm->def.name);
	if (vm_config_without_device(vm->boot, dev->key, dev->index, &boot, &err) < 0)
		log_warning("VM '%s': device '%s' stays in the configuration: %s", vm->def.name, id,
			    err.msg);
	g_ptr_array_remove(vm->devices, dev);
	if (boot)
		replace_boot(vm, boot, MACHINE_PROPERTY_BALLOON);
}

void machine_device_set_ejecting(struct machine_device *dev, bool ejecting)
{
	if (dev->ejecting == ejecting)
		return;
	dev->ejecting = ejecting;
	manager_tell(dev->vm->manager, device_changed, dev, MACHINE_DEVICE_EJECTING);
}

/* A device that the worker does not have came to nothing, or has gone while nobody looked. */
static void drop_missing(struct machine *vm, GVariant *list)
{
	g_autoptr(GPtrArray) missing = g_ptr_array_new_with_free_func(g_free);
	const char *id, *type, *bdf, *state;
	GVariantIter iter;

	for (guint i = 0; i < vm->devices->len; i++) {
		const struct machine_device *dev = g_ptr_array_index(vm->devices, i);
		bool there = !config_device_is_removable(dev->key);

		g_variant_iter_init(&iter, list);
		while (!there && g_variant_iter_next(&iter, "(&s&s&s&s)", &id, &type, &bdf, &state))
			there = strcmp(id, dev->id) == 0;
		if (!there)
			g_ptr_array_add(missing, g_strdup(dev->id));
	}
	for (guint i = 0; i < missing->len; i++)
		machine_device_gone(vm, missing->pdata[i]);
}

static void take_hotplugged(struct machine *vm, GVariant *answer)
{
	g_autoptr(GVariant) list =
		g_variant_lookup_value(answer, "hotplugged", G_VARIANT_TYPE_STRING_ARRAY);
	GVariantIter iter;
	const char *id;

	if (!list)
		return;
	g_variant_iter_init(&iter, list);
	while (g_variant_iter_next(&iter, "&s", &id)) {
		struct machine_device *dev = machine_find_device(vm, id);

		if (dev)
			dev->hotplugged = true;
	}
}

void machine_devices_take(struct machine *vm, GVariant *answer)
{
	g_autoptr(GVariant) list = NULL, values = NULL;
	bool made = vm->boot && !vm->devices;
	const char *id;
	GVariantIter iter;
	GVariant *of;

	if (!vm->boot)
		return;
	if (made)
		make(vm);
	list = g_variant_lookup_value(answer, "devices", G_VARIANT_TYPE("a(ssss)"));
	take_hotplugged(vm, answer);
	if (list)
		take_addresses(vm, list);
	values = g_variant_lookup_value(answer, "values", G_VARIANT_TYPE("a{sa{sv}}"));
	if (values)
		g_variant_iter_init(&iter, values);
	while (values && g_variant_iter_next(&iter, "{&s@a{sv}}", &id, &of)) {
		struct machine_device *dev = machine_find_device(vm, id);

		if (dev && set_values(dev, of) && !made)
			tell_values(dev);
		g_variant_unref(of);
	}
	if (!made) {
		if (list)
			drop_missing(vm, list);
		return;
	}
	for (guint i = 0; i < vm->devices->len; i++)
		manager_tell(vm->manager, device_added, g_ptr_array_index(vm->devices, i));
	machine_changed(vm, MACHINE_PROPERTY_BALLOON);
	if (list)
		drop_missing(vm, list);
}

void machine_devices_clear(struct machine *vm)
{
	GPtrArray *devices = vm->devices;

	if (!devices)
		return;
	for (guint i = 0; i < devices->len; i++)
		manager_tell(vm->manager, device_removed, g_ptr_array_index(devices, i));
	vm->devices = NULL;
	g_ptr_array_unref(devices);
	machine_changed(vm, MACHINE_PROPERTY_BALLOON);
}

bool machine_device_is_persistent(const struct machine_device *dev)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(dev->vm->next, devices);

	for (size_t i = 0; dev->vm->def.persistent && i < n; i++)
		if (strcmp(devices[i].key, dev->key) == 0 && strcmp(devices[i].id, dev->id) == 0)
			return true;
	return false;
}

void machine_devices_redefined(struct machine *vm)
{
	for (guint i = 0; vm->devices && i < vm->devices->len; i++)
		manager_tell(vm->manager, device_changed, g_ptr_array_index(vm->devices, i),
			     MACHINE_DEVICE_DEFINITION);
}

void machine_device_refresh(struct machine_device *dev)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(dev->vm->boot));

	g_variant_unref(dev->config);
	dev->config = vm_config_element(all, dev->key, dev->index);
	manager_tell(dev->vm->manager, device_changed, dev,
		     MACHINE_DEVICE_LIMIT | MACHINE_DEVICE_CONFIG);
}

struct machine_device *machine_find_device(const struct machine *vm, const char *id)
{
	for (guint i = 0; vm->devices && i < vm->devices->len; i++) {
		struct machine_device *dev = g_ptr_array_index(vm->devices, i);

		if (strcmp(dev->id, id) == 0)
			return dev;
	}
	return NULL;
}

struct machine_device *machine_get_device(const struct machine *vm, const char *id, struct err *err)
{
	struct machine_device *dev = machine_find_device(vm, id);

	if (!dev && !vm->devices)
		err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
			  "VM '%s' is %s: it has devices while it runs", vm->def.name,
			  machine_state_to_string(vm->state));
	else if (!dev)
		err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "VM '%s' has no device '%s'",
			  vm->def.name, id);
	return dev;
}

struct machine_device *machine_device_of_type(const struct machine *vm, const char *type)
{
	for (guint i = 0; vm->devices && i < vm->devices->len; i++) {
		struct machine_device *dev = g_ptr_array_index(vm->devices, i);

		if (strcmp(dev->type, type) == 0)
			return dev;
	}
	return NULL;
}

uint64_t machine_device_u64(const struct machine_device *dev, const char *value)
{
	guint64 n = 0;

	g_variant_lookup(dev->values, value, "t", &n);
	return n;
}
