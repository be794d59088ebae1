/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs of a definition: what is refused, with which sentence
 */
#include "refused.h"

static const struct refused refused[] = {
	{ "cpus/zero", VM(",'cpus':{'boot_vcpus':0}"),
	  "/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024" },
	{ "cpus/too-many", VM(",'cpus':{'boot_vcpus':1025}"),
	  "/cpus/boot_vcpus: 1025 is out of range, must be 1 to 1024" },
	{ "cpus/negative", VM(",'cpus':{'boot_vcpus':-1}"),
	  "/cpus/boot_vcpus: -1 is out of range, must be 1 to 1024" },
	{ "cpus/huge", VM(",'cpus':{'boot_vcpus':18446744073709551615}"),
	  "/cpus/boot_vcpus: 18446744073709551615 is out of range, must be 1 to 1024" },
	{ "cpus/wraps-32-bits", VM(",'cpus':{'boot_vcpus':4294967297}"),
	  "/cpus/boot_vcpus: 4294967297 is out of range, must be 1 to 1024" },
	{ "cpus/fraction", VM(",'cpus':{'boot_vcpus':1.5}"),
	  "/cpus/boot_vcpus: must be an integer, is 1.5" },
	{ "cpus/string", VM(",'cpus':{'boot_vcpus':'x'}"),
	  "/cpus/boot_vcpus: must be an integer, is the string 'x'" },
	{ "cpus/bool", VM(",'cpus':{'boot_vcpus':true}"),
	  "/cpus/boot_vcpus: must be an integer, is true" },
	{ "cpus/null", VM(",'cpus':{'boot_vcpus':null}"),
	  "/cpus/boot_vcpus: must be an integer, is null" },
	{ "cpus/object", VM(",'cpus':{'boot_vcpus':{}}"),
	  "/cpus/boot_vcpus: must be an integer, is an object" },
	{ "cpus/option-key", VM(",'cpus':{'boot':2}"),
	  "/cpus/boot: unknown key, did you mean 'boot_vcpus'?" },
	{ "cpus/part-of-key", VM(",'cpus':{'vcpus':2}"),
	  "/cpus/vcpus: unknown key, did you mean 'boot_vcpus'?" },
	{ "cpus/max-less-than-boot", VM(",'cpus':{'boot_vcpus':4,'max_vcpus':2}"),
	  "/cpus/max_vcpus: 2 is less than /cpus/boot_vcpus, must be at least 4" },
	{ "cpus/topology-product",
	  VM(",'cpus':{'boot_vcpus':4,'topology':{'threads_per_core':1,'cores_per_die':2,"
	     "'dies_per_package':1,'packages':1}}"),
	  "/cpus/topology: 1:2:1:1 makes 2 vCPUs, must make 4 as /cpus/max_vcpus says" },
	{ "cpus/topology-overflow",
	  VM(",'cpus':{'topology':{'threads_per_core':2,'cores_per_die':1024,"
	     "'dies_per_package':1024,'packages':1024}}"),
	  "/cpus/topology: 2:1024:1024:1024 makes 2147483648 vCPUs, must make 1 as "
	  "/cpus/max_vcpus says" },
	{ "cpus/topology-zero",
	  VM(",'cpus':{'topology':{'threads_per_core':0,'cores_per_die':1,'dies_per_package':1,"
	     "'packages':1}}"),
	  "/cpus/topology/threads_per_core: 0 is out of range, must be 1 to 2" },
	{ "cpus/topology-incomplete", VM(",'cpus':{'topology':{'threads_per_core':1}}"),
	  "/cpus/topology/cores_per_die: missing, must be given" },
	{ "cpus/max-phys-bits", VM(",'cpus':{'max_phys_bits':64}"),
	  "/cpus/max_phys_bits: 64 is out of range, must be 36 to 52" },
	{ "cpus/affinity-vcpu", VM(",'cpus':{'affinity':[{'vcpu':1,'host_cpus':[0]}]}"),
	  "/cpus/affinity/0/vcpu: 1 does not exist, must be 0 to 0" },
	{ "cpus/affinity-twice",
	  VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[0]},{'vcpu':0,'host_cpus':[1]}]}"),
	  "/cpus/affinity/1/vcpu: 0 has an affinity already, must be given once" },
	{ "cpus/affinity-nowhere", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[]}]}"),
	  "/cpus/affinity/0/host_cpus: is empty, must name at least one CPU" },
	{ "cpus/affinity-host-cpu", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':[1,70000]}]}"),
	  "/cpus/affinity/0/host_cpus/1: 70000 is out of range, must be 0 to 8191" },
	{ "cpus/affinity-string", VM(",'cpus':{'affinity':[{'vcpu':0,'host_cpus':'0-3'}]}"),
	  "/cpus/affinity/0/host_cpus: must be a list, is the string '0-3'" },
	{ "cpus/nested-number", VM(",'cpus':{'nested':1}"),
	  "/cpus/nested: must be true or false, is 1" },
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_refused(refused, G_N_ELEMENTS(refused));
	return g_test_run();
}
