/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/unplug.h"

#include "daemon/device.h"
#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <string.h>

#define ASK_USEC (10 * 1000000ULL)

struct unplug {
	struct machine *vm;
	char *id;
	bool force;
	bool taking;            /* the guest is not asked any more */
	bool unheard;           /* the connection ended before the worker has answered */
	uint64_t deadline_usec; /* CLOCK_REALTIME: survives the daemon; 0 = never */
	sd_event_source *timeout;
};

/* A question to the worker: its answer may come when the next removal is under way. */
struct question {
	struct machine *vm;
	uint32_t job;
};

void unplug_free(struct unplug *unplug)
{
	if (!unplug)
		return;
	sd_event_source_disable_unref(unplug->timeout);
	g_free(unplug->id);
	g_free(unplug);
}

static uint64_t now_usec(void)
{
	return (uint64_t)g_get_real_time();
}

static void unplug_end(struct machine *vm, const struct err *err)
{
	struct unplug *unplug = TAKE_PTR(vm->unplug);
	struct machine_device *dev = machine_find_device(vm, unplug->id);

	if (dev)
		machine_device_set_ejecting(dev, false);
	unplug_free(unplug);
	machine_refresh_runtime(vm);
	machine_end_job(vm, err);
}

static void ignore_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;

	(void)reply;
	if (err)
		log_debug("VM '%s': %s", vm->def.name, err->msg);
}

/* The guest keeps it. */
static void give_up(struct machine *vm, const struct err *err)
{
	if (vm->worker)
		(void)worker_call(vm->worker, "ForgetRemoval", ASK_USEC, ignore_answer, vm, NULL,
				  "s", vm->unplug->id);
	unplug_end(vm, err);
}

static void on_asked(void *data, sd_bus_message *reply, const struct err *err)
{
	g_autofree struct question *question = data;
	struct machine *vm = question->vm;
	struct err cause = { 0 };

	(void)reply;
	/* That it is gone arrives as a signal, before the answer. */
	if (!err || !vm->unplug || !vm->job || vm->job->id != question->job)
		return;
	if (err->code == ECONNRESET) {
		vm->unplug->unheard = true;
		return;
	}
	cause = *err;
	err_prefix(&cause, -1, "cannot remove device '%s' of VM '%s'", vm->unplug->id,
		   vm->def.name);
	unplug_end(vm, &cause);
}

static int ask(struct unplug *unplug, struct err *err)
{
	struct machine *vm = unplug->vm;
	struct question *question;
	int r = machine_check_connection(vm, err);

	if (r < 0)
		return r;
	unplug->unheard = false;
	question = g_new0(struct question, 1);
	question->vm = vm;
	question->job = vm->job->id;
	r = worker_call(vm->worker, "RemoveDevice", vm->manager->request_usec, on_asked, question,
			err, "sb", unplug->id, (int)unplug->taking);
	if (r < 0)
		g_free(question);
	return r;
}

static void take_it(struct unplug *unplug)
{
	struct machine *vm = unplug->vm;
	struct err err = { 0 };

	unplug->timeout = sd_event_source_disable_unref(unplug->timeout);
	job_forbid_cancel(vm->job);
	job_set_phase(vm->job, "taking it from the guest");
	unplug->taking = true;
	if (!vm->worker)
		unplug->unheard = true; /* when there is a connection again */
	else if (ask(unplug, &err) < 0)
		unplug_end(vm, &err);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct unplug *unplug = userdata;
	struct machine *vm = unplug->vm;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	if (unplug->force) {
		take_it(unplug);
		return 0;
	}
	err_fault(&err, FAULT_GUEST_TIMEOUT, ETIMEDOUT,
		  "the guest of VM '%s' did not let go of device '%s' in time; it has it still",
		  vm->def.name, unplug->id);
	give_up(vm, &err);
	return 0;
}

static void on_cancel(struct job *job, void *data)
{
	struct machine *vm = data;
	struct err err = { 0 };

	(void)job;
	err_fault(
		&err, FAULT_CANCELLED, ECANCELED,
		"the removal of device '%s' was canceled; the guest may let go of it all the same",
		vm->unplug->id);
	give_up(vm, &err);
}

static bool is_live(const struct machine *vm)
{
	return vm->boot && (MACHINE_STATES_GUEST & (1U << vm->state));
}

/* In the definition: key and index of a device; false: it is not there. */
static bool find_defined(const struct machine *vm, const char *id, struct config_device *ret)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(vm->next, devices);

	for (size_t i = 0; i < n; i++) {
		if (g_strcmp0(devices[i].id, id) == 0) {
			*ret = devices[i];
			return true;
		}
	}
	return false;
}

int machine_check_remove_device(const struct machine *vm, const char *id, bool persist,
				struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *next = NULL;
	const struct machine_device *dev;
	struct config_device defined;
	bool has;
	int r;

	r = machine_check_state(vm,
				MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED) |
					MACHINE_STATES_ENDED,
				"remove a device of", err);
	if (r == 0)
		r = machine_check_idle(vm, err);
	if (r < 0)
		return r;
	has = find_defined(vm, id, &defined);
	if (is_live(vm)) {
		if (!vm->devices)
			return err_fault(
				err, FAULT_WORKER_FAILED, ENOTCONN,
				"the worker of VM '%s' has not said yet which devices it has",
				vm->def.name);
		dev = machine_get_device(vm, id, err);
		if (!dev)
			return -ENXIO;
		if (!config_device_is_removable(dev->key))
			return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
					 "device '%s' (%s) cannot be removed while VM '%s' is %s",
					 id, dev->type, vm->def.name,
					 machine_state_to_string(vm->state));
	} else if (!has) {
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO,
				 "the definition of VM '%s' has no device '%s'", vm->def.name, id);
	}
	if (has && (persist || !is_live(vm)))
		return vm_config_without_device(vm->next, defined.key, defined.index, &next, err);
	return 0;
}

static int undefine(struct machine *vm, const char *id, struct err *err)
{
	struct vm_config *next = NULL;
	struct config_device defined;
	int r;

	if (!find_defined(vm, id, &defined))
		return 0;
	r = vm_config_without_device(vm->next, defined.key, defined.index, &next, err);
	return r < 0 ? r : machine_define(vm, next, err);
}

/* id: of the job when resuming, else 0 */
static int begin(struct machine *vm, uid_t owner, const char *id, uint32_t job,
		 uint64_t deadline_usec, bool force, struct err *err)
{
	struct unplug *unplug = g_new0(struct unplug, 1);
	uint64_t now = now_usec();
	int r = 0;

	unplug->vm = vm;
	unplug->id = g_strdup(id);
	unplug->force = force;
	unplug->deadline_usec = deadline_usec;
	if (deadline_usec)
		r = sd_event_add_time_relative(vm->manager->event, &unplug->timeout,
					       CLOCK_MONOTONIC,
					       deadline_usec > now ? deadline_usec - now : 1, 0,
					       on_timeout, unplug);
	if (r < 0)
		err_errno(err, -r, "cannot set a timer");
	else
		r = machine_begin_job(vm, JOB_KIND_REMOVE_DEVICE, owner, job, err);
	if (r < 0) {
		unplug_free(unplug);
		return r;
	}
	vm->unplug = unplug;
	job_allow_cancel(vm->job, on_cancel, vm);
	job_set_phase(vm->job, "waiting for the guest");
	machine_device_set_ejecting(machine_find_device(vm, id), true);
	machine_refresh_runtime(vm);
	return 0;
}

static int remove_cold(struct machine *vm, uid_t owner, const char *id, struct job **ret,
		       struct err *err)
{
	int r = undefine(vm, id, err);

	if (r == 0)
		r = machine_begin_job(vm, JOB_KIND_REMOVE_DEVICE, owner, 0, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	machine_end_job(vm, NULL);
	return 0;
}

int machine_remove_device(struct machine *vm, uid_t owner, const char *id,
			  const struct unplug_options *options, struct job **ret, struct err *err)
{
	uint64_t deadline_usec = 0, now = now_usec();
	struct err cause = { 0 };
	int r;

	r = machine_check_remove_device(vm, id, options->persist, err);
	if (r < 0)
		return r;
	if (!is_live(vm))
		return remove_cold(vm, owner, id, ret, err);
	r = machine_check_connection(vm, err);
	if (r == 0 && options->persist)
		r = undefine(vm, id, err);
	if (r < 0)
		return r;
	if (options->timeout_usec && options->timeout_usec < UINT64_MAX - now)
		deadline_usec = now + options->timeout_usec;
	r = begin(vm, owner, id, 0, deadline_usec, options->force, err);
	if (r < 0)
		return r;
	*ret = vm->job;
	/* From here on the job tells what goes wrong. */
	if (ask(vm->unplug, &cause) < 0)
		unplug_end(vm, &cause);
	return 0;
}

void machine_on_device_removed(struct machine *vm, const char *id)
{
	bool waited_for = vm->unplug && strcmp(vm->unplug->id, id) == 0;

	machine_device_gone(vm, id);
	if (waited_for)
		unplug_end(vm, NULL);
}

void machine_review_removal(struct machine *vm)
{
	struct err err = { 0 };

	if (!vm->unplug)
		return;
	if (!machine_find_device(vm, vm->unplug->id))
		unplug_end(vm, NULL);
	else if (vm->unplug->unheard && ask(vm->unplug, &err) < 0)
		unplug_end(vm, &err);
}

void machine_on_removal_refused(struct machine *vm, const char *id)
{
	struct err err = { 0 };

	if (!vm->unplug || strcmp(vm->unplug->id, id) != 0)
		return;
	if (vm->unplug->force) {
		if (!vm->unplug->taking)
			take_it(vm->unplug);
		return;
	}
	err_fault(&err, FAULT_BUSY, EBUSY,
		  "the guest of VM '%s' does not let go of device '%s': it is in use there",
		  vm->def.name, id);
	give_up(vm, &err);
}

void machine_describe_removal(const struct machine *vm, struct runtime_removal *ret)
{
	*ret = (struct runtime_removal){
		.id = vm->unplug->id,
		.force = vm->unplug->force,
		.deadline_usec = vm->unplug->deadline_usec,
		.job = vm->job ? vm->job->id : 0,
		.owner = vm->job ? vm->job->owner : 0,
	};
}

void machine_resume_removal(struct machine *vm)
{
	struct runtime_removal was = vm->removal_to_resume;
	bool there = machine_find_device(vm, was.id) != NULL;
	struct err err = { 0 };

	vm->removal_to_resume = (struct runtime_removal){ 0 };
	/* It went while no daemon listened: the job still ends, as done. */
	if (!there && machine_begin_job(vm, JOB_KIND_REMOVE_DEVICE, was.owner, was.job, &err) == 0)
		machine_end_job(vm, NULL);
	else if (there &&
		 begin(vm, was.owner, was.id, was.job, was.deadline_usec, was.force, &err) == 0 &&
		 ask(vm->unplug, &err) < 0)
		unplug_end(vm, &err);
	if (err.code)
		log_error("VM '%s': the removal of device '%s' is not continued: %s", vm->def.name,
			  was.id, err.msg);
	g_free(was.id);
}
