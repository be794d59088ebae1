/* SPDX-License-Identifier: Apache-2.0 */
/*
 * It gets two descriptors: a listening socket as its standard input, in whose queue
 * the worker's connection waits already, and the directory as its standard output, so
 * that what is shared is what was opened for the machine's owner, whatever has become
 * of the path.  It is root, for files of all users are to be made and read.  It makes
 * the directory its root; namespaces it gets from its unit (its own way to them would
 * look for the directory in a /proc that it has covered before).
 */
#include "daemon/virtiofsd.h"

#include "daemon/companion.h"
#include "daemon/unit.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const programs[] = { "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd" };

/*
 * CHOWN DAC_OVERRIDE FOWNER FSETID SETGID SETUID SETPCAP SYS_CHROOT MKNOD SETFCAP: what it
 * keeps, and to get rid of the others and into its root
 */
#define CAPABILITIES "2281963995"

static const struct unit_property properties[] = {
	{ "CollectMode", UNIT_BOTH, "s", "'inactive-or-failed'" },
	{ "Documentation", UNIT_BOTH, "as", "['man:virtiofsd(1)', 'man:brumed(8)']" },
	{ "Type", UNIT_BOTH, "s", "'exec'" },
	{ "StandardError", UNIT_BOTH, "s", "'journal'" },
	{ "Restart", UNIT_BOTH, "s", "'no'" },
	{ "TimeoutStopUSec", UNIT_BOTH, "t", "5000000" },
	{ "LogRateLimitIntervalUSec", UNIT_BOTH, "t", "30000000" },
	{ "LogRateLimitBurst", UNIT_BOTH, "u", "200" },

	{ "KeyringMode", UNIT_BOTH, "s", "'private'" },
	{ "NoNewPrivileges", UNIT_BOTH, "b", "true" },
	{ "CapabilityBoundingSet", UNIT_SYSTEM, "t", CAPABILITIES },
	{ "LockPersonality", UNIT_BOTH, "b", "true" },
	{ "RestrictRealtime", UNIT_BOTH, "b", "true" },
	{ "MemoryDenyWriteExecute", UNIT_BOTH, "b", "true" },
	{ "RestrictNamespaces", UNIT_BOTH, "t", "0" },
	{ "SystemCallArchitectures", UNIT_BOTH, "as", "['native']" },
	/* It filters more itself, with seccomp(2); this holds before, and whatever its version. */
	{ "SystemCallFilter", UNIT_BOTH, "(bas)",
	  "(true, ['@system-service', 'chroot', 'seccomp'])" },
	{ "SystemCallErrorNumber", UNIT_BOTH, "i", "1" },
	{ "RestrictAddressFamilies", UNIT_BOTH, "(bas)", "(true, ['AF_UNIX'])" },

	/* Of the host's files it needs none but its program's: what it shares is open. */
	{ "ProtectSystem", UNIT_SYSTEM, "s", "'strict'" },
	{ "ProtectHome", UNIT_SYSTEM, "s", "'yes'" },
	{ "PrivateTmp", UNIT_SYSTEM, "b", "true" },
	/* Not PrivateDevices: that takes MKNOD away, which it insists on. */
	{ "DevicePolicy", UNIT_SYSTEM, "s", "'closed'" },
	{ "PrivateIPC", UNIT_SYSTEM, "b", "true" },
	{ "PrivateNetwork", UNIT_SYSTEM, "b", "true" },
	{ "ProtectProc", UNIT_SYSTEM, "s", "'invisible'" },
	{ "ProtectKernelModules", UNIT_SYSTEM, "b", "true" },
	{ "ProtectKernelLogs", UNIT_SYSTEM, "b", "true" },
	{ "ProtectKernelTunables", UNIT_SYSTEM, "b", "true" },
	{ "ProtectClock", UNIT_SYSTEM, "b", "true" },
	{ "ProtectControlGroups", UNIT_SYSTEM, "b", "true" },

	{ "LimitCORE", UNIT_BOTH, "t", "0" },
	{ "LimitNOFILE", UNIT_BOTH, "t", "1048576" },
	{ "TasksMax", UNIT_BOTH, "t", "128" },
	{ "CPUAccounting", UNIT_BOTH, "b", "true" },
	{ "MemoryAccounting", UNIT_BOTH, "b", "true" },
};

const struct companion_kind companion_virtiofsd = {
	.name = "virtiofsd",
	.description = "Shared directory",
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
};

/*
 * A listener without a name in any file system, and a connection that waits in its
 * queue: whoever else connects, the first one is served, and only that.
 */
static int make_sockets(int *ret_listener, int *ret_fd, struct err *err)
{
	_cleanup_close_ int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);

	if (listener < 0 || fd < 0 ||
	    bind(listener, (struct sockaddr *)&addr, sizeof(addr.sun_family)) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&addr, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&addr, len) < 0)
		return err_errno(err, errno, "cannot make a socket for virtiofsd");
	*ret_listener = TAKE_FD(listener);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static char **arguments(const char *program)
{
	const char *const argv[] = {
		program,          "-f", "--fd=0", "-o", "source=/proc/self/fd/1/.", "-o",
		"sandbox=chroot", NULL
	};

	return g_strdupv((char **)(uintptr_t)argv);
}

int virtiofsd_open(const struct fs_config *fs, int dir, int *ret_fd, struct companion *ret,
		   struct err *err)
{
	const char *program = companion_find_program(programs, ARRAY_SIZE(programs));
	int listener, r;

	if (geteuid() != 0)
		return err_fault(err, FAULT_BAD_CONFIG, EPERM,
				 "a user's service cannot run virtiofsd: start one and give its "
				 "socket");
	if (!program)
		return err_fault(err, FAULT_HOST_RESOURCE, ENOENT,
				 "there is no '%s' and no '%s': install virtiofsd (Debian 12: "
				 "qemu-system-common)",
				 programs[0], programs[1]);
	r = make_sockets(&listener, ret_fd, err);
	if (r < 0)
		return r;
	*ret = (struct companion){
		.kind = &companion_virtiofsd,
		.id = g_strdup(fs->pci.id),
		.argv = arguments(program),
		.fd = listener,
		.out_fd = dir,
	};
	return 0;
}
