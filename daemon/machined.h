/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd-machined: `machinectl list`, `ps -o machine`
 *
 * RegisterMachine, never CreateMachine: that would move the worker into a scope
 * of its own.  machined drops the entry by itself when the unit stops.
 *
 * Main loop.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

/* Embedded in what is registered; zeroed before its first use. */
struct machined_registration {
	sd_bus_slot *call;
	char *name;
	void (*registered)(void *data, const char *name); /* not when it was refused */
	void *data;
};

/* leader: main process of the unit; taps: NULL-terminated or NULL.  Nothing waits for it. */
void machined_register(struct machined_registration *reg, sd_bus *bus, const char *name,
		       const char *uuid, uint32_t leader, char *const *taps);
/* registered() is not called any more. */
void machined_registration_deinit(struct machined_registration *reg);
