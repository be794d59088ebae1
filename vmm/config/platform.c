/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `platform`: what the machine says about itself in SMBIOS, PCI segments and IOMMU
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

#define OEM_STRINGS_MAX 255   /* the count is a byte: SMBIOS 3.0, 7.12 */
#define SMBIOS_SIZE_MAX 16384 /* the area at 0xf0000 also holds the MP table */

/* Seven rows that differ in two words: Cloud Hypervisor's long key, and the short one. */
#define TEXT(short_name, member, what)                                                             \
	{                                                                                          \
		.key = "system_" short_name, .option = short_name, .alias = short_name,            \
		.kind = CONFIG_STRING, .flags = CONFIG_OPTIONAL,                                   \
		CONFIG_AT(struct platform_config, member), .check = check_smbios, .arg = "TEXT",   \
		.doc = "SMBIOS " what " of the system"                                             \
	}

static const struct config_field platform_fields[] = {
	TEXT("serial_number", serial_number, "serial number"),
	{ .key = "system_uuid",
	  .option = "uuid",
	  .alias = "uuid",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct platform_config, uuid),
	  .check = check_uuid,
	  .arg = "UUID",
	  .doc = "SMBIOS UUID of the system" },
	TEXT("manufacturer", manufacturer, "manufacturer"),
	TEXT("product_name", product_name, "product name"),
	TEXT("version", version, "version"),
	TEXT("family", family, "family"),
	TEXT("sku_number", sku_number, "SKU number"),
	{ .key = "chassis_asset_tag",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct platform_config, chassis_asset_tag),
	  .check = check_smbios,
	  .arg = "TEXT",
	  .doc = "SMBIOS asset tag of the chassis" },
	{ .key = "oem_strings",
	  .kind = CONFIG_STRINGS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct platform_config, oem_strings),
	  .check = check_oem_string,
	  .list_max = OEM_STRINGS_MAX,
	  .arg = "[TEXT,...]",
	  .doc = "SMBIOS OEM strings; systemd in the guest reads credentials from them" },
	{ .key = "num_pci_segments",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct platform_config, num_pci_segments),
	  .def = 1,
	  .min = 1,
	  .max = VM_PCI_SEGMENTS_MAX,
	  .arg = "COUNT",
	  .doc = "PCI segments, of up to 32 devices each" },
	{ .key = "iommu_segments",
	  .kind = CONFIG_UINTS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct platform_config, iommu_segments),
	  .count = offsetof(struct platform_config, n_iommu_segments),
	  .max = VM_PCI_SEGMENTS_MAX - 1,
	  .list_max = VM_PCI_SEGMENTS_MAX,
	  .arg = "[SEGMENT,...]",
	  .doc = "segments whose devices are all behind a virtio-iommu: each has iommu=on" },
	{ .key = "iommu_address_width_bits",
	  .option = "iommu_address_width",
	  .alias = "iommu_address_width",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct platform_config, iommu_address_width_bits),
	  .def = 64,
	  .min = 32,
	  .max = 64,
	  .arg = "BITS",
	  .doc = "width of the addresses that devices behind the virtio-iommu can use" },
	{ .key = "tdx", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "sev_snp", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "iommufd", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "iommufd_fd", .kind = CONFIG_LATER },
	{ .key = "vfio_p2p_dma", .kind = CONFIG_LATER, .harmless = "true" },
};
const struct config_table platform_table = {
	.name = "Platform",
	.doc = "What the machine says about itself in its SMBIOS tables, and its buses.",
	.fields = platform_fields,
	.n_fields = ARRAY_SIZE(platform_fields),
	.size = sizeof(struct platform_config),
};

static int check_oem_strings(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	char **strings = config->platform.oem_strings;
	size_t total = 0;

	for (size_t n = 0; strings && strings[n]; n++)
		total += strlen(strings[n]) + 1;
	if (total > SMBIOS_SIZE_MAX)
		return config_error(
			err,
			"/platform/oem_strings: %zu bytes are too many, must be at most "
			"%d",
			total, SMBIOS_SIZE_MAX);
	return 0;
}

static int check_iommu_segments(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct platform_config *p = &config->platform;

	for (size_t k = 0; k < p->n_iommu_segments; k++) {
		if (p->iommu_segments[k] >= p->num_pci_segments)
			return config_error(err,
					    "/platform/iommu_segments/%zu: %u does not exist, must "
					    "be less than /platform/num_pci_segments, %u",
					    k, p->iommu_segments[k], p->num_pci_segments);
		for (size_t j = 0; j < k; j++)
			if (p->iommu_segments[j] == p->iommu_segments[k])
				return config_error(err,
						    "/platform/iommu_segments/%zu: %u is there "
						    "twice",
						    k, p->iommu_segments[k]);
	}
	return 0;
}

bool vm_config_is_iommu_segment(const struct vm_config *config, uint16_t segment)
{
	const struct platform_config *p = &config->platform;

	for (size_t k = 0; k < p->n_iommu_segments; k++)
		if (p->iommu_segments[k] == segment)
			return true;
	return false;
}

static const struct config_rule rules[] = {
	{ check_oem_strings, { "platform" } },
	{ check_iommu_segments, { "platform" } },
};
const struct config_rules platform_rules = CONFIG_RULES(rules, NULL);
