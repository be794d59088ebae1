/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for brumed: enough of org.brume.vm1 for brumectl's tests
 *
 * Runs in a thread of the test on a private bus.  What a machine does follows
 * from its name:
 *   web1, db-1   exist and work; db-1 has no configuration of a running boot
 *   slow         its jobs take 1.3 s and have a phase and a progress
 *   broken       its jobs fail with WorkerFailed
 *   deaf         its jobs fail with GuestTimeout
 *   denied       every method is AccessDenied
 *   ask          every method is InteractiveAuthorizationRequired
 *   busy         every method is Busy
 *   taken        CreateVM says VMExists
 * Whatever CreateVM gets besides these exists from then on.  The console says
 * "boot", then answers each line with itself in capitals; "poweroff" and "crash"
 * end the machine.
 */
#pragma once

#include "tests/lib/private-bus.h"
#include <glib.h>

struct mock;

struct mock *mock_start(const struct private_bus *bus);
void mock_stop(struct mock *mock);
/* "Start(web1 Paused=true) Resume(web1) ..." since the last time; g_free() it. */
char *mock_take_log(struct mock *mock);
/* The last configuration that CreateVM, SetConfig or ValidateConfig got. */
char *mock_config(struct mock *mock);
