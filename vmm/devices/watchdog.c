/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/watchdog.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define NS_PER_S      1000000000ULL
#define NS_PER_PERIOD (WATCHDOG_PERIOD_MS * 1000000ULL)
#define COUNT_DEFAULT 300 /* 30 s, until the guest sets its own */

static int watchdog_validate(const void *state, struct err *err)
{
	const struct watchdog_state *st = state;

	if (st->count < WATCHDOG_COUNT_MIN || st->count > WATCHDOG_COUNT_MAX ||
	    st->left_ns > st->count * NS_PER_PERIOD)
		return err_set(err, EBADMSG, "watchdog: count %u, %llu ns left", st->count,
			       (unsigned long long)st->left_ns);
	if (st->pad)
		return err_set(err, EBADMSG, "watchdog: padding is not zero");
	return 0;
}

#define F(kind, member) STATE_##kind(struct watchdog_state, member)
static const struct state_field watchdog_fields[] = {
	F(U64, left_ns),  F(U32, count),   F(BOOL, running),
	F(BOOL, expired), F(BOOL, untold), F(U8, pad),
};
#undef F

const struct state_desc watchdog_state_desc = {
	.name = "watchdog",
	.version = 1,
	STATE_LAYOUT(struct watchdog_state, watchdog_fields),
	.validate = watchdog_validate,
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Any thread. ns 0: off. */
static void arm(const struct watchdog *wd, uint64_t deadline_ns)
{
	const struct itimerspec spec = { .it_value = {
						 .tv_sec = (time_t)(deadline_ns / NS_PER_S),
						 .tv_nsec = (long)(deadline_ns % NS_PER_S),
					 } };

	timerfd_settime(wd->timer.fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static uint64_t full_ns(const struct watchdog *wd)
{
	return wd->st.count * wd->period_ns;
}

/* lock held: what is left of the count */
static uint64_t left_ns(const struct watchdog *wd)
{
	uint64_t now;

	if (!wd->st.running || wd->paused)
		return wd->st.left_ns;
	now = now_ns();
	return now < wd->deadline_ns ? wd->deadline_ns - now : 0;
}

/* lock held */
static void start(struct watchdog *wd, uint64_t ns)
{
	bool later = wd->st.running && ns >= wd->st.left_ns && wd->deadline_ns;

	wd->st.running = true;
	wd->st.left_ns = ns;
	if (wd->paused)
		return;
	/* A deadline that only moves away is found when the timer fires at the old one. */
	wd->deadline_ns = now_ns() + ns;
	if (!later)
		arm(wd, wd->deadline_ns);
}

static void stop(struct watchdog *wd)
{
	wd->st.left_ns = left_ns(wd);
	wd->st.running = false;
	wd->deadline_ns = 0;
	arm(wd, 0);
}

/* Shared thread. */
static void on_timer(struct loop_source *source, uint32_t events _unused_)
{
	struct watchdog *wd = container_of(source, struct watchdog, timer);
	uint64_t expirations;
	bool expired = false;

	if (read(source->fd, &expirations, sizeof(expirations)) != (ssize_t)sizeof(expirations))
		return;
	pthread_mutex_lock(&wd->lock);
	if (wd->st.running && !wd->paused) {
		if (now_ns() < wd->deadline_ns) {
			arm(wd, wd->deadline_ns);
		} else {
			wd->st.running = false;
			wd->st.left_ns = 0;
			wd->deadline_ns = 0;
			wd->st.expired = wd->st.untold = expired = true;
		}
	}
	pthread_mutex_unlock(&wd->lock);
	if (expired)
		wd->notify(wd->data);
}

bool watchdog_take(struct watchdog *wd)
{
	bool untold;

	pthread_mutex_lock(&wd->lock);
	untold = wd->st.untold;
	wd->st.untold = false;
	pthread_mutex_unlock(&wd->lock);
	return untold;
}

/* --- registers: vCPU threads --- */

static uint32_t register_get(const struct watchdog *wd, uint64_t off)
{
	switch (off) {
	case WATCHDOG_CONTROL:
		return wd->st.running;
	case WATCHDOG_COUNT:
		return wd->st.count;
	case WATCHDOG_FEED:
		return (uint32_t)(left_ns(wd) / wd->period_ns);
	default:
		return wd->st.expired;
	}
}

static void register_put(struct watchdog *wd, uint64_t off, uint32_t value)
{
	switch (off) {
	case WATCHDOG_CONTROL:
		if (!(value & 1))
			stop(wd);
		else if (!wd->st.running)
			start(wd, full_ns(wd));
		break;
	case WATCHDOG_COUNT:
		wd->st.count = MAX(MIN(value, WATCHDOG_COUNT_MAX), (uint32_t)WATCHDOG_COUNT_MIN);
		wd->st.left_ns = MIN(wd->st.left_ns, full_ns(wd));
		/* What runs is counted anew, so that no old deadline is beyond the new count. */
		if (wd->st.running) {
			stop(wd);
			start(wd, full_ns(wd));
		}
		break;
	case WATCHDOG_FEED:
		/* Fed after it expired and nothing came of that (action report): it runs again. */
		if (wd->st.running || wd->st.expired)
			start(wd, full_ns(wd));
		break;
	default:
		if (value & 1)
			wd->st.expired = false;
		break;
	}
}

static void watchdog_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct watchdog *wd = container_of(dev, struct watchdog, region);

	/* 32-bit registers: anything else is no access that the table describes. */
	memset(data, 0xff, len);
	if (len != 4 || off % 4)
		return;
	pthread_mutex_lock(&wd->lock);
	bytes_put_le(data, 4, register_get(wd, off));
	pthread_mutex_unlock(&wd->lock);
}

static void watchdog_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct watchdog *wd = container_of(dev, struct watchdog, region);

	if (len != 4 || off % 4)
		return;
	pthread_mutex_lock(&wd->lock);
	register_put(wd, off, (uint32_t)bytes_get_le(data, 4));
	pthread_mutex_unlock(&wd->lock);
}

static const struct bus_ops region_ops = {
	.name = "watchdog",
	.read = watchdog_read,
	.write = watchdog_write,
};

/* --- control thread --- */

static void watch(void *data)
{
	struct watchdog *wd = data;

	/* not armed when it fails, which the caller sees */
	(void)!loop_add(wd->loop, &wd->timer);
}

static void unwatch(void *data)
{
	struct watchdog *wd = data;

	loop_remove(wd->loop, &wd->timer);
}

int watchdog_init(struct watchdog *wd, struct loop *loop, void (*notify)(void *data), void *data,
		  struct err *err)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0)
		return err_errno(err, errno, "watchdog: cannot make its timer");
	*wd = (struct watchdog){
		.region.ops = &region_ops,
		.st.count = COUNT_DEFAULT,
		.paused = true,
		.period_ns = NS_PER_PERIOD,
		.loop = loop,
		.timer = { .fd = fd, .events = EPOLLIN, .fn = on_timer },
		.notify = notify,
		.data = data,
	};
	pthread_mutex_init(&wd->lock, NULL);
	loop_call(loop, watch, wd);
	if (!wd->timer.armed) {
		watchdog_deinit(wd);
		return err_set(err, ENOMEM, "watchdog: cannot watch its timer");
	}
	return 0;
}

void watchdog_deinit(struct watchdog *wd)
{
	if (!wd->loop)
		return;
	loop_call(wd->loop, unwatch, wd);
	close(wd->timer.fd);
	pthread_mutex_destroy(&wd->lock);
	wd->loop = NULL;
}

void watchdog_reset(struct watchdog *wd)
{
	pthread_mutex_lock(&wd->lock);
	wd->st = (struct watchdog_state){ .count = COUNT_DEFAULT, .expired = wd->st.expired };
	wd->deadline_ns = 0;
	arm(wd, 0);
	pthread_mutex_unlock(&wd->lock);
}

void watchdog_pause(struct watchdog *wd)
{
	pthread_mutex_lock(&wd->lock);
	wd->st.left_ns = left_ns(wd);
	wd->paused = true;
	wd->deadline_ns = 0;
	arm(wd, 0);
	pthread_mutex_unlock(&wd->lock);
}

void watchdog_resume(struct watchdog *wd)
{
	bool untold;

	pthread_mutex_lock(&wd->lock);
	if (wd->paused) {
		wd->paused = false;
		if (wd->st.running)
			start(wd, wd->st.left_ns);
	}
	untold = wd->st.untold;
	pthread_mutex_unlock(&wd->lock);
	/* It was too late to answer before the machine was paused. */
	if (untold)
		wd->notify(wd->data);
}
