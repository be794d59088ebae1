/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's vCPUs: made, added and taken away (resize.h)
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/acpi/cpu-hotplug.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/hypervisor/x86-state.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/vm/resize.h"
#include "vmm/vm/vm.h"

/* What the guest did with one; set by vCPU threads, taken by the control thread. */
enum cpu_event {
	CPU_EVENT_EJECTED = 1 << 0,
	CPU_EVENT_REFUSED = 1 << 1,
	CPU_EVENT_STARTED = 1 << 2,
};

enum cpu_state {
	CPU_ABSENT,
	CPU_OFFERED, /* there, and the guest has not started it */
	CPU_RUNNING,
	CPU_ASKED, /* the guest is to give it back */
};

struct vm_cpu {
	_Atomic uint8_t events;
	enum cpu_state state;
	bool started;   /* it counts */
	bool was_asked; /* since the guest started: it may give it back late */
};

/* --- vCPU threads ------------------------------------------------------------- */

static void note(struct vm *vm, uint32_t cpu, enum cpu_event event)
{
	/* release: seen with the message or request that follows */
	atomic_fetch_or_explicit(&vm->cpus[cpu].events, event, memory_order_release);
}

static void on_ejected(void *data, uint32_t cpu)
{
	note(data, cpu, CPU_EVENT_EJECTED);
	vm_request_ejects(data);
}

static void on_status(void *data, uint32_t cpu, uint32_t event, uint32_t status)
{
	struct vm *vm = data;

	if (event != ACPI_OST_EJECT_REQUEST || !acpi_ost_is_refusal(status))
		return;
	note(vm, cpu, CPU_EVENT_REFUSED);
	mailbox_post(&vm->mailbox, &vm->cpu_message);
}

const struct cpu_hotplug_ops vm_cpu_hotplug_ops = { on_ejected, on_status };

static void on_started(struct vcpu *vcpu, void *data)
{
	struct vm *vm = data;

	note(vm, vcpu->index, CPU_EVENT_STARTED);
	mailbox_post(&vm->mailbox, &vm->cpu_message);
}

/* --- the control thread --------------------------------------------------------- */

static uint32_t count(const struct vm *vm, unsigned int states)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < vm->vcpus.n; i++)
		n += (states >> vm->cpus[i].state) & 1;
	return n;
}
#define IN(state) (1U << (state))

static void changed(struct vm *vm)
{
	/* What the next start of the guest finds. */
	vm->config->cpus.boot_vcpus = vm->vcpus_target;
	if (vm->listener.sizes_changed)
		vm->listener.sizes_changed(vm->listener.data);
}

void vm_get_sizes(const struct vm *vm, struct vm_sizes *ret)
{
	uint32_t n = 0;

	/* One that the guest is to give back may be one that it has never started. */
	for (uint32_t i = 0; i < vm->vcpus.n; i++)
		n += vm->cpus[i].started;
	*ret = (struct vm_sizes){
		.vcpus = n,
		.vcpus_target = vm->vcpus_target,
		.memory = vm_memory_actual(vm),
		.memory_target = vm_memory_target(vm),
	};
}

struct vcpu_start vm_vcpu_start(const struct vm *vm)
{
	return (struct vcpu_start){
		.enter = sandbox_enter,
		.affinity = vm->config->cpus.affinity,
		.n_affinity = vm->config->cpus.n_affinity,
	};
}

static int create(struct vm *vm, uint32_t i, struct err *err)
{
	const struct cpus_config *cpus = &vm->config->cpus;
	_cleanup_free_ struct x86_cpuid_entry *cpuid = NULL;
	struct hv_vcpu *hv = NULL;
	size_t n = 0;
	int r;

	r = vm->hv->ops->vcpu_create(vm->hv, i, x86_apic_id(cpus, i), &hv, err);
	if (r >= 0) {
		vm->vcpus.vcpus[i].hv = hv;
		r = x86_cpuid_make(vm->hv, cpus, i, &cpuid, &n, err);
	}
	if (r >= 0)
		r = hv->ops->cpuid_set(hv, cpuid, n, err);
	return r < 0 ? err_prefix(err, r, "vCPU %u", i) : 0;
}

static void set_state(struct vm *vm, uint32_t i, enum cpu_state state)
{
	vm->cpus[i].state = state;
	if (state == CPU_RUNNING || state == CPU_ABSENT)
		vm->cpus[i].started = state == CPU_RUNNING;
}

static void serve_events(struct message *message);

int vm_cpus_init(struct vm *vm, struct err *err)
{
	const struct cpus_config *cpus = &vm->config->cpus;
	int r;

	if (cpus->max_vcpus > vm->hv->caps.max_vcpus)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/cpus/max_vcpus: %u is more than this host can run, at most %u",
				 cpus->max_vcpus, vm->hv->caps.max_vcpus);
	vm->cpus = calloc(cpus->max_vcpus, sizeof(*vm->cpus));
	if (!vm->cpus)
		return err_set(err, ENOMEM, "out of memory for %u vCPUs", cpus->max_vcpus);
	r = vcpu_set_init(&vm->vcpus, cpus->max_vcpus, &vm->pio, &vm->mmio, &vm->mailbox, err);
	if (r < 0)
		return r;
	vm->cpu_message.fn = serve_events;
	vm->vcpus.on_started = on_started;
	vm->vcpus_target = cpus->boot_vcpus;
	for (uint32_t i = 0; r >= 0 && i < cpus->boot_vcpus; i++) {
		r = create(vm, i, err);
		vm->vcpus.vcpus[i].present = true;
		set_state(vm, i, CPU_RUNNING);
		cpu_hotplug_set(&vm->platform.cpu_hotplug, i, true);
	}
	return r;
}

void vm_cpus_deinit(struct vm *vm)
{
	free(vm->cpus);
	vm->cpus = NULL;
}

/* A processor that waits for another one to start it. */
static int power_on(struct vm *vm, uint32_t i, struct err *err)
{
	const struct cpus_config *cpus = &vm->config->cpus;
	const struct x86_boot_entry nowhere = { 0 };
	_cleanup_free_ struct x86_vcpu_state *st = calloc(1, sizeof(*st));
	struct hv_vcpu *hv = vm->vcpus.vcpus[i].hv;

	if (!st)
		return err_set(err, ENOMEM, "out of memory for a vCPU's registers");
	x86_boot_state(st, &nowhere, false, x86_apic_id(cpus, i), x86_max_apic_id(cpus) > 254);
	hv->ops->forget(hv);
	return hv->ops->state_set(hv, st, err);
}

static int plug(struct vm *vm, uint32_t i, struct err *err)
{
	const struct vcpu_start start = vm_vcpu_start(vm);
	int r = 0;

	if (!vm->vcpus.vcpus[i].hv)
		r = create(vm, i, err);
	if (r >= 0)
		r = power_on(vm, i, err);
	if (r >= 0)
		r = vcpu_set_add(&vm->vcpus, i, &start, err);
	if (r < 0)
		return r;
	set_state(vm, i, CPU_OFFERED);
	log_info("vCPU %u is plugged in", i);
	cpu_hotplug_insert(&vm->platform.cpu_hotplug, i);
	return 0;
}

/* vCPUs parked */
static void take_out(struct vm *vm, uint32_t i)
{
	log_info("vCPU %u is taken out", i);
	vcpu_set_remove(&vm->vcpus, i);
	set_state(vm, i, CPU_ABSENT);
	vm->cpus[i].was_asked = false;
	cpu_hotplug_set(&vm->platform.cpu_hotplug, i, false);
}

/* Those that were asked for are wanted after all; then as many more as are missing. */
static int grow(struct vm *vm, uint32_t n, struct err *err)
{
	const unsigned int kept = IN(CPU_OFFERED) | IN(CPU_RUNNING);
	int r = 0;

	for (uint32_t i = 0; i < vm->vcpus.n && count(vm, kept) < n; i++) {
		if (vm->cpus[i].state != CPU_ASKED)
			continue;
		cpu_hotplug_forget(&vm->platform.cpu_hotplug, i);
		set_state(vm, i, vm->cpus[i].started ? CPU_RUNNING : CPU_OFFERED);
	}
	for (uint32_t i = 0; r >= 0 && i < vm->vcpus.n && count(vm, kept) < n; i++)
		if (vm->cpus[i].state == CPU_ABSENT)
			r = plug(vm, i, err);
	return r;
}

static void shrink(struct vm *vm, uint32_t n)
{
	const unsigned int kept = IN(CPU_OFFERED) | IN(CPU_RUNNING);

	for (uint32_t i = vm->vcpus.n; i-- > 1;) {
		struct vm_cpu *cpu = &vm->cpus[i];

		if (cpu->state == CPU_ASKED || (IN(cpu->state) & kept && count(vm, kept) > n)) {
			set_state(vm, i, CPU_ASKED);
			cpu->was_asked = true;
			cpu_hotplug_ask(&vm->platform.cpu_hotplug, i);
		}
	}
}

int vm_set_vcpus(struct vm *vm, uint32_t n, struct err *err)
{
	int r = 0;

	assert_on_control();
	if (!vm_is_alive(vm))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "cannot change the vCPUs: the machine is %s",
				 vm_state_to_string(vm->state));
	if (n < 1 || n > vm->vcpus.n)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "the machine cannot have %u vCPUs, must be 1 to %u "
				 "(/cpus/max_vcpus)",
				 n, vm->vcpus.n);
	vm->vcpus_target = n;
	r = grow(vm, n, err);
	if (r >= 0)
		shrink(vm, n);
	else /* those that have come stay */
		vm->vcpus_target = count(vm, IN(CPU_OFFERED) | IN(CPU_RUNNING));
	changed(vm);
	return r;
}

void vm_serve_cpu_ejects(struct vm *vm)
{
	bool any = false;

	for (uint32_t i = 0; i < vm->vcpus.n; i++) {
		struct vm_cpu *cpu = &vm->cpus[i];
		/* acquire: pairs with note() */
		uint8_t events =
			atomic_fetch_and_explicit(&cpu->events, (uint8_t)~CPU_EVENT_EJECTED,
						  memory_order_acquire);

		if (!(events & CPU_EVENT_EJECTED) || cpu->state == CPU_ABSENT)
			continue;
		if (i == 0 || !cpu->was_asked) {
			log_guest("the guest gives back vCPU %u, which it was not asked for", i);
			continue;
		}
		take_out(vm, i);
		any = true;
	}
	if (any)
		changed(vm);
}

static void serve_events(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, cpu_message);
	bool any = false, refused = false;

	for (uint32_t i = 0; i < vm->vcpus.n; i++) {
		struct vm_cpu *cpu = &vm->cpus[i];
		uint8_t events = atomic_fetch_and_explicit(&cpu->events, CPU_EVENT_EJECTED,
							   memory_order_acquire);

		if (events & CPU_EVENT_STARTED && cpu->state != CPU_ABSENT && !cpu->started) {
			if (cpu->state == CPU_OFFERED)
				set_state(vm, i, CPU_RUNNING);
			cpu->started = any = true;
		}
		refused |= events & CPU_EVENT_REFUSED && cpu->state == CPU_ASKED;
	}
	if (any)
		changed(vm);
	if (refused)
		vm->listener.resize_refused("vcpus", vm->listener.data);
}

void vm_reset_cpus(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->vcpus.n; i++) {
		struct vm_cpu *cpu = &vm->cpus[i];

		atomic_store_explicit(&cpu->events, 0, memory_order_relaxed);
		if (cpu->state == CPU_ASKED)
			take_out(vm, i);
		else if (cpu->state == CPU_OFFERED)
			set_state(vm, i, CPU_RUNNING);
		cpu->was_asked = false;
		vm->vcpus.vcpus[i].waiting = false;
	}
	changed(vm);
}
