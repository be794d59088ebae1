/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/use-image.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block-queue.h"

#define BYTES 8192U

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
	const uint64_t size = img->size, unit = img->logical_block;
	const uint64_t len = MIN(size, (uint64_t)BYTES);
	const uint64_t places[] = { 0, unit, align_down(size / 3, unit), align_down(size / 2, unit),
				    size - len };
	struct block_queue *bq = NULL;
	int r;

	if (size < unit)
		return;
	r = block_queue_new(img, "sync", 4, &bq, NULL);
	assert(r == 0);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t off = MIN(places[i], size - unit), n = MIN(len, size - off);

		request(bq, BLOCK_OP_READ, off, buf, n);
		if (!write)
			continue;
		memset(buf, (int)i + 1, BYTES);
		request(bq, BLOCK_OP_WRITE, off, buf, n);
		if (img->can_discard && img->can_write_zeroes)
			request(bq, i & 1 ? BLOCK_OP_DISCARD : BLOCK_OP_WRITE_ZEROES,
				align_down(off, 2 * unit), NULL, n);
		if (i == 2)
			request(bq, BLOCK_OP_FLUSH, 0, NULL, 0);
	}
	block_queue_free(bq);
}

void use_image(const struct block_format_ops *format, int fd, bool write)
{
	const struct block_image_params params = { .id = "fuzz", .readonly = !write };
	struct block_image *img = NULL;
	struct err err = { 0 };
	int copy = dup(fd), r;

	if (copy < 0)
		return;
	r = block_image_open(format, copy, &params, &img, &err);
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
