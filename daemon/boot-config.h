/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from the configuration that a machine is booted with
 *
 * Pure functions.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

struct err;
struct vm_config;

/*
 * What the worker gets to see of JSON text, a{sv}: no host resources any more
 * (they come as descriptors), but the identity that the definition left open.
 */
GVariant *boot_config_for_worker(const char *text, const char *uuid, struct err *err);
/* How many threads the worker may need. */
uint64_t boot_config_count_tasks(const struct vm_config *config);
