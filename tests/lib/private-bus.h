/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dbus-daemon of the test's own
 *
 * Any client may own, call and eavesdrop on anything.  The daemon dies with the
 * test, however that ends.
 */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

struct private_bus {
	pid_t pid;
	char dir[32];
	char address[128];
};

/* Fails the test when dbus-daemon cannot be started. */
void private_bus_start(struct private_bus *bus);
void private_bus_stop(struct private_bus *bus);
/* A new connection, with a unique name. sd_bus_flush_close_unref() it. */
sd_bus *private_bus_connect(const struct private_bus *bus);
