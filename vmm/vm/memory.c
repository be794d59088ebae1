/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's RAM: what it begins with, DIMMs that come, and blocks of virtio-mem,
 * which come and go (resize.h)
 *
 * A DIMM is RAM from when it is plugged in, and cannot be had back: the guest may use it
 * as soon as it has read where it is.  It counts once the guest has said that it took it.
 * One that it did not take, or said no to, is offered again with the next request; the
 * guest's next start finds all of them as RAM like any other, and the slots empty.
 */
#include <errno.h>
#include <inttypes.h>

#include "vmm/acpi/memory-hotplug.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/virtio/vhost-user-abi.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/resize.h"
#include "vmm/vm/vm.h"

/* ACPI 6.5, table 6.71: what _OST answers to; Linux names the notification's code (table 5.166) */
#define OST_DEVICE_CHECK 0x01
#define OST_INSERTION    0x200

/* --- vCPU threads ------------------------------------------------------------- */

static void on_status(void *data, uint32_t slot, uint32_t event, uint32_t status)
{
	struct vm *vm = data;
	_Atomic uint32_t *to;

	if (event != OST_DEVICE_CHECK && event != OST_INSERTION)
		return;
	if (status != 0 && !acpi_ost_is_refusal(status))
		return; /* it is getting on */
	to = status == 0 ? &vm->memory.accepted : &vm->memory.refused;
	/* release: seen with the message */
	atomic_fetch_or_explicit(to, 1U << slot, memory_order_release);
	mailbox_post(&vm->mailbox, &vm->memory.message);
}

const struct memory_hotplug_ops vm_memory_hotplug_ops = { on_status };

/* --- the control thread --------------------------------------------------------- */

static unsigned long long mib(uint64_t bytes)
{
	return bytes / MIB;
}

static uint64_t plugged(const struct vm_memory *m)
{
	uint64_t size = m->grown;

	for (uint32_t i = 0; i < m->n_dimms; i++)
		size += m->dimms[i].size;
	return size;
}

/* Of all of virtio-mem. */
static struct virtio_mem_figures get_blocks(const struct vm_memory *m)
{
	struct virtio_mem_figures figures, sum = { 0 };

	for (size_t i = 0; i < m->n_regions && m->regions[i].dev; i++) {
		virtio_mem_get(m->regions[i].dev, &figures);
		sum.requested += figures.requested;
		sum.plugged += figures.plugged;
	}
	return sum;
}

uint64_t vm_memory_target(const struct vm *vm)
{
	return vm->memory.first + plugged(&vm->memory) + get_blocks(&vm->memory).requested;
}

uint64_t vm_memory_actual(const struct vm *vm)
{
	const struct vm_memory *m = &vm->memory;
	uint64_t size = m->first + m->grown + get_blocks(m).plugged;

	for (uint32_t i = 0; i < m->n_dimms; i++)
		if (m->dimms[i].accepted)
			size += m->dimms[i].size;
	return size;
}

uint64_t vm_zone_target(const struct vm *vm, size_t zone)
{
	const struct vm_memory *m = &vm->memory;
	struct virtio_mem_figures figures = { 0 };

	for (size_t i = 0; i < m->n_regions && m->regions[i].dev; i++)
		if (m->regions[i].zone == zone)
			virtio_mem_get(m->regions[i].dev, &figures);
	return vm->config->memory.zones[zone].size + figures.requested;
}

void vm_init_memmap(const struct vm *vm, struct x86_memmap *ret)
{
	x86_memmap_init(ret, vm->memory.first);
	if (vm->memory.grown)
		x86_memmap_add_ram(ret, vm->windows.hotplug_start, vm->memory.grown);
}

static void changed(struct vm *vm)
{
	struct memory_config *config = &vm->config->memory;
	const struct vm_memory *m = &vm->memory;
	struct virtio_mem_figures figures;

	/* What the next start of the guest finds, and what may come then. */
	if (vm->windows.hotplug_size) {
		config->size = vm_memory_target(vm);
		config->hotplug_size = vm->windows.hotplug_size - plugged(m);
	}
	for (size_t i = 0; i < m->n_regions && m->regions[i].dev; i++) {
		virtio_mem_get(m->regions[i].dev, &figures);
		if (config->n_zones)
			config->zones[m->regions[i].zone].hotplugged_size = figures.requested;
		else
			config->hotplugged_size = figures.requested;
	}
	if (vm->listener.sizes_changed)
		vm->listener.sizes_changed(vm->listener.data);
}

static void serve_answers(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, memory.message);
	struct vm_memory *m = &vm->memory;
	/* acquire: pairs with on_status() */
	uint32_t accepted = atomic_exchange_explicit(&m->accepted, 0, memory_order_acquire);
	uint32_t refused = atomic_exchange_explicit(&m->refused, 0, memory_order_acquire);
	bool any = m->n_regions > 0, none = false; /* a region has told of a change */

	for (uint32_t i = 0; i < m->n_dimms; i++) {
		struct vm_dimm *dimm = &m->dimms[i];

		if (dimm->accepted)
			continue;
		if (accepted & 1U << i) {
			log_info("memory slot %u: the guest has taken %llu MiB", i,
				 mib(dimm->size));
			dimm->accepted = any = true;
		} else if (refused & 1U << i) {
			log_guest("memory slot %u: the guest does not take %llu MiB", i,
				  mib(dimm->size));
			none = true;
		}
	}
	if (any)
		changed(vm);
	if (none && vm->listener.resize_refused)
		vm->listener.resize_refused("memory", vm->listener.data);
}

void vm_memory_init(struct vm *vm)
{
	vm->memory.first = memory_config_size(&vm->config->memory);
	vm->memory.message.fn = serve_answers;
}

static void offer(struct vm *vm, uint32_t slot)
{
	const struct vm_dimm *dimm = &vm->memory.dimms[slot];

	memory_hotplug_insert(&vm->platform.memory_hotplug, slot, dimm->gpa, dimm->size,
			      numa_of_zone(vm->config, 0));
}

/* A vhost-user back end knows a few pieces of memory. */
static int check_back_ends(const struct vm *vm, struct err *err)
{
	uint32_t n = atomic_load_explicit(&vm->mem.n_regions, memory_order_relaxed), ram = 0;

	for (uint32_t i = 0; i < n; i++)
		ram += !vm->mem.regions[i].device;
	if (vm->config->n_fs == 0 || ram < VHOST_USER_REGIONS_MAX)
		return 0;
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			 "the memory is in %u pieces, and a shared directory (/fs) can be had with "
			 "no more of them; after the machine was stopped and started it is in one "
			 "or two",
			 ram);
}

/* --- virtio-mem --- */

static int set_region(struct vm *vm, struct vm_mem_region *region, uint64_t base, uint64_t bytes,
		      struct err *err)
{
	if (bytes < base || bytes - base > region->size || (bytes - base) % region->block)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the memory cannot have %" PRIu64
				 " bytes, must be %llu MiB to %llu MiB by steps of %llu MiB",
				 bytes, mib(base), mib(base + region->size), mib(region->block));
	virtio_mem_set_requested(region->dev, bytes - base);
	changed(vm);
	return 0;
}

int vm_set_zone(struct vm *vm, const char *id, uint64_t bytes, struct err *err)
{
	const struct memory_config *memory = &vm->config->memory;
	int zone = memory_config_find_zone(memory, id);

	assert_on_control();
	if (!vm_is_alive(vm))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "cannot change the memory: the machine is %s",
				 vm_state_to_string(vm->state));
	for (size_t i = 0; zone >= 0 && i < vm->memory.n_regions; i++)
		if (vm->memory.regions[i].zone == (size_t)zone)
			return set_region(vm, &vm->memory.regions[i], memory->zones[zone].size,
					  bytes, err);
	return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
			 "there is no memory zone '%s' with a hotplug_size", id);
}

void vm_keep_memory(struct vm *vm)
{
	struct virtio_mem_figures figures;

	assert_on_control();
	for (size_t i = 0; i < vm->memory.n_regions; i++) {
		virtio_mem_get(vm->memory.regions[i].dev, &figures);
		if (figures.requested != figures.plugged)
			virtio_mem_set_requested(vm->memory.regions[i].dev, figures.plugged);
	}
	changed(vm);
}

/* --- DIMMs --- */

static int check(const struct vm *vm, uint64_t bytes, struct err *err)
{
	const uint64_t target = vm_memory_target(vm), page = vm->config->memory.hugepage_size;
	const uint64_t max = vm->memory.first + vm->windows.hotplug_size;
	const uint64_t unit = MAX((uint64_t)MEMORY_HOTPLUG_UNIT, page);

	if (bytes == target)
		return 0;
	if (bytes < target)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the machine has %" PRIu64
				 " bytes of memory, and cannot have less while it runs, must be at "
				 "least that; its definition can, for a later start",
				 target);
	if (vm->windows.hotplug_size == 0)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "the machine was started without room for more memory: "
				 "/memory/hotplug_size must be above 0");
	if (bytes > max)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the machine cannot have %" PRIu64
				 " bytes of memory, must be at most %" PRIu64
				 " (/memory/hotplug_size)",
				 bytes, max);
	if ((bytes - target) % unit)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "%" PRIu64 " bytes of memory are %" PRIu64
				 " more than now, which must be a multiple of %" PRIu64 ": %" PRIu64
				 " in all",
				 bytes, bytes - target, unit,
				 MIN(max, target + align_up(bytes - target, unit)));
	if (vm->memory.n_dimms == MEMORY_HOTPLUG_SLOTS)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "all %d memory slots are in use: more memory can come after the "
				 "guest was rebooted",
				 MEMORY_HOTPLUG_SLOTS);
	return check_back_ends(vm, err);
}

static int plug(struct vm *vm, uint64_t size, struct err *err)
{
	const struct memory_config *mc = &vm->config->memory;
	const struct guest_zone_params params = {
		.pointer = "/memory",
		.size = size,
		.shared = mc->shared,
		.hugepages = mc->hugepages,
		.prefault = mc->prefault,
		.reserve = mc->reserve,
		.thp = mc->thp,
		.mergeable = mc->mergeable,
		.hugepage_size = mc->hugepage_size,
		.file_fd = -EBADF,
		.host_node = -1,
	};
	struct vm_memory *m = &vm->memory;
	uint64_t gpa = vm->windows.hotplug_start + plugged(m);
	int r;

	r = guest_mem_add_ram(&vm->mem, gpa, &params, err);
	if (r < 0)
		return err_prefix(err, r, "cannot add memory");
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->vp)
			virtio_device_grow_memory(vm->devices[i]->vp->dev);
	m->dimms[m->n_dimms++] = (struct vm_dimm){ .gpa = gpa, .size = size };
	log_info("memory slot %u: %llu MiB are plugged in", m->n_dimms - 1, mib(size));
	return 0;
}

int vm_set_memory(struct vm *vm, uint64_t bytes, struct err *err)
{
	struct vm_memory *m = &vm->memory;
	uint64_t target = vm_memory_target(vm);
	int r;

	assert_on_control();
	if (!vm_is_alive(vm))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "cannot change the memory: the machine is %s",
				 vm_state_to_string(vm->state));
	if (m->n_regions && !vm->config->memory.n_zones)
		return set_region(vm, &m->regions[0], m->first, bytes, err);
	r = check(vm, bytes, err);
	if (r >= 0 && bytes > target)
		r = plug(vm, bytes - target, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < m->n_dimms; i++)
		if (!m->dimms[i].accepted)
			offer(vm, i);
	changed(vm);
	return 0;
}

void vm_reset_memory(struct vm *vm)
{
	struct vm_memory *m = &vm->memory;

	m->grown = plugged(m);
	m->n_dimms = 0;
	atomic_store_explicit(&m->accepted, 0, memory_order_relaxed);
	atomic_store_explicit(&m->refused, 0, memory_order_relaxed);
	/* What virtio-mem gives out is none of what the guest begins with. */
	for (size_t i = 0; i < m->n_regions; i++)
		virtio_mem_forget(m->regions[i].dev);
	rtc_set_memory(&vm->platform.rtc, x86_ram_low_end(m->first), m->first + m->grown);
	changed(vm);
}
