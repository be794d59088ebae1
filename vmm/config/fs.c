/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `fs`: directories of the host that the guest mounts
 */
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define TAG_MAX 36 /* bytes: virtio 1.3, 5.11.4 */

static const char *check_tag(const char *s)
{
	size_t len = strlen(s);

	return len > 0 && len <= TAG_MAX ? NULL : "is no tag, must have 1 to 36 bytes";
}

static const struct config_field fs_fields[] = {
	{ .key = "tag",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct fs_config, tag),
	  .check = check_tag,
	  .arg = "TAG",
	  .doc = "the name that the guest mounts: mount -t virtiofs TAG DIRECTORY" },
	{ .key = "socket",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct fs_config, socket),
	  .check = check_path,
	  .resource = RESOURCE_FS_SOCKET,
	  .arg = "PATH",
	  .doc = "socket at which a virtiofsd listens" },
	{ .key = "source",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct fs_config, source),
	  .check = check_path,
	  .resource = RESOURCE_FS_SOURCE,
	  .arg = "DIRECTORY",
	  .doc = "directory that a virtiofsd of the daemon's shares, instead of socket" },
	{ .key = "num_queues",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct fs_config, num_queues),
	  .def = 1,
	  .min = 1,
	  .max = VM_FS_QUEUES_MAX,
	  .arg = "COUNT",
	  .doc = "request queues, at most boot_vcpus" },
	{ .key = "queue_size",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct fs_config, queue_size),
	  .def = 1024,
	  .min = 4,
	  .max = 1024,
	  .arg = "COUNT",
	  .doc = "descriptors in a queue, a power of two" },
	CONFIG_PCI_FIELDS(struct fs_config),
};
const struct config_table fs_table = {
	.name = "File system",
	.doc = "A virtio-fs device: a directory of the host. Needs memory that is shared or of huge "
	       "pages. May be given several times.",
	.fields = fs_fields,
	.n_fields = ARRAY_SIZE(fs_fields),
	.size = sizeof(struct fs_config),
};

static int check_backend(const struct vm_config *config, size_t i, struct err *err)
{
	const struct fs_config *fs = &config->fs[i];

	if (!fs->socket && !fs->source)
		return config_error(err, "/fs/%zu: has neither source nor socket, must have one",
				    i);
	if (fs->socket && fs->source)
		return config_error(
			err,
			"/fs/%zu/source: has no effect with /fs/%zu/socket, must be the "
			"only one of them",
			i, i);
	return 0;
}

static int check_tag_unique(const struct vm_config *config, size_t i, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t j = 0; j < i; j++)
		if (g_strcmp0(config->fs[i].tag, config->fs[j].tag) == 0)
			return config_error(err,
					    "/fs/%zu/tag: %s is /fs/%zu's too, must be another", i,
					    config_quote(config->fs[i].tag, quoted), j);
	return 0;
}

static int check_queues(const struct vm_config *config, size_t i, struct err *err)
{
	if (config->fs[i].num_queues > config->cpus.boot_vcpus)
		return config_error(
			err,
			"/fs/%zu/num_queues: %u is more than /cpus/boot_vcpus, must be at "
			"most %u",
			i, config->fs[i].num_queues, config->cpus.boot_vcpus);
	return check_queue_size("fs", i, config->fs[i].queue_size, 1024, err);
}

/* The back end maps it. */
static int check_memory(const struct vm_config *config, size_t i, struct err *err)
{
	const struct memory_config *memory = &config->memory;
	bool shared = memory->n_zones > 0 || memory->shared || memory->hugepages;

	for (size_t z = 0; z < memory->n_zones; z++)
		shared = shared && (memory->zones[z].shared || memory->zones[z].hugepages);
	if (shared)
		return 0;
	return config_error(
		err,
		"/fs/%zu: needs guest memory that virtiofsd can map, /memory/shared must "
		"be true",
		i);
}

static size_t count_fs(const struct vm_config *config)
{
	return config->n_fs;
}

static const struct config_rule rules[] = {
	{ check_backend, { "fs" } },
	{ check_tag_unique, { "fs" } },
	{ check_queues, { "fs", "cpus" } },
	{ check_memory, { "fs", "memory" } },
};
const struct config_rules fs_rules = CONFIG_RULES(rules, count_fs);
