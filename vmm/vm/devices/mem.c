/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `memory.hotplug_size` by virtio-mem: a device for the memory or for each zone, which
 * the configuration does not list: it has no keys of its own
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/mailbox.h"
#include "vmm/base/math.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

/* Nothing of it is nearer to other memory than a page of the guest's kernel can be large. */
#define AREA_ALIGN GIB

static int reserve(struct vm *vm, size_t zone, uint64_t size, const char *id, struct err *err)
{
	struct vm_memory *m = &vm->memory;
	struct vm_mem_region *region = &m->regions[m->n_regions];
	int r;

	if (!size)
		return 0;
	*region = (struct vm_mem_region){
		.vm = vm, .zone = zone, .size = size, .block = memory_config_block_size(size)
	};
	snprintf(region->id, sizeof(region->id), "__mem%s%.48s", id ? "_" : "", id ? id : "");
	r = x86_windows_take(&vm->windows, align_up(size, AREA_ALIGN), &region->gpa, err);
	if (r < 0)
		return err_prefix(err, r, "/memory: hotplug_size");
	m->n_regions++;
	return 0;
}

int vm_mem_reserve(struct vm *vm, struct err *err)
{
	const struct memory_config *memory = &vm->config->memory;
	int r = 0;

	vm->memory.regions = calloc(MAX(memory->n_zones, 1U), sizeof(*vm->memory.regions));
	if (!vm->memory.regions)
		return err_set(err, ENOMEM, "out of memory for the memory's regions");
	for (size_t i = 0; r >= 0 && i < memory->n_zones; i++)
		r = reserve(vm, i, memory->zones[i].hotplug_size, memory->zones[i].id, err);
	return r < 0 ? r : reserve(vm, 0, memory->hotplug_size, NULL, err);
}

/* I/O thread, or control. */
static void on_changed(void *data)
{
	struct vm_mem_region *region = data;

	mailbox_post(&region->vm->mailbox, &region->vm->memory.message);
}

static int create_region(struct vm *vm, struct vm_mem_region *region, struct err *err)
{
	const struct memory_config *memory = &vm->config->memory;
	const struct config_device device = {
		.key = vm_mem_kind.key, .index = region->zone, .id = region->id, .pci = &region->pci
	};
	const struct virtio_mem_params params = {
		.id = region->id,
		.gpa = region->gpa,
		.size = region->size,
		.block = region->block,
		.requested = memory->n_zones ? memory->zones[region->zone].hotplugged_size
					     : memory->hotplugged_size,
		.node = vm->config->n_numa ? (int)numa_of_zone(vm->config, region->zone) : -1,
		.changed = on_changed,
		.data = region,
	};
	int r = virtio_mem_new(&params, &region->dev, err);

	return r < 0 ? r : vm_plug_virtio(vm, &vm_mem_kind, &device, region->dev, err);
}

int vm_mem_create(struct vm *vm, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < vm->memory.n_regions; i++)
		r = create_region(vm, &vm->memory.regions[i], err);
	return r;
}

const struct vm_device_kind vm_mem_kind = { .key = "memory" };
