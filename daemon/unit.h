/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers as transient units of systemd
 *
 * One const table (unit-properties.c) says what every worker unit gets, in the
 * system and in the user manager.  Everything is asynchronous over the same bus
 * connection that the service is on; systemd handles its messages in order, so
 * calls that depend on each other are sent without waiting.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

struct err;
struct spawn_params;
struct spawner;

int unit_spawner_new(sd_bus *bus, const char *worker_path, const char *runtime_dir, bool user,
		     struct spawner **ret, struct err *err);

/* A property that does not depend on the VM; value is a GVariant text. */
enum unit_scope {
	UNIT_SYSTEM = 1,
	UNIT_USER = 2,
	UNIT_BOTH = UNIT_SYSTEM | UNIT_USER,
};

struct unit_property {
	const char *name;
	int scopes; /* bits of enum unit_scope */
	const char *type, *value;
};

/* unit-properties.c: (sv) of those for the system's or the user's manager, but what given has. */
int unit_append_table(sd_bus_message *m, const struct unit_property *table, size_t n, bool user,
		      GVariant *given);
/* LogExtraFields: journalctl BRUME_VM=<vm> */
int unit_append_log_field(sd_bus_message *m, const char *vm);
/* The a(sv) of StartTransientUnit for a worker. */
int unit_append_properties(sd_bus_message *m, const char *worker_path, const char *runtime_dir,
			   bool user, const struct spawn_params *params, struct err *err);
