/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtiofsd(1), which shares a directory with a guest, as a companion of its worker
 *
 * Helper thread.
 */
#pragma once

struct companion;
struct err;
struct fs_config;

/*
 * dir: the directory, taken over on success.  *ret_fd: a socket that is connected to
 * it, or will be as soon as it runs.
 */
int virtiofsd_open(const struct fs_config *fs, int dir, int *ret_fd, struct companion *ret,
		   struct err *err);
