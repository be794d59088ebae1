/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"

int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
		       const char *id, const uint16_t *queue_sizes, uint16_t n_queues,
		       struct err *err)
{
	int r;

	dev->ops = ops;
	snprintf(dev->id, sizeof(dev->id), "%s", id);
	pthread_mutex_init(&dev->lock, NULL);
	dev->features_offered |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	dev->queues = calloc(n_queues, sizeof(*dev->queues));
	if (!dev->queues)
		return err_set(err, ENOMEM, "out of memory for %u queues", n_queues);
	for (uint16_t i = 0; i < n_queues; i++) {
		r = virtio_queue_init(&dev->queues[i], dev, i, queue_sizes[i], err);
		if (r < 0) {
			virtio_device_deinit(dev);
			return r;
		}
		dev->n_queues++;
	}
	return 0;
}

void virtio_device_deinit(struct virtio_device *dev)
{
	assert(!dev->active);
	for (uint16_t i = 0; i < dev->n_queues; i++)
		virtio_queue_deinit(&dev->queues[i]);
	dev->n_queues = 0;
	free(dev->queues);
	dev->queues = NULL;
	pthread_mutex_destroy(&dev->lock);
}

/* Which of the device's own loops serves queue i; -1: the shared one. */
static int loop_of_queue(const struct virtio_device *dev, uint16_t i)
{
	switch (dev->ops->threads) {
	case VIRTIO_THREADS_SHARED:
		return -1;
	case VIRTIO_THREADS_PER_QUEUE:
		return i;
	case VIRTIO_THREADS_PER_PAIR:
		return i / 2 < dev->n_queues / 2 ? i / 2 : -1;
	}
	return -1;
}

static uint16_t loops_needed(const struct virtio_device *dev)
{
	switch (dev->ops->threads) {
	case VIRTIO_THREADS_SHARED:
		return 0;
	case VIRTIO_THREADS_PER_QUEUE:
		return dev->n_queues;
	case VIRTIO_THREADS_PER_PAIR:
		return dev->n_queues / 2;
	}
	return 0;
}

/* Only loops that serve an enabled queue get a thread. */
static bool loop_is_used(const struct virtio_device *dev, uint16_t loop)
{
	for (uint16_t i = 0; i < dev->n_queues; i++)
		if (dev->queues[i].st.enabled && loop_of_queue(dev, i) == loop)
			return true;
	return false;
}

static void stop_loops(struct virtio_device *dev)
{
	for (uint16_t i = 0; i < dev->n_loops; i++)
		loop_stop(&dev->loops[i]);
	free(dev->loops);
	dev->loops = NULL;
	dev->n_loops = 0;
}

static int start_loops(struct virtio_device *dev, struct err *err)
{
	uint16_t n = loops_needed(dev);
	char name[16];
	int r;

	if (n == 0)
		return 0;
	dev->loops = calloc(n, sizeof(*dev->loops));
	if (!dev->loops)
		return err_set(err, ENOMEM, "out of memory for %u threads", n);
	dev->n_loops = n;
	for (uint16_t i = 0; i < n; i++) {
		if (!loop_is_used(dev, i))
			continue;
		snprintf(name, sizeof(name), "%.9s/%u", dev->id, i);
		r = loop_start(&dev->loops[i], name, dev->thread_enter, err);
		if (r < 0) {
			stop_loops(dev);
			return r;
		}
	}
	return 0;
}

static void on_kick(struct loop_source *source, uint32_t events _unused_)
{
	struct virtio_queue *q = source->data;

	/*
	 * Every doorbell is an edge, so what the eventfd has counted need not be read, a
	 * system call less for each; and it is not zero any more, so whoever adds the source
	 * again is told at once.
	 */
	if (!virtio_device_is_broken(q->dev))
		q->dev->ops->kick(q->dev, q);
}

struct watch {
	struct virtio_queue *q;
	int r;
};

static void watch_kick(void *data)
{
	struct watch *w = data;

	w->r = loop_add(w->q->loop, &w->q->kick_source);
	/* The driver may have filled the queue before it was watched (or while paused). */
	eventfd_signal(w->q->kick_fd);
}

static void unwatch_kick(void *data)
{
	struct virtio_queue *q = data;

	loop_remove(q->loop, &q->kick_source);
}

/* 0 or -errno; on failure some are watched, and reset takes them back. */
static int watch_queues(struct virtio_device *dev)
{
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct virtio_queue *q = &dev->queues[i];
		struct watch w = { .q = q };

		if (!q->loop || q->external || q->kick_source.armed)
			continue; /* not in use, not ours, or resumed without a pause */
		q->kick_source = (struct loop_source){
			.fd = q->kick_fd, .events = EPOLLIN | EPOLLET, .fn = on_kick, .data = q
		};
		loop_call(q->loop, watch_kick, &w);
		if (w.r < 0)
			return w.r;
	}
	return 0;
}

static void unwatch_queues(struct virtio_device *dev)
{
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct virtio_queue *q = &dev->queues[i];

		if (q->loop && q->kick_source.armed)
			loop_call(q->loop, unwatch_kick, q);
	}
}

static void stop_queues(struct virtio_device *dev)
{
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		virtio_queue_stop(&dev->queues[i]);
		dev->queues[i].loop = NULL;
	}
}

static int start_queues(struct virtio_device *dev, struct err *err)
{
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct virtio_queue *q = &dev->queues[i];
		int own = loop_of_queue(dev, i);
		int r;

		if (!q->st.enabled)
			continue;
		r = virtio_queue_start(q, dev->mem, dev->features, err);
		if (r < 0) {
			stop_queues(dev);
			return r;
		}
		q->loop = own < 0 ? dev->shared_loop : &dev->loops[own];
	}
	return 0;
}

/* Any thread */
static void tell_broken(struct virtio_device *dev)
{
	/* release: whoever takes the news finds it broken */
	atomic_store_explicit(&dev->broken_news, true, memory_order_release);
	virtio_device_values_changed(dev);
}

int virtio_device_activate(struct virtio_device *dev, struct err *err)
{
	int r;

	assert_on_control();
	assert(!dev->active);
	r = start_loops(dev, err);
	if (r < 0)
		goto fail;
	r = start_queues(dev, err);
	if (r < 0)
		goto fail_loops;
	r = dev->ops->activate(dev, err);
	if (r < 0)
		goto fail_queues;
	r = watch_queues(dev);
	if (r < 0) {
		err_errno(err, -r, "cannot watch the doorbells");
		goto fail_active;
	}
	dev->active = true;
	return 0;

fail_active:
	unwatch_queues(dev);
	dev->ops->reset(dev);
fail_queues:
	stop_queues(dev);
fail_loops:
	stop_loops(dev);
fail:
	atomic_store_explicit(&dev->broken, true, memory_order_release);
	tell_broken(dev);
	return err_prefix(err, r, "%s '%s'", dev->ops->name, dev->id);
}

void virtio_device_stop(struct virtio_device *dev)
{
	assert_on_control();
	if (!dev->active)
		return;
	unwatch_queues(dev);
	dev->ops->reset(dev);
	stop_queues(dev);
	stop_loops(dev);
	dev->active = false;
}

void virtio_device_reset(struct virtio_device *dev)
{
	virtio_device_stop(dev);
	/* Another vCPU may be at the registers. */
	pthread_mutex_lock(&dev->lock);
	for (uint16_t i = 0; i < dev->n_queues; i++)
		virtio_queue_reset(&dev->queues[i]);
	dev->features = 0;
	pthread_mutex_unlock(&dev->lock);
	/* release: what the reset did, before a new activation sees the device whole */
	atomic_store_explicit(&dev->broken, false, memory_order_release);
}

void virtio_device_pause(struct virtio_device *dev)
{
	assert_on_control();
	if (!dev->active)
		return;
	/* No new requests are taken; then those in flight end; then the threads stand. */
	unwatch_queues(dev);
	if (dev->ops->pause)
		dev->ops->pause(dev);
	for (uint16_t i = 0; i < dev->n_loops; i++)
		if (dev->loops[i].thread.started)
			loop_park(&dev->loops[i]);
}

void virtio_device_resume(struct virtio_device *dev)
{
	assert_on_control();
	if (!dev->active)
		return;
	for (uint16_t i = 0; i < dev->n_loops; i++)
		if (dev->loops[i].thread.started)
			loop_unpark(&dev->loops[i]);
	if (dev->ops->resume)
		dev->ops->resume(dev);
	if (watch_queues(dev) < 0)
		virtio_device_broken(dev, "its doorbells cannot be watched after a pause");
}

void virtio_device_grow_memory(struct virtio_device *dev)
{
	struct err err = { 0 };

	assert_on_control();
	if (dev->active && dev->ops->memory_grown && dev->ops->memory_grown(dev, &err) < 0)
		virtio_device_broken(dev, "%s", err.msg);
}

void virtio_device_broken(struct virtio_device *dev, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (atomic_exchange_explicit(&dev->broken, true, memory_order_acq_rel))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_guest("%s '%s' needs a reset: %s", dev->ops->name, dev->id, text);
	dev->transport->config_interrupt(dev->transport_data);
	tell_broken(dev);
}

void virtio_device_config_changed(struct virtio_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	dev->config_generation++;
	pthread_mutex_unlock(&dev->lock);
	dev->transport->config_interrupt(dev->transport_data);
}
