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
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config_device;
struct err;
struct pci_device;
struct virtio_device;
struct virtio_pci;
struct vm;

struct vm_device {
	const struct vm_device_kind *kind;
	size_t index;     /* in the configuration's list */
	char id[64];      /* as the configuration has it */
	const char *type; /* "blk": for Query and D-Bus */
	struct pci_device *pci;
	struct virtio_pci *vp; /* NULL: not a virtio device */
	void (*free)(struct vm_device *dev);
	void *data; /* the kind's */
};

struct vm_device_kind {
	const char *key; /* of the configuration: "disks" */
	/*
	 * Makes the device for element `device->index` and plugs it in by
	 * vm_plug_virtio() or vm_plug_pci().
	 */
	int (*create)(struct vm *vm, const struct config_device *device, struct err *err);
};

extern const struct vm_device_kind vm_disk_kind;
extern const struct vm_device_kind vm_net_kind;
extern const struct vm_device_kind vm_rng_kind;
extern const struct vm_device_kind vm_console_kind;

int vm_devices_create(struct vm *vm, struct err *err);
void vm_devices_free(struct vm *vm);
/* NULL: there is none. */
struct vm_device *vm_device_find(struct vm *vm, const char *id);

/* For the kinds. */

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
