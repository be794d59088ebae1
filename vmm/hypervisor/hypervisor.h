/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hypervisor as the rest of the worker sees it
 *
 * An ops table with capabilities as data: kvm.c is the first back end, mshv
 * fits behind the same table, tests/lib/fake-hypervisor.c records the calls so
 * that their order can be asserted.  Nothing outside this folder issues an
 * ioctl on /dev/kvm or what comes from it.
 *
 * Threads: everything is for the control thread, except that run() is for the
 * vCPU's own thread, kick(), nmi() and msi_send() are for any thread, and
 * irqfd_set/routes_set are called under the interrupt table's lock
 * (vmm/bus/irq.h), the only caller they have.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct hv_vm;
struct hv_vcpu;
struct x86_cpuid_entry; /* vmm/hypervisor/x86-state.h */
struct x86_vcpu_state;

struct hv_caps {
	uint32_t max_vcpus;   /* what the host can run in one VM */
	uint32_t max_vcpu_id; /* exclusive upper bound of APIC ids */
	uint32_t memory_slots;
	uint32_t gsi_routes;   /* highest GSI + 1 */
	uint32_t xsave_size;   /* bytes of one XSAVE area, at least 4096 */
	uint8_t phys_bits;     /* guest-physical address bits the host offers */
	bool x2apic_32bit_ids; /* APIC ids above 254 can be addressed by MSI */
	bool tsc_deadline;
	bool user_nmi;
	bool adjust_clock;
	uint64_t tsc_khz; /* 0 = unknown */
};

/* One message-signalled interrupt: PCI 3.0, 6.8.1; Intel SDM 3A, 11.11. */
struct hv_msi {
	uint64_t addr;
	uint32_t data;
};

struct hv_route {
	uint32_t gsi;
	struct hv_msi msi;
};

struct hv_memory_slot {
	uint32_t slot;
	uint64_t gpa, size; /* bytes, page-aligned; size 0 removes the slot */
	void *hva;
	bool readonly, log_dirty;
};

struct hv_ioeventfd {
	uint64_t addr;
	uint32_t len; /* 1, 2, 4, 8; 0 = any width (MMIO) */
	bool pio;
	bool match; /* fire only for this value */
	uint64_t value;
};

enum hv_exit_kind {
	HV_EXIT_INTERRUPTED, /* kicked, or a signal: look at your requests */
	HV_EXIT_PIO,
	HV_EXIT_MMIO,
	HV_EXIT_IOAPIC_EOI, /* vector */
	HV_EXIT_SHUTDOWN,   /* triple fault */
	HV_EXIT_FAILED,     /* the hypervisor cannot go on: text */
	HV_EXIT_N_,
};

struct hv_exit {
	enum hv_exit_kind kind;
	bool write;
	uint64_t addr;  /* port or guest-physical address */
	uint32_t len;   /* bytes of one access */
	uint32_t count; /* accesses, one after another in data (string I/O); MMIO: 1 */
	void *data;     /* valid until the next run(); reads are answered in place */
	uint8_t vector;
	char text[160];
};

struct hv_vm_params {
	uint32_t ioapic_pins; /* GSIs the userspace IOAPIC owns, 0..pins-1 */
	uint32_t max_apic_id; /* above 254 turns 32-bit ids on */
};

/* How far another processor has got with starting this one (SDM 3A, 9.4.3). */
enum hv_start {
	HV_START_NONE,
	HV_START_INIT, /* SIPI is to follow */
	HV_START_DONE,
};

struct hv_vcpu_ops {
	/* 0 and *ret_exit filled, or -errno. Never blocks once kicked. */
	int (*run)(struct hv_vcpu *vcpu, struct hv_exit *ret_exit);
	void (*kick)(struct hv_vcpu *vcpu);
	int (*nmi)(struct hv_vcpu *vcpu);
	int (*cpuid_set)(struct hv_vcpu *vcpu, const struct x86_cpuid_entry *entries, size_t n,
			 struct err *err);
	/*
	 * Only while the vCPU's thread is parked or not started.  get fails with
	 * -EBUSY for a vCPU parked amid the accesses of one instruction: best park
	 * when run() reported HV_EXIT_INTERRUPTED, when all accesses are done.
	 */
	int (*state_get)(struct hv_vcpu *vcpu, struct x86_vcpu_state *ret, struct err *err);
	int (*state_set)(struct hv_vcpu *vcpu, const struct x86_vcpu_state *state, struct err *err);
	/* The guest was stopped on purpose: no soft-lockup warning (KVM_KVMCLOCK_CTRL). */
	void (*was_paused)(struct hv_vcpu *vcpu);
	/*
	 * Takes back what the guest asked of the hypervisor itself (KVM clock, steal
	 * time, asynchronous page faults): the next guest's memory is not to be
	 * written for the last one.  Part of a machine reset, before state_set.
	 */
	void (*forget)(struct hv_vcpu *vcpu);
	/* Own thread, or parked: has another processor started it? */
	enum hv_start (*start_state)(struct hv_vcpu *vcpu);
	void (*free)(struct hv_vcpu *vcpu);
};

struct hv_vcpu {
	const struct hv_vcpu_ops *ops;
	uint32_t index;
};

struct hv_vm_ops {
	int (*memory_set)(struct hv_vm *vm, const struct hv_memory_slot *slot, struct err *err);
	int (*vcpu_create)(struct hv_vm *vm, uint32_t index, uint32_t apic_id, struct hv_vcpu **ret,
			   struct err *err);
	int (*irqfd_set)(struct hv_vm *vm, int fd, uint32_t gsi, bool attach);
	/* Replaces the whole table. */
	int (*routes_set)(struct hv_vm *vm, const struct hv_route *routes, size_t n);
	int (*msi_send)(struct hv_vm *vm, const struct hv_msi *msi);
	int (*ioeventfd_set)(struct hv_vm *vm, const struct hv_ioeventfd *io, int fd, bool attach);
	int (*clock_get)(struct hv_vm *vm, uint64_t *ret_ns);
	int (*clock_set)(struct hv_vm *vm, uint64_t ns);
	void (*free)(struct hv_vm *vm);
};

struct hv_vm {
	const struct hv_vm_ops *ops;
	struct hv_caps caps;
	/* What the host can offer a guest, from which arch/x86 makes each vCPU's CPUID. */
	struct x86_cpuid_entry *cpuid;
	size_t n_cpuid;
};

struct hypervisor {
	const char *name; /* "kvm" */
	/*
	 * fd: an open /dev/kvm, borrowed for the life of the VM.  Fails with a
	 * sentence that names the capability the host lacks.
	 */
	int (*vm_create)(int fd, const struct hv_vm_params *params, struct hv_vm **ret,
			 struct err *err);
	/* caps only, for Describe and ValidateConfig. */
	int (*probe)(int fd, struct hv_caps *ret, struct err *err);
};

extern const struct hypervisor hypervisor_kvm;

static inline void hv_vm_free(struct hv_vm *vm)
{
	if (vm)
		vm->ops->free(vm);
}

static inline void hv_vcpu_free(struct hv_vcpu *vcpu)
{
	if (vcpu)
		vcpu->ops->free(vcpu);
}
