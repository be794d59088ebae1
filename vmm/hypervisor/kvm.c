/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: the virtual machine
 *
 * Split interrupt controller: the local APICs are in the kernel, the IOAPIC is
 * ours (vmm/devices/ioapic.c) and its pins are the first routes, so that KVM
 * reports the end of their level interrupts.  There is no PIC and no PIT.
 */
#include "vmm/hypervisor/kvm-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"

#define KVM_API 12

/* An APIC id that fits an MSI address's 8 destination bits; 255 is broadcast. */
#define APIC_ID_8BIT_MAX 254

/*
 * MSI address: bits 5 to 11 extend the destination, and become bits 8 to 14 of it in
 * the high word; bit 4 set means remappable format instead.
 */
#define MSI_EXT_DEST_MASK  0xff0ULL
#define MSI_REMAPPABLE     0x010ULL
#define MSI_EXT_DEST_SHIFT 35

static const struct required_cap {
	int cap;
	const char *name;
} required_caps[] = {
	{ KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER" },
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_USER_NMI, "KVM_CAP_USER_NMI" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
};

int kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_ioctl_ptr(int fd, unsigned long request, const void *arg)
{
	return kvm_ioctl(fd, request, (unsigned long)arg);
}

/* How much of it the host has: 0 = absent. */
static uint32_t check_cap(int fd, int cap)
{
	int r = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return r < 0 ? 0 : (uint32_t)r;
}

static int check_host(int fd, struct err *err)
{
	int r = kvm_ioctl(fd, KVM_GET_API_VERSION, 0);

	if (r < 0)
		return err_errno(err, -r, "cannot ask KVM for its version: is this /dev/kvm?");
	if (r != KVM_API)
		return err_fault(err, FAULT_UNSUPPORTED, ENOTSUP,
				 "KVM's interface has version %d, wanted is %d", r, KVM_API);
	for (size_t i = 0; i < ARRAY_SIZE(required_caps); i++)
		if (!check_cap(fd, required_caps[i].cap))
			return err_fault(err, FAULT_UNSUPPORTED, ENOTSUP, "the host's KVM lacks %s",
					 required_caps[i].name);
	return 0;
}

/* fd: /dev/kvm or a VM, which can answer more precisely. */
static void read_caps(int fd, struct hv_caps *caps)
{
	uint32_t xsave2 = check_cap(fd, KVM_CAP_XSAVE2);
	uint32_t x2apic = check_cap(fd, KVM_CAP_X2APIC_API);

	caps->max_vcpus = check_cap(fd, KVM_CAP_MAX_VCPUS);
	if (!caps->max_vcpus)
		caps->max_vcpus = MAX(check_cap(fd, KVM_CAP_NR_VCPUS), 4U);
	caps->max_vcpu_id = MAX(check_cap(fd, KVM_CAP_MAX_VCPU_ID), caps->max_vcpus);
	caps->memory_slots = MAX(check_cap(fd, KVM_CAP_NR_MEMSLOTS), 32U);
	caps->gsi_routes = MIN(check_cap(fd, KVM_CAP_IRQ_ROUTING), (uint32_t)KVM_ROUTES_MAX);
	caps->xsave_size = MAX(xsave2, (uint32_t)sizeof(struct kvm_xsave));
	caps->x2apic_32bit_ids = (x2apic & KVM_X2APIC_API_USE_32BIT_IDS) != 0;
	caps->tsc_deadline = check_cap(fd, KVM_CAP_TSC_DEADLINE_TIMER) != 0;
	caps->user_nmi = check_cap(fd, KVM_CAP_USER_NMI) != 0;
	caps->adjust_clock = check_cap(fd, KVM_CAP_ADJUST_CLOCK) != 0;
}

static int kvm_probe(int fd, struct hv_caps *ret, struct err *err)
{
	_cleanup_free_ struct x86_cpuid_entry *cpuid = NULL;
	struct hv_caps caps = { 0 };
	size_t n_cpuid = 0;
	int r;

	r = check_host(fd, err);
	if (r < 0)
		return r;
	read_caps(fd, &caps);
	r = kvm_x86_supported_cpuid(fd, &cpuid, &n_cpuid, err);
	if (r < 0)
		return r;
	caps.phys_bits = kvm_x86_phys_bits(cpuid, n_cpuid);
	*ret = caps;
	return 0;
}

static struct kvm_vm *to_kvm(struct hv_vm *vm)
{
	return container_of(vm, struct kvm_vm, vm);
}

static int kvm_memory_set(struct hv_vm *vm, const struct hv_memory_slot *slot, struct err *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot->slot,
		.flags = (slot->readonly ? KVM_MEM_READONLY : 0U) |
			 (slot->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0U),
		.guest_phys_addr = slot->gpa,
		.memory_size = slot->size,
		.userspace_addr = (uintptr_t)slot->hva,
	};
	int r = kvm_ioctl_ptr(to_kvm(vm)->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

	if (r < 0)
		return err_errno(err, -r, "KVM refused memory slot %u (0x%llx bytes at 0x%llx)",
				 slot->slot, (unsigned long long)slot->size,
				 (unsigned long long)slot->gpa);
	return 0;
}

static int kvm_vcpu_create(struct hv_vm *vm, uint32_t index, uint32_t apic_id, struct hv_vcpu **ret,
			   struct err *err)
{
	return kvm_x86_vcpu_create(to_kvm(vm), index, apic_id, ret, err);
}

static int kvm_irqfd_set(struct hv_vm *vm, int fd, uint32_t gsi, bool attach)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = attach ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_ioctl_ptr(to_kvm(vm)->vm_fd, KVM_IRQFD, &irqfd);
}

/*
 * Guests write APIC ids above 255 into the address bits that interrupt
 * remapping would use (KVM_FEATURE_MSI_EXT_DEST_ID); KVM itself wants the upper
 * 24 bits of the id in the high half of the address.
 */
static uint64_t msi_address(const struct kvm_vm *vm, uint64_t addr)
{
	uint64_t ext = addr & MSI_EXT_DEST_MASK;

	if (!vm->x2apic_ids || !ext || (ext & MSI_REMAPPABLE))
		return addr;
	return (addr & ~MSI_EXT_DEST_MASK) | ext << MSI_EXT_DEST_SHIFT;
}

static int kvm_routes_set(struct hv_vm *vm, const struct hv_route *routes, size_t n)
{
	struct kvm_vm *kvm = to_kvm(vm);

	if (n > vm->caps.gsi_routes)
		return -ENOSPC;
	kvm->routing->nr = (uint32_t)n;
	kvm->routing->flags = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t addr = msi_address(kvm, routes[i].msi.addr);

		kvm->routing->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = routes[i].gsi,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi.address_lo = (uint32_t)addr,
			.u.msi.address_hi = (uint32_t)(addr >> 32),
			.u.msi.data = routes[i].msi.data,
		};
	}
	return kvm_ioctl_ptr(kvm->vm_fd, KVM_SET_GSI_ROUTING, kvm->routing);
}

static int kvm_msi_send(struct hv_vm *vm, const struct hv_msi *msi)
{
	struct kvm_vm *kvm = to_kvm(vm);
	uint64_t addr = msi_address(kvm, msi->addr);
	struct kvm_msi m = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = msi->data,
	};
	/* Above 0: delivered; 0: coalesced with one that is pending. */
	int r = kvm_ioctl_ptr(kvm->vm_fd, KVM_SIGNAL_MSI, &m);

	return r < 0 ? r : 0;
}

static int kvm_ioeventfd_set(struct hv_vm *vm, const struct hv_ioeventfd *io, int fd, bool attach)
{
	struct kvm_ioeventfd ev = {
		.addr = io->addr,
		.len = io->len,
		.fd = fd,
		.datamatch = io->match ? io->value : 0,
		.flags = (io->match ? 1U << kvm_ioeventfd_flag_nr_datamatch : 0U) |
			 (io->pio ? 1U << kvm_ioeventfd_flag_nr_pio : 0U) |
			 (attach ? 0U : 1U << kvm_ioeventfd_flag_nr_deassign),
	};

	return kvm_ioctl_ptr(to_kvm(vm)->vm_fd, KVM_IOEVENTFD, &ev);
}

static int kvm_clock_get(struct hv_vm *vm, uint64_t *ret_ns)
{
	struct kvm_clock_data data = { 0 };
	int r = kvm_ioctl_ptr(to_kvm(vm)->vm_fd, KVM_GET_CLOCK, &data);

	if (r < 0)
		return r;
	*ret_ns = data.clock;
	return 0;
}

static int kvm_clock_set(struct hv_vm *vm, uint64_t ns)
{
	struct kvm_clock_data data = { .clock = ns };

	return kvm_ioctl_ptr(to_kvm(vm)->vm_fd, KVM_SET_CLOCK, &data);
}

static void kvm_vm_free(struct hv_vm *vm)
{
	struct kvm_vm *kvm = to_kvm(vm);

	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	free(kvm->routing);
	free(kvm->msrs);
	free(vm->cpuid);
	free(kvm);
}

static const struct hv_vm_ops kvm_vm_ops = {
	.memory_set = kvm_memory_set,
	.vcpu_create = kvm_vcpu_create,
	.irqfd_set = kvm_irqfd_set,
	.routes_set = kvm_routes_set,
	.msi_send = kvm_msi_send,
	.ioeventfd_set = kvm_ioeventfd_set,
	.clock_get = kvm_clock_get,
	.clock_set = kvm_clock_set,
	.free = kvm_vm_free,
};

static void on_kick(int signal _unused_)
{
	/* Its arrival alone makes KVM_RUN return. */
}

/* Process-wide and the same for every VM, so that installing it again changes nothing. */
static int install_kick_handler(struct err *err)
{
	struct sigaction action = { .sa_handler = on_kick, .sa_flags = SA_RESTART };

	if (sigaction(thread_kick_signal(), &action, NULL) < 0)
		return err_errno(err, errno, "cannot install the vCPU kick's signal handler");
	return 0;
}

static int enable_cap(int fd, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	return kvm_ioctl_ptr(fd, KVM_ENABLE_CAP, &enable);
}

/* Everything that must happen before the first vCPU exists. */
static int set_up_irqchip(struct kvm_vm *kvm, const struct hv_vm_params *params, struct err *err)
{
	uint64_t identity = KVM_IDENTITY_GPA;
	int r;

	r = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA);
	if (r < 0)
		return err_errno(err, -r, "KVM refused the address of its TSS");
	r = kvm_ioctl_ptr(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r < 0)
		return err_errno(err, -r, "KVM refused the address of its identity map");
	r = enable_cap(kvm->vm_fd, KVM_CAP_SPLIT_IRQCHIP, params->ioapic_pins);
	if (r < 0)
		return err_errno(err, -r, "KVM refused a split interrupt controller with %u pins",
				 params->ioapic_pins);
	if (params->max_apic_id > APIC_ID_8BIT_MAX) {
		if (!kvm->vm.caps.x2apic_32bit_ids)
			return err_fault(err, FAULT_UNSUPPORTED, ENOTSUP,
					 "APIC id %u needs KVM_CAP_X2APIC_API, which the host's "
					 "KVM lacks: ids up to %u work",
					 params->max_apic_id, APIC_ID_8BIT_MAX);
		r = enable_cap(kvm->vm_fd, KVM_CAP_X2APIC_API,
			       KVM_X2APIC_API_USE_32BIT_IDS |
				       KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
		if (r < 0)
			return err_errno(err, -r, "KVM refused 32-bit APIC ids");
		kvm->x2apic_ids = true;
	}
	return 0;
}

static int check_params(const struct kvm_vm *kvm, const struct hv_vm_params *params,
			struct err *err)
{
	const struct hv_caps *caps = &kvm->vm.caps;

	if (params->ioapic_pins >= caps->gsi_routes)
		return err_fault(err, FAULT_UNSUPPORTED, ENOTSUP,
				 "the host's KVM has %u interrupt routes, %u are the IOAPIC's",
				 caps->gsi_routes, params->ioapic_pins);
	if (params->max_apic_id >= caps->max_vcpu_id)
		return err_fault(err, FAULT_UNSUPPORTED, ENOTSUP,
				 "APIC id %u is too high: the host's KVM takes ids below %u",
				 params->max_apic_id, caps->max_vcpu_id);
	return 0;
}

static int kvm_vm_create(int fd, const struct hv_vm_params *params, struct hv_vm **ret,
			 struct err *err)
{
	struct kvm_vm *kvm;
	int r;

	r = check_host(fd, err);
	if (r < 0)
		return r;
	r = install_kick_handler(err);
	if (r < 0)
		return r;
	kvm = calloc(1, sizeof(*kvm));
	if (!kvm)
		return err_errno(err, ENOMEM, "cannot create the VM");
	kvm->vm.ops = &kvm_vm_ops;
	kvm->kvm_fd = fd;
	kvm->pid = getpid();
	kvm->vm_fd = kvm_ioctl(fd, KVM_CREATE_VM, 0);
	if (kvm->vm_fd < 0) {
		r = err_errno(err, -kvm->vm_fd, "KVM cannot create a VM");
		goto fail;
	}
	read_caps(kvm->vm_fd, &kvm->vm.caps);
	kvm->have_xsave2 = check_cap(kvm->vm_fd, KVM_CAP_XSAVE2) != 0;
	kvm->have_xcrs = check_cap(kvm->vm_fd, KVM_CAP_XCRS) != 0;
	kvm->have_debugregs = check_cap(kvm->vm_fd, KVM_CAP_DEBUGREGS) != 0;
	r = kvm_ioctl(kvm->vm_fd, KVM_GET_TSC_KHZ, 0); /* of a VM since Linux 5.18 */
	if (r > 0)
		kvm->vm.caps.tsc_khz = (uint64_t)r;

	r = check_params(kvm, params, err);
	if (r < 0)
		goto fail;
	r = kvm_ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run)) {
		r = err_errno(err, r < 0 ? -r : EPROTO, "KVM's vCPU mapping has no usable size");
		goto fail;
	}
	kvm->run_size = (size_t)r;
	/* Not resident until used: a VM touches a page or two of it. */
	kvm->routing =
		calloc(1, sizeof(*kvm->routing) +
				  kvm->vm.caps.gsi_routes * sizeof(struct kvm_irq_routing_entry));
	if (!kvm->routing) {
		r = err_errno(err, ENOMEM, "cannot allocate the interrupt routes");
		goto fail;
	}
	r = set_up_irqchip(kvm, params, err);
	if (r < 0)
		goto fail;
	r = kvm_x86_load_cpuid(kvm, err);
	if (r < 0)
		goto fail;
	kvm->vm.caps.phys_bits = kvm_x86_phys_bits(kvm->vm.cpuid, kvm->vm.n_cpuid);
	r = kvm_x86_load_msr_list(kvm, err);
	if (r < 0)
		goto fail;
	*ret = &kvm->vm;
	return 0;

fail:
	kvm_vm_free(&kvm->vm);
	return r;
}

const struct hypervisor hypervisor_kvm = {
	.name = "kvm",
	.vm_create = kvm_vm_create,
	.probe = kvm_probe,
};
