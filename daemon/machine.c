/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/machine.h"

#include "daemon/manager.h"
#include "daemon/runtime.h"
#include "daemon/store.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/json.h"
#include "vmm/config/vm-config.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVENTS_PER_SECOND    50 /* of one VM */
#define RECONNECT_QUERY_USEC (5 * 1000000ULL)

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

static uint64_t now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int machine_parse_config(const char *text, struct vm_config **ret, char **ret_normalised,
			 struct err *err)
{
	g_autoptr(GVariant) dict = NULL;
	int r;

	r = json_object_parse(text, &dict, err);
	if (r < 0)
		return r;
	r = vm_config_parse(dict, ret, err);
	if (r == 0 && ret_normalised)
		*ret_normalised = config_json_print(dict, CONFIG_JSON_COMPACT);
	return r;
}

/* The UUID is the VM's, whoever wrote it down: in its definition or its platform section. */
static int check_uuid(const struct vm_config *config, const struct definition *def, struct err *err)
{
	char uuid[37];
	int r;

	if (!config->platform.uuid)
		return 0;
	r = uuid_normalise(config->platform.uuid, uuid, NULL);
	if (r < 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/platform/uuid: '%s' is not a UUID", config->platform.uuid);
	if (strcmp(uuid, def->uuid) != 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/platform/uuid: the UUID of VM '%s' is %s and cannot be changed",
				 def->name, def->uuid);
	return 0;
}

static void machine_exited(void *data, const struct spawn_exit *how)
{
	struct machine *vm = data;

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
	struct err err = { 0 };

	machine_changed(vm, MACHINE_PROPERTY_PROCESS);
	if (vm->boot && machine_save_runtime(vm, &err) < 0)
		log_warning("VM '%s': %s", vm->def.name, err.msg);
}

static void machine_registered(void *data, const char *machine_name)
{
	struct machine *vm = data;

	g_free(vm->machine_name);
	vm->machine_name = g_strdup(machine_name);
	machine_changed(vm, MACHINE_PROPERTY_MACHINE_NAME);
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
};

int machine_new(struct manager *manager, struct definition *def, struct machine **ret,
		struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct machine *vm;
	int r;

	r = machine_parse_config(def->config, &config, NULL, err);
	if (r == 0)
		r = check_uuid(config, def, err);
	if (r < 0)
		return r;
	vm = g_new0(struct machine, 1);
	vm->manager = manager;
	vm->def = *def;
	*def = (struct definition){ 0 };
	vm->next = TAKE_PTR(config);
	vm->state_usec = now_usec();
	list_init(&vm->dirty);
	list_init(&vm->end_waiters);
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
	worker_free(TAKE_PTR(vm->worker));
	spawn_deinit(&vm->spawn);
	sd_event_source_disable_unref(vm->reconnect);
	sd_event_source_disable_unref(vm->quit_timer);
	machine_drop_waiters(vm);
	list_remove(&vm->dirty);
	vm_config_free(vm->next);
	vm_config_free(vm->boot);
	g_free(vm->boot_config);
	g_strfreev(vm->taps);
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

	if (config->serial.mode == CONSOLE_MODE_TTY)
		names[n++] = "serial";
	if (config->console.mode == CONSOLE_MODE_TTY)
		names[n++] = "console";
	if (config->debug_console.mode == CONSOLE_MODE_TTY)
		names[n++] = "debug";
	return (char **)names;
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
	vm->state_usec = now_usec();
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
	machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	update_restart_required(vm);
}

int machine_save_runtime(struct machine *vm, struct err *err)
{
	struct runtime_state state = {
		.def = vm->def,
		.boot_config = vm->boot_config,
		.invocation_id = vm->spawn.invocation_id[0] ? vm->spawn.invocation_id : NULL,
		.pid = vm->spawn.pid,
		.pid_start = vm->spawn.pid_start,
		.taps = vm->taps,
		.exit_reason = vm->terminating ? (char *)"terminated" : NULL,
	};

	if (vm->adopting)
		state.stop = vm->stop_to_resume;
	else if (vm->stop)
		machine_describe_stop(vm, &state.stop);
	return runtime_save(vm->manager->runtime_dir, &state, err);
}

int machine_begin_job(struct machine *vm, enum job_kind kind, uid_t owner, struct err *err)
{
	int r;

	r = job_new(vm->manager, kind, vm->def.name, owner, &vm->job, err);
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

/*
 * A worker may be in hostile hands, and its words become properties: letters,
 * digits and hyphens, no more than fit, and never half a character.
 */
static void take_word(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < size; from++)
		if (g_ascii_isalnum(*from) || *from == '-')
			to[n++] = *from;
	to[n] = '\0';
}

/* The worker's view of itself drives ours: its signals arrive before its replies. */
static void on_worker_state(void *data, const char *from, const char *to, const char *word)
{
	struct machine *vm = data;
	char reason[sizeof(vm->worker_reason)];

	take_word(reason, sizeof(reason), word);
	log_debug("VM '%s': worker %s -> %s (%s)", vm->def.name, from, to, reason);
	if (strcmp(to, WORKER_STATE_SHUTDOWN) == 0 || strcmp(to, WORKER_STATE_FAILED) == 0) {
		memcpy(vm->worker_reason, reason, sizeof(reason));
		return;
	}
	if (vm->start || vm->adopting)
		return; /* the reply to Start or Query says it */
	if (strcmp(to, WORKER_STATE_PAUSED) == 0 && vm->state == MACHINE_STATE_RUNNING)
		machine_set_state(vm, MACHINE_STATE_PAUSED, reason);
	else if (strcmp(to, WORKER_STATE_RUNNING) == 0 && vm->state == MACHINE_STATE_PAUSED)
		machine_set_state(vm, MACHINE_STATE_RUNNING, reason);
	if (strcmp(reason, WORKER_REASON_GUEST_REBOOT) == 0 ||
	    strcmp(reason, WORKER_REASON_RESET) == 0)
		machine_on_rebooted(vm, reason);
}

/* Every event goes to everybody on the bus: a guest must not be able to flood it. */
static bool event_allowed(struct machine *vm)
{
	uint64_t now = (uint64_t)g_get_monotonic_time();

	if (now - vm->events_since > G_USEC_PER_SEC) {
		if (vm->n_events > EVENTS_PER_SECOND)
			log_warning("VM '%s': %u events were dropped", vm->def.name,
				    vm->n_events - EVENTS_PER_SECOND);
		vm->events_since = now;
		vm->n_events = 0;
	}
	return ++vm->n_events <= EVENTS_PER_SECOND;
}

static void on_worker_event(void *data, const char *source, const char *name, GVariant *details)
{
	struct machine *vm = data;

	if (!event_allowed(vm))
		return;
	manager_tell(vm->manager, vm_event, vm, source, name, details);
}

/* What it did while nobody listened: signals of that time are lost. */
static void take_answer(struct machine *vm, GVariant *answer)
{
	const char *state = NULL;
	guint32 boots = 0;

	g_variant_lookup(answer, "state", "&s", &state);
	g_variant_lookup(answer, "boots", "u", &boots);
	if (g_strcmp0(state, WORKER_STATE_IDLE) == 0) {
		/* Adopted while it was silent; its start was cut short. */
		log_warning("VM '%s': its worker has no guest, killing it", vm->def.name);
		machine_kill(vm);
		return;
	}
	if (g_strcmp0(state, WORKER_STATE_PAUSED) == 0 && vm->state == MACHINE_STATE_RUNNING)
		machine_set_state(vm, MACHINE_STATE_PAUSED, "reconnected");
	else if (g_strcmp0(state, WORKER_STATE_RUNNING) == 0 && vm->state == MACHINE_STATE_PAUSED)
		machine_set_state(vm, MACHINE_STATE_RUNNING, "reconnected");
	if (boots > vm->n_boots && vm->n_boots > 0)
		machine_on_rebooted(vm, WORKER_REASON_GUEST_REBOOT);
	if (boots > 0)
		vm->n_boots = boots;
}

static void on_reconnect_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;
	g_autoptr(GVariant) answer = NULL;
	struct err parse = { 0 };

	if (!vm->spawn.active || vm->start || vm->adopting)
		return;
	if (!err && variant_from_message(reply, "a{sv}", &answer, &parse) == 0) {
		take_answer(vm, answer);
		return;
	}
	log_warning("VM '%s': its worker does not say what it does: %s", vm->def.name,
		    err ? err->msg : parse.msg);
	machine_reconnect_later(vm);
}

static int on_reconnect(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct machine *vm = userdata;
	struct err err = { 0 };
	int r = 0;

	(void)source;
	(void)usec;
	vm->reconnect = sd_event_source_disable_unref(vm->reconnect);
	if (!vm->spawn.active)
		return 0;
	if (!vm->worker)
		r = machine_connect(vm, &err);
	if (r == 0)
		r = worker_call(vm->worker, "Query", RECONNECT_QUERY_USEC, on_reconnect_answer, vm,
				&err, NULL);
	if (r < 0) {
		log_warning("VM '%s': %s", vm->def.name, err.msg);
		machine_reconnect_later(vm);
	}
	return 0;
}

void machine_reconnect_later(struct machine *vm)
{
	int r;

	if (!vm->spawn.active || vm->reconnect)
		return;
	r = sd_event_add_time_relative(vm->manager->event, &vm->reconnect, CLOCK_MONOTONIC,
				       vm->manager->reconnect_usec, 0, on_reconnect, vm);
	if (r < 0)
		log_error("VM '%s': cannot set a timer to connect again: %s", vm->def.name,
			  strerror(-r));
}

static void on_worker_lost(void *data)
{
	struct machine *vm = data;
	struct worker *worker = TAKE_PTR(vm->worker);

	worker_free(worker);
	if (vm->start && machine_start_lost(vm))
		return;
	/* Dead, and the end of the process is about to be seen; or somebody else has connected. */
	machine_reconnect_later(vm);
}

static const struct worker_handlers worker_handlers = {
	.state_changed = on_worker_state,
	.event = on_worker_event,
	.lost = on_worker_lost,
};

int machine_connect(struct machine *vm, struct err *err)
{
	g_autofree char *path = runtime_control_path(vm->manager->runtime_dir, vm->def.name);

	assert(!vm->worker);
	return worker_connect(vm->manager->event, path, &worker_handlers, vm, &vm->worker, err);
}

int machine_check_config(const struct machine *vm, const char *config, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *parsed = NULL;
	int r;

	r = machine_parse_config(config, &parsed, NULL, err);
	return r < 0 ? r : check_uuid(parsed, &vm->def, err);
}

/* Puts a changed definition on disk (or into the state file), then into force. */
static int save_definition(struct machine *vm, const struct definition *def, struct err *err)
{
	if (def->persistent)
		return store_save(vm->manager->state_dir, def, err);
	return 0;
}

/* A running VM's state file holds its definition too; an old one there is not worth a failure. */
static void refresh_runtime(struct machine *vm)
{
	struct err err = { 0 };

	if (vm->boot && machine_save_runtime(vm, &err) < 0)
		log_warning("VM '%s': %s", vm->def.name, err.msg);
}

int machine_set_config(struct machine *vm, const char *config, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *parsed = NULL;
	g_autofree char *normalised = NULL;
	struct definition def = vm->def;
	int r;

	r = machine_check_idle(vm, err);
	if (r == 0)
		r = machine_parse_config(config, &parsed, &normalised, err);
	if (r == 0)
		r = check_uuid(parsed, &vm->def, err);
	if (r < 0)
		return r;
	def.config = normalised;
	r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	g_free(vm->def.config);
	vm->def.config = g_steal_pointer(&normalised);
	vm_config_free(vm->next);
	vm->next = TAKE_PTR(parsed);
	refresh_runtime(vm);
	if (!vm->boot)
		machine_changed(vm, MACHINE_PROPERTY_CONFIG);
	update_restart_required(vm);
	return 0;
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
	refresh_runtime(vm);
	machine_changed(vm, MACHINE_PROPERTY_AUTOSTART);
	return 0;
}

int machine_set_description(struct machine *vm, const char *description, struct err *err)
{
	struct definition def = vm->def;
	int r;

	def.description = (char *)description;
	r = save_definition(vm, &def, err);
	if (r < 0)
		return r;
	g_free(vm->def.description);
	vm->def.description = g_strdup(description);
	refresh_runtime(vm);
	machine_changed(vm, MACHINE_PROPERTY_DESCRIPTION);
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
