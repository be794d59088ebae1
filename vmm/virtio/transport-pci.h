/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio over PCI (virtio 1.3, 4.1), modern only
 *
 * Holds one virtio device and shows it as a PCI function: BAR 0 carries the
 * common, ISR, device and notify structures, the MSI-X table and its pending
 * bits; doorbells are ioeventfds, interrupts irqfds.
 *
 * Register accesses come from vCPUs under dev->lock.  What changes the device
 * (activation on DRIVER_OK, reset on a zero status) is handed to the control
 * thread, and the vCPU waits for it without a lock.
 */
#pragma once

#include <stdatomic.h>

#include "vmm/bus/bus.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/device.h"

struct err;
struct hv_vm;
struct mailbox;

#define VIRTIO_PCI_BAR_SIZE          0x80000U  /* 512 KiB */
#define VIRTIO_PCI_BAR_ALIGN         0x800000U /* 8 MiB: what Windows' driver assumes */
#define VIRTIO_PCI_COMMON            0x0U
#define VIRTIO_PCI_ISR_STATUS        0x2000U /* not VIRTIO_PCI_ISR: linux/virtio_pci.h has that */
#define VIRTIO_PCI_DEVICE            0x4000U
#define VIRTIO_PCI_NOTIFY            0x6000U
#define VIRTIO_PCI_NOTIFY_MULTIPLIER 4U
#define VIRTIO_PCI_MSIX              0x8000U
#define VIRTIO_PCI_PBA               0x48000U

/* Saved state of the transport's registers. */
struct virtio_pci_state {
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features;
	uint16_t queue_select, config_vector;
	uint8_t status, pad[3];
};
extern const struct state_desc virtio_pci_state_desc;

struct virtio_pci {
	struct pci_device pci;
	struct bus_device region; /* BAR 0 */
	struct msix msix;
	struct virtio_device *dev; /* owned */
	struct hv_vm *hv;
	struct mailbox *mailbox;
	struct virtio_pci_state st; /* dev->lock */
	_Atomic uint8_t isr;        /* 4.1.4.5: bit 0 queue, bit 1 configuration */
	uint8_t cfg_cap;            /* offset of the VIRTIO_PCI_CAP_PCI_CFG capability */
	void (*activated)(struct virtio_pci *vp, bool active, void *data); /* control; optional */
	void *activated_data;
};

/* Control thread. Takes dev over, also when it fails (then dev is freed). */
int virtio_pci_new(struct virtio_device *dev, struct hv_vm *hv, struct irq_table *irqs,
		   struct mailbox *mailbox, struct virtio_pci **ret, struct err *err);
/*
 * Control thread, vCPUs parked.  The device is freed, with all that it has of the host; what is
 * left for its driver is a husk (husk.h), until this function is removed from its segment.
 */
int virtio_pci_make_husk(struct virtio_pci *vp, struct err *err);
/* Removed from its segment before, or never added. */
void virtio_pci_free(struct virtio_pci *vp);
