/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's devices
 *
 * What the configuration lists (vmm/config/device-list.h) becomes a device by
 * its kind: one struct vm_device_kind a configuration key, in one file of
 * devices/ each, all of them in the table of devices.c.  A kind turns
 * configuration and descriptors into the device's own parameters and plugs in
 * what it made; of what can be asked of a device while it runs it has what its
 * device can do.
 *
 * Asked while it runs.  A client's call goes through the daemon to a method of
 * protocol.h, which finds the device and the op of its kind below; the answer is
 * the op's.  An op is the control thread's, with the device active or not, its
 * threads running or parked (pause); it does not wait for the guest.
 *
 * Told by it.  What changes while a device runs and is no counter is a value of it:
 * kind->values() lists them all, at any time, by the names in protocol.h.  Who
 * changes one, on whatever thread, calls virtio_device_values_changed(), or on the
 * control thread vm_device_values_changed(); the daemon gets the list soon after,
 * several changes in one.
 *
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/list.h"
#include "vmm/base/mailbox.h"

struct config_device;
struct err;
struct pci_device;
struct virtio_device;
struct virtio_pci;
struct vm;

/* hotplug.h */
enum vm_removal {
	VM_REMOVAL_NONE,
	VM_REMOVAL_ASKED,
	VM_REMOVAL_FORGOTTEN, /* nobody waits for it, but the guest was asked */
};

struct vm_device {
	struct vm *vm;
	struct list link; /* a husk: of vm->husks */
	const struct vm_device_kind *kind;
	size_t index;     /* in the configuration's list */
	bool iommu;       /* behind the virtio-iommu */
	char id[64];      /* as the configuration has it */
	const char *type; /* "blk": for Query and D-Bus */
	struct pci_device *pci;
	struct virtio_pci *vp; /* NULL: not a virtio device */
	void (*free)(struct vm_device *dev);
	void *data; /* the kind's */
	struct message values_changed;
	bool to_be_told; /* vmm/api's: the daemon has not got the last values */
	bool hotplugged; /* came while the machine ran */
	enum vm_removal removal;
};

enum vm_value_type {
	VM_VALUE_BOOL,
	VM_VALUE_U64,
	VM_VALUE_STRING,
};

struct vm_device_value {
	const char *name; /* static */
	enum vm_value_type type;
	union {
		bool b;
		uint64_t u;
		const char *s; /* valid until control returns to its loop */
	};
};

#define VM_DEVICE_VALUES_MAX 32

struct vm_device_kind {
	const char *key; /* of the configuration: "disks" */
	/*
	 * Makes the device for element `device->index` and plugs it in by
	 * vm_plug_virtio() or vm_plug_pci().
	 */
	int (*create)(struct vm *vm, const struct config_device *device, struct err *err);

	/* All that follow are optional: without one the caller is told that the device cannot. */

	/* The cable; the kind's value "link_up" is the same. */
	int (*set_link)(struct vm_device *dev, bool up, struct err *err);
	/* Bytes that the guest is to give up; "actual" and "target" are values. */
	int (*set_balloon)(struct vm_device *dev, uint64_t bytes, struct err *err);
	/*
	 * A client of the host's end that did not come through the listening socket, but is one
	 * like those: fd, taken over also when this fails, is a stream socket from which
	 * "CONNECT <port>\n" can be read; "OK <number>\n" is written to it when the guest has
	 * accepted, and it is closed if not.
	 */
	int (*connect_vsock)(struct vm_device *dev, int fd, struct err *err);
	/* Bytes of the disk; "size" is a value. */
	int (*resize_disk)(struct vm_device *dev, uint64_t bytes, struct err *err);
	/* Another image: that of the resource `pointer`, of a type of `disks` ("Qcow2") or "". */
	int (*replace_disk)(struct vm_device *dev, const char *pointer, const char *type,
			    struct err *err);
	/* Characters; the guest is told. */
	int (*set_console_size)(struct vm_device *dev, uint16_t columns, uint16_t rows,
				struct err *err);
	/* Returns how many. */
	size_t (*values)(struct vm_device *dev,
			 struct vm_device_value ret[static VM_DEVICE_VALUES_MAX]);
};

extern const struct vm_device_kind vm_disk_kind;
extern const struct vm_device_kind vm_iommu_kind;
extern const struct vm_device_kind vm_net_kind;
extern const struct vm_device_kind vm_fs_kind;
extern const struct vm_device_kind vm_pmem_kind;
extern const struct vm_device_kind vm_mem_kind;
extern const struct vm_device_kind vm_rng_kind;
extern const struct vm_device_kind vm_balloon_kind;
extern const struct vm_device_kind vm_rtc_kind;
extern const struct vm_device_kind vm_vsock_kind;
extern const struct vm_device_kind vm_pvpanic_kind;
extern const struct vm_device_kind vm_console_kind;

/* Before the PCI windows are shared out: takes the addresses that `pmem` needs. */
int vm_pmem_reserve(struct vm *vm, struct err *err);
/* The same for virtio-mem: makes memory.regions. */
int vm_mem_reserve(struct vm *vm, struct err *err);
int vm_devices_create(struct vm *vm, struct err *err);
/* One of config_devices(), into a slot; the last of vm->devices then. */
int vm_device_create(struct vm *vm, const struct config_device *device, struct err *err);
void vm_devices_free(struct vm *vm);
/* NULL: there is none. */
struct vm_device *vm_device_find(struct vm *vm, const char *id);

/*
 * What clients ask, for vmm/api: finds the device, refuses what its kind has no op
 * for (FAULT_NO_SUCH_DEVICE, FAULT_UNSUPPORTED), and runs the op.
 */
int vm_set_link(struct vm *vm, const char *id, bool up, struct err *err);
int vm_resize_disk(struct vm *vm, const char *id, uint64_t bytes, struct err *err);
/* Drops the resource, and those below its name, when it fails. */
int vm_replace_disk(struct vm *vm, const char *id, const char *pointer, const char *type,
		    struct err *err);
/* The only balloon, the only vsock. */
int vm_set_balloon(struct vm *vm, uint64_t bytes, struct err *err);
/* *ret_fd: the client's end; what the guest decides is yet to be read from it. */
int vm_connect_vsock(struct vm *vm, uint32_t port, int *ret_fd, struct err *err);
/* What became of a connection that listener.vsock_wanted told of: a socket, or -errno. Takes fd. */
int vm_answer_vsock(struct vm *vm, uint32_t cookie, int fd, struct err *err);
/* name as of vm_open_console() */
int vm_set_console_size(struct vm *vm, const char *name, uint16_t columns, uint16_t rows,
			struct err *err);
/* Values changed on the control thread. */
void vm_device_values_changed(struct vm_device *dev);

/* For the kinds. */

/* Behind all others: a device for each of memory.regions. */
int vm_mem_create(struct vm *vm, struct err *err);

/* The IOMMU: before all devices; for one that is in its slot; as at power-on. */
int vm_iommu_init(struct vm *vm, struct err *err);
int vm_iommu_add(struct vm *vm, struct vm_device *dev, struct err *err);
void vm_iommu_remove(struct vm *vm, struct vm_device *dev);
void vm_iommu_reset(struct vm *vm);

/* Takes virtio over, also when it fails. */
int vm_plug_virtio(struct vm *vm, const struct vm_device_kind *kind,
		   const struct config_device *device, struct virtio_device *virtio,
		   struct err *err);
/*
 * A device that is not virtio; free frees it, `data` included, once it is out of its
 * slot.  The caller keeps it when this fails.
 */
int vm_plug_pci(struct vm *vm, const struct vm_device_kind *kind,
		const struct config_device *device, const char *type, struct pci_device *pci,
		void *data, void (*free)(struct vm_device *dev), struct err *err);
