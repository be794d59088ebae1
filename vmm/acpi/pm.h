/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI power management ports: reset and sleep register, PM timer
 *
 * PORT_ACPI_RESET is the FADT's reset register (write 1) and its sleep control
 * and status registers (ACPI 6.5, 4.8.3.7): SLP_EN with SLP_TYP 5 is S5.
 * PORT_PM_TIMER counts 3.579545 MHz in 32 bits (4.8.2.1) as long as the
 * machine runs: it stands still while paused and goes on after a restore.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/devices/machine-request.h"

#define PM_RESET_SIZE 1
#define PM_TIMER_SIZE 4
#define PM_TIMER_HZ   3579545u

#define PM_RESET_VALUE 1

struct pm_state {
	uint64_t elapsed_ns; /* the timer's time when it was last stopped */
};

extern const struct state_desc pm_state_desc;

struct pm {
	struct bus_device reset, timer;
	machine_request_fn request;
	void *request_data;
	pthread_mutex_t lock;
	struct pm_state st;  /* under lock */
	uint64_t started_ns; /* host monotonic time when it was last started; under lock */
	bool running;        /* under lock */
};

/* Control thread. The timer starts stopped. */
void pm_init(struct pm *pm, machine_request_fn request, void *request_data);
void pm_deinit(struct pm *pm);
void pm_reset(struct pm *pm);  /* the timer starts over */
void pm_pause(struct pm *pm);  /* afterwards st is what to save */
void pm_resume(struct pm *pm); /* also after st was loaded */
