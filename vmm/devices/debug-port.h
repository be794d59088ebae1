/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debug ports
 *
 * 0x80: a guest writes a code when it reaches a stage (00-1f firmware, 20-3f
 * boot loader, 40-5f kernel, 60-7f user space, 80-ff custom); the first write of
 * each is kept with the time since the worker was started, and benchmarks read
 * that.
 * 0xe9 (or debug_console.iobase): bytes to a console, without a UART's registers.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus/bus.h"
#include "vmm/devices/chardev.h"

struct debug_port {
	struct bus_device region;
	void (*notify)(void *data);
	void *data;
	uint64_t start_usec;        /* CLOCK_MONOTONIC */
	_Atomic uint64_t usec[256]; /* of the first write of each code, 0 = none yet */
	uint64_t told[4];           /* control thread: bitmap of codes it has taken */
};

/*
 * start_usec: CLOCK_MONOTONIC when the process started.  notify is called on a
 * vCPU thread when a code was written for the first time.
 */
void debug_port_init(struct debug_port *port, uint64_t start_usec, void (*notify)(void *data),
		     void *data);
/* Control thread: the next code it has not been told yet; usec since the start. */
bool debug_port_take(struct debug_port *port, uint8_t *ret_code, uint64_t *ret_usec);

struct debug_console {
	struct bus_device region;
	struct chardev *chardev;
};

void debug_console_init(struct debug_console *dev, struct chardev *chardev);
