/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output files and sockets that a start has made (resources.c), when it comes to nothing
 *
 * They are removed while they are empty and still the same files, by this
 * daemon or, by the state file, by the next.
 *
 * Main loop, but where a function says otherwise.
 */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct stat;

/* An output file that was not there before. */
struct created_file {
	char *path;
	dev_t dev;
	ino_t ino;
};

struct created_files {
	struct created_file *items;
	size_t n;
	uid_t owner; /* of the VM */
};

void created_files_deinit(struct created_files *created);

/* Helper threads: they may block. */
int created_files_add(struct created_files *created, const char *path, const struct stat *st);
/* Removes those that are still there and empty: of a start that failed. */
void created_files_remove(const struct created_files *created);

/* On a helper thread, nobody waits for it. Takes over created's contents. */
void created_files_remove_later(struct created_files *created, sd_event *event,
				const char *vm_name);

/* aa{sv} for the state file, and back; what is malformed there is left out. */
GVariant *created_files_save(const struct created_files *created);
void created_files_load(GVariant *value, uid_t owner, struct created_files *ret);
