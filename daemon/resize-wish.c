/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/resize-wish.h"

#include "daemon/machine.h"
#include "daemon/resize.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* What memory grows by as DIMMs (vmm/acpi/memory-hotplug.h). */
#define HOTPLUG_UNIT (128ULL << 20)

/* Memory, or a zone of it, with what can come. */
struct part {
	uint64_t size, hotplug_size, hotplugged_size;
};

static struct part get_part(const struct memory_config *memory, const struct resize_wish *wish)
{
	int zone = wish->zone ? memory_config_find_zone(memory, wish->zone) : -1;

	if (zone >= 0)
		return (struct part){ memory->zones[zone].size, memory->zones[zone].hotplug_size,
				      memory->zones[zone].hotplugged_size };
	return (struct part){ memory->size, memory->hotplug_size, memory->hotplugged_size };
}

uint64_t resize_wish_total(const struct machine *vm, const struct resize_wish *wish)
{
	const struct memory_config *memory = &machine_config(vm)->memory;
	struct part part = get_part(memory, wish);

	if (wish->what != RESIZE_ZONE)
		return wish->wanted;
	return memory_config_size(memory) + memory_config_hotplugged_size(memory) - part.size -
	       part.hotplugged_size + wish->wanted;
}

/* --- what can be asked -------------------------------------------------------------- */

/* By virtio-mem: no less than it began with while it runs. */
static int check_blocks(const struct machine *vm, const struct resize_wish *wish, bool live,
			struct err *err)
{
	struct part part = get_part(&machine_config(vm)->memory, wish);
	uint64_t block = memory_config_block_size(part.hotplug_size), wanted = wish->wanted;
	const char *of = wish->zone ? wish->zone : "all";

	if (live && wanted < part.size)
		return err_fault(
			err, FAULT_BAD_ARGUMENT, EINVAL,
			"VM '%s' cannot have %" PRIu64
			" bytes of memory (%s) while it runs, must be at least the %" PRIu64
			" that it was started with",
			vm->def.name, wanted, of, part.size);
	if (wanted > part.size + part.hotplug_size)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' cannot have %" PRIu64
				 " bytes of memory (%s), must be at most %" PRIu64
				 " (hotplug_size)",
				 vm->def.name, wanted, of, part.size + part.hotplug_size);
	if (wanted > part.size && (wanted - part.size) % block)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has %" PRIu64 " bytes of memory (%s) at least; %" PRIu64
				 " differ from it by %" PRIu64
				 ", which must be a multiple of %" PRIu64,
				 vm->def.name, part.size, of, wanted, wanted - part.size, block);
	return 0;
}

static int check_zone(const struct machine *vm, const struct resize_wish *wish, bool live,
		      struct err *err)
{
	const struct memory_config *memory = &machine_config(vm)->memory;

	if (memory_config_find_zone(memory, wish->zone) < 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has no memory zone '%s', must be one of /memory/zones",
				 vm->def.name, wish->zone);
	if (live && get_part(memory, wish).hotplug_size == 0)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "memory zone '%s' of VM '%s' cannot change while it runs: its "
				 "hotplug_size must have been set as it was started",
				 wish->zone, vm->def.name);
	return check_blocks(vm, wish, live, err);
}

/* Bytes; what the definition is to have of it, and, of a running machine, what can be plugged in.
 */
static int check_memory(const struct machine *vm, const struct resize_wish *wish, bool live,
			struct err *err)
{
	const struct memory_config *memory = &machine_config(vm)->memory;
	const struct machine_sizes sizes = machine_get_sizes(vm);
	uint64_t wanted = wish->wanted;
	uint64_t step = wanted > sizes.memory_target ? wanted - sizes.memory_target
						     : sizes.memory_target - wanted;

	if (memory->n_zones)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "the memory of VM '%s' is in zones (/memory/zones), which have "
				 "sizes of their own: ResizeMemoryZone changes one",
				 vm->def.name);
	if (memory->hotplug_method == MEMORY_HOTPLUG_VIRTIO_MEM && memory->hotplug_size)
		return check_blocks(vm, wish, live, err);
	if (live && wanted < sizes.memory_target)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has %" PRIu64 " bytes of memory and cannot have %" PRIu64
				 " while it runs, must be at least what it has; SetConfig changes "
				 "what its next start has",
				 vm->def.name, sizes.memory_target, wanted);
	if (live && wanted > sizes.memory_target && !memory->hotplug_size)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "VM '%s' cannot have more than its %" PRIu64
				 " bytes of memory while it runs: for more, /memory/hotplug_size "
				 "must have been set as it was started",
				 vm->def.name, sizes.memory_target);
	if (wanted > sizes.memory_max && (live || memory->hotplug_size))
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' cannot have %" PRIu64
				 " bytes of memory, must be at most %" PRIu64
				 " (/memory/hotplug_size)",
				 vm->def.name, wanted, sizes.memory_max);
	if (memory->hotplug_size && step % HOTPLUG_UNIT)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' has %" PRIu64 " bytes of memory; %" PRIu64
				 " differ from it by %" PRIu64
				 ", which must be a multiple of 134217728 (128 MiB)",
				 vm->def.name, sizes.memory_target, wanted, step);
	return 0;
}

int resize_wish_check(const struct machine *vm, const struct resize_wish *wish, bool live,
		      struct err *err)
{
	const struct vm_config *config = machine_config(vm);

	if (wish->what == RESIZE_ZONE)
		return check_zone(vm, wish, live, err);
	if (wish->what == RESIZE_MEMORY)
		return check_memory(vm, wish, live, err);
	if (wish->wanted < 1 || wish->wanted > config->cpus.max_vcpus)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "VM '%s' cannot have %" PRIu64
				 " vCPUs, must be 1 to %u (/cpus/max_vcpus)",
				 vm->def.name, wish->wanted, config->cpus.max_vcpus);
	return 0;
}

/* --- the definition -------------------------------------------------------------------- */

static void insert(GVariantDict *dict, const char *key, uint64_t bytes)
{
	g_variant_dict_insert(dict, key, "t", (guint64)bytes);
}

/* What it begins with stays, unless it is to have less. */
static void define_blocks(const struct part *part, GVariantDict *dict, uint64_t wanted)
{
	if (wanted < part->size)
		insert(dict, "size", wanted);
	insert(dict, "hotplugged_size", wanted > part->size ? wanted - part->size : 0);
}

static GVariant *define_zones(GVariant *zones, const struct memory_config *memory,
			      const struct resize_wish *wish)
{
	struct part part = get_part(memory, wish);
	GVariantBuilder list;
	GVariantIter iter;
	GVariant *zone;

	g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
	g_variant_iter_init(&iter, zones);
	while (g_variant_iter_next(&iter, "@a{sv}", &zone)) {
		const char *id = NULL;
		GVariantDict dict;

		g_variant_dict_init(&dict, zone);
		g_variant_lookup(zone, "id", "&s", &id);
		if (g_strcmp0(id, wish->zone) == 0 && part.hotplug_size)
			define_blocks(&part, &dict, wish->wanted);
		else if (g_strcmp0(id, wish->zone) == 0)
			insert(&dict, "size", wish->wanted);
		g_variant_builder_add_value(&list, g_variant_dict_end(&dict));
		g_variant_unref(zone);
	}
	return g_variant_builder_end(&list);
}

/* As DIMMs the most that there may be stays the same. */
static void define_memory(const struct memory_config *memory, GVariantDict *dict, uint64_t wanted)
{
	uint64_t max = memory->size + memory->hotplug_size;

	insert(dict, "size", wanted);
	if (memory->hotplug_size)
		insert(dict, "hotplug_size", max > wanted ? max - wanted : 0);
}

static void define_section(const struct vm_config *next, const struct resize_wish *wish,
			   GVariant *old, GVariantDict *dict)
{
	const struct memory_config *memory = &next->memory;
	struct part part = get_part(memory, wish);
	g_autoptr(GVariant) zones = NULL;

	if (wish->what == RESIZE_VCPUS) {
		g_variant_dict_insert(dict, "boot_vcpus", "u", (guint32)wish->wanted);
	} else if (wish->what == RESIZE_ZONE) {
		zones = g_variant_lookup_value(old, "zones", G_VARIANT_TYPE("aa{sv}"));
		if (zones)
			g_variant_dict_insert_value(dict, "zones",
						    define_zones(zones, memory, wish));
	} else if (memory->hotplug_method == MEMORY_HOTPLUG_VIRTIO_MEM && memory->hotplug_size) {
		define_blocks(&part, dict, wish->wanted);
	} else {
		define_memory(memory, dict, wish->wanted);
	}
}

int resize_wish_define(struct machine *vm, const struct resize_wish *wish, struct err *err)
{
	g_autoptr(GVariant) all = g_variant_ref_sink(vm_config_serialise(vm->next));
	const char *section = wish->what == RESIZE_VCPUS ? "cpus" : "memory";
	g_autoptr(GVariant) old = g_variant_lookup_value(all, section, G_VARIANT_TYPE_VARDICT);
	g_autoptr(GVariant) edited = NULL;
	struct vm_config *next = NULL;
	GVariantDict inner, outer;
	int r;

	if (wish->what == RESIZE_ZONE && memory_config_find_zone(&vm->next->memory, wish->zone) < 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the definition of VM '%s' has no memory zone '%s' any more",
				 vm->def.name, wish->zone);
	g_variant_dict_init(&inner, old);
	define_section(vm->next, wish, old, &inner);
	g_variant_dict_init(&outer, all);
	g_variant_dict_insert_value(&outer, section, g_variant_dict_end(&inner));
	edited = g_variant_ref_sink(g_variant_dict_end(&outer));
	r = vm_config_parse(edited, &next, err);
	return r < 0 ? r : machine_define(vm, next, err);
}
