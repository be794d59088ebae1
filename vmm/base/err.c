/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/math.h"

static const char *const fault_names[FAULT_N_] = {
	[FAULT_NONE] = "none",
	[FAULT_NO_SUCH_VM] = "no-such-vm",
	[FAULT_VM_EXISTS] = "vm-exists",
	[FAULT_WRONG_STATE] = "wrong-state",
	[FAULT_BUSY] = "busy",
	[FAULT_NO_SUCH_DEVICE] = "no-such-device",
	[FAULT_NO_SUCH_JOB] = "no-such-job",
	[FAULT_NO_SUCH_CONSOLE] = "no-such-console",
	[FAULT_CONSOLE_IN_USE] = "console-in-use",
	[FAULT_DEVICE_EXISTS] = "device-exists",
	[FAULT_BAD_ARGUMENT] = "bad-argument",
	[FAULT_BAD_CONFIG] = "bad-config",
	[FAULT_UNSUPPORTED] = "unsupported",
	[FAULT_HOST_RESOURCE] = "host-resource",
	[FAULT_GUEST_TIMEOUT] = "guest-timeout",
	[FAULT_CANCELLED] = "cancelled",
	[FAULT_WORKER_FAILED] = "worker-failed",
};

const char *fault_to_string(enum fault fault)
{
	return fault < FAULT_N_ ? fault_names[fault] : NULL;
}

int fault_from_string(const char *s, enum fault *ret)
{
	for (unsigned int i = 0; i < FAULT_N_; i++) {
		if (strcmp(s, fault_names[i]) == 0) {
			*ret = (enum fault)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Texts travel as D-Bus strings, which half a character at the end would make invalid. */
static void trim_tail(char *text)
{
	size_t len = strlen(text), n = 0;
	unsigned char lead;

	while (n < 3 && n < len && ((unsigned char)text[len - 1 - n] & 0xc0) == 0x80)
		n++;
	if (n >= len)
		return;
	lead = (unsigned char)text[len - 1 - n];
	if (lead >= 0xc0 && n < (lead >= 0xf0 ? 3U : lead >= 0xe0 ? 2U : 1U))
		text[len - 1 - n] = '\0';
}

/* Bytes of the character that text begins with, 0: it is none (Unicode 15, table 3-7). */
static size_t character_len(const unsigned char *text)
{
	size_t len = text[0] < 0x80   ? 1
		     : text[0] < 0xc2 ? 0
		     : text[0] < 0xe0 ? 2
		     : text[0] < 0xf0 ? 3
		     : text[0] < 0xf5 ? 4
				      : 0;

	for (size_t i = 1; i < len; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	/* Too long for what they mean, halves of pairs, more than there are. */
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90))
		return 0;
	return len;
}

/*
 * A text may quote what a file, a guest or a client says.  It is one line of a log and a
 * D-Bus string, which would be refused as a whole: what is no character, or would move the
 * cursor of a terminal, is shown as '?'.
 */
static void make_printable(char *text)
{
	unsigned char *p = (unsigned char *)text;

	while (*p) {
		size_t len = character_len(p);
		bool control = p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0);

		if (len == 0 || control)
			*p = '?';
		p += len == 2 && control ? 1 : MAX(len, 1U);
	}
}

static void set_va(struct err *err, enum fault fault, int code, const char *fmt, va_list ap)
	_printf_(4, 0);

static void set_va(struct err *err, enum fault fault, int code, const char *fmt, va_list ap)
{
	assert(code > 0);
	if (!err)
		return;
	assert(err->code == 0); /* a set error is reported or cleared, never overwritten */
	err->code = code;
	err->fault = fault;
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	trim_tail(err->msg);
	make_printable(err->msg);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_va(err, FAULT_NONE, code, fmt, ap);
	va_end(ap);
	return -code;
}

int err_fault(struct err *err, enum fault fault, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_va(err, fault, code, fmt, ap);
	va_end(ap);
	return -code;
}

int err_errno(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	char text[64];
	size_t len;

	va_start(ap, fmt);
	set_va(err, FAULT_NONE, code, fmt, ap);
	va_end(ap);
	if (!err)
		return -code;
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %s",
		 strerror_r(code, text, sizeof(text)));
	return -code;
}

int err_prefix(struct err *err, int r, const char *fmt, ...)
{
	char cause[ERR_MSG_MAX];
	va_list ap;
	size_t prefix, room;
	int n;

	if (!err)
		return r;
	assert(err->code != 0);
	memcpy(cause, err->msg, sizeof(cause));

	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);

	/* The root cause outlives its context: cut the prefix, then nothing. */
	room = sizeof(err->msg) - 1 - strlen(cause);
	prefix = n < 0 ? 0 : (size_t)n;
	if (prefix + 2 > room) {
		memcpy(err->msg, cause, sizeof(cause));
		return r;
	}
	memcpy(err->msg + prefix, ": ", 2);
	strcpy(err->msg + prefix + 2, cause);
	make_printable(err->msg);
	return r;
}
