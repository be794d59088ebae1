/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `disks`: virtio block devices and the images behind them
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define HOST_CPU_MAX 8191 /* CONFIG_NR_CPUS of Debian's kernel, minus one */

static const char *const image_type_names[IMAGE_TYPE_N_] = {
	[IMAGE_TYPE_UNKNOWN] = "Unknown", [IMAGE_TYPE_RAW] = "Raw",   [IMAGE_TYPE_QCOW2] = "Qcow2",
	[IMAGE_TYPE_VHD] = "Vhd",         [IMAGE_TYPE_VHDX] = "Vhdx",
};
static const char *const image_type_also[IMAGE_TYPE_N_] = { "unknown", "raw", "qcow2", "vhd",
							    "vhdx" };
static const char *const image_type_later[] = { "Vmdk", "vmdk", NULL };
static const struct config_names image_types = { image_type_names, IMAGE_TYPE_N_, image_type_later,
						 image_type_also };

static const char *const lock_granularity_names[LOCK_GRANULARITY_N_] = {
	[LOCK_GRANULARITY_BYTE_RANGE] = "ByteRange",
	[LOCK_GRANULARITY_FULL] = "Full",
};
static const char *const lock_granularity_also[LOCK_GRANULARITY_N_] = { "byte-range", "full" };
static const struct config_names lock_granularities = { lock_granularity_names, LOCK_GRANULARITY_N_,
							NULL, lock_granularity_also };

static const struct config_field affinity_fields[] = {
	{ .key = "queue_index",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct queue_affinity, queue_index),
	  .min = 0,
	  .max = VM_DISK_QUEUES_MAX - 1,
	  .arg = "QUEUE",
	  .doc = "number of the queue" },
	{ .key = "host_cpus",
	  .kind = CONFIG_UINTS,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct queue_affinity, host_cpus),
	  .count = offsetof(struct queue_affinity, n_host_cpus),
	  .max = HOST_CPU_MAX,
	  .list_max = HOST_CPU_MAX + 1,
	  .arg = "[HOSTCPU,...]",
	  .doc = "host CPUs its thread may run on" },
};
static const struct config_table affinity_table = {
	.name = "Queue affinity",
	.fields = affinity_fields,
	.n_fields = ARRAY_SIZE(affinity_fields),
	.size = sizeof(struct queue_affinity),
};

static const struct config_field disk_fields[] = {
	{ .key = "path",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED | CONFIG_RESOURCE,
	  CONFIG_AT(struct disk_config, path),
	  .check = check_path,
	  .resource = RESOURCE_DISK,
	  .arg = "PATH",
	  .doc = "image file or block device" },
	{ .key = "image_type",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct disk_config, image_type),
	  .names = &image_types,
	  .doc = "format of the image, which is never guessed: without it the image is raw and "
		 "must not look like another format; with raw it may, as a guest can write "
		 "anything into its disk" },
	{ .key = "readonly",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, readonly),
	  .doc = "refuse writes" },
	{ .key = "direct",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, direct),
	  .doc = "bypass the host's page cache (O_DIRECT)" },
	{ .key = "sparse",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, sparse),
	  .def = true,
	  .doc = "let the guest give storage back (discard); without it a raw image file is "
		 "allocated as a whole when the machine starts" },
	{ .key = "backing_files",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, backing_files),
	  .doc = "allow an image to have backing files, which it names itself: any file that "
		 "the machine's owner may open" },
	{ .key = "lock_granularity",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct disk_config, lock_granularity),
	  .names = &lock_granularities,
	  .doc = "what of the image is locked against other machines and programs: the bytes "
		 "it has when the machine starts, or all it may ever have" },
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
	  .doc = "serial number, up to 20 printable ASCII characters; without it the id" },
	CONFIG_PCI_FIELDS(struct disk_config),
	CONFIG_VHOST_USER_LATER,
	CONFIG_RATE_FIELDS(struct disk_config, "", limit, has_limit, "reads and writes together"),
	{ .key = "rate_limit_group",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct disk_config, rate_limit_group),
	  .check = check_id,
	  .arg = "ID",
	  .doc = "the rate limit group whose limit it shares" },
	{ .key = "queue_affinity",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct disk_config, queue_affinity),
	  .count = offsetof(struct disk_config, n_queue_affinity),
	  .table = &affinity_table,
	  .list_max = VM_DISK_QUEUES_MAX,
	  .def_text = "every host CPU",
	  .arg = "[QUEUE@[HOSTCPU,...],...]",
	  .doc = "host CPUs that the thread of a queue may run on" },
	{ .key = "disable_io_uring",
	  .option = "_disable_io_uring",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, disable_io_uring),
	  .doc = "do without io_uring, for tests" },
	{ .key = "disable_aio",
	  .option = "_disable_aio",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct disk_config, disable_aio),
	  .doc = "do without Linux AIO, for tests" },
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

static int check_queue_affinity(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];

	for (size_t j = 0; j < disk->n_queue_affinity; j++) {
		const struct queue_affinity *a = &disk->queue_affinity[j];

		if (a->queue_index >= disk->num_queues)
			return config_error(err,
					    "/disks/%zu/queue_affinity/%zu/queue_index: %u is not "
					    "below num_queues, must be at most %u",
					    i, j, a->queue_index, disk->num_queues - 1);
		if (a->n_host_cpus == 0)
			return config_error(err,
					    "/disks/%zu/queue_affinity/%zu/host_cpus: is empty, "
					    "must name at least one CPU",
					    i, j);
		for (size_t k = 0; k < j; k++)
			if (disk->queue_affinity[k].queue_index == a->queue_index)
				return config_error(err,
						    "/disks/%zu/queue_affinity/%zu/queue_index: "
						    "queue %u is in entry %zu too, must be unique",
						    i, j, a->queue_index, k);
	}
	return 0;
}

/* A format that is nothing but the bytes names no other file. */
static int check_backing_files(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];

	if (!disk->backing_files || disk->image_type == IMAGE_TYPE_QCOW2)
		return 0;
	return config_error(err,
			    "/disks/%zu/backing_files: only images of image_type Qcow2 have "
			    "backing files, must be false",
			    i);
}

/* A descriptor says nothing about where a name in the image is to be looked for. */
static int check_backing_fd(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *disk = &config->disks[i];

	if (!disk->backing_files || !vm_config_fd_name(disk->path))
		return 0;
	return config_error(err,
			    "/disks/%zu/backing_files: an image given as a descriptor cannot have "
			    "backing files, must be false or path a path",
			    i);
}

static size_t count_disks(const struct vm_config *config)
{
	return config->n_disks;
}

static const struct config_rule rules[] = {
	{ check_queues, { "disks", "cpus" } },
	{ check_size, { "disks" } },
	{ check_queue_affinity, { "disks" } },
	{ check_backing_files, { "disks" } },
	{ check_backing_fd, { "disks" } },
	{ check_disk_rate_limit, { "disks" } },
	{ check_disk_rate_limit_group, { "disks", "rate_limit_groups" } },
	{ check_shared_path, { "disks" } },
};
const struct config_rules disk_rules = CONFIG_RULES(rules, count_disks);

const char *image_type_to_string(enum image_type type)
{
	return type < IMAGE_TYPE_N_ ? image_type_names[type] : NULL;
}

int image_type_from_string(const char *s, enum image_type *ret)
{
	for (size_t i = 0; i < IMAGE_TYPE_N_; i++) {
		if (strcmp(s, image_type_names[i]) == 0) {
			*ret = (enum image_type)i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *lock_granularity_to_string(enum lock_granularity granularity)
{
	return granularity < LOCK_GRANULARITY_N_ ? lock_granularity_names[granularity] : NULL;
}

int lock_granularity_from_string(const char *s, enum lock_granularity *ret)
{
	for (size_t i = 0; i < LOCK_GRANULARITY_N_; i++) {
		if (strcmp(s, lock_granularity_names[i]) == 0) {
			*ret = (enum lock_granularity)i;
			return 0;
		}
	}
	return -EINVAL;
}
