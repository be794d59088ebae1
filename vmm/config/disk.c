/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `disks`: virtio block devices and the images behind them
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

static const struct config_field disk_fields[] = {
	{ .key = "path",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED | CONFIG_RESOURCE,
	  CONFIG_AT(struct disk_config, path),
	  .check = check_path,
	  .resource = RESOURCE_DISK,
	  .arg = "PATH",
	  .doc = "raw image file or block device" },
	{ .key = "readonly",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, readonly),
	  .doc = "refuse writes" },
	{ .key = "direct",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, direct),
	  .doc = "bypass the host's page cache (O_DIRECT)" },
	{ .key = "num_queues",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct disk_config, num_queues),
	  .def = 1,
	  .min = 1,
	  .max = VM_DISK_QUEUES_MAX,
	  .arg = "COUNT",
	  .doc = "request queues, at most boot_vcpus" },
	{ .key = "queue_size",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct disk_config, queue_size),
	  .def = 128,
	  .min = 4,
	  .max = 1024,
	  .arg = "COUNT",
	  .doc = "descriptors in a queue, a power of two" },
	{ .key = "serial",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct disk_config, serial),
	  .check = check_disk_serial,
	  .arg = "TEXT",
	  .doc = "serial number, up to 20 bytes; without it the id" },
	CONFIG_PCI_FIELDS(struct disk_config),
	CONFIG_VHOST_USER_LATER,
	CONFIG_RATE_LATER,
	{ .key = "rate_limit_group", .kind = CONFIG_LATER },
	{ .key = "queue_affinity", .kind = CONFIG_LATER },
	{ .key = "backing_files", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "sparse", .kind = CONFIG_LATER, .harmless = "true" },
	{ .key = "image_type", .kind = CONFIG_LATER, .harmless = "Raw|raw" },
	{ .key = "lock_granularity", .kind = CONFIG_LATER, .harmless = "ByteRange|byte-range" },
	{ .key = "disable_io_uring",
	  .option = "_disable_io_uring",
	  .kind = CONFIG_LATER,
	  .harmless = "false" },
	{ .key = "disable_aio",
	  .option = "_disable_aio",
	  .kind = CONFIG_LATER,
	  .harmless = "false" },
};
const struct config_table disk_table = {
	.name = "Disk",
	.doc = "A virtio block device; may be given several times.",
	.fields = disk_fields,
	.n_fields = ARRAY_SIZE(disk_fields),
	.size = sizeof(struct disk_config),
};

/* Two guests' file systems on one image, or one twice, destroy it. */
static int check_shared_path(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];
	g_autofree char *path = g_canonicalize_filename(disk->path, "/");
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t j = 0; j < i; j++) {
		const struct disk_config *other = &config->disks[j];
		g_autofree char *other_path = g_canonicalize_filename(other->path, "/");

		if (strcmp(path, other_path) == 0 && !(disk->readonly && other->readonly))
			return config_error(
				err,
				"/disks/%zu/path: %s is /disks/%zu too, must be read-only "
				"in both",
				i, config_quote(disk->path, quoted), j);
	}
	return 0;
}

static int check_queues(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];

	if (disk->num_queues <= config->cpus.boot_vcpus)
		return 0;
	return config_error(
		err, "/disks/%zu/num_queues: %u is more than /cpus/boot_vcpus, must be at most %u",
		i, disk->num_queues, config->cpus.boot_vcpus);
}

static int check_size(const struct vm_config *config, size_t i, struct err *err)
{
	return check_queue_size("disks", i, config->disks[i].queue_size, 128, err);
}

static size_t count_disks(const struct vm_config *config)
{
	return config->n_disks;
}

static const struct config_rule rules[] = {
	{ check_queues, { "disks", "cpus" } },
	{ check_size, { "disks" } },
	{ check_shared_path, { "disks" } },
};
const struct config_rules disk_rules = CONFIG_RULES(rules, count_disks);
