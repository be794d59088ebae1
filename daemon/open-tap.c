/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's end of a network device: taps, opened by name or made, one
 * descriptor a queue pair, with as many of vhost's where that is asked for; or
 * a socket to a passt(1) that is to be run
 */
#include "daemon/opener.h"

#include "daemon/companion.h"
#include "daemon/passt.h"
#include "daemon/resources.h"
#include "daemon/tap.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/kcmp.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VHOST_DEVICE "/dev/vhost-net"

/* The worker makes them its own: whoever uses one first owns it. */
static int open_vhost(struct open_run *run, const struct resource *res, struct err *err)
{
	const struct net_config *net = &run->config->nets[res->index];
	char pointer[64];
	int r = 0;

	for (uint16_t i = 0; r == 0 && net->vhost && i < net->num_queues / 2; i++) {
		int fd = open(VHOST_DEVICE, O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			r = err_errno(err, errno, "cannot open '" VHOST_DEVICE "' for vhost");
			if (err)
				err->fault = FAULT_HOST_RESOURCE;
			return r;
		}
		snprintf(pointer, sizeof(pointer), "/net/%zu/vhost/%u", res->index, i);
		r = resource_set_take(run->set, pointer, fd, err);
	}
	return r;
}

static int open_passt(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_(companion_deinit) struct companion companion = { .fd = -EBADF };
	char pointer[64];
	int fd, r;

	r = passt_open(&run->config->nets[res->index], &fd, &companion, err);
	if (r < 0)
		return r;
	snprintf(pointer, sizeof(pointer), "/net/%zu/tap/0", res->index);
	r = resource_set_take(run->set, pointer, fd, err);
	return r < 0 ? r : resource_set_add_companion(run->set, &companion, err);
}

/*
 * Is it, under another name, one that a network has already?  Two queues that are one would
 * each get some of the other's frames.  A kernel without kcmp(2) cannot tell, and lets it be.
 */
static bool is_taken(const struct resource_set *set, int given)
{
	for (size_t i = 0; i < set->n_fds; i++) {
		if (g_str_has_prefix(set->fds[i].pointer, "/net/") &&
		    syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, set->fds[i].fd, given) == 0)
			return true;
	}
	return false;
}

static int check_given(const struct open_run *run, const struct resource *res, int given,
		       char ret_name[static IFNAMSIZ], struct err *err)
{
	const struct net_config *net = &run->config->nets[res->index];
	const struct resource_set *set = run->set;
	const char *first = res->queue ? set->taps[set->n_taps - 1] : NULL;
	int r = tap_inspect(given, net->num_queues / 2u, ret_name, err);

	if (r == 0 && first && strncmp(ret_name, first, IFNAMSIZ) != 0)
		r = err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			      "attached to '%.*s', must be to '%s' like the first of /net/%zu/fds",
			      IFNAMSIZ, ret_name, first, res->index);
	if (r == 0 && is_taken(set, given))
		r = err_fault(
			err, FAULT_BAD_CONFIG, EINVAL,
			"a duplicate of another that is given, must be of a queue of its own");
	return r;
}

static int take_tap(struct open_run *run, const struct resource *res, int given, struct err *err)
{
	char pointer[64], name[IFNAMSIZ], shown[RESOURCE_SHOWN_MAX];
	_cleanup_close_ int copy = -EBADF;
	int r;

	r = check_given(run, res, given, name, err);
	if (r < 0)
		return err_prefix(err, r, "%s", resource_show(res, shown));
	copy = fd_dup(given);
	if (copy < 0)
		return err_errno(err, -copy, "cannot duplicate %s", resource_show(res, shown));
	snprintf(pointer, sizeof(pointer), "/net/%zu/tap/%zu", res->index, res->queue);
	r = resource_set_add(run->set, pointer, copy, err);
	if (r < 0)
		return r;
	(void)TAKE_FD(copy);
	if (res->queue)
		return 0; /* the rest came with the first */
	r = open_vhost(run, res, err);
	return r < 0 ? r : resource_set_add_tap(run->set, name, err);
}

static int open_tap(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_(tap_close) struct tap tap = { 0 };
	const struct net_config *net = &run->config->nets[res->index];
	char pointer[64];
	int r;

	if (net->backend == NET_BACKEND_PASST)
		return open_passt(run, res, err);
	r = tap_open(net, &tap, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < tap.n_fds; i++) {
		snprintf(pointer, sizeof(pointer), "/net/%zu/tap/%zu", res->index, i);
		r = resource_set_add(run->set, pointer, tap.fds[i], err);
		if (r < 0)
			return r;
		tap.fds[i] = -EBADF; /* the set closes it from here on */
	}
	r = open_vhost(run, res, err);
	return r < 0 ? r : resource_set_add_tap(run->set, tap.name, err);
}

const struct opener tap_opener = {
	.open = open_tap,
	.take = take_tap,
	.check_fd = open_file_check_fd,
};
