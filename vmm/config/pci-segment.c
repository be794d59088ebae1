/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pci_segments`: how the device windows are shared out
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/config/tables.h"

#define WEIGHT_MAX 65535

static const struct config_field segment_fields[] = {
	{ .key = "pci_segment",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct pci_segment_config, pci_segment),
	  .max = VM_PCI_SEGMENTS_MAX - 1,
	  .arg = "SEGMENT",
	  .doc = "number of the segment, less than platform's num_pci_segments" },
	{ .key = "mmio32_aperture_weight",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct pci_segment_config, mmio32_aperture_weight),
	  .def = 1,
	  .min = 1,
	  .max = WEIGHT_MAX,
	  .arg = "WEIGHT",
	  .doc = "its share of the device addresses below 4 GiB, beside the others' weights" },
	{ .key = "mmio64_aperture_weight",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct pci_segment_config, mmio64_aperture_weight),
	  .def = 1,
	  .min = 1,
	  .max = WEIGHT_MAX,
	  .arg = "WEIGHT",
	  .doc = "its share of those above RAM" },
};
const struct config_table pci_segment_table = {
	.name = "PCI segment",
	.doc = "What a PCI segment gets of the addresses of devices; one that is not listed has "
	       "the weights 1.",
	.fields = segment_fields,
	.n_fields = ARRAY_SIZE(segment_fields),
	.size = sizeof(struct pci_segment_config),
};

static int check_segment(const struct vm_config *config, size_t i, struct err *err)
{
	const struct pci_segment_config *segments = config->pci_segments;

	if (segments[i].pci_segment >= config->platform.num_pci_segments)
		return config_error(err,
				    "/pci_segments/%zu/pci_segment: %u does not exist, must be "
				    "less than /platform/num_pci_segments, %u",
				    i, segments[i].pci_segment, config->platform.num_pci_segments);
	for (size_t j = 0; j < i; j++)
		if (segments[i].pci_segment == segments[j].pci_segment)
			return config_error(err,
					    "/pci_segments/%zu/pci_segment: %u is in "
					    "/pci_segments/%zu already, must be given once",
					    i, segments[i].pci_segment, j);
	return 0;
}

static size_t count_segments(const struct vm_config *config)
{
	return config->n_pci_segments;
}

static const struct config_rule each_segment[] = {
	{ check_segment, { "pci_segments", "platform" } },
};
const struct config_rules pci_segment_rules = CONFIG_RULES(each_segment, count_segments);
