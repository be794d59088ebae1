/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of our machines uses an image
 *
 * The lock of an image tells that somebody has it, not who.  The daemon knows
 * what its running machines use: the main loop writes that down before a start
 * opens its files, and the helper thread, which may wait for a file system,
 * compares.
 */
#pragma once

#include <stddef.h>
#include <sys/stat.h>

struct machine;

struct image_users {
	struct image_user {
		char *vm;
		char *path; /* NULL: fd is it */
		int fd;     /* or -EBADF */
	} * items;
	size_t n;
};

/* Main loop: the images of all active machines but this one. */
void image_users_collect(const struct machine *vm, struct image_users *ret);
void image_users_deinit(struct image_users *users);

/* Helper thread. users NULL: nobody. The name of the machine, or NULL. */
const char *image_users_find(const struct image_users *users, const struct stat *image);
