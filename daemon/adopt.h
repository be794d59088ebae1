/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the workers of a former daemon again
 *
 * Each state file in the runtime directory is a worker that ran, or was getting
 * started, when the last daemon ended.  Its VM gets the configuration it was
 * booted with, the spawner says whether the process is still there, and the
 * worker itself says what its guest does.  Only then is the bus name taken, so
 * clients see every VM as it is.
 *
 *   its start was not handed over  -> it was cut short: killed if there, failed
 *   process there, guest runs      -> running or paused, as the worker says
 *   process there, nothing booted  -> the start was cut short: killed, failed
 *   unit failed                    -> crashed, for the reason that it would have had with a
 *                                     daemon (machine_exit_reason())
 *   nothing there                  -> it ended while nobody looked: stopped
 *
 * The first line is the state file's word, written before the worker is told to
 * start its guest.  It needs no answer of a worker that may not run yet, and no
 * missing unit is taken for a guest that turned itself off.
 *
 * A worker that does not answer counts as running; it is asked again until it
 * does (machine_reconnect_later()).
 *
 * Main loop.
 */
#pragma once

struct err;
struct machine;
struct manager;
struct spawn_exit;

/* Finds them all, then calls done once. */
int manager_adopt(struct manager *manager, void (*done)(void *data), void *data, struct err *err);

/* What is seen of a worker while vm->adopting. */
void machine_adopt_started(struct machine *vm, const struct err *err);
void machine_adopt_exited(struct machine *vm, const struct spawn_exit *how);
