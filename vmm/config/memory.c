/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `memory`: size of the guest's RAM and what the host backs it with
 */
#include <errno.h>
#include <inttypes.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/tables.h"

#define MEMORY_SIZE_MIN   (16 * MIB)
#define HUGEPAGE_SIZE_MAX (16 * GIB)
/* Below 4 GiB a quarter is devices' (arch/x86/layout.h), so RAM continues above. */
#define MEMORY_LOW_MAX (3 * GIB)
#define MEMORY_HOLE    (1 * GIB)
/* What must stay free above RAM: one unit of the 64-bit PCI window. */
#define MEMORY_PCI64_MIN (4 * GIB)
/* Pieces that Linux can bring in. */
#define HOTPLUG_UNIT (128 * MIB)
/* Of virtio-mem (vmm/virtio/mem.h). */
#define BLOCK_MIN  (2 * MIB)
#define BLOCKS_MAX 32768

static const char *const hotplug_method_names[MEMORY_HOTPLUG_METHOD_N_] = {
	[MEMORY_HOTPLUG_ACPI] = "Acpi",
	[MEMORY_HOTPLUG_VIRTIO_MEM] = "VirtioMem",
};
static const char *const hotplug_method_also[MEMORY_HOTPLUG_METHOD_N_] = { "acpi", "virtio-mem" };
static const struct config_names hotplug_methods = { hotplug_method_names, MEMORY_HOTPLUG_METHOD_N_,
						     NULL, hotplug_method_also };

static const struct config_field memory_fields[] = {
	{ .key = "size",
	  .kind = CONFIG_SIZE,
	  CONFIG_AT(struct memory_config, size),
	  .def = 512 * MIB,
	  .def_text = "512M",
	  .arg = "BYTES",
	  .doc = "RAM of the guest, a multiple of 1 MiB; 0: the zones are all of it" },
	{ .key = "mergeable",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, mergeable),
	  .doc = "let the host merge equal pages (KSM); not with shared" },
	{ .key = "shared",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, shared),
	  .doc = "memory that another process can map" },
	{ .key = "hugepages",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, hugepages),
	  .doc = "take reserved huge pages" },
	{ .key = "hugepage_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_config, hugepage_size),
	  .def_text = "the host's default",
	  .arg = "BYTES",
	  .doc = "size of one huge page; needs hugepages" },
	{ .key = "prefault",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, prefault),
	  .doc = "touch all pages before the guest starts" },
	{ .key = "reserve",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, reserve),
	  .doc = "make the start fail when the host could not back all pages" },
	{ .key = "thp",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct memory_config, thp),
	  .def = true,
	  .doc = "ask for transparent huge pages" },
	{ .key = "hotplug_method",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct memory_config, hotplug_method),
	  .def = MEMORY_HOTPLUG_ACPI,
	  .names = &hotplug_methods,
	  .doc = "acpi: memory comes as DIMMs, of which a guest of any kind knows, and stays; "
		 "virtio-mem: it comes and goes by blocks of 2 MiB or more, with a guest that has "
		 "the driver" },
	{ .key = "hotplug_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_config, hotplug_size),
	  .arg = "BYTES",
	  .doc = "how much more memory the running machine can be given; a multiple of 128 MiB; as "
		 "DIMMs in at most 8 pieces between two starts of the guest, and not with zones, "
		 "which have theirs" },
	{ .key = "hotplugged_size",
	  .kind = CONFIG_SIZE,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_config, hotplugged_size),
	  .arg = "BYTES",
	  .doc = "how much of that the guest is to have from its start on; virtio-mem only" },
	{ .key = "zones",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct memory_config, zones),
	  .count = offsetof(struct memory_config, n_zones),
	  .table = &zone_table,
	  .list_max = VM_MEMORY_ZONES_MAX,
	  .arg = "[id=ID@size=BYTES@KEY=VALUE...,...]",
	  .doc = "the RAM in parts, each with a backing of its own: id, size, file, shared, "
		 "hugepages, hugepage_size, host_numa_node, prefault, reserve and mergeable, with "
		 "the meaning they have for all of it" },
};
const struct config_table memory_table = {
	.name = "Memory",
	.doc = "The guest's RAM and what the host backs it with.",
	.fields = memory_fields,
	.n_fields = ARRAY_SIZE(memory_fields),
	.size = sizeof(struct memory_config),
};

/* Of zones one that is wrong is told of by its own rule (zone.c). */
static bool zones_are_wrong(const struct memory_config *memory)
{
	for (size_t i = 0; i < memory->n_zones; i++)
		if (!memory_zone_size_suits(memory->zones[i].size))
			return true;
	return false;
}

uint64_t memory_config_size_max(uint32_t max_phys_bits)
{
	return (1ULL << max_phys_bits) - MEMORY_HOLE - MEMORY_PCI64_MIN;
}

static int check_size(const struct vm_config *config, struct err *err)
{
	const struct memory_config *memory = &config->memory;
	const char *key = memory->n_zones ? "/memory/zones" : "/memory/size";
	uint64_t size = memory_config_size(memory), limit;

	if (zones_are_wrong(memory))
		return 0;
	if (size == 0)
		return config_error(err, "/memory/size: is 0 and there are no /memory/zones, must "
					 "be at least 16777216 (16 MiB)");
	if (size < MEMORY_SIZE_MIN)
		return config_error(err,
				    "%s: %" PRIu64
				    " bytes are too few, must be at least 16777216 (16 MiB)",
				    key, size);
	if (size % MIB)
		return config_error(err,
				    "/memory/size: %" PRIu64
				    " is not a multiple of 1 MiB (1048576), must be like %" PRIu64,
				    size, align_down(size, MIB));
	limit = memory_config_size_max(config->cpus.max_phys_bits);
	if (size > limit)
		return config_error(err,
				    "%s: %" PRIu64 "%s does not fit %u address bits, must be at "
				    "most %" PRIu64 " (or raise /cpus/max_phys_bits)",
				    key, size, memory->n_zones ? " in all" : "",
				    config->cpus.max_phys_bits, limit);
	return 0;
}

static int check_hugepages(const struct memory_config *memory, struct err *err)
{
	uint64_t page = memory->hugepage_size;

	if (!page)
		return 0;
	if (!memory->hugepages)
		return config_error(
			err, "/memory/hugepage_size: has no effect, needs /memory/hugepages");
	if (!is_pow2(page) || page < 64 * KIB || page > HUGEPAGE_SIZE_MAX)
		return config_error(err,
				    "/memory/hugepage_size: %" PRIu64
				    " is not a page size, must be a power of two like 2097152",
				    page);
	/* Low RAM ends at 3 GiB: a page larger than 1 GiB would reach over the hole. */
	if (memory->size % page || (memory->size > MEMORY_LOW_MAX && MEMORY_LOW_MAX % page))
		return config_error(err,
				    "/memory/hugepage_size: %" PRIu64
				    " does not divide /memory/size, must be smaller",
				    page);
	return 0;
}

static int check_hotplug(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct memory_config *memory = &config->memory;
	uint64_t size = memory->hotplug_size, limit;

	if (memory->n_zones && size)
		return config_error(err,
				    "/memory/hotplug_size: %" PRIu64
				    " cannot be had with /memory/zones, must be left out",
				    size);
	if (size % HOTPLUG_UNIT)
		return config_error(
			err,
			"/memory/hotplug_size: %" PRIu64
			" is not a multiple of 128 MiB (134217728), must be like %" PRIu64,
			size, (uint64_t)(align_down(size, HOTPLUG_UNIT) + HOTPLUG_UNIT));
	if (memory->hugepages && size && memory->hotplug_method == MEMORY_HOTPLUG_VIRTIO_MEM)
		return config_error(err,
				    "/memory/hugepages: cannot be had with hotplug_method "
				    "VirtioMem, must be false: blocks could not be given back");
	limit = memory_config_size_max(config->cpus.max_phys_bits);
	if (memory->size > limit || size > limit - memory->size)
		return config_error(
			err,
			"/memory/hotplug_size: %" PRIu64
			" and /memory/size do not fit %u address bits, together must be "
			"at most %" PRIu64 " (or raise /cpus/max_phys_bits)",
			size, config->cpus.max_phys_bits, limit);
	return 0;
}

uint64_t memory_config_block_size(uint64_t hotplug_size)
{
	uint64_t block = BLOCK_MIN;

	while (hotplug_size / block > BLOCKS_MAX)
		block *= 2;
	return block;
}

int memory_check_hotplugged(const struct memory_config *memory, const char *pointer,
			    uint64_t hotplug_size, uint64_t size, struct err *err)
{
	uint64_t block = memory_config_block_size(hotplug_size);

	if (!size)
		return 0;
	if (memory->hotplug_method != MEMORY_HOTPLUG_VIRTIO_MEM)
		return config_error(err,
				    "%s/hotplugged_size: %" PRIu64
				    " has no effect, needs /memory/hotplug_method VirtioMem",
				    pointer, size);
	if (size > hotplug_size)
		return config_error(err,
				    "%s/hotplugged_size: %" PRIu64
				    " is more than %s/hotplug_size, must be at most %" PRIu64,
				    pointer, size, pointer, hotplug_size);
	if (size % block)
		return config_error(err,
				    "%s/hotplugged_size: %" PRIu64 " is not a multiple of %" PRIu64
				    ", must be like %" PRIu64,
				    pointer, size, block,
				    MAX((uint64_t)align_down(size, block), block));
	return 0;
}

static int check_hotplugged(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct memory_config *memory = &config->memory;

	return memory_check_hotplugged(memory, "/memory", memory->hotplug_size,
				       memory->hotplugged_size, err);
}

static int check_sizes(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	int r = check_size(config, err);

	return r < 0 ? r : check_hugepages(&config->memory, err);
}

static int check_mergeable(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct memory_config *memory = &config->memory;

	if (memory->mergeable && memory->shared)
		return config_error(err,
				    "/memory/mergeable: cannot be had with /memory/shared, must be "
				    "false");
	if (memory->mergeable && memory->hugepages)
		return config_error(err,
				    "/memory/mergeable: cannot be had with /memory/hugepages, must "
				    "be false");
	return 0;
}

static const struct config_rule rules[] = {
	{ check_sizes, { "memory", "cpus" } },
	{ check_mergeable, { "memory" } },
	{ check_hotplug, { "memory", "cpus" } },
	{ check_hotplugged, { "memory" } },
};
const struct config_rules memory_rules = CONFIG_RULES(rules, NULL);
