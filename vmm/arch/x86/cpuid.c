/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86/cpuid.h"

#include <assert.h>
#include <cpuid.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/hypervisor/x86-state.h"

#define LEAF_BASIC        0x00000000u
#define LEAF_FEATURES     0x00000001u
#define LEAF_CACHE        0x00000004u /* Intel */
#define LEAF_EXT_FEATURES 0x00000007u
#define LEAF_TOPOLOGY     0x0000000bu
#define LEAF_XSAVE        0x0000000du
#define LEAF_TILE         0x0000001du
#define LEAF_TMUL         0x0000001eu
#define LEAF_TOPOLOGY_V2  0x0000001fu
#define LEAF_HV_BASE      0x40000000u
#define LEAF_KVM_FEATURES 0x40000001u
#define LEAF_HV_TIMING    0x40000010u
#define LEAF_EXT_BASE     0x80000000u
#define LEAF_EXT_1        0x80000001u
#define LEAF_BRAND        0x80000002u /* to 0x80000004 */
#define LEAF_L1_CACHE     0x80000005u
#define LEAF_L2_CACHE     0x80000006u
#define LEAF_POWER        0x80000007u
#define LEAF_ADDR_SIZES   0x80000008u
#define LEAF_AMD_CACHE    0x8000001du
#define LEAF_AMD_TOPOLOGY 0x8000001eu

#define F1_ECX_VMX           (1u << 5)
#define F1_ECX_TSC_DEADLINE  (1u << 24)
#define F1_ECX_OSXSAVE       (1u << 27)
#define F1_ECX_HYPERVISOR    (1u << 31)
#define F1_EDX_MTRR          (1u << 12)
#define F1_EDX_HTT           (1u << 28)
#define F7_EDX_AMX           (1u << 22 | 1u << 24 | 1u << 25) /* BF16, TILE, INT8 */
#define F7_1_EAX_AMX_FP16    (1u << 21)
#define F7_1_EDX_AMX_COMPLEX (1u << 8)
#define XCR0_AMX             (1u << 17 | 1u << 18)
#define E1_ECX_SVM           (1u << 2)
#define E1_ECX_TOPOEXT       (1u << 22)
#define E7_EDX_INVARIANT_TSC (1u << 8)
#define KVM_MSI_EXT_DEST_ID  (1u << 15)

#define APIC_BUS_KHZ 1000000u

/* Level types of leaves 0bH and 1fH, ECX[15:8]. */
enum topology_level {
	LEVEL_INVALID = 0,
	LEVEL_THREAD = 1,
	LEVEL_CORE = 2,
	LEVEL_DIE = 5,
};

/* Entries we may add to the hypervisor's. */
#define ENTRIES_EXTRA 24

struct topology {
	uint32_t threads, cores, dies; /* threads a core, cores a die, dies a package */
	uint32_t thread_bits, core_bits, die_bits;
};

struct cpuid_table {
	struct x86_cpuid_entry *entries;
	size_t n, capacity;
};

static uint32_t bits_for(uint32_t count)
{
	return count <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(count - 1);
}

static struct topology topology_get(const struct cpus_config *config)
{
	struct topology t = { .threads = 1, .cores = MAX(config->max_vcpus, 1u), .dies = 1 };

	if (config->has_topology)
		t = (struct topology){
			.threads = MAX(config->topology.threads_per_core, 1u),
			.cores = MAX(config->topology.cores_per_die, 1u),
			.dies = MAX(config->topology.dies_per_package, 1u),
		};
	t.thread_bits = bits_for(t.threads);
	t.core_bits = bits_for(t.cores);
	t.die_bits = bits_for(t.dies);
	return t;
}

uint32_t x86_apic_id(const struct cpus_config *config, uint32_t index)
{
	struct topology t = topology_get(config);
	uint32_t thread = index % t.threads, core, die;

	index /= t.threads;
	core = index % t.cores;
	index /= t.cores;
	die = index % t.dies;
	index /= t.dies;
	return thread | core << t.thread_bits | die << (t.thread_bits + t.core_bits) |
	       index << (t.thread_bits + t.core_bits + t.die_bits);
}

uint32_t x86_max_apic_id(const struct cpus_config *config)
{
	return x86_apic_id(config, MAX(config->max_vcpus, 1u) - 1);
}

uint8_t x86_phys_bits(const struct hv_caps *caps, const struct cpus_config *config)
{
	return config->max_phys_bits ? MIN(caps->phys_bits, config->max_phys_bits)
				     : caps->phys_bits;
}

static struct x86_cpuid_entry *find(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (size_t i = 0; i < t->n; i++) {
		struct x86_cpuid_entry *e = &t->entries[i];

		if (e->function == function && (!e->index_significant || e->index == index))
			return e;
	}
	return NULL;
}

static struct x86_cpuid_entry *add(struct cpuid_table *t, uint32_t function, uint32_t index,
				   bool index_significant)
{
	struct x86_cpuid_entry *e;

	assert(t->n < t->capacity); /* ENTRIES_EXTRA covers every call */
	e = &t->entries[t->n++];
	*e = (struct x86_cpuid_entry){
		.function = function,
		.index = index,
		.index_significant = index_significant,
	};
	return e;
}

static struct x86_cpuid_entry *find_or_add(struct cpuid_table *t, uint32_t function)
{
	struct x86_cpuid_entry *e = find(t, function, 0);

	return e ? e : add(t, function, 0, false);
}

static void drop(struct cpuid_table *t, uint32_t function)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (t->entries[i].function != function)
			t->entries[n++] = t->entries[i];
	t->n = n;
}

static void raise_limit(struct cpuid_table *t, uint32_t base, uint32_t leaf)
{
	struct x86_cpuid_entry *e = find_or_add(t, base);

	e->eax = MAX(e->eax, leaf);
}

/* The three registers of leaf 0, in the order that spells the name. */
static bool vendor_is(struct cpuid_table *t, const char *name)
{
	const struct x86_cpuid_entry *e = find(t, LEAF_BASIC, 0);
	char vendor[12];

	if (!e)
		return false;
	memcpy(vendor, &e->ebx, 4);
	memcpy(vendor + 4, &e->edx, 4);
	memcpy(vendor + 8, &e->ecx, 4);
	return memcmp(vendor, name, sizeof(vendor)) == 0;
}

static void set_features(struct cpuid_table *t, const struct hv_caps *caps,
			 const struct cpus_config *config)
{
	struct x86_cpuid_entry *e = find_or_add(t, LEAF_FEATURES);

	e->ecx |= F1_ECX_HYPERVISOR;
	if (caps->tsc_deadline)
		e->ecx |= F1_ECX_TSC_DEADLINE;
	e->ecx &= ~F1_ECX_OSXSAVE; /* mirrors CR4.OSXSAVE, which the hypervisor follows */
	e->edx |= F1_EDX_MTRR;
	if (!config->nested)
		e->ecx &= ~F1_ECX_VMX;

	e = find(t, LEAF_EXT_1, 0);
	if (e && !config->nested)
		e->ecx &= ~E1_ECX_SVM;
}

/* Tile state is 8 KiB a thread and needs a permission the process did not ask for. */
static void clear_amx(struct cpuid_table *t)
{
	struct x86_cpuid_entry *e = find(t, LEAF_EXT_FEATURES, 0);
	uint32_t end = 576; /* legacy region and header: SDM 1, 13.4 */
	size_t n = 0;

	if (e)
		e->edx &= ~F7_EDX_AMX;
	e = find(t, LEAF_EXT_FEATURES, 1);
	if (e && e->index == 1) {
		e->eax &= ~F7_1_EAX_AMX_FP16;
		e->edx &= ~F7_1_EDX_AMX_COMPLEX;
	}
	drop(t, LEAF_TILE);
	drop(t, LEAF_TMUL);

	e = find(t, LEAF_XSAVE, 0);
	if (!e || !(e->eax & XCR0_AMX))
		return;
	/* Without tiles the largest save area is what the remaining components need. */
	for (size_t i = 0; i < t->n; i++) {
		const struct x86_cpuid_entry *x = &t->entries[i];

		if (x->function == LEAF_XSAVE && (x->index == 17 || x->index == 18))
			continue;
		if (x->function == LEAF_XSAVE && x->index >= 2 && x->index < 32 &&
		    (e->eax & 1u << x->index))
			end = MAX(end, x->ebx + x->eax);
		t->entries[n++] = *x;
	}
	t->n = n;
	e = find(t, LEAF_XSAVE, 0);
	e->eax &= ~XCR0_AMX;
	e->ecx = end;
	e->ebx = MIN(e->ebx, end);
}

static void copy_host_leaf(struct x86_cpuid_entry *e)
{
	__cpuid_count(e->function, 0, e->eax, e->ebx, e->ecx, e->edx);
}

static void set_host_identity(struct cpuid_table *t)
{
	uint32_t max = __get_cpuid_max(LEAF_EXT_BASE, NULL);

	for (uint32_t leaf = LEAF_BRAND; leaf < LEAF_BRAND + 3 && leaf <= max; leaf++)
		copy_host_leaf(find_or_add(t, leaf));
	for (uint32_t leaf = LEAF_L1_CACHE; leaf <= LEAF_L2_CACHE && leaf <= max; leaf++) {
		struct x86_cpuid_entry *e = find_or_add(t, leaf);

		if (!(e->eax | e->ebx | e->ecx | e->edx))
			copy_host_leaf(e);
	}
}

static void set_addr_sizes(struct cpuid_table *t, uint8_t phys_bits)
{
	struct x86_cpuid_entry *e = find_or_add(t, LEAF_ADDR_SIZES);

	/* [7:0] physical, [15:8] linear, [23:16] guest-physical address bits */
	if (!(e->eax & 0xff00))
		e->eax |= 48u << 8;
	e->eax = (e->eax & 0xff00ff00) | phys_bits | (uint32_t)phys_bits << 16;
}

/*
 * MSI_EXT_DEST_ID promises that bits 11:5 of an MSI address are bits 14:8 of
 * the destination, which the hypervisor honours once 32-bit ids are on.
 * 4000_0010h tells TSC and APIC timer frequencies to guests that ask there.
 */
static void set_hypervisor_leaves(struct cpuid_table *t, const struct hv_caps *caps)
{
	struct x86_cpuid_entry *e = find(t, LEAF_KVM_FEATURES, 0);
	const struct x86_cpuid_entry *power = find(t, LEAF_POWER, 0);

	if (e && caps->x2apic_32bit_ids)
		e->eax |= KVM_MSI_EXT_DEST_ID;
	if (!find(t, LEAF_HV_BASE, 0) || !caps->tsc_khz || caps->tsc_khz > UINT32_MAX || !power ||
	    !(power->edx & E7_EDX_INVARIANT_TSC))
		return;
	e = find_or_add(t, LEAF_HV_TIMING);
	e->eax = (uint32_t)caps->tsc_khz;
	e->ebx = APIC_BUS_KHZ;
	raise_limit(t, LEAF_HV_BASE, LEAF_HV_TIMING);
}

static void add_level(struct cpuid_table *t, uint32_t function, uint32_t index,
		      enum topology_level level, uint32_t shift, uint32_t n_logical,
		      uint32_t apic_id)
{
	struct x86_cpuid_entry *e = add(t, function, index, true);

	e->eax = shift; /* id bits below the next level */
	e->ebx = n_logical;
	e->ecx = index | (uint32_t)level << 8;
	e->edx = apic_id;
}

static void set_extended_topology(struct cpuid_table *t, const struct topology *topo,
				  uint32_t apic_id)
{
	uint32_t core_shift = topo->thread_bits + topo->core_bits;
	uint32_t package_shift = core_shift + topo->die_bits;
	uint32_t n_die = topo->threads * topo->cores, n_package = n_die * topo->dies;
	bool v2 = find_or_add(t, LEAF_BASIC)->eax >= LEAF_TOPOLOGY_V2 || topo->dies > 1;

	raise_limit(t, LEAF_BASIC, v2 ? LEAF_TOPOLOGY_V2 : LEAF_TOPOLOGY);
	drop(t, LEAF_TOPOLOGY);
	drop(t, LEAF_TOPOLOGY_V2);

	/* 0bH knows no dies: its core level spans the package. */
	add_level(t, LEAF_TOPOLOGY, 0, LEVEL_THREAD, topo->thread_bits, topo->threads, apic_id);
	add_level(t, LEAF_TOPOLOGY, 1, LEVEL_CORE, package_shift, n_package, apic_id);
	add_level(t, LEAF_TOPOLOGY, 2, LEVEL_INVALID, 0, 0, apic_id);
	if (!v2)
		return;
	add_level(t, LEAF_TOPOLOGY_V2, 0, LEVEL_THREAD, topo->thread_bits, topo->threads, apic_id);
	add_level(t, LEAF_TOPOLOGY_V2, 1, LEVEL_CORE, core_shift, n_die, apic_id);
	if (topo->dies == 1) {
		add_level(t, LEAF_TOPOLOGY_V2, 2, LEVEL_INVALID, 0, 0, apic_id);
		return;
	}
	add_level(t, LEAF_TOPOLOGY_V2, 2, LEVEL_DIE, package_shift, n_package, apic_id);
	add_level(t, LEAF_TOPOLOGY_V2, 3, LEVEL_INVALID, 0, 0, apic_id);
}

/* Leaves 4 and 8000_001dh agree on EAX: [4:0] type, [7:5] level, [25:14] ids sharing it - 1. */
static void set_cache_sharing(struct cpuid_table *t, uint32_t function, const struct topology *topo)
{
	uint32_t package_bits = topo->thread_bits + topo->core_bits + topo->die_bits;

	for (size_t i = 0; i < t->n; i++) {
		struct x86_cpuid_entry *e = &t->entries[i];
		uint32_t level, bits, sharing;

		if (e->function != function || !(e->eax & 0x1f))
			continue;
		level = e->eax >> 5 & 7;
		bits = level < 3 ? topo->thread_bits : topo->thread_bits + topo->core_bits;
		sharing = MIN((1u << MIN(bits, 12u)) - 1, 0xfffu);
		e->eax = (e->eax & ~(0xfffu << 14)) | sharing << 14;
		if (function == LEAF_CACHE) {
			/* [31:26] core ids in a package - 1, saturating */
			uint32_t core_bits = MIN(package_bits - topo->thread_bits, 6u);

			e->eax = (e->eax & ~(0x3fu << 26)) | ((1u << core_bits) - 1) << 26;
		}
	}
}

static void set_amd_topology(struct cpuid_table *t, const struct topology *topo, uint32_t apic_id)
{
	uint32_t package_bits = topo->thread_bits + topo->core_bits + topo->die_bits;
	uint32_t n_package = topo->threads * topo->cores * topo->dies;
	struct x86_cpuid_entry *e = find_or_add(t, LEAF_ADDR_SIZES);
	const struct x86_cpuid_entry *features = find(t, LEAF_EXT_1, 0);

	/* [7:0] threads in the package - 1, [15:12] bits of the id below the package */
	e->ecx = (e->ecx & ~0xf0ffu) | MIN(n_package - 1, 0xffu) | MIN(package_bits, 15u) << 12;

	drop(t, LEAF_AMD_TOPOLOGY);
	if (!features || !(features->ecx & E1_ECX_TOPOEXT))
		return;
	e = add(t, LEAF_AMD_TOPOLOGY, 0, false);
	e->eax = apic_id;
	e->ebx = (apic_id >> topo->thread_bits & ((1u << (topo->core_bits + topo->die_bits)) - 1) &
		  0xff) |
		 (topo->threads - 1) << 8;
	/* [7:0] node id, [10:8] nodes a package - 1: a die is a node */
	e->ecx = (apic_id >> (topo->thread_bits + topo->core_bits) & 0xff) | MIN(topo->dies - 1, 7u)
										     << 8;
	raise_limit(t, LEAF_EXT_BASE, LEAF_AMD_TOPOLOGY);
}

static void set_topology(struct cpuid_table *t, const struct cpus_config *config, uint32_t index)
{
	struct topology topo = topology_get(config);
	uint32_t apic_id = x86_apic_id(config, index);
	uint32_t package_bits = topo.thread_bits + topo.core_bits + topo.die_bits;
	struct x86_cpuid_entry *e = find_or_add(t, LEAF_FEATURES);

	/* [31:24] id, [23:16] ids in a package, rounded up as the fields are */
	e->ebx = (e->ebx & 0xffff) | (apic_id & 0xff) << 24 |
		 MIN(1u << MIN(package_bits, 8u), 0xffu) << 16;
	if (package_bits)
		e->edx |= F1_EDX_HTT;
	else
		e->edx &= ~F1_EDX_HTT;

	set_extended_topology(t, &topo, apic_id);
	if (vendor_is(t, "AuthenticAMD") || vendor_is(t, "HygonGenuine")) {
		set_amd_topology(t, &topo, apic_id);
		set_cache_sharing(t, LEAF_AMD_CACHE, &topo);
	} else {
		set_cache_sharing(t, LEAF_CACHE, &topo);
	}
}

int x86_cpuid_make(const struct hv_vm *vm, const struct cpus_config *config, uint32_t index,
		   struct x86_cpuid_entry **ret, size_t *ret_n, struct err *err)
{
	struct cpuid_table t = { .capacity = vm->n_cpuid + ENTRIES_EXTRA };

	t.entries = calloc(t.capacity, sizeof(*t.entries));
	if (!t.entries)
		return err_errno(err, ENOMEM, "vCPU %u", index);
	if (vm->n_cpuid)
		memcpy(t.entries, vm->cpuid, vm->n_cpuid * sizeof(*t.entries));
	t.n = vm->n_cpuid;

	set_features(&t, &vm->caps, config);
	clear_amx(&t);
	set_host_identity(&t);
	set_addr_sizes(&t, x86_phys_bits(&vm->caps, config));
	raise_limit(&t, LEAF_EXT_BASE, LEAF_ADDR_SIZES);
	set_hypervisor_leaves(&t, &vm->caps);
	set_topology(&t, config, index);

	*ret = t.entries;
	*ret_n = t.n;
	return 0;
}
