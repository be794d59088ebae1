/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables, and the rules between keys
 *
 * A check_*() looks at the whole definition after parsing and says, with the
 * JSON pointer, which key breaks a rule that its row cannot express.
 */
#pragma once

#include "vmm/config/config.h"
#include "vmm/config/vm-config.h"

struct err;

extern const struct config_table vm_table;
extern const struct config_table cpus_table;
extern const struct config_table memory_table;
extern const struct config_table payload_table;
extern const struct config_table disk_table;
extern const struct config_table net_table;
extern const struct config_table rng_table;
extern const struct config_table serial_table;
extern const struct config_table console_table;
extern const struct config_table debug_console_table;
extern const struct config_table platform_table;

int check_cpus(const struct vm_config *config, struct err *err);
int check_memory(const struct vm_config *config, struct err *err);
int check_payload(const struct vm_config *config, struct err *err);
int check_disks(const struct vm_config *config, struct err *err);
int check_nets(const struct vm_config *config, struct err *err);
int check_consoles(const struct vm_config *config, struct err *err);
int check_platform(const struct vm_config *config, struct err *err);
/* Ids and PCI slots, which all devices share. */
int check_devices(const struct vm_config *config, struct err *err);

/* Rows that every PCI device of Cloud Hypervisor has. */
#define CONFIG_PCI_LATER                                                                           \
	{ .key = "iommu", .kind = CONFIG_LATER, .harmless = "false" },                             \
	{                                                                                          \
		.key = "pci_segment", .kind = CONFIG_LATER, .harmless = "0"                        \
	}
/* ... and those whose id and slot Brume chooses. */
#define CONFIG_PCI_FIXED                                                                           \
	CONFIG_PCI_LATER, { .key = "id", .kind = CONFIG_LATER },                                   \
	{                                                                                          \
		.key = "pci_device_id", .kind = CONFIG_LATER                                       \
	}

/* "/disks/0/path: <text>", FAULT_BAD_CONFIG; the pointer is the format's start. */
#define config_error(err, ...) err_fault(err, FAULT_BAD_CONFIG, EINVAL, __VA_ARGS__)
