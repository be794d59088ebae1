/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients ask of a running machine: one call to the worker, one answer
 *
 * A table (request.c) says in which states a request makes sense and whether it
 * is held up by an exclusive job.  An answer comes exactly once unless an error
 * is returned: from the worker, after a timeout, or because the worker has gone.
 *
 * Main loop.
 */
#pragma once

#include "daemon/machine.h"
#include <stdbool.h>

enum request {
	REQUEST_PAUSE,
	REQUEST_RESUME,
	REQUEST_RESET,
	REQUEST_POWER_BUTTON,
	REQUEST_INJECT_NMI,
	REQUEST_N_,
};

int machine_check_request(const struct machine *vm, enum request request, struct err *err);
int machine_request(struct machine *vm, enum request request, machine_done_fn fn, void *data,
		    struct err *err);
int machine_check_console(const struct machine *vm, const char *console, struct err *err);
int machine_open_console(struct machine *vm, const char *console, bool force, bool read_only,
			 machine_done_fn fn, void *data, struct err *err);
/*
 * A method of protocol.h that changes something, arguments as of worker_call(); who calls has
 * checked that it makes sense now.
 */
int machine_call_worker(struct machine *vm, const char *method, machine_done_fn fn, void *data,
			struct err *err, const char *types, ...);
/* Reply of the worker: a{sa{st}} and a{sv}. */
int machine_get_counters(struct machine *vm, machine_done_fn fn, void *data, struct err *err);
int machine_query(struct machine *vm, machine_done_fn fn, void *data, struct err *err);
