/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watchdog: four 32-bit registers that ACPI's watchdog action table describes
 * (WDAT: "Watchdog Action Table", Microsoft; vmm/acpi/wdat.c)
 *
 * Chosen because guests bring the driver: Linux wdat_wdt (in Debian's cloud
 * kernel too, which has none for an i6300ESB) and Windows.  The virtio watchdog
 * of Cloud Hypervisor has no driver in any released kernel.
 *
 *   0x0 control  bit 0: it runs
 *   0x4 count    periods of WATCHDOG_PERIOD_MS that it counts down from
 *   0x8 feed     written: it starts over; read: what is left of the count
 *   0xc status   bit 0: it has expired since this bit was last cleared, by writing 1
 *
 * Once expired it stands until it is fed or started again.  Time stands still
 * while the machine is paused.  Feeding it costs no system call: the timer, on
 * the shared thread, looks at the deadline when it fires and sleeps on.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/loop.h"
#include "vmm/base/state.h"
#include "vmm/bus/bus.h"

struct err;

#define WATCHDOG_SIZE      16
#define WATCHDOG_CONTROL   0x0
#define WATCHDOG_COUNT     0x4
#define WATCHDOG_FEED      0x8
#define WATCHDOG_STATUS    0xc
#define WATCHDOG_PERIOD_MS 100
#define WATCHDOG_COUNT_MIN 10 /* below, a busy host would be enough to make it expire */
#define WATCHDOG_COUNT_MAX 0xffffU

struct watchdog_state {
	uint64_t left_ns; /* of the count, when it was last stopped or paused */
	uint32_t count;
	bool running;
	bool expired;
	bool untold; /* expired, and the machine has not answered yet */
	uint8_t pad;
};
extern const struct state_desc watchdog_state_desc;

struct watchdog {
	struct bus_device region;
	pthread_mutex_t lock;
	struct watchdog_state st; /* under lock */
	uint64_t deadline_ns;     /* CLOCK_MONOTONIC, while running and not paused; under lock */
	uint64_t period_ns;       /* WATCHDOG_PERIOD_MS; tests have less time */
	bool paused;              /* under lock */
	struct loop *loop;
	struct loop_source timer;
	void (*notify)(void *data);
	void *data;
};

/*
 * Control thread; loop is borrowed and not running yet.  notify is called on the shared
 * or the control thread when watchdog_take() has something.  Paused until resumed.
 */
int watchdog_init(struct watchdog *wd, struct loop *loop, void (*notify)(void *data), void *data,
		  struct err *err);
void watchdog_deinit(struct watchdog *wd);
void watchdog_reset(struct watchdog *wd); /* the status stays: the guest's next start reads it */
void watchdog_pause(struct watchdog *wd);
void watchdog_resume(struct watchdog *wd);
/* Control thread: true when it has expired since the last call. */
bool watchdog_take(struct watchdog *wd);
