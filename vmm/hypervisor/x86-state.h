/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One x86-64 vCPU's registers and CPUID, in no hypervisor's layout
 *
 * x86_vcpu_state is what boot writes, what a snapshot keeps and what crosses
 * hypervisor_ops: one struct instead of a call per register class.  Fields are
 * named as in the Intel SDM.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct x86_cpuid_entry {
	uint32_t function, index;
	bool index_significant; /* the leaf has sub-leaves */
	uint32_t eax, ebx, ecx, edx;
};

struct x86_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type, present, dpl, db, s, l, g, avl, unusable;
	uint8_t pad[3];
};

struct x86_dtable {
	uint64_t base;
	uint16_t limit;
	uint8_t pad[6];
};

struct x86_msr {
	uint32_t index;
	uint32_t pad;
	uint64_t value;
};

#define X86_STATE_MSRS_MAX  256   /* KVM on a host with a full PMU lists about 150 */
#define X86_STATE_XSAVE_MAX 16384 /* AMX tile data included */

/* KVM_MP_STATE_* without KVM. */
enum x86_mp_state {
	X86_MP_RUNNABLE,
	X86_MP_WAIT_SIPI, /* application processor before its start-up IPI */
	X86_MP_INIT,
	X86_MP_HALTED,
	X86_MP_SIPI,
};

/* Which parts of a state are to be set; get fills all. */
enum x86_state_part {
	X86_STATE_REGS = 1 << 0, /* general, segments, control, descriptor tables */
	X86_STATE_FPU = 1 << 1,  /* xsave and xcr0 */
	X86_STATE_MSRS = 1 << 2,
	X86_STATE_LAPIC = 1 << 3,
	X86_STATE_MP = 1 << 4,
	X86_STATE_EVENTS = 1 << 5, /* pending exceptions, interrupts, NMIs; debug registers */
	X86_STATE_ALL = 0x3f,
};

struct x86_vcpu_state {
	uint32_t parts; /* x86_state_part */
	uint32_t mp_state;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	struct x86_segment cs, ds, es, fs, gs, ss, tr, ldt;
	struct x86_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
	uint64_t xcr0;
	uint64_t dr[4], dr6, dr7;
	uint8_t events[64];  /* struct kvm_vcpu_events, opaque */
	uint8_t lapic[1024]; /* APIC register page, SDM 3A table 11-1 */
	uint32_t n_msrs;
	uint32_t xsave_size; /* bytes used of xsave */
	struct x86_msr msrs[X86_STATE_MSRS_MAX];
	uint8_t xsave[X86_STATE_XSAVE_MAX];
};
