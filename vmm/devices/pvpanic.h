/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic (QEMU docs/specs/pvpanic): by which a guest says that it has panicked
 *
 * One byte in BAR 0 of a PCI function 1b36:0011: read, the events that the
 * device understands; written, those that happened.  What was written is kept
 * until the control thread takes it, so a guest that writes without end costs one
 * message at a time.
 *
 * No state is saved: what was taken was told, what was not is told at once.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus/bus.h"
#include "vmm/pci/pci.h"

enum pvpanic_event {
	PVPANIC_PANICKED = 1 << 0,     /* and nobody in the guest will do anything about it */
	PVPANIC_CRASH_LOADED = 1 << 1, /* a crash kernel is going to */
};

struct pvpanic {
	struct pci_device pci;
	struct bus_device region;
	void (*notify)(void *data);
	void *data;
	_Atomic uint8_t events;
};

/* Control thread. notify: a vCPU thread has something for pvpanic_take(). */
void pvpanic_init(struct pvpanic *pvpanic, const char *id, void (*notify)(void *data), void *data);
/* Out of its slot. */
void pvpanic_deinit(struct pvpanic *pvpanic);
/* Control thread: events since the last call, bits of enum pvpanic_event. */
uint8_t pvpanic_take(struct pvpanic *pvpanic);
