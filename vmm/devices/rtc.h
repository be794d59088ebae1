/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CMOS clock and memory (Motorola MC146818, ports 0x70 and 0x71)
 *
 * The time registers read the host's UTC in BCD and are not set by writing; the
 * rest is 128 bytes of RAM, with the size of memory where BIOSes of old put it.
 * Writing 0 to index 0x0f with the NMI bit set (index 0x8f), the PC's shutdown
 * status, resets the machine.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/devices/machine-request.h"

#define RTC_PORTS 2

struct rtc_state {
	uint8_t index; /* with the NMI bit */
	uint8_t ram[128];
};
extern const struct state_desc rtc_state_desc;

struct rtc {
	struct bus_device region;
	pthread_mutex_t lock;
	struct rtc_state st;
	machine_request_fn request;
	void *data;
};

/* low_end, ram_size: end of RAM below 4 GiB, and all RAM, in bytes. */
void rtc_init(struct rtc *rtc, uint64_t low_end, uint64_t ram_size, machine_request_fn request,
	      void *data);
void rtc_deinit(struct rtc *rtc);
/* vCPUs parked: the sizes are others. */
void rtc_set_memory(struct rtc *rtc, uint64_t low_end, uint64_t ram_size);
/* CMOS memory survives a reset, as its battery would have it. */
void rtc_reset(struct rtc *rtc);
