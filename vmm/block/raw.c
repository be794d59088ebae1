/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: a regular file or a block device whose byte n is byte n of the disk
 */
#include "vmm/block/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"

#define BLOCK_MAX 4096U /* the largest logical block that guests understand */

struct raw {
	struct block_image base;
	bool allocate; /* what it grows by */
};

static int check_descriptor(int fd, const struct block_image_params *params, struct stat *ret_st,
			    struct err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, ret_st) < 0)
		return err_errno(err, errno, "cannot inspect the image's descriptor");
	if (!S_ISREG(ret_st->st_mode) && !S_ISBLK(ret_st->st_mode))
		return err_set(err, EINVAL,
			       "the image is %s: a regular file or a block device is needed",
			       S_ISDIR(ret_st->st_mode)    ? "a directory"
			       : S_ISCHR(ret_st->st_mode)  ? "a character device"
			       : S_ISFIFO(ret_st->st_mode) ? "a pipe"
							   : "a socket");
	if ((flags & O_ACCMODE) == O_WRONLY)
		return err_set(err, EACCES, "the image was opened for writing only");
	if (!params->readonly && (flags & O_ACCMODE) != O_RDWR)
		return err_set(err, EACCES,
			       "the image was opened for reading, but the disk is not 'readonly'");
	if (params->direct && !(flags & O_DIRECT) && fcntl(fd, F_SETFL, flags | O_DIRECT) < 0)
		return err_errno(err, errno,
				 "the image's file system has no direct I/O ('direct')");
	if (!params->direct && (flags & O_DIRECT) && fcntl(fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return err_errno(err, errno, "cannot turn off direct I/O");
	return 0;
}

/* The smallest aligned read that works says what the file system asks for. */
static uint32_t probe_direct_align(int fd, uint32_t smallest)
{
	_cleanup_free_ void *buf = aligned_alloc(BLOCK_MAX, BLOCK_MAX);

	for (uint32_t align = smallest; buf && align < BLOCK_MAX; align *= 2)
		if (pread(fd, buf, align, 0) >= 0)
			return align;
	return BLOCK_MAX;
}

static void find_direct_align(int fd, struct block_image *img)
{
#ifdef STATX_DIOALIGN
	struct statx stx = { 0 };

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && is_pow2(stx.stx_dio_mem_align) &&
	    is_pow2(stx.stx_dio_offset_align)) {
		img->mem_align = stx.stx_dio_mem_align;
		img->off_align = stx.stx_dio_offset_align;
		return;
	}
#endif
	img->off_align = probe_direct_align(fd, img->logical_block);
	img->mem_align = img->off_align;
}

/* Each answer is optional: what the driver of the device does not say stays at its default. */
static int read_device_geometry(int fd, struct block_image *img, struct err *err)
{
	int logical = 0, align_off = 0;
	unsigned int physical = 0, min_io = 0, opt_io = 0;

	if (ioctl(fd, BLKGETSIZE64, &img->size) < 0)
		return err_errno(err, errno, "cannot read the size of the block device");
	if (ioctl(fd, BLKSSZGET, &logical) == 0 && logical > 0 && is_pow2((uint64_t)logical))
		img->logical_block = MAX((uint32_t)logical, BLOCK_SECTOR);
	if (ioctl(fd, BLKPBSZGET, &physical) == 0 && is_pow2(physical))
		img->physical_block = physical;
	if (ioctl(fd, BLKALIGNOFF, &align_off) == 0 && align_off > 0)
		img->alignment_off = (uint32_t)align_off / img->logical_block;
	if (ioctl(fd, BLKIOMIN, &min_io) == 0)
		img->min_io = min_io / img->logical_block;
	if (ioctl(fd, BLKIOOPT, &opt_io) == 0)
		img->opt_io = opt_io / img->logical_block;
	return 0;
}

/*
 * Asked of a range behind the image, where there is nothing to lose: file systems
 * and drivers that cannot, say so before they look at it.
 */
static void find_discard(int fd, bool block_device, struct block_image *img)
{
	uint64_t behind = align_up(img->size, BLOCK_MAX);
	uint64_t range[2] = { behind, BLOCK_MAX };
	int r;

	if (img->readonly)
		return;
	if (block_device)
		r = ioctl(fd, BLKDISCARD, range) == 0 || errno == EINVAL ? 0 : -errno;
	else
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)behind,
			      BLOCK_MAX);
	img->can_discard = r == 0;
	img->can_write_zeroes = true; /* the engines write them, if need be */
	img->discard_granularity = img->physical_block;
}

int raw_inspect(int fd, const struct block_image_params *params, struct block_image *img,
		struct err *err)
{
	struct stat st = { 0 };
	int r;

	r = check_descriptor(fd, params, &st, err);
	if (r < 0)
		return r;
	*img = (struct block_image){
		.ops = &block_format_raw,
		.n_files = 1,
		.files = { fd },
		.logical_block = BLOCK_SECTOR,
		.mem_align = 1,
		.off_align = 1,
		.readonly = params->readonly,
	};
	if (S_ISBLK(st.st_mode)) {
		r = read_device_geometry(fd, img, err);
		if (r < 0)
			return r;
	} else {
		img->size = (uint64_t)st.st_size;
		/* Partitions aligned to the file system's blocks avoid read-modify-write. */
		if (is_pow2((uint64_t)st.st_blksize))
			img->physical_block = (uint32_t)MIN((uint64_t)st.st_blksize, 4096UL);
	}
	if (params->direct) {
		find_direct_align(fd, img);
		img->logical_block = MAX(img->logical_block, img->off_align);
	}
	if (img->logical_block > BLOCK_MAX)
		return err_set(err, ENOTSUP,
			       "the image needs I/O in units of %u bytes: at most %u work",
			       img->logical_block, BLOCK_MAX);
	img->physical_block = MAX(img->physical_block, img->logical_block);
	if (img->size < img->logical_block)
		return err_set(err, EINVAL, "the image has %llu bytes, less than one block of %u",
			       (unsigned long long)img->size, img->logical_block);
	find_discard(fd, S_ISBLK(st.st_mode), img);
	return 0;
}

static int raw_open(int fd, const struct block_image_params *params, struct block_image **ret,
		    struct err *err)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	struct block_image *img;
	uint64_t rest;
	int r;

	if (!raw)
		return err_errno(err, ENOMEM, "cannot open the image");
	if (params->n_backing > 0) {
		free(raw);
		return err_set(err, EINVAL, "raw images have no backing files, %u are given",
			       params->n_backing);
	}
	raw->allocate = params->allocate;
	img = &raw->base;
	r = raw_inspect(fd, params, img, err);
	if (r < 0) {
		free(raw);
		return r;
	}
	rest = img->size % img->logical_block;
	if (rest) {
		log_warning("disk '%s': the image's last %u bytes are no whole block and unused",
			    params->id, (unsigned int)rest);
		img->size -= rest;
	}
	*ret = img;
	return 0;
}

static int raw_map(struct block_image *img _unused_, const struct block_access *access,
		   struct block_extent *ret)
{
	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_HOST,
				      .off = access->off,
				      .len = access->len };
	return 0;
}

static int resize_file(struct raw *raw, uint64_t size, struct err *err)
{
	struct block_image *img = &raw->base;
	int fd = img->files[0], r = 0;

	if (ftruncate(fd, (off_t)size) < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno,
				 "cannot make the image %llu bytes large: %s",
				 (unsigned long long)size, strerrordesc_np(errno));
	if (raw->allocate && size > img->size &&
	    fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)img->size, (off_t)(size - img->size)) < 0)
		r = err_fault(err, FAULT_HOST_RESOURCE, errno,
			      "cannot set %llu MiB aside for the image (sparse is false): %s",
			      (unsigned long long)(size - img->size) >> 20, strerrordesc_np(errno));
	if (r < 0 && ftruncate(fd, (off_t)img->size) < 0)
		log_warning("an image stays longer than its disk: %s", strerrordesc_np(errno));
	return r;
}

/* Who has made it larger or smaller, tells us. */
static int check_device(const struct block_image *img, uint64_t size, struct err *err)
{
	uint64_t bytes = 0;

	if (ioctl(img->files[0], BLKGETSIZE64, &bytes) < 0)
		return err_errno(err, errno, "cannot read the size of the block device");
	bytes = align_down(bytes, img->logical_block);
	if (size == bytes)
		return 0;
	return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
			 "the image is a block device of %llu bytes: the disk can become just as "
			 "large, not %llu",
			 (unsigned long long)bytes, (unsigned long long)size);
}

static int raw_resize(struct block_image *img, uint64_t size, struct err *err)
{
	struct raw *raw = container_of(img, struct raw, base);
	struct stat st = { 0 };
	int r;

	if (fstat(img->files[0], &st) < 0)
		return err_errno(err, errno, "cannot inspect the image's descriptor");
	r = S_ISBLK(st.st_mode) ? check_device(img, size, err) : resize_file(raw, size, err);
	if (r >= 0)
		img->size = size;
	return r;
}

static void raw_close(struct block_image *img)
{
	close(img->files[0]);
	free(container_of(img, struct raw, base));
}

const struct block_format_ops block_format_raw = {
	.name = "raw",
	.open = raw_open,
	.map = raw_map,
	.resize = raw_resize,
	.close = raw_close,
};
