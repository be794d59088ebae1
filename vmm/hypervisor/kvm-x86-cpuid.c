/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: CPUID, what the host's KVM supports and what a vCPU is given
 */
#include "vmm/hypervisor/kvm-internal.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define CPUID_ENTRIES_MAX  1024
#define CPUID_ADDRESS_BITS 0x80000008

int kvm_x86_supported_cpuid(int kvm_fd, struct x86_cpuid_entry **ret, size_t *ret_n,
			    struct err *err)
{
	struct x86_cpuid_entry *entries;

	for (uint32_t room = 128; room <= CPUID_ENTRIES_MAX; room *= 2) {
		_cleanup_free_ struct kvm_cpuid2 *cpuid =
			calloc(1, sizeof(*cpuid) + room * sizeof(cpuid->entries[0]));
		int r;

		if (!cpuid)
			return err_errno(err, ENOMEM, "cannot read the host's CPUID");
		cpuid->nent = room;
		r = kvm_ioctl_ptr(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
		if (r == -E2BIG)
			continue;
		if (r < 0)
			return err_errno(err, -r, "cannot read the CPUID that KVM supports");
		entries = calloc(MAX(cpuid->nent, 1U), sizeof(*entries));
		if (!entries)
			return err_errno(err, ENOMEM, "cannot read the host's CPUID");
		for (uint32_t i = 0; i < cpuid->nent; i++) {
			const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

			entries[i] = (struct x86_cpuid_entry){
				.function = e->function,
				.index = e->index,
				.index_significant =
					(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
				.eax = e->eax,
				.ebx = e->ebx,
				.ecx = e->ecx,
				.edx = e->edx,
			};
		}
		*ret = entries;
		*ret_n = cpuid->nent;
		return 0;
	}
	return err_set(err, E2BIG, "KVM supports more than %d CPUID leaves", CPUID_ENTRIES_MAX);
}

int kvm_x86_load_cpuid(struct kvm_vm *vm, struct err *err)
{
	return kvm_x86_supported_cpuid(vm->kvm_fd, &vm->vm.cpuid, &vm->vm.n_cpuid, err);
}

uint8_t kvm_x86_phys_bits(const struct x86_cpuid_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (entries[i].function == CPUID_ADDRESS_BITS)
			return (uint8_t)entries[i].eax;
	return 36; /* SDM 3A, 4.1.4: what a processor without the leaf has */
}

int kvm_x86_cpuid_set(struct hv_vcpu *vcpu, const struct x86_cpuid_entry *entries, size_t n,
		      struct err *err)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid = NULL;
	int r;

	if (n > CPUID_ENTRIES_MAX)
		return err_set(err, E2BIG, "vCPU %u: %zu CPUID leaves, at most %d are possible",
			       vcpu->index, n, CPUID_ENTRIES_MAX);
	cpuid = calloc(1, sizeof(*cpuid) + n * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return err_errno(err, ENOMEM, "vCPU %u: cannot set CPUID", vcpu->index);
	cpuid->nent = (uint32_t)n;
	for (size_t i = 0; i < n; i++) {
		cpuid->entries[i] = (struct kvm_cpuid_entry2){
			.function = entries[i].function,
			.index = entries[i].index,
			.flags = entries[i].index_significant ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = entries[i].eax,
			.ebx = entries[i].ebx,
			.ecx = entries[i].ecx,
			.edx = entries[i].edx,
		};
	}
	r = kvm_ioctl_ptr(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, cpuid);
	return r < 0 ? err_errno(err, -r, "vCPU %u: KVM refused its CPUID", vcpu->index) : 0;
}
