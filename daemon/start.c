/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/start.h"

#include "daemon/autostart.h"
#include "daemon/boot-config.h"
#include "daemon/companion.h"
#include "daemon/created-files.h"
#include "daemon/device.h"
#include "daemon/end.h"
#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/opening.h"
#include "daemon/resources.h"
#include "daemon/runtime.h"
#include "daemon/task.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* For unit, resources, companions and Hello; the worker's own Start has its own limit. */
#define PREPARE_USEC (90 * 1000000ULL)
/* Longer than what systemd takes to kill something unkillable. */
#define HELLO_USEC PREPARE_USEC

struct start {
	struct machine *vm;
	bool paused;
	struct task *task; /* opening resources */
	struct resource_set resources;
	struct created_files created;       /* by this start */
	struct companion_start *companions; /* while they are being started */
	bool opened, greeted, unit_up, booted, companions_up;
	bool failing, has_runtime; /* the runtime directory is ours */
	struct err err;
	sd_event_source *timeout, *lost;
	sd_event_source *finish; /* there from the beginning: switching it on cannot fail */
};

void start_free(struct start *start)
{
	if (!start)
		return;
	task_abandon(start->task);
	companion_start_free(start->companions);
	resource_set_deinit(&start->resources);
	created_files_deinit(&start->created);
	sd_event_source_disable_unref(start->timeout);
	sd_event_source_disable_unref(start->finish);
	sd_event_source_disable_unref(start->lost);
	g_free(start);
}

/* The start is over, nothing of it is left but its result. */
static void start_finish(struct machine *vm)
{
	struct start *start = TAKE_PTR(vm->start);
	struct manager *manager = vm->manager;
	struct worker *worker = TAKE_PTR(vm->worker);
	bool cancelled = start->err.fault == FAULT_CANCELLED, ours = start->has_runtime;
	struct err err = start->err;

	worker_free(worker);
	/* The worker is gone: empty output files of a start that failed are nobody's. */
	created_files_remove_later(&start->created, manager->event, vm->def.name);
	start_free(start);
	vm->reconnect = sd_event_source_disable_unref(vm->reconnect);
	if (ours)
		runtime_remove(manager->runtime_dir, vm->def.name);
	g_clear_pointer(&vm->taps, g_strfreev);
	machine_set_console_paths(vm, NULL);
	vm->preparing = false;
	machine_set_boot(vm, NULL, NULL);
	machine_changed(vm, MACHINE_PROPERTY_PROCESS);
	if (!cancelled)
		log_error("VM '%s' could not be started: %s", vm->def.name, err.msg);
	machine_set_state(vm, cancelled ? MACHINE_STATE_STOPPED : MACHINE_STATE_FAILED,
			  cancelled ? "canceled" : "start-failed");
	machine_end_job(vm, &err);
	machine_ended(vm);
}

static int on_finish(sd_event_source *source, void *userdata)
{
	(void)source;
	start_finish(userdata);
	return 0;
}

static void start_fail(struct start *start, const struct err *cause)
{
	struct machine *vm = start->vm;
	struct err err = { 0 };

	if (start->failing)
		return;
	start->failing = true;
	start->err = *cause;
	autostart_settle(vm->manager->autostart, vm->def.name);
	if (vm->job) {
		job_forbid_cancel(vm->job);
		job_set_phase(vm->job, "undoing");
	}
	task_abandon(TAKE_PTR(start->task));
	companion_start_free(TAKE_PTR(start->companions));
	resource_set_deinit(&start->resources);
	start->timeout = sd_event_source_disable_unref(start->timeout);
	start->lost = sd_event_source_disable_unref(start->lost);
	if (vm->spawn.active) {
		if (vm->spawn.spawner->ops->kill(&vm->spawn, SIGKILL, &err) == 0)
			return; /* machine_start_exited() goes on */
		log_error("VM '%s': %s", vm->def.name, err.msg);
		vm->spawn.spawner->ops->release(&vm->spawn);
	}
	/* Not from here: the method that called us has not answered yet. */
	sd_event_source_set_enabled(start->finish, SD_EVENT_ONESHOT);
}

static bool is_finishing(const struct start *start)
{
	return sd_event_source_get_enabled(start->finish, NULL) > 0;
}

static int on_lost_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct start *start = userdata;
	struct err err = { 0 };

	(void)source;
	(void)usec;
	err_fault(&err, FAULT_WORKER_FAILED, ECONNRESET,
		  "the worker of VM '%s' closed its control channel while starting, but lives on",
		  start->vm->def.name);
	start_fail(start, &err);
	return 0;
}

/* The process has ended, or will: then its exit tells more than a broken connection. */
static void await_exit(struct start *start)
{
	struct manager *manager = start->vm->manager;
	int r;

	if (start->lost || start->failing)
		return;
	r = sd_event_add_time_relative(manager->event, &start->lost, CLOCK_MONOTONIC,
				       manager->lost_grace_usec, 0, on_lost_timeout, start);
	if (r < 0)
		on_lost_timeout(NULL, 0, start);
}

static void fail_worker(struct start *start, const struct err *cause, const char *doing)
{
	struct err err = *cause;

	if (err.code == ECONNRESET) {
		await_exit(start);
		return;
	}
	/* A text about a key of the definition begins with its pointer, as everywhere. */
	if (err.msg[0] == '/')
		resources_name_paths(start->vm->boot, &err);
	else
		err_prefix(&err, -1, "VM '%s': %s", start->vm->def.name, doing);
	start_fail(start, &err);
}

static void start_check_done(struct start *start)
{
	struct machine *vm = start->vm;
	bool paused = start->paused;

	if (!start->booted || !start->unit_up || start->failing)
		return;
	vm->start = NULL;
	start_free(start);
	vm->n_boots = 1;
	autostart_settle(vm->manager->autostart, vm->def.name);
	machine_set_state(vm, paused ? MACHINE_STATE_PAUSED : MACHINE_STATE_RUNNING, "started");
	machine_changed(vm, MACHINE_PROPERTY_PROCESS);
	machine_register(vm);
	machine_end_job(vm, NULL);
}

/*
 * Replies come with the machine, not with its start: a worker in hostile hands
 * may answer whenever it likes, also when the start is long over.
 */
static struct start *start_get(void *data)
{
	struct machine *vm = data;

	return vm->start && !vm->start->failing ? vm->start : NULL;
}

/* A guest that runs is not stopped for what its worker says of it. */
static void take_devices(struct machine *vm, sd_bus_message *reply)
{
	g_autoptr(GVariant) answer = NULL;
	struct err err = { 0 };

	if (variant_from_message_max(reply, "a{sv}", WORKER_ANSWER_MAX, &answer, &err) < 0) {
		log_warning("VM '%s': its worker does not say what devices it has: %s",
			    vm->def.name, err.msg);
		answer = g_variant_ref_sink(g_variant_new("a{sv}", NULL));
	}
	machine_devices_take(vm, answer);
	machine_take_sizes(vm, answer);
}

static void on_booted(void *data, sd_bus_message *reply, const struct err *err)
{
	struct start *start = start_get(data);

	if (!start)
		return;
	if (err) {
		fail_worker(start, err, "booting");
		return;
	}
	start->booted = true;
	take_devices(start->vm, reply);
	start_check_done(start);
}

static void on_resources_added(void *data, sd_bus_message *reply, const struct err *err)
{
	struct start *start = start_get(data);

	(void)reply;
	if (err && start)
		fail_worker(start, err, "handing over resources");
}

static void start_boot(struct start *start)
{
	struct machine *vm = start->vm;
	g_autoptr(GVariant) config = NULL;
	struct err err = { 0 };
	int r = -EINVAL;

	/*
	 * Without a connection or a process, the end of the worker is about to be told.  The
	 * worker greets a virtiofsd, and waits for its answer: not while systemd starts that.
	 */
	if (!start->opened || !start->greeted || !start->companions_up || start->failing ||
	    !vm->worker || !vm->spawn.active)
		return;
	job_set_phase(vm->job, "booting");
	config = boot_config_for_worker(vm->boot_config, vm->def.uuid, &err);
	/* From here on there may be a guest: a daemon that comes after us has to ask. */
	vm->preparing = false;
	if (config)
		r = machine_save_runtime(vm, &err);
	if (r == 0)
		r = worker_add_resources(vm->worker, &start->resources, on_resources_added, vm,
					 &err);
	if (r == 0)
		r = worker_start(vm->worker, config, start->paused, on_booted, vm, &err);
	/* The messages hold duplicates. */
	resource_set_deinit(&start->resources);
	start->timeout = sd_event_source_disable_unref(start->timeout);
	if (r < 0)
		start_fail(start, &err);
}

static void on_hello(void *data, sd_bus_message *reply, const struct err *err)
{
	struct start *start = start_get(data);
	struct err mismatch = { 0 };
	uint32_t version, pid;
	int r;

	if (!start)
		return;
	if (err) {
		fail_worker(start, err, "greeting the worker");
		return;
	}
	r = sd_bus_message_read(reply, "uu", &version, &pid);
	if (r < 0)
		err_errno(&mismatch, -r, "cannot read the worker's greeting");
	else if (version != PROTOCOL_VERSION)
		err_fault(&mismatch, FAULT_WORKER_FAILED, EPROTO,
			  "the worker speaks version %u of the control protocol, not %d: is the "
			  "daemon older or newer than what is installed?",
			  version, PROTOCOL_VERSION);
	if (mismatch.code) {
		start_fail(start, &mismatch);
		return;
	}
	start->greeted = true;
	start_boot(start);
}

static char **dup_taps(const struct resource_set *set)
{
	char **taps;

	if (set->n_taps == 0)
		return NULL;
	taps = g_new0(char *, set->n_taps + 1);
	for (size_t i = 0; i < set->n_taps; i++)
		taps[i] = g_strdup(set->taps[i]);
	return taps;
}

static void on_companions(void *data, const struct err *err)
{
	struct start *start = data;
	struct err cause = { 0 };

	companion_start_free(TAKE_PTR(start->companions));
	if (err) {
		cause = *err;
		err_prefix(&cause, -1, "VM '%s'", start->vm->def.name);
		start_fail(start, &cause);
		return;
	}
	start->companions_up = true;
	start_boot(start);
}

static int start_companions(struct start *start, struct err *err)
{
	struct machine *vm = start->vm;
	const char *slice = vm->def.slice ? vm->def.slice : vm->manager->default_slice;
	int r;

	/* Without a worker the start is about to fail. */
	if (!vm->spawn.active)
		return 0;
	r = companion_start(vm->manager->event, &vm->spawn, vm->def.name, slice,
			    start->resources.companions, start->resources.n_companions,
			    on_companions, start, &start->companions, err);
	if (r < 0)
		return err_prefix(err, r, "VM '%s'", vm->def.name);
	start->companions_up = !start->companions;
	return 0;
}

static void on_opened(void *data, struct resource_set *set, const struct err *err)
{
	struct start *start = data;
	struct machine *vm = start->vm;
	struct err save = { 0 }, cause = { 0 };
	int r;

	start->task = NULL;
	if (err || !vm->manager->host.kvm_available)
		manager_probe_host(vm->manager);
	if (err) {
		start_fail(start, err);
		return;
	}
	start->resources = *set;
	start->created = start->resources.created;
	start->resources.created = (struct created_files){ 0 };
	start->opened = true;
	r = start_companions(start, &cause);
	if (r < 0) {
		start_fail(start, &cause);
		return;
	}
	vm->taps = dup_taps(&start->resources);
	machine_set_console_paths(vm, &start->resources.console_paths);
	if ((vm->taps || vm->console_paths.n > 0 || start->created.n > 0) &&
	    machine_save_runtime(vm, &save) < 0)
		log_warning("VM '%s': %s", vm->def.name, save.msg);
	start_boot(start);
}

static int start_open(struct start *start, struct err *err)
{
	struct machine *vm = start->vm;
	struct given_fds fds = { 0 };
	const struct opening opening = { .config = vm->boot_config, .fds = &fds };
	int r = given_fds_dup(&vm->def.fds, &fds, err);

	return r < 0 ? r : opening_start(vm, &opening, on_opened, start, &start->task, err);
}

static int start_spawn(struct start *start, struct err *err)
{
	struct machine *vm = start->vm;
	struct manager *manager = vm->manager;
	_cleanup_close_ int control = -EBADF;
	struct spawn_params params = {
		.name = vm->def.name,
		.uuid = vm->def.uuid,
		.slice = vm->def.slice ? vm->def.slice : manager->default_slice,
		.tasks = boot_config_count_tasks(vm->boot),
		.memory = memory_config_size(&vm->boot->memory) +
			  memory_config_hotplug_size(&vm->boot->memory),
		.properties = vm->def.properties,
	};
	int r;

	control = runtime_create(manager->runtime_dir, vm->def.name, err);
	if (control < 0)
		return control;
	start->has_runtime = true;
	r = machine_save_runtime(vm, err);
	if (r < 0)
		return r;
	params.control_fd = control;
	machine_limit_worker(vm);
	r = manager->spawner->ops->start(&vm->spawn, &params, err);
	if (r < 0)
		return r;
	return machine_connect(vm, err);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct start *start = userdata;
	struct err err = { 0 };
	const char *late = !start->opened    ? "opening its resources hangs"
			   : !start->greeted ? "the worker does not answer"
					     : "a program that is to run beside it does not start";

	(void)source;
	(void)usec;
	err_set(&err, ETIMEDOUT, "VM '%s' was not ready to boot after %llu s: %s",
		start->vm->def.name, PREPARE_USEC / 1000000ULL, late);
	start_fail(start, &err);
	return 0;
}

static void on_cancel(struct job *job, void *data)
{
	struct err err = { 0 };

	(void)job;
	err_fault(&err, FAULT_CANCELLED, ECANCELED, "the start was canceled");
	machine_start_abort(data, &err);
}

int machine_check_start(const struct machine *vm, struct err *err)
{
	int r = machine_check_state(vm, MACHINE_STATES_ENDED, "start", err);

	return r < 0 ? r : machine_check_idle(vm, err);
}

static int prepare_finish(struct start *start, struct err *err)
{
	struct machine *vm = start->vm;
	int r;

	r = sd_event_add_defer(vm->manager->event, &start->finish, on_finish, vm);
	if (r >= 0)
		r = sd_event_source_set_enabled(start->finish, SD_EVENT_OFF);
	return r < 0 ? err_errno(err, -r, "cannot start VM '%s'", vm->def.name) : 0;
}

int machine_start(struct machine *vm, uid_t owner, bool paused, struct err *err)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *boot = NULL;
	struct err cause = { 0 };
	struct start *start;
	int r;

	r = machine_check_start(vm, err);
	if (r == 0)
		r = machine_parse_config(vm->def.config, &boot, NULL, err);
	if (r < 0)
		return r;
	start = g_new0(struct start, 1);
	start->vm = vm;
	start->paused = paused;
	r = prepare_finish(start, err);
	if (r == 0)
		r = machine_begin_job(vm, JOB_KIND_START, owner, 0, err);
	if (r < 0) {
		start_free(start);
		return r;
	}
	vm->start = start;
	vm->terminating = false;
	vm->preparing = true;
	vm->worker_reason[0] = '\0';
	job_allow_cancel(vm->job, on_cancel, vm);
	job_set_phase(vm->job, "preparing");
	machine_set_boot(vm, TAKE_PTR(boot), g_strdup(vm->def.config));
	machine_set_state(vm, MACHINE_STATE_STARTING, "request");

	/* From here on the job tells what goes wrong. */
	r = start_spawn(start, &cause);
	if (r == 0)
		r = start_open(start, &cause);
	if (r == 0)
		r = worker_call(vm->worker, "Hello", HELLO_USEC, on_hello, vm, &cause, NULL);
	if (r == 0) {
		r = sd_event_add_time_relative(vm->manager->event, &start->timeout, CLOCK_MONOTONIC,
					       PREPARE_USEC, 0, on_timeout, start);
		if (r < 0)
			err_errno(&cause, -r, "cannot set a timer");
	}
	if (r < 0)
		start_fail(start, &cause);
	return 0;
}

const struct created_files *machine_start_created(const struct machine *vm)
{
	return &vm->start->created;
}

void machine_start_abort(struct machine *vm, const struct err *err)
{
	start_fail(vm->start, err);
}

void machine_start_unit_ready(struct machine *vm, const struct err *err)
{
	struct start *start = vm->start;

	if (err) {
		start_fail(start, err);
		/* There is no process whose end could be waited for. */
		if (!vm->spawn.active && !is_finishing(start))
			start_finish(vm);
		return;
	}
	start->unit_up = true;
	start_check_done(start);
}

bool machine_start_lost(struct machine *vm)
{
	struct start *start = vm->start;

	if (start->failing)
		return true;
	if (start->booted)
		return false;
	await_exit(start);
	return true;
}

void machine_start_exited(struct machine *vm, const struct spawn_exit *how)
{
	struct start *start;
	struct err err = { 0 };

	/* Why it refused to start may still be in the socket. */
	if (vm->worker)
		worker_drain(vm->worker);
	start = vm->start;
	if (!start) {
		/* Its guest had started, and that was the end of the start. */
		machine_on_exited(vm, how);
		return;
	}
	if (!start->failing) {
		if (how->known)
			err_fault(&err, FAULT_WORKER_FAILED, ECHILD,
				  "the worker of VM '%s' ended while starting: result '%s', %s %d",
				  vm->def.name, how->result, how->signaled ? "signal" : "status",
				  how->status);
		else
			err_fault(&err, FAULT_WORKER_FAILED, ECHILD,
				  "the worker of VM '%s' ended while starting", vm->def.name);
		start_fail(start, &err);
	}
	if (!is_finishing(start))
		start_finish(vm);
}
