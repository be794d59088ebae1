/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RemoveDevice: a job that ends when the guest has let go of a device
 *
 * The worker asks the guest and says when the device is gone with all it had.  A
 * guest that says no, or nothing up to a deadline that outlives the daemon, keeps
 * it, and the job fails; with force it loses the device then.  The job can be
 * cancelled as long as the device is there.  A guest that lets go of it after that
 * has removed it all the same.
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct job;
struct machine;
struct runtime_removal;
struct unplug;

struct unplug_options {
	uint64_t timeout_usec; /* 0 = never */
	bool force;            /* at the deadline; without waiting when that is now */
	bool persist;          /* from the definition too */
};

int machine_check_remove_device(const struct machine *vm, const char *id, bool persist,
				struct err *err);
/*
 * Of a machine that does not run the definition alone is changed; then the job, which is the
 * manager's, is over at once.
 */
int machine_remove_device(struct machine *vm, uid_t owner, const char *id,
			  const struct unplug_options *options, struct job **ret, struct err *err);

/* What the worker says. */
void machine_on_device_removed(struct machine *vm, const char *id);
void machine_on_removal_refused(struct machine *vm, const char *id);
/* The devices are known again: one that was waited for may have gone meanwhile. */
void machine_resume_removal(struct machine *vm);
/* The same for one that this daemon waits for. */
void machine_review_removal(struct machine *vm);
/* For the state file. */
void machine_describe_removal(const struct machine *vm, struct runtime_removal *ret);
void unplug_free(struct unplug *unplug);
