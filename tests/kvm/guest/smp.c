/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of several processors: start them all, send interrupts back and forth
 */
#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define CPUS_MAX 64

static uint32_t bsp_id;

/* on the AP: answer the IPI with one */
static void answer(void)
{
	apic_send(bsp_id, VECTOR_TO_BSP);
}

static bool answered(void *arg)
{
	return irq_count[VECTOR_TO_BSP] >= *(const uint32_t *)arg;
}

static bool ping(uint32_t apic, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++) {
		uint32_t goal = irq_count[VECTOR_TO_BSP] + 1;

		apic_send(apic, VECTOR_TO_AP);
		if (!wait_until(answered, &goal, 2000))
			return false;
	}
	return true;
}

static void run_smp(void)
{
	struct acpi_cpu cpus[CPUS_MAX];
	unsigned int n = acpi_cpus(cpus, CPUS_MAX), online = 1;
	uint32_t rounds = (uint32_t)arg_u64("rounds", 8);
	uint64_t expected = arg_u64("cpus", 0);

	bsp_id = apic_id();
	irq_handler[VECTOR_TO_AP] = answer;
	for (unsigned int i = 0; i < n && i < CPUS_MAX; i++) {
		if (cpus[i].apic_id == bsp_id || !(cpus[i].flags & ACPI_MADT_ENABLED))
			continue;
		if (!check(ap_start(cpus[i].apic_id), "processor with APIC id %u starts",
			   cpus[i].apic_id))
			continue;
		online++;
		check(ping(cpus[i].apic_id, rounds), "APIC id %u answers %u interrupts",
		      cpus[i].apic_id, rounds);
	}
	if (expected)
		check_eq(online, expected, "processors online");
	else
		info("%u processors online", online);
}

const struct scenario smp_scenarios[] = {
	{ "smp", run_smp },
	{ 0 },
};
