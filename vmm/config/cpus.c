/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cpus`: how many virtual CPUs, their topology and where on the host they run
 */
#include <errno.h>
#include <inttypes.h>

#include "vmm/base/err.h"
#include "vmm/config/tables.h"

#define HOST_CPU_MAX 8191 /* CONFIG_NR_CPUS of Debian's kernel, minus one */

static const struct config_field topology_fields[] = {
	{ .key = "threads_per_core",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_topology, threads_per_core),
	  .min = 1,
	  .max = 2,
	  .arg = "THREADS",
	  .doc = "threads of a core" },
	{ .key = "cores_per_die",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_topology, cores_per_die),
	  .min = 1,
	  .max = VM_VCPUS_MAX,
	  .arg = "CORES",
	  .doc = "cores of a die" },
	{ .key = "dies_per_package",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_topology, dies_per_package),
	  .min = 1,
	  .max = VM_VCPUS_MAX,
	  .arg = "DIES",
	  .doc = "dies of a package" },
	{ .key = "packages",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_topology, packages),
	  .min = 1,
	  .max = VM_VCPUS_MAX,
	  .arg = "PACKAGES",
	  .doc = "packages (sockets)" },
};
static const struct config_table topology_table = {
	.name = "CPU topology",
	.fields = topology_fields,
	.n_fields = ARRAY_SIZE(topology_fields),
	.size = sizeof(struct cpu_topology),
};

static const struct config_field affinity_fields[] = {
	{ .key = "vcpu",
	  .kind = CONFIG_UINT,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_affinity, vcpu),
	  .min = 0,
	  .max = VM_VCPUS_MAX - 1,
	  .arg = "VCPU",
	  .doc = "number of the vCPU" },
	{ .key = "host_cpus",
	  .kind = CONFIG_UINTS,
	  .flags = CONFIG_REQUIRED,
	  CONFIG_AT(struct cpu_affinity, host_cpus),
	  .count = offsetof(struct cpu_affinity, n_host_cpus),
	  .max = HOST_CPU_MAX,
	  .list_max = HOST_CPU_MAX + 1,
	  .arg = "[HOSTCPU,...]",
	  .doc = "host CPUs it may run on" },
};
static const struct config_table affinity_table = {
	.name = "CPU affinity",
	.fields = affinity_fields,
	.n_fields = ARRAY_SIZE(affinity_fields),
	.size = sizeof(struct cpu_affinity),
};

static const struct config_field features_fields[] = {
	{ .key = "amx", .kind = CONFIG_LATER, .harmless = "false" },
};
static const struct config_table features_table = {
	.name = "CPU features",
	.fields = features_fields,
	.n_fields = ARRAY_SIZE(features_fields),
};

static const struct config_field cpus_fields[] = {
	{ .key = "boot_vcpus",
	  .option = "boot",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct cpus_config, boot_vcpus),
	  .def = 1,
	  .min = 1,
	  .max = VM_VCPUS_MAX,
	  .arg = "COUNT",
	  .doc = "virtual CPUs present at boot" },
	{ .key = "max_vcpus",
	  .option = "max",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct cpus_config, max_vcpus),
	  .min = 0,
	  .max = VM_VCPUS_MAX,
	  .def_text = "boot_vcpus",
	  .arg = "COUNT",
	  .doc = "virtual CPUs the guest may ever have, 0 for as many as boot_vcpus" },
	{ .key = "topology",
	  .kind = CONFIG_STRUCT,
	  .flags = CONFIG_OPTIONAL | CONFIG_HAS,
	  CONFIG_AT(struct cpus_config, topology),
	  .present = offsetof(struct cpus_config, has_topology),
	  .table = &topology_table,
	  .def_text = "one package per vCPU",
	  .arg = "THREADS:CORES:DIES:PACKAGES",
	  .doc = "how the guest sees its CPUs arranged; the product must be max_vcpus" },
	{ .key = "max_phys_bits",
	  .kind = CONFIG_UINT,
	  CONFIG_AT(struct cpus_config, max_phys_bits),
	  .def = 46,
	  .min = 36,
	  .max = 52,
	  .arg = "BITS",
	  .doc = "upper limit for the width of guest-physical addresses; the host's own width "
		 "limits it too" },
	{ .key = "affinity",
	  .kind = CONFIG_LIST,
	  .flags = CONFIG_OPTIONAL,
	  CONFIG_AT(struct cpus_config, affinity),
	  .count = offsetof(struct cpus_config, n_affinity),
	  .table = &affinity_table,
	  .list_max = VM_VCPUS_MAX,
	  .def_text = "every host CPU",
	  .arg = "[VCPU@[HOSTCPU,...],...]",
	  .doc = "host CPUs that a vCPU may run on" },
	{ .key = "nested",
	  .kind = CONFIG_BOOL,
	  CONFIG_AT(struct cpus_config, nested),
	  .def = true,
	  .doc = "let the guest run virtual machines itself" },
	{ .key = "kvm_hyperv", .kind = CONFIG_LATER, .harmless = "false" },
	{ .key = "features", .kind = CONFIG_LATER, .table = &features_table },
	{ .key = "core_scheduling", .kind = CONFIG_LATER, .harmless = "Off|off" },
	{ .key = "profile", .kind = CONFIG_LATER, .harmless = "Host|host" },
};
const struct config_table cpus_table = {
	.name = "Virtual CPUs",
	.doc = "How many virtual CPUs there are and where they run.",
	.fields = cpus_fields,
	.n_fields = ARRAY_SIZE(cpus_fields),
	.size = sizeof(struct cpus_config),
};

static int check_topology(const struct cpus_config *cpus, struct err *err)
{
	const struct cpu_topology *t = &cpus->topology;
	/* Four factors of at most 2 * 1024^3: no overflow in 64 bits. */
	uint64_t product = (uint64_t)t->threads_per_core * t->cores_per_die * t->dies_per_package *
			   t->packages;

	if (!cpus->has_topology || product == cpus->max_vcpus)
		return 0;
	return config_error(err,
			    "/cpus/topology: %u:%u:%u:%u makes %" PRIu64
			    " vCPUs, must make %u as /cpus/max_vcpus says",
			    t->threads_per_core, t->cores_per_die, t->dies_per_package, t->packages,
			    product, cpus->max_vcpus);
}

static int check_counts(const struct vm_config *config, size_t i _unused_, struct err *err)
{
	const struct cpus_config *cpus = &config->cpus;

	if (cpus->max_vcpus < cpus->boot_vcpus)
		return config_error(err,
				    "/cpus/max_vcpus: %u is less than /cpus/boot_vcpus, must be at "
				    "least %u",
				    cpus->max_vcpus, cpus->boot_vcpus);
	return check_topology(cpus, err);
}

static int check_affinity(const struct vm_config *config, size_t i, struct err *err)
{
	const struct cpus_config *cpus = &config->cpus;
	const struct cpu_affinity *a = &cpus->affinity[i];
	/* Of a max_vcpus that is too small, check_counts() speaks. */
	uint32_t n = MAX(cpus->max_vcpus, cpus->boot_vcpus);

	if (a->vcpu >= n)
		return config_error(err,
				    "/cpus/affinity/%zu/vcpu: %u does not exist, must be 0 to %u",
				    i, a->vcpu, n - 1);
	for (size_t j = 0; j < i; j++) {
		if (cpus->affinity[j].vcpu == a->vcpu)
			return config_error(err,
					    "/cpus/affinity/%zu/vcpu: %u has an affinity already, "
					    "must be given once",
					    i, a->vcpu);
	}
	if (a->n_host_cpus == 0)
		return config_error(
			err, "/cpus/affinity/%zu/host_cpus: is empty, must name at least one CPU",
			i);
	return 0;
}

static size_t count_affinity(const struct vm_config *config)
{
	return config->cpus.n_affinity;
}

static const struct config_rule counts_rules[] = {
	{ check_counts, { "cpus" } },
};
const struct config_rules cpus_rules = CONFIG_RULES(counts_rules, NULL);

static const struct config_rule each_affinity[] = {
	{ check_affinity, { "cpus" } },
};
const struct config_rules affinity_rules = CONFIG_RULES(each_affinity, count_affinity);
