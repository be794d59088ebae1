/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/vm-devices-bus.h"

#include "daemon/device.h"
#include "daemon/request.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/bus-path.h"
#include "dbus/polkit.h"
#include "dbus/rate-limit-bus.h"
#include "dbus/service.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int vm_devices_bus_list(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const struct machine *vm = userdata;
	int r;

	(void)error;
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "(ssso)");
	for (guint i = 0; r >= 0 && vm->devices && i < vm->devices->len; i++) {
		const struct machine_device *dev = g_ptr_array_index(vm->devices, i);
		_cleanup_free_ char *path = bus_path_device(vm->def.name, dev->id);

		r = path ? sd_bus_message_append(reply, "(ssso)", dev->id, dev->type, dev->bdf,
						 path)
			 : -ENOMEM;
	}
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_send(reply);
}

int vm_devices_bus_get(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const struct machine *vm = userdata;
	_cleanup_free_ char *path = NULL;
	struct err err = { 0 };
	const char *id;
	int r;

	r = sd_bus_message_read(m, "s", &id);
	if (r < 0)
		return r;
	if (!machine_get_device(vm, id, &err))
		return bus_error_from_err(error, &err);
	path = bus_path_device(vm->def.name, id);
	return path ? sd_bus_reply_method_return(m, "o", path) : -ENOMEM;
}

int vm_devices_bus_set_balloon(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	uint64_t bytes;
	int r;

	r = sd_bus_message_read(m, "t", &bytes);
	if (r < 0)
		return r;
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_balloon(vm, bytes, &err);
	if (r == 0)
		r = bus_call_authorise_device(m, vm, machine_device_of_type(vm, "balloon"),
					      "set the balloon of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_balloon(vm, bytes, bus_call_done, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

/* The way into a machine: for whoever may open its console. */
static int authorise_console(sd_bus_message *m, const struct machine *vm, const char *verb,
			     const char *console, struct err *err)
{
	const char *const extra[] = { "console", console, NULL };
	struct polkit_request question = {
		.action = POLKIT_ACTION_OPEN_CONSOLE,
		.owner_shortcut = true,
		.verb = verb,
		.extra = extra,
	};

	return service_check(bus_call_service(vm), m, vm, &question, err);
}

int vm_devices_bus_connect_vsock(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	char console[32];
	uint32_t port;
	int r;

	r = sd_bus_message_read(m, "u", &port);
	if (r < 0)
		return r;
	snprintf(console, sizeof(console), "vsock:%" PRIu32, port);
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_vsock(vm, &err);
	if (r == 0)
		r = authorise_console(m, vm, "connect to", console, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_connect_vsock(vm, port, bus_call_done_fd, sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

int vm_devices_bus_set_console_size(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	uint16_t columns, rows;
	struct err err = { 0 };
	const char *console;
	int r;

	r = sd_bus_message_read(m, "sqq", &console, &columns, &rows);
	if (r < 0)
		return r;
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_console(vm, console, &err);
	if (r == 0)
		r = authorise_console(m, vm, "set the size of a console of", console, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_console_size(vm, console, columns, rows, bus_call_done,
				     sd_bus_message_ref(m), &err);
	return bus_call_pending(m, r, error, &err);
}

int vm_devices_bus_set_rate_limit_group(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct rate_limit_config limit = { 0 };
	struct machine *vm = userdata;
	struct err err = { 0 };
	const char *group;
	int r;

	r = sd_bus_message_read(m, "s", &group);
	if (r < 0)
		return r;
	r = rate_limit_bus_read(m, &limit, &err);
	if (r == 0)
		r = bus_call_no_options(m, &err);
	if (r == 0)
		r = machine_check_rate_limit_group(vm, group, &err);
	if (r == 0)
		r = bus_call_authorise_device(m, vm, NULL, "limit disks of", &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_rate_limit_group(vm, group, &limit, bus_call_done, sd_bus_message_ref(m),
					 &err);
	return bus_call_pending(m, r, error, &err);
}

int vm_devices_bus_get_balloon(sd_bus *bus, const char *path, const char *interface,
			       const char *property, sd_bus_message *reply, void *userdata,
			       sd_bus_error *error)
{
	const struct machine_device *dev = machine_device_of_type(userdata, "balloon");
	const char *value = strcmp(property, "BalloonTarget") == 0 ? "target" : "actual";

	(void)bus, (void)path, (void)interface, (void)error;
	return sd_bus_message_append(reply, "t", dev ? machine_device_u64(dev, value) : 0);
}

int vm_devices_bus_get_cid(sd_bus *bus, const char *path, const char *interface,
			   const char *property, sd_bus_message *reply, void *userdata,
			   sd_bus_error *error)
{
	const struct machine_device *dev = machine_device_of_type(userdata, "vsock");
	guint32 cid = 0;

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	if (dev)
		g_variant_lookup(dev->config, "cid", "u", &cid);
	return sd_bus_message_append(reply, "u", cid);
}

int vm_devices_bus_get_rate_limit_groups(sd_bus *bus, const char *path, const char *interface,
					 const char *property, sd_bus_message *reply,
					 void *userdata, sd_bus_error *error)
{
	const struct vm_config *config = machine_config(userdata);
	int r = sd_bus_message_open_container(reply, 'a', "{sa{st}}");

	(void)bus, (void)path, (void)interface, (void)property, (void)error;
	for (size_t i = 0; r >= 0 && i < config->n_rate_limit_groups; i++) {
		const struct rate_limit_group_config *group = &config->rate_limit_groups[i];

		r = sd_bus_message_open_container(reply, 'e', "sa{st}");
		if (r >= 0)
			r = sd_bus_message_append(reply, "s", group->id);
		if (r >= 0)
			r = rate_limit_bus_append(reply, &group->limit);
		if (r >= 0)
			r = sd_bus_message_close_container(reply);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}
