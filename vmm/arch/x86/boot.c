/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86/boot.h"

#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/hypervisor/x86-state.h"
#include "vmm/memory/guest-memory.h"

/* The boot GDT: one descriptor a selector. */
#define GDT_CODE    1
#define GDT_DATA    2
#define GDT_TSS     3
#define GDT_ENTRIES 4

#define CR0_PE       0x1ULL
#define CR0_RESET    0x60000010ULL /* CD, NW, ET: SDM 3A, table 9-1 */
#define RFLAGS_FIXED 0x2ULL

#define APIC_BASE_BSP    (1ULL << 8)
#define APIC_BASE_X2APIC (1ULL << 10)
#define APIC_BASE_ENABLE (1ULL << 11)

/* Offsets into the APIC register page: SDM 3A, table 11-1. */
#define APIC_ID          0x020
#define APIC_VERSION     0x030
#define APIC_DFR         0x0e0
#define APIC_SVR         0x0f0
#define APIC_LVT_CMCI    0x2f0
#define APIC_LVT_TIMER   0x320
#define APIC_LVT_THERMAL 0x330
#define APIC_LVT_PERF    0x340
#define APIC_LVT_LINT0   0x350
#define APIC_LVT_LINT1   0x360
#define APIC_LVT_ERROR   0x370
#define APIC_LVT_MASKED  0x10000u
#define APIC_MODE_NMI    0x400u
#define APIC_MODE_EXTINT 0x700u

/* XSAVE area: SDM 1, 13.4. */
#define XSAVE_FCW       0
#define XSAVE_MXCSR     24
#define XSAVE_XSTATE_BV 512
#define XSAVE_BYTES     4096
#define XSTATE_X87_SSE  3ULL

#define MSR_TSC            0x00000010
#define MSR_SYSENTER_CS    0x00000174
#define MSR_SYSENTER_ESP   0x00000175
#define MSR_SYSENTER_EIP   0x00000176
#define MSR_MISC_ENABLE    0x000001a0
#define MSR_MTRR_DEF_TYPE  0x000002ff
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_SYSCALL_MASK   0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102

#define MISC_ENABLE_FAST_STRING 1ULL
#define MTRR_ENABLE_WRITE_BACK  ((1ULL << 11) | 6)

static const struct x86_msr boot_msrs[] = {
	{ .index = MSR_SYSENTER_CS },
	{ .index = MSR_SYSENTER_ESP },
	{ .index = MSR_SYSENTER_EIP },
	{ .index = MSR_STAR },
	{ .index = MSR_LSTAR },
	{ .index = MSR_CSTAR },
	{ .index = MSR_SYSCALL_MASK },
	{ .index = MSR_KERNEL_GS_BASE },
	{ .index = MSR_TSC },
	{ .index = MSR_MISC_ENABLE, .value = MISC_ENABLE_FAST_STRING },
	/* All of memory write-back without a single range register: what a BIOS would set up. */
	{ .index = MSR_MTRR_DEF_TYPE, .value = MTRR_ENABLE_WRITE_BACK },
};

/* A segment descriptor of SDM 3A, 3.4.5 from its access bytes (flags << 8 | access). */
static uint64_t gdt_entry(uint16_t attrs, uint32_t base, uint32_t limit)
{
	return (limit & 0xffffULL) | (base & 0xffffffULL) << 16 | (attrs & 0xf0ffULL) << 40 |
	       (limit & 0xf0000ULL) << 32 | (base & 0xff000000ULL) << 32;
}

static const uint16_t gdt_attrs[GDT_ENTRIES] = {
	[GDT_CODE] = 0xc09b, [GDT_DATA] = 0xc093, [GDT_TSS] = 0x008b
};
static const uint32_t gdt_limits[GDT_ENTRIES] = {
	[GDT_CODE] = 0xfffff, [GDT_DATA] = 0xfffff, [GDT_TSS] = 0x67
};

/* The hidden part the processor would load from entry n of the boot GDT. */
static struct x86_segment segment_from_gdt(unsigned int n)
{
	uint16_t attrs = gdt_attrs[n];
	bool pages = attrs & 0x8000;

	return (struct x86_segment){
		.limit = pages ? gdt_limits[n] << 12 | 0xfff : gdt_limits[n],
		.selector = (uint16_t)(n * 8),
		.type = attrs & 0xf,
		.s = attrs >> 4 & 1,
		.dpl = attrs >> 5 & 3,
		.present = attrs >> 7 & 1,
		.avl = attrs >> 12 & 1,
		.l = attrs >> 13 & 1,
		.db = attrs >> 14 & 1,
		.g = attrs >> 15 & 1,
	};
}

static void set_protected_mode(struct x86_vcpu_state *st, const struct x86_boot_entry *entry)
{
	st->cs = segment_from_gdt(GDT_CODE);
	st->ds = st->es = st->fs = st->gs = st->ss = segment_from_gdt(GDT_DATA);
	st->tr = segment_from_gdt(GDT_TSS);
	st->ldt = (struct x86_segment){ .type = 2, .unusable = 1 };
	st->gdt = (struct x86_dtable){ .base = LAYOUT_GDT, .limit = GDT_ENTRIES * 8 - 1 };
	st->idt = (struct x86_dtable){ .base = LAYOUT_IDT, .limit = 8 - 1 };
	st->cr0 = CR0_PE;
	st->rip = entry->rip;

	switch (entry->protocol) {
	case X86_BOOT_PVH:
		st->rbx = LAYOUT_PVH_START_INFO;
		break;
	case X86_BOOT_BZIMAGE:
		st->rsi = LAYOUT_ZERO_PAGE;
		st->rsp = LAYOUT_BOOT_STACK;
		break;
	}
}

static void set_init_state(struct x86_vcpu_state *st)
{
	const struct x86_segment data = {
		.limit = 0xffff,
		.type = 3,
		.present = 1,
		.s = 1,
	};

	st->ds = st->es = st->fs = st->gs = st->ss = data;
	st->cs = (struct x86_segment){
		.base = 0xffff0000,
		.limit = 0xffff,
		.selector = 0xf000,
		.type = 0xb,
		.present = 1,
		.s = 1,
	};
	st->tr = (struct x86_segment){ .limit = 0xffff, .type = 0xb, .present = 1 };
	st->ldt = (struct x86_segment){ .limit = 0xffff, .type = 2, .present = 1 };
	st->gdt.limit = 0xffff;
	st->idt.limit = 0xffff;
	st->cr0 = CR0_RESET;
	st->rip = 0xfff0;
}

static void set_lapic(struct x86_vcpu_state *st, uint32_t apic_id, bool x2apic)
{
	static const uint16_t masked[] = {
		APIC_LVT_CMCI, APIC_LVT_TIMER, APIC_LVT_THERMAL, APIC_LVT_PERF, APIC_LVT_ERROR,
	};

	/* In xAPIC mode the id is the top byte, in x2APIC mode the whole word (SDM 3A, 11.12.5.1).
	 */
	bytes_put_le(st->lapic + APIC_ID, 4, x2apic ? apic_id : apic_id << 24);
	bytes_put_le(st->lapic + APIC_VERSION, 4, 0x50014); /* integrated, 6 LVT entries */
	bytes_put_le(st->lapic + APIC_DFR, 4, 0xffffffff);
	bytes_put_le(st->lapic + APIC_SVR, 4, 0xff);
	for (size_t i = 0; i < ARRAY_SIZE(masked); i++)
		bytes_put_le(st->lapic + masked[i], 4, APIC_LVT_MASKED);
	bytes_put_le(st->lapic + APIC_LVT_LINT0, 4, APIC_MODE_EXTINT);
	bytes_put_le(st->lapic + APIC_LVT_LINT1, 4, APIC_MODE_NMI);
}

void x86_boot_state(struct x86_vcpu_state *st, const struct x86_boot_entry *entry, bool bsp,
		    uint32_t apic_id, bool x2apic)
{
	memset(st, 0, sizeof(*st));
	st->parts = X86_STATE_ALL;
	st->rflags = RFLAGS_FIXED;
	if (bsp) {
		st->mp_state = X86_MP_RUNNABLE;
		set_protected_mode(st, entry);
	} else {
		st->mp_state = X86_MP_WAIT_SIPI;
		set_init_state(st);
	}

	st->apic_base = LAYOUT_LAPIC | APIC_BASE_ENABLE | (bsp ? APIC_BASE_BSP : 0) |
			(x2apic ? APIC_BASE_X2APIC : 0);
	set_lapic(st, apic_id, x2apic);

	st->dr6 = 0xffff0ff0;
	st->dr7 = 0x400;

	st->xcr0 = 1;
	st->xsave_size = XSAVE_BYTES;
	bytes_put_le(st->xsave + XSAVE_FCW, 2, 0x37f);
	bytes_put_le(st->xsave + XSAVE_MXCSR, 4, 0x1f80);
	bytes_put_le(st->xsave + XSAVE_XSTATE_BV, 8, XSTATE_X87_SSE);

	memcpy(st->msrs, boot_msrs, sizeof(boot_msrs));
	st->n_msrs = ARRAY_SIZE(boot_msrs);
}

int x86_boot_tables(struct guest_mem *mem, struct err *err)
{
	uint8_t gdt[GDT_ENTRIES * 8] = { 0 };
	uint8_t ebda[2];
	int r;

	for (unsigned int i = 1; i < GDT_ENTRIES; i++)
		bytes_put_le(gdt + i * 8, 8, gdt_entry(gdt_attrs[i], 0, gdt_limits[i]));
	/* Real-mode segment of the EBDA: what scans low memory for firmware tables looks here. */
	bytes_put_le(ebda, 2, LAYOUT_EBDA_START >> 4);

	r = guest_write(mem, LAYOUT_GDT, gdt, sizeof(gdt));
	if (r >= 0)
		r = guest_fill(mem, LAYOUT_IDT, 0, 8);
	if (r >= 0)
		r = guest_write(mem, LAYOUT_EBDA_POINTER, ebda, sizeof(ebda));
	if (r < 0)
		return err_set(err, -r, "no guest memory at 0x%llx for the boot descriptor tables",
			       LAYOUT_GDT);
	return 0;
}
