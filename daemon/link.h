/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread between a machine and its worker
 *
 * Makes the connection (worker.h) and makes it again when it was lost, takes
 * what the worker says of its own accord, which is where most changes of state
 * come from, and asks it for what was said while nobody listened.
 *
 * Main loop.
 */
#pragma once

struct err;
struct machine;

/* -ENOTCONN with a sentence when there is no connection now. */
int machine_check_connection(const struct machine *vm, struct err *err);
/* There will be another worker: what one does of its own accord is counted from nothing. */
void machine_limit_worker(struct machine *vm);
int machine_connect(struct machine *vm, struct err *err);
/* Connects again where that is needed and asks the worker what it does, until it says so. */
void machine_reconnect_later(struct machine *vm);
