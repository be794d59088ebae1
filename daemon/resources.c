/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resources.h"

#include "daemon/tap.h"
#include "vmm/api/protocol.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct open_run {
	const struct vm_config *config;
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

static int check_not_ours(const struct open_run *run, const struct stat *st,
			  const struct resource *res, struct err *err)
{
	for (size_t i = 0; i < run->set->n_fds; i++) {
		struct stat other;
		unsigned int index;

		if (sscanf(run->set->fds[i].pointer, "/disks/%u/path", &index) != 1 ||
		    fstat(run->set->fds[i].fd, &other) < 0)
			continue;
		if (other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
					 "'%s' is the image of disk '%s' of this VM already",
					 res->value, run->config->disks[index].id);
	}
	return 0;
}

static int lock_image(int fd, const struct resource *res, struct err *err)
{
	struct flock lock = { .l_type = res->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_fault(err, FAULT_HOST_RESOURCE, EBUSY,
				 "image '%s' is in use by another process", res->value);
	return err_errno(err, errno, "cannot lock image '%s'", res->value);
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

/* Our own user gains nothing by a link: what it leads to is open to us and to them alike. */
static bool follows_links(uid_t owner)
{
	return owner == 0 || owner == geteuid();
}

/*
 * Opens a path of which no component is a symbolic link: -ELOOP otherwise.  Step
 * by step instead of openat2(2), which system call filters older than it refuse.
 */
static int open_without_links(const char *path, int flags, mode_t mode)
{
	_cleanup_close_ int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	g_auto(GStrv) parts = g_strsplit(path, "/", -1);
	struct stat st;
	size_t last = 0;
	int fd;

	for (size_t i = 0; parts[i]; i++)
		if (*parts[i])
			last = i;
	for (size_t i = 0; i < last; i++) {
		if (!*parts[i])
			continue;
		fd = openat(dir, parts[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		close(dir);
		dir = fd;
		if (fstat(dir, &st) < 0)
			return -errno;
		if (S_ISLNK(st.st_mode))
			return -ELOOP;
	}
	fd = openat(dir, parts[last], flags | O_NOFOLLOW, mode); /* ELOOP for a link */
	return fd < 0 ? -errno : fd;
}

static int open_for(uid_t owner, const char *path, int flags, mode_t mode)
{
	int fd;

	if (!follows_links(owner))
		return open_without_links(path, flags, mode);
	fd = open(path, flags, mode);
	return fd < 0 ? -errno : fd;
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

static int add_created(struct created_files *created, const char *path, const struct stat *st)
{
	struct created_file *items;
	char *copy = strdup(path);

	items = copy ? realloc(created->items, (created->n + 1) * sizeof(*items)) : NULL;
	if (!items) {
		free(copy);
		return -ENOMEM;
	}
	created->items = items;
	items[created->n++] = (struct created_file){ copy, st->st_dev, st->st_ino };
	return 0;
}

static void remove_created(const struct created_file *file, uid_t owner)
{
	g_autofree char *dir = g_path_get_dirname(file->path);
	g_autofree char *base = g_path_get_basename(file->path);
	_cleanup_close_ int fd = open_for(owner, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	struct stat st;

	if (fd < 0 || fstatat(fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (S_ISREG(st.st_mode) && st.st_size == 0 && st.st_dev == file->dev &&
	    st.st_ino == file->ino)
		unlinkat(fd, base, 0);
}

void created_files_remove(const struct created_files *created)
{
	for (size_t i = 0; i < created->n; i++)
		remove_created(&created->items[i], created->owner);
}

void created_files_deinit(struct created_files *created)
{
	for (size_t i = 0; i < created->n; i++)
		free(created->items[i].path);
	free(created->items);
	*created = (struct created_files){ 0 };
}

/* Tells whether the file is new, so that a start that fails can take it away again. */
static int open_resource(uid_t owner, const struct resource *res, bool *ret_created)
{
	int flags = open_flags(res), fd;

	*ret_created = false;
	if (flags & O_CREAT) {
		fd = open_for(owner, res->value, flags | O_EXCL, 0600);
		*ret_created = fd >= 0;
		if (fd != -EEXIST)
			return fd;
	}
	return open_for(owner, res->value, flags, 0600);
}

static int open_failed(const struct resource *res, uid_t owner, int code, struct err *err)
{
	if (code == ELOOP && !follows_links(owner))
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
	return err_errno(err, code, "cannot open '%s'%s", res->value,
			 (open_flags(res) & O_ACCMODE) == O_RDONLY ? "" : " for writing");
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
	if (created && add_created(&run->set->created, res->value, &st) < 0)
		return err_errno(err, ENOMEM, "cannot keep the name '%s'", res->value);
	if (!(S_ISREG(st.st_mode) && rule->regular) && !(S_ISBLK(st.st_mode) && rule->block) &&
	    !(S_ISCHR(st.st_mode) && rule->character))
		return err_fault(err, FAULT_HOST_RESOURCE, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
				 "'%s' is %s, must be %s", res->value, file_type(st.st_mode),
				 rule->wanted);
	/* O_NONBLOCK was for open(2) alone; the worker decides about its own I/O. */
	r = fd_set_nonblock(fd, false);
	if (r < 0)
		return err_errno(err, -r, "cannot prepare '%s'", res->value);
	if (res->kind == RESOURCE_DISK) {
		r = check_not_ours(run, &st, res, err);
		if (r == 0)
			r = lock_image(fd, res, err);
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
	struct open_run *run = data;
	_cleanup_close_ int fd = -EBADF;
	char label[160];
	int r;

	if (res->kind == RESOURCE_TAP) {
		r = open_tap(run, res, err);
	} else {
		r = open_path(run, res, &fd, err);
		if (r == 0)
			r = set_add(run->set, res->pointer, fd, err);
		if (r == 0)
			(void)TAKE_FD(fd);
	}
	if (r < 0) {
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

int resources_open(const struct vm_config *config, const char *kvm_device, uid_t owner,
		   struct resource_set *ret, struct err *err)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { .created.owner = owner };
	struct open_run run = { config, &set };
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
