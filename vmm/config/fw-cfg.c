/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `payload.fw_cfg_config`: files for firmware and guest, by QEMU's fw_cfg device
 */
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

/* Names as QEMU's docs/specs/fw_cfg: at most 55 characters, printable. */
static const char *check_item_name(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = name; *p; p++)
		if (*p <= ' ' || *p > '~')
			return "has a character that is not printable ASCII";
	if (len == 0 || len > VM_FW_CFG_NAME_MAX)
		return "is not 1 to 55 characters long";
	return NULL;
}

static const struct config_field item_fields[] = {
	{ .key = "name",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct fw_cfg_item_config, name),
	  .check = check_item_name,
	  .arg = "NAME",
	  .doc = "name of the file, by custom like opt/org.example/what" },
	{ .key = "file",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL | CONFIG_RESOURCE,
	  CONFIG_AT(struct fw_cfg_item_config, file),
	  .check = check_path,
	  .resource = RESOURCE_FILE_READ,
	  .arg = "PATH",
	  .doc = "file of the host with its contents" },
	{ .key = "string",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct fw_cfg_item_config, string),
	  .arg = "TEXT",
	  .doc = "its contents" },
};
static const struct config_table item_table = {
	.name = "fw_cfg item",
	.doc = "A file of the guest's.",
	.fields = item_fields,
	.n_fields = ARRAY_SIZE(item_fields),
	.size = sizeof(struct fw_cfg_item_config),
};

static const struct config_field items_fields[] = {
	{ .key = "item_list",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct fw_cfg_items_config, list),
	  .count = offsetof(struct fw_cfg_items_config, n),
	  .table = &item_table,
	  .list_max = VM_FW_CFG_ITEMS_MAX,
	  .arg = "[name=NAME@file=PATH|string=TEXT,...]",
	  .doc = "the files" },
};
static const struct config_table items_table = {
	.name = "fw_cfg items",
	.doc = "Files of the guest's.",
	.fields = items_fields,
	.n_fields = ARRAY_SIZE(items_fields),
	.size = sizeof(struct fw_cfg_items_config),
};

#define TOGGLE(member, what)                                                                       \
	{                                                                                          \
		.key = #member, .kind = CONFIG_BOOL, CONFIG_AT(struct fw_cfg_config, member),      \
		.def = true, .doc = what                                                           \
	}

static const struct config_field fw_cfg_fields[] = {
	TOGGLE(e820, "the map of the guest's memory is there, as etc/e820"),
	TOGGLE(kernel, "the kernel is there, if there is one"),
	TOGGLE(cmdline, "the command line is there, if there is one"),
	TOGGLE(initramfs, "the initial RAM file system is there, if there is one"),
	TOGGLE(acpi_tables, "the ACPI tables are there, as etc/acpi/tables, etc/acpi/rsdp and "
			    "etc/table-loader"),
	{ .key = "items",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct fw_cfg_config, items),
	  .table = &items_table,
	  .arg = "[name=NAME@file=PATH|string=TEXT,...]",
	  .doc = "files of your own, which Linux shows below /sys/firmware/qemu_fw_cfg/by_name" },
};
const struct config_table fw_cfg_table = {
	.name = "fw_cfg",
	.doc = "QEMU's fw_cfg device: files for firmware and guest.",
	.fields = fw_cfg_fields,
	.n_fields = ARRAY_SIZE(fw_cfg_fields),
	.size = sizeof(struct fw_cfg_config),
};

static size_t count_items(const struct vm_config *config)
{
	return config->payload.has_fw_cfg ? config->payload.fw_cfg.items.n : 0;
}

static int check_contents(const struct vm_config *config, size_t i, struct err *err)
{
	const struct fw_cfg_item_config *item = &config->payload.fw_cfg.items.list[i];

	if (!item->file == !item->string)
		return config_error(err,
				    "/payload/fw_cfg_config/items/item_list/%zu: has %s, must have "
				    "one of 'file' and 'string'",
				    i, item->file ? "both" : "no contents");
	return 0;
}

static int check_unique(const struct vm_config *config, size_t i, struct err *err)
{
	const struct fw_cfg_item_config *list = config->payload.fw_cfg.items.list;

	if (list[i].name && strncmp(list[i].name, "etc/", 4) == 0)
		return config_error(err,
				    "/payload/fw_cfg_config/items/item_list/%zu/name: '%s' is the "
				    "machine's own, must not begin with etc/",
				    i, list[i].name);
	for (size_t j = 0; j < i && list[i].name; j++)
		if (list[j].name && strcmp(list[i].name, list[j].name) == 0)
			return config_error(err,
					    "/payload/fw_cfg_config/items/item_list/%zu/name: '%s' "
					    "is item %zu's too, must be unique",
					    i, list[i].name, j);
	return 0;
}

static const struct config_rule rules[] = {
	{ check_contents, { "payload" } },
	{ check_unique, { "payload" } },
};
const struct config_rules fw_cfg_rules = CONFIG_RULES(rules, count_items);
