/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `struct err` across the control channel (vmm/api/protocol.h)
 *
 * The name of the D-Bus error is the fault, the message the sentence, so both
 * ends of the private channel see the same value.  A plain errno travels in the
 * name; with a fault, its usual errno is what arrives.
 *
 * Linked into the daemon and the worker.
 */
#pragma once

#include <systemd/sd-bus.h>

struct err;

/* Fills *ret; returns -err->code, so a handler can return it. */
int worker_error_from_err(sd_bus_error *ret, const struct err *err);

/*
 * The inverse.  An error that is not the protocol's (the connection broke, an
 * unknown method) gives FAULT_NONE, its errno and its text.
 */
void err_from_worker_error(struct err *err, int r, const sd_bus_error *e);
