/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the host in the use of one machine: no two write one, nor one machine twice
 */
#include "daemon/opener.h"

#include "daemon/image-users.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
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

/* What a file of the set is there for. */
struct use {
	const char *as, *id; /* "the image of disk", "root" */
	bool readonly, log;
};

/* False: the pointer of the set leads to something else. */
static bool find_use(const struct open_run *run, const char *pointer, struct use *ret)
{
	static const char *const logs[] = { "/serial/file", "/console/file",
					    "/debug_console/file" };
	const struct memory_zone_config *zone;
	const struct pmem_config *pmem;
	const struct disk_config *disk;
	unsigned int index;
	int end = 0;

	if (sscanf(pointer, "/disks/%u/path%n", &index, &end) == 1 && end > 0) {
		disk = &run->config->disks[index];
		*ret = (struct use){ "the image of disk", disk->pci.id, disk->readonly, false };
		if (pointer[end] != '\0')
			*ret = (struct use){ "a backing file of disk", disk->pci.id, true, false };
		return true;
	}
	if (sscanf(pointer, "/pmem/%u/file%n", &index, &end) == 1 && end > 0) {
		pmem = &run->config->pmem[index];
		*ret = (struct use){ "the file of pmem", pmem->pci.id, pmem->discard_writes,
				     false };
		return true;
	}
	if (sscanf(pointer, "/memory/zones/%u/file%n", &index, &end) == 1 && end > 0) {
		zone = &run->config->memory.zones[index];
		*ret = (struct use){ "the file of memory zone", zone->id, !zone->shared, false };
		return true;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(logs); i++) {
		if (strcmp(pointer, logs[i]) == 0) {
			*ret = (struct use){ "the log", pointer, false, true };
			return true;
		}
	}
	return false;
}

/* Files that are only read may be in use twice, and so may logs. */
static int check_not_ours(const struct open_run *run, const struct stat *st,
			  const struct resource *res, struct err *err)
{
	bool log = res->kind == RESOURCE_FILE_APPEND;
	char shown[RESOURCE_SHOWN_MAX];

	for (size_t i = 0; i < run->set->n_fds; i++) {
		struct stat other;
		struct use use;

		if (!find_use(run, run->set->fds[i].pointer, &use) ||
		    fstat(run->set->fds[i].fd, &other) < 0 || (use.readonly && res->readonly) ||
		    (use.log && log))
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
int file_check_storage(const struct resource *res, int fd, struct err *err)
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

int file_claim(const struct open_run *run, const struct resource *res, int fd, struct stat *ret_st,
	       struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	int r;

	r = file_check_storage(res, fd, err);
	if (r < 0)
		return r;
	if (fstat(fd, ret_st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	r = check_not_ours(run, ret_st, res, err);
	return r < 0 ? r : lock_file(run, res, fd, ret_st, err);
}

int file_has_room(int fd, const struct stat *st, uint64_t bytes)
{
	uint64_t has = (uint64_t)st->st_blocks * 512, unit;
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	/* Those in memory may have no limit, and say 0. */
	if (fs.f_blocks == 0 || bytes <= has)
		return 0;
	unit = MAX(fs.f_frsize, 512UL);
	return (bytes - has + unit - 1) / unit > fs.f_bavail ? -ENOSPC : 0;
}

int log_claim(const struct open_run *run, const struct resource *res, int fd, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct stat st;
	const char *vm;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	if (!S_ISREG(st.st_mode))
		return 0;
	r = check_not_ours(run, &st, res, err);
	if (r < 0)
		return r;
	vm = image_users_find(run->users, &st);
	return vm ? err_fault(err, FAULT_HOST_RESOURCE, EBUSY, "file %s is in use by VM '%s'",
			      resource_show(res, shown), vm)
		  : 0;
}
