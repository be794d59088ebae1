/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taps: opened by name or made, one descriptor a queue pair
 */
#include "daemon/opener.h"

#include "daemon/resources.h"
#include "daemon/tap.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <unistd.h>

static int take_tap(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	char pointer[64], name[IFNAMSIZ], shown[RESOURCE_SHOWN_MAX];
	_cleanup_close_ int copy = -EBADF;
	int r;

	r = tap_inspect(given, name, err);
	if (r < 0)
		return err_prefix(err, r, "%s", resource_show(res, shown));
	copy = fd_dup(given);
	if (copy < 0)
		return err_errno(err, -copy, "cannot duplicate %s", resource_show(res, shown));
	snprintf(pointer, sizeof(pointer), "%s/0", res->pointer);
	r = resource_set_add(run->set, pointer, copy, err);
	if (r < 0)
		return r;
	(void)TAKE_FD(copy);
	return resource_set_add_tap(run->set, name, err);
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
		r = resource_set_add(run->set, pointer, tap.fds[i], err);
		if (r < 0)
			return r;
		tap.fds[i] = -EBADF; /* the set closes it from here on */
	}
	return resource_set_add_tap(run->set, tap.name, err);
}

const struct opener tap_opener = {
	.open = open_tap,
	.take = take_tap,
	.check_fd = open_file_check_fd,
};
