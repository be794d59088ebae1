/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the resource properties of a machine: its definition, its unit
 *
 * The definition is changed first, on disk, and put back when systemd refuses:
 * a full disk then leaves everything as it was.  When the daemon dies in between
 * nobody was told that it is done; the next start has the new properties
 * whatever became of the running unit, and asking again makes both agree.
 *
 * Properties of a process, not of its control group, come into force at the next
 * start: for a running machine only its definition changes.
 *
 * Main loop.
 */
#pragma once

#include "daemon/machine.h"
#include <glib.h>
#include <stdbool.h>

struct err;

/* Is the list (a(sv), from anybody) a set of dbus/resource-properties.h? */
int machine_check_properties(const struct manager *manager, GVariant *list, GVariant **ret,
			     struct err *err);
/* runtime: the running unit only, not the definition. */
int machine_check_set_properties(const struct machine *vm, bool runtime, GVariant *list,
				 GVariant **ret, struct err *err);
/* After the check.  0: done.  1: fn is called once. */
int machine_set_properties(struct machine *vm, bool runtime, GVariant *set, machine_done_fn fn,
			   void *data, struct err *err);

/* For machine.c: systemd has answered; the worker is gone; the daemon goes. */
void machine_on_properties_set(struct machine *vm, const struct err *err);
void machine_end_property_change(struct machine *vm);
void machine_drop_property_change(struct machine *vm);
