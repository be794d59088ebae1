/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D-Bus names of errors
 *
 * The only place that knows them: `struct err` in the program, a name and the
 * same sentence on the bus.  A fault has a name of its own; without one the
 * name follows from the errno (ENOKEY stands for InteractiveAuthorizationRequired).
 *
 * Any thread that owns the message.
 */
#pragma once

#include <systemd/sd-bus.h>

struct err;

#define BUS_ERROR_NO_SUCH_VM           "org.brume.vm1.NoSuchVM"
#define BUS_ERROR_VM_EXISTS            "org.brume.vm1.VMExists"
#define BUS_ERROR_INVALID_STATE        "org.brume.vm1.InvalidState"
#define BUS_ERROR_BUSY                 "org.brume.vm1.Busy"
#define BUS_ERROR_NO_SUCH_DEVICE       "org.brume.vm1.NoSuchDevice"
#define BUS_ERROR_NO_SUCH_JOB          "org.brume.vm1.NoSuchJob"
#define BUS_ERROR_NO_SUCH_CONSOLE      "org.brume.vm1.NoSuchConsole"
#define BUS_ERROR_CONSOLE_IN_USE       "org.brume.vm1.ConsoleInUse"
#define BUS_ERROR_DEVICE_EXISTS        "org.brume.vm1.DeviceExists"
#define BUS_ERROR_INVALID_CONFIG       "org.brume.vm1.InvalidConfig"
#define BUS_ERROR_RESOURCE_UNAVAILABLE "org.brume.vm1.ResourceUnavailable"
#define BUS_ERROR_GUEST_TIMEOUT        "org.brume.vm1.GuestTimeout"
#define BUS_ERROR_JOB_CANCELED         "org.brume.vm1.JobCanceled"
#define BUS_ERROR_WORKER_FAILED        "org.brume.vm1.WorkerFailed"

/* The D-Bus name of a failure; never NULL.  err->code must be set. */
const char *bus_error_name(const struct err *err);

/* Fills *ret with name and text; returns -err->code, so a handler can return it. */
int bus_error_from_err(sd_bus_error *ret, const struct err *err);

/* Replies to a method call; what sd_bus_reply_method_error() returns. */
int bus_reply_err(sd_bus_message *call, const struct err *err);

/*
 * The way back, for what a peer answered: r is the negative result of the call,
 * e its error, which may be unset (then the text is strerror's).  A name that is
 * not ours gives FAULT_NONE and sd-bus' errno for it.
 */
void err_from_bus_error(struct err *err, int r, const sd_bus_error *e);
