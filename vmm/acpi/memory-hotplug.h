/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory hotplug controller: pieces of RAM that come (ACPI 6.5, 9.11, 5.6.6, 6.3)
 *
 * A piece is a DIMM in a slot.  The machine says that one is there (insert); the guest is
 * called by the GED, goes through the slots, and notifies its driver, which reads where
 * the memory is and says by _OST what it made of it.  None can be taken out.
 *
 * Registers, 32 bits each, little-endian, at windows.platform_start +
 * LAYOUT_PLATFORM_MEMORY_HOTPLUG; other accesses read 0 and write nothing.  They are of
 * the chosen slot:
 *
 *         reading                                  writing
 *   0x00  MHBA  address, low half                  MSEL  index of the chosen slot
 *   0x04        address, high half                 MEVT  _OST: source event
 *   0x08  MHLN  bytes, low half                    MSTS  _OST: status code; reports both
 *   0x0c        bytes, high half
 *   0x10  MHPX  node
 *   0x14  MHFL  bit 0 it is there, bit 1 it has    bit 1 is cleared
 *               come
 *
 * insert: any thread.  hotplug->lock is a device lock: it is taken before the GED's, and
 * not held while an op runs.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"

struct ged;

#define MEMORY_HOTPLUG_SIZE  0x18
#define MEMORY_HOTPLUG_SLOTS 8
/* Linux brings memory in by blocks of this size; CPUs hold none that is smaller. */
#define MEMORY_HOTPLUG_UNIT (128ULL << 20)

enum memory_hotplug_flag {
	MEMORY_HOTPLUG_PRESENT = 1 << 0,
	MEMORY_HOTPLUG_INSERTED = 1 << 1,
};

struct memory_hotplug_state {
	uint64_t gpa[MEMORY_HOTPLUG_SLOTS], size[MEMORY_HOTPLUG_SLOTS]; /* 0: empty */
	uint32_t node[MEMORY_HOTPLUG_SLOTS];
	uint8_t flags[MEMORY_HOTPLUG_SLOTS];
	uint32_t selected, ost_event;
};

extern const struct state_desc memory_hotplug_state_desc;

/* vCPU thread, no lock held. */
struct memory_hotplug_ops {
	/* What the guest answered; event and status as the specification has them. */
	void (*status)(void *data, uint32_t slot, uint32_t event, uint32_t status);
};

struct memory_hotplug {
	struct bus_device mmio;
	struct ged *ged;
	const struct memory_hotplug_ops *ops;
	void *data;
	pthread_mutex_t lock;
	struct memory_hotplug_state st; /* under lock */
};

/* Control thread; ged, ops and data are borrowed. */
void memory_hotplug_init(struct memory_hotplug *hotplug, struct ged *ged,
			 const struct memory_hotplug_ops *ops, void *data);
void memory_hotplug_deinit(struct memory_hotplug *hotplug);
/* All slots are empty: what was in them is part of the RAM that the next guest finds. */
void memory_hotplug_reset(struct memory_hotplug *hotplug);

/* It is in the slot, and the guest is told; again, when it was told before. */
void memory_hotplug_insert(struct memory_hotplug *hotplug, uint32_t slot, uint64_t gpa,
			   uint64_t size, uint32_t node);
