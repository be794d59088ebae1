/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KVM back end on the machine's own /dev/kvm, with guests of a few bytes
 * of real mode; skipped where there is none.
 */
#include "vmm/hypervisor/hypervisor.h"

#include <assert.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/thread.h"
#include "vmm/hypervisor/kvm-internal.h"
#include "vmm/hypervisor/x86-state.h"

static_assert(KVM_TSS_GPA == LAYOUT_KVM_TSS, "one memory map");
static_assert(KVM_IDENTITY_GPA == LAYOUT_KVM_IDENTITY, "one memory map");

#define CODE_GPA 0x1000
#define RAM_SIZE 0x10000

struct machine {
	int kvm_fd;
	struct hv_vm *vm;
	struct hv_vcpu *vcpu;
	uint8_t *ram;
};

/* False after saying why the test is skipped. */
static bool machine_start(struct machine *m, uint32_t max_apic_id, const void *code, size_t len)
{
	struct hv_vm_params params = { .ioapic_pins = 24, .max_apic_id = max_apic_id };
	struct hv_memory_slot slot = { .slot = 0, .gpa = 0, .size = RAM_SIZE };
	struct err err = { 0 };
	int r;

	*m = (struct machine){ .kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
	if (m->kvm_fd < 0) {
		g_test_skip("no usable /dev/kvm");
		return false;
	}
	r = hypervisor_kvm.vm_create(m->kvm_fd, &params, &m->vm, &err);
	g_assert_cmpstr(err.msg, ==, "");
	g_assert_cmpint(r, ==, 0);
	m->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g_assert_true(m->ram != MAP_FAILED);
	memcpy(m->ram + CODE_GPA, code, len);
	slot.hva = m->ram;
	g_assert_cmpint(m->vm->ops->memory_set(m->vm, &slot, &err), ==, 0);
	g_assert_cmpint(m->vm->ops->vcpu_create(m->vm, 0, 0, &m->vcpu, &err), ==, 0);
	return true;
}

static void machine_stop(struct machine *m)
{
	hv_vcpu_free(m->vcpu);
	hv_vm_free(m->vm);
	munmap(m->ram, RAM_SIZE);
	close(m->kvm_fd);
}

/* Real mode at CODE_GPA, everything else as after reset. */
static void enter_real_mode(struct hv_vcpu *vcpu)
{
	g_autofree struct x86_vcpu_state *state = g_new0(struct x86_vcpu_state, 1);
	struct err err = { 0 };

	g_assert_cmpint(vcpu->ops->state_get(vcpu, state, &err), ==, 0);
	g_assert_cmpuint(state->parts, ==, X86_STATE_ALL);
	g_assert_cmpuint(state->n_msrs, >, 0);
	state->parts = X86_STATE_REGS;
	state->cs.base = 0;
	state->cs.selector = 0;
	state->rip = CODE_GPA;
	state->rflags = 2;
	state->rax = 0x42;
	state->rbx = 0;
	state->rcx = 4;
	state->rdx = 0x3f8;
	state->rsi = CODE_GPA + 0x100;
	g_assert_cmpint(vcpu->ops->state_set(vcpu, state, &err), ==, 0);
}

static void test_probe(void)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct hv_caps caps = { 0 };
	struct err err = { 0 };

	if (fd < 0) {
		g_test_skip("no usable /dev/kvm");
		return;
	}
	g_assert_cmpint(hypervisor_kvm.probe(fd, &caps, &err), ==, 0);
	g_assert_cmpuint(caps.max_vcpus, >, 0);
	g_assert_cmpuint(caps.max_vcpu_id, >=, caps.max_vcpus);
	g_assert_cmpuint(caps.gsi_routes, >, 24);
	g_assert_cmpuint(caps.xsave_size, >=, 4096);
	g_assert_cmpuint(caps.phys_bits, >=, 32);
}

static void test_not_kvm(void)
{
	_cleanup_close_ int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct hv_vm_params params = { .ioapic_pins = 24 };
	struct hv_vm *vm = NULL;
	struct err err = { 0 };

	g_assert_cmpint(hypervisor_kvm.vm_create(fd, &params, &vm, &err), ==, -ENOTTY);
	g_assert_nonnull(strstr(err.msg, "is this /dev/kvm?"));
	g_assert_null(vm);
}

static void test_apic_id_too_high(void)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct hv_vm_params params = { .ioapic_pins = 24, .max_apic_id = 0x7fffffff };
	struct hv_vm *vm = NULL;
	struct err err = { 0 };

	if (fd < 0) {
		g_test_skip("no usable /dev/kvm");
		return;
	}
	g_assert_cmpint(hypervisor_kvm.vm_create(fd, &params, &vm, &err), ==, -ENOTSUP);
	g_assert_cmpint(err.fault, ==, FAULT_UNSUPPORTED);
	g_assert_nonnull(strstr(err.msg, "APIC id 2147483647 is too high"));
}

static void test_run_exits(void)
{
	static const uint8_t code[] = {
		0xee,                               /* out dx, al */
		0xec,                               /* in al, dx */
		0xa2, 0x00, 0x20,                   /* mov [0x2000], al */
		0xf3, 0x6e,                         /* rep outsb */
		0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, /* mov eax, 0x12345678 */
		0x8e, 0xdb,                         /* mov ds, bx */
		0xba, 0x00, 0xf0,                   /* mov dx, 0xf000 */
		0x8e, 0xda,                         /* mov ds, dx */
		0x66, 0xa3, 0x00, 0x00,             /* mov [0xf0000], eax: not RAM */
		0x66, 0xa1, 0x04, 0x00,             /* mov eax, [0xf0004] */
		0x66, 0xef,                         /* out dx, eax */
		0xf4,                               /* hlt */
	};
	struct machine m;
	struct hv_exit exit = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	memcpy(m.ram + CODE_GPA + 0x100, "abcd", 4);
	enter_real_mode(m.vcpu);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
	g_assert_true(exit.write);
	g_assert_cmpuint(exit.addr, ==, 0x3f8);
	g_assert_cmpuint(exit.len, ==, 1);
	g_assert_cmpuint(exit.count, ==, 1);
	g_assert_cmpuint(*(uint8_t *)exit.data, ==, 0x42);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
	g_assert_false(exit.write);
	*(uint8_t *)exit.data = 0x99;

	/* String output: as many exits as KVM likes, in total four bytes in order. */
	for (uint32_t seen = 0; seen < 4; seen += exit.count) {
		g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
		g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
		g_assert_true(exit.write);
		g_assert_cmpuint(exit.len, ==, 1);
		g_assert_cmpuint(exit.count, <=, 4 - seen);
		g_assert_cmpmem(exit.data, exit.count, &"abcd"[seen], exit.count);
	}
	g_assert_cmpuint(m.ram[0x2000], ==, 0x99);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_MMIO);
	g_assert_true(exit.write);
	g_assert_cmpuint(exit.addr, ==, 0xf0000);
	g_assert_cmpuint(exit.len, ==, 4);
	g_assert_cmpuint(*(uint32_t *)exit.data, ==, 0x12345678);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_MMIO);
	g_assert_false(exit.write);
	g_assert_cmpuint(exit.addr, ==, 0xf0004);
	memcpy(exit.data, "\xef\xbe\xad\xde", 4);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
	g_assert_cmpuint(exit.len, ==, 4);
	g_assert_cmpuint(*(uint32_t *)exit.data, ==, 0xdeadbeef);

	/* hlt stays in the kernel (the local APIC is there); a kick gets it out. */
	m.vcpu->ops->kick(m.vcpu);
	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_INTERRUPTED);
	machine_stop(&m);
}

/* Parked with an access under way: a snapshot has its result, a reset vCPU does not get it. */
static void test_state_finishes_access(void)
{
	static const uint8_t code[] = {
		0xec,             /* in al, dx */
		0xbb, 0x00, 0xf0, /* mov bx, 0xf000 */
		0x8e, 0xdb,       /* mov ds, bx */
		0xa1, 0x04, 0x00, /* mov ax, [0xf0004] */
		0xee,             /* out dx, al */
	};
	g_autofree struct x86_vcpu_state *state = g_new0(struct x86_vcpu_state, 1);
	struct machine m;
	struct hv_exit exit = { 0 };
	struct err err = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	enter_real_mode(m.vcpu);
	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
	*(uint8_t *)exit.data = 0x77;
	g_assert_cmpint(m.vcpu->ops->state_get(m.vcpu, state, &err), ==, 0);
	g_assert_cmphex(state->rip, ==, CODE_GPA + 1);
	g_assert_cmphex(state->rax, ==, 0x77);
	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_INTERRUPTED);

	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_MMIO);
	memcpy(exit.data, "\x34\x12", 2);
	/* The machine is reset here: ax and rip are those of the reset, not of the access. */
	state->parts = X86_STATE_REGS;
	state->rip = CODE_GPA + sizeof(code) - 1;
	state->rax = 0xa5;
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, state, &err), ==, 0);
	do {
		g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	} while (exit.kind == HV_EXIT_INTERRUPTED);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_PIO);
	g_assert_true(exit.write);
	g_assert_cmphex(*(uint8_t *)exit.data, ==, 0xa5);
	machine_stop(&m);
}

/* 32-bit protected mode with an empty IDT, so that the first fault is the third one. */
static void test_triple_fault(void)
{
	static const uint8_t code[] = { 0x0f, 0x0b }; /* ud2 */
	g_autofree struct x86_vcpu_state *state = g_new0(struct x86_vcpu_state, 1);
	struct machine m;
	struct hv_exit exit = { 0 };
	struct err err = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	g_assert_cmpint(m.vcpu->ops->state_get(m.vcpu, state, &err), ==, 0);
	state->parts = X86_STATE_REGS;
	state->cs = (struct x86_segment){ .limit = 0xffffffff,
					  .selector = 8,
					  .type = 11,
					  .present = 1,
					  .db = 1,
					  .s = 1,
					  .g = 1 };
	state->ds = (struct x86_segment){ .limit = 0xffffffff,
					  .selector = 16,
					  .type = 3,
					  .present = 1,
					  .db = 1,
					  .s = 1,
					  .g = 1 };
	state->es = state->fs = state->gs = state->ss = state->ds;
	state->idt = (struct x86_dtable){ 0 };
	state->cr0 |= 1;
	state->rip = CODE_GPA;
	state->rflags = 2;
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, state, &err), ==, 0);
	g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_SHUTDOWN);
	machine_stop(&m);
}

static void test_kick_before_run(void)
{
	static const uint8_t code[] = { 0xeb, 0xfe }; /* jmp $ */
	struct machine m;
	struct hv_exit exit = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	enter_real_mode(m.vcpu);
	for (int i = 0; i < 100; i++) {
		m.vcpu->ops->kick(m.vcpu);
		g_assert_cmpint(m.vcpu->ops->run(m.vcpu, &exit), ==, 0);
		g_assert_cmpint(exit.kind, ==, HV_EXIT_INTERRUPTED);
	}
	machine_stop(&m);
}

#define KICKS 1000

struct runner {
	struct hv_vcpu *vcpu;
	int wanted; /* requests; atomic */
	int seen;   /* what the vCPU has reacted to; atomic */
	int seen_fd;
};

/* The protocol of vmm/vm/vcpu.c in small: a request, a kick, and nothing gets stuck. */
static void runner_run(void *data)
{
	struct runner *r = data;
	struct hv_exit exit = { 0 };

	for (;;) {
		int wanted = __atomic_load_n(&r->wanted, __ATOMIC_ACQUIRE);

		if (wanted != __atomic_load_n(&r->seen, __ATOMIC_RELAXED)) {
			__atomic_store_n(&r->seen, wanted, __ATOMIC_RELEASE);
			eventfd_signal(r->seen_fd);
		}
		if (wanted == KICKS)
			return;
		g_assert_cmpint(r->vcpu->ops->run(r->vcpu, &exit), ==, 0);
		g_assert_cmpint(exit.kind, ==, HV_EXIT_INTERRUPTED);
	}
}

static void kick_often(const uint8_t *code, size_t len)
{
	struct machine m;
	struct runner runner = { 0 };
	struct thread thread = {
		.name = "vcpu0", .role = THREAD_ROLE_VCPU, .run = runner_run, .data = &runner
	};
	struct err err = { 0 };

	if (!machine_start(&m, 0, code, len))
		return;
	enter_real_mode(m.vcpu);
	runner.vcpu = m.vcpu;
	runner.seen_fd = eventfd(0, EFD_CLOEXEC);
	g_assert_cmpint(thread_start(&thread, &err), ==, 0);
	for (int i = 1; i <= KICKS; i++) {
		uint64_t count;

		/* Different distances to the moment it enters the guest. */
		for (volatile int spin = 0; spin < i % 97 * 10; spin++)
			;
		__atomic_store_n(&runner.wanted, i, __ATOMIC_RELEASE);
		m.vcpu->ops->kick(m.vcpu);
		do
			g_assert_cmpint(read(runner.seen_fd, &count, sizeof(count)), ==,
					sizeof(count));
		while (__atomic_load_n(&runner.seen, __ATOMIC_ACQUIRE) != i);
	}
	thread_join(&thread);
	/* The thread is gone: a late kick is harmless, and not lost. */
	m.vcpu->ops->kick(m.vcpu);
	close(runner.seen_fd);
	machine_stop(&m);
}

static void test_kick_running(void)
{
	static const uint8_t code[] = { 0xeb, 0xfe }; /* jmp $ */

	kick_often(code, sizeof(code));
}

static void test_kick_halted(void)
{
	static const uint8_t code[] = { 0xfa, 0xf4, 0xeb, 0xfd }; /* cli; hlt; jmp to hlt */

	kick_often(code, sizeof(code));
}

static void test_state_round_trip(void)
{
	static const uint8_t code[] = { 0xf4 };
	g_autofree struct x86_vcpu_state *a = g_new0(struct x86_vcpu_state, 1);
	g_autofree struct x86_vcpu_state *b = g_new0(struct x86_vcpu_state, 1);
	struct machine m;
	struct err err = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	g_assert_cmpint(m.vcpu->ops->cpuid_set(m.vcpu, m.vm->cpuid, m.vm->n_cpuid, &err), ==, 0);
	enter_real_mode(m.vcpu);
	g_assert_cmpint(m.vcpu->ops->state_get(m.vcpu, a, &err), ==, 0);
	g_assert_cmpuint(a->rip, ==, CODE_GPA);
	g_assert_cmpuint(a->rax, ==, 0x42);
	g_assert_cmpuint(a->xsave_size, >=, 4096);
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, a, &err), ==, 0);
	g_assert_cmpint(m.vcpu->ops->state_get(m.vcpu, b, &err), ==, 0);
	g_assert_cmpuint(b->rip, ==, CODE_GPA);
	g_assert_cmpuint(b->n_msrs, ==, a->n_msrs);
	g_assert_cmpuint(b->xcr0, ==, a->xcr0);
	g_assert_cmpuint(b->mp_state, ==, X86_MP_RUNNABLE);
	g_assert_cmpmem(b->lapic, sizeof(b->lapic), a->lapic, sizeof(a->lapic));

	a->parts = X86_STATE_MSRS;
	a->n_msrs = 1;
	a->msrs[0] = (struct x86_msr){ .index = 0x3fffffff, .value = 1 };
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, a, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"vCPU 0: KVM on this host refuses value 0x1 of MSR 0x3fffffff");
	err_clear(&err);
	a->n_msrs = X86_STATE_MSRS_MAX + 1;
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, a, &err), ==, -EBADMSG);
	err_clear(&err);
	a->parts = X86_STATE_MP;
	a->mp_state = 77;
	g_assert_cmpint(m.vcpu->ops->state_set(m.vcpu, a, &err), ==, -EINVAL);
	g_assert_nonnull(strstr(err.msg, "vCPU 0: KVM refused its run state"));
	machine_stop(&m);
}

static void test_second_vcpu_waits(void)
{
	static const uint8_t code[] = { 0xf4 };
	g_autofree struct x86_vcpu_state *state = g_new0(struct x86_vcpu_state, 1);
	struct hv_vcpu *ap = NULL;
	struct hv_exit exit = { 0 };
	struct machine m;
	struct err err = { 0 };

	if (!machine_start(&m, 0, code, sizeof(code)))
		return;
	g_assert_cmpint(m.vm->ops->vcpu_create(m.vm, 1, 1, &ap, &err), ==, 0);
	g_assert_cmpint(ap->ops->state_get(ap, state, &err), ==, 0);
	g_assert_cmpuint(state->mp_state, ==, X86_MP_WAIT_SIPI);
	ap->ops->kick(ap);
	g_assert_cmpint(ap->ops->run(ap, &exit), ==, 0);
	g_assert_cmpint(exit.kind, ==, HV_EXIT_INTERRUPTED);
	hv_vcpu_free(ap);
	machine_stop(&m);
}

static void test_irqs(void)
{
	static const uint8_t code[] = { 0xf4 };
	_cleanup_close_ int fd = eventfd_new();
	struct hv_route routes[] = { { 24, { 0xfee00000, 0x41 } }, { 25, { 0xfee00ff8, 0x42 } } };
	struct hv_msi msi = { 0xfee00000, 0x43 };
	struct hv_ioeventfd io = { .addr = 0xd0006000, .len = 4, .match = true, .value = 7 };
	uint64_t ns = 0;
	struct machine m;

	if (!machine_start(&m, 300, code, sizeof(code)))
		return;
	g_assert_cmpint(m.vm->ops->routes_set(m.vm, routes, 2), ==, 0);
	g_assert_cmpint(m.vm->ops->irqfd_set(m.vm, fd, 24, true), ==, 0);
	g_assert_cmpint(m.vm->ops->irqfd_set(m.vm, fd, 24, true), ==, -EBUSY);
	g_assert_cmpint(m.vm->ops->irqfd_set(m.vm, fd, 24, false), ==, 0);
	g_assert_cmpint(m.vm->ops->routes_set(m.vm, routes, 0), ==, 0);
	g_assert_cmpint(m.vm->ops->routes_set(m.vm, routes, KVM_ROUTES_MAX + 1), ==, -ENOSPC);
	/* The APIC is off after reset: the message may be refused, but not break anything. */
	m.vm->ops->msi_send(m.vm, &msi);
	g_assert_cmpint(m.vm->ops->ioeventfd_set(m.vm, &io, fd, true), ==, 0);
	g_assert_cmpint(m.vm->ops->ioeventfd_set(m.vm, &io, fd, true), ==, -EEXIST);
	g_assert_cmpint(m.vm->ops->ioeventfd_set(m.vm, &io, fd, false), ==, 0);
	g_assert_cmpint(m.vm->ops->clock_set(m.vm, 1000000000000), ==, 0);
	g_assert_cmpint(m.vm->ops->clock_get(m.vm, &ns), ==, 0);
	g_assert_cmpuint(ns, >=, 1000000000000);
	m.vcpu->ops->was_paused(m.vcpu);
	g_assert_cmpint(m.vcpu->ops->nmi(m.vcpu), ==, 0);
	machine_stop(&m);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hypervisor/kvm/probe", test_probe);
	g_test_add_func("/hypervisor/kvm/create/not-kvm", test_not_kvm);
	g_test_add_func("/hypervisor/kvm/create/apic-id-too-high", test_apic_id_too_high);
	g_test_add_func("/hypervisor/kvm/run/exits", test_run_exits);
	g_test_add_func("/hypervisor/kvm/run/triple-fault", test_triple_fault);
	g_test_add_func("/hypervisor/kvm/kick/before-run", test_kick_before_run);
	g_test_add_func("/hypervisor/kvm/kick/running", test_kick_running);
	g_test_add_func("/hypervisor/kvm/kick/halted", test_kick_halted);
	g_test_add_func("/hypervisor/kvm/state/round-trip", test_state_round_trip);
	g_test_add_func("/hypervisor/kvm/state/finishes-access", test_state_finishes_access);
	g_test_add_func("/hypervisor/kvm/state/second-vcpu-waits", test_second_vcpu_waits);
	g_test_add_func("/hypervisor/kvm/irqs", test_irqs);
	return g_test_run();
}
