/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tables say of buses, nodes and the IOMMU
 *
 * Each function appends the body of one table, after its header.  Control thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/arch/x86/memory-map.h"

struct aml;
struct guest_mem;
struct vm_config;

struct acpi_segment {
	struct x86_segment_windows windows;
	uint32_t node; /* where there are nodes */
};

/* Slots of one segment that are behind the IOMMU. */
struct acpi_iommu_range {
	uint16_t segment;
	uint8_t first_slot, last_slot;
};

struct acpi_iommu {
	uint16_t segment; /* where it is itself */
	uint8_t slot;
	const struct acpi_iommu_range *ranges;
	size_t n_ranges;
};

struct acpi_topology {
	const struct acpi_segment *segments;
	uint32_t n_segments;
	const struct vm_config *numa;   /* with nodes; NULL: no SRAT */
	const struct acpi_iommu *iommu; /* NULL: none */
	/* where RAM may come, and none is as the guest starts; size 0: nowhere */
	uint64_t hotplug_gpa, hotplug_size;
};

/* The number by which the IOMMU knows a device. */
uint32_t acpi_iommu_endpoint(uint16_t segment, uint8_t slot);

void acpi_emit_srat(struct aml *a, const struct acpi_topology *topology,
		    const struct guest_mem *mem);
void acpi_emit_slit(struct aml *a, const struct vm_config *config);
void acpi_emit_viot(struct aml *a, const struct acpi_iommu *iommu);
