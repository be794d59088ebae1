/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terminals of consoles in mode Pty: a pair is made, the worker gets the master
 *
 * The other side belongs to the machine's owner alone.  It is raw from the
 * start on, as the guest's own terminal does the echo and the line editing.
 */
#include "daemon/opener.h"

#include "daemon/console-paths.h"
#include "daemon/resources.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define PTMX "/dev/ptmx"

static int pty_failed(int code, const char *what, struct err *err)
{
	if (code == ENOSPC)
		return err_fault(err, FAULT_HOST_RESOURCE, code,
				 "%s: the host has no more of them, see kernel.pty.max", what);
	return err_fault(err, FAULT_HOST_RESOURCE, code, "%s: %s", what, g_strerror(code));
}

/*
 * The one who opened it here closes it again: from then on the master tells, by
 * EPOLLHUP, that nobody has it open, which it does not before the first time.
 * The settings stay as long as the master does.
 */
static int prepare_slave(int master, uid_t owner)
{
	/* By the master, not by name: /dev/pts may be of another instance. */
	_cleanup_close_ int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios raw;

	if (slave < 0 || tcgetattr(slave, &raw) < 0)
		return -errno;
	cfmakeraw(&raw);
	if (tcsetattr(slave, TCSANOW, &raw) < 0 || fchmod(slave, 0600) < 0)
		return -errno;
	return owner != geteuid() && fchown(slave, owner, (gid_t)-1) < 0 ? -errno : 0;
}

/* By the pointer of the key that asks for it. */
static void name_console(const struct resource *res, struct console_path *path)
{
	static const struct {
		const char *pointer, *console;
	} names[] = {
		{ "/serial/mode", "serial" },
		{ "/console/mode", "console" },
		{ "/debug_console/mode", "debug" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(res->pointer, names[i].pointer) == 0)
			g_strlcpy(path->console, names[i].console, sizeof(path->console));
}

static int open_pty(struct open_run *run, const struct resource *res, struct err *err)
{
	_cleanup_close_ int fd = open(PTMX, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct console_paths *paths = &run->set->console_paths;
	struct console_path *path = &paths->items[paths->n];
	int r;

	if (fd < 0)
		return pty_failed(errno, "cannot open '" PTMX "'", err);
	if (grantpt(fd) < 0 || unlockpt(fd) < 0 ||
	    ptsname_r(fd, path->path, sizeof(path->path)) != 0)
		return pty_failed(errno, "cannot make a terminal", err);
	r = prepare_slave(fd, run->set->created.owner);
	if (r < 0)
		return pty_failed(-r, "cannot prepare a terminal", err);
	name_console(res, path);
	r = resource_set_add(run->set, res->pointer, fd, err);
	if (r < 0)
		return r;
	(void)TAKE_FD(fd);
	paths->n++;
	return 0;
}

/* The key has no value, so none is ever given. */
const struct opener pty_opener = { .open = open_pty };
