/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/stop.h"

#include "daemon/end.h"
#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <errno.h>
#include <glib.h>
#include <stdlib.h>

#define BUTTON_USEC (10 * 1000000ULL)

struct stop {
	struct machine *vm;
	bool reboot, force;
	uint64_t deadline_usec; /* CLOCK_REALTIME: survives the daemon; 0 = never */
	bool forced;            /* the guest did not react: the machine ends it */
	sd_event_source *button, *timeout;
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

static void stop_give_up(struct machine *vm, const struct err *err, const char *reason)
{
	stop_free(TAKE_PTR(vm->stop));
	machine_refresh_runtime(vm);
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

static int press_button(struct stop *stop, struct err *err)
{
	struct machine *vm = stop->vm;
	int r = machine_check_connection(vm, err);

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

/* The end has begun: there is no way back, and no reason to ask the guest again. */
void machine_commit_stop(struct machine *vm)
{
	if (vm->stop)
		vm->stop->button = sd_event_source_disable_unref(vm->stop->button);
	if (vm->job)
		job_forbid_cancel(vm->job);
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
		machine_begin_end(vm);
		return 0;
	}
	if (stop->force && vm->worker) {
		machine_commit_stop(vm);
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

/* id: of the job when resuming, else 0: then the button is pressed at once */
static int begin_stop(struct machine *vm, uid_t owner, bool reboot, uint32_t id,
		      const struct stop_options *options, struct err *err)
{
	struct err cause = { 0 };
	bool press = id == 0;
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
	/* Without one the guest may just have ended by itself, which is what is asked for. */
	if (r >= 0 && press && reboot)
		r = machine_check_connection(vm, err);
	if (r >= 0)
		r = machine_begin_job(vm, reboot ? JOB_KIND_REBOOT : JOB_KIND_SHUTDOWN, owner, id,
				      err);
	if (r < 0) {
		stop_free(stop);
		return r;
	}
	vm->stop = stop;
	job_allow_cancel(vm->job, on_stop_cancel, vm);
	job_set_phase(vm->job, "waiting for the guest");
	machine_refresh_runtime(vm);
	/* Only now: a request that is refused must not reach the guest. The timer tries again. */
	if (press && press_button(stop, &cause) < 0)
		log_info("VM '%s': %s", vm->def.name, cause.msg);
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
	struct err err = { 0 };

	vm->stop_to_resume.present = false;
	if (was.deadline_usec)
		options.timeout_usec =
			was.deadline_usec > now_usec() ? was.deadline_usec - now_usec() : 1;
	if (begin_stop(vm, was.owner, was.reboot, was.job, &options, &err) < 0)
		log_error("VM '%s': what was begun is not continued: %s", vm->def.name, err.msg);
	else
		machine_set_state(vm,
				  was.reboot ? MACHINE_STATE_REBOOTING
					     : MACHINE_STATE_SHUTTING_DOWN,
				  "daemon-restarted");
}

static int start_stop(struct machine *vm, uid_t owner, bool reboot,
		      const struct stop_options *options, struct err *err)
{
	int r;

	r = machine_check_shutdown(vm, reboot ? "reboot" : "shut down", err);
	if (r == 0)
		r = begin_stop(vm, owner, reboot, 0, options, err);
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
	machine_refresh_runtime(vm);
	machine_set_state(vm, MACHINE_STATE_RUNNING, reason);
	machine_end_job(vm, NULL);
}

bool machine_stop_is_forced(const struct machine *vm)
{
	return vm->stop && vm->stop->forced;
}

void machine_stop_expired(struct machine *vm)
{
	struct stop *stop = vm->stop;

	if (stop && stop->force && !stop->reboot && stop->deadline_usec &&
	    stop->deadline_usec <= now_usec())
		stop->forced = true;
}
