/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for a job, with progress
 *
 * JobRemoved may arrive before the reply that names the job, so the watch is
 * set up before the call:
 *
 *   job_watch_begin(&w, c);  call;  job_watch_wait(&w, ..., job);  job_watch_end(&w);
 *
 * Nothing is printed in the first second; after that, on a terminal, one line
 * that is rewritten, else one line a phase.  The service may restart meanwhile:
 * its jobs outlive it, and the state is read once a second besides.
 */
#pragma once

#include "dbus/client/client.h"
#include <glib.h>

struct job_watch {
	struct client *client;
	sd_bus_slot *slot;
	GHashTable *results; /* job path -> struct job_result */
};

int job_watch_begin(struct job_watch *w, struct client *c);
void job_watch_end(struct job_watch *w);
/* Until the job has ended; reports its failure. `what` is "starting". */
int job_watch_wait(struct job_watch *w, const char *vm, const char *what, const char *job);
