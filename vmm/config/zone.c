/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `memory.zones`: RAM in parts, each with a backing of its own
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define ZONE_SIZE_UNIT    (2 * MIB) /* so that a huge page of the guest's can be one of the host's */
#define ZONE_HOTPLUG_UNIT (128 * MIB)
#define HUGEPAGE_SIZE_MAX (16 * GIB)
#define HOST_NODE_MAX     1023

static const struct config_field zone_fields[] = {
	{ .key = "id",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct memory_zone_config, id),
	  .check = check_id,
	  .arg = "ID",
	  .doc = "name of the zone, unique in the machine" },
	{ .key = "size",
	  .kind = CONFIG_SIZE,
	  CONFIG_AT(struct memory_zone_config, size),
	  .def = 512 * MIB,
	  .def_text = "512M",
	  .arg = "BYTES",
	  .doc = "a multiple of 2 MiB" },
	{ .key = "file",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct memory_zone_config, file),
	  .check = check_path,
	  .resource = RESOURCE_MEMORY,
	  .arg = "PATH",
	  .doc = "a file of the host that is the memory (shared), or that it begins with; a reset "
		 "does not empty it" },
	{ .key = "shared",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_zone_config, shared),
	  .doc = "memory that another process can map" },
	{ .key = "hugepages",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_zone_config, hugepages),
	  .doc = "take reserved huge pages" },
	{ .key = "hugepage_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_zone_config, hugepage_size),
	  .def_text = "the host's default",
	  .arg = "BYTES",
	  .doc = "size of one huge page; needs hugepages" },
	{ .key = "host_numa_node",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct memory_zone_config, host_numa_node),
	  .present = offsetof(struct memory_zone_config, has_host_numa_node),
	  .max = HOST_NODE_MAX,
	  .arg = "NODE",
	  .doc = "node of the host whose memory it is, and no other's" },
	{ .key = "prefault",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_zone_config, prefault),
	  .doc = "touch all pages before the guest starts" },
	{ .key = "reserve",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_zone_config, reserve),
	  .doc = "make the start fail when the host could not back all pages" },
	{ .key = "mergeable",
	  .kind = CONFIG_BOOL,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct memory_zone_config, mergeable),
	  .present = offsetof(struct memory_zone_config, has_mergeable),
	  .def_text = "that of memory",
	  .doc = "let the host merge equal pages (KSM); not with shared, hugepages or file" },
	{ .key = "hotplug_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_zone_config, hotplug_size),
	  .arg = "BYTES",
	  .doc = "how much more the zone can be given while the machine runs; a multiple of 128 MiB; "
		 "needs memory's hotplug_method virtio-mem" },
	{ .key = "hotplugged_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_zone_config, hotplugged_size),
	  .arg = "BYTES",
	  .doc = "how much of that the guest is to have from its start on" },
};
const struct config_table zone_table = {
	.name = "Memory zone",
	.doc = "A part of the guest's RAM with a backing of its own.",
	.fields = zone_fields,
	.n_fields = ARRAY_SIZE(zone_fields),
	.size = sizeof(struct memory_zone_config),
};

bool memory_zone_size_suits(uint64_t size)
{
	return size > 0 && size % ZONE_SIZE_UNIT == 0;
}

uint64_t memory_config_size(const struct memory_config *memory)
{
	uint64_t size = memory->size;

	for (size_t i = 0; i < memory->n_zones; i++)
		if (__builtin_add_overflow(size, memory->zones[i].size, &size))
			return UINT64_MAX;
	return size;
}

uint64_t memory_config_hotplug_size(const struct memory_config *memory)
{
	uint64_t size = memory->hotplug_size;

	for (size_t i = 0; i < memory->n_zones; i++)
		if (__builtin_add_overflow(size, memory->zones[i].hotplug_size, &size))
			return UINT64_MAX;
	return size;
}

/* No more than can come, which has been checked. */
uint64_t memory_config_hotplugged_size(const struct memory_config *memory)
{
	uint64_t size = memory->hotplugged_size;

	for (size_t i = 0; i < memory->n_zones; i++)
		size += memory->zones[i].hotplugged_size;
	return size;
}

int memory_config_find_zone(const struct memory_config *memory, const char *id)
{
	for (size_t i = 0; i < memory->n_zones; i++)
		if (strcmp(memory->zones[i].id, id) == 0)
			return (int)i;
	return -1;
}

bool memory_zone_is_mergeable(const struct memory_config *memory, size_t i)
{
	const struct memory_zone_config *zone = &memory->zones[i];

	return zone->has_mergeable ? zone->mergeable : memory->mergeable;
}

static int check_zone_size(const struct vm_config *config, size_t i, struct err *err)
{
	const struct memory_zone_config *zone = &config->memory.zones[i];
	uint64_t page = zone->hugepage_size;

	if (!memory_zone_size_suits(zone->size))
		return config_error(err,
				    "/memory/zones/%zu/size: %" PRIu64
				    " is not a multiple of 2 MiB (2097152) above 0",
				    i, zone->size);
	if (page && !zone->hugepages)
		return config_error(err,
				    "/memory/zones/%zu/hugepage_size: has no effect, needs "
				    "/memory/zones/%zu/hugepages",
				    i, i);
	if (page && (!is_pow2(page) || page < 64 * KIB || page > HUGEPAGE_SIZE_MAX))
		return config_error(err,
				    "/memory/zones/%zu/hugepage_size: %" PRIu64
				    " is not a page size, must be a power of two like 2097152",
				    i, page);
	if (page && zone->size % page)
		return config_error(err,
				    "/memory/zones/%zu/hugepage_size: %" PRIu64
				    " does not divide /memory/zones/%zu/size, must be smaller",
				    i, page, i);
	return 0;
}

static int check_zone_keys(const struct vm_config *config, size_t i, struct err *err)
{
	const struct memory_zone_config *zone = &config->memory.zones[i];

	if (zone->file && zone->hugepages)
		return config_error(err,
				    "/memory/zones/%zu/hugepages: cannot be had with a file, must "
				    "be false: a file on hugetlbfs is of huge pages",
				    i);
	if (zone->file && zone->shared && zone->has_host_numa_node)
		return config_error(err,
				    "/memory/zones/%zu/host_numa_node: cannot be had with a shared "
				    "file, whose pages may be there already, must be left out",
				    i);
	if (zone->has_mergeable && zone->mergeable &&
	    (zone->shared || zone->hugepages || zone->file))
		return config_error(err,
				    "/memory/zones/%zu/mergeable: cannot be had with %s, must be "
				    "false",
				    i,
				    zone->shared      ? "shared"
				    : zone->hugepages ? "hugepages"
						      : "a file");
	if (!zone->has_mergeable && config->memory.mergeable &&
	    (zone->shared || zone->hugepages || zone->file))
		return config_error(err,
				    "/memory/zones/%zu: is mergeable as /memory is, must have "
				    "mergeable false, or be neither shared nor of hugepages nor of "
				    "a file",
				    i);
	return 0;
}

static int check_zone_hotplug(const struct vm_config *config, size_t i, struct err *err)
{
	const struct memory_zone_config *zone = &config->memory.zones[i];
	uint64_t size = memory_config_size(&config->memory);
	uint64_t limit = memory_config_size_max(config->cpus.max_phys_bits);
	char pointer[CONFIG_POINTER_MAX];

	snprintf(pointer, sizeof(pointer), "/memory/zones/%zu", i);
	if (zone->hotplug_size % ZONE_HOTPLUG_UNIT)
		return config_error(err,
				    "%s/hotplug_size: %" PRIu64
				    " is not a multiple of 128 MiB (134217728)",
				    pointer, zone->hotplug_size);
	if (zone->hotplug_size && config->memory.hotplug_method != MEMORY_HOTPLUG_VIRTIO_MEM)
		return config_error(err,
				    "%s/hotplug_size: %" PRIu64
				    " has no effect, needs /memory/hotplug_method VirtioMem",
				    pointer, zone->hotplug_size);
	if (zone->hotplug_size && zone->hugepages)
		return config_error(err,
				    "%s/hugepages: cannot be had with hotplug_size, must be false: "
				    "blocks could not be given back",
				    pointer);
	if (size <= limit && memory_config_hotplug_size(&config->memory) > limit - size)
		return config_error(err,
				    "%s/hotplug_size: %" PRIu64
				    " does not fit %u address bits, all zones and what may come "
				    "must be at most %" PRIu64 " (or raise /cpus/max_phys_bits)",
				    pointer, zone->hotplug_size, config->cpus.max_phys_bits, limit);
	return memory_check_hotplugged(&config->memory, pointer, zone->hotplug_size,
				       zone->hotplugged_size, err);
}

static int check_zone_id(const struct vm_config *config, size_t i, struct err *err)
{
	const struct memory_zone_config *zones = config->memory.zones;

	for (size_t j = 0; j < i && zones[i].id; j++)
		if (g_strcmp0(zones[i].id, zones[j].id) == 0)
			return config_error(err,
					    "/memory/zones/%zu/id: '%s' is zone %zu's too, must be "
					    "unique",
					    i, zones[i].id, j);
	return 0;
}

static size_t count_zones(const struct vm_config *config)
{
	return config->memory.n_zones;
}

static const struct config_rule each_zone[] = {
	{ check_zone_size, { "memory" } },
	{ check_zone_keys, { "memory" } },
	{ check_zone_id, { "memory" } },
	{ check_zone_hotplug, { "memory" } },
};
const struct config_rules zone_rules = CONFIG_RULES(each_zone, count_zones);

/* What memory says of all RAM is said of each zone instead. */
static int check_zones_alone(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct memory_config *m = &config->memory;
	const char *key = m->shared          ? "shared"
			  : m->hugepages     ? "hugepages"
			  : m->hugepage_size ? "hugepage_size"
			  : m->prefault      ? "prefault"
			  : m->reserve       ? "reserve"
					     : NULL;

	if (m->n_zones == 0)
		return 0;
	if (m->size != 0)
		return config_error(err,
				    "/memory/size: %" PRIu64 " and /memory/zones cannot both be, "
				    "must be 0: the zones are all of the memory",
				    m->size);
	if (key)
		return config_error(err,
				    "/memory/%s: has no effect with /memory/zones, must be set for "
				    "each zone",
				    key);
	return 0;
}

static const struct config_rule all_zones[] = {
	{ check_zones_alone, { "memory" } },
};
const struct config_rules zones_rules = CONFIG_RULES(all_zones, NULL);
