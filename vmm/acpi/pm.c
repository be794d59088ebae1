/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/pm.h"

#include <string.h>
#include <time.h>

#include "vmm/base/bytes.h"

#define NS_PER_S 1000000000ULL

/* Sleep control register: ACPI 6.5, table 4.21. */
#define SLP_EN     (1u << 5)
#define SLP_TYP(v) ((v) >> 2 & 7u)
#define SLP_TYP_S5 5

#define F(kind, member) STATE_##kind(struct pm_state, member)
static const struct state_field pm_fields[] = { F(U64, elapsed_ns) };
#undef F

const struct state_desc pm_state_desc = {
	.name = "pm",
	.version = 1,
	STATE_LAYOUT(struct pm_state, pm_fields),
};

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t elapsed_locked(const struct pm *pm)
{
	return pm->st.elapsed_ns + (pm->running ? monotonic_ns() - pm->started_ns : 0);
}

static void reset_read(struct bus_device *dev _unused_, uint64_t off _unused_, void *data,
		       uint32_t len)
{
	memset(data, 0, len); /* sleep status: never woken from sleep */
}

static void reset_write(struct bus_device *dev, uint64_t off _unused_, const void *data,
			uint32_t len _unused_)
{
	struct pm *pm = container_of(dev, struct pm, reset);
	uint8_t value = *(const uint8_t *)data;

	if (value == PM_RESET_VALUE)
		pm->request(pm->request_data, MACHINE_REQUEST_RESET);
	else if ((value & SLP_EN) && SLP_TYP(value) == SLP_TYP_S5)
		pm->request(pm->request_data, MACHINE_REQUEST_SHUTDOWN);
}

static const struct bus_ops reset_ops = {
	.name = "acpi-reset",
	.read = reset_read,
	.write = reset_write,
};

static void timer_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct pm *pm = container_of(dev, struct pm, timer);
	uint64_t ns, ticks;

	pthread_mutex_lock(&pm->lock);
	ns = elapsed_locked(pm);
	pthread_mutex_unlock(&pm->lock);
	/* whole seconds apart, so that the product stays within 64 bits for as long as ns does */
	ticks = ns / NS_PER_S * PM_TIMER_HZ + ns % NS_PER_S * PM_TIMER_HZ / NS_PER_S;
	memset(data, 0, len);
	bytes_put_le(data, len, (ticks & UINT32_MAX) >> (8 * off));
}

static void timer_write(struct bus_device *dev _unused_, uint64_t off _unused_,
			const void *data _unused_, uint32_t len _unused_)
{
	/* read-only register */
}

static const struct bus_ops timer_ops = {
	.name = "pm-timer",
	.read = timer_read,
	.write = timer_write,
};

void pm_init(struct pm *pm, machine_request_fn request, void *request_data)
{
	*pm = (struct pm){
		.reset.ops = &reset_ops,
		.timer.ops = &timer_ops,
		.request = request,
		.request_data = request_data,
	};
	pthread_mutex_init(&pm->lock, NULL);
}

void pm_deinit(struct pm *pm)
{
	pthread_mutex_destroy(&pm->lock);
}

void pm_reset(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm->st.elapsed_ns = 0;
	pm->started_ns = monotonic_ns();
	pthread_mutex_unlock(&pm->lock);
}

void pm_pause(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	pm->st.elapsed_ns = elapsed_locked(pm);
	pm->running = false;
	pthread_mutex_unlock(&pm->lock);
}

void pm_resume(struct pm *pm)
{
	pthread_mutex_lock(&pm->lock);
	if (!pm->running) {
		pm->started_ns = monotonic_ns();
		pm->running = true;
	}
	pthread_mutex_unlock(&pm->lock);
}
