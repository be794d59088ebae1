/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets: made, or given
 */
#include "daemon/listen.h"

#include "daemon/created-files.h"
#include "daemon/opener.h"
#include "daemon/path-open.h"
#include "daemon/resources.h"
#include "daemon/task.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

/* Where a socket is: its directory, and its name there as an address. */
struct place {
	int dir;
	char *name;
	struct sockaddr_un addr;
};

static void place_deinit(struct place *place)
{
	if (place->dir >= 0)
		close(place->dir);
	g_free(place->name);
}

static int place_find(uid_t owner, const char *path, struct place *ret)
{
	g_autofree char *dir = g_path_get_dirname(path);
	int n;

	*ret = (struct place){ .dir = -EBADF, .addr.sun_family = AF_UNIX };
	ret->dir = path_open_for(owner, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (ret->dir < 0)
		return ret->dir;
	ret->name = g_path_get_basename(path);
	n = snprintf(ret->addr.sun_path, sizeof(ret->addr.sun_path), "/proc/self/fd/%d/%s",
		     ret->dir, ret->name);
	return n < 0 || (size_t)n >= sizeof(ret->addr.sun_path) ? -ENAMETOOLONG : 0;
}

/* The socket at the place itself, whatever happens to the name: an O_PATH descriptor or -errno. */
static int place_open(const struct place *place, struct stat *ret)
{
	_cleanup_close_ int fd = openat(place->dir, place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, ret) < 0)
		return -errno;
	if (S_ISLNK(ret->st_mode))
		return -ELOOP;
	if (!S_ISSOCK(ret->st_mode))
		return -ENOTSOCK;
	return TAKE_FD(fd);
}

static int connect_to(int path_fd, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", path_fd);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int listen_connect(uid_t owner, const char *path, int type)
{
	_cleanup_(place_deinit) struct place place = { .dir = -EBADF };
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	int r;

	r = place_find(owner, path, &place);
	if (r < 0)
		return r;
	fd = place_open(&place, &st);
	if (fd < 0)
		return fd;
	if (!path_follows_links(owner) && st.st_uid != owner)
		return -EACCES;
	return connect_to(fd, type);
}

/* A socket that nobody listens on any more: 0 when it is gone, else -errno. */
static int remove_stale(const struct place *place, int type)
{
	_cleanup_close_ int there = -EBADF;
	struct stat st;
	int fd;

	there = place_open(place, &st);
	if (there < 0)
		return there;
	fd = connect_to(there, type);
	if (fd >= 0) {
		close(fd);
		return -EADDRINUSE;
	}
	/* EPROTOTYPE, EAGAIN: somebody does */
	if (fd != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlinkat(place->dir, place->name, 0) < 0 ? -errno : 0;
}

static int bind_at(const struct place *place, int type, int fd)
{
	const struct sockaddr *addr = (const struct sockaddr *)&place->addr;

	/* What the name will have: bind(2) takes it from here. */
	if (fchmod(fd, 0600) < 0)
		return -errno;
	if (bind(fd, addr, sizeof(place->addr)) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (remove_stale(place, type) < 0)
		return -EADDRINUSE;
	return bind(fd, addr, sizeof(place->addr)) < 0 ? -errno : 0;
}

/* The name is new and ours; it becomes the owner's. */
static int give_to(const struct place *place, uid_t owner, struct stat *ret)
{
	_cleanup_close_ int there = place_open(place, ret);

	if (there < 0)
		return there;
	if (ret->st_uid != geteuid() || ret->st_nlink != 1)
		return -EPERM; /* somebody has put another in its place */
	if (owner == geteuid())
		return 0;
	return fchownat(there, "", owner, (gid_t)-1, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int listen_failed(const char *path, int code, struct err *err)
{
	if (code == EADDRINUSE)
		return err_fault(
			err, FAULT_HOST_RESOURCE, code,
			"'%s' is there already, and in use or no socket; remove it or name "
			"another",
			path);
	if (code == ELOOP)
		return err_fault(err, FAULT_HOST_RESOURCE, code,
				 "'%s' goes through a symbolic link, which is not followed for "
				 "another user's machine; give the real path",
				 path);
	return err_fault(err, FAULT_HOST_RESOURCE, code, "cannot listen at '%s': %s", path,
			 strerror(code));
}

int listen_at(uid_t owner, const char *path, int type, struct created_files *created, int *ret_fd,
	      struct err *err)
{
	_cleanup_(place_deinit) struct place place = { .dir = -EBADF };
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	int r;

	r = place_find(owner, path, &place);
	if (r < 0)
		return listen_failed(path, -r, err);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "cannot make a socket for '%s'", path);
	r = bind_at(&place, type, fd);
	if (r < 0)
		return listen_failed(path, -r, err);
	r = give_to(&place, owner, &st);
	if (r >= 0)
		r = created_files_add(created, path, &st);
	if (r >= 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(place.dir, place.name, 0);
		return listen_failed(path, -r, err);
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* --- as a resource --- */

/* The vsock's has a second one beside it. */
static bool has_seqpacket(const struct resource *res)
{
	return strcmp(res->pointer, "/vsock/socket") == 0;
}

static int add_listener(struct open_run *run, const char *pointer, const char *path, int type,
			struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r = listen_at(run->set->created.owner, path, type, &run->set->created, &fd, err);

	if (r == 0)
		r = resource_set_add(run->set, pointer, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int open_listener(struct open_run *run, const struct resource *res, struct err *err)
{
	g_autofree char *path = g_strconcat(res->value, LISTEN_SEQPACKET_SUFFIX, NULL);
	g_autofree char *pointer = g_strconcat(res->pointer, "/seqpacket", NULL);
	int r = add_listener(run, res->pointer, res->value, SOCK_STREAM, err);

	if (r == 0 && has_seqpacket(res))
		r = add_listener(run, pointer, path, SOCK_SEQPACKET, err);
	return r;
}

static int take_listener(struct open_run *run, const struct resource *res, int given,
			 struct err *err)
{
	_cleanup_close_ int fd = fd_dup(given);
	char shown[RESOURCE_SHOWN_MAX];
	int r;

	if (fd < 0)
		return err_errno(err, -fd, "cannot duplicate %s", resource_show(res, shown));
	r = resource_set_add(run->set, res->pointer, fd, err);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

static int get_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

static int check_listener(const struct resource *res, int fd, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];

	if (get_option(fd, SO_DOMAIN) == AF_UNIX && get_option(fd, SO_TYPE) == SOCK_STREAM &&
	    get_option(fd, SO_ACCEPTCONN) == 1)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "%s is something else, must be a listening UNIX stream socket",
			 resource_show(res, shown));
}

const struct opener listen_opener = {
	.open = open_listener,
	.take = take_listener,
	.check_fd = check_listener,
};

/* --- afterwards --- */

struct leftovers {
	GPtrArray *paths;
	uid_t owner;
};

static int remove_work(void *data, struct err *err)
{
	const struct leftovers *left = data;

	(void)err;
	for (guint i = 0; i < left->paths->len; i++) {
		_cleanup_(place_deinit) struct place place = { .dir = -EBADF };

		/* SOCK_STREAM also for the others: who listens is not refused but EPROTOTYPE */
		if (place_find(left->owner, left->paths->pdata[i], &place) >= 0)
			(void)remove_stale(&place, SOCK_STREAM);
	}
	return 0;
}

static void remove_done(void *data, int r, const struct err *err, void *owner)
{
	(void)data;
	(void)r;
	(void)err;
	(void)owner;
}

static void remove_free(void *data)
{
	struct leftovers *left = data;

	g_ptr_array_unref(left->paths);
	g_free(left);
}

static const struct task_ops remove_ops = {
	.work = remove_work,
	.done = remove_done,
	.free_data = remove_free,
};

static int add_leftover(const struct resource *res, void *data, struct err *err)
{
	struct leftovers *left = data;

	(void)err;
	if (res->kind != RESOURCE_LISTEN || !res->value || vm_config_fd_name(res->value))
		return 0;
	g_ptr_array_add(left->paths, g_strdup(res->value));
	if (has_seqpacket(res))
		g_ptr_array_add(left->paths,
				g_strconcat(res->value, LISTEN_SEQPACKET_SUFFIX, NULL));
	return 0;
}

void listen_remove_later(const struct vm_config *config, uid_t owner, sd_event *event,
			 const char *vm_name)
{
	struct leftovers *left = g_new0(struct leftovers, 1);
	struct task *task = NULL;
	struct err err = { 0 };

	left->paths = g_ptr_array_new_with_free_func(g_free);
	left->owner = owner;
	if (config)
		(void)vm_config_foreach_resource(config, add_leftover, left, NULL);
	if (left->paths->len == 0) {
		remove_free(left);
		return;
	}
	if (task_start(event, &remove_ops, left, NULL, &task, &err) < 0) {
		log_warning("VM '%s': its sockets are left: %s", vm_name, err.msg);
		remove_free(left);
		return;
	}
	task_abandon(task);
}
