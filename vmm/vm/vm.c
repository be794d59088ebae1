/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/api/protocol.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/hypervisor/hypervisor.h"
#include "vmm/hypervisor/x86-state.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/boot.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/hotplug.h"
#include "vmm/vm/limits.h"
#include "vmm/vm/resize.h"
#include "vmm/vm/topology.h"

static const char *const state_names[VM_STATE_N_] = {
	[VM_STATE_CREATED] = WORKER_STATE_IDLE,  [VM_STATE_RUNNING] = WORKER_STATE_RUNNING,
	[VM_STATE_PAUSED] = WORKER_STATE_PAUSED, [VM_STATE_SHUTDOWN] = WORKER_STATE_SHUTDOWN,
	[VM_STATE_FAILED] = WORKER_STATE_FAILED,
};

#define TO(state) (1U << VM_STATE_##state)
static const unsigned int vm_next[VM_STATE_N_] = {
	[VM_STATE_CREATED] = TO(RUNNING) | TO(PAUSED) | TO(FAILED),
	[VM_STATE_RUNNING] = TO(RUNNING) | TO(PAUSED) | TO(SHUTDOWN) | TO(FAILED),
	[VM_STATE_PAUSED] = TO(RUNNING) | TO(SHUTDOWN) | TO(FAILED),
	[VM_STATE_SHUTDOWN] = 0,
	[VM_STATE_FAILED] = 0,
};
#undef TO

const char *vm_state_to_string(enum vm_state state)
{
	return state < VM_STATE_N_ ? state_names[state] : NULL;
}

static void vm_set_state(struct vm *vm, enum vm_state state, const char *reason)
{
	enum vm_state old = vm->state;

	assert(vm_next[old] & (1U << state));
	vm->state = state;
	log_info("machine: %s -> %s (%s)", state_names[old], state_names[state], reason);
	vm->listener.state_changed(old, state, reason, vm->listener.data);
}

static int wrong_state(const struct vm *vm, const char *what, struct err *err)
{
	return err_fault(err, FAULT_WRONG_STATE, EPROTO, "cannot %s: the machine is %s", what,
			 state_names[vm->state]);
}

bool vm_is_alive(const struct vm *vm)
{
	return vm->state == VM_STATE_RUNNING || vm->state == VM_STATE_PAUSED;
}

/* --- what vCPUs ask for --- */

enum vm_request {
	VM_REQUEST_RESET,
	VM_REQUEST_SHUTDOWN,
	VM_REQUEST_TRIPLE_FAULT,
	VM_REQUEST_FAILURE,
	VM_REQUEST_EJECT,
};

/* vCPU thread. The vCPU does not run on until the control thread has answered. */
static void vm_ask(struct vm *vm, enum vm_request request)
{
	/* release: failure[] is written before; pairs with the acquire in serve_requests */
	atomic_fetch_or_explicit(&vm->requests, 1U << request, memory_order_release);
	vcpu_stand();
	mailbox_post(&vm->mailbox, &vm->request_message);
}

static void on_machine_request(void *data, enum machine_request request)
{
	struct vm *vm = data;

	switch (request) {
	case MACHINE_REQUEST_RESET:
		vm_ask(vm, VM_REQUEST_RESET);
		break;
	case MACHINE_REQUEST_SHUTDOWN:
		vm_ask(vm, VM_REQUEST_SHUTDOWN);
		break;
	}
}

void vm_request_ejects(struct vm *vm)
{
	vm_ask(vm, VM_REQUEST_EJECT);
}

/* vCPU thread */
static void on_debug_code(void *data)
{
	struct vm *vm = data;

	mailbox_post(&vm->mailbox, &vm->debug_message);
}

static void serve_debug_codes(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, debug_message);
	uint64_t usec;
	uint8_t code;

	while (debug_port_take(&vm->platform.debug_port, &code, &usec))
		vm->listener.debug_code(code, usec, vm->listener.data);
}

/* Shared or control thread */
static void on_watchdog(void *data)
{
	struct vm *vm = data;

	mailbox_post(&vm->mailbox, &vm->watchdog_message);
}

static void on_vcpu_exit(struct vcpu *vcpu _unused_, const struct hv_exit *exit, void *data)
{
	struct vm *vm = data;

	switch (exit->kind) {
	case HV_EXIT_IOAPIC_EOI:
		ioapic_eoi(&vm->platform.ioapic, exit->vector);
		break;
	case HV_EXIT_SHUTDOWN:
		vm_ask(vm, VM_REQUEST_TRIPLE_FAULT);
		break;
	case HV_EXIT_FAILED:
		if (!atomic_flag_test_and_set(&vm->failing))
			memcpy(vm->failure, exit->text, sizeof(vm->failure));
		vm_ask(vm, VM_REQUEST_FAILURE);
		break;
	case HV_EXIT_INTERRUPTED:
	case HV_EXIT_PIO:
	case HV_EXIT_MMIO:
	case HV_EXIT_N_:
		break;
	}
}

/* Requests that vCPUs make while they are being parked are kept for serve_kept_requests(). */
static void park_vcpus(struct vm *vm)
{
	vm->parking = true;
	vcpu_set_park(&vm->vcpus);
	vm->parking = false;
}

static void quiesce(struct vm *vm)
{
	park_vcpus(vm);
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->vp)
			virtio_device_pause(vm->devices[i]->vp->dev);
	loop_park(&vm->shared_loop);
	platform_pause(&vm->platform);
}

static void unquiesce(struct vm *vm)
{
	platform_resume(&vm->platform);
	loop_unpark(&vm->shared_loop);
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->vp)
			virtio_device_resume(vm->devices[i]->vp->dev);
	vcpu_set_release(&vm->vcpus);
}

static void vm_fail(struct vm *vm, const char *text)
{
	log_error("machine: %s", text);
	park_vcpus(vm);
	vm_set_state(vm, VM_STATE_FAILED, WORKER_REASON_INTERNAL_ERROR);
}

void vm_stop(struct vm *vm, const char *reason)
{
	if (!vm_is_alive(vm))
		return;
	if (vm->state == VM_STATE_RUNNING)
		quiesce(vm);
	vm_set_state(vm, VM_STATE_SHUTDOWN, reason);
}

/* Everything back to power-on, the payload loaded anew, and off again. */
static int restart(struct vm *vm, const char *reason, struct err *err)
{
	int r;

	park_vcpus(vm);
	/* A request made before the reset belongs to the machine that is gone. */
	atomic_store_explicit(&vm->requests, 0, memory_order_relaxed);
	vm->reboot_wanted = false;
	/*
	 * Device threads may stand (paused) or run: a reset takes their queues away in either case.
	 */
	for (size_t i = vm->n_segments; i-- > 0;)
		pci_segment_reset(&vm->segments[i]);
	vm_iommu_reset(vm);
	/* Nobody uses them any more. */
	vm_finish_removals(vm);
	vm_reset_cpus(vm);
	vm_reset_memory(vm);
	platform_reset(&vm->platform);
	r = guest_mem_clear(&vm->mem, vm->listener.getting_on, vm->listener.data, err);
	if (r >= 0)
		r = vm_load(vm, err);
	if (r < 0) {
		vm_set_state(vm, VM_STATE_FAILED, WORKER_REASON_INTERNAL_ERROR);
		return err_prefix(err, r, "cannot reset the machine");
	}
	vm->boots++;
	/* Also when vm_resume() got here with the state already changed. */
	loop_unpark(&vm->shared_loop);
	platform_resume(&vm->platform);
	vm_set_state(vm, VM_STATE_RUNNING, reason);
	vcpu_set_release(&vm->vcpus);
	return 0;
}

static void restart_or_log(struct vm *vm, const char *reason)
{
	struct err err = { 0 };

	if (restart(vm, reason, &err) < 0)
		log_error("%s", err.msg);
}

/*
 * True when the vCPUs run on only if that is the answer to what was asked.  An ejected
 * device leaves first, with the vCPUs parked.
 */
static bool serve_kept_requests(struct vm *vm)
{
	/* acquire: pairs with vm_ask */
	uint32_t asked = atomic_exchange_explicit(&vm->requests, 0, memory_order_acquire);

	if (asked & (1U << VM_REQUEST_EJECT)) {
		vm_serve_ejects(vm);
		vm_serve_cpu_ejects(vm);
	}
	asked &= ~(1U << VM_REQUEST_EJECT);
	if (asked & (1U << VM_REQUEST_FAILURE))
		vm_fail(vm, vm->failure);
	else if ((asked & (1U << VM_REQUEST_SHUTDOWN)) && !vm->reboot_wanted)
		vm_stop(vm, WORKER_REASON_GUEST_SHUTDOWN);
	else if (asked & (1U << VM_REQUEST_TRIPLE_FAULT))
		vm_stop(vm, WORKER_REASON_TRIPLE_FAULT);
	else if (asked)
		restart_or_log(vm, WORKER_REASON_GUEST_REBOOT);
	return asked;
}

static void pause_as(struct vm *vm, const char *reason)
{
	quiesce(vm);
	vm_set_state(vm, VM_STATE_PAUSED, reason);
}

static void serve_watchdog(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, watchdog_message);

	/* Of a machine that stands: it is asked again when the machine goes on. */
	if (vm->parking || vm->state != VM_STATE_RUNNING || !watchdog_take(&vm->platform.watchdog))
		return;
	vm->listener.event("watchdog", "expired", NULL, vm->listener.data);
	switch (vm->config->watchdog_action) {
	case WATCHDOG_ACTION_RESET:
		restart_or_log(vm, WORKER_REASON_GUEST_WATCHDOG);
		break;
	case WATCHDOG_ACTION_POWEROFF:
		vm_stop(vm, WORKER_REASON_GUEST_WATCHDOG);
		break;
	case WATCHDOG_ACTION_PAUSE:
		pause_as(vm, WORKER_REASON_GUEST_WATCHDOG);
		break;
	case WATCHDOG_ACTION_REPORT:
	case WATCHDOG_ACTION_N_:
		break;
	}
}

static void serve_requests(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, request_message);

	if (vm->parking || vm->state != VM_STATE_RUNNING)
		return;
	/* relaxed: who asked for an ejection stands until it is served, now or by another mail */
	if (!(atomic_load_explicit(&vm->requests, memory_order_relaxed) & 1U << VM_REQUEST_EJECT)) {
		serve_kept_requests(vm);
		return;
	}
	vm_park(vm);
	vm_unpark(vm);
}

void vm_park(struct vm *vm)
{
	park_vcpus(vm);
}

void vm_unpark(struct vm *vm)
{
	if (vm->state == VM_STATE_RUNNING && !serve_kept_requests(vm))
		vcpu_set_release(&vm->vcpus);
}

void vm_dispatch(struct vm *vm)
{
	mailbox_drain(&vm->mailbox);
}

/* --- construction --- */

static int build(struct vm *vm, struct err *err)
{
	struct platform_params platform = {
		.pio = &vm->pio,
		.mmio = &vm->mmio,
		.irqs = &vm->irqs,
		.loop = &vm->shared_loop,
		.config = vm->config,
		.resources = &vm->resources,
		.windows = &vm->windows,
		.request = on_machine_request,
		.debug_code = on_debug_code,
		.watchdog = on_watchdog,
		.pci_hotplug = &vm_pci_hotplug_ops,
		.cpu_hotplug = &vm_cpu_hotplug_ops,
		.memory_hotplug = &vm_memory_hotplug_ops,
		.mem = &vm->mem,
		.data = vm,
	};
	struct hv_vm_params params = {
		.ioapic_pins = LAYOUT_IOAPIC_PINS,
		.max_apic_id = x86_max_apic_id(&vm->config->cpus),
	};
	struct vcpu_start start;
	int r;

	r = resources_get(&vm->resources, PROTOCOL_RESOURCE_KVM, err);
	if (r < 0)
		return r;
	r = hypervisor_kvm.vm_create(r, &params, &vm->hv, err);
	if (r < 0)
		return r;
	vm_memory_init(vm);
	r = vm_create_memory(vm, err);
	if (r < 0)
		return r;
	r = loop_init(&vm->shared_loop, "io-shared", sandbox_enter, err);
	if (r < 0)
		return r;
	r = irq_table_init(&vm->irqs, vm->hv, LAYOUT_IOAPIC_PINS, err);
	if (r < 0)
		return r;
	r = platform_init(&vm->platform, &platform, err);
	if (r < 0)
		return r;
	r = vm_create_segments(vm, err);
	if (r < 0)
		return r;
	r = vm_devices_create(vm, err);
	if (r < 0)
		return r;
	r = vm_cpus_init(vm, err);
	if (r < 0)
		return r;
	vm->vcpus.on_exit = on_vcpu_exit;
	vm->vcpus.data = vm;
	/* Threads come up while the payload is loaded: settle_threads() waits for them. */
	r = loop_spawn(&vm->shared_loop, err);
	if (r < 0)
		return r;
	start = vm_vcpu_start(vm);
	return vcpu_set_start(&vm->vcpus, &start, err);
}

static int settle_threads(struct vm *vm, struct err *err)
{
	int r = loop_settle(&vm->shared_loop, err);

	return r < 0 ? r : vcpu_set_settle(&vm->vcpus, err);
}

int vm_new(struct vm_config *config, struct resources *resources,
	   const struct vm_listener *listener, struct vm **ret, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	assert_on_control();
	if (!vm) {
		vm_config_free(config);
		resources_deinit(resources);
		return err_set(err, ENOMEM, "out of memory for the machine");
	}
	vm->config = config;
	vm->resources = *resources;
	*resources = (struct resources){ 0 };
	vm->listener = *listener;
	list_init(&vm->limits);
	list_init(&vm->husks);
	vm->request_message.fn = serve_requests;
	vm->debug_message.fn = serve_debug_codes;
	vm->watchdog_message.fn = serve_watchdog;
	vm->refused_message.fn = vm_serve_refusals;
	vm->failing = (atomic_flag)ATOMIC_FLAG_INIT;
	bus_init(&vm->pio, 0x10000);
	bus_init(&vm->mmio, 0);
	r = mailbox_init(&vm->mailbox, err);
	if (r >= 0)
		r = build(vm, err);
	if (r < 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	loop_settle(&vm->shared_loop, NULL); /* or nobody might answer its calls */
	/* A vCPU that waits in the mailbox must come out of it before it can end. */
	mailbox_close(&vm->mailbox);
	vcpu_set_deinit(&vm->vcpus);
	vm_cpus_deinit(vm);
	loop_unpark(&vm->shared_loop);
	vm_devices_free(vm);
	vm_limits_deinit(vm);
	vm_free_segments(vm);
	platform_deinit(&vm->platform);
	loop_stop(&vm->shared_loop);
	irq_table_deinit(&vm->irqs);
	guest_mem_deinit(&vm->mem);
	hv_vm_free(vm->hv);
	bus_deinit(&vm->pio);
	bus_deinit(&vm->mmio);
	mailbox_deinit(&vm->mailbox);
	resources_deinit(&vm->resources);
	vm_config_free(vm->config);
	free(vm);
}

/* --- what the daemon asks for --- */

int vm_boot(struct vm *vm, bool paused, struct err *err)
{
	int r;

	assert_on_control();
	if (vm->state != VM_STATE_CREATED)
		return wrong_state(vm, "boot", err);
	r = vm_load(vm, err);
	if (r >= 0)
		r = settle_threads(vm, err);
	if (r < 0)
		return r;
	vm->boots = 1;
	if (paused) {
		loop_park(&vm->shared_loop);
		vm_set_state(vm, VM_STATE_PAUSED, WORKER_REASON_REQUEST);
		return 0;
	}
	platform_resume(&vm->platform);
	vm_set_state(vm, VM_STATE_RUNNING, WORKER_REASON_REQUEST);
	vcpu_set_release(&vm->vcpus);
	return 0;
}

int vm_pause(struct vm *vm, struct err *err)
{
	assert_on_control();
	if (vm->state == VM_STATE_PAUSED)
		return 0;
	if (vm->state != VM_STATE_RUNNING)
		return wrong_state(vm, "pause", err);
	pause_as(vm, WORKER_REASON_REQUEST);
	return 0;
}

int vm_resume(struct vm *vm, struct err *err)
{
	assert_on_control();
	if (vm->state == VM_STATE_RUNNING)
		return 0;
	if (vm->state != VM_STATE_PAUSED)
		return wrong_state(vm, "resume", err);
	for (uint32_t i = 0; i < vm->vcpus.n; i++)
		if (vm->vcpus.vcpus[i].present)
			vm->vcpus.vcpus[i].hv->ops->was_paused(vm->vcpus.vcpus[i].hv);
	vm_set_state(vm, VM_STATE_RUNNING, WORKER_REASON_REQUEST);
	/* What the guest asked for as it was being paused comes first: it may be its end. */
	if (!serve_kept_requests(vm))
		unquiesce(vm);
	return 0;
}

int vm_reset(struct vm *vm, struct err *err)
{
	assert_on_control();
	if (!vm_is_alive(vm))
		return wrong_state(vm, "reset", err);
	return restart(vm, WORKER_REASON_RESET, err);
}

int vm_power_button(struct vm *vm, struct err *err)
{
	assert_on_control();
	if (vm->state != VM_STATE_RUNNING)
		return wrong_state(vm, "press the power button", err);
	vm->reboot_wanted = false; /* the last wish counts; vm_reboot() sets it again */
	platform_power_button(&vm->platform);
	return 0;
}

int vm_reboot(struct vm *vm, struct err *err)
{
	int r = vm_power_button(vm, err);

	if (r >= 0)
		vm->reboot_wanted = true;
	return r;
}

int vm_inject_nmi(struct vm *vm, struct err *err)
{
	int r = 0;

	assert_on_control();
	if (!vm_is_alive(vm))
		return wrong_state(vm, "inject an NMI", err);
	/* KVM takes the vCPU's own lock for this, which KVM_RUN holds: out of the guest first. */
	park_vcpus(vm);
	for (uint32_t i = 0; r >= 0 && i < vm->vcpus.n; i++) {
		if (!vm->vcpus.vcpus[i].present)
			continue;
		r = vm->vcpus.vcpus[i].hv->ops->nmi(vm->vcpus.vcpus[i].hv);
		if (r < 0)
			err_errno(err, -r, "cannot inject an NMI into vCPU %u", i);
	}
	vm_unpark(vm);
	return r;
}

int vm_open_console(struct vm *vm, const char *name, bool force, bool readonly, int *ret_fd,
		    struct err *err)
{
	assert_on_control();
	return platform_open_console(&vm->platform, name, force, readonly, ret_fd, err);
}
