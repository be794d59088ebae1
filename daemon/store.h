/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions of persistent VMs, one JSON file each: <state>/<name>.json
 *
 * A file is replaced whole (temporary, fsync, rename, fsync of the directory):
 * after a crash it holds the old or the new definition.  A file that cannot be
 * understood is renamed to <name>.json.damaged, reported, and never lost.
 *
 * Main loop.  The state directory is local storage by definition of the
 * service, files are a few KiB: writing them there is not waiting.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stdbool.h>

struct definition;
struct err;

/* Atomic replacement of a file, for the store and the runtime state. mode 0600. */
int file_replace(const char *path, const char *text, bool durable, struct err *err);
/* Whole file as text, at most 1 MiB; free() it. */
int file_read(const char *path, char **ret, struct err *err);

int store_init(const char *state_dir, struct err *err);
int store_save(const char *state_dir, const struct definition *def, struct err *err);
int store_remove(const char *state_dir, const char *name, struct err *err);
/* Removes <state>/<name>/, where devices keep what survives a shutdown (firmware variables). */
int store_remove_state(const char *state_dir, const char *name, struct err *err);
/* Calls fn for each good definition, which takes over its contents. */
int store_load(const char *state_dir, void (*fn)(struct definition *def, void *data), void *data,
	       struct err *err);
/* Out of the way as "<base>.damaged" or with a number after it; the reason goes to the log. */
void store_set_aside(const char *path, const char *base, const struct err *reason);
