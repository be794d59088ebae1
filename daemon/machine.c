/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/machine.h"

#include "daemon/adopt.h"
#include "daemon/device.h"
#include "daemon/end.h"
#include "daemon/link.h"
#include "daemon/manager.h"
#include "daemon/plug.h"
#include "daemon/runtime.h"
#include "daemon/set-properties.h"
#include "daemon/start.h"
#include "daemon/stop.h"
#include "daemon/store.h"
#include "daemon/unplug.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A guest with many devices turns them all on at once, and that is no flood. */
#define EVENTS_BURST          100
#define EVENT_INTERVAL_USEC   (1 * 1000000ULL)
#define WARNING_INTERVAL_USEC (60 * 1000000ULL)

#define TO(state) (1U << MACHINE_STATE_##state)

static const struct {
	const char *name;
	uint32_t next; /* allowed edges */
} states[MACHINE_STATE_N_] = {
	[MACHINE_STATE_STOPPED] = { "stopped", TO(STARTING) },
	[MACHINE_STATE_STARTING] = { "starting",
				     TO(RUNNING) | TO(PAUSED) | TO(STOPPED) | TO(FAILED) },
	[MACHINE_STATE_RUNNING] = { "running", TO(PAUSED) | TO(SHUTTING_DOWN) | TO(REBOOTING) |
						       TO(STOPPED) | TO(CRASHED) },
	[MACHINE_STATE_PAUSED] = { "paused", TO(RUNNING) | TO(STOPPED) | TO(CRASHED) },
	[MACHINE_STATE_SHUTTING_DOWN] = { "shutting-down",
					  TO(RUNNING) | TO(STOPPED) | TO(CRASHED) },
	[MACHINE_STATE_REBOOTING] = { "rebooting", TO(RUNNING) | TO(STOPPED) | TO(CRASHED) },
	[MACHINE_STATE_CRASHED] = { "crashed", TO(STARTING) },
	[MACHINE_STATE_FAILED] = { "failed", TO(STARTING) },
};

const char *machine_state_to_string(enum machine_state state)
{
	return state < MACHINE_STATE_N_ ? states[state].name : NULL;
}

int machine_state_from_string(const char *s, enum machine_state *ret)
{
	for (unsigned int i = 0; i < MACHINE_STATE_N_; i++) {
		if (strcmp(states[i].name, s) == 0) {
			*ret = (enum machine_state)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* The key has two spellings; an error points at the one that the text has. */
static const char *uuid_key(GVariant *dict)
{
	g_autoptr(GVariant) platform = NULL, uuid = NULL;

	platform = g_variant_lookup_value(dict, "platform", G_VARIANT_TYPE_VARDICT);
	if (platform)
		uuid = g_variant_lookup_value(platform, "uuid", NULL);
	return uuid ? "uuid" : "system_uuid";
}

/* The UUID is the VM's, whoever wrote it down: in its definition or its platform section. */
static int check_uuid(const struct vm_config *config, GVariant *dict, const struct definition *def,
		      struct err *err)
{
	char uuid[37];
	int r;

	if (!config->platform.uuid)
		return 0;
	r = uuid_normalise(config->platform.uuid, uuid, NULL);
	if (r < 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL, "/platform/%s: '%s' is not a UUID",
				 uuid_key(dict), config->platform.uuid);
	if (strcmp(uuid, def->uuid) != 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/platform/%s: the UUID of VM '%s' is %s and cannot be changed",
				 uuid_key(dict), def->name, def->uuid);
	return 0;
}

/* With def also: can it be the configuration of this VM? */
static int parse_config(const char *text, const struct definition *def, struct vm_config **ret,
			char **ret_normalised, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autoptr(GVariant) dict = NULL;
	int r;

	r = json_object_parse(text, &dict, err);
	if (r == 0)
		r = vm_config_parse(dict, &config, err);
	if (r == 0 && def)
		r = check_uuid(config, dict, def, err);
	if (r < 0)
		return r;
	if (ret_normalised)
		*ret_normalised = config_json_print(dict, CONFIG_JSON_COMPACT);
	*ret = TAKE_PTR(config);
	return 0;
}

int machine_parse_config(const char *text, struct vm_config **ret, char **ret_normalised,
			 struct err *err)
{
	return parse_config(text, NULL, ret, ret_normalised, err);
}

char *machine_print_config(const struct vm_config *config)
{
	g_autoptr(GVariant) dict = g_variant_ref_sink(vm_config_serialise(config));

	return config_json_print(dict, CONFIG_JSON_COMPACT);
}

static void machine_exited(void *data, const struct spawn_exit *how)
{
	struct machine *vm = data;

	machine_end_property_change(vm);
	if (vm->adopting)
		machine_adopt_exited(vm, how);
	else if (vm->start)
		machine_start_exited(vm, how);
	else
		machine_on_exited(vm, how);
}

static void machine_started(void *data, const struct err *err)
{
	struct machine *vm = data;

	if (vm->adopting)
		machine_adopt_started(vm, err);
	else if (vm->start)
		machine_start_unit_ready(vm, err);
}

static void machine_identified(void *data)
{
	struct machine *vm = data;

	machine_changed(vm, MACHINE_PROPERTY_PROCESS);
	machine_refresh_runtime(vm);
}

static void machine_registered(void *data, const char *machine_name)
{
	struct machine *vm = data;

	g_free(vm->machine_name);
	vm->machine_name = g_strdup(machine_name);
	machine_changed(vm, MACHINE_PROPERTY_MACHINE_NAME);
}

static void machine_properties_set(void *data, const struct err *err)
{
	machine_on_properties_set(data, err);
}

/* For `machinectl list`, `ps -o machine` and whoever else asks machined; nothing waits for it. */
void machine_register(struct machine *vm)
{
	const struct spawner_ops *ops = vm->spawn.spawner->ops;

	if (ops->register_machine && vm->spawn.active)
		ops->register_machine(&vm->spawn, vm->def.name, vm->def.uuid, vm->taps);
}

static const struct spawn_handlers spawn_handlers = {
	.started = machine_started,
	.exited = machine_exited,
	.identified = machine_identified,
	.registered = machine_registered,
	.properties_set = machine_properties_set,
};

int machine_new(struct manager *manager, struct definition *def, struct machine **ret,
		struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct machine *vm;
	int r;

	r = parse_config(def->config, def, &config, NULL, err);
	if (r < 0)
		return r;
	vm = g_new0(struct machine, 1);
	vm->manager = manager;
	vm->def = *def;
	*def = (struct definition){ 0 };
	vm->next = TAKE_PTR(config);
	vm->state_usec = (uint64_t)g_get_real_time();
	list_init(&vm->dirty);
	list_init(&vm->end_waiters);
	vm->events = (struct rate_limit){ EVENTS_BURST, EVENT_INTERVAL_USEC, 0 };
	vm->event_warnings = (struct rate_limit){ 1, WARNING_INTERVAL_USEC, 0 };
	machine_limit_worker(vm);
	spawn_init(&vm->spawn, manager->spawner, &spawn_handlers, vm);
	*ret = vm;
	return 0;
}

void machine_free(struct machine *vm)
{
	if (!vm)
		return;
	start_free(TAKE_PTR(vm->start));
	stop_free(TAKE_PTR(vm->stop));
	unplug_free(TAKE_PTR(vm->unplug));
	resize_free(TAKE_PTR(vm->resize));
	machine_leave_plug(vm);
	g_free(vm->removal_to_resume.id);
	g_free(vm->resize_to_resume.zone);
	runtime_replace_clear(&vm->replace);
	worker_free(TAKE_PTR(vm->worker));
	spawn_deinit(&vm->spawn);
	sd_event_source_disable_unref(vm->reconnect);
	sd_event_source_disable_unref(vm->adopt_timer);
	sd_event_source_disable_unref(vm->quit_timer);
	machine_drop_waiters(vm);
	created_files_deinit(&vm->created);
	machine_drop_property_change(vm);
	list_remove(&vm->dirty);
	vm_config_free(vm->next);
	vm_config_free(vm->boot);
	g_free(vm->boot_config);
	g_strfreev(vm->taps);
	g_clear_pointer(&vm->devices, g_ptr_array_unref);
	g_free(vm->machine_name);
	definition_deinit(&vm->def);
	g_free(vm);
}

const struct vm_config *machine_config(const struct machine *vm)
{
	return vm->boot ? vm->boot : vm->next;
}

char **machine_consoles(const struct machine *vm)
{
	const struct vm_config *config = machine_config(vm);
	const char **names = g_new0(const char *, 4);
	unsigned int n = 0;

	if (console_mode_can_open(config->serial.mode))
		names[n++] = "serial";
	if (console_mode_can_open(config->console.mode))
		names[n++] = "console";
	if (console_mode_can_open(config->debug_console.mode))
		names[n++] = "debug";
	return (char **)names;
}

void machine_set_console_paths(struct machine *vm, const struct console_paths *paths)
{
	const struct console_paths none = { 0 };

	if (vm->console_paths.n > 0 || (paths && paths->n > 0))
		machine_changed(vm, MACHINE_PROPERTY_CONSOLE_PATHS);
	vm->console_paths = paths ? *paths : none;
}

void machine_changed(struct machine *vm, uint32_t properties)
{
	manager_vm_changed(vm->manager, vm, properties);
}

static bool counts_as_running(enum machine_state state)
{
	return state > MACHINE_STATE_STARTING && state <= MACHINE_STATE_REBOOTING;
}

void machine_set_state(struct machine *vm, enum machine_state state, const char *reason)
{
	enum machine_state from = vm->state;
	struct manager *manager = vm->manager;

	if (from == state)
		return;
	/* Adoption finds a machine in whatever state its worker is. */
	assert(vm->adopting || states[from].next & (1U << state));
	vm->state = state;
	vm->state_usec = (uint64_t)g_get_real_time();
	snprintf(vm->state_reason, sizeof(vm->state_reason), "%s", reason);
	manager_count_running(manager, counts_as_running(state) - counts_as_running(from));
	log_info("VM '%s': %s -> %s (%s)", vm->def.name, states[from].name, states[state].name,
		 reason);
	machine_changed(vm, MACHINE_PROPERTY_STATE);
	manager_tell(manager, vm_state_changed, vm, states[from].name, states[state].name, reason);
}

static void update_restart_required(struct machine *vm)
{
	bool required = false;

	if (vm->boot) {
		g_autoptr(GVariant) boot = g_variant_ref_sink(vm_config_serialise(vm->boot));
		g_autoptr(GVariant) next = g_variant_ref_sink(vm_config_serialise(vm->next));

		required = !g_variant_equal(boot, next);
	}
	if (required != vm->restart_required) {
		vm->restart_required = required;
		machine_changed(vm, MACHINE_PROPERTY_RESTART_REQUIRED);
	}
}

void machine_set_boot(struct machine *vm, struct vm_config *boot, char *boot_config)
{
	vm_config_free(vm->boot);
	g_free(vm->boot_config);
	vm->boot = boot;
	vm->boot_config = boot_config;
	vm->sizes = (struct machine_sizes){ 0 };
	if (!boot) {
		machine_devices_clear(vm);
		runtime_replace_clear(&vm->replace);
	}
	machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	update_restart_required(vm);
}

void machine_boot_changed(struct machine *vm, uint32_t properties)
{
	g_free(vm->boot_config);
	vm->boot_config = machine_print_config(vm->boot);
	machine_refresh_runtime(vm);
	if (properties)
		machine_changed(vm, properties);
	update_restart_required(vm);
}

int machine_save_runtime(struct machine *vm, struct err *err)
{
	g_auto(GStrv) taps = vm->plug ? machine_plug_taps(vm) : NULL;
	struct runtime_state state = {
		.def = vm->def,
		/* What is being added may be there before anybody can write that down. */
		.boot_config =
			vm->plug ? (char *)(uintptr_t)machine_plug_config(vm) : vm->boot_config,
		.invocation_id = vm->spawn.invocation_id[0] ? vm->spawn.invocation_id : NULL,
		.pid = vm->spawn.pid,
		.pid_start = vm->spawn.pid_start,
		.taps = taps ? taps : vm->taps,
		.console_paths = vm->console_paths,
		.preparing = vm->preparing,
		.exit_reason = vm->terminating ? (char *)"terminated" : NULL,
	};

	if (vm->adopting)
		state.stop = vm->stop_to_resume;
	else if (vm->stop)
		machine_describe_stop(vm, &state.stop);
	if (vm->unplug)
		machine_describe_removal(vm, &state.removal);
	else
		state.removal = vm->removal_to_resume;
	if (vm->resize)
		machine_describe_resize(vm, &state.resize);
	else
		state.resize = vm->resize_to_resume;
	state.replace = vm->replace;
	state.created = vm->start ? *machine_start_created(vm) : vm->created;
	return runtime_save(vm->manager->runtime_dir, &state, err);
}

/* It holds the definition too, and what a next daemon is to know. */
void machine_refresh_runtime(struct machine *vm)
{
	struct err err = { 0 };

	if (vm->boot && machine_save_runtime(vm, &err) < 0)
		log_warning("VM '%s': %s", vm->def.name, err.msg);
}

int machine_begin_job(struct machine *vm, enum job_kind kind, uid_t owner, uint32_t id,
		      struct err *err)
{
	int r;

	r = job_new(vm->manager, kind, vm->def.name, owner, id, &vm->job, err);
	if (r == 0)
		machine_changed(vm, MACHINE_PROPERTY_CURRENT_JOB);
	return r;
}

void machine_end_job(struct machine *vm, const struct err *err)
{
	struct job *job = TAKE_PTR(vm->job);

	if (!job)
		return;
	machine_changed(vm, MACHINE_PROPERTY_CURRENT_JOB);
	manager_flush(vm->manager);
	job_finish(job, err);
}

int machine_check_idle(const struct machine *vm, struct err *err)
{
	if (vm->plug)
		return err_fault(err, FAULT_BUSY, EBUSY,
				 "VM '%s' is busy: device '%s' is being added to it", vm->def.name,
				 plug_id(vm->plug));
	if (!vm->job)
		return 0;
	return err_fault(err, FAULT_BUSY, EBUSY, "VM '%s' is busy with job %u (%s)", vm->def.name,
			 vm->job->id, job_kind_to_string(vm->job->kind));
}

int machine_check_state(const struct machine *vm, uint32_t allowed, const char *verb,
			struct err *err)
{
	if (allowed & (1U << vm->state))
		return 0;
	return err_fault(err, FAULT_WRONG_STATE, EPROTO, "cannot %s VM '%s': it is %s", verb,
			 vm->def.name, states[vm->state].name);
}

int machine_check_config(const struct machine *vm, const char *text, struct vm_config **ret,
			 char **ret_normalised, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	g_autofree char *normalised = NULL;
	int r;

	r = parse_config(text, &vm->def, &config, &normalised, err);
	if (r == 0)
		r = given_fds_check(&vm->def.fds, config, NULL, false, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(config);
	*ret_normalised = g_steal_pointer(&normalised);
	return 0;
}

/* Before it comes into force; what is not persistent is in the state file only, if anywhere. */
static int save_definition(struct machine *vm, const struct definition *def, struct err *err)
{
	if (def->persistent)
		return store_save(vm->manager->state_dir, def, err);
	return 0;
}

int machine_set_config(struct machine *vm, struct vm_config *config, char *normalised,
		       struct err *err)
{
	struct definition def = vm->def;
	int r;

	def.config = normalised;
	r = machine_check_idle(vm, err);
	if (r == 0)
		r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	g_free(vm->def.config);
	vm->def.config = normalised;
	vm_config_free(vm->next);
	vm->next = config;
	machine_devices_redefined(vm);
	machine_refresh_runtime(vm);
	if (!vm->boot)
		machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	update_restart_required(vm);
	return 0;
}

int machine_define(struct machine *vm, struct vm_config *config, struct err *err)
{
	char *text = machine_print_config(config);
	int r = machine_set_config(vm, config, text, err);

	if (r < 0) {
		vm_config_free(config);
		g_free(text);
	}
	return r;
}

int machine_set_autostart(struct machine *vm, bool enable, struct err *err)
{
	struct definition def = vm->def;
	int r;

	if (enable && !vm->def.persistent)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "VM '%s' is transient and cannot be started with the host",
				 vm->def.name);
	if (enable == vm->def.autostart)
		return 0;
	def.autostart = enable;
	r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	vm->def.autostart = enable;
	machine_refresh_runtime(vm);
	machine_changed(vm, MACHINE_PROPERTY_AUTOSTART);
	return 0;
}

int machine_set_description(struct machine *vm, const char *description, struct err *err)
{
	struct definition def = vm->def;
	int r;

	def.description = (char *)description;
	r = vm_description_check(description, err);
	if (r == 0)
		r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	g_free(vm->def.description);
	vm->def.description = g_strdup(description);
	machine_refresh_runtime(vm);
	machine_changed(vm, MACHINE_PROPERTY_DESCRIPTION);
	return 0;
}

int machine_store_properties(struct machine *vm, GVariant *properties, struct err *err)
{
	struct definition def = vm->def;
	int r;

	def.properties = properties;
	r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	if (properties)
		g_variant_ref(properties);
	g_clear_pointer(&vm->def.properties, g_variant_unref);
	vm->def.properties = properties;
	machine_refresh_runtime(vm);
	return 0;
}

int machine_check_delete(const struct machine *vm, struct err *err)
{
	int r = machine_check_state(vm, MACHINE_STATES_ENDED, "delete", err);

	return r < 0 ? r : machine_check_idle(vm, err);
}

int machine_delete(struct machine *vm, bool remove_state, struct err *err)
{
	int r;

	r = machine_check_delete(vm, err);
	if (r == 0 && remove_state)
		r = store_remove_state(vm->manager->state_dir, vm->def.name, err);
	if (r == 0 && vm->def.persistent)
		r = store_remove(vm->manager->state_dir, vm->def.name, err);
	if (r < 0)
		return r;
	manager_remove(vm->manager, vm);
	return 0;
}
