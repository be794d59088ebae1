/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a path for the owner of a VM
 *
 * What a path means is settled when it is opened, not when it was authorised.
 * For another user than the daemon's own, symbolic links are not followed: the
 * owner of the VM could turn the permission for a file into one for any file by
 * putting a link in its place.
 *
 * Any thread; an open may hang (NFS, FUSE, a failing device).
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Our own user gains nothing by a link: what it leads to is open to us and to them alike. */
bool path_follows_links(uid_t owner);
/* As open(2), or -errno: -ELOOP for a link that is not followed. */
int path_open_for(uid_t owner, const char *path, int flags, mode_t mode);
