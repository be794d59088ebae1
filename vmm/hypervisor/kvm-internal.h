/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kvm.c (the VM) and kvm-x86-*.c (its vCPUs) share.  Nobody else includes
 * this, except the unit tests of this folder.
 */
#pragma once

#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "vmm/hypervisor/hypervisor.h"
#include "vmm/hypervisor/x86-state.h"

/*
 * Guest-physical pages that KVM on Intel needs for real mode: three for a TSS,
 * one for an identity map.  They are vmm/arch/x86/layout.h's numbers, which is
 * above this folder; a unit test compares the two.
 */
#define KVM_TSS_GPA      0xf8000000ULL
#define KVM_IDENTITY_GPA 0xf8003000ULL

#define KVM_ROUTES_MAX 4096

struct kvm_vm {
	struct hv_vm vm;
	int kvm_fd; /* borrowed */
	int vm_fd;
	pid_t pid;       /* for kicks: getpid() is a system call */
	size_t run_size; /* bytes of struct kvm_run's mapping */
	bool x2apic_ids; /* 32-bit APIC ids are on */
	bool have_xsave2, have_xcrs, have_debugregs;
	/* MSRs that state_get returns; settled by the first vCPU that is asked. */
	uint32_t *msrs;
	size_t n_msrs;
	bool msrs_tried;
	struct kvm_irq_routing *routing; /* room for caps.gsi_routes entries */
};

struct kvm_vcpu {
	struct hv_vcpu vcpu;
	struct kvm_vm *vm;
	int fd;
	struct kvm_run *run;
	/* The thread that runs it, 0 = none yet. Written by run(), read by kick(). */
	_Atomic pid_t tid;
	/*
	 * The last exit was an access: the instruction ends only in the next KVM_RUN.
	 * The vCPU thread's, or control's while that is parked.
	 */
	bool io_unfinished;
};

/* EINTR does not escape, except from KVM_RUN. The result, or -errno. */
int kvm_ioctl(int fd, unsigned long request, unsigned long arg);
int kvm_ioctl_ptr(int fd, unsigned long request, const void *arg);

static inline struct kvm_vcpu *kvm_vcpu_of(struct hv_vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* kvm-x86-vcpu.c */
int kvm_x86_vcpu_create(struct kvm_vm *vm, uint32_t index, uint32_t apic_id, struct hv_vcpu **ret,
			struct err *err);
/*
 * Lets a parked vCPU end the instruction it is in: 0, or -EBUSY when that wants
 * another access (it crosses a page, or is a string instruction), which the vCPU's
 * own loop must answer.
 */
int kvm_x86_finish_io(struct kvm_vcpu *vcpu);

/* kvm-x86-cpuid.c */
int kvm_x86_supported_cpuid(int kvm_fd, struct x86_cpuid_entry **ret, size_t *ret_n,
			    struct err *err);
/* vm->cpuid from KVM_GET_SUPPORTED_CPUID. */
int kvm_x86_load_cpuid(struct kvm_vm *vm, struct err *err);
uint8_t kvm_x86_phys_bits(const struct x86_cpuid_entry *entries, size_t n);
int kvm_x86_cpuid_set(struct hv_vcpu *vcpu, const struct x86_cpuid_entry *entries, size_t n,
		      struct err *err);

/* kvm-x86-msrs.c */
/* vm->msrs from KVM_GET_MSR_INDEX_LIST. */
int kvm_x86_load_msr_list(struct kvm_vm *vm, struct err *err);
int kvm_x86_msrs_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state);
/* deadline: only that one, which needs the APIC's timer mode set before it; else all others. */
int kvm_x86_msrs_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state, bool deadline,
		     struct err *err);
void kvm_x86_forget(struct hv_vcpu *vcpu);

/* kvm-x86-state.c */
int kvm_x86_state_get(struct hv_vcpu *vcpu, struct x86_vcpu_state *ret, struct err *err);
int kvm_x86_state_set(struct hv_vcpu *vcpu, const struct x86_vcpu_state *state, struct err *err);
