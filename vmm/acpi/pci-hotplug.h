/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI hotplug controller: how the guest hears of slots, and answers
 *
 * The machine fills a slot and says so (insert), or asks for one to be emptied
 * (ask); the guest is called by the GED, reads which slots those are and notifies
 * its own drivers (ACPI 6.5, 5.6.6: device check, eject request).  When it has let
 * go of a device it writes the slot to the eject register, from _EJ0 (6.3.3).  What
 * it thinks of either request it says with _OST (6.3.5).
 *
 * Registers, 32 bits each, little-endian, at windows.platform_start +
 * LAYOUT_PLATFORM_PCI_HOTPLUG; other accesses read 0 and write nothing:
 *
 *   0x00  PCIU  RO  bit n: slot n of the chosen segment was filled; reading clears
 *   0x04  PCID  RO  bit n: slot n is to be emptied; reading clears
 *   0x08  B0EJ  WO  bit n: the guest has let go of slot n; reads 0
 *   0x0c  PSEG  RW  the chosen segment
 *   0x10  PSLT  WO  _OST: slot
 *   0x14  PEVT  WO  _OST: source event
 *   0x18  PSTA  WO  _OST: status code; writing it reports the three
 *
 * insert, ask and forget: any thread.  hotplug->lock is not held while the GED is raised
 * or an op runs.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/config/vm-config.h"

struct aml;
struct ged;

#define PCI_HOTPLUG_SIZE  0x1c
#define PCI_HOTPLUG_SLOTS 32 /* of a segment */
/* Segments whose slots can be filled and emptied: tables of more do not fit below 1 MiB. */
#define PCI_HOTPLUG_SEGMENTS 64U

/* ACPI 6.5, table 6.71 */
#define ACPI_OST_EJECT_REQUEST 0x03
/*
 * Status codes, table 6.72 and 6.74: 0 is done, from 0x84 on it is getting on, between
 * them it cannot or does not want to.
 */
static inline bool acpi_ost_is_refusal(uint32_t status)
{
	return status > 0x00 && status < 0x84;
}

struct pci_hotplug_state {
	uint32_t inserted[VM_PCI_SEGMENTS_MAX]; /* not yet read by the guest */
	uint32_t to_empty[VM_PCI_SEGMENTS_MAX];
	uint32_t segment; /* chosen */
	uint32_t ost_slot, ost_event;
};

extern const struct state_desc pci_hotplug_state_desc;

/* vCPU thread, no lock held. */
struct pci_hotplug_ops {
	/* The guest has let go of a slot, whether it was asked to or not; of a slot of any segment.
	 */
	void (*ejected)(void *data, uint16_t segment, uint8_t slot);
	/* What it answered; event and status as the specification has them. */
	void (*status)(void *data, uint16_t segment, uint8_t slot, uint32_t event, uint32_t status);
};

struct pci_hotplug {
	struct bus_device mmio;
	struct ged *ged;
	uint32_t n_segments;
	const struct pci_hotplug_ops *ops;
	void *data;
	pthread_mutex_t lock;
	struct pci_hotplug_state st; /* under lock */
};

/* Control thread; ged, ops and data are borrowed. */
void pci_hotplug_init(struct pci_hotplug *hotplug, struct ged *ged, uint32_t n_segments,
		      const struct pci_hotplug_ops *ops, void *data);
void pci_hotplug_deinit(struct pci_hotplug *hotplug);
void pci_hotplug_reset(struct pci_hotplug *hotplug);

/* The guest is told to look at the slot: it was filled, or emptied without asking. */
void pci_hotplug_insert(struct pci_hotplug *hotplug, uint16_t segment, uint8_t slot);
/* The guest is asked to let go of the slot; again, when it was asked before. */
void pci_hotplug_ask(struct pci_hotplug *hotplug, uint16_t segment, uint8_t slot);
/* What the guest has not read yet of this slot is not true any more. */
void pci_hotplug_forget(struct pci_hotplug *hotplug, uint16_t segment, uint8_t slot);

/*
 * The slots of a host bridge and their events, in its device of the DSDT, which is open;
 * with_ost: they have _OST.
 */
void acpi_emit_pci_slots(struct aml *a, uint32_t segment, bool with_ost);
