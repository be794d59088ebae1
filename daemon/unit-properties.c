/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every worker unit gets, as one table
 *
 * Values are GVariant texts.  The user manager of systemd 252 refuses or
 * ignores some directives; those have no USER mark.  What depends
 * on the VM is added by functions below the table.
 *
 * RootDirectory is an empty directory of the daemon, not TemporaryFileSystem=/,
 * which systemd drops silently next to ProtectSystem=strict.  Of the host the
 * worker sees its own executable and the C library's directory, readonly.
 */
#include "daemon/spawner.h"
#include "daemon/unit.h"
#include "dbus/resource-properties.h"
#include "dbus/variant.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

enum {
	SYSTEM = UNIT_SYSTEM,
	BOTH = UNIT_BOTH,
	USER = UNIT_USER,
};

static const struct unit_property properties[] = {
	{ "CollectMode", BOTH, "s", "'inactive'" },
	{ "AddRef", BOTH, "b", "true" },
	{ "Documentation", BOTH, "as", "['man:brumed(8)']" },

	/* start */
	{ "Type", BOTH, "s", "'notify'" },
	{ "NotifyAccess", BOTH, "s", "'main'" },
	{ "StandardOutput", BOTH, "s", "'journal'" },
	{ "StandardError", BOTH, "s", "'journal'" },
	{ "SyslogIdentifier", BOTH, "s", "'brume-vmm'" },
	{ "LogRateLimitIntervalUSec", BOTH, "t", "30000000" },
	{ "LogRateLimitBurst", BOTH, "u", "1000" },
	{ "After", SYSTEM, "as", "['brumed.service', 'network.target', 'remote-fs.target']" },
	{ "After", USER, "as", "['brumed.service']" },
	{ "Before", SYSTEM, "as", "['machines.target']" },
	{ "TimeoutStartUSec", BOTH, "t", "90000000" },

	/* stop: SIGTERM is the power button, so this bounds the host's shutdown */
	{ "KillMode", BOTH, "s", "'mixed'" },
	{ "KillSignal", BOTH, "i", "15" },
	{ "FinalKillSignal", BOTH, "i", "9" },
	{ "SendSIGKILL", BOTH, "b", "true" },
	{ "TimeoutStopUSec", BOTH, "t", "90000000" },
	{ "TimeoutStopFailureMode", BOTH, "s", "'kill'" },
	{ "SuccessExitStatus", BOTH, "(aiai)", "([], [15])" },
	{ "Restart", BOTH, "s", "'no'" },
	{ "ExitType", BOTH, "s", "'main'" },
	{ "WatchdogUSec", BOTH, "t", "30000000" },
	{ "WatchdogSignal", BOTH, "i", "6" },

	/* user: one of its own for each VM, so VMs cannot signal or trace each other */
	{ "DynamicUser", SYSTEM, "b", "true" },
	{ "PrivateUsers", BOTH, "b", "true" },
	{ "UMask", BOTH, "u", "63" },
	{ "KeyringMode", BOTH, "s", "'private'" },
	{ "RemoveIPC", SYSTEM, "b", "true" },

	/* privileges */
	{ "NoNewPrivileges", BOTH, "b", "true" },
	{ "CapabilityBoundingSet", SYSTEM, "t", "0" },
	{ "AmbientCapabilities", SYSTEM, "t", "0" },
	{ "RestrictSUIDSGID", BOTH, "b", "true" },
	{ "LockPersonality", BOTH, "b", "true" },
	{ "RestrictRealtime", BOTH, "b", "true" },
	{ "MemoryDenyWriteExecute", BOTH, "b", "true" },
	{ "RestrictNamespaces", BOTH, "t", "0" },
	{ "SystemCallArchitectures", BOTH, "as", "['native']" },
	/* seccomp(2) is for the worker's own, tighter filters; libseccomp prefers it to prctl(2) */
	{ "SystemCallFilter", BOTH, "(bas)", "(true, ['@system-service', 'seccomp'])" },
	{ "SystemCallFilter", BOTH, "(bas)", "(false, ['@setuid', '@chown', '@keyring'])" },
	{ "SystemCallErrorNumber", BOTH, "i", "1" },
	/* not "none": sd_notify() needs a socket */
	{ "RestrictAddressFamilies", BOTH, "(bas)", "(true, ['AF_UNIX'])" },

	/* file system */
	{ "ProtectSystem", BOTH, "s", "'strict'" },
	/* hides /run/user, too, where the user manager's notification socket is */
	{ "ProtectHome", SYSTEM, "s", "'yes'" },
	{ "PrivateTmp", BOTH, "b", "true" },
	{ "PrivateMounts", BOTH, "b", "true" },
	{ "ProtectProc", BOTH, "s", "'invisible'" },
	{ "ProcSubset", BOTH, "s", "'pid'" },
	{ "ProtectKernelModules", BOTH, "b", "true" },
	{ "ProtectClock", BOTH, "b", "true" },
	{ "ProtectHostname", BOTH, "b", "true" },

	/*
	 * Names of control groups would tell which other machines run, the rest what
	 * the host is made of.  "+" is below RootDirectory; without it this does nothing.
	 */
	{ "InaccessiblePaths", SYSTEM, "as", "['+/sys']" },

	/* devices and network: everything comes as a descriptor */
	{ "PrivateDevices", BOTH, "b", "true" },
	{ "DevicePolicy", SYSTEM, "s", "'strict'" },
	{ "DeviceAllow", SYSTEM, "a(ss)", "[]" },
	{ "PrivateNetwork", BOTH, "b", "true" },
	{ "PrivateIPC", BOTH, "b", "true" },
	{ "IPAddressDeny", SYSTEM, "a(iayu)",
	  "[(2, [0x00, 0x00, 0x00, 0x00], 0),"
	  " (10, [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,"
	  "       0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00], 0)]" },

	/* limits */
	{ "LimitNOFILE", BOTH, "t", "65536" },
	{ "LimitCORE", BOTH, "t", "0" },
	{ "CoredumpFilter", BOTH, "t", "49" },

	/* control group */
	{ "CPUAccounting", BOTH, "b", "true" },
	{ "MemoryAccounting", BOTH, "b", "true" },
	{ "TasksAccounting", BOTH, "b", "true" },
	{ "IOAccounting", SYSTEM, "b", "true" },
	{ "OOMPolicy", BOTH, "s", "'stop'" },
	{ "ManagedOOMPreference", SYSTEM, "s", "'avoid'" },
};

/*
 * Left out: ProtectKernelTunables, ProtectKernelLogs and ProtectControlGroups.
 * They make paths readonly or hide them that a worker cannot use anyway: its
 * /proc has processes only (ProcSubset), its /sys nothing (which costs no time: it
 * is one mount instead of eight), and reading the kernel's log needs a uid or
 * capabilities that it does not have.  Their dozen mounts cost 10 of the 47 ms of a start, more
 * than all other directives (PrivateNetwork included) could be seen to cost.
 */

/* Directories of the C library, and loaders outside of them; those that exist are bound. */
static const char *const library_paths[] = {
	"/usr/lib64",
	"/usr/lib/x86_64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu",
	"/usr/lib/ld-linux-aarch64.so.1",
};

/* Guest RAM is locked only with pass-through devices; tables and rings are below this. */
#define MEMLOCK_EXTRA (64ULL << 20)

int unit_append_table(sd_bus_message *m, const struct unit_property *table, size_t n, bool user,
		      GVariant *given)
{
	int scope = user ? UNIT_USER : UNIT_SYSTEM, r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		const struct unit_property *p = &table[i];
		g_autoptr(GVariant) value = NULL;
		g_autoptr(GVariantType) type = g_variant_type_new(p->type);

		/* systemd would take the later of two; one is easier to read in the unit's file. */
		if (!(p->scopes & scope) || resource_properties_have(given, p->name))
			continue;
		value = g_variant_parse(type, p->value, NULL, NULL, NULL);
		if (!value)
			return -EINVAL;
		r = sd_bus_message_open_container(m, 'r', "sv");
		if (r >= 0)
			r = sd_bus_message_append(m, "s", p->name);
		if (r >= 0)
			r = sd_bus_message_open_container(m, 'v', p->type);
		if (r >= 0)
			r = variant_append(m, value);
		if (r >= 0)
			r = sd_bus_message_close_container(m);
		if (r >= 0)
			r = sd_bus_message_close_container(m);
	}
	return r;
}

static int append_root(sd_bus_message *m, const char *worker_path, const char *runtime_dir)
{
	g_autofree char *root = g_strdup_printf("%s/root", runtime_dir);
	int r;

	r = sd_bus_message_append(m, "(sv)", "RootDirectory", "s", root);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "BindReadOnlyPaths");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "a(ssbt)");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(ssbt)");
	if (r >= 0)
		r = sd_bus_message_append(m, "(ssbt)", worker_path, worker_path, false,
					  (uint64_t)0);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(library_paths); i++)
		r = sd_bus_message_append(m, "(ssbt)", library_paths[i], library_paths[i], true,
					  (uint64_t)0);
	for (int i = 0; r >= 0 && i < 3; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

/* LogExtraFields aay */
int unit_append_log_field(sd_bus_message *m, const char *vm)
{
	g_autofree char *field = g_strdup_printf("BRUME_VM=%s", vm);
	int r;

	r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "LogExtraFields");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "aay");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "ay");
	if (r >= 0)
		r = sd_bus_message_append_array(m, 'y', field, strlen(field));
	for (int i = 0; r >= 0 && i < 3; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

static int append_vm(sd_bus_message *m, const char *worker_path, const struct spawn_params *params)
{
	g_autofree char *description = g_strdup_printf("Virtual machine %s", params->name);
	uint64_t memlock = params->memory + MEMLOCK_EXTRA;
	int r;

	r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)", "Description", "s", description,
				  "Slice", "s", params->slice, "ExecStart", "a(sasb)", 1,
				  worker_path, 1, worker_path, false, "StandardInputFileDescriptor",
				  "h", params->control_fd, "LimitMEMLOCK", "t", memlock);
	if (r >= 0 && !resource_properties_have(params->properties, "TasksMax"))
		r = sd_bus_message_append(m, "(sv)", "TasksMax", "t", params->tasks);
	return r < 0 ? r : unit_append_log_field(m, params->name);
}

static int append_given(sd_bus_message *m, const struct spawn_params *params)
{
	size_t n = params->properties ? g_variant_n_children(params->properties) : 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		g_autoptr(GVariant) property = g_variant_get_child_value(params->properties, i);

		r = variant_append(m, property);
	}
	return r;
}

int unit_append_properties(sd_bus_message *m, const char *worker_path, const char *runtime_dir,
			   bool user, const struct spawn_params *params, struct err *err)
{
	int r;

	r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = append_vm(m, worker_path, params);
	if (r >= 0)
		r = unit_append_table(m, properties, ARRAY_SIZE(properties), user,
				      params->properties);
	if (r >= 0)
		r = append_root(m, worker_path, runtime_dir);
	if (r >= 0)
		r = append_given(m, params);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? err_errno(err, -r, "cannot describe the unit of VM '%s'", params->name) : 0;
}
