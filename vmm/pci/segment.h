/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI segment: one bus, 32 slots, its window of ECAM (PCI Express 5.0, 7.2.2)
 * and its BAR windows.  Segment 0 has a host bridge in slot 0 and the 0xcf8
 * ports (PCI Local Bus 3.0, 3.2.2.3.2) as well.
 *
 * Set up by the control thread; slots are read by vCPUs without a lock, as an
 * atomic pointer each.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "vmm/bus/bus.h"
#include "vmm/pci/pci.h"

struct mailbox;

#define PCI_SLOTS      32
#define PCI_ECAM_BYTES (1ULL << 20) /* one bus: 32 slots x 8 functions x 4 KiB */

struct pci_window {
	uint64_t start, size; /* guest-physical */
};

struct pci_segment {
	uint16_t number;
	struct bus *mmio, *pio;
	struct mailbox *mailbox;
	struct pci_window mmio32, mmio64;
	_Atomic(struct pci_device *) slots[PCI_SLOTS];
	struct bus_device ecam, ports;
	pthread_mutex_t lock; /* of cf8; leaf */
	uint32_t cf8;
	struct pci_device bridge; /* segment 0 */
};

/* Control thread. ecam_gpa: of this segment's own 1 MiB. */
int pci_segment_init(struct pci_segment *seg, uint16_t number, struct bus *mmio, struct bus *pio,
		     struct mailbox *mailbox, uint64_t ecam_gpa, struct pci_window mmio32,
		     struct pci_window mmio64, struct err *err);
void pci_segment_deinit(struct pci_segment *seg);

/*
 * Puts a device into slot (or, -1, the lowest free one), gives its BARs
 * addresses and maps them.  -EBUSY: slot taken; -ENOSPC: no slot or window left.
 */
int pci_segment_add(struct pci_segment *seg, struct pci_device *pci, int slot, struct err *err);
/* vCPUs parked: they may be inside the device otherwise. */
void pci_segment_remove(struct pci_segment *seg, struct pci_device *pci);
void pci_segment_reset(struct pci_segment *seg);
/* "0000:00:05.0" */
void pci_format_bdf(const struct pci_device *pci, char ret[static 16]);
