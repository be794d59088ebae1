/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent memory: a file, locked like a disk image, or one without a name in a
 * directory
 */
#include "daemon/opener.h"

#include "daemon/path-open.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_directory(uid_t owner, const char *path)
{
	int fd = path_open_for(owner, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Gone when the worker is; nobody else can have it. */
static int make_file(struct open_run *run, const struct resource *res, int *ret_fd, struct err *err)
{
	uint64_t size = run->config->pmem[res->index].size;
	_cleanup_close_ int fd = -EBADF;

	if (size == 0)
		return err_fault(err, FAULT_BAD_CONFIG, EISDIR,
				 "'%s' is a directory, which needs a size, must be a file or have "
				 "one",
				 res->value);
	fd = path_open_for(run->set->created.owner, res->value, O_TMPFILE | O_RDWR | O_CLOEXEC,
			   0600);
	if (fd < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, -fd,
				 "cannot make a file without a name in '%s': %s", res->value,
				 strerror(-fd));
	if (ftruncate(fd, (off_t)size) < 0)
		return err_fault(err, FAULT_HOST_RESOURCE, errno,
				 "cannot make a file of %llu MiB in '%s': %s",
				 (unsigned long long)size >> 20, res->value, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_pmem(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	int r;

	if (is_directory(run->set->created.owner, res->value)) {
		r = make_file(run, res, &fd, err);
	} else {
		r = open_file(run, res, &fd, err);
		if (r == 0)
			r = file_claim(run, res, fd, &st, err);
	}
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

static int take_pmem(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	int r;

	r = file_reopen(res, given, &fd, err);
	if (r == 0)
		r = file_claim(run, res, fd, &st, err);
	return r < 0 ? r : resource_set_take(run->set, res->pointer, TAKE_FD(fd), err);
}

const struct opener pmem_opener = {
	.open = open_pmem,
	.take = take_pmem,
	.check_fd = open_file_check_fd,
};
