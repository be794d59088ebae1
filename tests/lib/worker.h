/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real brume-vmm, driven as the daemon drives it: the fixture of the kvm rig
 *
 * The binary comes from $BRUME_VMM, the tiny guest from $BRUME_TINY (meson sets
 * both).  Single-threaded: the test runs the bus.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "vmm/base/err.h"

struct test_worker {
	pid_t pid;
	sd_bus *bus;
	int debug_fd;            /* memfd: what the guest wrote to port 0xe9 */
	GPtrArray *resources;    /* names of resources to hand over */
	GArray *fds;             /* int, parallel */
	GPtrArray *states;       /* "running>shutdown:guest-shutdown" in order */
	GPtrArray *events;       /* "guest/debug-code" ... */
	GHashTable *debug_codes; /* code -> guint64 usec */
	bool exited;
	int status; /* of waitpid */
};

/* Starts the process and connects. extra: NULL-terminated arguments, may be NULL. */
void test_worker_spawn(struct test_worker *w, const char *const *extra);
/* Kills what is left. */
void test_worker_end(struct test_worker *w);

/* Takes fd over. */
void test_worker_resource(struct test_worker *w, const char *name, int fd);
/*
 * Starts with a configuration in GVariant text, to which payload (the tiny guest
 * with the command line), debug_console, kvm and, unless it is there, rng are added:
 * 0, or the worker's error.
 */
int test_worker_start(struct test_worker *w, const char *cmdline, const char *config, bool paused,
		      struct err *err);
/* Calls a method without arguments: 0 or the worker's error. */
int test_worker_call(struct test_worker *w, const char *method, struct err *err);
int test_worker_open_console(struct test_worker *w, const char *name, bool force, int *ret_fd,
			     struct err *err);

/* Runs the bus until the condition holds or the time is over (then the test fails). */
void test_worker_wait_exit(struct test_worker *w, unsigned int seconds);
void test_worker_wait_output(struct test_worker *w, const char *text, unsigned int seconds);
void test_worker_wait_state(struct test_worker *w, const char *edge, unsigned int seconds);
void test_worker_run_for(struct test_worker *w, unsigned int msec);

/* What the guest wrote to port 0xe9 so far; to be freed. */
char *test_worker_output(struct test_worker *w);
/* Number of occurrences of text in the output. */
unsigned int test_worker_count(struct test_worker *w, const char *text);

/* A file of size bytes with a recognisable pattern per sector; the caller closes it. */
int test_disk(size_t size);
int test_open_kvm(void);
