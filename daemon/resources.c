/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resources.h"

#include "daemon/created-files.h"
#include "daemon/given-fds.h"
#include "daemon/path-open.h"
#include "daemon/tap.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SHOWN_PATH_MAX 200 /* the reason, after it, must not be cut off */
#define SHOWN_MAX      (SHOWN_PATH_MAX + 4)

struct open_run {
	const struct vm_config *config;
	const struct given_fds *fds;
	struct resource_set *set;
};

struct kind_rule {
	int flags; /* of open(2), besides O_CLOEXEC | O_NONBLOCK | O_NOCTTY */
	bool regular, block, character;
	const char *wanted; /* for the sentence */
};

static const struct kind_rule kind_rules[] = {
	[RESOURCE_FILE_READ] = { O_RDONLY, .regular = true, .wanted = "a regular file" },
	[RESOURCE_SOURCE] = { O_RDONLY, .regular = true, .character = true,
			      .wanted = "a regular file or character device" },
	[RESOURCE_DISK] = { O_RDWR, .regular = true, .block = true,
			    .wanted = "a regular file or block device" },
	[RESOURCE_FILE_APPEND] = { O_WRONLY | O_CREAT | O_APPEND, .regular = true,
				   .character = true,
				   .wanted = "a regular file or character device" },
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
	       (S_ISCHR(mode) && rule->character);
}

/* "disk '_disk0' (/disks/0/path)" */
static void resource_label(const struct vm_config *config, const struct resource *res, char *buf,
			   size_t size)
{
	if (res->kind == RESOURCE_DISK)
		snprintf(buf, size, "disk '%s' (%s)", config->disks[res->index].id, res->pointer);
	else if (res->kind == RESOURCE_TAP)
		snprintf(buf, size, "network device '%s' (%s)", config->nets[res->index].id,
			 res->pointer);
	else
		snprintf(buf, size, "%s", res->pointer);
}

static int set_add(struct resource_set *set, const char *pointer, int fd, struct err *err)
{
	struct resource_fd *fds;
	char *copy;

	fds = realloc(set->fds, (set->n_fds + 1) * sizeof(*fds));
	if (!fds)
		return err_errno(err, ENOMEM, "cannot keep a descriptor");
	set->fds = fds;
	copy = strdup(pointer);
	if (!copy)
		return err_errno(err, ENOMEM, "cannot keep a descriptor");
	set->fds[set->n_fds++] = (struct resource_fd){ copy, fd };
	return 0;
}

/* "'/srv/a.img'" or "descriptor 'a'" */
static const char *show(const struct resource *res, char buf[SHOWN_MAX])
{
	const char *name = vm_config_fd_name(res->value);

	if (name)
		snprintf(buf, SHOWN_MAX, "descriptor '%s'", name);
	else if (strlen(res->value) <= SHOWN_PATH_MAX)
		snprintf(buf, SHOWN_MAX, "'%s'", res->value);
	else
		config_quote(res->value, buf);
	return buf;
}

static int check_not_ours(const struct open_run *run, const struct stat *st,
			  const struct resource *res, struct err *err)
{
	char shown[SHOWN_MAX];

	for (size_t i = 0; i < run->set->n_fds; i++) {
		struct stat other;
		unsigned int index;

		if (sscanf(run->set->fds[i].pointer, "/disks/%u/path", &index) != 1 ||
		    fstat(run->set->fds[i].fd, &other) < 0)
			continue;
		if (other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
					 "%s is the image of disk '%s' of this VM already",
					 show(res, shown), run->config->disks[index].id);
	}
	return 0;
}

static int lock_image(int fd, const struct resource *res, struct err *err)
{
	struct flock lock = { .l_type = res->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	char shown[SHOWN_MAX];

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
				 "image %s is in use by another process", show(res, shown));
	return err_errno(err, errno, "cannot lock image %s", show(res, shown));
}

static int claim_image(const struct open_run *run, const struct resource *res, int fd,
		       struct err *err)
{
	char shown[SHOWN_MAX];
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect image %s", show(res, shown));
	r = check_not_ours(run, &st, res, err);
	return r < 0 ? r : lock_image(fd, res, err);
}

static int open_flags(const struct resource *res)
{
	int flags = kind_rules[res->kind].flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

	if (res->kind == RESOURCE_DISK && res->readonly)
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
	int flags = open_flags(res), fd;

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
		  (open_flags(res) & O_ACCMODE) == O_RDONLY ? "" : " for writing");
	/* FileNotFound has a name of its own; AccessDenied would be about the caller. */
	if (err && code != ENOENT)
		err->fault = FAULT_HOST_RESOURCE;
	return -code;
}

static int open_path(struct open_run *run, const struct resource *res, int *ret, struct err *err)
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
	if (res->kind == RESOURCE_DISK) {
		r = claim_image(run, res, fd, err);
		if (r < 0)
			return r;
	}
	*ret = TAKE_FD(fd);
	return 0;
}

static int set_add_tap(struct resource_set *set, const char *name, struct err *err)
{
	char **taps;

	taps = realloc(set->taps, (set->n_taps + 1) * sizeof(*taps));
	if (!taps)
		return err_errno(err, ENOMEM, "cannot keep a tap");
	set->taps = taps;
	taps[set->n_taps] = strdup(name);
	if (!taps[set->n_taps])
		return err_errno(err, ENOMEM, "cannot keep a tap");
	set->n_taps++;
	return 0;
}

static int open_given_tap(const struct resource *res, int fd, struct open_run *run, struct err *err)
{
	char pointer[64], name[IFNAMSIZ], shown[SHOWN_MAX];
	_cleanup_close_ int copy = -EBADF;
	int r;

	r = tap_inspect(fd, name, err);
	if (r < 0)
		return err_prefix(err, r, "%s", show(res, shown));
	copy = fd_dup(fd);
	if (copy < 0)
		return err_errno(err, -copy, "cannot duplicate %s", show(res, shown));
	snprintf(pointer, sizeof(pointer), "%s/0", res->pointer);
	r = set_add(run->set, pointer, copy, err);
	if (r < 0)
		return r;
	(void)TAKE_FD(copy);
	return set_add_tap(run->set, name, err);
}

/*
 * The lock and the flags of an image belong to the open file description, which we
 * share with the caller, and which may come with two VMs: we want one of our own.
 * It is opened for no more than the caller's, which resource_check_fd() has seen.
 */
static int reopen_image(struct open_run *run, const struct resource *res, int given, int *ret,
			struct err *err)
{
	char path[sizeof("/proc/self/fd/") + 11], shown[SHOWN_MAX];
	_cleanup_close_ int fd = -EBADF;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", given);
	fd = open(path, open_flags(res));
	if (fd < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno, "cannot open %s again: %s",
				 show(res, shown), strerror(errno));
	r = fd_set_nonblock(fd, false);
	if (r < 0)
		return err_errno(err, -r, "cannot prepare %s", show(res, shown));
	r = claim_image(run, res, fd, err);
	if (r == 0)
		*ret = TAKE_FD(fd);
	return r;
}

/* What was right when the VM was made is looked at again: the configuration may be another. */
static int open_given(struct open_run *run, const struct resource *res, const char *name,
		      struct err *err)
{
	int given = run->fds ? given_fds_find(run->fds, name) : -ENOENT, r;
	_cleanup_close_ int fd = -EBADF;
	char shown[SHOWN_MAX];

	if (given < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, ENOENT, "%s is not there (any more)",
				 show(res, shown));
	r = resource_check_fd(res, given, err);
	if (r < 0)
		return r;
	if (res->kind == RESOURCE_TAP)
		return open_given_tap(res, given, run, err);
	if (res->kind == RESOURCE_DISK) {
		r = reopen_image(run, res, given, &fd, err);
		if (r < 0)
			return r;
	} else {
		fd = fd_dup(given);
		if (fd < 0)
			return err_errno(err, -fd, "cannot duplicate %s", show(res, shown));
	}
	r = set_add(run->set, res->pointer, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int open_tap(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_(tap_close) struct tap tap = { 0 };
	char pointer[64];
	int r;

	r = tap_open(&run->config->nets[res->index], &tap, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < tap.n_fds; i++) {
		snprintf(pointer, sizeof(pointer), "/net/%zu/tap/%zu", res->index, i);
		r = set_add(run->set, pointer, tap.fds[i], err);
		if (r < 0)
			return r;
		tap.fds[i] = -EBADF; /* the set closes it from here on */
	}
	return set_add_tap(run->set, tap.name, err);
}

static int open_one(const struct resource *res, void *data, struct err *err)
{
	const char *name = vm_config_fd_name(res->value);
	struct open_run *run = data;
	_cleanup_close_ int fd = -EBADF;
	char label[160];
	int r;

	if (name) {
		r = open_given(run, res, name, err);
	} else if (res->kind == RESOURCE_TAP) {
		r = open_tap(run, res, err);
	} else {
		r = open_path(run, res, &fd, err);
		if (r == 0)
			r = set_add(run->set, res->pointer, fd, err);
		if (r == 0)
			(void)TAKE_FD(fd);
	}
	if (r < 0) {
		if (err && err->fault == FAULT_BAD_CONFIG)
			snprintf(label, sizeof(label), "%s", res->pointer);
		else
			resource_label(run->config, res, label, sizeof(label));
		return err_prefix(err, r, "%s", label);
	}
	return 0;
}

static int open_kvm(struct resource_set *set, const char *kvm_device, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	fd = open(kvm_device, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		r = err_errno(err, errno, "cannot open '%s'", kvm_device);
		if (err)
			err->fault = FAULT_HOST_RESOURCE;
		return r;
	}
	r = set_add(set, PROTOCOL_RESOURCE_KVM, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

struct naming {
	char text[ERR_MSG_MAX + 256];
	const struct err *err;
};

static int name_one(const struct resource *res, void *data, struct err *err _unused_)
{
	struct naming *naming = data;
	size_t len = strlen(res->pointer);
	const char *msg = naming->err->msg;
	char shown[SHOWN_MAX];

	if (!res->value || strncmp(msg, res->pointer, len) != 0 || strncmp(msg + len, ": ", 2) != 0)
		return 0;
	snprintf(naming->text, sizeof(naming->text), "%s: %s%s", res->pointer, show(res, shown),
		 msg + len);
	return 1;
}

void resources_name_paths(const struct vm_config *config, struct err *err)
{
	struct naming naming = { .err = err };
	enum fault fault = err->fault;
	int code = err->code;

	if (vm_config_foreach_resource(config, name_one, &naming, NULL) != 1)
		return;
	err_clear(err);
	err_fault(err, fault, code, "%s", naming.text);
}

void resource_set_deinit(struct resource_set *set)
{
	for (size_t i = 0; i < set->n_fds; i++) {
		free(set->fds[i].pointer);
		close(set->fds[i].fd);
	}
	for (size_t i = 0; i < set->n_taps; i++)
		free(set->taps[i]);
	free(set->fds);
	free(set->taps);
	created_files_deinit(&set->created);
	*set = (struct resource_set){ 0 };
}

static int check_access(const struct resource *res, int flags, struct err *err)
{
	int wanted = open_flags(res) & O_ACCMODE, mode = flags & O_ACCMODE;
	char shown[SHOWN_MAX];

	if (flags & O_PATH)
		return err_fault(err, FAULT_BAD_CONFIG, EBADF,
				 "%s was opened with O_PATH, must be open for reading or writing",
				 show(res, shown));
	if (mode == O_RDWR || mode == wanted)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EACCES, "%s is open for %s only, must be for %s",
			 show(res, shown), mode == O_RDONLY ? "reading" : "writing",
			 wanted == O_RDWR     ? "reading and writing"
			 : wanted == O_RDONLY ? "reading"
					      : "writing");
}

/* A disk that takes no write where the guest makes it would fail in the middle of its work. */
static int check_writable(const struct resource *res, int fd, int flags, struct err *err)
{
	char shown[SHOWN_MAX];
	int seals;

	if ((open_flags(res) & O_ACCMODE) != O_RDWR)
		return 0;
	if (flags & O_APPEND)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "%s was opened with O_APPEND, must be writable at any place or "
				 "the disk read-only",
				 show(res, shown));
	seals = fcntl(fd, F_GET_SEALS); /* fails for what cannot be sealed */
	if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return err_fault(err, FAULT_BAD_CONFIG, EPERM,
				 "%s is sealed against writing, must be writable or the disk "
				 "read-only",
				 show(res, shown));
	return 0;
}

/* What the kernel makes up while it is read or written is no storage. */
static int check_storage(const struct resource *res, int fd, const struct statx *st,
			 struct err *err)
{
	char shown[SHOWN_MAX];
	struct statfs fs;

	/* Only what may be such a file: a network file system may wait for its server here. */
	if (!S_ISREG(st->stx_mode) || st->stx_dev_major != 0 || st->stx_blocks > 0)
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return err_errno(err, errno, "cannot inspect %s", show(res, shown));
	if (fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "%s is a file of %s, must be a regular file or block device",
			 show(res, shown), fs.f_type == SYSFS_MAGIC ? "sysfs" : "procfs");
}

int resource_check_fd(const struct resource *res, int fd, struct err *err)
{
	const struct kind_rule *rule = &kind_rules[res->kind];
	int flags = fcntl(fd, F_GETFL);
	char shown[SHOWN_MAX];
	struct statx st;
	int r;

	/* The type never changes: no need to wait for the server of a network file system. */
	if (flags < 0 ||
	    statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_BLOCKS, &st) < 0)
		return err_errno(err, errno, "cannot inspect %s", show(res, shown));
	r = check_access(res, flags, err);
	if (r < 0)
		return r;
	if (!type_suits(st.stx_mode, rule))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL, "%s is %s, must be %s",
				 show(res, shown), file_type(st.stx_mode), rule->wanted);
	if (res->kind != RESOURCE_DISK)
		return 0;
	r = check_writable(res, fd, flags, err);
	return r < 0 ? r : check_storage(res, fd, &st, err);
}

int resources_open(const struct vm_config *config, const struct given_fds *fds,
		   const char *kvm_device, uid_t owner, struct resource_set *ret, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { .created.owner = owner };
	struct open_run run = { config, fds, &set };
	int r;

	r = open_kvm(&set, kvm_device, err);
	if (r < 0)
		return r;
	r = vm_config_foreach_resource(config, open_one, &run, err);
	if (r < 0) {
		created_files_remove(&set.created);
		return r;
	}
	*ret = set;
	set = (struct resource_set){ 0 };
	return 0;
}
