/* SPDX-License-Identifier: Apache-2.0 */
#include "dbus/worker-error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/api/protocol.h"
#include "vmm/base/err.h"

#define NAME_MAX_LEN 128
#define ERRNO_INFIX  ".errno_"

/* The errno of a fault is not part of its name: this is the one it usually comes with. */
static int fault_errno(enum fault fault)
{
	switch (fault) {
	case FAULT_NO_SUCH_VM:
	case FAULT_NO_SUCH_DEVICE:
	case FAULT_NO_SUCH_JOB:
	case FAULT_NO_SUCH_CONSOLE:
		return ENXIO;
	case FAULT_VM_EXISTS:
	case FAULT_DEVICE_EXISTS:
		return EEXIST;
	case FAULT_WRONG_STATE:
		return EPROTO;
	case FAULT_BUSY:
	case FAULT_CONSOLE_IN_USE:
		return EBUSY;
	case FAULT_BAD_ARGUMENT:
	case FAULT_BAD_CONFIG:
		return EINVAL;
	case FAULT_UNSUPPORTED:
		return EOPNOTSUPP;
	case FAULT_HOST_RESOURCE:
		return EADDRNOTAVAIL;
	case FAULT_GUEST_TIMEOUT:
		return ETIMEDOUT;
	case FAULT_CANCELLED:
		return ECANCELED;
	case FAULT_WORKER_FAILED:
		return ECHILD;
	case FAULT_NONE:
	case FAULT_N_:
		break;
	}
	return EIO;
}

static void replace(char *s, char from, char to)
{
	for (; *s; s++)
		if (*s == from)
			*s = to;
}

int worker_error_from_err(sd_bus_error *ret, const struct err *err)
{
	char name[NAME_MAX_LEN], fault[64];

	assert(err->code > 0);
	snprintf(fault, sizeof(fault), "%s", fault_to_string(err->fault));
	replace(fault, '-', '_'); /* D-Bus names have no dashes */
	if (err->fault == FAULT_NONE)
		snprintf(name, sizeof(name), PROTOCOL_ERROR_PREFIX "%s" ERRNO_INFIX "%d", fault,
			 err->code);
	else
		snprintf(name, sizeof(name), PROTOCOL_ERROR_PREFIX "%s", fault);
	(void)sd_bus_error_set(ret, name, err->msg);
	return -err->code;
}

/* 0, or -EINVAL for a name that worker_error_from_err() does not make. */
static int parse_name(const char *name, enum fault *ret_fault, int *ret_code)
{
	char word[NAME_MAX_LEN];
	enum fault fault;
	size_t len;
	char *infix, *end = NULL;
	long code = 0;

	if (strncmp(name, PROTOCOL_ERROR_PREFIX, strlen(PROTOCOL_ERROR_PREFIX)) != 0)
		return -EINVAL;
	name += strlen(PROTOCOL_ERROR_PREFIX);
	len = strlen(name);
	if (len >= sizeof(word))
		return -EINVAL;
	memcpy(word, name, len + 1);

	infix = strstr(word, ERRNO_INFIX);
	if (infix) {
		code = strtol(infix + strlen(ERRNO_INFIX), &end, 10);
		if (*end != '\0' || code <= 0 || code > 4095)
			return -EINVAL;
		*infix = '\0';
	}
	replace(word, '_', '-');
	if (fault_from_string(word, &fault) < 0 || (fault == FAULT_NONE) != (code > 0))
		return -EINVAL;
	*ret_fault = fault;
	*ret_code = code > 0 ? (int)code : fault_errno(fault);
	return 0;
}

void err_from_worker_error(struct err *err, int r, const sd_bus_error *e)
{
	enum fault fault = FAULT_NONE;
	int code = r < 0 ? -r : EIO;

	if (!e || !sd_bus_error_is_set(e)) {
		err_errno(err, code, "the call to the worker failed");
		return;
	}
	if (parse_name(e->name, &fault, &code) < 0) {
		code = sd_bus_error_get_errno(e);
		if (code <= 0)
			code = EIO;
	}
	err_fault(err, fault, code, "%s", e->message && e->message[0] ? e->message : e->name);
}
