/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices, vCPUs and memory that come and go (vmm/vm/hotplug.h, resize.h)
 */
#include "vmm/api/control-internal.h"

#include <string.h>

#include "dbus/variant.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/pci/segment.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/hotplug.h"
#include "vmm/vm/resize.h"

/* What is asked of a guest that boots must not get lost; one that never looks is left alone. */
#define REMIND_USEC   (2 * 1000000ULL)
#define REMINDERS_MAX 60

static int on_remind_time(sd_event_source *source, uint64_t usec _unused_, void *data)
{
	struct control *c = data;

	if (!c->vm || !vm_remind_guest(c->vm) || ++c->n_reminders == REMINDERS_MAX)
		return 0;
	if (sd_event_source_set_time_relative(source, REMIND_USEC) >= 0)
		(void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static void remind_guest(struct control *c)
{
	c->remind_timer = sd_event_source_disable_unref(c->remind_timer);
	c->n_reminders = 0;
	if (sd_event_add_time_relative(c->event, &c->remind_timer, CLOCK_MONOTONIC, REMIND_USEC, 0,
				       on_remind_time, c) < 0)
		log_warning("the guest is not reminded of what it is to look at");
}

void control_stop_reminding(struct control *c)
{
	c->remind_timer = sd_event_source_disable_unref(c->remind_timer);
}

static int add_device(struct control *c, sd_bus_message *m, struct vm_device **ret, struct err *err)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *element = NULL;
	_cleanup_(g_variant_unref_cleanup) GVariant *placed = NULL;
	struct vm_config *config = NULL;
	const char *key;
	size_t index;
	int r;

	r = sd_bus_message_read(m, "s", &key);
	if (r < 0)
		return err_errno(err, -r, "cannot read a device's kind");
	r = variant_from_message(m, "a{sv}", &element, err);
	if (r < 0)
		return r;
	if (!config_is_device_key(key))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "'%s' is no kind of device", key);
	/* The daemon may not know yet of one that has gone. */
	index = vm_config_count_devices(c->vm->config, key);
	placed = vm_config_place_element(key, element, index);
	r = resources_place_loose(&c->vm->resources, key, index, err);
	if (r >= 0)
		r = vm_config_with_device(c->vm->config, key, placed, &config, &index, err);
	return r < 0 ? r : vm_add_device(c->vm, config, key, index, ret, err);
}

static int reply_device(sd_bus_message *m, struct vm_device *dev)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	char bdf[16];
	int r;

	pci_format_bdf(dev->pci, bdf);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_append(reply, "ss", dev->id, bdf);
	if (r >= 0)
		r = control_append_values_of(reply, dev);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int control_on_add_device(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct vm_device *dev = NULL;
	struct control *c = data;
	struct err err = { 0 };
	int r = control_read(c, m, ret_error, "");

	if (r < 0)
		return r;
	r = add_device(c, m, &dev, &err);
	resources_drop_loose(&c->vm->resources);
	remind_guest(c);
	return r < 0 ? control_fail(ret_error, &err) : reply_device(m, dev);
}

int control_on_remove_device(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *id;
	int force, r;

	r = control_read(c, m, ret_error, "sb", &id, &force);
	if (r < 0)
		return r;
	r = force ? vm_take_out(c->vm, id, &err) : vm_ask_removal(c->vm, id, &err);
	remind_guest(c);
	return control_done(m, r, &err, ret_error);
}

int control_on_forget_removal(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *id;
	int r;

	r = control_read(c, m, ret_error, "s", &id);
	if (r < 0)
		return r;
	return control_done(m, vm_forget_removal(c->vm, id, &err), &err, ret_error);
}

static void tell(struct control *c, const char *signal, const char *id)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int r;

	/* A daemon that is away asks with Query when it comes back. */
	if (!c->bus)
		return;
	r = sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, signal);
	if (r >= 0)
		r = sd_bus_message_append(m, "s", id);
	if (r >= 0)
		r = sd_bus_send(c->bus, m, NULL);
	if (r < 0)
		log_warning("cannot tell the daemon of device '%s': %s", id, strerror(-r));
}

int control_on_set_vcpus(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint32_t n;
	int r;

	r = control_read(c, m, ret_error, "u", &n);
	if (r < 0)
		return r;
	r = vm_set_vcpus(c->vm, n, &err);
	if (r >= 0)
		remind_guest(c);
	return control_done(m, r, &err, ret_error);
}

int control_on_set_memory(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	uint64_t bytes;
	int r;

	r = control_read(c, m, ret_error, "t", &bytes);
	if (r < 0)
		return r;
	r = vm_set_memory(c->vm, bytes, &err);
	if (r >= 0)
		remind_guest(c);
	return control_done(m, r, &err, ret_error);
}

int control_on_set_memory_zone(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	struct err err = { 0 };
	const char *zone;
	uint64_t bytes;
	int r;

	r = control_read(c, m, ret_error, "st", &zone, &bytes);
	if (r < 0)
		return r;
	return control_done(m, vm_set_zone(c->vm, zone, bytes, &err), &err, ret_error);
}

int control_on_keep_memory(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct control *c = data;
	int r = control_read(c, m, ret_error, "");

	if (r < 0)
		return r;
	vm_keep_memory(c->vm);
	return sd_bus_reply_method_return(m, NULL);
}

static int append_zones(sd_bus_message *m, const struct vm *vm)
{
	int r = control_open_list(m, "memory_zones", "t");

	for (size_t i = 0; r >= 0 && i < vm->config->memory.n_zones; i++)
		r = sd_bus_message_append(m, "t", vm_zone_target(vm, i));
	return r < 0 ? r : control_close_list(m);
}

int control_append_sizes(sd_bus_message *m, const struct vm *vm)
{
	struct vm_sizes sizes;
	int r;

	vm_get_sizes(vm, &sizes);
	r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}", "vcpus", "u", sizes.vcpus, "vcpus_target",
				  "u", sizes.vcpus_target, "memory", "t", sizes.memory,
				  "memory_target", "t", sizes.memory_target);
	return r < 0 ? r : append_zones(m, vm);
}

void control_on_sizes_changed(void *data)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	struct control *c = data;
	int r;

	if (!c->bus || !c->vm)
		return;
	r = sd_bus_message_new_signal(c->bus, &m, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				      "SizesChanged");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "{sv}");
	if (r >= 0)
		r = control_append_sizes(m, c->vm);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_send(c->bus, m, NULL);
	if (r < 0)
		log_warning("cannot tell the daemon of the machine's size: %s", strerror(-r));
}

void control_on_resize_refused(const char *what, void *data)
{
	tell(data, "ResizeRefused", what);
}

void control_on_device_removed(const char *id, void *data)
{
	tell(data, "DeviceRemoved", id);
}

void control_on_removal_refused(const char *id, void *data)
{
	tell(data, "RemovalRefused", id);
}
