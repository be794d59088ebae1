/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a VM, for the verbs that go on after it
 */
#pragma once

#include <stdbool.h>

struct client;

/* quiet: no JSON line about the job. */
int power_start(struct client *c, const char *vm, bool paused, bool wait, bool quiet);
