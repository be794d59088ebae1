/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: which MSRs a vCPU's state has, and getting and setting them
 *
 * The list is the host's, made once for the VM: what KVM_GET_MSR_INDEX_LIST names,
 * without those that turn out not to be readable or writable (msrs_settle).
 */
#include "vmm/hypervisor/kvm-internal.h"

#include <asm/kvm_para.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define MSR_LIST_MAX 1024

#define MSR_TSC          0x10
#define MSR_TSC_ADJUST   0x3b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_HV_FIRST     0x40000000 /* Hyper-V's, which no guest of ours is offered */
#define MSR_HV_LAST      0x400001ff

struct msr_buffer { /* struct kvm_msrs with its entries in place */
	uint32_t nmsrs, pad;
	struct kvm_msr_entry entries[X86_STATE_MSRS_MAX];
};

static_assert(offsetof(struct msr_buffer, entries) == offsetof(struct kvm_msrs, entries),
	      "KVM's list of MSRs and ours");

int kvm_x86_load_msr_list(struct kvm_vm *vm, struct err *err)
{
	_cleanup_free_ struct kvm_msr_list *list = NULL;
	int r;

	list = calloc(1, sizeof(*list) + MSR_LIST_MAX * sizeof(list->indices[0]));
	if (!list)
		return err_errno(err, ENOMEM, "cannot read the list of MSRs");
	list->nmsrs = MSR_LIST_MAX;
	r = kvm_ioctl_ptr(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0)
		return err_errno(err, -r, "cannot read the list of MSRs that KVM keeps");
	vm->msrs = calloc(MAX(list->nmsrs, 1U), sizeof(*vm->msrs));
	if (!vm->msrs)
		return err_errno(err, ENOMEM, "cannot read the list of MSRs");
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		uint32_t index = list->indices[i];

		if (index < MSR_HV_FIRST || index > MSR_HV_LAST)
			vm->msrs[vm->n_msrs++] = index;
	}
	if (vm->n_msrs > X86_STATE_MSRS_MAX)
		return err_fault(err, FAULT_UNSUPPORTED, E2BIG,
				 "the host's KVM keeps %zu MSRs a vCPU, at most %d are supported",
				 vm->n_msrs, X86_STATE_MSRS_MAX);
	return 0;
}

/* Whether trying to set it would be seen: by the guest's clock, or in its memory. */
static bool msr_is_time(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_ADJUST || index == MSR_TSC_DEADLINE ||
	       index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW;
}

static void msr_drop(struct kvm_vm *vm, uint32_t index)
{
	for (size_t i = 0; i < vm->n_msrs; i++) {
		if (vm->msrs[i] == index) {
			memmove(&vm->msrs[i], &vm->msrs[i + 1],
				(vm->n_msrs - i - 1) * sizeof(vm->msrs[0]));
			vm->n_msrs--;
			return;
		}
	}
}

/* All of vm->msrs into the buffer, dropping those from the list that cannot be read. */
static int msrs_read(struct kvm_vcpu *vcpu, struct msr_buffer *buf)
{
	struct kvm_vm *vm = vcpu->vm;

	for (;;) {
		int r;

		*buf = (struct msr_buffer){ .nmsrs = (uint32_t)vm->n_msrs };
		for (size_t i = 0; i < vm->n_msrs; i++)
			buf->entries[i].index = vm->msrs[i];
		r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_MSRS, buf);
		if (r < 0)
			return r;
		if ((size_t)r >= vm->n_msrs)
			return 0;
		msr_drop(vm, vm->msrs[r]);
	}
}

/*
 * The host's list names MSRs that cannot be written back as they are, for
 * instance feature MSRs on software back ends.  A state with such a one in it
 * could be saved but never restored, so each is written back once, unchanged,
 * and those that are refused leave the list.
 */
static int msrs_settle(struct kvm_vcpu *vcpu)
{
	struct msr_buffer buf, set = { 0 };
	int r = msrs_read(vcpu, &buf);

	if (r < 0)
		return r;
	for (size_t i = 0; i < buf.nmsrs; i++)
		if (!msr_is_time(buf.entries[i].index))
			set.entries[set.nmsrs++] = buf.entries[i];
	while (set.nmsrs) {
		r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_MSRS, &set);
		if (r < 0)
			return r;
		if ((uint32_t)r >= set.nmsrs)
			break;
		msr_drop(vcpu->vm, set.entries[r].index);
		/* On with the ones behind it. */
		set.nmsrs -= (uint32_t)r + 1;
		memmove(&set.entries[0], &set.entries[r + 1], set.nmsrs * sizeof(set.entries[0]));
	}
	vcpu->vm->msrs_tried = true;
	return 0;
}

int kvm_x86_msrs_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	struct msr_buffer buf;
	int r;

	if (!vcpu->vm->msrs_tried) {
		r = msrs_settle(vcpu);
		if (r < 0)
			return r;
	}
	r = msrs_read(vcpu, &buf);
	if (r < 0)
		return r;
	state->n_msrs = buf.nmsrs;
	for (uint32_t i = 0; i < buf.nmsrs; i++)
		state->msrs[i] = (struct x86_msr){ .index = buf.entries[i].index,
						   .value = buf.entries[i].data };
	return 0;
}

int kvm_x86_msrs_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state, bool deadline,
		     struct err *err)
{
	struct msr_buffer buf = { 0 };
	uint32_t n = 0;
	int r;

	if (state->n_msrs > X86_STATE_MSRS_MAX)
		return err_set(err, EBADMSG, "vCPU %u: %u MSRs, at most %d are possible",
			       vcpu->vcpu.index, state->n_msrs, X86_STATE_MSRS_MAX);
	for (uint32_t i = 0; i < state->n_msrs; i++)
		if ((state->msrs[i].index == MSR_TSC_DEADLINE) == deadline)
			buf.entries[n++] = (struct kvm_msr_entry){ .index = state->msrs[i].index,
								   .data = state->msrs[i].value };
	if (!n)
		return 0;
	buf.nmsrs = n;
	r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_MSRS, &buf);
	if (r < 0)
		return err_errno(err, -r, "vCPU %u: KVM refused its MSRs", vcpu->vcpu.index);
	if ((uint32_t)r < n)
		return err_fault(err, FAULT_UNSUPPORTED, EINVAL,
				 "vCPU %u: KVM on this host refuses value 0x%llx of MSR 0x%x",
				 vcpu->vcpu.index, (unsigned long long)buf.entries[r].data,
				 buf.entries[r].index);
	return 0;
}

/* Documentation/virt/kvm/x86/msr.rst: each holds an address in guest memory that KVM writes to. */
void kvm_x86_forget(struct hv_vcpu *hv)
{
	static const uint32_t enabled_by_guest[] = {
		MSR_KVM_SYSTEM_TIME, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_ASYNC_PF_EN,
		MSR_KVM_STEAL_TIME,  MSR_KVM_PV_EOI_EN,
	};
	struct msr_buffer list = { .nmsrs = 1 };

	/* One by one: a KVM that does not have one of them says so, and has nothing to forget. */
	for (size_t i = 0; i < ARRAY_SIZE(enabled_by_guest); i++) {
		list.entries[0] = (struct kvm_msr_entry){ .index = enabled_by_guest[i] };
		ioctl(kvm_vcpu_of(hv)->fd, KVM_SET_MSRS, &list);
	}
}
