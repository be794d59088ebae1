/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: claimed, with what they are based on, and storage set aside for them
 */
#include "daemon/opener.h"

#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* `sparse` off: writing to the disk never needs more of the file system than is set aside here. */
static int allocate_image(const struct open_run *run, const struct resource *res, int fd,
			  const struct stat *st, struct err *err)
{
	const struct disk_config *disk = &run->config->disks[res->index];
	char shown[RESOURCE_SHOWN_MAX];
	int r;

	if (disk->sparse || res->readonly || !S_ISREG(st->st_mode) || st->st_size == 0 ||
	    (disk->image_type != IMAGE_TYPE_UNKNOWN && disk->image_type != IMAGE_TYPE_RAW))
		return 0;
	/*
	 * What fallocate(2) got before the file system was full it keeps, and nobody could tell
	 * it from what the image had: it is not begun then.
	 */
	r = file_has_room(fd, st, (uint64_t)st->st_size);
	if (r >= 0 && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, st->st_size) < 0)
		r = -errno;
	if (r == -EOPNOTSUPP)
		return err_fault(err, FAULT_HOST_RESOURCE, EOPNOTSUPP,
				 "image %s is on a file system that cannot set storage aside, must "
				 "be elsewhere or sparse be true",
				 resource_show(res, shown));
	return r >= 0 ? 0
		      : err_fault(err, FAULT_HOST_RESOURCE, -r,
				  "cannot set %llu MiB aside for image %s (sparse is false): %s",
				  (unsigned long long)st->st_size >> 20, resource_show(res, shown),
				  strerror(-r));
}

int image_claim(const struct open_run *run, const struct resource *res, int fd, struct err *err)
{
	struct stat st;
	int r = file_claim(run, res, fd, &st, err);

	return r < 0 ? r : allocate_image(run, res, fd, &st, err);
}

/*
 * The lock and the flags of an image belong to the open file description, which we
 * share with the caller, and which may come with two VMs: we want one of our own.
 * It is opened for no more than the caller's, which resource_check_fd() has seen.
 */
int file_reopen(const struct resource *res, int given, int *ret_fd, struct err *err)
{
	char path[sizeof("/proc/self/fd/") + 11], shown[RESOURCE_SHOWN_MAX];
	_cleanup_close_ int fd = -EBADF;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", given);
	fd = open(path, open_file_flags(res));
	if (fd < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno, "cannot open %s again: %s",
				 resource_show(res, shown), strerror(errno));
	r = fd_set_nonblock(fd, false);
	if (r < 0)
		return err_errno(err, -r, "cannot prepare %s", resource_show(res, shown));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A disk that takes no write where the guest makes it would fail in the middle of its work. */
static int check_writable(const struct resource *res, int fd, int flags, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	int seals;

	if ((open_file_flags(res) & O_ACCMODE) != O_RDWR)
		return 0;
	if (flags & O_APPEND)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s was opened with O_APPEND, must be writable at any place or "
				 "the disk read-only",
				 resource_show(res, shown));
	seals = fcntl(fd, F_GET_SEALS); /* fails for what cannot be sealed */
	if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return err_fault(err, FAULT_BAD_CONFIG, EPERM,
				 "%s is sealed against writing, must be writable or the disk "
				 "read-only",
				 resource_show(res, shown));
	return 0;
}

static bool is_qcow2(const struct open_run *run, const struct resource *res)
{
	return run->config->disks[res->index].image_type == IMAGE_TYPE_QCOW2;
}

static int open_disk(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int image, r;

	r = open_file(run, res, &fd, err);
	if (r == 0)
		r = image_claim(run, res, fd, err);
	image = fd; /* then the set's */
	if (r == 0)
		r = resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
	return r == 0 && is_qcow2(run, res) ? open_backing_files(run, res, image, err) : r;
}

static int take_disk(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = file_reopen(res, given, &fd, err);
	if (r == 0)
		r = image_claim(run, res, fd, err);
	if (r == 0 && is_qcow2(run, res))
		r = check_no_backing_file(res, fd, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

static int check_disk_fd(const struct resource *res, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL), r;

	r = open_file_check_fd(res, fd, err);
	if (r < 0)
		return r;
	r = check_writable(res, fd, flags, err);
	return r < 0 ? r : file_check_storage(res, fd, err);
}

const struct opener disk_opener = {
	.open = open_disk,
	.take = take_disk,
	.check_fd = check_disk_fd,
};
