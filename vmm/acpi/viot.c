/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices are behind the virtio-iommu, and where it is itself (VIOT: ACPI 6.5, 5.2.33)
 */
#include "vmm/acpi/topology.h"

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"

/* One bus a segment, and one function a slot: the bus, device and function number of a slot. */
static uint16_t bdf(uint8_t slot)
{
	return (uint16_t)(slot << 3);
}

uint32_t acpi_iommu_endpoint(uint16_t segment, uint8_t slot)
{
	return (uint32_t)segment << 16 | bdf(slot);
}

void acpi_emit_viot(struct aml *a, const struct acpi_iommu *iommu)
{
	const uint16_t node_at = sizeof(struct acpi_header) + sizeof(struct acpi_viot_header);
	const struct acpi_viot_header head = {
		.node_count = le16_make((uint16_t)(1 + iommu->n_ranges)),
		.node_offset = le16_make(node_at),
	};
	const struct acpi_viot_virtio_iommu node = {
		.type = ACPI_VIOT_VIRTIO_PCI,
		.length = le16_make(sizeof(node)),
		.segment = le16_make(iommu->segment),
		.bdf = le16_make(bdf(iommu->slot)),
	};

	aml_bytes(a, &head, sizeof(head));
	aml_bytes(a, &node, sizeof(node));
	for (size_t i = 0; i < iommu->n_ranges; i++) {
		const struct acpi_iommu_range *r = &iommu->ranges[i];
		const struct acpi_viot_pci_range range = {
			.type = ACPI_VIOT_PCI_RANGE,
			.length = le16_make(sizeof(range)),
			.endpoint_start = le32_make(acpi_iommu_endpoint(r->segment, r->first_slot)),
			.segment_start = le16_make(r->segment),
			.segment_end = le16_make(r->segment),
			.bdf_start = le16_make(bdf(r->first_slot)),
			.bdf_end = le16_make((uint16_t)(bdf(r->last_slot) | 7)),
			.output_node = le16_make(node_at),
		};

		aml_bytes(a, &range, sizeof(range));
	}
}
