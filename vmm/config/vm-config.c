/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/vm-config.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/device-list.h"
#include "vmm/config/problems.h"
#include "vmm/config/tables.h"

static const struct config_field rng_fields[] = {
	{ .key = "src",
	  .kind = CONFIG_STRING,
	  .flags = CONFIG_RESOURCE,
	  CONFIG_AT(struct rng_config, src),
	  .check = check_path,
	  .resource = RESOURCE_SOURCE,
	  .def_text = "/dev/urandom",
	  .arg = "PATH",
	  .doc = "where the random bytes come from" },
	CONFIG_PCI_SINGLE(struct rng_config),
};
const struct config_table rng_table = {
	.name = "Random numbers",
	.doc = "The virtio entropy device, which every machine has.",
	.fields = rng_fields,
	.n_fields = ARRAY_SIZE(rng_fields),
	.size = sizeof(struct rng_config),
};

#define SECTION(name, option_name, section_table)                                                  \
	{                                                                                          \
		.key = #name, .option = option_name, .kind = CONFIG_STRUCT,                        \
		.flags = CONFIG_OPTIONAL, CONFIG_AT(struct vm_config, name),                       \
		.table = &section_table                                                            \
	}
#define LATER(name, option_name, harmless_value)                                                   \
	{                                                                                          \
		.key = name, .option = option_name, .kind = CONFIG_LATER,                          \
		.harmless = harmless_value                                                         \
	}

static const struct config_field vm_fields[] = {
	SECTION(cpus, NULL, cpus_table),
	SECTION(memory, NULL, memory_table),
	SECTION(payload, NULL, payload_table),
	{ .key = "disks",
	  .option = "disk",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, disks),
	  .count = offsetof(struct vm_config, n_disks),
	  .table = &disk_table,
	  .list_max = VM_DISKS_MAX },
	{ .key = "net",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, nets),
	  .count = offsetof(struct vm_config, n_nets),
	  .table = &net_table,
	  .list_max = VM_NETS_MAX },
	SECTION(rng, NULL, rng_table),
	SECTION(serial, NULL, serial_table),
	SECTION(console, NULL, console_table),
	SECTION(debug_console, "debug-console", debug_console_table),
	SECTION(platform, NULL, platform_table),
	{ .key = "rate_limit_groups",
	  .option = "rate-limit-group",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, rate_limit_groups),
	  .count = offsetof(struct vm_config, n_rate_limit_groups),
	  .table = &rate_limit_group_table,
	  .list_max = VM_RATE_GROUPS_MAX },
	{ .key = "rtc",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct vm_config, rtc),
	  .present = offsetof(struct vm_config, has_rtc),
	  .table = &rtc_table },
	{ .key = "balloon",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct vm_config, balloon),
	  .present = offsetof(struct vm_config, has_balloon),
	  .table = &balloon_table },
	LATER("generic_vhost_user", "generic-vhost-user", NULL),
	{ .key = "fs",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, fs),
	  .count = offsetof(struct vm_config, n_fs),
	  .table = &fs_table,
	  .list_max = VM_FS_MAX },
	{ .key = "pmem",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, pmem),
	  .count = offsetof(struct vm_config, n_pmem),
	  .table = &pmem_table,
	  .list_max = VM_PMEM_MAX },
	LATER("devices", "device", NULL),
	LATER("user_devices", "user-device", NULL),
	LATER("vdpa", NULL, NULL),
	{ .key = "vsock",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct vm_config, vsock),
	  .present = offsetof(struct vm_config, has_vsock),
	  .table = &vsock_table },
	{ .key = "pvpanic",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct vm_config, pvpanic.enabled),
	  .doc = "a device by which a guest that panics can say so: signal GuestPanicked" },
	{ .key = "iommu",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct vm_config, iommu.enabled),
	  .doc = "a virtio-iommu, which is there anyway when a device is behind it (iommu=on)" },
	{ .key = "numa",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, numa),
	  .count = offsetof(struct vm_config, n_numa),
	  .table = &numa_table,
	  .list_max = VM_NUMA_NODES_MAX },
	LATER("sgx_epc", "sgx-epc", NULL),
	{ .key = "watchdog",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct vm_config, watchdog),
	  .doc = "a watchdog (ACPI's WDAT, Linux wdat_wdt), which the guest arms and feeds" },
	{ .key = "watchdog_action",
	  .option = "watchdog-action",
	  .kind = CONFIG_ENUM,
	  CONFIG_AT(struct vm_config, watchdog_action),
	  .def = WATCHDOG_ACTION_RESET,
	  .names = &watchdog_action_names,
	  .doc = "what is done when the guest no longer feeds its watchdog; report: nothing but "
		 "the Event that is signalled in any case" },
	LATER("gdb", NULL, "false"),
	{ .key = "pci_segments",
	  .option = "pci-segment",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct vm_config, pci_segments),
	  .count = offsetof(struct vm_config, n_pci_segments),
	  .table = &pci_segment_table,
	  .list_max = VM_PCI_SEGMENTS_MAX },
	LATER("tpm", NULL, NULL),
	LATER("landlock_enable", "landlock", "false"),
	LATER("landlock_rules", "landlock-rules", NULL),
	LATER("ivshmem", NULL, NULL),
	LATER("pvmemcontrol", NULL, NULL),
	LATER("preserved_fds", NULL, NULL),
};
const struct config_table vm_table = {
	.name = "Virtual machine",
	.doc = "A definition is one JSON object with the keys of Cloud Hypervisor's VmConfig.",
	.fields = vm_fields,
	.n_fields = ARRAY_SIZE(vm_fields),
	.size = sizeof(struct vm_config),
};

int check_queue_size(const char *list, size_t i, uint16_t size, unsigned int example,
		     struct err *err)
{
	if ((size & (size - 1)) == 0)
		return 0;
	return config_error(err, "/%s/%zu/queue_size: %u is not a power of two, must be like %u",
			    list, i, size, example);
}

/* --- the public functions -------------------------------------------------- */

static bool sees_given_values(const struct config_rule *rule,
			      const struct config_problems *problems)
{
	for (size_t i = 0; i < ARRAY_SIZE(rule->reads) && rule->reads[i]; i++) {
		const struct config_field *row = config_find(&vm_table, rule->reads[i], false);

		if (problems->wrong_rows & 1ULL << (row - vm_table.fields))
			return false;
	}
	return true;
}

static void ask_rules(const struct config_rules *rules, const struct vm_config *config,
		      struct config_problems *problems)
{
	size_t count = rules->count ? rules->count(config) : 1;

	for (size_t i = 0; i < rules->n; i++) {
		const struct config_rule *rule = &rules->rules[i];

		if (!sees_given_values(rule, problems))
			continue;
		for (size_t j = 0; j < count; j++) {
			struct err err = { 0 };

			if (rule->check(config, j, &err) < 0)
				config_problem_add(problems, &err);
		}
	}
}

/* The configuration is complete, right or wrong. */
static struct vm_config *parse(GVariant *dict, struct config_problems *problems)
{
	static const struct config_rules *const rules[] = {
		&cpus_rules,    &affinity_rules, &memory_rules,      &payload_rules,
		&disk_rules,    &fs_rules,       &pmem_rules,        &net_rules,
		&console_rules, &platform_rules, &device_rules,      &rate_limit_group_rules,
		&slot_rules,    &balloon_rules,  &fw_cfg_rules,      &zones_rules,
		&zone_rules,    &numa_rules,     &pci_segment_rules,
	};
	const struct config_path root = { 0 };
	g_autoptr(GVariant) top = config_value_unwrap(dict);
	struct vm_config *config = g_new0(struct vm_config, 1);

	config_parse(&vm_table, top, &root, config, problems);
	if (config->cpus.max_vcpus == 0)
		config->cpus.max_vcpus = config->cpus.boot_vcpus;
	config_nets_settle(config);
	for (size_t i = 0; i < ARRAY_SIZE(rules) && !config_problems_full(problems); i++)
		ask_rules(rules[i], config, problems);
	config_problems_sort(problems, top);
	config_devices_choose_ids(config);
	config_rate_limits_settle(config);
	return config;
}

int vm_config_parse_all(GVariant *dict, struct vm_config **ret,
			struct config_problems *ret_problems)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = parse(dict, ret_problems);
	int r = config_problems_first(ret_problems, NULL);

	if (r == 0)
		*ret = TAKE_PTR(config);
	return r;
}

int vm_config_parse(GVariant *dict, struct vm_config **ret, struct err *err)
{
	_cleanup_(config_problems_deinit) struct config_problems problems = { 0 };
	int r = vm_config_parse_all(dict, ret, &problems);

	return r < 0 ? config_problems_first(&problems, err) : 0;
}

GVariant *vm_config_serialise(const struct vm_config *config)
{
	return config_serialise(&vm_table, config);
}

void vm_config_free(struct vm_config *config)
{
	if (!config)
		return;
	config_clear(&vm_table, config);
	g_free(config);
}

struct resource_walk {
	int (*fn)(const struct resource *res, char **value, void *data, struct err *err);
	void *data;
	struct err *err;
};

/* The descriptors of a net stand where its tap does. */
static int walk_fds(const struct net_config *net, const char *pointer, size_t index,
		    const struct resource_walk *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && net->fds[i]; i++) {
		g_autofree char *here = g_strdup_printf("%s/fds/%zu", pointer, i);
		struct resource res = {
			.pointer = here,
			.kind = RESOURCE_TAP,
			.value = net->fds[i],
			.index = index,
			.queue = i,
		};

		r = w->fn(&res, &net->fds[i], w->data, w->err);
	}
	return r;
}

/* A console's terminal: nothing names it, the mode asks for it. */
static bool asks_for_pty(const struct config_table *table, const struct config_field *field,
			 const void *base)
{
	return (table == &serial_table || table == &console_table ||
		table == &debug_console_table) &&
	       field->offset == offsetof(struct console_config, mode) &&
	       ((const struct console_config *)base)->mode == CONSOLE_MODE_PTY;
}

static int walk_pty(const char *pointer, const struct resource_walk *w)
{
	const struct resource res = { .pointer = pointer, .kind = RESOURCE_PTY };
	g_autofree char *nothing = NULL;

	return w->fn(&res, &nothing, w->data, w->err);
}

static void fill_disk(struct resource *res, const struct disk_config *disk)
{
	res->readonly = disk->readonly;
	res->direct = disk->direct;
}

static int walk(const struct config_table *table, void *base, const char *pointer, size_t index,
		const struct resource_walk *w)
{
	for (size_t i = 0; i < table->n_fields; i++) {
		const struct config_field *field = &table->fields[i];
		g_autofree char *here = g_strdup_printf("%s/%s", pointer, field->key);
		int r = 0;

		if (field->kind == CONFIG_STRINGS) {
			continue; /* net.fds, which was seen with net.tap */
		} else if (table == &net_table && field->resource == RESOURCE_TAP &&
			   ((const struct net_config *)base)->fds) {
			r = walk_fds(base, pointer, index, w);
		} else if (field->kind == CONFIG_ENUM && asks_for_pty(table, field, base)) {
			r = walk_pty(here, w);
		} else if (field->flags & CONFIG_RESOURCE) {
			char **value = (char **)(void *)((char *)base + field->offset);
			struct resource res = {
				.pointer = here,
				.kind = field->resource,
				.value = *value,
				.readonly = field->resource == RESOURCE_FILE_READ ||
					    field->resource == RESOURCE_SOURCE,
				.index = index,
			};

			if (table == &disk_table)
				fill_disk(&res, base);
			else if (table == &pmem_table)
				res.readonly = ((const struct pmem_config *)base)->discard_writes;
			if (table == &zone_table)
				res.readonly = !((struct memory_zone_config *)base)->shared;
			if (*value || field->resource == RESOURCE_TAP)
				r = w->fn(&res, value, w->data, w->err);
		} else if (field->kind == CONFIG_STRUCT && config_is_present(field, base)) {
			r = walk(field->table, (char *)base + field->offset, here, 0, w);
		} else if (field->kind == CONFIG_LIST) {
			for (size_t j = 0; r == 0 && j < config_list_count(field, base); j++) {
				g_autofree char *item = g_strdup_printf("%s/%zu", here, j);

				r = walk(field->table, config_list_at(field, base, j), item, j, w);
			}
		}
		if (r != 0)
			return r;
	}
	return 0;
}

const char *vm_config_fd_name(const char *value)
{
	size_t len = strlen(CONFIG_FD_PREFIX);

	return value && strncmp(value, CONFIG_FD_PREFIX, len) == 0 ? value + len : NULL;
}

struct foreach_data {
	int (*fn)(const struct resource *res, void *data, struct err *err);
	void *data;
};

static int foreach_one(const struct resource *res, char **value _unused_, void *data,
		       struct err *err)
{
	struct foreach_data *f = data;

	return f->fn(res, f->data, err);
}

int vm_config_foreach_resource(const struct vm_config *config,
			       int (*fn)(const struct resource *res, void *data, struct err *err),
			       void *data, struct err *err)
{
	struct foreach_data f = { fn, data };
	struct resource_walk w = { foreach_one, &f, err };

	/* The walk is shared with stripping; foreach_one() changes nothing. */
	return walk(&vm_table, (void *)(uintptr_t)config, "", 0, &w);
}

static int strip_one(const struct resource *res, char **value, void *data _unused_,
		     struct err *err _unused_)
{
	g_free(*value);
	*value = g_strdup(res->pointer);
	return 0;
}

void vm_config_strip_resources(struct vm_config *config)
{
	struct resource_walk w = { strip_one, NULL, NULL };

	/* To the worker all taps are alike. */
	for (size_t i = 0; i < config->n_nets; i++)
		g_clear_pointer(&config->nets[i].fds, g_strfreev);
	walk(&vm_table, config, "", 0, &w);
}
