/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions of persistent VMs, one JSON file each: <state>/<name>.json
 *
 * A file is replaced whole (temporary, fsync, rename, fsync of the directory):
 * after a crash it holds the old or the new definition.  A file that cannot be
 * understood is renamed to <name>.json.damaged, reported, and never lost.
 *
 * Main loop.  The state directory is local storage by definition of the
 * service, files are a few KiB (and never more than STORE_FILE_MAX): writing
 * them there is not waiting.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include "vmm/config/json.h"
#include <stdbool.h>

struct definition;
struct err;

/*
 * Of any file here.  A state file holds two configurations, the rest of it is
 * small; what is printed compactly is no longer than what was accepted.
 */
#define STORE_FILE_MAX (2 * CONFIG_JSON_MAX + (1u << 20))

/*
 * Atomic replacement of a file, for the store and the runtime state. mode 0600.
 * -ENOBUFS, and the old file stays, when file_read() would refuse the new one.
 */
int file_replace(const char *path, const char *text, bool durable, struct err *err);
/* Whole file as text, at most STORE_FILE_MAX; free() it. */
int file_read(const char *path, char **ret, struct err *err);

int store_init(const char *state_dir, struct err *err);
int store_save(const char *state_dir, const struct definition *def, struct err *err);
int store_remove(const char *state_dir, const char *name, struct err *err);
/*
 * Removes <state>/state/<name>/, where devices keep what survives a shutdown (firmware variables):
 * apart from the definitions, as "web1.json" may be the name of a machine, too.
 */
int store_remove_state(const char *state_dir, const char *name, struct err *err);
/* Calls fn for each good definition, which takes over its contents. */
int store_load(const char *state_dir, void (*fn)(struct definition *def, void *data), void *data,
	       struct err *err);
/*
 * What a failure to load a file says: true when the file itself is wrong and may be
 * set aside.  Else it could not be read now, which the log says, and stays: false,
 * with err filled when the process lacks what it needs to go on (descriptors, memory).
 */
bool store_is_damaged(const char *path, const struct err *reason, struct err *err);
/* Out of the way as "<base>.damaged" or with a number after it; the reason goes to the log. */
void store_set_aside(const char *path, const char *base, const struct err *reason);
