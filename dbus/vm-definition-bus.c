/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/vm-definition-bus.h"

#include "daemon/machine.h"
#include "daemon/set-properties.h"
#include "dbus/bus-call.h"
#include "dbus/bus-error.h"
#include "dbus/host-resources.h"
#include "dbus/polkit.h"
#include "dbus/resource-properties.h"
#include "dbus/service.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <string.h>

#define PROPERTIES_MAX (64 * 1024) /* read before anybody is authorised */

int vm_definition_bus_get_config(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	const char *which;
	bool boot;
	int r;

	r = sd_bus_message_read(m, "s", &which);
	if (r < 0)
		return r;
	boot = strcmp(which, "boot") == 0;
	if (!boot && strcmp(which, "next") != 0)
		err_fault(&err, FAULT_BAD_ARGUMENT, EINVAL,
			  "'%s' is not a configuration, must be 'boot' or 'next'", which);
	else if (boot && !vm->boot)
		err_fault(&err, FAULT_WRONG_STATE, EPROTO,
			  "VM '%s' is %s: there is only the configuration of its next boot",
			  vm->def.name, machine_state_to_string(vm->state));
	if (err.code)
		return bus_error_from_err(error, &err);
	r = bus_call_authorise(m, vm, POLKIT_ACTION_INSPECT_VMS, "read the configuration of", true,
			       &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	/* Of two ways to write down the same they are given one: they differ only if they do. */
	return sd_bus_reply_method_return(m, "s",
					  boot && vm->restart_required ? vm->boot_config
								       : vm->def.config);
}

static int set_config(sd_bus_message *m, struct machine *vm, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *normalised = NULL;
	struct host_resource_details details;
	struct polkit_request question = {
		.action = POLKIT_ACTION_CREATE_VMS,
		.verb = "change the configuration of",
	};
	const char *text;
	int r;

	r = sd_bus_message_read(m, "s", &text);
	if (r < 0)
		return err_errno(err, -r, "cannot read the arguments of SetConfig");
	r = bus_call_no_options(m, err);
	if (r == 0)
		r = machine_check_idle(vm, err);
	if (r == 0)
		r = machine_check_config(vm, text, &config, &normalised, err);
	if (r < 0)
		return r;
	if (host_resource_details(config, NULL, NULL, NULL, &details))
		question.action = POLKIT_ACTION_USE_HOST_RESOURCES;
	question.extra = details.list;
	r = service_check(bus_call_service(vm), m, vm, &question, err);
	if (r <= 0)
		return r;
	r = machine_set_config(vm, config, normalised, err);
	if (r < 0)
		return r;
	(void)TAKE_PTR(config);
	(void)g_steal_pointer(&normalised);
	return 1;
}

int vm_definition_bus_set_config(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct err err = { 0 };
	int r;

	r = set_config(m, userdata, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	return sd_bus_reply_method_return(m, NULL);
}

int vm_definition_bus_set_autostart(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	int enable, r;

	r = sd_bus_message_read(m, "b", &enable);
	if (r < 0)
		return r;
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, "change the autostart of",
				       true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_autostart(vm, enable, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return sd_bus_reply_method_return(m, NULL);
}

int vm_definition_bus_set_description(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct machine *vm = userdata;
	const char *description;
	struct err err = { 0 };
	int r;

	r = sd_bus_message_read(m, "s", &description);
	if (r < 0)
		return r;
	r = bus_call_no_options(m, &err);
	if (r == 0)
		r = bus_call_authorise(m, vm, POLKIT_ACTION_MANAGE_VMS, "describe", true, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	r = machine_set_description(vm, description, &err);
	if (r < 0)
		return bus_error_from_err(error, &err);
	return sd_bus_reply_method_return(m, NULL);
}

static int set_resource_properties(sd_bus_message *m, struct machine *vm, struct err *err)
{
	g_autoptr(GVariant) list = NULL, set = NULL;
	const char *extra[] = { "property", NULL, NULL };
	struct polkit_request question = {
		.action = POLKIT_ACTION_USE_HOST_RESOURCES,
		.verb = "set resource properties of",
		.extra = extra,
	};
	g_autofree char *names = NULL;
	int runtime, r;

	r = sd_bus_message_read(m, "b", &runtime);
	if (r < 0)
		return err_errno(err, -r, "cannot read the arguments of SetResourceProperties");
	r = variant_from_message_max(m, "a(sv)", PROPERTIES_MAX, &list, err);
	if (r == 0)
		r = bus_call_no_options(m, err);
	if (r == 0)
		r = machine_check_set_properties(vm, runtime, list, &set, err);
	if (r < 0)
		return r;
	extra[1] = names = resource_properties_names(set);
	r = service_check(bus_call_service(vm), m, vm, &question, err);
	if (r <= 0)
		return r;
	r = machine_set_properties(vm, runtime, set, bus_call_done, sd_bus_message_ref(m), err);
	if (r == 1)
		return 0; /* the answer comes later */
	sd_bus_message_unref(m);
	return r < 0 ? r : 1;
}

int vm_definition_bus_set_resource_properties(sd_bus_message *m, void *userdata,
					      sd_bus_error *error)
{
	struct err err = { 0 };
	int r;

	r = set_resource_properties(m, userdata, &err);
	if (r <= 0)
		return bus_call_verdict(r, error, &err);
	return sd_bus_reply_method_return(m, NULL);
}
