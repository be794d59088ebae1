/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which vCPU and which memory belong to which node (SRAT: ACPI 6.5, 5.2.16), and how
 * far nodes are from one another (SLIT: 5.2.17)
 */
#include "vmm/acpi/topology.h"

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"

static void add_vcpus(struct aml *a, const struct vm_config *config)
{
	for (uint32_t i = 0; i < config->cpus.max_vcpus; i++) {
		const struct acpi_srat_x2apic cpu = {
			.type = ACPI_SRAT_X2APIC,
			.length = sizeof(cpu),
			.domain = le32_make(numa_of_vcpu(config, i)),
			.apic_id = le32_make(x86_apic_id(&config->cpus, i)),
			.flags = le32_make(ACPI_SRAT_ENABLED),
		};

		aml_bytes(a, &cpu, sizeof(cpu));
	}
}

static void add_range(struct aml *a, uint32_t node, uint64_t gpa, uint64_t size, uint32_t flags)
{
	const struct acpi_srat_memory piece = {
		.type = ACPI_SRAT_MEMORY,
		.length = sizeof(piece),
		.domain = le32_make(node),
		.base = le64_make(gpa),
		.size = le64_make(size),
		.flags = le32_make(flags),
	};

	aml_bytes(a, &piece, sizeof(piece));
}

static void add_memory(struct aml *a, const struct vm_config *config, const struct guest_mem *mem)
{
	uint32_t n = atomic_load_explicit(&mem->n_regions, memory_order_acquire);

	for (uint32_t i = 0; i < n; i++) {
		const struct guest_region *r = &mem->regions[i];

		if (!r->device && !r->blocks)
			add_range(a, numa_of_zone(config, r->zone), r->gpa, r->size,
				  ACPI_SRAT_ENABLED);
	}
}

void acpi_emit_srat(struct aml *a, const struct acpi_topology *topology,
		    const struct guest_mem *mem)
{
	/* 1 and 8 bytes that are reserved; the first says 1 for compatibility (table 5.67) */
	const struct acpi_srat_header head = { .revision = le32_make(1) };

	aml_bytes(a, &head, sizeof(head));
	add_vcpus(a, topology->numa);
	add_memory(a, topology->numa, mem);
	/* Linux needs to know how far memory may reach before it divides its own among nodes. */
	if (topology->hotplug_size)
		add_range(a, numa_of_zone(topology->numa, 0), topology->hotplug_gpa,
			  topology->hotplug_size, ACPI_SRAT_ENABLED | ACPI_SRAT_HOT_PLUGGABLE);
}

void acpi_emit_slit(struct aml *a, const struct vm_config *config)
{
	const le64 n = le64_make(config->n_numa);

	aml_bytes(a, &n, sizeof(n));
	for (uint32_t from = 0; from < config->n_numa; from++)
		for (uint32_t to = 0; to < config->n_numa; to++) {
			uint8_t distance = numa_distance(config, from, to);

			aml_bytes(a, &distance, 1);
		}
}
