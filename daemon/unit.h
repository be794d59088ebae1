/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers as transient units of systemd, DBUS.md 3.12 and 3.14
 *
 * One const table (unit-properties.c) says what every worker unit gets, in the
 * system and in the user manager.  Everything is asynchronous over the same bus
 * connection that the service is on; systemd handles its messages in order, so
 * calls that depend on each other are sent without waiting.
 */
#pragma once

#include <stdbool.h>
#include <systemd/sd-bus.h>

struct err;
struct spawn_params;
struct spawner;

int unit_spawner_new(sd_bus *bus, const char *worker_path, const char *runtime_dir, bool user,
		     struct spawner **ret, struct err *err);

/* unit-properties.c: the a(sv) of StartTransientUnit. */
int unit_append_properties(sd_bus_message *m, const char *worker_path, const char *runtime_dir,
			   bool user, const struct spawn_params *params, struct err *err);
