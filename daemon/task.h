/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One piece of blocking work on a helper thread
 *
 * The main loop must never wait for a disk, a network file system or the
 * kernel's network lock.  A task runs work() on a thread of its own; done()
 * is then called from the event loop.  A task can be abandoned: work() that
 * hangs in the kernel costs a thread, never the loop; done() is not called any
 * more and what work() produced is released by free_data() when it returns.
 *
 * The data belongs to the task from a successful task_start() on.  work() and
 * free_data() may run on the helper thread and touch nothing but the data.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <systemd/sd-event.h>

struct err;
struct task;

struct task_ops {
	int (*work)(void *data, struct err *err);                            /* helper thread */
	void (*done)(void *data, int r, const struct err *err, void *owner); /* main loop */
	void (*free_data)(void *data);                                       /* either */
};

int task_start(sd_event *event, const struct task_ops *ops, void *data, void *owner,
	       struct task **ret, struct err *err);
/* NULL is allowed.  Not from done(): by then the task is over. */
void task_abandon(struct task *task);
