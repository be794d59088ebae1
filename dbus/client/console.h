/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's console on this terminal
 *
 * On a terminal the keys go through unchanged, Ctrl-] excepted.  Without one
 * (a pipe, a file) standard input is sent as it is, and after its end whatever
 * the guest still says is printed: until it has been silent for a while, or, with
 * a timeout, until that has passed.
 */
#pragma once

#include "dbus/client/arguments.h"
#include "dbus/client/client.h"
#include <stdbool.h>
#include <stdint.h>

enum console_end {
	CONSOLE_END_LEFT,    /* escape key */
	CONSOLE_END_CLOSED,  /* by the VM, or taken over */
	CONSOLE_END_DRAINED, /* end of input, and the guest has fallen silent */
	CONSOLE_END_STOPPED, /* *stop became true */
	CONSOLE_END_SIGNAL,  /* SIGINT, SIGTERM, SIGHUP from outside */
	CONSOLE_END_FAILED,  /* reported */
};

struct console_params {
	int fd;
	sd_bus *bus;      /* processed meanwhile; NULL = not */
	const bool *stop; /* set by a callback of the bus; NULL = none */
	bool stay;        /* the end of input is not the end */
	bool has_timeout; /* of the draining */
	uint64_t timeout_usec;
	/* The key after Ctrl-]: true leaves.  NULL: Ctrl-] alone leaves. */
	bool (*on_key)(char key, void *data);
	/* The terminal has this size: at the start, and when it changes.  NULL: nobody asks. */
	void (*on_size)(uint16_t columns, uint16_t rows, void *data);
	void *data;
};

/* Could a console be opened at all, also of a machine that does not run yet? */
int console_check(struct client *c, const char *vm);
/* "" is the first console. *ret_fd: close() it. */
int console_open(struct client *c, const char *vm, const char *console, bool force, bool read_only,
		 int *ret_fd);
enum console_end console_pump(const struct console_params *params);
/* What `brumectl console` does with an open one. */
int console_attach(struct client *c, const char *vm, int fd, const struct arguments *a);
