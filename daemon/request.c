/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/request.h"

#include "daemon/link.h"
#include "daemon/machine.h"
#include "daemon/manager.h"
#include "daemon/worker.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <stdarg.h>

#define QUERY_USEC (2 * 1000000ULL) /* questions: nobody is helped by a late answer */

static const struct {
	const char *verb, *method;
	uint32_t states;
	bool during_job; /* not held up by an exclusive job */
	/* Nor by one that waits for what a guest may do: a paused guest does nothing. */
	bool while_waiting;
} requests[REQUEST_N_] = {
	[REQUEST_PAUSE] = { "pause", "Pause", MACHINE_STATES(RUNNING), .while_waiting = true },
	[REQUEST_RESUME] = { "resume", "Resume", MACHINE_STATES(PAUSED), .while_waiting = true },
	/* It ends a removal and a resize as they were meant. */
	[REQUEST_RESET] = { "reset", "Reset", MACHINE_STATES(RUNNING) | MACHINE_STATES(PAUSED),
			    .while_waiting = true },
	[REQUEST_POWER_BUTTON] = { "press the power button of", "PowerButton",
				   MACHINE_STATES(RUNNING) | MACHINE_STATES(SHUTTING_DOWN) |
					   MACHINE_STATES(REBOOTING),
				   .during_job = true },
	/* Also during a shutdown: a guest that hangs there is what an NMI is for. */
	[REQUEST_INJECT_NMI] = { "inject an NMI into", "InjectNMI",
				 MACHINE_STATES(RUNNING) | MACHINE_STATES(SHUTTING_DOWN) |
					 MACHINE_STATES(REBOOTING),
				 .during_job = true },
};

/* A request under way: who is told, and whose answer it is. */
struct pending {
	char *vm_name;
	bool question; /* nothing changes by it */
	machine_done_fn fn;
	void *data;
};

static void pending_free(struct pending *pending)
{
	g_free(pending->vm_name);
	g_free(pending);
}

static void on_answer(void *data, sd_bus_message *reply, const struct err *err)
{
	struct pending *pending = data;
	struct err late = { 0 };

	if (err && err->code == ETIMEDOUT && err->fault == FAULT_NONE) {
		err_set(&late, ETIMEDOUT, "VM '%s': %s: it hangs, or waits for storage that does%s",
			pending->vm_name, err->msg,
			pending->question ? "" : "; what was asked for may still happen");
		err = &late;
	}
	pending->fn(pending->data, reply, err);
	pending_free(pending);
}

static struct pending *pending_new(const struct machine *vm, machine_done_fn fn, void *data)
{
	struct pending *pending = g_new0(struct pending, 1);

	pending->vm_name = g_strdup(vm->def.name);
	pending->fn = fn;
	pending->data = data;
	return pending;
}

int machine_check_request(const struct machine *vm, enum request request, struct err *err)
{
	int r;

	r = machine_check_state(vm, requests[request].states, requests[request].verb, err);
	if (requests[request].while_waiting && (vm->unplug || vm->resize))
		return r;
	if (r == 0 && !requests[request].during_job)
		r = machine_check_idle(vm, err);
	return r;
}

int machine_request(struct machine *vm, enum request request, machine_done_fn fn, void *data,
		    struct err *err)
{
	struct pending *pending;
	int r;

	r = machine_check_request(vm, request, err);
	if (r == 0)
		r = machine_check_connection(vm, err);
	if (r < 0)
		return r;
	pending = pending_new(vm, fn, data);
	r = worker_call(vm->worker, requests[request].method, vm->manager->request_usec, on_answer,
			pending, err, NULL);
	if (r < 0)
		pending_free(pending);
	return r;
}

int machine_check_console(const struct machine *vm, const char *console, struct err *err)
{
	g_autofree char **names = machine_consoles(vm);
	g_autofree char *all = NULL;
	int r;

	r = machine_check_state(vm, MACHINE_STATES_GUEST, "open a console of", err);
	if (r < 0)
		return r;
	if (!names[0])
		return err_fault(
			err, FAULT_NO_SUCH_CONSOLE, ENXIO,
			"VM '%s' has no console to open: set the mode of serial, console or "
			"debug_console to 'Tty' or 'Pty'",
			vm->def.name);
	if (console[0] == '\0' || g_strv_contains((const char *const *)names, console))
		return 0;
	all = g_strjoinv("' and '", names);
	return err_fault(err, FAULT_NO_SUCH_CONSOLE, ENXIO,
			 "VM '%s' has no console '%s' to open, only '%s'", vm->def.name, console,
			 all);
}

int machine_open_console(struct machine *vm, const char *console, bool force, bool read_only,
			 machine_done_fn fn, void *data, struct err *err)
{
	struct pending *pending;
	int r;

	r = machine_check_console(vm, console, err);
	if (r == 0)
		r = machine_check_connection(vm, err);
	if (r < 0)
		return r;
	pending = pending_new(vm, fn, data);
	r = worker_call(vm->worker, "OpenConsole", vm->manager->request_usec, on_answer, pending,
			err, "sbb", console, (int)force, (int)read_only);
	if (r < 0)
		pending_free(pending);
	return r;
}

int machine_call_worker(struct machine *vm, const char *method, machine_done_fn fn, void *data,
			struct err *err, const char *types, ...)
{
	struct pending *pending = pending_new(vm, fn, data);
	va_list ap;
	int r;

	va_start(ap, types);
	r = worker_callv(vm->worker, method, vm->manager->request_usec, on_answer, pending, err,
			 types, ap);
	va_end(ap);
	if (r < 0)
		pending_free(pending);
	return r;
}

static int ask_worker(struct machine *vm, const char *method, machine_done_fn fn, void *data,
		      struct err *err)
{
	struct pending *pending;
	int r;

	r = machine_check_connection(vm, err);
	if (r < 0)
		return r;
	pending = pending_new(vm, fn, data);
	pending->question = true;
	r = worker_call(vm->worker, method, QUERY_USEC, on_answer, pending, err, NULL);
	if (r < 0)
		pending_free(pending);
	return r;
}

int machine_get_counters(struct machine *vm, machine_done_fn fn, void *data, struct err *err)
{
	int r = machine_check_state(vm, MACHINE_STATES_GUEST, "read counters of", err);

	return r < 0 ? r : ask_worker(vm, "GetCounters", fn, data, err);
}

int machine_query(struct machine *vm, machine_done_fn fn, void *data, struct err *err)
{
	return ask_worker(vm, "Query", fn, data, err);
}
