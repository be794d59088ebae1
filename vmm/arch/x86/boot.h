/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state a vCPU starts in
 *
 * The boot processor enters the payload in 32-bit protected mode without
 * paging, by one of two protocols: PVH (Xen docs/misc/pvh.pandoc; RBX points to
 * hvm_start_info) or Linux's 32-bit boot protocol (Documentation/arch/x86/boot.rst,
 * "32-bit Boot Protocol"; RSI points to boot_params).  Application processors
 * are in the state that INIT leaves (Intel SDM 3A, table 9-1) and wait for
 * their start-up IPI.
 *
 * The same function serves the first boot and every reset: it fills each part
 * of the state, so nothing of the last boot survives it, except hypervisor MSRs
 * (KVM clock, steal time), which the hypervisor back end owns.
 *
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct x86_vcpu_state;

enum x86_boot_protocol {
	X86_BOOT_PVH,
	X86_BOOT_BZIMAGE,
};

/* Where and how the boot processor starts: what a loader returns. */
struct x86_boot_entry {
	enum x86_boot_protocol protocol;
	uint64_t rip; /* gpa, below 4 GiB */
};

/* x2apic: start in x2APIC mode, because some APIC id is above 254. */
void x86_boot_state(struct x86_vcpu_state *st, const struct x86_boot_entry *entry, bool bsp,
		    uint32_t apic_id, bool x2apic);

/* GDT, IDT and the BIOS data area's EBDA pointer, in guest memory. 0 or -errno with err. */
_must_check_ int x86_boot_tables(struct guest_mem *mem, struct err *err);
