/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shutdown and Reboot: asking the guest
 *
 * Jobs that press the guest's power button until it reacts, up to a deadline
 * that outlives the daemon.  With force the machine does it then: a shutdown
 * goes on as an end (end.h), a reboot as a reset.
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct machine;
struct runtime_stop;
struct stop;

struct stop_options {
	uint64_t timeout_usec; /* 0 = never */
	bool force;
};

int machine_check_shutdown(const struct machine *vm, const char *verb, struct err *err);
int machine_shutdown(struct machine *vm, uid_t owner, const struct stop_options *options,
		     struct err *err);
int machine_reboot(struct machine *vm, uid_t owner, const struct stop_options *options,
		   struct err *err);
/* The guest has booted again: what a reboot job waits for. */
void machine_on_rebooted(struct machine *vm, const char *reason);
/* The end has begun: there is no way back, and no reason to ask the guest again. */
void machine_commit_stop(struct machine *vm);
/* It is the shutdown's own deadline that ends the machine. */
bool machine_stop_is_forced(const struct machine *vm);

/* For the state file, and from it: what a former daemon had begun goes on under its number. */
void machine_describe_stop(const struct machine *vm, struct runtime_stop *ret);
void machine_resume_stop(struct machine *vm);
/* The end of a resumed one has begun already: it was the deadline, if that is over. */
void machine_stop_expired(struct machine *vm);
void stop_free(struct stop *stop);
