/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: one x86-64 vCPU, and what depends on the x86 host
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

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/base/thread.h"

#define CPUID_ENTRIES_MAX 1024
#define MSR_LIST_MAX      1024

/* Accesses of one instruction: REP in a page at most, one byte each. */
#define FINISH_TRIES 4096

#define MSR_TSC             0x10
#define MSR_KVM_WALL_CLOCK  0x11
#define MSR_TSC_ADJUST      0x3b
#define MSR_TSC_DEADLINE    0x6e0
#define MSR_HV_FIRST        0x40000000 /* Hyper-V's, which no guest of ours is offered */
#define MSR_HV_LAST         0x400001ff
#define MSR_KVM_WALL_CLOCK2 0x4b564d00
#define MSR_KVM_SYSTEM_TIME 0x12

#define CPUID_ADDRESS_BITS 0x80000008

/* This thread's id, so that run() need not ask the kernel each time. Part of its role. */
static _Thread_local pid_t own_tid;

struct msr_buffer { /* struct kvm_msrs with its entries in place */
	uint32_t nmsrs, pad;
	struct kvm_msr_entry entries[X86_STATE_MSRS_MAX];
};

static_assert(offsetof(struct msr_buffer, entries) == offsetof(struct kvm_msrs, entries),
	      "KVM's list of MSRs and ours");

static struct kvm_vcpu *to_kvm(struct hv_vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* ---- CPUID and the list of MSRs: per host ------------------------------- */

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

static int kvm_cpuid_set(struct hv_vcpu *vcpu, const struct x86_cpuid_entry *entries, size_t n,
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
	r = kvm_ioctl_ptr(to_kvm(vcpu)->fd, KVM_SET_CPUID2, cpuid);
	return r < 0 ? err_errno(err, -r, "vCPU %u: KVM refused its CPUID", vcpu->index) : 0;
}

/* ---- running ------------------------------------------------------------ */

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
	struct kvm_vcpu *vcpu = to_kvm(hv);
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

/*
 * 0, or -EBUSY when the instruction wants another access (it crosses a page, or
 * is a string instruction): that one the vCPU's own loop must answer.
 */
static int finish_io(struct kvm_vcpu *vcpu)
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

static void kvm_kick(struct hv_vcpu *hv)
{
	struct kvm_vcpu *vcpu = to_kvm(hv);
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
	return kvm_ioctl(to_kvm(vcpu)->fd, KVM_NMI, 0);
}

/* Documentation/virt/kvm/x86/msr.rst: each holds an address in guest memory that KVM writes to. */
static void kvm_forget(struct hv_vcpu *hv)
{
	static const uint32_t enabled_by_guest[] = {
		MSR_KVM_SYSTEM_TIME, 0x4b564d01, /* MSR_KVM_SYSTEM_TIME_NEW */
		0x4b564d02,                      /* MSR_KVM_ASYNC_PF_EN */
		0x4b564d03,                      /* MSR_KVM_STEAL_TIME */
		0x4b564d04,                      /* MSR_KVM_EOI_EN */
	};
	struct msr_buffer list = { .nmsrs = 1 };

	/* One by one: a KVM that does not have one of them says so, and has nothing to forget. */
	for (size_t i = 0; i < ARRAY_SIZE(enabled_by_guest); i++) {
		list.entries[0] = (struct kvm_msr_entry){ .index = enabled_by_guest[i] };
		ioctl(to_kvm(hv)->fd, KVM_SET_MSRS, &list);
	}
}

static void kvm_was_paused(struct hv_vcpu *vcpu)
{
	/* EINVAL: the guest has no kvmclock, so nobody to tell. */
	kvm_ioctl(to_kvm(vcpu)->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* ---- state: registers --------------------------------------------------- */

static void segment_get(struct x86_segment *to, const struct kvm_segment *from)
{
	*to = (struct x86_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.type = from->type,
		.present = from->present,
		.dpl = from->dpl,
		.db = from->db,
		.s = from->s,
		.l = from->l,
		.g = from->g,
		.avl = from->avl,
		.unusable = from->unusable,
	};
}

static void segment_set(struct kvm_segment *to, const struct x86_segment *from)
{
	*to = (struct kvm_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.type = from->type,
		.present = from->present,
		.dpl = from->dpl,
		.db = from->db,
		.s = from->s,
		.l = from->l,
		.g = from->g,
		.avl = from->avl,
		.unusable = from->unusable,
	};
}

#define GENERAL_REGS(X)                                                                            \
	X(rax)                                                                                     \
	X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rsp) X(rbp) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13)   \
		X(r14) X(r15) X(rip) X(rflags)
#define SEGMENT_REGS(X) X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldt)
#define CONTROL_REGS(X) X(cr0) X(cr2) X(cr3) X(cr4) X(cr8) X(efer) X(apic_base)

static int regs_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs = { 0 };
	int r;

	r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_REGS, &regs);
	if (r < 0)
		return r;
	r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_SREGS, &sregs);
	if (r < 0)
		return r;
#define GET(reg) state->reg = regs.reg;
	GENERAL_REGS(GET)
#undef GET
#define GET(reg) segment_get(&state->reg, &sregs.reg);
	SEGMENT_REGS(GET)
#undef GET
#define GET(reg) state->reg = sregs.reg;
	CONTROL_REGS(GET)
#undef GET
	state->gdt = (struct x86_dtable){ .base = sregs.gdt.base, .limit = sregs.gdt.limit };
	state->idt = (struct x86_dtable){ .base = sregs.idt.base, .limit = sregs.idt.limit };
	return 0;
}

static int regs_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state)
{
	/* interrupt_bitmap stays 0: an injected interrupt travels in the events. */
	struct kvm_sregs sregs = { 0 };
	struct kvm_regs regs = { 0 };
	int r;

#define SET(reg) regs.reg = state->reg;
	GENERAL_REGS(SET)
#undef SET
#define SET(reg) segment_set(&sregs.reg, &state->reg);
	SEGMENT_REGS(SET)
#undef SET
#define SET(reg) sregs.reg = state->reg;
	CONTROL_REGS(SET)
#undef SET
	sregs.gdt.base = state->gdt.base;
	sregs.gdt.limit = state->gdt.limit;
	sregs.idt.base = state->idt.base;
	sregs.idt.limit = state->idt.limit;
	r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_SREGS, &sregs);
	if (r < 0)
		return r;
	return kvm_ioctl_ptr(vcpu->fd, KVM_SET_REGS, &regs);
}

/* ---- state: FPU, local APIC, events, run state -------------------------- */

static int fpu_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	struct kvm_xcrs xcrs = { 0 };
	int r;

	state->xsave_size = vcpu->vm->vm.caps.xsave_size;
	if (state->xsave_size > sizeof(state->xsave))
		return -E2BIG;
	r = kvm_ioctl_ptr(vcpu->fd, vcpu->vm->have_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
			  state->xsave);
	if (r < 0)
		return r;
	state->xcr0 = 1; /* x87 alone: what a processor without XSAVE has, in effect */
	if (!vcpu->vm->have_xcrs)
		return 0;
	r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_XCRS, &xcrs);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < MIN(xcrs.nr_xcrs, (uint32_t)KVM_MAX_XCRS); i++)
		if (xcrs.xcrs[i].xcr == 0)
			state->xcr0 = xcrs.xcrs[i].value;
	return 0;
}

static int fpu_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = state->xcr0 } } };

	/* A bigger area has components this host does not know. */
	if (state->xsave_size > vcpu->vm->vm.caps.xsave_size)
		return -E2BIG;
	if (vcpu->vm->have_xcrs) {
		int r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_XCRS, &xcrs);

		if (r < 0)
			return r;
	}
	return kvm_ioctl_ptr(vcpu->fd, KVM_SET_XSAVE, state->xsave);
}

static_assert(sizeof(struct kvm_lapic_state) == sizeof(((struct x86_vcpu_state *)0)->lapic),
	      "KVM's APIC page and ours");

static int lapic_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	return kvm_ioctl_ptr(vcpu->fd, KVM_GET_LAPIC, state->lapic);
}

static int lapic_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state)
{
	return kvm_ioctl_ptr(vcpu->fd, KVM_SET_LAPIC, state->lapic);
}

static_assert(sizeof(struct kvm_vcpu_events) <= sizeof(((struct x86_vcpu_state *)0)->events),
	      "room for KVM's events");

static int events_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	struct kvm_vcpu_events events = { 0 };
	struct kvm_debugregs debug = { 0 };
	int r;

	r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
	if (r < 0)
		return r;
	if (vcpu->vm->have_debugregs) {
		r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_DEBUGREGS, &debug);
		if (r < 0)
			return r;
	}
	memcpy(state->events, &events, sizeof(events));
	for (unsigned int i = 0; i < 4; i++)
		state->dr[i] = debug.db[i];
	state->dr6 = debug.dr6;
	state->dr7 = debug.dr7;
	return 0;
}

static int events_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state)
{
	struct kvm_debugregs debug = { .dr6 = state->dr6, .dr7 = state->dr7 };
	struct kvm_vcpu_events events;
	int r;

	memcpy(&events, state->events, sizeof(events));
	for (unsigned int i = 0; i < 4; i++)
		debug.db[i] = state->dr[i];
	if (vcpu->vm->have_debugregs) {
		r = kvm_ioctl_ptr(vcpu->fd, KVM_SET_DEBUGREGS, &debug);
		if (r < 0)
			return r;
	}
	return kvm_ioctl_ptr(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
}

static const uint32_t mp_states[] = {
	[X86_MP_RUNNABLE] = KVM_MP_STATE_RUNNABLE,  [X86_MP_WAIT_SIPI] = KVM_MP_STATE_UNINITIALIZED,
	[X86_MP_INIT] = KVM_MP_STATE_INIT_RECEIVED, [X86_MP_HALTED] = KVM_MP_STATE_HALTED,
	[X86_MP_SIPI] = KVM_MP_STATE_SIPI_RECEIVED,
};

static int mp_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
{
	struct kvm_mp_state mp = { 0 };
	int r = kvm_ioctl_ptr(vcpu->fd, KVM_GET_MP_STATE, &mp);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < ARRAY_SIZE(mp_states); i++) {
		if (mp_states[i] == mp.mp_state) {
			state->mp_state = i;
			return 0;
		}
	}
	return -EPROTO;
}

static int mp_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state)
{
	struct kvm_mp_state mp = { 0 };

	if (state->mp_state >= ARRAY_SIZE(mp_states))
		return -EINVAL;
	mp.mp_state = mp_states[state->mp_state];
	return kvm_ioctl_ptr(vcpu->fd, KVM_SET_MP_STATE, &mp);
}

/* ---- state: MSRs -------------------------------------------------------- */

/* Whether trying to set it would be seen: by the guest's clock, or in its memory. */
static bool msr_is_time(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_ADJUST || index == MSR_TSC_DEADLINE ||
	       index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK2;
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

static int msrs_get(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state)
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

/* deadline: only that one, which needs the APIC's timer mode set before it; else all others. */
static int msrs_set(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state, bool deadline,
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

/* ---- state: the whole --------------------------------------------------- */

static int kvm_state_get(struct hv_vcpu *hv, struct x86_vcpu_state *ret, struct err *err)
{
	/* The run state first: asking for it makes KVM take pending INITs and SIPIs in. */
	static const struct {
		const char *what;
		int (*get)(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state);
	} parts[] = {
		{ "run state", mp_get },     { "registers", regs_get },
		{ "FPU state", fpu_get },    { "MSRs", msrs_get },
		{ "local APIC", lapic_get }, { "pending events", events_get },
	};

	if (finish_io(to_kvm(hv)) < 0)
		return err_set(err, EBUSY, "vCPU %u is between two accesses of one instruction",
			       hv->index);
	*ret = (struct x86_vcpu_state){ .parts = X86_STATE_ALL };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		int r = parts[i].get(to_kvm(hv), ret);

		if (r < 0)
			return err_errno(err, -r, "vCPU %u: cannot read its %s", hv->index,
					 parts[i].what);
	}
	return 0;
}

static int kvm_state_set(struct hv_vcpu *hv, const struct x86_vcpu_state *state, struct err *err)
{
	/* Registers before the local APIC (apic_base), events after everything they interrupt. */
	static const struct {
		enum x86_state_part part;
		const char *what;
		int (*set)(struct kvm_vcpu *vcpu, const struct x86_vcpu_state *state);
	} parts[] = {
		{ X86_STATE_REGS, "registers", regs_set },
		{ X86_STATE_FPU, "FPU state", fpu_set },
		{ X86_STATE_MSRS, "MSRs", NULL },
		{ X86_STATE_LAPIC, "local APIC", lapic_set },
		{ X86_STATE_MP, "run state", mp_set },
		{ X86_STATE_EVENTS, "pending events", events_set },
	};
	struct kvm_vcpu *vcpu = to_kvm(hv);
	int r;

	/* What the rest of the instruction reads does not matter, its registers are replaced. */
	for (unsigned int i = 0; i < FINISH_TRIES && finish_io(vcpu) < 0; i++)
		;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!(state->parts & parts[i].part))
			continue;
		if (!parts[i].set) {
			r = msrs_set(vcpu, state, false, err);
			if (r < 0)
				return r;
			continue;
		}
		r = parts[i].set(vcpu, state);
		if (r < 0)
			return err_errno(err, -r, "vCPU %u: KVM refused its %s", hv->index,
					 parts[i].what);
	}
	return state->parts & X86_STATE_MSRS ? msrs_set(vcpu, state, true, err) : 0;
}

/* ---- life --------------------------------------------------------------- */

static void kvm_vcpu_free(struct hv_vcpu *hv)
{
	struct kvm_vcpu *vcpu = to_kvm(hv);

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
	.cpuid_set = kvm_cpuid_set,
	.state_get = kvm_state_get,
	.state_set = kvm_state_set,
	.was_paused = kvm_was_paused,
	.forget = kvm_forget,
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
