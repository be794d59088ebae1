/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ResizeVCPUs, ResizeMemory, ResizeMemoryZone: jobs that end when the guest has what was asked for
 *
 * The worker offers the guest more or asks for some back, and tells how far it is; what
 * it tells are properties of the machine, with or without a job.  A guest that says no,
 * or does not get there up to a deadline that outlives the daemon, keeps what it has
 * then: the job fails and says how much that is, and nothing more is asked of it.  So it
 * is with a job that is cancelled.
 *
 * Main loop.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct job;
struct machine;
struct resize;
struct runtime_resize;

/* What the guest has (actual) and is to have; the worker's word. */
struct machine_sizes {
	uint32_t vcpus, vcpus_target;
	uint64_t memory, memory_target, memory_max; /* bytes */
};

struct resize_options {
	uint64_t timeout_usec; /* 0 = never */
	bool persist;          /* in the definition too */
};

enum resize_what {
	RESIZE_VCPUS,
	RESIZE_MEMORY,
	RESIZE_ZONE, /* of the memory */
	RESIZE_N_,
};

/* What is asked for. */
struct resize_wish {
	enum resize_what what;
	uint64_t wanted;  /* vCPUs, or bytes */
	const char *zone; /* RESIZE_ZONE: its id */
};

int machine_check_resize(const struct machine *vm, const struct resize_wish *wish, struct err *err);
/* Of a machine that does not run the definition alone is changed; the job is over at once. */
int machine_resize(struct machine *vm, uid_t owner, const struct resize_wish *wish,
		   const struct resize_options *options, struct job **ret, struct err *err);

/* Of the running machine, else of the next boot. */
struct machine_sizes machine_get_sizes(const struct machine *vm);
/* answer: of Query, Start or SizesChanged; a{sv} */
void machine_take_sizes(struct machine *vm, GVariant *answer);
void machine_on_resize_refused(struct machine *vm, const char *what);

/* For the state file, and from it. */
void machine_describe_resize(const struct machine *vm, struct runtime_resize *ret);
void machine_resume_resize(struct machine *vm);
void resize_free(struct resize *resize);
