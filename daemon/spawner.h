/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting worker processes and learning how they end
 *
 * Two implementations: unit.c makes a sandboxed transient unit of systemd
 * (production), child.c a plain child process (tests and the kvm rig,
 * --worker-direct).  Everything is asynchronous: start() and adopt() return at
 * once and the handlers are called from the event loop, never from within.
 *
 * Per worker: started() at most once, exited() exactly once unless released
 * before; after a started() with an error exited() does not come.  Main loop.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct companion;
struct companion_units;
struct err;
struct spawner;

/* How a worker ended.  result uses systemd's words for a service's Result. */
struct spawn_exit {
	bool known;      /* false: gone, nobody saw how */
	char result[32]; /* success exit-code signal core-dump watchdog oom-kill timeout ... */
	bool signaled;   /* status is a signal number */
	int status;
};

struct spawn_handlers {
	/* err NULL: the process runs (and has said so, where there is a way to say it). */
	void (*started)(void *data, const struct err *err);
	void (*exited)(void *data, const struct spawn_exit *how);
	/* pid or invocation_id became known or changed */
	void (*identified)(void *data);
	/* systemd-machined lists the VM under this name */
	void (*registered)(void *data, const char *machine_name);
	/* The answer to set_properties(); err NULL: the unit has them. */
	void (*properties_set)(void *data, const struct err *err);
};

struct spawn_params {
	const char *name, *uuid;
	int control_fd;    /* listening; standard input of the worker */
	const char *slice; /* NULL = default */
	uint64_t tasks;    /* how many threads it may have */
	uint64_t memory;   /* guest RAM in bytes */
	/* Of the unit, besides or instead of ours: a set of dbus/resource-properties.h or NULL. */
	GVariant *properties;
};

/* Embedded in its VM; the spawner fills it in. */
struct spawn {
	struct spawner *spawner;
	const struct spawn_handlers *handlers;
	void *data;
	char *unit;   /* "brume-vm-web1.service", NULL without systemd */
	uint32_t pid; /* 0 = not known (yet) */
	uint64_t pid_start;
	char invocation_id[33]; /* "" = none */
	bool active;            /* between start()/adopt() and exited() or release() */
	void *impl;
};

struct spawner_ops {
	const char *name;
	int (*start)(struct spawn *sp, const struct spawn_params *params, struct err *err);
	/*
	 * Takes over a worker that a former daemon started: sp->pid, pid_start and
	 * invocation_id say which.  Then started(), or exited() when it is gone.
	 */
	int (*adopt)(struct spawn *sp, const char *name, struct err *err);
	int (*kill)(struct spawn *sp, int signo, struct err *err);
	/* Makes the VM known to systemd-machined, where there is one. Optional. */
	void (*register_machine)(struct spawn *sp, const char *name, const char *uuid,
				 char *const *taps);
	/*
	 * Changes properties of a running worker's unit, all or none; then
	 * properties_set(), unless the worker is released before.  One at a time.
	 * Optional: without it there is no unit.
	 */
	int (*set_properties)(struct spawn *sp, GVariant *properties, struct err *err);
	/* Processes beside a worker that was started: companion.h. *ret NULL: they run. */
	int (*start_companions)(struct spawn *sp, const char *vm, const char *slice,
				const struct companion *companions, size_t n,
				void (*done)(void *data, const struct err *err), void *data,
				struct companion_units **ret, struct err *err);
	/* Forgets the worker without touching it. */
	void (*release)(struct spawn *sp);
	/* Reports workers that no VM knows; after all adoptions. Optional. */
	void (*report_unknown)(struct spawner *spawner, bool (*known)(const char *name, void *data),
			       void *data);
	void (*free)(struct spawner *spawner);
};

struct spawner {
	const struct spawner_ops *ops;
};

void spawn_init(struct spawn *sp, struct spawner *spawner, const struct spawn_handlers *handlers,
		void *data);
void spawn_deinit(struct spawn *sp);

/* For the implementations: the end of a worker, told once. */
void spawn_exited(struct spawn *sp, const struct spawn_exit *how);
