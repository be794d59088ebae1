/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/block/block.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/detect.h"

#define ZEROES_BYTES (64U << 10)
#define ZEROES_IOVS  64U

/* In the order of preference. */
static const struct {
	const struct block_engine_ops *ops;
	unsigned int without;
} engines[] = {
	{ &block_engine_uring, BLOCK_WITHOUT_URING },
	{ &block_engine_aio, BLOCK_WITHOUT_AIO },
	{ &block_engine_sync, 0 },
};

static const struct block_format_ops *const formats[] = {
	&block_format_raw,
	&block_format_qcow2,
	&block_format_vhd,
	&block_format_vhdx,
};

const struct block_format_ops *block_format_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	return NULL;
}

/* A file that is based on itself would be read for ever. */
static int check_chain(int fd, const struct block_image_params *params, struct err *err)
{
	struct stat st[BLOCK_FILES_MAX] = { 0 };
	int r;

	if (params->n_backing >= BLOCK_FILES_MAX)
		return err_set(err, EINVAL, "the image has %u backing files: at most %u work",
			       params->n_backing, BLOCK_FILES_MAX - 1);
	if (params->n_backing > 0 && fstat(fd, &st[0]) < 0)
		return err_errno(err, errno, "cannot inspect the image's descriptor");
	for (unsigned int i = 0; i < params->n_backing; i++) {
		if (fstat(params->backing[i].fd, &st[i + 1]) < 0)
			return err_errno(err, errno, "cannot inspect backing file %u", i + 1);
		for (unsigned int j = 0; j <= i; j++) {
			if (st[j].st_dev != st[i + 1].st_dev || st[j].st_ino != st[i + 1].st_ino)
				continue;
			if (j == 0)
				return err_set(err, ELOOP, "backing file %u is the image itself",
					       i + 1);
			return err_set(err, ELOOP, "backing file %u is backing file %u again",
				       i + 1, j);
		}
		r = block_check_backing(params->backing[i].fd, params->backing[i].format->name,
					i + 1, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int block_image_open(const struct block_format_ops *format, int fd,
		     const struct block_image_params *params, struct block_image **ret,
		     struct err *err)
{
	struct block_image *img = NULL;
	int r;

	r = check_chain(fd, params, err);
	if (r >= 0)
		r = format->open(fd, params, &img, err);
	if (r < 0)
		return err_prefix(err, r, "disk '%s'", params->id);
	assert(img->n_files > 0 && is_pow2(img->logical_block) && is_pow2(img->physical_block));
	*ret = img;
	return 0;
}

void block_image_close(struct block_image *img)
{
	if (img)
		img->ops->close(img);
}

int block_image_resize(struct block_image *img, uint64_t size, struct err *err)
{
	if (!img->ops->resize)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "images of format '%s' cannot be resized", img->ops->name);
	if (img->readonly)
		return err_fault(err, FAULT_WRONG_STATE, EROFS,
				 "the disk is 'readonly' and cannot be resized");
	if (size < img->logical_block || size % img->logical_block)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "%llu bytes are no multiple of the block size %u",
				 (unsigned long long)size, img->logical_block);
	if (size > INT64_MAX)
		return err_fault(err, FAULT_BAD_ARGUMENT, EFBIG,
				 "%llu bytes are more than a file can have",
				 (unsigned long long)size);
	return img->ops->resize(img, size, err);
}

static const struct block_engine_ops *engine_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (strcmp(engines[i].ops->name, name) == 0)
			return engines[i].ops;
	return NULL;
}

/* Not implemented, forbidden by seccomp or sysctl, or no memory or context left of its kind. */
static bool may_have_another(int r)
{
	return r == -ENOSYS || r == -EPERM || r == -ENOMEM || r == -EAGAIN;
}

int block_engine_open_best(unsigned int without, const int *files, unsigned int n_files,
			   unsigned int depth, struct block_engine **ret, struct err *err)
{
	/* One line a process and engine is enough: the host either has it or has not. */
	static atomic_flag told[ARRAY_SIZE(engines)] = { ATOMIC_FLAG_INIT };
	struct err why = { 0 };
	int r = -ENOSYS;

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		if (engines[i].without & without)
			continue;
		err_clear(&why);
		r = engines[i].ops->open(files, n_files, depth, ret, &why);
		if (r >= 0)
			return 0;
		if (!may_have_another(r))
			break;
		if (i + 1 < ARRAY_SIZE(engines) && !atomic_flag_test_and_set(&told[i]))
			log_warning("%s; disks do without the %s engine", why.msg,
				    engines[i].ops->name);
	}
	if (err)
		*err = why;
	return r;
}

int block_engine_open(const char *name, const int *files, unsigned int n_files, unsigned int depth,
		      struct block_engine **ret, struct err *err)
{
	const struct block_engine_ops *ops;

	if (!name)
		return block_engine_open_best(0, files, n_files, depth, ret, err);
	ops = engine_by_name(name);
	if (!ops)
		return err_set(err, EINVAL,
			       "there is no I/O engine '%s': use 'io_uring', 'aio' or 'sync'",
			       name);
	return ops->open(files, n_files, depth, ret, err);
}

int block_io_falloc_mode(const struct block_io *io)
{
	bool hole = io->op == BLOCK_OP_DISCARD || io->unmap;

	return (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
}

static int write_zeroes(int fd, uint64_t off, uint64_t len)
{
	/* Aligned for O_DIRECT. */
	static const _Alignas(4096) uint8_t zeroes[ZEROES_BYTES];
	struct iovec iov[ZEROES_IOVS];

	while (len > 0) {
		uint64_t rest = len;
		unsigned int n = 0;
		ssize_t r;

		for (; rest > 0 && n < ZEROES_IOVS; n++) {
			iov[n] = (struct iovec){ (void *)(uintptr_t)zeroes,
						 (size_t)MIN(rest, (uint64_t)ZEROES_BYTES) };
			rest -= iov[n].iov_len;
		}
		r = pwritev(fd, iov, (int)n, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		off += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

int block_io_after_fallocate(int fd, const struct block_io *io, int result)
{
	const int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	uint64_t range[2] = { io->off, io->len };

	if (result != -EOPNOTSUPP)
		return result;
	if (io->op == BLOCK_OP_WRITE_ZEROES) {
		if (io->unmap && fallocate(fd, zero, (off_t)io->off, (off_t)io->len) == 0)
			return 0;
		return write_zeroes(fd, io->off, io->len);
	}
	/* Fails with -ENOTTY where there is no block device. */
	return ioctl(fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

int block_io_fallocate(int fd, const struct block_io *io)
{
	int r = fallocate(fd, block_io_falloc_mode(io), (off_t)io->off, (off_t)io->len);

	return block_io_after_fallocate(fd, io, r < 0 ? -errno : 0);
}

void block_engine_free(struct block_engine *engine)
{
	if (engine)
		engine->ops->free(engine);
}
