/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images: locked, so that no two machines write one
 */
#include "daemon/opener.h"

#include "daemon/image-users.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LOCK_PATIENCE_MSEC 1000U
#define LOCK_STEP_MSEC     10U

/* A file of the set that is a device's storage. */
struct use {
	const char *as, *id; /* "the image of disk", "root" */
	bool readonly;
};

/* False: the pointer of the set leads to something else. */
static bool find_use(const struct open_run *run, const char *pointer, struct use *ret)
{
	const struct pmem_config *pmem;
	const struct disk_config *disk;
	unsigned int index;
	int end = 0;

	if (sscanf(pointer, "/disks/%u/path%n", &index, &end) == 1 && end > 0) {
		disk = &run->config->disks[index];
		*ret = (struct use){ "the image of disk", disk->pci.id, disk->readonly };
		if (pointer[end] != '\0')
			*ret = (struct use){ "a backing file of disk", disk->pci.id, true };
		return true;
	}
	if (sscanf(pointer, "/pmem/%u/file%n", &index, &end) == 1 && end > 0) {
		pmem = &run->config->pmem[index];
		*ret = (struct use){ "the file of pmem", pmem->pci.id, pmem->discard_writes };
		return true;
	}
	return false;
}

/* Files that are only read may be in use twice. */
static int check_not_ours(const struct open_run *run, const struct stat *st,
			  const struct resource *res, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];

	for (size_t i = 0; i < run->set->n_fds; i++) {
		struct stat other;
		struct use use;

		if (!find_use(run, run->set->fds[i].pointer, &use) ||
		    fstat(run->set->fds[i].fd, &other) < 0 || (use.readonly && res->readonly))
			continue;
		if (other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
					 "%s is %s '%s' of this VM already",
					 resource_show(res, shown), use.as, use.id);
	}
	return 0;
}

/* What of the file is locked: to its end as it is now, or to wherever that may be (0). */
static int lock_length(const struct open_run *run, const struct resource *res, int fd,
		       const struct stat *st, off_t *ret)
{
	uint64_t size = 0;

	*ret = 0;
	if (res->kind == RESOURCE_DISK &&
	    run->config->disks[res->index].lock_granularity == LOCK_GRANULARITY_FULL)
		return 0;
	if (S_ISBLK(st->st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0)
			return -errno;
		*ret = (off_t)size;
	} else {
		*ret = st->st_size;
	}
	return 0;
}

static int try_lock(int fd, struct flock *lock)
{
	if (fcntl(fd, F_OFD_SETLK, lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/*
 * The kernel lets go of what an io_uring has open a moment after its process has ended: the
 * image of a machine that has just stopped may still seem to be in use.
 */
static int wait_for_lock(int fd, struct flock *lock)
{
	int r = -EAGAIN;

	for (unsigned int msec = 0; r == -EAGAIN && msec < LOCK_PATIENCE_MSEC;
	     msec += LOCK_STEP_MSEC) {
		g_usleep(LOCK_STEP_MSEC * 1000);
		r = try_lock(fd, lock);
	}
	return r;
}

static int lock_file(const struct open_run *run, const struct resource *res, int fd,
		     const struct stat *st, struct err *err)
{
	struct flock lock = { .l_type = res->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	const char *what = res->kind == RESOURCE_DISK ? "image" : "file";
	char shown[RESOURCE_SHOWN_MAX];
	const char *vm = NULL;
	int r;

	r = lock_length(run, res, fd, st, &lock.l_len);
	if (r < 0)
		return err_errno(err, -r, "cannot read the size of %s %s", what,
				 resource_show(res, shown));
	r = try_lock(fd, &lock);
	if (r == -EAGAIN)
		vm = image_users_find(run->users, st);
	if (r == -EAGAIN && !vm)
		r = wait_for_lock(fd, &lock);
	if (r >= 0)
		return 0;
	if (r != -EAGAIN)
		return err_errno(err, -r, "cannot lock %s %s", what, resource_show(res, shown));
	if (vm)
		return err_fault(err, FAULT_HOST_RESOURCE, EBUSY, "%s %s is in use by VM '%s'%s",
				 what, resource_show(res, shown), vm,
				 res->readonly ? ", which writes to it" : "");
	return err_fault(err, FAULT_HOST_RESOURCE, EBUSY, "%s %s is in use by another process",
			 what, resource_show(res, shown));
}

/* What the kernel makes up while it is read or written is no storage. */
static int check_storage(const struct resource *res, int fd, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct statfs fs;
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BLOCKS, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	/* Only what may be such a file: a network file system may wait for its server here. */
	if (!S_ISREG(st.stx_mode) || st.stx_dev_major != 0 || st.stx_blocks > 0)
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	if (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "%s is a file of %s, must be a regular file or block device",
			 resource_show(res, shown), fs.f_type == SYSFS_MAGIC ? "sysfs" : "procfs");
}

int file_claim(const struct open_run *run, const struct resource *res, int fd, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct stat st;

	int r = check_storage(res, fd, err);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	r = check_not_ours(run, &st, res, err);
	return r < 0 ? r : lock_file(run, res, fd, &st, err);
}

/*
 * What fallocate(2) got before the file system was full it keeps, and nobody could tell
 * it from what the image had: it is not begun then.
 */
static int has_room(int fd, const struct stat *st)
{
	uint64_t missing = (uint64_t)MAX(st->st_size / 512 - st->st_blocks, 0);
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	return missing / (MAX(fs.f_frsize, 512UL) / 512) > fs.f_bavail ? -ENOSPC : 0;
}

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
	r = has_room(fd, st);
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
	char shown[RESOURCE_SHOWN_MAX];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect image %s", resource_show(res, shown));
	r = check_storage(res, fd, err);
	if (r == 0)
		r = check_not_ours(run, &st, res, err);
	if (r == 0)
		r = lock_file(run, res, fd, &st, err);
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
	return r < 0 ? r : check_storage(res, fd, err);
}

const struct opener disk_opener = {
	.open = open_disk,
	.take = take_disk,
	.check_fd = check_disk_fd,
};
