/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What serves a shared directory: a virtiofsd that listens at a socket, or one that is
 * to be run for a directory
 */
#include "daemon/opener.h"

#include "daemon/companion.h"
#include "daemon/listen.h"
#include "daemon/path-open.h"
#include "daemon/resources.h"
#include "daemon/virtiofsd.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_socket(struct open_run *run, const struct resource *res, struct err *err)
{
	int fd = listen_connect(run->set->created.owner, res->value, SOCK_STREAM);

	if (fd < 0)
		return err_fault(err, fd == -ENOENT ? FAULT_NONE : FAULT_HOST_RESOURCE, -fd,
				 "no virtiofsd answers at '%s': %s", res->value, strerror(-fd));
	return resource_set_take(run->set, res->pointer, fd, err);
}

static int take_socket(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	int fd = fd_dup(given);

	if (fd < 0)
		return err_errno(err, -fd, "cannot duplicate a socket");
	return resource_set_take(run->set, res->pointer, fd, err);
}

static int check_socket_fd(const struct resource *res, int fd, struct err *err)
{
	char shown[RESOURCE_SHOWN_MAX];
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int type = 0;
	socklen_t type_len = sizeof(type);

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM &&
	    getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.ss_family == AF_UNIX)
		return 0;
	return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			 "%s is no connected UNIX stream socket, must be one to a virtiofsd",
			 resource_show(res, shown));
}

static int start_for(struct open_run *run, const struct resource *res, int dir, struct err *err)
{
	_cleanup_(companion_deinit) struct companion companion = { .fd = -EBADF };
	int fd, r;

	r = virtiofsd_open(&run->config->fs[res->index], dir, &fd, &companion, err);
	if (r < 0) {
		close(dir);
		return r;
	}
	r = resource_set_take(run->set, res->pointer, fd, err);
	return r < 0 ? r : resource_set_add_companion(run->set, &companion, err);
}

static int open_source(struct open_run *run, const struct resource *res, struct err *err)
{
	int dir = path_open_for(run->set->created.owner, res->value,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	if (dir == -ENOTDIR)
		return err_fault(err, FAULT_HOST_RESOURCE, ENOTDIR,
				 "'%s' is no directory, must be one", res->value);
	if (dir < 0)
		return err_fault(err, dir == -ENOENT ? FAULT_NONE : FAULT_HOST_RESOURCE, -dir,
				 "cannot open directory '%s': %s", res->value, strerror(-dir));
	return start_for(run, res, dir, err);
}

static int take_source(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	int dir = fd_dup(given);

	if (dir < 0)
		return err_errno(err, -dir, "cannot duplicate a directory");
	return start_for(run, res, dir, err);
}

const struct opener fs_socket_opener = {
	.open = open_socket,
	.take = take_socket,
	.check_fd = check_socket_fd,
};

const struct opener fs_source_opener = {
	.open = open_source,
	.take = take_source,
	.check_fd = open_file_check_fd,
};
