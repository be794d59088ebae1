/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All PCI devices that a configuration asks for, as one list
 *
 * The kinds are one table (device-list.c), in the order in which they are
 * plugged in.  A kind is a list of the definition ("disks") or a single object
 * ("rng"), and its struct has a `struct pci_placement pci`.
 *
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vmm/config/value.h"
#include "vmm/config/vm-config.h"

struct config_device {
	const char *key; /* of the kind: "disks" */
	bool single;     /* its pointer is "/rng", not "/disks/0" */
	size_t index;    /* in its list; 0 */
	const char *id;  /* NULL before config_devices_choose_ids() */
	struct pci_placement *pci;
};

/* What one machine can have: all lists full. */
#define CONFIG_DEVICES_MAX 256

/* Returns how many there are. */
size_t config_devices(const struct vm_config *config,
		      struct config_device ret[static CONFIG_DEVICES_MAX]);

/* The one at this place of its list; false: there is none. */
bool config_device_at(const struct vm_config *config, const char *key, size_t index,
		      struct config_device *ret);

/* Is this the key of a kind of device: "disks", "vsock"? */
bool config_is_device_key(const char *key);

/* Can it be added and removed while the machine runs? */
bool config_device_is_removable(const char *key);

/* Can it be behind an IOMMU?  Not what a vhost-user process or the kernel's vhost serves. */
bool config_device_knows_iommu(const struct vm_config *config, const char *key, size_t index);

/* Devices of lists without an id get one: Cloud Hypervisor's scheme, "_disk0", "_net1". */
void config_devices_choose_ids(struct vm_config *config);

/* "/disks/0" */
const char *config_device_pointer(const struct config_device *device,
				  char buf[static CONFIG_POINTER_MAX]);
