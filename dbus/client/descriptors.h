/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of this process that go with a definition
 *
 * In a definition {"fd": NAME} is a descriptor that comes with the call.  One
 * whose name is a number is brumectl's own of that number, which whoever
 * started it has left open: "brumectl create x --transient --net fd=[3,4] ...".
 */
#pragma once

#include "dbus/client/client.h"

/* Appends the a{sh} for a definition; returns an exit status, having said what is wrong. */
int client_append_descriptors(const struct client *c, sd_bus_message *m, const char *definition);

/* Can this one go with a call?  EXIT_USAGE after complaining. */
int client_check_descriptor(const struct client *c, int fd);
