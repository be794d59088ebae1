/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/math.h"

#define BLOCK 4096U /* no file asks for more (raw.c) */

static int read_block(int fd, uint64_t off, uint8_t block[BLOCK])
{
	size_t at = 0;

	while (at < BLOCK) {
		ssize_t n = pread(fd, block + at, BLOCK - at, (off_t)(off + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (size_t)n;
		if (n & (ssize_t)(512 - 1))
			break; /* the end of the file, which direct I/O cannot go on from */
	}
	memset(block + at, 0, BLOCK - at);
	return 0;
}

static int write_block(int fd, uint64_t off, const uint8_t *block, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, block, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		block += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* What of the block is written: all of it in the middle of a file, at its end what must be. */
static size_t write_len(int fd, uint64_t block_off, size_t used)
{
	off_t end = lseek(fd, 0, SEEK_END);

	if (end >= 0 && (uint64_t)end >= block_off + BLOCK)
		return BLOCK;
	if (end > 0 && (uint64_t)end > block_off + used)
		used = (size_t)((uint64_t)end - block_off);
	return fcntl(fd, F_GETFL) & O_DIRECT ? (size_t)align_up(used, 512) : used;
}

int file_io_read(int fd, uint64_t off, void *buf, size_t len)
{
	_Alignas(BLOCK) uint8_t block[BLOCK];
	uint8_t *to = buf;

	while (len > 0) {
		uint64_t start = align_down(off, BLOCK);
		size_t n = MIN(len, (size_t)(start + BLOCK - off));
		int r = read_block(fd, start, block);

		if (r < 0)
			return r;
		memcpy(to, block + (off - start), n);
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

int file_io_write(int fd, uint64_t off, const void *buf, size_t len)
{
	_Alignas(BLOCK) uint8_t block[BLOCK];
	const uint8_t *from = buf;

	while (len > 0) {
		uint64_t start = align_down(off, BLOCK);
		size_t skip = (size_t)(off - start), n = MIN(len, BLOCK - skip);
		int r = read_block(fd, start, block);

		if (r < 0)
			return r;
		memcpy(block + skip, from, n);
		r = write_block(fd, start, block, write_len(fd, start, skip + n));
		if (r < 0)
			return r;
		from += n;
		off += n;
		len -= n;
	}
	return 0;
}

int file_io_zero(int fd, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[BLOCK];

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) == 0)
		return 0;
	while (len > 0) {
		size_t n = (size_t)MIN(len, (uint64_t)BLOCK);
		int r = file_io_write(fd, off, zeroes, n);

		if (r < 0)
			return r;
		off += n;
		len -= n;
	}
	return 0;
}

int file_io_flush(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t file_io_find_overlap(uint64_t *places, size_t n, uint64_t len)
{
	if (n > 0)
		qsort(places, n, sizeof(*places), compare);
	for (size_t i = 1; i < n; i++)
		if (places[i] - places[i - 1] < len)
			return places[i - 1];
	return UINT64_MAX;
}
