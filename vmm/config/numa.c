/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `numa`: nodes that the guest sees
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/config/tables.h"

#define DISTANCE_LOCAL 10 /* ACPI 6.5, 5.2.17 */

static const struct config_field distance_fields[] = {
	{ .key = "destination",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct numa_distance_config, destination),
	  .max = VM_NUMA_NODES_MAX - 1,
	  .arg = "NODE",
	  .doc = "guest_numa_id of the other node" },
	{ .key = "distance",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct numa_distance_config, distance),
	  .min = DISTANCE_LOCAL,
	  .max = 255,
	  .arg = "DISTANCE",
	  .doc = "10 is as near as the own memory, 255 out of reach" },
};
static const struct config_table distance_table = {
	.name = "NUMA distance",
	.fields = distance_fields,
	.n_fields = ARRAY_SIZE(distance_fields),
	.size = sizeof(struct numa_distance_config),
};

static const struct config_field numa_fields[] = {
	{ .key = "guest_numa_id",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct numa_config, guest_numa_id),
	  .max = VM_NUMA_NODES_MAX - 1,
	  .arg = "NODE",
	  .doc = "number of the node" },
	{ .key = "cpus",
	  .kind = CONFIG_UINTS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct numa_config, cpus),
	  .count = offsetof(struct numa_config, n_cpus),
	  .max = VM_VCPUS_MAX - 1,
	  .list_max = VM_VCPUS_MAX,
	  .arg = "[VCPU,...]",
	  .doc = "its vCPUs; those of no node are of the first one listed" },
	{ .key = "distances",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct numa_config, distances),
	  .count = offsetof(struct numa_config, n_distances),
	  .table = &distance_table,
	  .list_max = VM_NUMA_NODES_MAX,
	  .def_text = "20",
	  .arg = "[NODE@DISTANCE,...]",
	  .doc = "how far other nodes are, the same both ways unless the other one says so" },
	{ .key = "memory_zones",
	  .kind = CONFIG_STRINGS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct numa_config, memory_zones),
	  .list_max = VM_MEMORY_ZONES_MAX,
	  .arg = "[ID,...]",
	  .doc = "its memory: ids of zones" },
	{ .key = "pci_segments",
	  .kind = CONFIG_UINTS,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct numa_config, pci_segments),
	  .count = offsetof(struct numa_config, n_pci_segments),
	  .max = VM_PCI_SEGMENTS_MAX - 1,
	  .list_max = VM_PCI_SEGMENTS_MAX,
	  .arg = "[SEGMENT,...]",
	  .doc = "PCI segments that are near to it; segment 0 is node 0's" },
	{ .key = "device_id", .kind = CONFIG_LATER },
};
const struct config_table numa_table = {
	.name = "NUMA node",
	.doc = "A NUMA node of the guest.",
	.fields = numa_fields,
	.n_fields = ARRAY_SIZE(numa_fields),
	.size = sizeof(struct numa_config),
};

static const struct numa_config *find_node(const struct vm_config *config, uint32_t id)
{
	for (size_t i = 0; i < config->n_numa; i++)
		if (config->numa[i].guest_numa_id == id)
			return &config->numa[i];
	return NULL;
}

static bool has_number(const uint32_t *list, size_t n, uint32_t number)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == number)
			return true;
	return false;
}

uint32_t numa_of_vcpu(const struct vm_config *config, uint32_t vcpu)
{
	for (size_t i = 0; i < config->n_numa; i++)
		if (has_number(config->numa[i].cpus, config->numa[i].n_cpus, vcpu))
			return config->numa[i].guest_numa_id;
	return config->n_numa ? config->numa[0].guest_numa_id : 0;
}

uint32_t numa_of_segment(const struct vm_config *config, uint16_t segment)
{
	for (size_t i = 0; i < config->n_numa; i++)
		if (has_number(config->numa[i].pci_segments, config->numa[i].n_pci_segments,
			       segment))
			return config->numa[i].guest_numa_id;
	return 0;
}

uint32_t numa_of_zone(const struct vm_config *config, size_t zone)
{
	for (size_t i = 0; i < config->n_numa && zone < config->memory.n_zones; i++)
		if (config->numa[i].memory_zones &&
		    g_strv_contains((const char *const *)config->numa[i].memory_zones,
				    config->memory.zones[zone].id))
			return config->numa[i].guest_numa_id;
	return config->n_numa ? config->numa[0].guest_numa_id : 0;
}

static const struct numa_distance_config *find_distance(const struct numa_config *from, uint32_t to)
{
	for (size_t i = 0; from && i < from->n_distances; i++)
		if (from->distances[i].destination == to)
			return &from->distances[i];
	return NULL;
}

uint8_t numa_distance(const struct vm_config *config, uint32_t from, uint32_t to)
{
	const struct numa_distance_config *d;

	if (from == to)
		return DISTANCE_LOCAL;
	d = find_distance(find_node(config, from), to);
	if (!d)
		d = find_distance(find_node(config, to), from);
	return d ? d->distance : 20;
}

/* --- the rules ------------------------------------------------------------- */

static int check_node_id(const struct vm_config *config, size_t i, struct err *err)
{
	const struct numa_config *numa = config->numa;

	for (size_t j = 0; j < i; j++)
		if (numa[i].guest_numa_id == numa[j].guest_numa_id)
			return config_error(err,
					    "/numa/%zu/guest_numa_id: %u is /numa/%zu's too, must "
					    "be unique",
					    i, numa[i].guest_numa_id, j);
	if (numa[i].guest_numa_id >= config->n_numa)
		return config_error(err,
				    "/numa/%zu/guest_numa_id: %u leaves numbers out, must be less "
				    "than the number of nodes, %zu",
				    i, numa[i].guest_numa_id, config->n_numa);
	return 0;
}

static int check_node_cpus(const struct vm_config *config, size_t i, struct err *err)
{
	const struct numa_config *node = &config->numa[i];
	uint32_t n = MAX(config->cpus.max_vcpus, config->cpus.boot_vcpus);

	for (size_t k = 0; k < node->n_cpus; k++) {
		if (node->cpus[k] >= n)
			return config_error(
				err, "/numa/%zu/cpus/%zu: %u does not exist, must be 0 to %u", i, k,
				node->cpus[k], n - 1);
		if (has_number(node->cpus, k, node->cpus[k]))
			return config_error(err, "/numa/%zu/cpus/%zu: %u is there twice", i, k,
					    node->cpus[k]);
		for (size_t j = 0; j < i; j++)
			if (has_number(config->numa[j].cpus, config->numa[j].n_cpus, node->cpus[k]))
				return config_error(err,
						    "/numa/%zu/cpus/%zu: %u is of /numa/%zu "
						    "already, must be in one node",
						    i, k, node->cpus[k], j);
	}
	return 0;
}

static int check_node_distances(const struct vm_config *config, size_t i, struct err *err)
{
	const struct numa_config *node = &config->numa[i];

	for (size_t k = 0; k < node->n_distances; k++) {
		const struct numa_distance_config *d = &node->distances[k];

		if (!find_node(config, d->destination))
			return config_error(err,
					    "/numa/%zu/distances/%zu/destination: %u is no node, "
					    "must be a guest_numa_id",
					    i, k, d->destination);
		if (d->destination == node->guest_numa_id ? d->distance != DISTANCE_LOCAL
							  : d->distance <= DISTANCE_LOCAL)
			return config_error(err,
					    "/numa/%zu/distances/%zu/distance: %u to node %u, must "
					    "be %s",
					    i, k, d->distance, d->destination,
					    d->destination == node->guest_numa_id ? "10"
										  : "more than 10");
		for (size_t j = 0; j < k; j++)
			if (node->distances[j].destination == d->destination)
				return config_error(err,
						    "/numa/%zu/distances/%zu/destination: %u is "
						    "there twice",
						    i, k, d->destination);
	}
	return 0;
}

static bool zone_exists(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->memory.n_zones; i++)
		if (g_strcmp0(config->memory.zones[i].id, id) == 0)
			return true;
	return false;
}

static int check_node_zones(const struct vm_config *config, size_t i, struct err *err)
{
	char **zones = config->numa[i].memory_zones;

	for (size_t k = 0; zones && zones[k]; k++) {
		if (!zone_exists(config, zones[k]))
			return config_error(err,
					    "/numa/%zu/memory_zones/%zu: '%s' is no zone, must be "
					    "an id of /memory/zones",
					    i, k, zones[k]);
		for (size_t j = 0; j <= i; j++) {
			char **others = config->numa[j].memory_zones;
			size_t n = j == i ? k : SIZE_MAX;

			for (size_t l = 0; others && l < n && others[l]; l++)
				if (g_strcmp0(others[l], zones[k]) == 0)
					return config_error(
						err,
						"/numa/%zu/memory_zones/%zu: '%s' is of /numa/%zu "
						"already, must be in one node",
						i, k, zones[k], j);
		}
	}
	return 0;
}

static int check_node_segments(const struct vm_config *config, size_t i, struct err *err)
{
	const struct numa_config *node = &config->numa[i];

	for (size_t k = 0; k < node->n_pci_segments; k++) {
		uint32_t segment = node->pci_segments[k];

		if (segment >= config->platform.num_pci_segments)
			return config_error(err,
					    "/numa/%zu/pci_segments/%zu: %u does not exist, must "
					    "be less than /platform/num_pci_segments, %u",
					    i, k, segment, config->platform.num_pci_segments);
		if (segment == 0 && node->guest_numa_id != 0)
			return config_error(err,
					    "/numa/%zu/pci_segments/%zu: segment 0 is of node 0, "
					    "must not be of node %u",
					    i, k, node->guest_numa_id);
		for (size_t j = 0; j <= i; j++)
			if (has_number(config->numa[j].pci_segments,
				       j == i ? k : config->numa[j].n_pci_segments, segment))
				return config_error(err,
						    "/numa/%zu/pci_segments/%zu: %u is of "
						    "/numa/%zu already, must be in one node",
						    i, k, segment, j);
	}
	return 0;
}

static size_t count_nodes(const struct vm_config *config)
{
	return config->n_numa;
}

static const struct config_rule each_node[] = {
	{ check_node_id, { "numa" } },
	{ check_node_cpus, { "numa", "cpus" } },
	{ check_node_distances, { "numa" } },
	{ check_node_zones, { "numa", "memory" } },
	{ check_node_segments, { "numa", "platform" } },
};
const struct config_rules numa_rules = CONFIG_RULES(each_node, count_nodes);
