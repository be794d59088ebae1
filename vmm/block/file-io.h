/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synchronous I/O on an image's own file, for formats' metadata
 *
 * The file may be open for direct I/O (`direct`), which wants aligned memory and
 * offsets: everything here goes through blocks of its own.  Not for the data path.
 * Under the format's lock, or on the control thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* 0 or -errno.  What lies behind the end of the file reads as zeroes. */
int file_io_read(int fd, uint64_t off, void *buf, size_t len);
/*
 * Rewrites the blocks around it as well, which nobody else may be writing.  Makes the
 * file longer if need be, by no more than it has to.
 */
int file_io_write(int fd, uint64_t off, const void *buf, size_t len);
/* Zeroes, as a hole where the file system has them. */
int file_io_zero(int fd, uint64_t off, uint64_t len);
int file_io_flush(int fd);

/*
 * The lowest places (of n, which are sorted by this) closer to each other than len, or
 * UINT64_MAX: no two of the blocks overlap.
 */
uint64_t file_io_find_overlap(uint64_t *places, size_t n, uint64_t len);
