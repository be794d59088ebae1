/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU hotplug controller: processors that come and go (ACPI 6.5, 8.4, 5.6.6, 6.3)
 *
 * The machine says that a processor is there (insert), or asks for one back (ask); the
 * guest is called by the GED, goes through the processors, and notifies its drivers.  It
 * gives one back by _EJ0, and says what it thinks of either by _OST.
 *
 * Registers, 32 bits each, little-endian, at windows.platform_start +
 * LAYOUT_PLATFORM_CPU_HOTPLUG; other accesses read 0 and write nothing:
 *
 *   0x00  CSEL  RW  index of the chosen processor
 *   0x04  CPFL  RW  reading: bit 0 it is there, bit 1 it has come, bit 2 it is to go;
 *                   writing: bit 1 and 2 are cleared, bit 3 gives the processor back
 *   0x08  CEVT  WO  _OST: source event
 *   0x0c  CSTS  WO  _OST: status code; writing it reports both for the chosen one
 *
 * insert, ask and forget: any thread.  hotplug->lock is a device lock: it is taken
 * before the GED's, and not held while an op runs.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/config/vm-config.h"

struct ged;

#define CPU_HOTPLUG_SIZE 0x10

enum cpu_hotplug_flag {
	CPU_HOTPLUG_PRESENT = 1 << 0,
	CPU_HOTPLUG_INSERTED = 1 << 1,
	CPU_HOTPLUG_ASKED = 1 << 2,
	CPU_HOTPLUG_EJECT = 1 << 3,
};

struct cpu_hotplug_state {
	uint8_t flags[VM_VCPUS_MAX];
	uint32_t selected, ost_event;
};

extern const struct state_desc cpu_hotplug_state_desc;

/* vCPU thread, no lock held. */
struct cpu_hotplug_ops {
	/* The guest gives a processor back, whether it was asked to or not. */
	void (*ejected)(void *data, uint32_t cpu);
	/* What it answered; event and status as the specification has them. */
	void (*status)(void *data, uint32_t cpu, uint32_t event, uint32_t status);
};

struct cpu_hotplug {
	struct bus_device mmio;
	struct ged *ged;
	uint32_t n; /* processors there can be */
	const struct cpu_hotplug_ops *ops;
	void *data;
	pthread_mutex_t lock;
	struct cpu_hotplug_state st; /* under lock */
};

/* Control thread; ged, ops and data are borrowed. */
void cpu_hotplug_init(struct cpu_hotplug *hotplug, struct ged *ged, uint32_t n,
		      const struct cpu_hotplug_ops *ops, void *data);
void cpu_hotplug_deinit(struct cpu_hotplug *hotplug);
/* Nothing is on its way any more; which are there stays. */
void cpu_hotplug_reset(struct cpu_hotplug *hotplug);

/* Without a word to the guest: before it runs, and when one has gone. */
void cpu_hotplug_set(struct cpu_hotplug *hotplug, uint32_t cpu, bool present);
/* It is there, and the guest is told. */
void cpu_hotplug_insert(struct cpu_hotplug *hotplug, uint32_t cpu);
/* The guest is asked to give it back; again, when it was asked before. */
void cpu_hotplug_ask(struct cpu_hotplug *hotplug, uint32_t cpu);
/* What the guest has not read yet of that is not true any more. */
void cpu_hotplug_forget(struct cpu_hotplug *hotplug, uint32_t cpu);
