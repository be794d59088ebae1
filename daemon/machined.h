/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd-machined: `machinectl list`, `ps -o machine` (DBUS.md 3.14)
 *
 * RegisterMachine, never CreateMachine: that would move the worker into a scope
 * of its own.  machined drops the entry by itself when the unit stops.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

#define MACHINED_NAME "org.freedesktop.machine1"

/* The method call. leader: main process of the unit; taps: NULL-terminated or NULL. */
int machined_registration_new(sd_bus *bus, const char *name, const char *uuid, uint32_t leader,
			      char *const *taps, sd_bus_message **ret);
