/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a definition, its zones and what can be added later: what is refused, with which
 * sentence
 */
#include "refused.h"

static const struct refused refused[] = {
	{ "memory/inexact", VM(",'memory':{'size':1e300}"),
	  "/memory/size: must be an integer, is 1e+300" },
	{ "memory/inexact-negative", VM(",'memory':{'size':-9007199254740994.0}"),
	  "/memory/size: must be an integer, is -9.00719925474099e+15" },
	{ "memory/zero", VM(",'memory':{'size':0}"),
	  "/memory/size: is 0 and there are no /memory/zones, must be at least 16777216 (16 MiB)" },
	{ "memory/megabytes-meant", VM(",'memory':{'size':512}"),
	  "/memory/size: 512 bytes are too few, must be at least 16777216 (16 MiB)" },
	{ "memory/odd", VM(",'memory':{'size':16777217}"),
	  "/memory/size: 16777217 is not a multiple of 1 MiB (1048576), must be like 16777216" },
	{ "memory/string", VM(",'memory':{'size':'1G'}"),
	  "/memory/size: must be an integer, is the string '1G'" },
	{ "memory/too-large", VM(",'memory':{'size':70368744177664}"),
	  "/memory/size: 70368744177664 does not fit 46 address bits, must be at most "
	  "70363375468544 (or raise /cpus/max_phys_bits)" },
	{ "memory/mergeable-shared", VM(",'memory':{'mergeable':true,'shared':true}"),
	  "/memory/mergeable: cannot be had with /memory/shared, must be false" },
	{ "memory/mergeable-hugepages", VM(",'memory':{'mergeable':true,'hugepages':true}"),
	  "/memory/mergeable: cannot be had with /memory/hugepages, must be false" },
	{ "memory/hugepage-size-alone", VM(",'memory':{'hugepage_size':2097152}"),
	  "/memory/hugepage_size: has no effect, needs /memory/hugepages" },
	{ "memory/hugepage-size-odd", VM(",'memory':{'hugepages':true,'hugepage_size':3000000}"),
	  "/memory/hugepage_size: 3000000 is not a page size, must be a power of two like 2097152" },
	{ "memory/hugepage-size-large",
	  VM(",'memory':{'hugepages':true,'hugepage_size':1073741824}"),
	  "/memory/hugepage_size: 1073741824 does not divide /memory/size, must be smaller" },
	{ "hotplug-size", VM(",'memory':{'hotplug_size':1073741825}"),
	  "/memory/hotplug_size: 1073741825 is not a multiple of 128 MiB (134217728), must be like "
	  "1207959552" },
	{ "hotplug-zones",
	  VM(",'memory':{'size':0,'hotplug_size':134217728,'zones':[{'id':'a','size':67108864}]}"),
	  "/memory/hotplug_size: 134217728 cannot be had with /memory/zones, must be left out" },
	{ "hotplug-method", VM(",'memory':{'hotplug_method':'Pages'}"),
	  "/memory/hotplug_method: 'Pages' is unknown, must be Acpi or VirtioMem" },
	{ "hotplugged-acpi", VM(",'memory':{'hotplug_size':134217728,'hotplugged_size':134217728}"),
	  "/memory/hotplugged_size: 134217728 has no effect, needs /memory/hotplug_method VirtioMem" },
	{ "hotplugged-more",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,"
	     "'hotplugged_size':136314880}"),
	  "/memory/hotplugged_size: 136314880 is more than /memory/hotplug_size, must be at most "
	  "134217728" },
	{ "hotplugged-block",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,"
	     "'hotplugged_size':1048576}"),
	  "/memory/hotplugged_size: 1048576 is not a multiple of 2097152, must be like 2097152" },
	{ "hotplug-hugepages",
	  VM(",'memory':{'hotplug_method':'VirtioMem','hotplug_size':134217728,'hugepages':true}"),
	  "/memory/hugepages: cannot be had with hotplug_method VirtioMem, must be false: blocks "
	  "could not be given back" },
	{ "zone-hotplug-acpi",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','size':67108864,'hotplug_size':134217728}]}"),
	  "/memory/zones/0/hotplug_size: 134217728 has no effect, needs /memory/hotplug_method "
	  "VirtioMem" },
	{ "zone-hotplug-unit",
	  VM(",'memory':{'size':0,'hotplug_method':'VirtioMem','zones':[{'id':'a','size':67108864,"
	     "'hotplug_size':2097152}]}"),
	  "/memory/zones/0/hotplug_size: 2097152 is not a multiple of 128 MiB (134217728)" },
	{ "zone-hotplugged",
	  VM(",'memory':{'size':0,'hotplug_method':'VirtioMem','zones':[{'id':'a','size':67108864,"
	     "'hotplugged_size':2097152}]}"),
	  "/memory/zones/0/hotplugged_size: 2097152 is more than /memory/zones/0/hotplug_size, must "
	  "be at most 0" },
	{ "zones/none", VM(",'memory':{'size':0}"),
	  "/memory/size: is 0 and there are no /memory/zones, must be at least 16777216 (16 MiB)" },
	{ "zones/both", VM(",'memory':{'zones':[{'id':'a'}]}"),
	  "/memory/size: 536870912 and /memory/zones cannot both be, must be 0: the zones are all "
	  "of the memory" },
	{ "zones/shared", VM(",'memory':{'size':0,'shared':true,'zones':[{'id':'a'}]}"),
	  "/memory/shared: has no effect with /memory/zones, must be set for each zone" },
	{ "zones/no-id", VM(",'memory':{'size':0,'zones':[{}]}"),
	  "/memory/zones/0/id: missing, must be given" },
	{ "zones/same-id", VM(",'memory':{'size':0,'zones':[{'id':'a'},{'id':'a'}]}"),
	  "/memory/zones/1/id: 'a' is zone 0's too, must be unique" },
	{ "zones/size",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','size':17825792},{'id':'b',"
	     "'size':1048576}]}"),
	  "/memory/zones/0/size: 17825792 is not a multiple of 2 MiB (2097152) above 0" },
	{ "zones/size-0", VM(",'memory':{'size':0,'zones':[{'id':'a','size':0}]}"),
	  "/memory/zones/0/size: 0 is not a multiple of 2 MiB (2097152) above 0" },
	{ "zones/size-odd",
	  VM(",'memory':{'size':0,'zones':[{'id':'a'},{'id':'b','size':33554433}]}"),
	  "/memory/zones/1/size: 33554433 is not a multiple of 2 MiB (2097152) above 0" },
	{ "zones/too-small", VM(",'memory':{'size':0,'zones':[{'id':'a','size':2097152}]}"),
	  "/memory/zones: 2097152 bytes are too few, must be at least 16777216 (16 MiB)" },
	{ "zones/too-large",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','size':4611686018427387904}]}"),
	  "/memory/zones: 4611686018427387904 in all does not fit 46 address bits, must be at most "
	  "70363375468544 (or raise /cpus/max_phys_bits)" },
	{ "zones/hotplug-too-large",
	  VM(",'memory':{'size':0,'hotplug_method':'VirtioMem','zones':[{'id':'a',"
	     "'hotplug_size':1152921504606846976}]}"),
	  "/memory/zones/0/hotplug_size: 1152921504606846976 does not fit 46 address bits, all zones "
	  "and what may come must be at most 70363375468544 (or raise /cpus/max_phys_bits)" },
	{ "zones/hugepage_size",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','hugepage_size':"
	     "2097152}]}"),
	  "/memory/zones/0/hugepage_size: has no effect, needs /memory/zones/0/hugepages" },
	{ "zones/file-hugepages",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','hugepages':true}]}"),
	  "/memory/zones/0/hugepages: cannot be had with a file, must be false: a file on hugetlbfs "
	  "is of huge pages" },
	{ "zones/file-node",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','file':'/x','shared':true,"
	     "'host_numa_node':0}]}"),
	  "/memory/zones/0/host_numa_node: cannot be had with a shared file, whose pages may be "
	  "there already, must be left out" },
	{ "zones/mergeable",
	  VM(",'memory':{'size':0,'zones':[{'id':'a','shared':true,'mergeable':true}]}"),
	  "/memory/zones/0/mergeable: cannot be had with shared, must be false" },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
