/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/sort.h"
#include "vmm/block/block.h"

int file_io_init(struct file_io *f, int fd, const struct block_image *img, struct err *err)
{
	*f = (struct file_io){ .fd = fd, .off_align = img->off_align, .mem_align = img->mem_align };
	if (MAX(f->off_align, f->mem_align) == 1)
		return 0;
	f->block = aligned_alloc(FILE_IO_BLOCK, FILE_IO_BLOCK);
	return f->block ? 0 : err_errno(err, ENOMEM, "cannot open the image");
}

void file_io_deinit(struct file_io *f)
{
	free(TAKE_PTR(f->block));
}

static bool is_aligned(const struct file_io *f, uint64_t off, const void *buf, size_t len)
{
	uint32_t align = MAX(f->off_align, f->mem_align);

	return ((off | len | (uintptr_t)buf) & (align - 1)) == 0;
}

static int read_aligned(const struct file_io *f, uint64_t off, uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = pread(f->fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || (n & (f->off_align - 1))) {
			/* The end of the file, behind which everything is zero. */
			memset(buf + n, 0, len - (size_t)n);
			return 0;
		}
		buf += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_aligned(struct file_io *f, uint64_t off, const uint8_t *buf, size_t len)
{
	f->unflushed = true;
	while (len > 0) {
		ssize_t n = pwrite(f->fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		buf += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int file_io_read(struct file_io *f, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (is_aligned(f, off, buf, len))
		return read_aligned(f, off, to, len);
	while (len > 0) {
		uint64_t start = align_down(off, FILE_IO_BLOCK);
		size_t n = MIN(len, (size_t)(start + FILE_IO_BLOCK - off));
		int r = read_aligned(f, start, f->block, FILE_IO_BLOCK);

		if (r < 0)
			return r;
		memcpy(to, f->block + (off - start), n);
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

int file_io_write(struct file_io *f, uint64_t off, const void *buf, size_t len)
{
	const uint8_t *from = buf;
	uint32_t align = f->off_align;

	if (is_aligned(f, off, buf, len))
		return write_aligned(f, off, from, len);
	while (len > 0) {
		uint64_t start = align_down(off, align);
		size_t skip = (size_t)(off - start), n = MIN(len, align - skip);
		int r = n < align ? read_aligned(f, start, f->block, align) : 0;

		if (r < 0)
			return r;
		memcpy(f->block + skip, from, n);
		r = write_aligned(f, start, f->block, align);
		if (r < 0)
			return r;
		from += n;
		off += n;
		len -= n;
	}
	return 0;
}

int file_io_punch(struct file_io *f, uint64_t off, uint64_t len)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int r;

	/* A hole has to be as durable as what will say that it reads as zeroes. */
	f->unflushed = true;
	do {
		r = fallocate(f->fd, mode, (off_t)off, (off_t)len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Blocks in the middle may be zeroed in other ways than by writing them. */
static int zero_blocks(struct file_io *f, uint64_t off, uint64_t len)
{
	const struct block_io io = {
		.op = BLOCK_OP_WRITE_ZEROES, .unmap = true, .off = off, .len = len
	};

	return len > 0 ? block_io_after_fallocate(f->fd, &io, -EOPNOTSUPP) : 0;
}

int file_io_zero(struct file_io *f, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[FILE_IO_BLOCK];
	size_t head = (size_t)MIN(len, align_up(off, f->off_align) - off);
	size_t tail = (size_t)((len - head) & (f->off_align - 1));
	int r = file_io_punch(f, off, len);

	if (r != -EOPNOTSUPP)
		return r;
	r = file_io_write(f, off, zeroes, head);
	if (r >= 0)
		r = zero_blocks(f, off + head, len - head - tail);
	return r < 0 ? r : file_io_write(f, off + len - tail, zeroes, tail);
}

int file_io_flush(struct file_io *f)
{
	if (fdatasync(f->fd) < 0)
		return -errno;
	f->unflushed = false;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t file_io_find_overlap(uint64_t *places, size_t n, uint64_t len)
{
	sort_rows(places, n, sizeof(*places), compare);
	for (size_t i = 1; i < n; i++)
		if (places[i] - places[i - 1] < len)
			return places[i - 1];
	return UINT64_MAX;
}
