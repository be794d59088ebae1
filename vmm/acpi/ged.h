/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generic event device (ACPI 6.5, 5.6.9): how the machine calls the guest
 *
 * One byte of MMIO with a bit per kind of event, cleared by reading, and an
 * edge on its interrupt line whenever bits are added.  The guest's _EVT method
 * reads the byte and runs the handler of each bit (dsdt-ged in ged.c).
 *
 * ged_raise() may be called by any thread.  ged->lock is a device lock: it is
 * taken before the interrupt controller's.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"

struct err;
struct irq_line;

enum ged_event {
	GED_CPU = 1 << 0,
	GED_MEMORY = 1 << 1,
	GED_PCI = 1 << 2,
	GED_POWER_BUTTON = 1 << 3,
	GED_GENERATION = 1 << 4, /* vmgenid.h */
};

#define GED_MMIO_SIZE 1

struct ged_state {
	uint8_t pending; /* enum ged_event */
};

extern const struct state_desc ged_state_desc;

struct ged {
	struct bus_device mmio;
	struct irq_line *line;
	pthread_mutex_t lock;
	struct ged_state st; /* under lock */
};

/* Control thread; line is borrowed. mmio goes to windows.platform_start + LAYOUT_PLATFORM_GED. */
void ged_init(struct ged *ged, struct irq_line *line);
void ged_deinit(struct ged *ged);
void ged_reset(struct ged *ged);
/*
 * The edge of what is pending may not have been seen, by a guest whose driver was not there
 * yet or after st was loaded: there is another.  True: the guest has not looked so far.
 */
bool ged_remind(struct ged *ged);

/* Any thread. */
void ged_raise(struct ged *ged, enum ged_event event);
