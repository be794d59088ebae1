/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes beside a worker: programs that do part of a machine's work
 *
 * An opener (opener.h) finds that a device needs another program (passt, ...),
 * makes a pair of sockets, and adds one end to the resources of the worker and
 * the other, as the program's standard input, here.  When all resources are
 * open, Start runs the companions.
 *
 * With systemd each is a transient unit "brume-<kind>-<vm>:<id>.service" in the
 * worker's slice, with a sandbox and a user of its own, bound to the worker's
 * unit: it ends when the worker ends.  Nobody here watches it afterwards, so
 * nothing is to be found again after a restart of the daemon; that a companion
 * has died the worker sees by its socket, and tells.
 *
 * Main loop, but companion_deinit() and companion_find_program().
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

struct err;
struct spawn;
struct unit_property;

struct companion_kind {
	const char *name;        /* of the unit: "passt" */
	const char *description; /* "Network" of virtual machine X */
	const struct unit_property *properties;
	size_t n_properties;
	/* A start waits so long for one that ends at once, as it cannot do what it was told. */
	uint64_t settle_usec;
};
extern const struct companion_kind companion_passt;
extern const struct companion_kind companion_virtiofsd;

struct companion {
	const struct companion_kind *kind;
	char *id;    /* of the device it works for */
	char **argv; /* NULL-terminated, g_strfreev(); argv[0] is its path */
	int fd;      /* its standard input */
	int out_fd;  /* its standard output; 0: the journal */
	int peer_fd; /* the worker's end of fd, which tells when it has ended; 0: not asked */
};

void companion_deinit(struct companion *companion);
/* The path of a program that the host's administrator installed, or NULL. */
const char *companion_find_program(const char *const *paths, size_t n);

/* A start of several that is under way. */
struct companion_start;

/*
 * Runs all, and calls done() from the event loop when all run (err NULL) or one
 * cannot, or has ended at once; not after companion_start_free(), which leaves what runs
 * alone: it ends with the worker.  *ret is NULL, and done() is not called, when there are
 * none.  companions are the caller's until then; their ends are closed once they run.
 */
int companion_start(sd_event *event, struct spawn *worker, const char *vm, const char *slice,
		    struct companion *companions, size_t n,
		    void (*done)(void *data, const struct err *err), void *data,
		    struct companion_start **ret, struct err *err);
/* NULL is allowed. */
void companion_start_free(struct companion_start *start);

/* For the spawners: as units bound to the worker's. done() and free as above. */
struct companion_units;
int companion_start_units(sd_bus *bus, bool user, const char *worker_unit, const char *vm,
			  const char *slice, const struct companion *companions, size_t n,
			  void (*done)(void *data, const struct err *err), void *data,
			  struct companion_units **ret, struct err *err);
