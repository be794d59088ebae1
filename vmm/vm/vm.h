/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual machine: what it is made of and the states it goes through
 *
 *   CREATED -> RUNNING <-> PAUSED, and from each -> SHUTDOWN or FAILED
 *
 * A reboot stays in RUNNING: devices are reset, RAM is emptied, the payload is
 * loaded again, and only the boot count tells.  Everything here runs on the
 * control thread; vCPUs reach it through the mailbox.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/loop.h"
#include "vmm/base/mailbox.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/pci/segment.h"
#include "vmm/vm/platform.h"
#include "vmm/vm/resources.h"
#include "vmm/vm/vcpu.h"

struct err;
struct iova_unit;
struct vm_cpu;
struct vm_device;

enum vm_state {
	VM_STATE_CREATED,
	VM_STATE_RUNNING,
	VM_STATE_PAUSED,
	VM_STATE_SHUTDOWN,
	VM_STATE_FAILED,
	VM_STATE_N_,
};

/* The words of vmm/api/protocol.h. */
const char *vm_state_to_string(enum vm_state state);

/* Why the state changed: the words of protocol.h, WORKER_REASON_*. */
struct vm_listener {
	void (*state_changed)(enum vm_state from, enum vm_state to, const char *reason, void *data);
	/* A code the guest wrote to port 0x80; usec since the worker started. */
	void (*debug_code)(uint8_t code, uint64_t usec, void *data);
	/* A virtio driver took its device (active) or let it go. */
	void (*device_changed)(const char *id, bool active, void *data);
	/* Something happened at a device; id NULL: at none of the configuration's. */
	void (*event)(const char *source, const char *name, const char *id, void *data);
	/* Values of a device (devices.h) are not what they were. Optional. */
	void (*values_changed)(struct vm_device *dev, void *data);
	/* A device has left the machine. */
	void (*device_removed)(const char *id, void *data);
	/* vm_get_sizes() has another answer. Optional. */
	void (*sizes_changed)(void *data);
	/* The guest says that it keeps what it was asked for; what: "vcpus", "memory", or a zone.
	 */
	void (*resize_refused)(const char *what, void *data);
	/* The guest says that it does not let go of it; it may still do so later. */
	void (*removal_refused)(const char *id, void *data);
	/*
	 * The guest's vsock connects to a port of the host: vm_answer_vsock() with the same
	 * cookie, or false: it is refused. Optional.
	 */
	bool (*vsock_wanted)(uint32_t cookie, uint32_t port, bool seqpacket, void *data);
	/* In work that can take longer than a watchdog waits: it is getting on. Optional. */
	void (*getting_on)(void *data);
	void *data;
};

/* Of one slot. */
struct vm_dimm {
	uint64_t gpa, size;
	bool accepted; /* the guest has taken it */
};

/* What virtio-mem gives out of, for all of the memory or a zone of it. */
struct vm_mem_region {
	struct vm *vm;
	size_t zone; /* of memory.zones; 0 */
	uint64_t gpa, size, block;
	char id[64]; /* of the device */
	struct pci_placement pci;
	struct virtio_device *dev;
};

struct vm_memory {
	uint64_t first; /* bytes that the machine was made with */
	uint64_t grown; /* more, which the guest found at its latest start */
	struct vm_dimm dimms[MEMORY_HOTPLUG_SLOTS]; /* what has come since */
	uint32_t n_dimms;
	struct vm_mem_region *regions; /* of virtio-mem, by zone */
	size_t n_regions;
	struct message message;
	_Atomic uint32_t accepted, refused; /* slots; what the guest has answered */
};

struct vm {
	struct vm_config *config;
	struct resources resources;
	struct vm_listener listener;
	enum vm_state state;
	uint32_t boots;
	bool reboot_wanted; /* the next guest shutdown is a reboot */

	struct hv_vm *hv;
	struct guest_mem mem;
	struct bus pio, mmio;
	struct mailbox mailbox;
	struct irq_table irqs;
	struct x86_windows windows;
	uint64_t pmem_gpa, pmem_end; /* what of vm_pmem_reserve() no device has had yet */
	struct loop shared_loop;     /* the I/O thread of all low-rate devices */
	struct platform platform;
	struct pci_segment *segments; /* platform.num_pci_segments of them */
	size_t n_segments;
	struct vm_device **devices;
	size_t n_devices;
	struct list husks; /* hotplug.c: of devices that are gone, for a guest that uses them */
	struct iova_unit *iommu; /* what devices behind it translate by; NULL: none */
	struct list limits;      /* limits.c */
	struct vcpu_set vcpus;
	struct vm_cpu *cpus; /* cpus.c: of each of vcpus */
	uint32_t vcpus_target;
	struct message cpu_message;
	struct vm_memory memory; /* memory.c */

	/* What vCPUs ask of the control thread; bits of 1 << enum vm_request. */
	struct message request_message, debug_message, watchdog_message;
	struct message vsock_wishes; /* devices/vsock.c */
	/* hotplug.c: slots of each segment that the guest has ejected, or does not let go of */
	struct message refused_message;
	_Atomic uint32_t ejected[VM_PCI_SEGMENTS_MAX], refused[VM_PCI_SEGMENTS_MAX];
	_Atomic uint32_t requests;
	bool parking;      /* control is waiting for vCPUs: requests are kept */
	char failure[160]; /* written once by the vCPU that fails first */
	atomic_flag failing;
};

/*
 * Builds the machine; takes config and resources over, also when it fails
 * (*resources is emptied).  The mailbox fd of the result must be watched and
 * vm_dispatch() called.
 */
int vm_new(struct vm_config *config, struct resources *resources,
	   const struct vm_listener *listener, struct vm **ret, struct err *err);
void vm_free(struct vm *vm);
DEFINE_CLEANUP(struct vm, vm_free);

/* It has a guest: running or paused. */
bool vm_is_alive(const struct vm *vm);
/* For hotplug.c.  vCPU thread: vm_serve_ejects() is called before it runs on. */
void vm_request_ejects(struct vm *vm);
/* Control thread: the vCPUs stand, until vm_unpark() lets them run if the machine does. */
void vm_park(struct vm *vm);
void vm_unpark(struct vm *vm);

/* Runs what vCPUs asked for. */
void vm_dispatch(struct vm *vm);

/* CREATED only: loads the payload and lets the vCPUs run, or stand if paused. */
int vm_boot(struct vm *vm, bool paused, struct err *err);
/* Each: 0, or FAULT_WRONG_STATE. Pausing what is paused (and the like) is 0. */
int vm_pause(struct vm *vm, struct err *err);
int vm_resume(struct vm *vm, struct err *err);
int vm_reset(struct vm *vm, struct err *err);
int vm_power_button(struct vm *vm, struct err *err);
/* Like the power button, but the machine starts again when the guest is down. */
int vm_reboot(struct vm *vm, struct err *err);
int vm_inject_nmi(struct vm *vm, struct err *err);
/* RUNNING or PAUSED -> SHUTDOWN, at once. */
void vm_stop(struct vm *vm, const char *reason);
/* name "" = the first one. The client's end of a socket pair. */
int vm_open_console(struct vm *vm, const char *name, bool force, bool readonly, int *ret_fd,
		    struct err *err);
