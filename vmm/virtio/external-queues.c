/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/external-queues.h"

#include <string.h>

#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/virtio/device.h"

/* --- which --- */

/* A queue that the driver has not set up has no loop. */
static bool is_used(const struct virtio_queue *q)
{
	return q->loop;
}

struct virtio_queue *external_queues_next(const struct external_queues *eq, uint16_t *i)
{
	while (*i < eq->n) {
		struct virtio_queue *q = &eq->dev->queues[eq->first + (*i)++];

		if (is_used(q))
			return q;
	}
	return NULL;
}

bool external_queues_used(const struct virtio_device *dev, uint16_t first, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (is_used(&dev->queues[first + i]))
			return true;
	return false;
}

static int call_fd(const struct external_queues *eq, struct virtio_queue *q)
{
	return eq->dev->transport->queue_call_fd(eq->dev->transport_data, q);
}

/* --- the sign of failure: shared thread --- */

static void on_failed(struct loop_source *source, uint32_t events _unused_)
{
	struct external_queues *eq = source->data;

	/* Once: what is broken does not get worse. */
	loop_remove(eq->dev->shared_loop, source);
	eq->ops->failed(eq);
}

static void watch(void *data)
{
	struct external_queues *eq = data;

	/* Without it a broken device only stands still. */
	if (loop_add(eq->dev->shared_loop, &eq->failed) < 0)
		log_warning("%s '%s': a failure of who serves its queues will not be noticed",
			    eq->dev->ops->name, eq->dev->id);
}

static void unwatch(void *data)
{
	struct external_queues *eq = data;

	if (eq->failed.armed)
		loop_remove(eq->dev->shared_loop, &eq->failed);
}

/* --- there and back --- */

void external_queues_set_up(struct external_queues *eq, const struct external_queues_ops *ops,
			    struct virtio_device *dev, uint16_t first, uint16_t n, int failed_fd)
{
	*eq = (struct external_queues){
		.ops = ops, .dev = dev, .first = first, .n = n, .set_up = true
	};
	for (uint16_t i = 0; i < n; i++)
		dev->queues[first + i].external = true;
	eq->failed = (struct loop_source){
		.fd = failed_fd, .events = ops->failed_events, .fn = on_failed, .data = eq
	};
	loop_call(dev->shared_loop, watch, eq);
}

static void take_back(struct external_queues *eq, struct virtio_queue *q)
{
	uint16_t next_avail = 0;
	int r = eq->ops->stop_queue(eq, q, &next_avail);

	if (r < 0)
		virtio_device_broken(eq->dev, "queue %u does not come back: %s", q->index,
				     strerrordesc_np(-r));
	else
		virtio_queue_take_back(q, next_avail);
}

/* Those before the end-th. */
static void stop_before(struct external_queues *eq, uint16_t end)
{
	struct virtio_queue *q;

	for (uint16_t i = 0; (q = external_queues_next(eq, &i)) && i <= end;)
		take_back(eq, q);
}

int external_queues_start(struct external_queues *eq, struct err *err)
{
	struct virtio_queue *q;

	if (!eq->set_up || eq->running)
		return 0;
	for (uint16_t i = 0; (q = external_queues_next(eq, &i));) {
		int r = eq->ops->start_queue(eq, q, call_fd(eq, q), err);

		if (r < 0) {
			stop_before(eq, (uint16_t)(i - 1));
			return r;
		}
		/* What was made available before anybody listened. */
		eventfd_signal(q->kick_fd);
	}
	eq->running = true;
	return 0;
}

void external_queues_stop(struct external_queues *eq)
{
	if (!eq->running)
		return;
	eq->running = false;
	stop_before(eq, eq->n);
}

void external_queues_tear_down(struct external_queues *eq)
{
	external_queues_stop(eq);
	if (!eq->set_up)
		return;
	loop_call(eq->dev->shared_loop, unwatch, eq);
	for (uint16_t i = 0; i < eq->n; i++)
		eq->dev->queues[eq->first + i].external = false;
	eq->set_up = false;
}

void external_queues_vector_changed(struct external_queues *eq, struct virtio_queue *q)
{
	if (eq->running && is_used(q))
		eq->ops->set_call(eq, q, call_fd(eq, q));
}
