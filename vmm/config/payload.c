/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `payload`: the kernel or firmware that a machine starts
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

static const char *const protocol_names[BOOT_PROTOCOL_N_] = {
	[BOOT_PROTOCOL_AUTO] = "Auto",
	[BOOT_PROTOCOL_PVH] = "Pvh",
	[BOOT_PROTOCOL_BZIMAGE] = "BzImage",
};
static const struct config_names protocols = { protocol_names, BOOT_PROTOCOL_N_, NULL };

const char *boot_protocol_to_string(enum boot_protocol protocol)
{
	return protocol < BOOT_PROTOCOL_N_ ? protocol_names[protocol] : NULL;
}

int boot_protocol_from_string(const char *s, enum boot_protocol *ret)
{
	for (unsigned int i = 0; i < BOOT_PROTOCOL_N_; i++) {
		if (strcmp(s, protocol_names[i]) == 0) {
			*ret = (enum boot_protocol)i;
			return 0;
		}
	}
	return -EINVAL;
}

static const struct config_field payload_fields[] = {
	{ .key = "firmware",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct payload_config, firmware),
	  .check = check_path,
	  .resource = RESOURCE_FILE_READ,
	  .arg = "PATH",
	  .doc = "firmware to start, instead of a kernel: ELF with a PVH note, such as CLOUDHV.fd "
		 "(UEFI)" },
	{ .key = "kernel",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct payload_config, kernel),
	  .check = check_path,
	  .resource = RESOURCE_FILE_READ,
	  .arg = "PATH",
	  .doc = "kernel to start: bzImage, or ELF with a PVH note" },
	{ .key = "initramfs",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct payload_config, initramfs),
	  .check = check_path,
	  .resource = RESOURCE_FILE_READ,
	  .arg = "PATH",
	  .doc = "initial RAM file system for the kernel" },
	{ .key = "cmdline",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct payload_config, cmdline),
	  .check = check_cmdline,
	  .arg = "TEXT",
	  .doc = "command line of the kernel" },
	{ .key = "boot_protocol",
	  .option = "boot-protocol",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct payload_config, boot_protocol),
	  .def = BOOT_PROTOCOL_AUTO,
	  .names = &protocols,
	  .doc = "how a kernel is entered; auto: by PVH where it can be, for which a bzImage is "
		 "unpacked by the host (fast, but the kernel is not moved to a random address); "
		 "bzimage: it unpacks itself in the guest, with KASLR" },
	{ .key = "igvm", .kind = CONFIG_LATER },
	{ .key = "host_data", .kind = CONFIG_LATER },
	{ .key = "fw_cfg_config",
	  .option = "fw-cfg-config",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct payload_config, fw_cfg),
	  .present = offsetof(struct payload_config, has_fw_cfg),
	  .table = &fw_cfg_table,
	  .arg = "KEY=VALUE[,KEY=VALUE]...",
	  .doc = "QEMU's fw_cfg device, with files for firmware and guest" },
};
const struct config_table payload_table = {
	.name = "Payload",
	.doc = "What the machine starts: a kernel, or a firmware.  As options, each of these keys "
	       "is an option of its own.",
	.fields = payload_fields,
	.n_fields = ARRAY_SIZE(payload_fields),
	.size = sizeof(struct payload_config),
};

static int check_start(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct payload_config *payload = &config->payload;

	if (!payload->kernel && !payload->firmware)
		return config_error(err, "/payload: names nothing to start, must have 'kernel' or "
					 "'firmware'");
	if (payload->kernel && payload->firmware)
		return config_error(err,
				    "/payload/firmware: cannot be had with /payload/kernel, must "
				    "be one of them");
	return 0;
}

/* With both, check_start() speaks, and it is not known which of them is wrong. */
static bool starts_firmware(const struct vm_config *config)
{
	return config->payload.firmware && !config->payload.kernel;
}

static int check_protocol(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	if (!starts_firmware(config) || config->payload.boot_protocol != BOOT_PROTOCOL_BZIMAGE)
		return 0;
	return config_error(err, "/payload/boot_protocol: 'BzImage' is for a kernel, a "
				 "firmware needs 'Auto' or 'Pvh'");
}

static int check_initramfs(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	if (!starts_firmware(config) || !config->payload.initramfs)
		return 0;
	return config_error(err, "/payload/initramfs: has no effect with a firmware, needs "
				 "/payload/kernel");
}

static int check_has_kernel(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	if (!starts_firmware(config) || !config->payload.cmdline)
		return 0;
	return config_error(err, "/payload/cmdline: has no effect with a firmware, needs "
				 "/payload/kernel");
}

static const struct config_rule rules[] = {
	{ check_start, { "payload" } },
	{ check_protocol, { "payload" } },
	{ check_initramfs, { "payload" } },
	{ check_has_kernel, { "payload" } },
};
const struct config_rules payload_rules = CONFIG_RULES(rules, NULL);
