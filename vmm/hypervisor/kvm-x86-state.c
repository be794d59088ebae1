/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KVM: a vCPU's state, between KVM's structs and struct x86_vcpu_state
 */
#include "vmm/hypervisor/kvm-internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

/* Accesses of one instruction: REP in a page at most, one byte each. */
#define FINISH_TRIES 4096

/* ---- registers ---------------------------------------------------------- */

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

#define NAMED_REGS(X)    X(rax) X(rbx) X(rcx) X(rdx) X(rsi) X(rdi) X(rsp) X(rbp) X(rip) X(rflags)
#define NUMBERED_REGS(X) X(r8) X(r9) X(r10) X(r11) X(r12) X(r13) X(r14) X(r15)
#define SEGMENT_REGS(X)  X(cs) X(ds) X(es) X(fs) X(gs) X(ss) X(tr) X(ldt)
#define CONTROL_REGS(X)  X(cr0) X(cr2) X(cr3) X(cr4) X(cr8) X(efer) X(apic_base)

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
	NAMED_REGS(GET)
	NUMBERED_REGS(GET)
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
	NAMED_REGS(SET)
	NUMBERED_REGS(SET)
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

/* ---- FPU, local APIC, events, run state --------------------------------- */

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

/* ---- the whole ---------------------------------------------------------- */

int kvm_x86_state_get(struct hv_vcpu *hv, struct x86_vcpu_state *ret, struct err *err)
{
	/* The run state first: asking for it makes KVM take pending INITs and SIPIs in. */
	static const struct {
		const char *what;
		int (*get)(struct kvm_vcpu *vcpu, struct x86_vcpu_state *state);
	} parts[] = {
		{ "run state", mp_get },     { "registers", regs_get },
		{ "FPU state", fpu_get },    { "MSRs", kvm_x86_msrs_get },
		{ "local APIC", lapic_get }, { "pending events", events_get },
	};

	if (kvm_x86_finish_io(kvm_vcpu_of(hv)) < 0)
		return err_set(err, EBUSY, "vCPU %u is between two accesses of one instruction",
			       hv->index);
	*ret = (struct x86_vcpu_state){ .parts = X86_STATE_ALL };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		int r = parts[i].get(kvm_vcpu_of(hv), ret);

		if (r < 0)
			return err_errno(err, -r, "vCPU %u: cannot read its %s", hv->index,
					 parts[i].what);
	}
	return 0;
}

int kvm_x86_state_set(struct hv_vcpu *hv, const struct x86_vcpu_state *state, struct err *err)
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
	struct kvm_vcpu *vcpu = kvm_vcpu_of(hv);
	int r;

	/* What the rest of the instruction reads does not matter, its registers are replaced. */
	for (unsigned int i = 0; i < FINISH_TRIES && kvm_x86_finish_io(vcpu) < 0; i++)
		;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!(state->parts & parts[i].part))
			continue;
		if (!parts[i].set) {
			r = kvm_x86_msrs_set(vcpu, state, false, err);
			if (r < 0)
				return r;
			continue;
		}
		r = parts[i].set(vcpu, state);
		if (r < 0)
			return err_errno(err, -r, "vCPU %u: KVM refused its %s", hv->index,
					 parts[i].what);
	}
	return state->parts & X86_STATE_MSRS ? kvm_x86_msrs_set(vcpu, state, true, err) : 0;
}
