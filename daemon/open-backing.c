/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files behind a qcow2 image
 *
 * An image names its backing file itself, so whoever can write the image chooses
 * what is opened: nothing, unless `backing_files` allows it, and only what the
 * machine's owner may read.  Each file is handed over as
 * "/disks/0/path/backing/<1..>/<format>", the format being what the file in
 * front of it states: it is never guessed.
 */
#include "daemon/opener.h"

#include "daemon/path-open.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/block/qcow2/backing.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <glib.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 256

/* The chain as far as it has been opened. */
struct chain {
	char *paths[VM_DISK_FILES_MAX];
	struct stat files[VM_DISK_FILES_MAX];
	size_t n;
};

static void chain_deinit(struct chain *chain)
{
	for (size_t i = 0; i < chain->n; i++)
		g_free(chain->paths[i]);
}

static int chain_add(struct chain *chain, const char *path, int fd, struct err *err)
{
	struct stat *st = &chain->files[chain->n];

	if (fstat(fd, st) < 0)
		return err_errno(err, errno, "cannot inspect '%s'", path);
	for (size_t i = 0; i < chain->n; i++)
		if (chain->files[i].st_dev == st->st_dev && chain->files[i].st_ino == st->st_ino)
			return err_fault(err, FAULT_BAD_CONFIG, ELOOP,
					 "'%s' is a backing file of itself", path);
	chain->paths[chain->n++] = g_strdup(path);
	return 0;
}

/* What the owner of the machine is, for files. */
struct identity {
	uid_t uid;
	gid_t groups[GROUPS_MAX];
	int n_groups;
};

static void identity_get(uid_t owner, struct identity *ret)
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	ret->uid = owner;
	ret->n_groups = GROUPS_MAX;
	if (getpwuid_r(owner, &pw, buf, sizeof(buf), &found) != 0 || !found ||
	    getgrouplist(found->pw_name, found->pw_gid, ret->groups, &ret->n_groups) < 0)
		ret->n_groups = 0;
}

/* bits: of S_IROTH and S_IXOTH */
static bool may(const struct identity *who, const struct stat *st, mode_t bits)
{
	mode_t mine = st->st_mode;

	if (st->st_uid == who->uid)
		return (mine >> 6 & bits) == bits;
	for (int i = 0; i < who->n_groups; i++)
		if (who->groups[i] == st->st_gid)
			return (mine >> 3 & bits) == bits;
	return (mine & bits) == bits;
}

/*
 * The daemon may read everything, the owner of the machine may not: neither the file, nor
 * what is behind a folder that is closed to them.  Access lists are not looked at; they only
 * give more.  path: without links, as the daemon has opened it.
 */
static bool owner_may_read(uid_t owner, const char *path, const struct stat *file)
{
	g_autofree char *folder = g_strdup(path);
	struct identity who;
	struct stat st;

	if (path_follows_links(owner))
		return true;
	identity_get(owner, &who);
	for (char *slash = strrchr(folder, '/'); slash; slash = strrchr(folder, '/')) {
		*slash = '\0';
		if (stat(folder[0] ? folder : "/", &st) < 0 || !may(&who, &st, S_IXOTH))
			return false;
	}
	return may(&who, file, S_IROTH);
}

/* As QEMU: relative to the folder of the file that names it.  "nbd:..." is no path. */
static char *resolve(const char *front, const char *name)
{
	const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
	g_autofree char *dir = NULL;

	if (*name == '/')
		return g_strdup(name);
	if (colon && (!slash || colon < slash))
		return NULL;
	dir = g_path_get_dirname(front);
	return g_build_filename(dir, name, NULL);
}

static int check_format(const char *front, const struct qcow2_backing *backing, struct err *err)
{
	if (!backing->format[0])
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "'%s' does not say which format its backing file '%s' has, must "
				 "state raw or qcow2 (qemu-img rebase -u -F)",
				 front, backing->name);
	if (strcmp(backing->format, "raw") != 0 && strcmp(backing->format, "qcow2") != 0)
		return err_fault(
			err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			"the backing file '%s' of '%s' is a %s image, must be raw or qcow2",
			backing->name, front, backing->format);
	return 0;
}

/* Opens what the last file of the chain is based on: 1, 0 nothing, -errno. */
static int open_next(struct open_run *run, const struct resource *image, struct chain *chain,
		     int front_fd, struct qcow2_backing *ret, int *ret_fd, struct err *err)
{
	const char *front = chain->paths[chain->n - 1];
	g_autofree char *path = NULL;
	struct resource res = *image;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = qcow2_read_backing(front_fd, ret, err);
	if (r < 0)
		return err_prefix(err, r, "'%s'", front);
	if (!ret->name[0])
		return 0;
	if (!run->config->disks[image->index].backing_files)
		return err_fault(err, FAULT_BAD_CONFIG, EPERM,
				 "image '%s' has the backing file '%s', which backing_files does "
				 "not allow, must be true or the image without one",
				 front, ret->name);
	if (chain->n == VM_DISK_FILES_MAX)
		return err_fault(err, FAULT_UNSUPPORTED, E2BIG,
				 "'%s' has a backing file too, a chain must have at most %d files",
				 front, VM_DISK_FILES_MAX);
	r = check_format(front, ret, err);
	if (r < 0)
		return r;
	path = resolve(front, ret->name);
	if (!path)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "the backing file '%s' of '%s' is no file but a protocol, must be "
				 "a path",
				 ret->name, front);
	res.value = path;
	res.readonly = true;
	r = open_file(run, &res, &fd, err);
	if (r < 0)
		return err_prefix(err, r, "backing file of '%s'", front);
	r = chain_add(chain, path, fd, err);
	if (r < 0)
		return r;
	if (!owner_may_read(run->set->created.owner, path, &chain->files[chain->n - 1]))
		return err_fault(err, FAULT_HOST_RESOURCE, EACCES,
				 "backing file of '%s': the machine's owner may not read '%s'",
				 front, path);
	r = image_claim(run, &res, fd, err);
	if (r < 0)
		return err_prefix(err, r, "backing file of '%s'", front);
	*ret_fd = TAKE_FD(fd);
	return 1;
}

int open_backing_files(struct open_run *run, const struct resource *image, int fd, struct err *err)
{
	_cleanup_(chain_deinit) struct chain chain = { 0 };
	_cleanup_free_ struct qcow2_backing *backing = calloc(1, sizeof(*backing));
	char pointer[128];
	int front = fd, next = -EBADF, r;

	if (!backing)
		return err_errno(err, ENOMEM, "cannot look for backing files");
	r = chain_add(&chain, image->value, fd, err);
	while (r == 0) {
		r = open_next(run, image, &chain, front, backing, &next, err);
		if (r <= 0)
			return r;
		snprintf(pointer, sizeof(pointer), "%s/backing/%zu/%s", image->pointer, chain.n - 1,
			 backing->format);
		r = resource_set_take(run->set, pointer, next, err);
		if (r < 0)
			return r;
		/* A raw one has nothing behind it. */
		if (strcmp(backing->format, "qcow2") != 0)
			return 0;
		front = next;
	}
	return r;
}

int check_no_backing_file(const struct resource *image, int fd, struct err *err)
{
	_cleanup_free_ struct qcow2_backing *backing = calloc(1, sizeof(*backing));
	char shown[RESOURCE_SHOWN_MAX];
	int r;

	if (!backing)
		return err_errno(err, ENOMEM, "cannot look for backing files");
	r = qcow2_read_backing(fd, backing, err);
	if (r < 0)
		return err_prefix(err, r, "%s", resource_show(image, shown));
	if (!backing->name[0])
		return 0;
	return err_fault(
		err, FAULT_BAD_CONFIG, EINVAL,
		"image %s has the backing file '%s', which can be found for an image given "
		"as a path only",
		resource_show(image, shown), backing->name);
}
