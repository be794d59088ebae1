/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/path-open.h"

#include "vmm/base/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <unistd.h>

bool path_follows_links(uid_t owner)
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

int path_open_for(uid_t owner, const char *path, int flags, mode_t mode)
{
	int fd;

	if (!path_follows_links(owner))
		return open_without_links(path, flags, mode);
	fd = open(path, flags, mode);
	return fd < 0 ? -errno : fd;
}
