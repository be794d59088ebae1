/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptor helpers: whole reads and writes, duplicates, eventfds.  Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/cleanup.h"

struct err;

/* Reads exactly len bytes at off: 0, -EIO at end of file, -errno. */
int fd_pread_all(int fd, void *buf, size_t len, uint64_t off);
/* Writes all of it, in place of write(2)'s short counts: 0 or -errno. */
int fd_write_all(int fd, const void *buf, size_t len);
/* A close-on-exec duplicate, or -errno. */
int fd_dup(int fd);
int fd_set_nonblock(int fd, bool nonblock);
/* Non-blocking, close-on-exec eventfd, or -errno. */
int eventfd_new(void);
void eventfd_signal(int fd);
/* Takes the count: true when it was above zero. */
bool eventfd_take(int fd);
