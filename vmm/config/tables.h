/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables, and the rules between keys
 *
 * A rule looks at the parsed definition and says, with the JSON pointer, which
 * key breaks what no row can express.  It is asked once, or for each element of
 * its list, and only when nothing was wrong below the rows of vm_table that it
 * `reads`, so that it sees values as they were given.  Rules do not depend on
 * each other: each may report its own problem, in any order.
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

struct config_rule {
	/* 0, or config_error() */
	int (*check)(const struct vm_config *config, size_t i, struct err *err);
	const char *reads[3]; /* JSON keys of vm_table */
};

struct config_rules {
	const struct config_rule *rules;
	size_t n;
	/* How many times each is asked, i = 0, 1, ...; NULL: once */
	size_t (*count)(const struct vm_config *config);
};
#define CONFIG_RULES(list, count_fn)                                                               \
	{                                                                                          \
		.rules = list, .n = ARRAY_SIZE(list), .count = count_fn                            \
	}

extern const struct config_rules cpus_rules;
extern const struct config_rules affinity_rules;
extern const struct config_rules memory_rules;
extern const struct config_rules payload_rules;
extern const struct config_rules disk_rules;
extern const struct config_rules net_rules;
extern const struct config_rules console_rules;
extern const struct config_rules platform_rules;
extern const struct config_rules device_rules;
extern const struct config_rules slot_rules;

/* For the rules of disks and nets: "/<list>/<i>/queue_size: ..., must be like <example>". */
int check_queue_size(const char *list, size_t i, uint16_t size, unsigned int example,
		     struct err *err);

/* Rows that every PCI device of Cloud Hypervisor has. */
#define CONFIG_PCI_LATER                                                                           \
	{ .key = "iommu", .kind = CONFIG_LATER, .harmless = "false" },                             \
	{                                                                                          \
		.key = "pci_segment", .kind = CONFIG_LATER, .harmless = "0"                        \
	}
/* ... those of a kind that there may be several of ... */
#define CONFIG_PCI_FIELDS(type)                                                                    \
	{ .key = "id",                                                                             \
	  .kind = CONFIG_STRING,                                                                   \
	  .flags = CONFIG_OPTIONAL,                                                                \
	  CONFIG_AT(type, pci.id),                                                                 \
	  .check = check_id,                                                                       \
	  .arg = "ID",                                                                             \
	  .doc = "name of the device, unique in the machine; without it one is chosen" },          \
		CONFIG_PCI_PLACE(type)
/* ... and those of one that there is at most one of, whose id is fixed (device-list.c). */
#define CONFIG_PCI_SINGLE(type) { .key = "id", .kind = CONFIG_LATER }, CONFIG_PCI_PLACE(type)
#define CONFIG_PCI_PLACE(type)                                                                     \
	{ .key = "pci_device_id",                                                                  \
	  .kind = CONFIG_UINT,                                                                     \
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,                                                   \
	  CONFIG_AT(type, pci.pci_device_id),                                                      \
	  .present = offsetof(type, pci.has_pci_device_id),                                        \
	  .min = 1,                                                                                \
	  .max = VM_PCI_SLOT_MAX,                                                                  \
	  .arg = "SLOT",                                                                           \
	  .doc = "PCI slot; without it the first free one" },                                      \
		CONFIG_PCI_LATER

/* Rows that disks and nets have in Cloud Hypervisor. */
#define CONFIG_VHOST_USER_LATER                                                                    \
	{ .key = "vhost_user", .kind = CONFIG_LATER, .harmless = "false" },                        \
	{                                                                                          \
		.key = "vhost_socket", .option = "socket", .kind = CONFIG_LATER                    \
	}
#define CONFIG_RATE_LATER                                                                          \
	{ .key = "rate_limiter_config", .kind = CONFIG_LATER },                                    \
		{ .key = "bw_size", .kind = CONFIG_LATER },                                        \
		{ .key = "bw_one_time_burst", .kind = CONFIG_LATER },                              \
		{ .key = "bw_refill_time", .kind = CONFIG_LATER },                                 \
		{ .key = "ops_size", .kind = CONFIG_LATER },                                       \
		{ .key = "ops_one_time_burst", .kind = CONFIG_LATER },                             \
	{                                                                                          \
		.key = "ops_refill_time", .kind = CONFIG_LATER                                     \
	}

/* "/disks/0/path: <text>", FAULT_BAD_CONFIG; the pointer is the format's start. */
#define config_error(err, ...) err_fault(err, FAULT_BAD_CONFIG, EINVAL, __VA_ARGS__)
