/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synchronous I/O on an image's own file, for formats: metadata, copied data, zeroes
 *
 * It goes to the same descriptor as the engines' transfers, so with `direct` it has to
 * be aligned as theirs.  What is not goes through one block of memory, which is read
 * before it is written: as much of the file as the alignment asks for, and not a byte
 * more.  Nobody else may be writing there.
 *
 * Under the format's lock, or on the control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_image;
struct err;

#define FILE_IO_BLOCK 4096U /* no file asks for more (raw.c) */

struct file_io {
	int fd;                        /* the format's to close */
	uint32_t off_align, mem_align; /* as the file has them; 1 = anything goes */
	uint8_t *block; /* FILE_IO_BLOCK bytes, aligned so; NULL where anything goes */
	bool unflushed; /* something was written since the last flush */
};

/* fd is that of the image, which raw_inspect() has filled in. */
int file_io_init(struct file_io *f, int fd, const struct block_image *img, struct err *err);
/* Also of what is all zeroes. */
void file_io_deinit(struct file_io *f);

/* 0 or -errno.  What lies behind the end of the file reads as zeroes. */
int file_io_read(struct file_io *f, uint64_t off, void *buf, size_t len);
/* Makes the file longer if need be, by no more than the alignment asks for. */
int file_io_write(struct file_io *f, uint64_t off, const void *buf, size_t len);
/* Zeroes, as a hole where the file system has them. */
int file_io_zero(struct file_io *f, uint64_t off, uint64_t len);
/* Gives the space back, after which it reads zeroes; or -errno and it may not. */
int file_io_punch(struct file_io *f, uint64_t off, uint64_t len);
int file_io_flush(struct file_io *f);

/*
 * The lowest places (of n, which are sorted by this) closer to each other than len, or
 * UINT64_MAX: no two of the blocks overlap.
 */
uint64_t file_io_find_overlap(uint64_t *places, size_t n, uint64_t len);
