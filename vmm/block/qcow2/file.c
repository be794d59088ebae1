/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synchronous I/O on a qcow2 image's own file
 *
 * Metadata and copied data go to the same descriptor as the engines' transfers,
 * so with 'direct' they have to be aligned as well: what is not goes through a
 * bounce buffer of one block, read before it is written.  Blocks are no larger
 * than clusters (open.c), so that touches nobody else's bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

void *qcow2_pages_new(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void qcow2_pages_free(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

static bool is_aligned(const struct qcow2 *q, uint64_t off, const void *buf, size_t len)
{
	uint32_t align = MAX(q->base.off_align, q->base.mem_align);

	return ((off | len | (uintptr_t)buf) & (align - 1)) == 0;
}

static int read_aligned(struct qcow2 *q, uint64_t off, uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = pread(q->fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || (n & (q->base.off_align - 1))) {
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

static int write_aligned(struct qcow2 *q, uint64_t off, const uint8_t *buf, size_t len)
{
	q->unflushed = true;
	while (len > 0) {
		ssize_t n = pwrite(q->fd, buf, len, (off_t)off);

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

int qcow2_file_read(struct qcow2 *q, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (is_aligned(q, off, buf, len))
		return read_aligned(q, off, to, len);
	while (len > 0) {
		uint64_t block = align_down(off, QCOW2_BOUNCE);
		size_t n = MIN(len, (size_t)(block + QCOW2_BOUNCE - off));
		int r = read_aligned(q, block, q->bounce, QCOW2_BOUNCE);

		if (r < 0)
			return r;
		memcpy(to, q->bounce + (off - block), n);
		to += n;
		off += n;
		len -= n;
	}
	return 0;
}

int qcow2_file_write(struct qcow2 *q, uint64_t off, const void *buf, size_t len)
{
	const uint8_t *from = buf;
	uint32_t align = q->base.off_align;

	if (is_aligned(q, off, buf, len))
		return write_aligned(q, off, from, len);
	while (len > 0) {
		uint64_t block = align_down(off, align);
		size_t n = MIN(len, (size_t)(block + align - off));
		int r = read_aligned(q, block, q->bounce, align);

		if (r < 0)
			return r;
		memcpy(q->bounce + (off - block), from, n);
		r = write_aligned(q, block, q->bounce, align);
		if (r < 0)
			return r;
		from += n;
		off += n;
		len -= n;
	}
	return 0;
}

int qcow2_file_flush(struct qcow2 *q)
{
	if (fdatasync(q->fd) < 0)
		return -errno;
	q->unflushed = false;
	return 0;
}

static int falloc(struct qcow2 *q, int mode, uint64_t off, uint64_t len)
{
	int r;

	/* A hole has to be as durable as what will say that it reads as zeroes. */
	q->unflushed = true;
	do {
		r = fallocate(q->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int qcow2_file_punch(struct qcow2 *q, uint64_t off, uint64_t len)
{
	return falloc(q, FALLOC_FL_PUNCH_HOLE, off, len);
}

int qcow2_file_zero(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct block_io io = { .op = BLOCK_OP_WRITE_ZEROES, .unmap = true, .off = off, .len = len };
	int r = qcow2_file_punch(q, off, len);

	/* Then zeroes are written, in aligned blocks: clusters and their parts are. */
	return r == 0 ? 0 : block_io_after_fallocate(q->fd, &io, r);
}

int qcow2_file_extend(struct qcow2 *q, uint64_t end)
{
	uint64_t size = atomic_load_explicit(&q->file_size, memory_order_relaxed), ahead;

	if (end <= size)
		return 0;
	if (q->fixed_size)
		return -ENOSPC;
	/* Ahead of the need, to save calls; close cuts it off again. */
	ahead = align_up(end, MAX((uint64_t)MIB, q->cluster));
	if (ftruncate(q->fd, (off_t)ahead) < 0) {
		ahead = end;
		if (ftruncate(q->fd, (off_t)ahead) < 0)
			return -errno;
	}
	atomic_store_explicit(&q->file_size, ahead, memory_order_relaxed);
	return 0;
}
