/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Start to a running guest
 *
 * Three things go on at the same time, because none needs another: the unit is
 * started, the host's resources are opened on a helper thread, and Hello waits
 * in the control socket for the worker.  When resources and Hello are there,
 * the worker gets descriptors and configuration; when it has answered and the
 * unit is up, the job is done.
 *
 * Any failure goes through start_fail(): first error wins, everything is undone
 * (thread abandoned, worker killed, descriptors closed), and the job ends when
 * the process is really gone.
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct created_files;
struct err;
struct machine;
struct spawn_exit;
struct start;

int machine_check_start(const struct machine *vm, struct err *err);
int machine_start(struct machine *vm, uid_t owner, bool paused, struct err *err);
void machine_start_abort(struct machine *vm, const struct err *err);

/* What happens to the worker while vm->start is there. */
void machine_start_unit_ready(struct machine *vm, const struct err *err);
void machine_start_exited(struct machine *vm, const struct spawn_exit *how);
/* The connection is gone; false: the guest runs already and the start does not mind. */
bool machine_start_lost(struct machine *vm);
/* Output files it has made so far, for the state file. */
const struct created_files *machine_start_created(const struct machine *vm);
void start_free(struct start *start);
