/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML that hotplug controllers have in common
 *
 * A controller is a device with registers and a lock.  Processors and slots for memory
 * are units behind one: a register chooses the unit that the others are about.  Each
 * unit is a device of the DSDT whose methods do no more than call the controller's
 * with its number; those hold the lock from the choice to the last register.
 *
 * Control thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct aml;

/* What a unit is notified of: ACPI 6.5, table 5.166. */
#define HOTPLUG_DEVICE_CHECK  1
#define HOTPLUG_EJECT_REQUEST 3

/* Names of units have three hexadecimal digits. */
#define HOTPLUG_UNITS_MAX 0x1000

struct hotplug_units {
	char letter; /* "C003" is processor 3 */
	uint32_t n;
	const char *notify; /* its method that notifies a unit */
	/* Paths of lock and registers, as all methods find them. */
	const char *lock, *select, *flags, *ost_event, *ost_status;
};

/* While a bit of the flags is set, the unit has something to be told. */
struct hotplug_news {
	unsigned int flag, code;
};

/* Of the device that is open: what it is, where its registers are, and its lock. */
void hotplug_aml_controller(struct aml *a, const char *title, const char *lock, const char *region,
			    uint64_t gpa, uint64_t len);

const char *hotplug_aml_unit(const struct hotplug_units *units, uint32_t unit, char buf[static 5]);

/* A method whose first argument is a unit, which is chosen then; the lock is held. */
void hotplug_aml_open(struct aml *a, const struct hotplug_units *units, const char *method,
		      unsigned int n_args);
/* Gives the lock back. */
void hotplug_aml_close(struct aml *a, const struct hotplug_units *units);

/* method (unit): its _STA, by this flag. */
void hotplug_aml_status(struct aml *a, const struct hotplug_units *units, const char *method,
			unsigned int present);
/* method (unit, event, status): what its _OST said. */
void hotplug_aml_answer(struct aml *a, const struct hotplug_units *units, const char *method);
/* units->notify (unit, code) */
void hotplug_aml_notify(struct aml *a, const struct hotplug_units *units);
/* method (): tells every unit its news, and clears their flags. */
void hotplug_aml_scan(struct aml *a, const struct hotplug_units *units, const char *method,
		      const struct hotplug_news *news, size_t n_news);

/* In a unit's device: calls `method` with its number and, for _OST, arguments of its own. */
void hotplug_aml_forward(struct aml *a, const char *name, unsigned int n_args, const char *method,
			 uint32_t unit);
