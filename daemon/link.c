/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/link.h"

#include "daemon/device.h"
#include "daemon/disk-change.h"
#include "daemon/end.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/plug.h"
#include "daemon/runtime.h"
#include "daemon/start.h"
#include "daemon/stop.h"
#include "daemon/unplug.h"
#include "daemon/vsock.h"
#include "daemon/worker.h"
#include "dbus/variant.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECONNECT_QUERY_USEC (5 * 1000000ULL)
/* Of what a worker does of its own accord. */
#define STATES_BURST         100
#define STATE_INTERVAL_USEC  (1 * 1000000ULL)
#define DEVICE_INTERVAL_USEC (50 * 1000ULL) /* some devices, each ten times a second at most */
#define LOSSES_BURST         10             /* a sound one keeps its connection for life */
#define LOSS_INTERVAL_USEC   (3600 * 1000000ULL)

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

/* At most one a minute of each machine, whatever it is about. */
static bool may_warn(struct machine *vm)
{
	uint32_t dropped;

	return rate_limit_pass(&vm->event_warnings, (uint64_t)g_get_monotonic_time(), &dropped);
}

/* Each change is logged and goes to everybody on the bus: a worker must not be able to flood it. */
static bool state_passes(struct machine *vm)
{
	uint32_t dropped;

	if (rate_limit_pass(&vm->worker_states, (uint64_t)g_get_monotonic_time(), &dropped))
		return true;
	if (may_warn(vm))
		log_warning("VM '%s': its worker changes its state faster than it is told, some "
			    "changes are left out",
			    vm->def.name);
	/* Asked in a while, so that what is told in the end is true. */
	machine_reconnect_later(vm);
	return false;
}

/* The worker's view of itself drives ours: its signals arrive before its replies. */
static void on_worker_state(void *data, const char *from, const char *to, const char *word)
{
	struct machine *vm = data;
	char reason[sizeof(vm->worker_reason)];

	take_word(reason, sizeof(reason), word);
	log_debug("VM '%s': worker %.16s -> %.16s (%s)", vm->def.name, from, to, reason);
	if (strcmp(to, WORKER_STATE_SHUTDOWN) == 0 || strcmp(to, WORKER_STATE_FAILED) == 0) {
		memcpy(vm->worker_reason, reason, sizeof(reason));
		return;
	}
	if (vm->start || vm->adopting)
		return; /* the reply to Start or Query says it */
	if (!state_passes(vm))
		return;
	if (strcmp(to, WORKER_STATE_PAUSED) == 0 && vm->state == MACHINE_STATE_RUNNING)
		machine_set_state(vm, MACHINE_STATE_PAUSED, reason);
	else if (strcmp(to, WORKER_STATE_RUNNING) == 0 && vm->state == MACHINE_STATE_PAUSED)
		machine_set_state(vm, MACHINE_STATE_RUNNING, reason);
	if (strcmp(reason, WORKER_REASON_GUEST_REBOOT) == 0 ||
	    strcmp(reason, WORKER_REASON_RESET) == 0 ||
	    (strcmp(reason, WORKER_REASON_GUEST_WATCHDOG) == 0 &&
	     strcmp(to, WORKER_STATE_RUNNING) == 0))
		machine_on_rebooted(vm, reason);
}

/* Every event goes to everybody on the bus: a guest must not be able to flood it. */
static bool wants_worker_event(void *data)
{
	struct machine *vm = data;

	if (rate_limit_pass(&vm->events, (uint64_t)g_get_monotonic_time(), &vm->events_dropped))
		return true;
	if (may_warn(vm))
		log_warning("VM '%s': its guest causes events faster than they are told, "
			    "some are dropped",
			    vm->def.name);
	return false;
}

static void on_worker_event_too_large(void *data)
{
	struct machine *vm = data;

	/* The next that is told says so. */
	vm->events.dropped += vm->events_dropped + 1;
	if (may_warn(vm))
		log_warning("VM '%s': its worker sent an event that is too large, it is dropped",
			    vm->def.name);
}

static void on_worker_event(void *data, const char *source, const char *name, GVariant *details)
{
	g_autoptr(GVariant) told = NULL;
	struct machine *vm = data;
	GVariantDict dict;

	g_variant_dict_init(&dict, details);
	/* Ours to say, whatever a worker in hostile hands puts there. */
	g_variant_dict_remove(&dict, "dropped");
	if (vm->events_dropped > 0)
		g_variant_dict_insert(&dict, "dropped", "u", vm->events_dropped);
	told = g_variant_ref_sink(g_variant_dict_end(&dict));
	manager_tell(vm->manager, vm_event, vm, source, name, told);
}

static void on_worker_device(void *data, const char *id, GVariant *values)
{
	struct machine *vm = data;
	uint32_t dropped;

	if (rate_limit_pass(&vm->worker_devices, (uint64_t)g_get_monotonic_time(), &dropped)) {
		machine_device_told(vm, id, values);
		return;
	}
	if (may_warn(vm))
		log_warning("VM '%s': its devices change faster than it is told, some changes are "
			    "left out",
			    vm->def.name);
	/* Asked in a while, so that what is told in the end is true. */
	machine_reconnect_later(vm);
}

/* What it did while nobody listened: signals of that time are lost. */
static void take_answer(struct machine *vm, GVariant *answer)
{
	g_autoptr(GVariant) devices = NULL;
	const char *state = NULL;
	guint32 boots = 0;

	g_variant_lookup(answer, "state", "&s", &state);
	g_variant_lookup(answer, "boots", "u", &boots);
	if (g_strcmp0(state, WORKER_STATE_IDLE) == 0) {
		/* Adopted while it was silent; its start was cut short. */
		log_warning("VM '%s': its worker has no guest, killing it", vm->def.name);
		snprintf(vm->worker_reason, sizeof(vm->worker_reason), "%s",
			 MACHINE_REASON_DAEMON_RESTARTED);
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
	devices = g_variant_lookup_value(answer, "devices", G_VARIANT_TYPE("a(ssss)"));
	if (devices)
		machine_review_plug(vm, devices);
	machine_devices_take(vm, answer);
	machine_take_sizes(vm, answer);
	machine_review_replace(vm);
	/* What was being removed when the connection ended may be gone. */
	machine_review_removal(vm);
	if (vm->removal_to_resume.id)
		machine_resume_removal(vm);
	if (vm->resize_to_resume.present)
		machine_resume_resize(vm);
}

static void on_reconnect_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct machine *vm = data;
	g_autoptr(GVariant) answer = NULL;
	struct err parse = { 0 };

	if (!vm->spawn.active || vm->start || vm->adopting)
		return;
	if (!err &&
	    variant_from_message_max(reply, "a{sv}", WORKER_ANSWER_MAX, &answer, &parse) == 0) {
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

void machine_limit_worker(struct machine *vm)
{
	vm->worker_states = (struct rate_limit){ STATES_BURST, STATE_INTERVAL_USEC, 0 };
	vm->worker_devices = (struct rate_limit){ STATES_BURST, DEVICE_INTERVAL_USEC, 0 };
	vm->worker_sizes = (struct rate_limit){ STATES_BURST, DEVICE_INTERVAL_USEC, 0 };
	vm->worker_losses = (struct rate_limit){ LOSSES_BURST, LOSS_INTERVAL_USEC, 0 };
}

/*
 * libsystemd keeps the descriptors that come with a message it refuses, until the
 * daemon ends: a worker that hangs up again and again could make it run out of them.
 */
static bool loss_passes(struct machine *vm)
{
	uint32_t dropped;

	if (rate_limit_pass(&vm->worker_losses, (uint64_t)g_get_monotonic_time(), &dropped))
		return true;
	log_error("VM '%s': its worker misbehaved: it ended its connection more than %u times, "
		  "killing it",
		  vm->def.name, vm->worker_losses.burst);
	snprintf(vm->worker_reason, sizeof(vm->worker_reason), "%s",
		 MACHINE_REASON_WORKER_MISBEHAVED);
	machine_kill(vm);
	return false;
}

static void on_worker_lost(void *data)
{
	struct machine *vm = data;
	struct worker *worker = TAKE_PTR(vm->worker);

	worker_free(worker);
	if (vm->start && machine_start_lost(vm))
		return;
	if (vm->spawn.active && !loss_passes(vm))
		return;
	/* Dead, and the end of the process is about to be seen; or somebody else has connected. */
	machine_reconnect_later(vm);
}

static void on_worker_vsock(void *data, uint32_t cookie, uint32_t port, bool seqpacket)
{
	machine_vsock_wanted(data, cookie, port, seqpacket);
}

static void on_worker_device_removed(void *data, const char *id)
{
	struct machine *vm = data;

	if (!vm->start && !vm->adopting)
		machine_on_device_removed(vm, id);
}

static void on_worker_removal_refused(void *data, const char *id)
{
	machine_on_removal_refused(data, id);
}

static void on_worker_sizes(void *data, GVariant *sizes)
{
	struct machine *vm = data;
	uint32_t dropped;

	if (vm->start || vm->adopting)
		return;
	if (rate_limit_pass(&vm->worker_sizes, (uint64_t)g_get_monotonic_time(), &dropped)) {
		machine_take_sizes(vm, sizes);
		return;
	}
	if (may_warn(vm))
		log_warning("VM '%s': its size changes faster than it is told, some changes are "
			    "left out",
			    vm->def.name);
	/* Asked in a while, so that what is told in the end is true. */
	machine_reconnect_later(vm);
}

static void on_worker_resize_refused(void *data, const char *what)
{
	machine_on_resize_refused(data, what);
}

static const struct worker_handlers worker_handlers = {
	.sizes_changed = on_worker_sizes,
	.resize_refused = on_worker_resize_refused,
	.device_removed = on_worker_device_removed,
	.removal_refused = on_worker_removal_refused,
	.state_changed = on_worker_state,
	.wants_event = wants_worker_event,
	.event_too_large = on_worker_event_too_large,
	.event = on_worker_event,
	.device_changed = on_worker_device,
	.vsock_wanted = on_worker_vsock,
	.lost = on_worker_lost,
};

int machine_check_connection(const struct machine *vm, struct err *err)
{
	if (vm->worker)
		return 0;
	return err_fault(err, FAULT_WORKER_FAILED, ENOTCONN,
			 "there is no connection to the worker of VM '%s'", vm->def.name);
}

int machine_connect(struct machine *vm, struct err *err)
{
	g_autofree char *path = runtime_control_path(vm->manager->runtime_dir, vm->def.name);

	assert(!vm->worker);
	return worker_connect(vm->manager->event, path, &worker_handlers, vm, &vm->worker, err);
}
