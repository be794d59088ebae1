/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that answer with a job, and waiting for its end, with progress
 *
 * Nothing is printed in the first second; after that, on a terminal, one line
 * that is rewritten, else one line a phase.  The service may restart meanwhile:
 * its jobs outlive it, and the state is read once a second besides.
 */
#pragma once

#include "dbus/client/client.h"

struct job_wish {
	const char *what; /* "starting" */
	bool wait;        /* for its end; else it is only begun */
	bool quiet;       /* no JSON either */
	/* Ctrl-C cancels it and waits for how it ends; a second one leaves it to itself. */
	bool cancel;
	/* When the guest does not do it, instead of the error's usual hint; %s is the machine. */
	const char *hint;
};

/* Sends the call, waits if that is wished, reports what failed. */
int job_run(struct client *c, const char *vm, sd_bus_message *call, const struct job_wish *wish);
