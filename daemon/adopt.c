/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/adopt.h"

#include "daemon/autostart.h"
#include "daemon/created-files.h"
#include "daemon/device.h"
#include "daemon/disk-change.h"
#include "daemon/end.h"
#include "daemon/link.h"
#include "daemon/listen.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/runtime.h"
#include "daemon/stop.h"
#include "daemon/store.h"
#include "daemon/unplug.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ADOPT_QUERY_USEC (5 * 1000000ULL)

static bool is_known(const char *name, void *data)
{
	struct machine *vm = manager_find(data, name);

	return vm && vm->spawn.active;
}

static void adoption_answered(struct manager *manager)
{
	void (*done)(void *data) = manager->adopted;

	if (--manager->n_adopting > 0 || !done)
		return;
	manager->adopted = NULL;
	if (manager->spawner->ops->report_unknown)
		manager->spawner->ops->report_unknown(manager->spawner, is_known, manager);
	done(manager->adopted_data);
}

static void adopted_as(struct machine *vm, enum machine_state state, const char *reason)
{
	struct manager *manager = vm->manager;

	vm->adopt_timer = sd_event_source_disable_unref(vm->adopt_timer);
	if (state != vm->state)
		machine_set_state(vm, state, reason);
	vm->adopting = false;
	vm->preparing = false;
	created_files_deinit(&vm->created);
	autostart_settle(manager->autostart, vm->def.name);
	machine_register(vm);
	if (vm->stop_to_resume.present && state == MACHINE_STATE_RUNNING)
		machine_resume_stop(vm);
	if (vm->terminating)
		machine_resume_end(vm);
	log_info("VM '%s' is %s, worker %u", vm->def.name, machine_state_to_string(vm->state),
		 vm->spawn.pid);
	adoption_answered(manager);
}

/* A worker whose start was cut short has no guest; its resources are lost with the daemon. */
static void abandon_start(struct machine *vm)
{
	snprintf(vm->worker_reason, sizeof(vm->worker_reason), "%s",
		 MACHINE_REASON_DAEMON_RESTARTED);
	machine_kill(vm);
}

static void adopt_silent(struct machine *vm, const char *why)
{
	log_warning("VM '%s': its worker does not say what it does: %s", vm->def.name, why);
	machine_reconnect_later(vm);
	adopted_as(vm, MACHINE_STATE_RUNNING, "worker-silent");
}

/* The limit of the call counts from when the worker has let us in, which it may never do. */
static int on_adopt_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct machine *vm = userdata;

	(void)source;
	(void)usec;
	if (vm->adopting)
		adopt_silent(vm, "it does not answer");
	return 0;
}

static void on_query(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;
	g_autoptr(GVariant) answer = NULL;
	struct err parse = { 0 };
	g_autofree char *state = NULL;
	guint32 boots = 1;

	if (!vm->adopting)
		return;
	if (err && err->code == ECONNRESET && !vm->spawn.active)
		return;
	if (err ||
	    variant_from_message_max(reply, "a{sv}", WORKER_ANSWER_MAX, &answer, &parse) < 0) {
		adopt_silent(vm, err ? err->msg : parse.msg);
		return;
	}
	g_variant_lookup(answer, "state", "s", &state);
	if (g_variant_lookup(answer, "boots", "u", &boots))
		vm->n_boots = boots;
	if (g_strcmp0(state, WORKER_STATE_IDLE) == 0) {
		abandon_start(vm);
		return;
	}
	if (g_strcmp0(state, WORKER_STATE_PAUSED) == 0)
		adopted_as(vm, MACHINE_STATE_PAUSED, MACHINE_REASON_DAEMON_RESTARTED);
	else
		adopted_as(vm, MACHINE_STATE_RUNNING, MACHINE_REASON_DAEMON_RESTARTED);
	machine_devices_take(vm, answer);
	machine_take_sizes(vm, answer);
	machine_review_replace(vm);
	if (vm->removal_to_resume.id)
		machine_resume_removal(vm);
	if (vm->resize_to_resume.present)
		machine_resume_resize(vm);
}

void machine_adopt_started(struct machine *vm, const struct err *err)
{
	struct spawn_exit gone = { 0 };
	struct err cause = { 0 };
	int r;

	if (err) {
		machine_adopt_exited(vm, &gone);
		return;
	}
	if (vm->preparing) {
		abandon_start(vm);
		return;
	}
	r = machine_connect(vm, &cause);
	if (r == 0)
		r = worker_call(vm->worker, "Query", ADOPT_QUERY_USEC, on_query, vm, &cause, NULL);
	if (r == 0) {
		r = sd_event_add_time_relative(vm->manager->event, &vm->adopt_timer,
					       CLOCK_MONOTONIC, ADOPT_QUERY_USEC, 0, on_adopt_timer,
					       vm);
		if (r < 0)
			err_errno(&cause, -r, "cannot set a timer");
	}
	if (r < 0)
		adopt_silent(vm, cause.msg);
}

void machine_adopt_exited(struct machine *vm, const struct spawn_exit *how)
{
	struct manager *manager = vm->manager;
	enum machine_state state = MACHINE_STATE_STOPPED;
	const char *reason;
	bool cut_short;

	if (vm->worker)
		worker_drain(vm->worker); /* its last words may still be in the socket */
	if (!vm->adopting) {
		/* The answer to Query was among them. */
		machine_on_exited(vm, how);
		return;
	}
	cut_short =
		vm->preparing || strcmp(vm->worker_reason, MACHINE_REASON_DAEMON_RESTARTED) == 0;
	vm->reconnect = sd_event_source_disable_unref(vm->reconnect);
	reason = cut_short ? MACHINE_REASON_DAEMON_RESTARTED : machine_exit_reason(vm, how);
	if (cut_short)
		state = MACHINE_STATE_FAILED;
	else if (!machine_exit_is_clean(reason))
		state = MACHINE_STATE_CRASHED;
	snprintf(vm->last_exit_reason, sizeof(vm->last_exit_reason), "%s", reason);
	vm->last_exit_status = how->status;
	worker_free(TAKE_PTR(vm->worker));
	runtime_remove(manager->runtime_dir, vm->def.name);
	g_clear_pointer(&vm->taps, g_strfreev);
	machine_set_console_paths(vm, NULL);
	listen_remove_later(vm->boot, vm->def.owner, manager->event, vm->def.name);
	machine_set_boot(vm, NULL, NULL);
	if (state != vm->state)
		machine_set_state(vm, state, vm->last_exit_reason);
	vm->terminating = false;
	vm->preparing = false;
	vm->worker_reason[0] = '\0';
	vm->adopting = false;
	if (cut_short) {
		created_files_remove_later(&vm->created, manager->event, vm->def.name);
		log_error("VM '%s' was not started: the daemon ended meanwhile", vm->def.name);
	} else {
		created_files_deinit(&vm->created);
		autostart_settle(manager->autostart, vm->def.name);
		log_info("VM '%s' ended while no daemon ran: %s", vm->def.name,
			 vm->last_exit_reason);
	}
	machine_ended(vm);
	adoption_answered(manager);
}

static struct machine *find_or_make(struct manager *manager, struct runtime_state *state,
				    struct err *err)
{
	struct machine *vm = manager_find(manager, state->def.name);
	struct err save = { 0 };
	int r;

	if (vm && strcmp(vm->def.uuid, state->def.uuid) == 0)
		return vm;
	if (vm) {
		err_set(err, EBADMSG, "it describes a VM of another UUID than the defined one");
		return NULL;
	}
	/* A transient one, or one whose definition was damaged: its worker is what there is. */
	r = manager_check_new(manager, state->def.name, state->def.uuid, err);
	if (r == 0)
		r = machine_new(manager, &state->def, &vm, err);
	if (r < 0)
		return NULL;
	manager_add(manager, vm);
	/* Its file is gone, and this is the last copy: without one it would end with its worker. */
	if (vm->def.persistent) {
		log_warning("VM '%s' runs but had no definition: it is written back", vm->def.name);
		if (store_save(manager->state_dir, &vm->def, &save) < 0)
			log_error("VM '%s' loses its definition when it ends: %s", vm->def.name,
				  save.msg);
	}
	return vm;
}

static void adopt_one(struct runtime_state *state, void *data)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *boot = NULL;
	g_autofree char *name = g_strdup(state->def.name);
	struct spawn_exit gone = { 0 };
	struct manager *manager = data;
	struct machine *vm = NULL;
	struct err err = { 0 };
	int r;

	r = machine_parse_config(state->boot_config, &boot, NULL, &err);
	if (r == 0)
		vm = find_or_make(manager, state, &err);
	if (!vm) {
		/* The worker itself is left alone: never kill what is not understood. */
		log_error("the worker of VM '%s' cannot be adopted", name);
		runtime_set_aside(manager->runtime_dir, name, &err);
		runtime_state_deinit(state);
		return;
	}
	vm->adopting = true;
	manager->n_adopting++;
	machine_set_boot(vm, TAKE_PTR(boot), TAKE_PTR(state->boot_config));
	vm->taps = TAKE_PTR(state->taps);
	vm->console_paths = state->console_paths;
	vm->terminating = state->exit_reason != NULL;
	vm->preparing = state->preparing;
	vm->stop_to_resume = state->stop;
	vm->removal_to_resume = state->removal;
	state->removal = (struct runtime_removal){ 0 };
	vm->resize_to_resume = state->resize;
	vm->replace = state->replace;
	state->replace = (struct runtime_replace){ 0 };
	vm->created = state->created;
	state->created = (struct created_files){ 0 };
	vm->spawn.pid = state->pid;
	vm->spawn.pid_start = state->pid_start;
	snprintf(vm->spawn.invocation_id, sizeof(vm->spawn.invocation_id), "%s",
		 state->invocation_id ? state->invocation_id : "");
	runtime_state_deinit(state);
	r = manager->spawner->ops->adopt(&vm->spawn, vm->def.name, &err);
	if (r < 0) {
		log_debug("VM '%s': %s", vm->def.name, err.msg);
		machine_adopt_exited(vm, &gone);
	}
}

int manager_adopt(struct manager *manager, void (*done)(void *data), void *data, struct err *err)
{
	int r;

	manager->adopted = done;
	manager->adopted_data = data;
	manager->n_adopting = 1; /* ourselves, so that it cannot be over before the last file */
	r = runtime_load(manager->runtime_dir, adopt_one, manager, err);
	if (r < 0) {
		manager->adopted = NULL;
		return r;
	}
	adoption_answered(manager);
	return 0;
}
