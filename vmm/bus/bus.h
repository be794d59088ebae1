/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dispatch of port and MMIO accesses to devices
 *
 * One struct bus for ports, one for MMIO.  A device puts one struct bus_device
 * per range in; accesses that hit nothing read all ones and are dropped on
 * write.  Offsets handed to a device are relative to its range, and an access
 * never crosses the end of it.
 *
 * bus->lock protects the map only and is not held while a device runs: the
 * device locks itself.  bus_remove() does not wait for accesses under way, so a bus_device may be
 * freed only after every vCPU passed a parking point.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct bus_device;

struct bus_ops {
	const char *name;
	/* vCPU threads, no lock held. len 1, 2, 4 or 8; fill or consume all of data. */
	void (*read)(struct bus_device *dev, uint64_t off, void *data, uint32_t len);
	void (*write)(struct bus_device *dev, uint64_t off, const void *data, uint32_t len);
};

struct bus_device {
	const struct bus_ops *ops;
	uint64_t base, len; /* set by bus_add */
};

struct bus {
	pthread_rwlock_t lock;
	struct bus_device **devices; /* by ascending base */
	size_t n_devices, capacity;
	uint64_t limit; /* exclusive end of the address space; 0 = 2^64 */
};

void bus_init(struct bus *bus, uint64_t limit);
void bus_deinit(struct bus *bus);

/* Control thread. -EBUSY with a sentence naming both when ranges overlap. */
int bus_add(struct bus *bus, struct bus_device *dev, uint64_t base, uint64_t len, struct err *err);
void bus_remove(struct bus *bus, struct bus_device *dev);

/* vCPU threads. */
void bus_read(struct bus *bus, uint64_t addr, void *data, uint32_t len);
void bus_write(struct bus *bus, uint64_t addr, const void *data, uint32_t len);
