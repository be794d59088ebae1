/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of the PC's keyboard controller: ports 0x61 to 0x64
 *
 * Writing 0xfe to 0x64 pulses the reset line.  0x61 reads with the timer output
 * bit set, so that kernels that calibrate against the PIT give up at once; 0x64
 * reads zero: nothing there to talk to.
 */
#pragma once

#include "vmm/bus/bus.h"
#include "vmm/devices/machine-request.h"

#define I8042_PORTS 4

struct i8042 {
	struct bus_device region;
	machine_request_fn request;
	void *data;
};

void i8042_init(struct i8042 *dev, machine_request_fn request, void *data);
