/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing properties of a running unit: systemd's SetUnitProperties
 *
 * systemd checks all properties before it takes the first, so a change happens
 * as a whole or not at all.  While it re-executes itself it answers nobody: then
 * the change is sent again, which does no harm when it was done already.
 *
 * One change at a time.  Main loop.
 */
#pragma once

#include <glib.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

struct err;

struct unit_change {
	sd_bus *bus;
	const char *unit; /* the caller's, while the change is under way */
	GVariant *properties;
	unsigned int n_tries;
	sd_bus_slot *call;
	sd_event_source *again;
	/* err NULL: the unit has them.  From the event loop, once, unless deinit comes first. */
	void (*done)(void *data, const struct err *err);
	void *data;
};

/* properties: a(sv).  done and data are set by the caller.  -EBUSY during another change. */
int unit_change_start(struct unit_change *change, sd_bus *bus, const char *unit,
		      GVariant *properties, struct err *err);
void unit_change_deinit(struct unit_change *change);
