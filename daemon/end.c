/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/end.h"

#include "daemon/link.h"
#include "daemon/listen.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/plug.h"
#include "daemon/runtime.h"
#include "daemon/start.h"
#include "daemon/stop.h"
#include "daemon/unplug.h"
#include "daemon/worker.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct end_waiter {
	struct list link;
	machine_done_fn fn;
	void *data;
};

/* What a worker's end means, from what it said last and how it went. */
static const struct {
	const char *result; /* systemd's word */
	const char *reason; /* LastExitReason */
} exit_reasons[] = {
	{ "signal", "signal" },     { "core-dump", "core-dump" }, { "watchdog", "watchdog" },
	{ "oom-kill", "oom-kill" }, { "timeout", "timeout" },
};

void machine_kill(struct machine *vm)
{
	struct err err = { 0 };

	if (vm->spawn.active && vm->spawn.spawner->ops->kill(&vm->spawn, SIGKILL, &err) < 0)
		log_error("VM '%s': %s", vm->def.name, err.msg);
}

static int on_quit_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct machine *vm = userdata;

	(void)source;
	(void)usec;
	vm->quit_timer = sd_event_source_disable_unref(vm->quit_timer);
	log_warning("VM '%s': the worker does not quit, killing it", vm->def.name);
	machine_kill(vm);
	return 0;
}

static void on_quit_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	if (err && err->code != ECONNRESET && vm->terminating)
		machine_kill(vm);
}

/* Quit lets the worker close its devices in order; a kill is for one that cannot. */
void machine_begin_end(struct machine *vm)
{
	if (vm->terminating)
		return;
	vm->terminating = true;
	machine_commit_stop(vm);
	/* If the daemon dies before the worker does, its successor knows why it ended. */
	machine_refresh_runtime(vm);
	if (!vm->worker ||
	    sd_event_add_time_relative(vm->manager->event, &vm->quit_timer, CLOCK_MONOTONIC,
				       vm->manager->quit_grace_usec, 0, on_quit_timeout, vm) < 0 ||
	    worker_call(vm->worker, "Quit", 0, on_quit_answer, vm, NULL, NULL) < 0)
		machine_kill(vm);
}

void machine_resume_end(struct machine *vm)
{
	vm->terminating = false;
	/* If it was a shutdown's own doing, that is to end as done. */
	machine_stop_expired(vm);
	machine_begin_end(vm);
}

int machine_check_terminate(const struct machine *vm, struct err *err)
{
	return machine_check_state(vm, ~MACHINE_STATES_ENDED, "terminate", err);
}

int machine_terminate(struct machine *vm, machine_done_fn fn, void *data, struct err *err)
{
	struct err cancelled = { 0 };
	struct end_waiter *waiter;
	int r;

	r = machine_check_terminate(vm, err);
	if (r < 0)
		return r;
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return err_errno(err, ENOMEM, "cannot terminate VM '%s'", vm->def.name);
	waiter->fn = fn;
	waiter->data = data;
	list_append(&vm->end_waiters, &waiter->link);
	if (vm->start) {
		err_fault(&cancelled, FAULT_CANCELLED, ECANCELED, "VM '%s' was terminated",
			  vm->def.name);
		machine_start_abort(vm, &cancelled);
	} else {
		machine_begin_end(vm);
	}
	return 0;
}

const char *machine_exit_reason(const struct machine *vm, const struct spawn_exit *how)
{
	bool success = how->known && strcmp(how->result, "success") == 0;

	if (vm->terminating)
		return "terminated";
	/* Killed by us: the signal is not the reason. */
	if (strcmp(vm->worker_reason, MACHINE_REASON_DAEMON_RESTARTED) == 0)
		return MACHINE_REASON_DAEMON_RESTARTED;
	if (strcmp(vm->worker_reason, MACHINE_REASON_WORKER_MISBEHAVED) == 0)
		return MACHINE_REASON_WORKER_MISBEHAVED;
	if (strcmp(vm->worker_reason, WORKER_REASON_REQUEST) == 0)
		return "terminated";
	for (size_t i = 0; how->known && i < ARRAY_SIZE(exit_reasons); i++)
		if (strcmp(exit_reasons[i].result, how->result) == 0)
			return exit_reasons[i].reason;
	if (vm->worker_reason[0])
		return vm->worker_reason;
	/* A status says less than words, but outlives the connection. */
	if (how->known && !how->signaled && how->status == WORKER_EXIT_TRIPLE_FAULT)
		return WORKER_REASON_TRIPLE_FAULT;
	/* Nothing is left of a unit that ended well before there was a daemon. */
	return success || (!how->known && vm->adopting) ? WORKER_REASON_GUEST_SHUTDOWN : "failed";
}

bool machine_exit_is_clean(const char *reason)
{
	return strcmp(reason, "terminated") == 0 ||
	       strcmp(reason, WORKER_REASON_GUEST_SHUTDOWN) == 0;
}

/* How the job that was under way ends with its VM; NULL = as it was meant to. */
static const struct err *job_outcome(const struct machine *vm, const char *reason, bool clean,
				     bool forced, struct err *err)
{
	if (!vm->job)
		return NULL;
	if (vm->job->kind == JOB_KIND_SHUTDOWN && clean && (!vm->terminating || forced))
		return NULL;
	if (vm->terminating)
		err_fault(err, FAULT_CANCELLED, ECANCELED, "VM '%s' was terminated", vm->def.name);
	else
		err_fault(err, FAULT_WORKER_FAILED, ECHILD, "VM '%s' ended (%s) during the %s",
			  vm->def.name, reason, job_kind_to_string(vm->job->kind));
	return err;
}

static void tell_waiters(struct list *waiters, const struct err *err)
{
	struct end_waiter *waiter, *next;

	LIST_FOREACH_SAFE(waiter, next, waiters, link) {
		list_remove(&waiter->link);
		waiter->fn(waiter->data, NULL, err);
		free(waiter);
	}
}

void machine_drop_waiters(struct machine *vm)
{
	struct err err = { 0 };

	err_set(&err, ESHUTDOWN, "the daemon stops, VM '%s' is about to end", vm->def.name);
	tell_waiters(&vm->end_waiters, &err);
}

void machine_ended(struct machine *vm)
{
	struct manager *manager = vm->manager;
	struct end_waiter *waiter, *next;
	struct list waiters;

	/* They outlive a transient VM, and are told when it is gone. */
	list_init(&waiters);
	LIST_FOREACH_SAFE(waiter, next, &vm->end_waiters, link) {
		list_remove(&waiter->link);
		list_append(&waiters, &waiter->link);
	}
	manager_flush(manager);
	if (!vm->def.persistent)
		manager_remove(manager, vm);
	tell_waiters(&waiters, NULL);
}

void machine_on_exited(struct machine *vm, const struct spawn_exit *how)
{
	bool forced = machine_stop_is_forced(vm);
	struct worker *worker;
	const struct err *outcome;
	struct err err = { 0 };
	char reason[32];
	bool clean;

	if (vm->worker)
		worker_drain(vm->worker); /* its last words may still be in the socket */
	worker = TAKE_PTR(vm->worker);
	snprintf(reason, sizeof(reason), "%s", machine_exit_reason(vm, how));
	clean = machine_exit_is_clean(reason);
	outcome = job_outcome(vm, reason, clean, forced, &err);
	stop_free(TAKE_PTR(vm->stop));
	unplug_free(TAKE_PTR(vm->unplug));
	resize_free(TAKE_PTR(vm->resize));
	machine_abort_plug(vm);
	vm->quit_timer = sd_event_source_disable_unref(vm->quit_timer);
	vm->reconnect = sd_event_source_disable_unref(vm->reconnect);
	worker_free(worker);
	runtime_remove(vm->manager->runtime_dir, vm->def.name);
	g_clear_pointer(&vm->taps, g_strfreev);
	machine_set_console_paths(vm, NULL);
	g_clear_pointer(&vm->machine_name, g_free);
	listen_remove_later(vm->boot, vm->def.owner, vm->manager->event, vm->def.name);
	machine_set_boot(vm, NULL, NULL);
	vm->n_boots = 0;
	snprintf(vm->last_exit_reason, sizeof(vm->last_exit_reason), "%s", reason);
	vm->last_exit_status = how->status;
	machine_changed(vm, MACHINE_PROPERTY_PROCESS | MACHINE_PROPERTY_LAST_EXIT |
				    MACHINE_PROPERTY_MACHINE_NAME);
	if (!clean)
		log_error("VM '%s' crashed: %s (result '%s', %s %d)", vm->def.name, reason,
			  how->known ? how->result : "unknown", how->signaled ? "signal" : "status",
			  how->status);
	machine_set_state(vm, clean ? MACHINE_STATE_STOPPED : MACHINE_STATE_CRASHED, reason);
	vm->terminating = false;
	vm->worker_reason[0] = '\0';
	machine_end_job(vm, outcome);
	machine_ended(vm);
}
