/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: one value, one sentence, one optional public name
 *
 * A function that can fail returns 0 or -errno; if it can fail for more than
 * one reason its last parameter is a `struct err *err` (NULL allowed) that
 * receives the sentence for the person who asked.  The value is copied between
 * threads and, through the control channel, between processes.
 *
 * Texts: lower case, no full stop, name the object and the offending value,
 * quote foreign strings.  err_prefix() puts context in front, so the root
 * cause is always at the end; when the buffer is full, context is what goes.  What a
 * text quotes may be anything: it comes out as one line of UTF-8 without control
 * characters.
 *
 * Any thread; an err belongs to whoever declared it.
 */
#pragma once

#include <stdarg.h>

#include "vmm/base/cleanup.h"

#define ERR_MSG_MAX 512

/* What a client may branch on.  dbus/bus-error.c maps each to its D-Bus name. */
enum fault {
	FAULT_NONE, /* derive the public name from the errno */
	FAULT_NO_SUCH_VM,
	FAULT_VM_EXISTS,
	FAULT_WRONG_STATE,
	FAULT_BUSY,
	FAULT_NO_SUCH_DEVICE,
	FAULT_NO_SUCH_JOB,
	FAULT_NO_SUCH_CONSOLE,
	FAULT_CONSOLE_IN_USE,
	FAULT_DEVICE_EXISTS,
	FAULT_BAD_ARGUMENT, /* wrong call: option key, type, range */
	FAULT_BAD_CONFIG,   /* wrong VM definition: text starts with a JSON pointer */
	FAULT_UNSUPPORTED,
	FAULT_HOST_RESOURCE,
	FAULT_GUEST_TIMEOUT,
	FAULT_CANCELLED,
	FAULT_WORKER_FAILED,
	FAULT_N_,
};

const char *fault_to_string(enum fault fault);
int fault_from_string(const char *s, enum fault *ret); /* 0 or -EINVAL */

struct err {
	int code; /* errno, positive; 0 = nothing failed */
	enum fault fault;
	char msg[ERR_MSG_MAX];
};

/* All return -code (err_prefix: r), so that `return err_set(...)` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...) _printf_(3, 4);
int err_errno(struct err *err, int code, const char *fmt, ...) _printf_(3, 4);
int err_fault(struct err *err, enum fault fault, int code, const char *fmt, ...) _printf_(4, 5);
int err_prefix(struct err *err, int r, const char *fmt, ...) _printf_(3, 4);

static inline void err_clear(struct err *err)
{
	if (err)
		*err = (struct err){ 0 };
}
