/* SPDX-License-Identifier: Apache-2.0 */
/*
 * APIC ids and CPUID made from a given hypervisor table
 */
#include <cpuid.h>
#include <glib.h>
#include <string.h>

#include "vmm/arch/x86/cpuid.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/hypervisor/x86-state.h"

#define INTEL .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e
#define AMD   .ebx = 0x68747541, .edx = 0x69746e65, .ecx = 0x444d4163

static struct x86_cpuid_entry intel_entries[] = {
	{ .function = 0, .eax = 0xd, INTEL },
	{ .function = 1, .ebx = 0x7f100800, .ecx = 1u << 5 | 1u << 27, .edx = 0 },
	{ .function = 4, .index = 0, .index_significant = true, .eax = 0xfc004121 },
	{ .function = 4, .index = 2, .index_significant = true, .eax = 0xfc004143 },
	{ .function = 4, .index = 3, .index_significant = true, .eax = 0xfc1fc163 },
	{ .function = 7,
	  .index = 0,
	  .index_significant = true,
	  .eax = 1,
	  .edx = 1u << 22 | 1u << 24 | 1u << 25 | 1u << 4 },
	{ .function = 7,
	  .index = 1,
	  .index_significant = true,
	  .eax = 1u << 21 | 1u << 4,
	  .edx = 1u << 8 },
	{ .function = 0xb, .index = 0, .index_significant = true, .eax = 99 },
	{ .function = 0xd,
	  .index = 0,
	  .index_significant = true,
	  .eax = 0x60007,
	  .ebx = 576,
	  .ecx = 11008 },
	{ .function = 0xd, .index = 1, .index_significant = true, .eax = 0xf },
	{ .function = 0xd, .index = 2, .index_significant = true, .eax = 256, .ebx = 576 },
	{ .function = 0xd, .index = 17, .index_significant = true, .eax = 64, .ebx = 2752 },
	{ .function = 0xd, .index = 18, .index_significant = true, .eax = 8192, .ebx = 2816 },
	{ .function = 0x1d, .index = 0, .index_significant = true, .eax = 1 },
	{ .function = 0x1e, .index = 0, .index_significant = true, .ebx = 1 },
	{ .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
	{ .function = 0x40000001, .eax = 0x01007afb },
	{ .function = 0x80000000, .eax = 0x80000008 },
	{ .function = 0x80000001, .ecx = 0x121 },
	{ .function = 0x80000007, .edx = 1u << 8 },
	{ .function = 0x80000008, .eax = 0x3034 },
};

static struct x86_cpuid_entry amd_entries[] = {
	{ .function = 0, .eax = 0x10, AMD },
	{ .function = 1 },
	{ .function = 7, .index = 0, .index_significant = true },
	{ .function = 0x80000000, .eax = 0x8000001f },
	{ .function = 0x80000001, .ecx = 1u << 22 | 1u << 2 },
	{ .function = 0x80000008, .eax = 0x3030, .ecx = 0x707f },
	{ .function = 0x8000001d, .index = 0, .index_significant = true, .eax = 0x4121 },
	{ .function = 0x8000001d, .index = 3, .index_significant = true, .eax = 0x3c163 },
	{ .function = 0x8000001e, .eax = 77 },
};

static const struct hv_caps caps = {
	.phys_bits = 52,
	.x2apic_32bit_ids = true,
	.tsc_deadline = true,
	.tsc_khz = 2400000,
};

struct made {
	struct x86_cpuid_entry *entries;
	size_t n;
};

static void made_cleanup(struct made *m)
{
	free(m->entries);
}

static struct made make(struct x86_cpuid_entry *entries, size_t n, const struct hv_caps *c,
			const struct cpus_config *config, uint32_t index)
{
	const struct hv_vm vm = { .caps = *c, .cpuid = entries, .n_cpuid = n };
	struct err err = { 0 };
	struct made m = { 0 };

	g_assert_cmpint(x86_cpuid_make(&vm, config, index, &m.entries, &m.n, &err), ==, 0);
	g_assert_cmpstr(err.msg, ==, "");
	return m;
}

/* The only entry for a leaf; two would be ambiguous. */
static const struct x86_cpuid_entry *leaf(const struct made *m, uint32_t function, uint32_t index)
{
	const struct x86_cpuid_entry *found = NULL;

	for (size_t i = 0; i < m->n; i++) {
		const struct x86_cpuid_entry *e = &m->entries[i];

		if (e->function != function || (e->index_significant && e->index != index))
			continue;
		g_assert_null(found);
		found = e;
	}
	return found;
}

static void test_apic_id(void)
{
	const struct cpus_config flat = { .max_vcpus = 6 };
	const struct cpus_config topo = {
		.max_vcpus = 2 * 3 * 2 * 2,
		.has_topology = true,
		.topology = { 2, 3, 2, 2 },
	};

	for (uint32_t i = 0; i < 6; i++)
		g_assert_cmpuint(x86_apic_id(&flat, i), ==, i);
	/* thread 1 bit, core 2 bits, die 1 bit, package */
	g_assert_cmphex(x86_apic_id(&topo, 0), ==, 0);
	g_assert_cmphex(x86_apic_id(&topo, 1), ==, 1);
	g_assert_cmphex(x86_apic_id(&topo, 5), ==, 5);     /* core 2, thread 1 */
	g_assert_cmphex(x86_apic_id(&topo, 6), ==, 0x8);   /* die 1 */
	g_assert_cmphex(x86_apic_id(&topo, 12), ==, 0x10); /* package 1 */
	g_assert_cmphex(x86_apic_id(&topo, 23), ==, 0x1d);
	g_assert_cmphex(x86_max_apic_id(&topo), ==, 0x1d);
	for (uint32_t i = 1; i < 24; i++)
		g_assert_cmpuint(x86_apic_id(&topo, i), >, x86_apic_id(&topo, i - 1));
}

static void test_features(void)
{
	const struct cpus_config config = { .max_vcpus = 1, .nested = true, .max_phys_bits = 46 };
	_cleanup_(made_cleanup) struct made m =
		make(intel_entries, G_N_ELEMENTS(intel_entries), &caps, &config, 0);
	const struct x86_cpuid_entry *e;
	uint32_t host[4];

	e = leaf(&m, 1, 0);
	g_assert_cmphex(e->ecx, ==, 1u << 5 | 1u << 24 | 1u << 31); /* OSXSAVE is gone */
	g_assert_cmphex(e->edx & 1u << 12, !=, 0);
	g_assert_cmphex(e->edx & 1u << 28, ==, 0);
	g_assert_cmphex(leaf(&m, 7, 0)->edx, ==, 1u << 4);
	g_assert_cmphex(leaf(&m, 7, 1)->eax, ==, 1u << 4);
	g_assert_cmphex(leaf(&m, 7, 1)->edx, ==, 0);
	g_assert_null(leaf(&m, 0x1d, 0));
	g_assert_null(leaf(&m, 0x1e, 0));
	g_assert_cmphex(leaf(&m, 0xd, 0)->eax, ==, 7);
	g_assert_cmpuint(leaf(&m, 0xd, 0)->ecx, ==, 832);
	g_assert_null(leaf(&m, 0xd, 17));
	g_assert_null(leaf(&m, 0xd, 18));
	g_assert_cmphex(leaf(&m, 0x80000008, 0)->eax, ==, 46 | 0x3000 | 46 << 16);
	g_assert_cmphex(leaf(&m, 0x40000001, 0)->eax, ==, 0x0100fafb);
	g_assert_cmphex(leaf(&m, 0x40000000, 0)->eax, ==, 0x40000010);
	g_assert_cmpuint(leaf(&m, 0x40000010, 0)->eax, ==, 2400000);
	g_assert_cmpuint(leaf(&m, 0x40000010, 0)->ebx, ==, 1000000);

	if (__get_cpuid(0x80000002, &host[0], &host[1], &host[2], &host[3]))
		g_assert_cmphex(leaf(&m, 0x80000002, 0)->eax, ==, host[0]);
}

static void test_features_off(void)
{
	const struct cpus_config config = { .max_vcpus = 1, .nested = false };
	const struct hv_caps poor = { .phys_bits = 39 };
	_cleanup_(made_cleanup) struct made m =
		make(intel_entries, G_N_ELEMENTS(intel_entries), &poor, &config, 0);
	_cleanup_(made_cleanup) struct made amd =
		make(amd_entries, G_N_ELEMENTS(amd_entries), &poor, &config, 0);

	g_assert_cmphex(leaf(&m, 1, 0)->ecx, ==, 1u << 31);
	g_assert_cmphex(leaf(&amd, 0x80000001, 0)->ecx, ==, 1u << 22);
	g_assert_cmphex(leaf(&m, 0x80000008, 0)->eax, ==, 39 | 0x3000 | 39 << 16);
	g_assert_cmphex(leaf(&m, 0x40000001, 0)->eax, ==, 0x01007afb);
	g_assert_null(leaf(&m, 0x40000010, 0));
}

static void test_empty(void)
{
	const struct cpus_config config = { .max_vcpus = 4 };
	_cleanup_(made_cleanup) struct made m = make(NULL, 0, &caps, &config, 3);

	g_assert_cmphex(leaf(&m, 1, 0)->ebx >> 24, ==, 3);
	g_assert_cmphex(leaf(&m, 0x80000000, 0)->eax, >=, 0x80000008);
	g_assert_cmphex(leaf(&m, 0, 0)->eax, >=, 0xb);
}

static void check_level(const struct made *m, uint32_t function, uint32_t index, uint32_t type,
			uint32_t shift, uint32_t count, uint32_t id)
{
	const struct x86_cpuid_entry *e = leaf(m, function, index);

	g_assert_nonnull(e);
	g_assert_cmpuint(e->eax, ==, shift);
	g_assert_cmpuint(e->ebx, ==, count);
	g_assert_cmphex(e->ecx, ==, index | type << 8);
	g_assert_cmphex(e->edx, ==, id);
}

static void test_topology_intel(void)
{
	const struct cpus_config config = {
		.max_vcpus = 24,
		.has_topology = true,
		.topology = { 2, 3, 2, 2 },
	};
	_cleanup_(made_cleanup) struct made m =
		make(intel_entries, G_N_ELEMENTS(intel_entries), &caps, &config, 23);

	g_assert_cmphex(leaf(&m, 0, 0)->eax, ==, 0x1f);
	g_assert_cmphex(leaf(&m, 1, 0)->ebx, ==, 0x1d100800);
	g_assert_cmphex(leaf(&m, 1, 0)->edx & 1u << 28, !=, 0);
	check_level(&m, 0xb, 0, 1, 1, 2, 0x1d);
	check_level(&m, 0xb, 1, 2, 4, 12, 0x1d);
	check_level(&m, 0xb, 2, 0, 0, 0, 0x1d);
	check_level(&m, 0x1f, 0, 1, 1, 2, 0x1d);
	check_level(&m, 0x1f, 1, 2, 3, 6, 0x1d);
	check_level(&m, 0x1f, 2, 5, 4, 12, 0x1d);
	check_level(&m, 0x1f, 3, 0, 0, 0, 0x1d);
	/* L1 and L2 belong to a core, L3 to a die; 8 core ids in a package */
	g_assert_cmphex(leaf(&m, 4, 0)->eax, ==, 7u << 26 | 1u << 14 | 0x121);
	g_assert_cmphex(leaf(&m, 4, 2)->eax, ==, 7u << 26 | 1u << 14 | 0x143);
	g_assert_cmphex(leaf(&m, 4, 3)->eax, ==, 7u << 26 | 7u << 14 | 0x163);
}

static void test_topology_flat(void)
{
	const struct cpus_config config = { .max_vcpus = 300 };
	_cleanup_(made_cleanup) struct made m =
		make(intel_entries, G_N_ELEMENTS(intel_entries), &caps, &config, 299);

	g_assert_cmphex(leaf(&m, 0, 0)->eax, ==, 0xd);
	g_assert_cmphex(leaf(&m, 1, 0)->ebx, ==, 0x2bff0800); /* 299 & 0xff, 255 ids at most */
	check_level(&m, 0xb, 0, 1, 0, 1, 299);
	check_level(&m, 0xb, 1, 2, 9, 300, 299);
	g_assert_null(leaf(&m, 0x1f, 0));
}

static void test_topology_amd(void)
{
	const struct cpus_config config = {
		.max_vcpus = 16,
		.has_topology = true,
		.topology = { 2, 4, 2, 1 },
	};
	_cleanup_(made_cleanup) struct made m =
		make(amd_entries, G_N_ELEMENTS(amd_entries), &caps, &config, 11);
	const struct x86_cpuid_entry *e = leaf(&m, 0x8000001e, 0);

	g_assert_cmphex(x86_apic_id(&config, 11), ==, 0xb);
	g_assert_cmphex(e->eax, ==, 0xb);
	g_assert_cmphex(e->ebx, ==, 5 | 1 << 8); /* core 5 of the package, 2 threads */
	g_assert_cmphex(e->ecx, ==, 1 | 1 << 8); /* node 1 of 2 */
	g_assert_cmphex(leaf(&m, 0x80000008, 0)->ecx, ==, 15 | 4 << 12);
	g_assert_cmphex(leaf(&m, 0x8000001d, 0)->eax, ==, 1u << 14 | 0x121);
	g_assert_cmphex(leaf(&m, 0x8000001d, 3)->eax, ==, 7u << 14 | 0x163);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/arch/cpuid/apic-id", test_apic_id);
	g_test_add_func("/arch/cpuid/features", test_features);
	g_test_add_func("/arch/cpuid/features-off", test_features_off);
	g_test_add_func("/arch/cpuid/empty", test_empty);
	g_test_add_func("/arch/cpuid/topology-intel", test_topology_intel);
	g_test_add_func("/arch/cpuid/topology-flat", test_topology_flat);
	g_test_add_func("/arch/cpuid/topology-amd", test_topology_amd);
	return g_test_run();
}
