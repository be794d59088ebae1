/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting the service's name on the bus
 *
 * A daemon that was killed may still own it when its successor asks: the bus
 * notices the end of a connection when it comes to it.  So the request queues,
 * and only an owner that stays is an error.
 *
 * Main loop.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

struct bus_name;
struct err;

/* err NULL: we own the name. Called once, unless freed before. */
typedef void (*bus_name_fn)(void *data, const struct err *err);

/* Waits this long at most.  The bus must be attached to an event loop. */
int bus_name_request(sd_bus *bus, const char *name, uint64_t wait_usec, bus_name_fn fn, void *data,
		     struct bus_name **ret, struct err *err);
/* Stops asking; a name that we own stays ours as long as the connection. */
void bus_name_free(struct bus_name *name);
