/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files: kernels, sources of random bytes, logs, memory
 */
#include "daemon/opener.h"

#include "daemon/created-files.h"
#include "daemon/path-open.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct kind_rule {
	int flags; /* of open(2), besides O_CLOEXEC | O_NONBLOCK | O_NOCTTY */
	bool regular, block, character, directory;
	const char *wanted; /* for the sentence */
};

static const struct kind_rule kind_rules[] = {
	[RESOURCE_FILE_READ] = { O_RDONLY, .regular = true, .wanted = "a regular file" },
	[RESOURCE_SOURCE] = { O_RDONLY, .regular = true, .character = true,
			      .wanted = "a regular file or character device" },
	[RESOURCE_DISK] = { O_RDWR, .regular = true, .block = true,
			    .wanted = "a regular file or block device" },
	[RESOURCE_MEMORY] = { O_RDWR, .regular = true, .wanted = "a regular file" },
	[RESOURCE_PMEM] = { O_RDWR, .regular = true, .wanted = "a regular file or directory" },
	[RESOURCE_FILE_APPEND] = { O_WRONLY | O_CREAT | O_APPEND, .regular = true,
				   .character = true,
				   .wanted = "a regular file or character device" },
	[RESOURCE_FS_SOURCE] = { O_RDONLY | O_DIRECTORY, .directory = true,
				 .wanted = "a directory" },
	/* Of descriptors only: a name is tap.c's to open. */
	[RESOURCE_TAP] = { O_RDWR, .character = true, .wanted = "a tap" },
};

static const char *file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFREG:
		return "a regular file";
	default:
		return "of an unknown type";
	}
}

static bool type_suits(mode_t mode, const struct kind_rule *rule)
{
	return (S_ISREG(mode) && rule->regular) || (S_ISBLK(mode) && rule->block) ||
	       (S_ISCHR(mode) && rule->character) || (S_ISDIR(mode) && rule->directory);
}

int open_file_flags(const struct resource *res)
{
	int flags = kind_rules[res->kind].flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	if ((res->kind == RESOURCE_DISK || res->kind == RESOURCE_MEMORY ||
	     res->kind == RESOURCE_PMEM) &&
	    res->readonly)
		flags = (flags & ~O_ACCMODE) | O_RDONLY;
	if (res->direct)
		flags |= O_DIRECT;
	return flags;
}

static int refuse_link(const struct resource *res, uid_t owner, struct err *err)
{
	char buf[1024], number[16];
	struct passwd pw, *found = NULL;

	snprintf(number, sizeof(number), "%u", owner);
	/* This is the helper thread: the name service may take its time. */
	(void)getpwuid_r(owner, &pw, buf, sizeof(buf), &found);
	return err_fault(err, FAULT_HOST_RESOURCE, ELOOP,
			 "'%s' goes through a symbolic link, which is not followed for a machine "
			 "owned by user '%s'; give the real path",
			 res->value, found ? pw.pw_name : number);
}

/* Tells whether the file is new, so that a start that fails can take it away again. */
static int open_resource(uid_t owner, const struct resource *res, bool *ret_created)
{
	int flags = open_file_flags(res), fd;

	*ret_created = false;
	if (flags & O_CREAT) {
		fd = path_open_for(owner, res->value, flags | O_EXCL, 0600);
		*ret_created = fd >= 0;
		if (fd != -EEXIST)
			return fd;
	}
	return path_open_for(owner, res->value, flags, 0600);
}

static int open_failed(const struct resource *res, uid_t owner, int code, struct err *err)
{
	if (code == ELOOP && !path_follows_links(owner))
		return refuse_link(res, owner, err);
	if (code == EISDIR)
		return err_fault(err, FAULT_HOST_RESOURCE, code, "'%s' is a directory, must be %s",
				 res->value, kind_rules[res->kind].wanted);
	if (code == EINVAL && res->direct)
		return err_fault(err, FAULT_HOST_RESOURCE, code,
				 "'%s' is on a file system without direct I/O: set direct to false",
				 res->value);
	if (code == ENXIO)
		return err_fault(err, FAULT_HOST_RESOURCE, code,
				 "'%s' is a FIFO, a socket or a device without driver, must be %s",
				 res->value, kind_rules[res->kind].wanted);
	err_errno(err, code, "cannot open '%s'%s", res->value,
		  (open_file_flags(res) & O_ACCMODE) == O_RDONLY ? "" : " for writing");
	/* FileNotFound has a name of its own; AccessDenied would be about the caller. */
	if (err && code != ENOENT)
		err->fault = FAULT_HOST_RESOURCE;
	return -code;
}

int open_file(struct open_run *run, const struct resource *res, int *ret_fd, struct err *err)
{
	const struct kind_rule *rule = &kind_rules[res->kind];
	_cleanup_close_ int fd = -EBADF;
	uid_t owner = run->set->created.owner;
	bool created;
	struct stat st;
	int r;

	fd = open_resource(owner, res, &created);
	if (fd < 0)
		return open_failed(res, owner, -fd, err);
	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot read the type of '%s'", res->value);
	if (created && created_files_add(&run->set->created, res->value, &st) < 0)
		return err_errno(err, ENOMEM, "cannot keep the name '%s'", res->value);
	if (!type_suits(st.st_mode, rule))
		return err_fault(err, FAULT_HOST_RESOURCE, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
				 "'%s' is %s, must be %s", res->value, file_type(st.st_mode),
				 rule->wanted);
	/* O_NONBLOCK was for open(2) alone; the worker decides about its own I/O. */
	r = fd_set_nonblock(fd, false);
	if (r < 0)
		return err_errno(err, -r, "cannot prepare '%s'", res->value);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int check_access(const struct resource *res, int flags, struct err *err)
{
	int wanted = open_file_flags(res) & O_ACCMODE, mode = flags & O_ACCMODE;
	char shown[RESOURCE_SHOWN_MAX];

	if (flags & O_PATH)
		return err_fault(err, FAULT_BAD_CONFIG, EBADF,
				 "%s was opened with O_PATH, must be open for reading or writing",
				 resource_show(res, shown));
	if (mode == O_RDWR || mode == wanted)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EACCES, "%s is open for %s only, must be for %s",
			 resource_show(res, shown), mode == O_RDONLY ? "reading" : "writing",
			 wanted == O_RDWR     ? "reading and writing"
			 : wanted == O_RDONLY ? "reading"
					      : "writing");
}

int open_file_check_fd(const struct resource *res, int fd, struct err *err)
{
	const struct kind_rule *rule = &kind_rules[res->kind];
	int flags = fcntl(fd, F_GETFL);
	char shown[RESOURCE_SHOWN_MAX];
	struct statx st;
	int r;

	/* The type never changes: no need to wait for the server of a network file system. */
	if (flags < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", resource_show(res, shown));
	r = check_access(res, flags, err);
	if (r < 0)
		return r;
	if (!type_suits(st.stx_mode, rule))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL, "%s is %s, must be %s",
				 resource_show(res, shown), file_type(st.stx_mode), rule->wanted);
	return 0;
}

static int claim(const struct open_run *run, const struct resource *res, int fd, struct err *err)
{
	if (res->kind == RESOURCE_FILE_APPEND)
		return log_claim(run, res, fd, err);
	return res->kind == RESOURCE_SOURCE ? file_check_storage(res, fd, err) : 0;
}

static int open_plain(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r = open_file(run, res, &fd, err);

	if (r == 0)
		r = claim(run, res, fd, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

static int take_plain(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	_cleanup_close_ int fd = fd_dup(given);
	int r;

	if (fd < 0)
		return err_errno(err, -fd, "cannot duplicate %s", resource_show(res, shown));
	r = claim(run, res, fd, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

/* A page without a block behind it would be a bus error in the worker. */
static int claim_memory(const struct open_run *run, const struct resource *res, int fd,
			struct err *err)
{
	uint64_t size = run->config->memory.zones[res->index].size;
	char shown[RESOURCE_SHOWN_MAX];
	struct stat st;
	int r = file_claim(run, res, fd, &st, err);

	if (r < 0 || res->readonly || file_has_room(fd, &st, size) != -ENOSPC)
		return r;
	return err_fault(err, FAULT_HOST_RESOURCE, ENOSPC,
			 "file %s is on a file system without room for the %llu MiB of the zone",
			 resource_show(res, shown), (unsigned long long)size >> 20);
}

static int open_memory(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r = open_file(run, res, &fd, err);

	if (r == 0)
		r = claim_memory(run, res, fd, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

static int take_memory(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r = file_reopen(res, given, &fd, err);

	if (r == 0)
		r = claim_memory(run, res, fd, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

const struct opener memory_opener = {
	.open = open_memory,
	.take = take_memory,
	.check_fd = open_file_check_fd,
};

const struct opener file_opener = {
	.open = open_plain,
	.take = take_plain,
	.check_fd = open_file_check_fd,
};
