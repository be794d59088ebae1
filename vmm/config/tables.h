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
extern const struct config_table fs_table;
extern const struct config_table pmem_table;
extern const struct config_table net_table;
extern const struct config_table rng_table;
extern const struct config_table rate_limiter_table; /* a rate_limiter_config */
extern const struct config_table rate_limit_group_table;
extern const struct config_table balloon_table;
extern const struct config_table rtc_table;
extern const struct config_table vsock_table;
extern const struct config_table fw_cfg_table;
extern const struct config_table serial_table;
extern const struct config_table console_table;
extern const struct config_table debug_console_table;
extern const struct config_table platform_table;
extern const struct config_table zone_table;
extern const struct config_table numa_table;
extern const struct config_table pci_segment_table;

extern const struct config_names watchdog_action_names;

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
extern const struct config_rules fs_rules;
extern const struct config_rules pmem_rules;
extern const struct config_rules net_rules;
extern const struct config_rules rate_limit_group_rules;
extern const struct config_rules console_rules;
extern const struct config_rules platform_rules;
extern const struct config_rules balloon_rules;
extern const struct config_rules fw_cfg_rules;
extern const struct config_rules device_rules;
extern const struct config_rules slot_rules;
extern const struct config_rules zone_rules;
extern const struct config_rules zones_rules;
extern const struct config_rules numa_rules;
extern const struct config_rules pci_segment_rules;

/* Rules of disks and nets that are of their rate limits (rate-limit.c). */
int check_disk_rate_limit(const struct vm_config *config, size_t i, struct err *err);
int check_disk_rate_limit_group(const struct vm_config *config, size_t i, struct err *err);
/* Of memory, or of the zone at pointer. */
int memory_check_hotplugged(const struct memory_config *memory, const char *pointer,
			    uint64_t hotplug_size, uint64_t size, struct err *err);
int check_net_rate_limit(const struct vm_config *config, size_t i, struct err *err);
/* The keys of option strings become the object. */
void config_rate_limits_settle(struct vm_config *config);
/* Networks that do not say how many queues they have: a pair a descriptor, or one. */
void config_nets_settle(struct vm_config *config);
void rate_limit_settle(struct rate_limit_config *limit, bool *has);

/* For the rules of disks and nets: "/<list>/<i>/queue_size: ..., must be like <example>". */
int check_queue_size(const char *list, size_t i, uint16_t size, unsigned int example,
		     struct err *err);

/* Rows that every PCI device of Cloud Hypervisor has: those of a kind that there may be several of
 * ... */
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
	  .min = 0,                                                                                \
	  .max = VM_PCI_SLOT_MAX,                                                                  \
	  .arg = "SLOT",                                                                           \
	  .doc = "PCI slot; without it the first free one" },                                      \
		{ .key = "pci_segment",                                                            \
		  .kind = CONFIG_UINT,                                                             \
		  CONFIG_AT(type, pci.pci_segment),                                                \
		  .max = VM_PCI_SEGMENTS_MAX - 1,                                                  \
		  .arg = "SEGMENT",                                                                \
		  .doc = "PCI segment, less than platform's num_pci_segments" },                   \
	{                                                                                          \
		.key = "iommu", .kind = CONFIG_BOOL, CONFIG_AT(type, pci.iommu),                   \
		.doc = "put the device behind a virtio-iommu"                                      \
	}

/* Rows that disks and nets have in Cloud Hypervisor. */
#define CONFIG_VHOST_USER_LATER                                                                    \
	{ .key = "vhost_user", .kind = CONFIG_LATER, .harmless = "false" },                        \
	{                                                                                          \
		.key = "vhost_socket", .option = "socket", .kind = CONFIG_LATER                    \
	}
/*
 * A rate limit: the object, and the keys of the option strings.  `prefix` is "", "rx_" or "tx_"; of
 * says what is limited.
 */
#define CONFIG_RATE_FIELDS(type, prefix, limit_member, has_member, of)                             \
	{ .key = prefix "rate_limiter_config",                                                     \
	  .kind = CONFIG_STRUCT,                                                                   \
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS | CONFIG_NO_OPTION,                                \
	  CONFIG_AT(type, limit_member),                                                           \
	  .present = offsetof(type, has_member),                                                   \
	  .table = &rate_limiter_table,                                                            \
	  .arg = "OBJECT",                                                                         \
	  .doc = "what may pass in some time, " of                                                 \
		 ": the objects bandwidth and ops, each with size, refill_time in milliseconds "   \
		 "and one_time_burst, see " prefix "bw_size" },                                    \
		CONFIG_RATE_BUCKET(type, prefix, "bw", limit_member.flat_bandwidth, "bytes", of),  \
		CONFIG_RATE_BUCKET(type, prefix, "ops", limit_member.flat_ops, "operations", of)
#define CONFIG_RATE_BUCKET(type, prefix, name, member, what, of)                                   \
	{ .key = prefix name "_size",                                                              \
	  .kind = CONFIG_SIZE,                                                                     \
	  .flags = CONFIG_OPTIONAL,                                                                \
	  CONFIG_AT(type, member.size),                                                            \
	  .max = RATE_LIMIT_SIZE_MAX,                                                              \
	  .arg = "COUNT",                                                                          \
	  .doc = what " that may pass, " of ", each " prefix name                                  \
		      "_refill_time, evenly: after a rest no more than a tenth of a second's at "  \
		      "once" },                                                                    \
		{ .key = prefix name "_one_time_burst",                                            \
		  .kind = CONFIG_SIZE,                                                             \
		  .flags = CONFIG_OPTIONAL,                                                        \
		  CONFIG_AT(type, member.one_time_burst),                                          \
		  .max = RATE_LIMIT_SIZE_MAX,                                                      \
		  .arg = "COUNT",                                                                  \
		  .doc = what " that may pass besides, once" },                                    \
	{                                                                                          \
		.key = prefix name "_refill_time", .kind = CONFIG_UINT, .flags = CONFIG_OPTIONAL,  \
		CONFIG_AT(type, member.refill_time), .max = 24UL * 3600 * 1000, .arg = "MS",       \
		.doc = "milliseconds"                                                              \
	}

/* "/disks/0/path: <text>", FAULT_BAD_CONFIG; the pointer is the format's start. */
#define config_error(err, ...) err_fault(err, FAULT_BAD_CONFIG, EINVAL, __VA_ARGS__)
