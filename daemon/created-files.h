/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output files that a start has made (resources.h), when it comes to nothing
 *
 * They are removed while they are empty and still the same files, by this
 * daemon or, by the state file, by the next.
 *
 * Main loop.
 */
#pragma once

#include "daemon/resources.h"
#include <glib.h>
#include <systemd/sd-event.h>

/* On a helper thread, nobody waits for it. Takes over created's contents. */
void created_files_remove_later(struct created_files *created, sd_event *event,
				const char *vm_name);

/* aa{sv} for the state file, and back; what is malformed there is left out. */
GVariant *created_files_save(const struct created_files *created);
void created_files_load(GVariant *value, uid_t owner, struct created_files *ret);
