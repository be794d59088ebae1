/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passt(1) as a network device's other end
 *
 * It speaks frames over its standard input, a socket whose other end the worker
 * has (vmm/net/stream.h), and opens ordinary sockets of the host's for what the
 * guest connects to.  It needs no privilege; it puts itself into namespaces of its own,
 * so the unit's sandbox leaves it those.
 *
 * The guest's gateway is not made to lead to the host's loopback addresses
 * (--no-map-gw): what listens there does so because nobody else is to reach it.
 */
#include "daemon/passt.h"

#include "daemon/companion.h"
#include "daemon/opener.h"
#include "daemon/unit.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const programs[] = { "/usr/bin/passt", "/usr/local/bin/passt" };

/* CLONE_NEWUSER, NEWNS, NEWIPC, NEWUTS, NEWPID: what passt isolates itself with */
#define NAMESPACES "1006764032"

static const struct unit_property properties[] = {
	{ "CollectMode", UNIT_BOTH, "s", "'inactive-or-failed'" },
	{ "Documentation", UNIT_BOTH, "as", "['man:passt(1)', 'man:brumed(8)']" },
	{ "Type", UNIT_BOTH, "s", "'exec'" },
	{ "StandardOutput", UNIT_BOTH, "s", "'journal'" },
	{ "StandardError", UNIT_BOTH, "s", "'journal'" },
	{ "Restart", UNIT_BOTH, "s", "'no'" },
	{ "TimeoutStopUSec", UNIT_BOTH, "t", "5000000" },
	{ "LogRateLimitIntervalUSec", UNIT_BOTH, "t", "30000000" },
	{ "LogRateLimitBurst", UNIT_BOTH, "u", "200" },

	{ "DynamicUser", UNIT_SYSTEM, "b", "true" },
	{ "UMask", UNIT_BOTH, "u", "63" },
	{ "KeyringMode", UNIT_BOTH, "s", "'private'" },
	{ "NoNewPrivileges", UNIT_BOTH, "b", "true" },
	{ "CapabilityBoundingSet", UNIT_SYSTEM, "t", "0" },
	{ "AmbientCapabilities", UNIT_SYSTEM, "t", "0" },
	{ "RestrictSUIDSGID", UNIT_SYSTEM, "b", "true" },
	{ "LockPersonality", UNIT_BOTH, "b", "true" },
	{ "RestrictRealtime", UNIT_BOTH, "b", "true" },
	{ "MemoryDenyWriteExecute", UNIT_BOTH, "b", "true" },
	{ "RestrictNamespaces", UNIT_BOTH, "t", NAMESPACES },
	{ "SystemCallArchitectures", UNIT_BOTH, "as", "['native']" },
	{ "SystemCallFilter", UNIT_BOTH, "(bas)", "(true, ['@system-service', '@mount'])" },
	{ "SystemCallErrorNumber", UNIT_BOTH, "i", "1" },
	{ "RestrictAddressFamilies", UNIT_BOTH, "(bas)",
	  "(true, ['AF_UNIX', 'AF_INET', 'AF_INET6', 'AF_NETLINK'])" },

	{ "ProtectSystem", UNIT_SYSTEM, "s", "'strict'" },
	{ "ProtectHome", UNIT_SYSTEM, "s", "'yes'" },
	{ "PrivateTmp", UNIT_SYSTEM, "b", "true" },
	{ "PrivateDevices", UNIT_SYSTEM, "b", "true" },
	{ "PrivateIPC", UNIT_SYSTEM, "b", "true" },
	{ "ProtectProc", UNIT_SYSTEM, "s", "'invisible'" },
	{ "ProtectKernelModules", UNIT_SYSTEM, "b", "true" },
	{ "ProtectKernelLogs", UNIT_SYSTEM, "b", "true" },
	{ "ProtectClock", UNIT_SYSTEM, "b", "true" },
	{ "ProtectControlGroups", UNIT_SYSTEM, "b", "true" },

	{ "LimitCORE", UNIT_BOTH, "t", "0" },
	{ "TasksMax", UNIT_BOTH, "t", "16" },
	{ "CPUAccounting", UNIT_BOTH, "b", "true" },
	{ "MemoryAccounting", UNIT_BOTH, "b", "true" },
};

const struct companion_kind companion_passt = {
	.name = "passt",
	.description = "Network",
	.properties = properties,
	.n_properties = ARRAY_SIZE(properties),
	.settle_usec = 100000, /* it binds its ports first of all */
};

static void add_forwards(GPtrArray *argv, const char *option, char *const *forwards)
{
	for (size_t i = 0; forwards && forwards[i]; i++) {
		g_ptr_array_add(argv, g_strdup(option));
		g_ptr_array_add(argv, g_strdup(forwards[i]));
	}
}

char **passt_arguments(const char *program, const struct net_config *net)
{
	static const char *const always[] = { "--foreground", "--quiet", "--stderr",
					      "--no-map-gw",  "--fd",    "0" };
	GPtrArray *argv = g_ptr_array_new();

	g_ptr_array_add(argv, g_strdup(program));
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		g_ptr_array_add(argv, g_strdup(always[i]));
	if (net->mtu) {
		g_ptr_array_add(argv, g_strdup("--mtu"));
		g_ptr_array_add(argv, g_strdup_printf("%u", net->mtu));
	}
	add_forwards(argv, "--tcp-ports", net->forward_tcp);
	add_forwards(argv, "--udp-ports", net->forward_udp);
	g_ptr_array_add(argv, NULL);
	return (char **)g_ptr_array_free(argv, FALSE);
}

int passt_open(const struct net_config *net, int *ret_fd, struct companion *ret, struct err *err)
{
	const char *program = companion_find_program(programs, ARRAY_SIZE(programs));
	int pair[2], peer;

	if (!program)
		return err_fault(err, FAULT_HOST_RESOURCE, ENOENT,
				 "there is no '%s': install passt, or use a tap", programs[0]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, errno, "cannot make a socket for passt");
	peer = fd_dup(pair[0]);
	if (peer < 0) {
		close(pair[0]);
		close(pair[1]);
		return err_errno(err, -peer, "cannot duplicate a socket for passt");
	}
	*ret_fd = pair[0];
	*ret = (struct companion){
		.kind = &companion_passt,
		.id = g_strdup(net->pci.id),
		.argv = passt_arguments(program, net),
		.fd = pair[1],
		.peer_fd = peer,
	};
	return 0;
}
