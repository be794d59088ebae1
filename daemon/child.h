/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers as plain child processes, without a sandbox: for tests only
 *
 * Lets the whole daemon run on a private bus where there is no systemd.
 * Children outlive the daemon like units do; a restarted daemon recognises
 * them by pid and start time, but cannot see their exit status any more.
 */
#pragma once

#include <systemd/sd-event.h>

struct err;
struct spawner;

int child_spawner_new(sd_event *event, const char *worker_path, struct spawner **ret,
		      struct err *err);
