/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: running, kicking, making one x86-64 vCPU
 *
 * Kicks are never lost: kick() first sets immediate_exit in the mapping shared
 * with the kernel, then signals the thread.  A vCPU that is about to enter sees
 * the flag, one inside KVM_RUN gets the signal, and one that is elsewhere finds
 * the flag at its next run().  run() clears it only on the way to reporting
 * HV_EXIT_INTERRUPTED, after which its caller looks at its requests.
 *
 * An instruction that left for a port or MMIO access is finished by the next
 * KVM_RUN only (Linux, Documentation/virt/kvm/api.rst, 5).  A vCPU can be parked
 * before that; state_get and state_set finish it first, so that a snapshot has
 * the access's result and a reset vCPU does not get it.
 */
#include "vmm/hypervisor/kvm-internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/thread.h"

/* This thread's id, so that run() need not ask the kernel each time. Part of its role. */
static _Thread_local pid_t own_tid;

static uint64_t read_rip(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs = { 0 };

	return kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}

static const char *suberror_name(uint32_t suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION:
		return "an instruction it cannot emulate";
	case KVM_INTERNAL_ERROR_SIMUL_EX:
		return "simultaneous exceptions";
	case KVM_INTERNAL_ERROR_DELIVERY_EV:
		return "an exit while it delivered an event";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
		return "an unexpected exit of the processor";
	default:
		return "an internal error";
	}
}

static void internal_error_text(struct kvm_vcpu *vcpu, struct hv_exit *exit)
{
	const struct kvm_run *run = vcpu->run;
	int n = snprintf(exit->text, sizeof(exit->text), "KVM met %s (suberror %u) at rip 0x%llx",
			 suberror_name(run->internal.suberror), run->internal.suberror,
			 (unsigned long long)read_rip(vcpu));

	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
	    run->emulation_failure.ndata < 3 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		snprintf(exit->text + n, sizeof(exit->text) - (size_t)n, ", data 0x%llx",
			 run->internal.ndata ? (unsigned long long)run->internal.data[0] : 0ULL);
		return;
	}
	n += snprintf(exit->text + n, sizeof(exit->text) - (size_t)n, ", bytes");
	for (unsigned int i = 0; i < run->emulation_failure.insn_size && i < 15; i++)
		n += snprintf(exit->text + n, sizeof(exit->text) - (size_t)n, " %02x",
			      run->emulation_failure.insn_bytes[i]);
}

/* What the kernel means by leaving KVM_RUN for a reason we do not handle. */
static void failed(struct kvm_vcpu *vcpu, struct hv_exit *exit)
{
	const struct kvm_run *run = vcpu->run;

	exit->kind = HV_EXIT_FAILED;
	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		internal_error_text(vcpu, exit);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(exit->text, sizeof(exit->text),
			 "the processor refused to enter the guest: reason 0x%llx on CPU %u, "
			 "rip 0x%llx",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
			 run->fail_entry.cpu, (unsigned long long)read_rip(vcpu));
		break;
	case KVM_EXIT_UNKNOWN:
		snprintf(exit->text, sizeof(exit->text),
			 "the processor left the guest for unknown reason 0x%llx, rip 0x%llx",
			 (unsigned long long)run->hw.hardware_exit_reason,
			 (unsigned long long)read_rip(vcpu));
		break;
	default:
		snprintf(exit->text, sizeof(exit->text), "unexpected KVM exit %u at rip 0x%llx",
			 run->exit_reason, (unsigned long long)read_rip(vcpu));
		break;
	}
}

static int kvm_run(struct hv_vcpu *hv, struct hv_exit *ret_exit)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
	struct kvm_run *run = vcpu->run;

	if (!own_tid)
		own_tid = gettid();
	/* Before the kernel reads immediate_exit: pairs with the other order in kick(). */
	if (atomic_load_explicit(&vcpu->tid, memory_order_relaxed) != own_tid)
		atomic_store_explicit(&vcpu->tid, own_tid, memory_order_seq_cst);

	if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
		int e = errno;

		vcpu->io_unfinished = false;
		if (e == EINTR || e == EAGAIN) { /* EAGAIN: woken while waiting for SIPI */
			/* Acquires what the kicker wrote before its kick. */
			__atomic_exchange_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			ret_exit->kind = HV_EXIT_INTERRUPTED;
			return 0;
		}
		ret_exit->kind = HV_EXIT_FAILED;
		snprintf(ret_exit->text, sizeof(ret_exit->text),
			 "KVM_RUN failed with errno %d at rip 0x%llx", e,
			 (unsigned long long)read_rip(vcpu));
		return 0;
	}

	vcpu->io_unfinished = run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		ret_exit->kind = HV_EXIT_PIO;
		ret_exit->write = run->io.direction == KVM_EXIT_IO_OUT;
		ret_exit->addr = run->io.port;
		ret_exit->len = run->io.size;
		ret_exit->count = run->io.count;
		ret_exit->data = (uint8_t *)run + run->io.data_offset;
		break;
	case KVM_EXIT_MMIO:
		ret_exit->kind = HV_EXIT_MMIO;
		ret_exit->write = run->mmio.is_write;
		ret_exit->addr = run->mmio.phys_addr;
		ret_exit->len = run->mmio.len;
		ret_exit->count = 1;
		ret_exit->data = run->mmio.data;
		break;
	case KVM_EXIT_IOAPIC_EOI:
		ret_exit->kind = HV_EXIT_IOAPIC_EOI;
		ret_exit->vector = run->eoi.vector;
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		ret_exit->kind = HV_EXIT_INTERRUPTED;
		break;
	case KVM_EXIT_SHUTDOWN:
		ret_exit->kind = HV_EXIT_SHUTDOWN;
		break;
	default:
		failed(vcpu, ret_exit);
		break;
	}
	return 0;
}

static void kvm_kick(struct hv_vcpu *hv)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
	pid_t tid;

	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = atomic_load_explicit(&vcpu->tid, memory_order_seq_cst);
	/*
	 * By id, not pthread_kill(): the thread may be gone already.  Should the
	 * kernel have given its id to another thread of ours, that one blocks
	 * the signal or has the empty handler.
	 */
	if (tid)
		tgkill(vcpu->vm->pid, tid, thread_kick_signal());
}

static int kvm_nmi(struct hv_vcpu *vcpu)
{
	return kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_NMI, 0);
}

int kvm_x86_finish_io(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (!vcpu->io_unfinished)
		return 0;
	/* Stays set: the next run() reports an interruption, which is always allowed. */
	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0 &&
	    (run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO))
		return -EBUSY;
	vcpu->io_unfinished = false;
	return 0;
}

static void kvm_was_paused(struct hv_vcpu *vcpu)
{
	/* EINVAL: the guest has no kvmclock, so nobody to tell. */
	kvm_ioctl(kvm_vcpu_of(vcpu)->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* Asking makes KVM take an INIT or SIPI that has come. */
static enum hv_start kvm_start_state(struct hv_vcpu *hv)
{
	struct kvm_mp_state mp = { 0 };

	if (kvm_ioctl_ptr(kvm_vcpu_of(hv)->fd, KVM_GET_MP_STATE, &mp) < 0)
		return HV_START_DONE;
	switch (mp.mp_state) {
	case KVM_MP_STATE_UNINITIALIZED:
		return HV_START_NONE;
	case KVM_MP_STATE_INIT_RECEIVED:
		return HV_START_INIT;
	default:
		return HV_START_DONE;
	}
}

static void kvm_vcpu_free(struct hv_vcpu *hv)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);

	if (vcpu->run)
		munmap(vcpu->run, vcpu->vm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	free(vcpu);
}

static const struct hv_vcpu_ops kvm_vcpu_ops = {
	.run = kvm_run,
	.kick = kvm_kick,
	.nmi = kvm_nmi,
	.cpuid_set = kvm_x86_cpuid_set,
	.state_get = kvm_x86_state_get,
	.state_set = kvm_x86_state_set,
	.was_paused = kvm_was_paused,
	.forget = kvm_x86_forget,
	.start_state = kvm_start_state,
	.free = kvm_vcpu_free,
};

int kvm_x86_vcpu_create(struct kvm_vm *vm, uint32_t index, uint32_t apic_id, struct hv_vcpu **ret,
			struct err *err)
{
	struct kvm_vcpu *vcpu;
	void *run;
	int r;

	vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu)
		return err_errno(err, ENOMEM, "cannot create vCPU %u", index);
	vcpu->vcpu = (struct hv_vcpu){ .ops = &kvm_vcpu_ops, .index = index };
	vcpu->vm = vm;
	/* KVM's vCPU id is the APIC id. */
	vcpu->fd = kvm_ioctl(vm->vm_fd, KVM_CREATE_VCPU, apic_id);
	if (vcpu->fd < 0) {
		r = err_errno(err, -vcpu->fd, "KVM cannot create vCPU %u (APIC id %u)", index,
			      apic_id);
		goto fail;
	}
	run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED) {
		r = err_errno(err, errno, "cannot map vCPU %u", index);
		goto fail;
	}
	vcpu->run = run;
	if (!vm->vm.caps.tsc_khz) { /* kernels before 5.18 know it for a vCPU only */
		r = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
		if (r > 0)
			vm->vm.caps.tsc_khz = (uint64_t)r;
	}
	*ret = &vcpu->vcpu;
	return 0;

fail:
	kvm_vcpu_free(&vcpu->vcpu);
	return r;
}
