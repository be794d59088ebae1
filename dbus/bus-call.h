/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handlers of several interfaces do alike
 *
 * Every handler has the same order: read arguments, check that the call can
 * work, ask polkit, act.  When polkit has to ask somebody the handler runs
 * again from its start, on the object that its path names then.
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

struct err;
struct machine;
struct machine_device;
struct service;

struct service *bus_call_service(const struct machine *vm);

/* 1: go on; see polkit_check(). */
int bus_call_authorise(sd_bus_message *m, const struct machine *vm, const char *action,
		       const char *verb, bool owner_shortcut, struct err *err);
/* modify-vms, with the device's type and id (dev NULL: none) for the rules. */
int bus_call_authorise_device(sd_bus_message *m, const struct machine *vm,
			      const struct machine_device *dev, const char *verb, struct err *err);
/* What a handler returns when that did not say yes: its error, or 1 while polkit asks. */
int bus_call_verdict(int r, sd_bus_error *error, const struct err *err);

int bus_call_no_options(sd_bus_message *m, struct err *err);

/* A machine_done_fn; data: a reference to the call, which it answers: empty, or the error. */
void bus_call_done(void *data, sd_bus_message *answer, const struct err *err);
/* The same for an answer that is one descriptor. */
void bus_call_done_fd(void *data, sd_bus_message *answer, const struct err *err);
/* After a request with one of those: the reply comes later, or an error now. */
int bus_call_pending(sd_bus_message *m, int r, sd_bus_error *error, const struct err *err);

/* The machine may be gone when an answer comes: found again by the path of the call. */
struct machine *bus_call_find_vm(struct service *service, const char *path);
