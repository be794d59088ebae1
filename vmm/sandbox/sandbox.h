/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System call filters, one per thread role
 *
 * Each thread narrows itself at its entry (struct thread's enter hook): a call
 * that is not in its role's table kills the process with SIGSYS.  The unit's
 * filter (daemon/unit.c) is the coarse outer one.  The tables are in
 * make-filters.c.
 */
#pragma once

#include "vmm/base/thread.h"

struct err;

enum sandbox_mode {
	SANDBOX_KILL,
	SANDBOX_LOG, /* the kernel logs what it would have killed for */
	SANDBOX_OFF, /* sanitizer builds: their runtime makes calls of its own */
};

/* Before any thread starts. */
int sandbox_init(enum sandbox_mode mode, struct err *err);
/* The calling thread, for good. Fits struct thread's enter. */
int sandbox_enter(enum thread_role role, struct err *err);
