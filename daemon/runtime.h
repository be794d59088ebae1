/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a restarted daemon must find again: <runtime>/vm/<name>/
 *
 *   control   the listening socket that the worker has as standard input
 *   state     JSON: the definition, the configuration that the VM was booted
 *             with, and how to recognise its process or unit
 *
 * The directory exists exactly while a VM has, or is getting, a worker.  It is
 * mode 0700 in a file system that a reboot empties.  A state file that cannot
 * be understood is kept as <runtime>/<name>.state.damaged; the worker it was
 * about, and the socket that leads to it, are left alone while it lives.
 *
 * Main loop.
 */
#pragma once

#include "daemon/definition.h"
#include "daemon/resources.h"
#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* A shutdown or reboot under way: the next daemon goes on with it. */
struct runtime_stop {
	bool present, reboot, force;
	uint64_t deadline_usec; /* CLOCK_REALTIME; 0 = never */
	uint32_t job;
	uid_t owner;
};

/* The removal of a device under way. */
struct runtime_removal {
	char *id; /* NULL: there is none */
	bool force;
	uint64_t deadline_usec; /* CLOCK_REALTIME; 0 = never */
	uint32_t job;
	uid_t owner;
};

/* Another number of vCPUs, or of bytes, that is being waited for. */
struct runtime_resize {
	bool present;
	unsigned int what; /* enum resize_what */
	char *zone;        /* or NULL */
	uint64_t wanted;
	uint64_t deadline_usec; /* CLOCK_REALTIME; 0 = never */
	uint32_t job;
	uid_t owner;
};

/* Another image that a worker was asked to give to a disk, and has not answered for. */
struct runtime_replace {
	char *id;        /* of the disk; NULL: there is none */
	GVariant *keys;  /* a{sv} of its configuration, that differ then */
	uint64_t images; /* that it has had before: with more, it has the new one */
	bool persist;
	bool unheard; /* nobody waits for the answer any more */
};

void runtime_replace_clear(struct runtime_replace *replace);

struct runtime_state {
	struct definition def;
	char *boot_config;   /* compact JSON; def.config is for the next boot */
	char *invocation_id; /* of the unit; NULL without systemd */
	uint32_t pid;
	uint64_t pid_start; /* start time of that process, in clock ticks: pids are reused */
	char **taps;        /* NULL-terminated or NULL: host interfaces in use */
	struct console_paths console_paths;
	bool preparing;               /* its Start was not handed over yet: there can be no guest */
	struct created_files created; /* by a start that is under way */
	struct runtime_stop stop;
	struct runtime_removal removal;
	struct runtime_resize resize;
	struct runtime_replace replace;
	char *exit_reason; /* intent: "terminated" when somebody asked for the end */
};

void runtime_state_deinit(struct runtime_state *state);

int runtime_init(const char *runtime_dir, struct err *err);
/*
 * One daemon at a time: what a second one adopts, the first one loses.  A descriptor
 * that holds the lock; -EBUSY when another process keeps it longer than wait_usec
 * (one that was killed has let go).  Before the main loop: it sleeps.
 */
int runtime_lock(const char *runtime_dir, uint64_t wait_usec, struct err *err);
char *runtime_control_path(const char *runtime_dir, const char *name);
/*
 * Makes the directory and the socket in it; returns the listening descriptor.
 * -EEXIST when a worker that we know nothing of listens there.
 */
int runtime_create(const char *runtime_dir, const char *name, struct err *err);
void runtime_remove(const char *runtime_dir, const char *name);
/* Keeps a state file that is of no use, out of the way of the next start. */
void runtime_set_aside(const char *runtime_dir, const char *name, const struct err *reason);

int runtime_save(const char *runtime_dir, const struct runtime_state *state, struct err *err);
/* Calls fn for each readable state file; damaged ones are set aside. */
int runtime_load(const char *runtime_dir, void (*fn)(struct runtime_state *state, void *data),
		 void *data, struct err *err);

/*
 * The number of the last job, in <runtime>/last-job: a number means one job from
 * boot to boot of the host, whoever still holds it.  0: there was none.
 */
int runtime_save_last_job(const char *runtime_dir, uint32_t id, struct err *err);
int runtime_load_last_job(const char *runtime_dir, uint32_t *ret, struct err *err);

/* Start time of a process, 0 when there is none. */
uint64_t pid_start_time(uint32_t pid);
