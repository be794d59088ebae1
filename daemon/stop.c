/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that ends a worker, and reboots
 *
 * Shutdown and Reboot are jobs that press the guest's power button until it
 * reacts.  Terminate asks the worker to quit and kills it when it does not.
 * Whatever the cause, the end of the process arrives in machine_on_exited(),
 * the one place that decides what it was and cleans up.
 */
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/runtime.h"
#include "daemon/worker.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUTTON_USEC (10 * 1000000ULL)

struct stop {
	struct machine *vm;
	bool reboot, force;
	uint64_t deadline_usec; /* CLOCK_REALTIME: survives the daemon; 0 = never */
	bool forced;            /* the guest did not react: the machine ends it */
	sd_event_source *button, *timeout;
};

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
	{ "oom-kill", "oom-kill" }, { "timeout", "timeout" },     { "exit-code", "failed" },
};

void stop_free(struct stop *stop)
{
	if (!stop)
		return;
	sd_event_source_disable_unref(stop->button);
	sd_event_source_disable_unref(stop->timeout);
	free(stop);
}

static uint64_t now_usec(void)
{
	return (uint64_t)g_get_real_time();
}

static void save(struct machine *vm)
{
	struct err err = { 0 };

	if (machine_save_runtime(vm, &err) < 0)
		log_warning("VM '%s': %s", vm->def.name, err.msg);
}

static void stop_give_up(struct machine *vm, const struct err *err, const char *reason)
{
	stop_free(TAKE_PTR(vm->stop));
	save(vm);
	machine_set_state(vm, MACHINE_STATE_RUNNING, reason);
	machine_end_job(vm, err);
}

static void on_button_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	/* The timeout decides; a worker that is going away cannot answer. */
	if (err && vm->stop && vm->spawn.active)
		log_debug("VM '%s': power button: %s", vm->def.name, err->msg);
}

static int check_connection(const struct machine *vm, struct err *err)
{
	if (vm->worker)
		return 0;
	return err_fault(err, FAULT_WORKER_FAILED, ENOTCONN,
			 "there is no connection to the worker of VM '%s'", vm->def.name);
}

static int press_button(struct stop *stop, struct err *err)
{
	struct machine *vm = stop->vm;
	int r = check_connection(vm, err);

	return r < 0 ? r
		     : worker_call(vm->worker, stop->reboot ? "Reboot" : "PowerButton", BUTTON_USEC,
				   on_button_answer, vm, err, NULL);
}

static int on_button_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct stop *stop = userdata;
	struct err err = { 0 };

	(void)usec;
	if (press_button(stop, &err) < 0)
		log_debug("VM '%s': %s", stop->vm->def.name, err.msg);
	sd_event_source_set_time_relative(source, stop->vm->manager->button_interval_usec);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

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

/* The end has begun: there is no way back, and no reason to ask the guest again. */
static void commit_stop(struct machine *vm)
{
	if (vm->stop)
		vm->stop->button = sd_event_source_disable_unref(vm->stop->button);
	if (vm->job)
		job_forbid_cancel(vm->job);
}

/* Quit lets the worker close its devices in order; a kill is for one that cannot. */
static void begin_terminate(struct machine *vm)
{
	if (vm->terminating)
		return;
	vm->terminating = true;
	commit_stop(vm);
	/* If the daemon dies before the worker does, its successor knows why it ended. */
	save(vm);
	if (!vm->worker ||
	    sd_event_add_time_relative(vm->manager->event, &vm->quit_timer, CLOCK_MONOTONIC,
				       vm->manager->quit_grace_usec, 0, on_quit_timeout, vm) < 0 ||
	    worker_call(vm->worker, "Quit", 0, on_quit_answer, vm, NULL, NULL) < 0)
		machine_kill(vm);
}

static void on_reset_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	/* Success arrives as the guest's new start. */
	if (err && vm->stop)
		stop_give_up(vm, err, "reset-failed");
}

static int on_stop_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct stop *stop = userdata;
	struct machine *vm = stop->vm;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	stop->timeout = sd_event_source_disable_unref(stop->timeout);
	if (stop->force && !stop->reboot) {
		job_set_phase(vm->job, "terminating");
		stop->forced = true;
		begin_terminate(vm);
		return 0;
	}
	if (stop->force && vm->worker) {
		commit_stop(vm);
		job_set_phase(vm->job, "resetting");
		if (worker_call(vm->worker, "Reset", BUTTON_USEC, on_reset_answer, vm, &err,
				NULL) == 0)
			return 0;
		stop_give_up(vm, &err, "reset-failed");
		return 0;
	}
	err_fault(&err, FAULT_GUEST_TIMEOUT, ETIMEDOUT,
		  "the guest of VM '%s' did not react to the power button in time", vm->def.name);
	stop_give_up(vm, &err, "guest-timeout");
	return 0;
}

static void on_stop_cancel(struct job *job, void *data)
{
	struct machine *vm = data;
	struct err err = { 0 };

	err_fault(&err, FAULT_CANCELLED, ECANCELED,
		  "the %s was canceled; the guest may have noticed the power button all the same",
		  job_kind_to_string(job->kind));
	stop_give_up(vm, &err, "canceled");
}

int machine_check_shutdown(const struct machine *vm, const char *verb, struct err *err)
{
	int r;

	if (vm->state == MACHINE_STATE_PAUSED)
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "cannot %s VM '%s': it is paused, resume it first", verb,
				 vm->def.name);
	r = machine_check_idle(vm, err);
	return r < 0 ? r : machine_check_state(vm, MACHINE_STATES(RUNNING), verb, err);
}

static int arm_timers(struct stop *stop, uint64_t timeout_usec)
{
	struct manager *manager = stop->vm->manager;
	int r;

	r = sd_event_add_time_relative(manager->event, &stop->button, CLOCK_MONOTONIC,
				       manager->button_interval_usec, 0, on_button_timer, stop);
	if (r >= 0 && timeout_usec && timeout_usec != UINT64_MAX)
		r = sd_event_add_time_relative(manager->event, &stop->timeout, CLOCK_MONOTONIC,
					       timeout_usec, 0, on_stop_timeout, stop);
	return r;
}

/* press: at once, or (resuming) when the timer says so */
static int begin_stop(struct machine *vm, uid_t owner, bool reboot, bool press,
		      const struct stop_options *options, struct err *err)
{
	struct err cause = { 0 };
	struct stop *stop;
	int r;

	stop = calloc(1, sizeof(*stop));
	if (!stop)
		return err_errno(err, ENOMEM, "cannot stop VM '%s'", vm->def.name);
	stop->vm = vm;
	stop->reboot = reboot;
	stop->force = options->force;
	if (options->timeout_usec && options->timeout_usec < UINT64_MAX - now_usec())
		stop->deadline_usec = now_usec() + options->timeout_usec;
	r = arm_timers(stop, stop->deadline_usec ? options->timeout_usec : 0);
	if (r < 0)
		err_errno(err, -r, "cannot set a timer");
	if (r >= 0 && press)
		r = check_connection(vm, err);
	if (r >= 0)
		r = machine_begin_job(vm, reboot ? JOB_KIND_REBOOT : JOB_KIND_SHUTDOWN, owner, err);
	if (r < 0) {
		stop_free(stop);
		return r;
	}
	vm->stop = stop;
	vm->job->cancel = on_stop_cancel;
	vm->job->cancel_data = vm;
	vm->job->cancelable = true;
	job_set_phase(vm->job, "waiting for the guest");
	save(vm);
	/* Only now: a request that is refused must not reach the guest. The timer tries again. */
	if (press && press_button(stop, &cause) < 0)
		log_warning("VM '%s': %s", vm->def.name, cause.msg);
	return 0;
}

void machine_describe_stop(const struct machine *vm, struct runtime_stop *ret)
{
	*ret = (struct runtime_stop){
		.present = vm->stop && vm->job,
		.reboot = vm->stop->reboot,
		.force = vm->stop->force,
		.deadline_usec = vm->stop->deadline_usec,
		.job = vm->job ? vm->job->id : 0,
		.owner = vm->job ? vm->job->owner : 0,
	};
}

void machine_resume_stop(struct machine *vm)
{
	struct runtime_stop was = vm->stop_to_resume;
	struct stop_options options = { .force = was.force };
	uint32_t last = vm->manager->last_job_id;
	struct err err = { 0 };

	vm->stop_to_resume.present = false;
	if (was.deadline_usec)
		options.timeout_usec =
			was.deadline_usec > now_usec() ? was.deadline_usec - now_usec() : 1;
	vm->manager->last_job_id = was.job - 1;
	if (begin_stop(vm, was.owner, was.reboot, false, &options, &err) < 0)
		log_error("VM '%s': what was begun is not continued: %s", vm->def.name, err.msg);
	else
		machine_set_state(vm,
				  was.reboot ? MACHINE_STATE_REBOOTING
					     : MACHINE_STATE_SHUTTING_DOWN,
				  "daemon-restarted");
	vm->manager->last_job_id = MAX(last, vm->manager->last_job_id);
}

static int start_stop(struct machine *vm, uid_t owner, bool reboot,
		      const struct stop_options *options, struct err *err)
{
	int r;

	r = machine_check_shutdown(vm, reboot ? "reboot" : "shut down", err);
	if (r == 0)
		r = begin_stop(vm, owner, reboot, true, options, err);
	if (r == 0)
		machine_set_state(vm,
				  reboot ? MACHINE_STATE_REBOOTING : MACHINE_STATE_SHUTTING_DOWN,
				  "request");
	return r;
}

int machine_shutdown(struct machine *vm, uid_t owner, const struct stop_options *options,
		     struct err *err)
{
	return start_stop(vm, owner, false, options, err);
}

int machine_reboot(struct machine *vm, uid_t owner, const struct stop_options *options,
		   struct err *err)
{
	return start_stop(vm, owner, true, options, err);
}

void machine_on_rebooted(struct machine *vm, const char *reason)
{
	vm->n_boots++;
	if (vm->state != MACHINE_STATE_REBOOTING)
		return;
	stop_free(TAKE_PTR(vm->stop));
	save(vm);
	machine_set_state(vm, MACHINE_STATE_RUNNING, reason);
	machine_end_job(vm, NULL);
}

void machine_resume_terminate(struct machine *vm)
{
	struct stop *stop = vm->stop;

	vm->terminating = false;
	/* Then it was the shutdown's own doing, which is to end as done. */
	if (stop && stop->force && !stop->reboot && stop->deadline_usec &&
	    stop->deadline_usec <= now_usec())
		stop->forced = true;
	begin_terminate(vm);
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
		begin_terminate(vm);
	}
	return 0;
}

static const char *exit_reason(const struct machine *vm, const struct spawn_exit *how)
{
	if (vm->terminating)
		return "terminated";
	if (strcmp(vm->worker_reason, WORKER_REASON_REQUEST) == 0)
		return "terminated";
	if (how->known && strcmp(how->result, "success") != 0) {
		for (size_t i = 0; i < ARRAY_SIZE(exit_reasons); i++)
			if (strcmp(exit_reasons[i].result, how->result) == 0 &&
			    (strcmp(how->result, "exit-code") != 0 || !vm->worker_reason[0]))
				return exit_reasons[i].reason;
	}
	if (vm->worker_reason[0])
		return vm->worker_reason;
	return how->known && strcmp(how->result, "success") == 0 ? WORKER_REASON_GUEST_SHUTDOWN
								 : "failed";
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
	bool forced = vm->stop && vm->stop->forced;
	struct worker *worker;
	const struct err *outcome;
	struct err err = { 0 };
	char reason[32];
	bool clean;

	if (vm->worker)
		worker_drain(vm->worker); /* its last words may still be in the socket */
	worker = TAKE_PTR(vm->worker);
	snprintf(reason, sizeof(reason), "%s", exit_reason(vm, how));
	clean = strcmp(reason, "terminated") == 0 ||
		strcmp(reason, WORKER_REASON_GUEST_SHUTDOWN) == 0;
	outcome = job_outcome(vm, reason, clean, forced, &err);
	stop_free(TAKE_PTR(vm->stop));
	vm->quit_timer = sd_event_source_disable_unref(vm->quit_timer);
	vm->reconnect = sd_event_source_disable_unref(vm->reconnect);
	worker_free(worker);
	runtime_remove(vm->manager->runtime_dir, vm->def.name);
	g_clear_pointer(&vm->taps, g_strfreev);
	g_clear_pointer(&vm->machine_name, g_free);
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
