/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NUMA nodes, PCI segments and what is behind an IOMMU: what is refused, with which sentence,
 * and what follows
 */
#include "refused.h"

static const struct refused refused[] = {
	{ "platform/segments", VM(",'platform':{'num_pci_segments':97}"),
	  "/platform/num_pci_segments: 97 is out of range, must be 1 to 96" },
	{ "pci_segments/none", VM(",'pci_segments':[{'pci_segment':1}]"),
	  "/pci_segments/0/pci_segment: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "pci_segments/twice", VM(",'pci_segments':[{'pci_segment':0},{'pci_segment':0}]"),
	  "/pci_segments/1/pci_segment: 0 is in /pci_segments/0 already, must be given once" },
	{ "pci_segments/weight",
	  VM(",'pci_segments':[{'pci_segment':0,'mmio64_aperture_weight':0}]"),
	  "/pci_segments/0/mmio64_aperture_weight: 0 is out of range, must be 1 to 65535" },
	{ "iommu/segment", VM(",'platform':{'iommu_segments':[1]}"),
	  "/platform/iommu_segments/0: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "iommu/segment-twice", VM(",'platform':{'num_pci_segments':2,'iommu_segments':[1,1]}"),
	  "/platform/iommu_segments/1: 1 is there twice" },
	{ "iommu/off-on-its-segment",
	  VM(",'disks':[{'path':'/x','pci_segment':1}],'platform':{'num_pci_segments':2,"
	     "'iommu_segments':[1]}"),
	  "/disks/0/iommu: is off, must be on: segment 1 is one of /platform/iommu_segments" },
	{ "iommu/width", VM(",'platform':{'iommu_address_width_bits':65}"),
	  "/platform/iommu_address_width_bits: 65 is out of range, must be 32 to 64" },
	{ "iommu/balloon", VM(",'balloon':{'iommu':true}"),
	  "/balloon/iommu: it cannot be behind an IOMMU, must be false" },
	{ "iommu/fs",
	  VM(",'memory':{'shared':true},"
	     "'fs':[{'tag':'a','source':'/a','iommu':true}]"),
	  "/fs/0/iommu: it cannot be behind an IOMMU, must be false" },
	{ "iommu/vhost", VM(",'net':[{'vhost':true,'iommu':true}]"),
	  "/net/0/iommu: cannot be had with vhost, which knows no IOMMU, must be false" },
	{ "numa/id-twice", VM(",'numa':[{'guest_numa_id':0},{'guest_numa_id':0}]"),
	  "/numa/1/guest_numa_id: 0 is /numa/0's too, must be unique" },
	{ "numa/id-gap", VM(",'numa':[{'guest_numa_id':2}]"),
	  "/numa/0/guest_numa_id: 2 leaves numbers out, must be less than the number of nodes, 1" },
	{ "numa/cpu", VM(",'numa':[{'guest_numa_id':0,'cpus':[1]}]"),
	  "/numa/0/cpus/0: 1 does not exist, must be 0 to 0" },
	{ "numa/cpu-of-two",
	  VM(",'numa':[{'guest_numa_id':0,'cpus':[0]},{'guest_numa_id':1,'cpus':[0]}]"),
	  "/numa/1/cpus/0: 0 is of /numa/0 already, must be in one node" },
	{ "numa/distance-to-nobody",
	  VM(",'numa':[{'guest_numa_id':0,'distances':[{'destination':3,'distance':20}]}]"),
	  "/numa/0/distances/0/destination: 3 is no node, must be a guest_numa_id" },
	{ "numa/distance-to-itself",
	  VM(",'numa':[{'guest_numa_id':0,'distances':[{'destination':0,'distance':20}]}]"),
	  "/numa/0/distances/0/distance: 20 to node 0, must be 10" },
	{ "numa/zone", VM(",'numa':[{'guest_numa_id':0,'memory_zones':['a']}]"),
	  "/numa/0/memory_zones/0: 'a' is no zone, must be an id of /memory/zones" },
	{ "numa/zone-of-two",
	  VM(",'memory':{'size':0,'zones':[{'id':'a'}]},'numa':[{'guest_numa_id':0,"
	     "'memory_zones':['a']},{'guest_numa_id':1,'memory_zones':['a']}]"),
	  "/numa/1/memory_zones/0: 'a' is of /numa/0 already, must be in one node" },
	{ "numa/segment", VM(",'numa':[{'guest_numa_id':0,'pci_segments':[1]}]"),
	  "/numa/0/pci_segments/0: 1 does not exist, must be less than "
	  "/platform/num_pci_segments, 1" },
	{ "numa/segment-0",
	  VM(",'numa':[{'guest_numa_id':0},{'guest_numa_id':1,'pci_segments':[0]}]"),
	  "/numa/1/pci_segments/0: segment 0 is of node 0, must not be of node 1" },
};

static void test_too_many_devices(void)
{
	g_autoptr(GString) json = g_string_new("{'payload':{'kernel':'/k'},'disks':[");
	g_autoptr(GVariant) dict = NULL;
	struct vm_config *config = NULL;
	struct err err = { 0 };

	for (unsigned int i = 0; i < 24; i++)
		g_string_append_printf(json, "%s{'path':'/d%u'}", i ? "," : "", i);
	g_string_append(json, "],'net':[{},{},{},{},{},{},{}]}");
	dict = definition_from_json(json->str);
	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, -EINVAL);
	g_assert_cmpstr(
		err.msg, ==,
		"/disks: 24 disks, 7 nets and 1 other devices need 32 PCI slots, must be at most "
		"31, or some on other segments (pci_segment)");
}

/* Another segment has 32 slots, and no more. */
static void test_devices_of_segments(void)
{
	for (unsigned int n = 32; n <= 33; n++) {
		g_autoptr(GString) json = g_string_new("{'payload':{'kernel':'/k'},'disks':[");
		_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
		g_autoptr(GVariant) dict = NULL;
		struct err err = { 0 };

		for (unsigned int i = 0; i < n; i++)
			g_string_append_printf(json, "%s{'path':'/d%u','pci_segment':1}",
					       i ? "," : "", i);
		g_string_append(json, "],'platform':{'num_pci_segments':2}}");
		dict = definition_from_json(json->str);
		g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, n == 32 ? 0 : -EINVAL);
		g_assert_cmpstr(err.msg, ==,
				n == 32 ? ""
					: "/platform/num_pci_segments: 33 devices are on segment "
					  "1, must be at most 32");
	}
}

/* What follows from the keys, and an IOMMU that nobody asked for by name. */
static void test_topology(void)
{
	g_autoptr(GVariant) dict = definition_from_json(
		"{'payload':{'kernel':'/k'},'cpus':{'boot_vcpus':3},"
		"'memory':{'size':0,'mergeable':true,'zones':[{'id':'a','size':268435456},"
		"{'id':'b','shared':true,'mergeable':false,'host_numa_node':1}]},"
		"'rng':{'iommu':true},"
		"'platform':{'num_pci_segments':3},"
		"'numa':[{'guest_numa_id':1,'cpus':[1],'memory_zones':['b'],'pci_segments':[2],"
		"'distances':[{'destination':0,'distance':40}]},"
		"{'guest_numa_id':0,'cpus':[0,2],'memory_zones':['a']}]}");
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	g_assert_cmpint(vm_config_parse(dict, &config, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpuint(memory_config_size(&config->memory), ==, 768 << 20);
	g_assert_true(memory_zone_is_mergeable(&config->memory, 0));
	g_assert_false(memory_zone_is_mergeable(&config->memory, 1));
	g_assert_true(vm_config_has_iommu(config));
	g_assert_false(vm_config_is_iommu_segment(config, 0));
	g_assert_cmpuint(numa_of_vcpu(config, 1), ==, 1);
	g_assert_cmpuint(numa_of_vcpu(config, 2), ==, 0);
	g_assert_cmpuint(numa_of_zone(config, 0), ==, 0);
	g_assert_cmpuint(numa_of_zone(config, 1), ==, 1);
	g_assert_cmpuint(numa_of_segment(config, 1), ==, 0);
	g_assert_cmpuint(numa_of_segment(config, 2), ==, 1);
	g_assert_cmpuint(numa_distance(config, 1, 0), ==, 40);
	g_assert_cmpuint(numa_distance(config, 0, 1), ==, 40);
	g_assert_cmpuint(numa_distance(config, 0, 0), ==, 10);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	g_test_add_func("/config/parse/too-many-devices", test_too_many_devices);
	g_test_add_func("/config/devices-of-segments", test_devices_of_segments);
	g_test_add_func("/config/topology", test_topology);
	return g_test_run();
}
