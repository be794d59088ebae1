/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/bus-error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"

/* What sd-bus makes of our names (sd_bus_error_get_errno() in clients). */
static const sd_bus_error_map error_map[] = {
	SD_BUS_ERROR_MAP(BUS_ERROR_NO_SUCH_VM, ENXIO),
	SD_BUS_ERROR_MAP(BUS_ERROR_NO_SUCH_DEVICE, ENXIO),
	SD_BUS_ERROR_MAP(BUS_ERROR_NO_SUCH_JOB, ENXIO),
	SD_BUS_ERROR_MAP(BUS_ERROR_NO_SUCH_CONSOLE, ENXIO),
	SD_BUS_ERROR_MAP(BUS_ERROR_VM_EXISTS, EEXIST),
	SD_BUS_ERROR_MAP(BUS_ERROR_DEVICE_EXISTS, EEXIST),
	SD_BUS_ERROR_MAP(BUS_ERROR_INVALID_STATE, EPROTO),
	SD_BUS_ERROR_MAP(BUS_ERROR_BUSY, EBUSY),
	SD_BUS_ERROR_MAP(BUS_ERROR_CONSOLE_IN_USE, EBUSY),
	SD_BUS_ERROR_MAP(BUS_ERROR_INVALID_CONFIG, EINVAL),
	SD_BUS_ERROR_MAP(BUS_ERROR_RESOURCE_UNAVAILABLE, EADDRNOTAVAIL),
	SD_BUS_ERROR_MAP(BUS_ERROR_WORKER_FAILED, ECHILD),
	SD_BUS_ERROR_MAP(BUS_ERROR_GUEST_TIMEOUT, ETIMEDOUT),
	SD_BUS_ERROR_MAP(BUS_ERROR_JOB_CANCELED, ECANCELED),
	SD_BUS_ERROR_MAP_END,
};

/* Failures without a fault.  Several errnos may share a name; the first row is its way back. */
static const struct {
	int code;
	const char *name;
} errno_names[] = {
	{ EACCES, SD_BUS_ERROR_ACCESS_DENIED },
	{ EPERM, SD_BUS_ERROR_ACCESS_DENIED },
	{ ESTALE, SD_BUS_ERROR_ACCESS_DENIED },
	{ ENOKEY, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED },
	{ EINVAL, SD_BUS_ERROR_INVALID_ARGS },
	{ EOPNOTSUPP, SD_BUS_ERROR_NOT_SUPPORTED },
	{ ENOBUFS, SD_BUS_ERROR_LIMITS_EXCEEDED },
	{ EDQUOT, SD_BUS_ERROR_LIMITS_EXCEEDED },
	{ EMFILE, SD_BUS_ERROR_LIMITS_EXCEEDED },
	{ ENFILE, SD_BUS_ERROR_LIMITS_EXCEEDED },
	{ ETIMEDOUT, SD_BUS_ERROR_TIMEOUT },
	{ ENOMEM, SD_BUS_ERROR_NO_MEMORY },
	{ ENOENT, SD_BUS_ERROR_FILE_NOT_FOUND },
	{ EEXIST, SD_BUS_ERROR_FILE_EXISTS },
	{ EIO, SD_BUS_ERROR_IO_ERROR },
};

/* NULL: the name follows from the errno. */
static const char *fault_name(enum fault fault)
{
	switch (fault) {
	case FAULT_NO_SUCH_VM:
		return BUS_ERROR_NO_SUCH_VM;
	case FAULT_VM_EXISTS:
		return BUS_ERROR_VM_EXISTS;
	case FAULT_WRONG_STATE:
		return BUS_ERROR_INVALID_STATE;
	case FAULT_BUSY:
		return BUS_ERROR_BUSY;
	case FAULT_NO_SUCH_DEVICE:
		return BUS_ERROR_NO_SUCH_DEVICE;
	case FAULT_NO_SUCH_JOB:
		return BUS_ERROR_NO_SUCH_JOB;
	case FAULT_NO_SUCH_CONSOLE:
		return BUS_ERROR_NO_SUCH_CONSOLE;
	case FAULT_CONSOLE_IN_USE:
		return BUS_ERROR_CONSOLE_IN_USE;
	case FAULT_DEVICE_EXISTS:
		return BUS_ERROR_DEVICE_EXISTS;
	case FAULT_BAD_ARGUMENT:
		return SD_BUS_ERROR_INVALID_ARGS;
	case FAULT_BAD_CONFIG:
		return BUS_ERROR_INVALID_CONFIG;
	case FAULT_UNSUPPORTED:
		return SD_BUS_ERROR_NOT_SUPPORTED;
	case FAULT_HOST_RESOURCE:
		return BUS_ERROR_RESOURCE_UNAVAILABLE;
	case FAULT_GUEST_TIMEOUT:
		return BUS_ERROR_GUEST_TIMEOUT;
	case FAULT_CANCELLED:
		return BUS_ERROR_JOB_CANCELED;
	case FAULT_WORKER_FAILED:
		return BUS_ERROR_WORKER_FAILED;
	case FAULT_NONE:
	case FAULT_N_:
		break;
	}
	return NULL;
}

static void register_names(void)
{
	/* Knows its own: adding the same map again does nothing.  Without memory the names still
	 * work. */
	(void)sd_bus_error_add_map(error_map);
}

const char *bus_error_name(const struct err *err)
{
	const char *name = fault_name(err->fault);

	if (name)
		return name;
	for (size_t i = 0; i < ARRAY_SIZE(errno_names); i++)
		if (errno_names[i].code == err->code)
			return errno_names[i].name;
	return SD_BUS_ERROR_FAILED;
}

int bus_error_from_err(sd_bus_error *ret, const struct err *err)
{
	assert(err->code > 0);
	register_names();
	(void)sd_bus_error_set(ret, bus_error_name(err), err->msg);
	return -err->code;
}

int bus_reply_err(sd_bus_message *call, const struct err *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

	bus_error_from_err(&error, err);
	return sd_bus_reply_method_error(call, &error);
}

/* FAULT_NONE and the errno for standard names; sd-bus' own table for those of other services. */
static int fault_from_name(const char *name, const sd_bus_error *e, enum fault *ret)
{
	int code;

	for (unsigned int i = 0; i < FAULT_N_; i++) {
		const char *known = fault_name((enum fault)i);

		if (known && strcmp(known, name) == 0)
			*ret = (enum fault)i;
	}
	for (size_t i = 0; i < ARRAY_SIZE(errno_names); i++)
		if (strcmp(errno_names[i].name, name) == 0)
			return errno_names[i].code;
	code = sd_bus_error_get_errno(e);
	return code > 0 ? code : EIO;
}

void err_from_bus_error(struct err *err, int r, const sd_bus_error *e)
{
	enum fault fault = FAULT_NONE;
	int code = r < 0 ? -r : EIO;

	register_names();
	if (!e || !sd_bus_error_is_set(e)) {
		err_errno(err, code, "the call failed");
		return;
	}
	code = fault_from_name(e->name, e, &fault);
	err_fault(err, fault, code, "%s", e->message && e->message[0] ? e->message : e->name);
}
