/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `platform`: what the machine says about itself in SMBIOS
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
	{ .key = "num_pci_segments", .kind = CONFIG_LATER, .harmless = "1" },
	{ .key = "iommu_segments", .kind = CONFIG_LATER },
	{ .key = "iommu_address_width_bits",
	  .option = "iommu_address_width",
	  .alias = "iommu_address_width",
	  .kind = CONFIG_LATER,
	  .harmless = "64" },
	{ .key = "tdx", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "sev_snp", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "iommufd", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "iommufd_fd", .kind = CONFIG_LATER },
	{ .key = "vfio_p2p_dma", .kind = CONFIG_LATER, .harmless = "true" },
};
const struct config_table platform_table = {
	.name = "Platform",
	.doc = "What the machine says about itself in its SMBIOS tables.",
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

static const struct config_rule rules[] = {
	{ check_oem_strings, { "platform" } },
};
const struct config_rules platform_rules = CONFIG_RULES(rules, NULL);
