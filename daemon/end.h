/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a worker: by us, by its guest, by accident
 *
 * Terminate asks the worker to quit and kills it when it does not.  Whatever the
 * cause, the end of the process arrives in machine_on_exited(), the one place
 * that decides what it was and cleans up.  (A worker that ends while it is being
 * started or found again is start.h's and adopt.h's.)
 *
 * Main loop.
 */
#pragma once

#include "daemon/machine.h"

struct spawn_exit;

/* Ends the worker at once; fn is called when it is gone. */
int machine_check_terminate(const struct machine *vm, struct err *err);
int machine_terminate(struct machine *vm, machine_done_fn fn, void *data, struct err *err);
/* The same for whom nobody waits. */
void machine_begin_end(struct machine *vm);
/* Goes on with what a former daemon had begun: it may have died before it said Quit. */
void machine_resume_end(struct machine *vm);
/* Kills an unanswering worker at once; its exit follows. */
void machine_kill(struct machine *vm);

/*
 * LastExitReason, from what the worker said and how it went: the same whether a
 * daemon saw the end or found it.
 */
const char *machine_exit_reason(const struct machine *vm, const struct spawn_exit *how);
/* Its guest, or somebody who asked for it, has ended it: stopped, not crashed. */
bool machine_exit_is_clean(const char *reason);

void machine_on_exited(struct machine *vm, const struct spawn_exit *how);
/* The last step of every end: replies, and a transient VM vanishes (it is freed). */
void machine_ended(struct machine *vm);
/* Tells those who wait for an end that this daemon will not see it. */
void machine_drop_waiters(struct machine *vm);
