/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of qcow2 images: the input is the file
 *
 * It is opened for reading, and then for writing, and used in a fixed way: every
 * operation here and there, a flush, a larger disk, closing.  Reading must not
 * change a byte.  What is read back after a write is not looked at: refcounts that lie
 * can have a cluster in use given away, which only counting all of them would show.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block-queue.h"
#include "vmm/block/qcow2/backing.h"

#define BYTES 8192U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int request(struct block_queue *bq, enum block_op op, uint64_t off, void *buf, uint64_t len)
{
	struct iovec iov = { buf, len };
	struct block_request req = { .op = op,
				     .unmap = off & 512,
				     .off = off,
				     .len = len,
				     .iov = buf ? &iov : NULL,
				     .n_iov = buf ? 1 : 0 };

	block_queue_add(bq, &req);
	block_queue_submit(bq);
	block_queue_drain(bq);
	assert(block_queue_reap(bq) == &req);
	return req.result;
}

static void use(struct block_image *img, bool write)
{
	static uint8_t buf[BYTES];
	const uint64_t size = img->size, len = MIN(size, (uint64_t)BYTES);
	const uint64_t places[] = { 0, 512 & ~511UL, size / 3 & ~511UL, size / 2 & ~511UL,
				    size - len };
	struct block_queue *bq = NULL;
	int r;

	r = block_queue_new(img, "sync", 4, &bq, NULL);
	assert(r == 0);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t off = places[i], n = MIN(len, size - off);

		request(bq, BLOCK_OP_READ, off, buf, n);
		if (!write)
			continue;
		memset(buf, (int)i + 1, BYTES);
		request(bq, BLOCK_OP_WRITE, off, buf, n);
		request(bq, i & 1 ? BLOCK_OP_DISCARD : BLOCK_OP_WRITE_ZEROES, off & ~1023UL, NULL,
			MIN(n, (uint64_t)BYTES));
		if (i == 2)
			request(bq, BLOCK_OP_FLUSH, 0, NULL, 0);
	}
	block_queue_free(bq);
}

static void open_and_use(int fd, bool write)
{
	const struct block_image_params params = { .id = "fuzz", .readonly = !write };
	struct block_image *img = NULL;
	struct err err = { 0 };
	int copy = dup(fd), r;

	if (copy < 0)
		return;
	r = block_image_open(&block_format_qcow2, copy, &params, &img, &err);
	assert((r < 0) == (err.msg[0] != 0));
	if (r < 0) {
		close(copy);
		return;
	}
	use(img, write);
	if (write && img->size < 1ULL << 40)
		block_image_resize(img, align_up(img->size + 100000, img->logical_block), NULL);
	block_image_close(img);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t after[1 << 20];
	struct qcow2_backing backing = { 0 };
	struct err err = { 0 };
	int fd, r;

	log_set_level(LOG_LEVEL_ERROR);
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (size > sizeof(after) || fd < 0 || (size && write(fd, data, size) != (ssize_t)size)) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	r = qcow2_read_backing(fd, &backing, &err);
	assert((r < 0) == (err.msg[0] != 0));
	assert(strlen(backing.name) <= QCOW2_BACKING_NAME_MAX);
	open_and_use(fd, false);
	assert(pread(fd, after, sizeof(after), 0) == (ssize_t)size);
	assert(size == 0 || memcmp(after, data, size) == 0);
	open_and_use(fd, true);
	open_and_use(fd, true);
	close(fd);
	return 0;
}
