/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: locked, so that no two machines write one
 */
#include "daemon/opener.h"

#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static int check_not_ours(const struct open_run *run, const struct stat *st,
			  const struct resource *res, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];

	for (size_t i = 0; i < run->set->n_fds; i++) {
		struct stat other;
		unsigned int index;

		if (sscanf(run->set->fds[i].pointer, "/disks/%u/path", &index) != 1 ||
		    fstat(run->set->fds[i].fd, &other) < 0)
			continue;
		if (other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
					 "%s is the image of disk '%s' of this VM already",
					 resource_show(res, shown),
					 run->config->disks[index].pci.id);
	}
	return 0;
}

static int lock_image(int fd, const struct resource *res, struct err *err)
{
	struct flock lock = { .l_type = res->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	char shown[RESOURCE_SHOWN_MAX];

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
				 "image %s is in use by another process",
				 resource_show(res, shown));
	return err_errno(err, errno, "cannot lock image %s", resource_show(res, shown));
}

static int claim_image(const struct open_run *run, const struct resource *res, int fd,
		       struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect image %s", resource_show(res, shown));
	r = check_not_ours(run, &st, res, err);
	return r < 0 ? r : lock_image(fd, res, err);
}

/*
 * The lock and the flags of an image belong to the open file description, which we
 * share with the caller, and which may come with two VMs: we want one of our own.
 * It is opened for no more than the caller's, which resource_check_fd() has seen.
 */
static int reopen_image(struct open_run *run, const struct resource *res, int given, int *ret,
			struct err *err)
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
	r = claim_image(run, res, fd, err);
	if (r == 0)
		*ret = TAKE_FD(fd);
	return r;
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

/* What the kernel makes up while it is read or written is no storage. */
static int check_storage(const struct resource *res, int fd, const struct statx *st,
			 struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct statfs fs;

	/* Only what may be such a file: a network file system may wait for its server here. */
	if (!S_ISREG(st->stx_mode) || st->stx_dev_major != 0 || st->stx_blocks > 0)
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	if (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "%s is a file of %s, must be a regular file or block device",
			 resource_show(res, shown), fs.f_type == SYSFS_MAGIC ? "sysfs" : "procfs");
}

static int open_disk(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = open_file(run, res, &fd, err);
	if (r == 0)
		r = claim_image(run, res, fd, err);
	if (r == 0)
		r = resource_set_add(run->set, res->pointer, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int take_disk(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = reopen_image(run, res, given, &fd, err);
	if (r == 0)
		r = resource_set_add(run->set, res->pointer, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int check_disk_fd(const struct resource *res, int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL), r;
	char shown[RESOURCE_SHOWN_MAX];
	struct statx st;

	r = open_file_check_fd(res, fd, err);
	if (r < 0)
		return r;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BLOCKS, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	r = check_writable(res, fd, flags, err);
	return r < 0 ? r : check_storage(res, fd, &st, err);
}

const struct opener disk_opener = {
	.open = open_disk,
	.take = take_disk,
	.check_fd = check_disk_fd,
};
