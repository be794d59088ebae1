/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/plug.h"

#include "daemon/boot-config.h"
#include "daemon/companion.h"
#include "daemon/created-files.h"
#include "daemon/device.h"
#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/opening.h"
#include "daemon/resources.h"
#include "daemon/task.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct plug {
	struct machine *vm;
	char *key, *id, *pointer;
	size_t index;
	bool persist;
	bool uncertain;         /* the answer was lost */
	struct err refused;     /* what the worker said of its resources */
	struct vm_config *boot; /* the configuration with it */
	char *boot_config;      /* the same as text */
	GVariant *element;      /* as it is there, with all defaults */
	struct task *task;
	struct resource_set resources;
	struct companion_start *companions;
	machine_added_fn fn;
	void *data;
};

static void plug_free(struct plug *plug)
{
	task_abandon(plug->task);
	companion_start_free(plug->companions);
	resource_set_deinit(&plug->resources);
	vm_config_free(plug->boot);
	g_clear_pointer(&plug->element, g_variant_unref);
	g_free(plug->boot_config);
	g_free(plug->key);
	g_free(plug->id);
	g_free(plug->pointer);
	g_free(plug);
}

const char *plug_id(const struct plug *plug)
{
	return plug->id;
}

const char *machine_plug_config(const struct machine *vm)
{
	return vm->plug ? vm->plug->boot_config : NULL;
}

char **machine_plug_taps(const struct machine *vm)
{
	GPtrArray *names = g_ptr_array_new();

	for (size_t i = 0; vm->taps && vm->taps[i]; i++)
		g_ptr_array_add(names, g_strdup(vm->taps[i]));
	for (size_t i = 0; vm->plug && i < vm->plug->resources.n_taps; i++)
		g_ptr_array_add(names, g_strdup(vm->plug->resources.taps[i]));
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(names, FALSE);
}

/* Nothing of it stays. */
static void plug_fail(struct plug *plug, const struct err *cause)
{
	struct machine *vm = plug->vm;
	machine_added_fn fn = plug->fn;
	struct err err = *cause;
	void *data = plug->data;

	/* A text about a key of the device begins with its pointer, as everywhere. */
	if (err.msg[0] == '/')
		resources_name_paths(plug->boot, &err);
	else
		err_prefix(&err, -1, "cannot add device '%s' to VM '%s'", plug->id, vm->def.name);
	log_error("VM '%s': %s", vm->def.name, err.msg);
	created_files_remove_later(&plug->resources.created, vm->manager->event, vm->def.name);
	vm->plug = NULL;
	plug_free(plug);
	machine_refresh_runtime(vm);
	fn(data, NULL, &err);
}

void machine_leave_plug(struct machine *vm)
{
	struct plug *plug = vm->plug;
	struct err err = { 0 };

	if (!plug)
		return;
	err_fault(&err, FAULT_WORKER_FAILED, ECONNRESET,
		  "device '%s' of VM '%s': the service ends; the next one tells whether it came",
		  plug->id, vm->def.name);
	plug->fn(plug->data, NULL, &err);
	vm->plug = NULL;
	plug_free(plug);
}

void machine_abort_plug(struct machine *vm)
{
	struct err err = { 0 };

	if (!vm->plug)
		return;
	err_fault(&err, FAULT_WORKER_FAILED, ECHILD, "the VM ended meanwhile");
	plug_fail(vm->plug, &err);
}

/* --- the definition ------------------------------------------------------------- */

/* The configuration of the next boot with it too. */
static int define(struct machine *vm, const char *key, GVariant *element, size_t *ret_index,
		  struct err *err)
{
	struct vm_config *next = NULL;
	int r = vm_config_with_device(vm->next, key, element, &next, ret_index, err);

	return r < 0 ? r : machine_define(vm, next, err);
}

/* --- a machine that runs ------------------------------------------------------------ */

/* What has changed since it was begun stays so: a limit, a device that went late. */
static void follow_changes(struct plug *plug)
{
	struct vm_config *boot = NULL;
	struct err err = { 0 };
	size_t index;

	if (vm_config_with_device(plug->vm->boot, plug->key, plug->element, &boot, &index, &err) <
	    0) {
		log_warning(
			"VM '%s': its configuration is the one from before device '%s' came: %s",
			plug->vm->def.name, plug->id, err.msg);
		return;
	}
	vm_config_free(plug->boot);
	plug->boot = boot;
	plug->index = index;
}

static void plug_done(struct plug *plug, const char *bdf, GVariant *values)
{
	struct machine *vm = plug->vm;
	machine_added_fn fn = plug->fn;
	g_autofree char *id = g_strdup(plug->id);
	struct err err = { 0 };
	void *data = plug->data;
	size_t index;
	int r = 0;

	vm->plug = NULL;
	follow_changes(plug);
	machine_devices_plugged(vm, TAKE_PTR(plug->boot), plug->key, plug->index, &plug->resources,
				bdf, values);
	if (plug->persist) {
		r = define(vm, plug->key, plug->element, &index, &err);
		if (r < 0)
			err_prefix(&err, r,
				   "device '%s' was added to VM '%s', but not to its definition",
				   id, vm->def.name);
	}
	created_files_deinit(&plug->resources.created);
	plug_free(plug);
	fn(data, r < 0 ? NULL : id, r < 0 ? &err : NULL);
}

static bool is_uncertain(const struct machine *vm, const struct err *err)
{
	return vm->spawn.active && (err->code == ECONNRESET || err->code == ETIMEDOUT);
}

void machine_review_plug(struct machine *vm, GVariant *devices)
{
	const char *id, *type, *bdf, *state;
	struct err err = { 0 };
	GVariantIter iter;

	if (!vm->plug || !vm->plug->uncertain)
		return;
	g_variant_iter_init(&iter, devices);
	while (g_variant_iter_next(&iter, "(&s&s&s&s)", &id, &type, &bdf, &state)) {
		if (strcmp(id, vm->plug->id) == 0) {
			g_autoptr(GVariant) none = g_variant_ref_sink(g_variant_new("a{sv}", NULL));

			plug_done(vm->plug, bdf, none);
			return;
		}
	}
	err_fault(&err, FAULT_WORKER_FAILED, ECONNRESET,
		  "the connection to the worker ended meanwhile");
	plug_fail(vm->plug, &err);
}

/* Replies come with the machine: what was asked for may be over when they do. */
static void on_added(void *data, sd_bus_message *reply, const struct err *err)
{
	g_autoptr(GVariant) values = NULL;
	struct machine *vm = data;
	struct err parse = { 0 };
	const char *id, *bdf;
	int r;

	if (!vm->plug)
		return;
	if (err && is_uncertain(vm, err)) {
		/* It may be there all the same: the answer to Query decides. */
		vm->plug->uncertain = true;
		machine_reconnect_later(vm);
		return;
	}
	if (err) {
		plug_fail(vm->plug, vm->plug->refused.code ? &vm->plug->refused : err);
		return;
	}
	r = sd_bus_message_read(reply, "ss", &id, &bdf);
	if (r >= 0)
		r = variant_from_message_max(reply, "a{sv}", WORKER_ANSWER_MAX, &values, &parse);
	if (r < 0) {
		/* It is there, and Query will say the rest. */
		log_warning("VM '%s': its worker does not say what it has added", vm->def.name);
		machine_reconnect_later(vm);
		values = g_variant_ref_sink(g_variant_new("a{sv}", NULL));
		bdf = "";
	}
	plug_done(vm->plug, bdf, values);
}

static void on_resources_added(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	/*
	 * The answer to AddDevice follows, which ends it: before that the next addition must not
	 * begin, or it would take that answer for its own.
	 */
	if (err && vm->plug && !vm->plug->refused.code && !is_uncertain(vm, err))
		vm->plug->refused = *err;
}

static int call_worker(struct plug *plug, struct err *err)
{
	g_autoptr(GVariant) all = NULL, element = NULL;
	struct machine *vm = plug->vm;
	int r;

	r = machine_check_connection(vm, err);
	if (r == 0)
		all = boot_config_for_worker(plug->boot_config, vm->def.uuid, err);
	if (!all)
		return -1;
	element = vm_config_element(all, plug->key, plug->index);
	r = worker_add_resources(vm->worker, &plug->resources, on_resources_added, vm, err);
	return r < 0 ? r : worker_add_device(vm->worker, plug->key, element, on_added, vm, err);
}

static void on_companions(void *data, const struct err *err)
{
	struct plug *plug = data;
	struct err cause = { 0 };

	companion_start_free(TAKE_PTR(plug->companions));
	if (err) {
		plug_fail(plug, err);
		return;
	}
	if (call_worker(plug, &cause) < 0)
		plug_fail(plug, &cause);
}

static int start_companions(struct plug *plug, struct err *err)
{
	struct machine *vm = plug->vm;
	const char *slice = vm->def.slice ? vm->def.slice : vm->manager->default_slice;

	return companion_start(vm->manager->event, &vm->spawn, vm->def.name, slice,
			       plug->resources.companions, plug->resources.n_companions,
			       on_companions, plug, &plug->companions, err);
}

static void on_opened(void *data, struct resource_set *set, const struct err *err)
{
	struct plug *plug = data;
	struct err cause = { 0 };
	int r;

	plug->task = NULL;
	if (err) {
		plug_fail(plug, err);
		return;
	}
	plug->resources = *set;
	r = machine_save_runtime(plug->vm, &cause);
	if (r == 0)
		r = start_companions(plug, &cause);
	if (r == 0 && !plug->companions)
		r = call_worker(plug, &cause);
	if (r < 0)
		plug_fail(plug, &cause);
}

/* --- checks ---------------------------------------------------------------------------- */

#define STATES_LIVE (MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED))

static int check_live(const struct machine *vm, const struct plug_params *params,
		      struct vm_config **ret, size_t *ret_index, struct err *err)
{
	char pointer[CONFIG_POINTER_MAX];
	struct config_device device;
	int r;

	if (!config_device_is_removable(params->key))
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "a device of '%s' cannot be added while VM '%s' is %s",
				 params->key, vm->def.name, machine_state_to_string(vm->state));
	r = vm_config_with_device(vm->boot, params->key, params->element, ret, ret_index, err);
	if (r < 0)
		return r;
	config_device_at(*ret, params->key, *ret_index, &device);
	/* References are to what came with the call; the VM's own belong to devices it has. */
	return given_fds_check(&params->fds, *ret, config_device_pointer(&device, pointer), true,
			       err);
}

static bool is_live(const struct machine *vm)
{
	return vm->boot && (STATES_LIVE & (1U << vm->state));
}

/* *ret: what the machine would run with, or, when it does not run, be booted with. */
static int check(const struct machine *vm, const struct plug_params *params, struct vm_config **ret,
		 size_t *ret_index, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *boot = NULL, *next = NULL;
	bool live = is_live(vm);
	size_t index;
	int r;

	r = machine_check_state(vm, STATES_LIVE | MACHINE_STATES_ENDED, "add a device to", err);
	if (r == 0)
		r = machine_check_idle(vm, err);
	if (r == 0 && params->fds.n > 0 && (params->persist || !live))
		r = err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			      "VM '%s': a descriptor is there for a machine that runs, and not for "
			      "its next boots",
			      vm->def.name);
	if (r == 0 && live)
		r = check_live(vm, params, &boot, ret_index, err);
	if (r == 0 && (params->persist || !live))
		r = vm_config_with_device(vm->next, params->key, params->element, &next,
					  live ? &index : ret_index, err);
	if (r == 0)
		*ret = live ? TAKE_PTR(boot) : TAKE_PTR(next);
	return r;
}

int machine_check_add_device(const struct machine *vm, const struct plug_params *params,
			     struct vm_config **ret, char pointer[CONFIG_POINTER_MAX],
			     struct err *err)
{
	struct config_device device;
	size_t index = 0;
	int r = check(vm, params, ret, &index, err);

	if (r < 0)
		return r;
	if (config_device_at(*ret, params->key, index, &device))
		config_device_pointer(&device, pointer);
	else /* switched off, as a console can be: it has nothing of the host */
		snprintf(pointer, CONFIG_POINTER_MAX, "/%s", params->key);
	return 0;
}

static int add_cold(struct machine *vm, const struct plug_params *params, machine_added_fn fn,
		    void *data, struct err *err)
{
	struct config_device device;
	g_autofree char *id = NULL;
	size_t index;
	int r = define(vm, params->key, params->element, &index, err);

	if (r < 0)
		return r;
	if (config_device_at(vm->next, params->key, index, &device))
		id = g_strdup(device.id);
	fn(data, id, NULL);
	return 0;
}

/* Takes boot over. */
static struct plug *plug_new(struct machine *vm, const struct plug_params *params,
			     struct vm_config *boot, size_t index)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(boot));
	struct plug *plug = g_new0(struct plug, 1);
	char pointer[CONFIG_POINTER_MAX];
	struct config_device device;

	config_device_at(boot, params->key, index, &device);
	plug->vm = vm;
	plug->key = g_strdup(params->key);
	plug->index = index;
	plug->id = g_strdup(device.id);
	plug->pointer = g_strdup(config_device_pointer(&device, pointer));
	plug->persist = params->persist;
	plug->boot_config = config_json_print(all, CONFIG_JSON_COMPACT);
	plug->element = vm_config_element(all, params->key, index);
	plug->boot = boot;
	return plug;
}

int machine_add_device(struct machine *vm, struct plug_params *params, machine_added_fn fn,
		       void *data, struct err *err)
{
	_cleanup_(given_fds_deinit) struct given_fds fds = { 0 };
	struct vm_config *boot = NULL;
	struct opening opening;
	struct plug *plug;
	size_t index = 0;
	int r;

	r = check(vm, params, &boot, &index, err);
	fds = params->fds;
	params->fds = (struct given_fds){ 0 };
	if (r < 0)
		return r;
	if (!is_live(vm)) {
		vm_config_free(boot);
		return add_cold(vm, params, fn, data, err);
	}
	plug = plug_new(vm, params, boot, index);
	plug->fn = fn;
	plug->data = data;
	r = machine_check_connection(vm, err);
	opening = (struct opening){ .config = plug->boot_config,
				    .pointer = plug->pointer,
				    .fds = &fds };
	if (r == 0)
		r = opening_start(vm, &opening, on_opened, plug, &plug->task, err);
	if (r < 0) {
		plug_free(plug);
		return r;
	}
	vm->plug = plug;
	return 0;
}
