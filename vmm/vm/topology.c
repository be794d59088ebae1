/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/topology.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

/* --- memory --- */

#define POINTER_MAX sizeof("/memory/zones/999")

static int fill_zone(struct vm *vm, size_t i, char pointer[static POINTER_MAX],
		     struct guest_zone_params *ret, struct err *err)
{
	const struct memory_config *mc = &vm->config->memory;
	const struct memory_zone_config *zone = &mc->zones[i];

	snprintf(pointer, POINTER_MAX, "/memory/zones/%u", (unsigned int)(i % 1000));
	*ret = (struct guest_zone_params){
		.pointer = pointer,
		.size = zone->size,
		.shared = zone->shared,
		.hugepages = zone->hugepages,
		.prefault = zone->prefault,
		.reserve = zone->reserve,
		.thp = mc->thp,
		.mergeable = memory_zone_is_mergeable(mc, i),
		.hugepage_size = zone->hugepage_size,
		.file_fd = -EBADF,
		.host_node = zone->has_host_numa_node ? (int)zone->host_numa_node : -1,
	};
	if (!zone->file)
		return 0;
	ret->file_fd = resources_get(&vm->resources, zone->file, err);
	return MIN(ret->file_fd, 0);
}

static int create_zones(struct vm *vm, struct err *err)
{
	const size_t n = vm->config->memory.n_zones;
	_cleanup_free_ struct guest_zone_params *zones = calloc(n, sizeof(*zones));
	char pointers[VM_MEMORY_ZONES_MAX][POINTER_MAX];
	const struct guest_layout layout = {
		.zones = zones,
		.n_zones = n,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
	};
	int r = 0;

	if (!zones || n > ARRAY_SIZE(pointers))
		return err_set(err, ENOMEM, "out of memory for %zu memory zones", n);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = fill_zone(vm, i, pointers[i], &zones[i], err);
	return r < 0 ? r : guest_mem_init_zones(&vm->mem, vm->hv, &layout, err);
}

/* What virtio-mem gives out: as the memory or the zone is, but never there before it is used. */
static int add_region(struct vm *vm, const struct vm_mem_region *region, struct err *err)
{
	const struct memory_config *mc = &vm->config->memory;
	struct guest_zone_params params = {
		.pointer = "/memory",
		.shared = mc->shared,
		.thp = mc->thp,
		.mergeable = mc->mergeable,
		.host_node = -1,
	};
	char pointer[POINTER_MAX];
	int r = 0;

	if (mc->n_zones)
		r = fill_zone(vm, region->zone, pointer, &params, err);
	if (r < 0)
		return r;
	params.size = region->size;
	params.file_fd = -EBADF;
	params.prefault = params.reserve = false;
	params.blocks = true;
	return guest_mem_add_ram(&vm->mem, region->gpa, &params, err);
}

int vm_create_memory(struct vm *vm, struct err *err)
{
	const struct memory_config *mc = &vm->config->memory;
	const struct guest_mem_params params = {
		.size = mc->size,
		.hole_start = LAYOUT_HOLE_START,
		.hole_end = LAYOUT_HOLE_END,
		.shared = mc->shared,
		.hugepages = mc->hugepages,
		.prefault = mc->prefault,
		.reserve = mc->reserve,
		.thp = mc->thp,
		.mergeable = mc->mergeable,
		.hugepage_size = mc->hugepage_size,
	};
	uint8_t bits = x86_phys_bits(&vm->hv->caps, &vm->config->cpus);
	int r;

	r = x86_windows_init(&vm->windows, memory_config_size(mc), bits, err);
	if (r >= 0 && mc->hotplug_method == MEMORY_HOTPLUG_VIRTIO_MEM)
		r = vm_mem_reserve(vm, err);
	else if (r >= 0)
		r = x86_windows_add_hotplug(&vm->windows, mc->size, mc->hotplug_size, err);
	if (r >= 0)
		r = vm_pmem_reserve(vm, err);
	if (r < 0)
		return r;
	r = mc->n_zones ? create_zones(vm, err) : guest_mem_init(&vm->mem, vm->hv, &params, err);
	for (size_t i = 0; r >= 0 && i < vm->memory.n_regions; i++)
		r = add_region(vm, &vm->memory.regions[i], err);
	return r;
}

/* --- PCI segments --- */

/* ret: of n segments */
static void share_windows(const struct vm *vm, size_t n, struct x86_segment_windows *ret)
{
	uint32_t weights32[VM_PCI_SEGMENTS_MAX], weights64[VM_PCI_SEGMENTS_MAX];
	uint64_t starts[VM_PCI_SEGMENTS_MAX], sizes[VM_PCI_SEGMENTS_MAX];

	for (size_t i = 0; i < VM_PCI_SEGMENTS_MAX; i++)
		weights32[i] = weights64[i] = 1;
	for (size_t i = 0; i < vm->config->n_pci_segments; i++) {
		const struct pci_segment_config *segment = &vm->config->pci_segments[i];

		weights32[segment->pci_segment] = segment->mmio32_aperture_weight;
		weights64[segment->pci_segment] = segment->mmio64_aperture_weight;
	}
	x86_window_split(vm->windows.mmio32_start, vm->windows.mmio32_size, X86_MMIO32_UNIT,
			 weights32, n, starts, sizes);
	for (size_t i = 0; i < n; i++) {
		ret[i].mmio32_start = starts[i];
		ret[i].mmio32_size = sizes[i];
	}
	x86_window_split(vm->windows.mmio64_start, vm->windows.mmio64_size, X86_MMIO64_UNIT,
			 weights64, n, starts, sizes);
	for (size_t i = 0; i < n; i++) {
		ret[i].mmio64_start = starts[i];
		ret[i].mmio64_size = sizes[i];
	}
}

int vm_create_segments(struct vm *vm, struct err *err)
{
	struct x86_segment_windows windows[VM_PCI_SEGMENTS_MAX];
	size_t n = vm->config->platform.num_pci_segments;
	int r = 0;

	vm->segments = calloc(n, sizeof(*vm->segments));
	if (!vm->segments)
		return err_set(err, ENOMEM, "out of memory for %zu PCI segments", n);
	share_windows(vm, n, windows);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const struct x86_segment_windows *w = &windows[i];

		r = pci_segment_init(&vm->segments[i], (uint16_t)i, &vm->mmio, &vm->pio,
				     &vm->mailbox, LAYOUT_ECAM_START + i * PCI_ECAM_BYTES,
				     (struct pci_window){ w->mmio32_start, w->mmio32_size },
				     (struct pci_window){ w->mmio64_start, w->mmio64_size }, err);
		vm->n_segments++;
	}
	return r;
}

void vm_free_segments(struct vm *vm)
{
	for (size_t i = 0; i < vm->n_segments; i++)
		pci_segment_deinit(&vm->segments[i]);
	free(vm->segments);
	vm->segments = NULL;
	vm->n_segments = 0;
}

/* --- ACPI --- */

/* Whole segments, and single slots of others. */
static size_t list_iommu_ranges(struct vm *vm, struct acpi_iommu_range *ret)
{
	const struct platform_config *platform = &vm->config->platform;
	size_t n = 0;

	for (size_t i = 0; i < platform->n_iommu_segments; i++)
		ret[n++] = (struct acpi_iommu_range){ (uint16_t)platform->iommu_segments[i], 0,
						      PCI_SLOTS - 1 };
	for (size_t i = 0; i < vm->n_devices; i++) {
		const struct pci_device *pci = vm->devices[i]->pci;
		uint16_t segment = pci->segment->number;

		if (vm->devices[i]->iommu && !vm_config_is_iommu_segment(vm->config, segment))
			ret[n++] = (struct acpi_iommu_range){ segment, pci->slot, pci->slot };
	}
	return n;
}

int vm_build_acpi(struct vm *vm, uint64_t *ret_rsdp_gpa, struct err *err)
{
	const size_t n_ranges = vm->config->platform.n_iommu_segments + vm->n_devices;
	_cleanup_free_ struct acpi_segment *segments = calloc(vm->n_segments, sizeof(*segments));
	_cleanup_free_ struct acpi_iommu_range *ranges = calloc(n_ranges + 1, sizeof(*ranges));
	_cleanup_free_ bool *cpus = calloc(vm->vcpus.n, sizeof(*cpus));
	struct vm_device *iommu = vm_device_find(vm, "__iommu");
	struct acpi_iommu viot = { .ranges = ranges };
	const struct acpi_topology topology = {
		.segments = segments,
		.n_segments = (uint32_t)vm->n_segments,
		.numa = vm->config->n_numa ? vm->config : NULL,
		.iommu = iommu ? &viot : NULL,
		.hotplug_gpa = vm->windows.hotplug_start + vm->memory.grown,
		.hotplug_size = vm->windows.hotplug_size - vm->memory.grown,
	};

	if (!segments || !ranges || !cpus)
		return err_set(err, ENOMEM, "out of memory for the ACPI tables");
	for (size_t i = 0; i < vm->n_segments; i++) {
		const struct pci_segment *s = &vm->segments[i];

		segments[i] = (struct acpi_segment){
			.windows = { s->mmio32.start, s->mmio32.size, s->mmio64.start,
				     s->mmio64.size },
			.node = numa_of_segment(vm->config, s->number),
		};
	}
	if (iommu) {
		viot.segment = iommu->pci->segment->number;
		viot.slot = iommu->pci->slot;
		viot.n_ranges = list_iommu_ranges(vm, ranges);
	}
	for (uint32_t i = 0; i < vm->vcpus.n; i++)
		cpus[i] = vm->vcpus.vcpus[i].present;
	return platform_build_acpi(&vm->platform, &vm->mem, cpus, &topology, ret_rsdp_gpa, err);
}
