/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/mock-queue.h"

#include <glib.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define TIMEOUT_MS 10000

static void queue_interrupt(void *transport, struct virtio_queue *q)
{
	struct mock_driver *d = transport;

	eventfd_signal(d->queues[q->index].irq_fd);
}

static void config_interrupt(void *transport)
{
	struct mock_driver *d = transport;

	eventfd_signal(d->config_fd);
}

static int queue_call_fd(void *transport, struct virtio_queue *q)
{
	struct mock_driver *d = transport;

	return d->queues[q->index].irq_fd;
}

static const struct virtio_transport_ops mock_transport = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.queue_call_fd = queue_call_fd,
};

static void wait_readable(int fd, const char *what)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (poll(&p, 1, TIMEOUT_MS) != 1)
		g_error("waited %d ms in vain for %s", TIMEOUT_MS, what);
	eventfd_take(fd);
}

void mock_driver_init(struct mock_driver *d, struct virtio_device *dev, uint64_t ram)
{
	const struct guest_mem_params params = { .size = ram,
						 .hole_start = 3UL << 30,
						 .hole_end = 4UL << 30 };
	struct err err = { 0 };

	*d = (struct mock_driver){ .dev = dev, .alloc_gpa = 4096, .config_fd = eventfd_new() };
	if (guest_mem_init(&d->mem, NULL, &params, &err) < 0 ||
	    loop_start(&d->shared_loop, "shared", NULL, &err) < 0)
		g_error("%s", err.msg);
	dev->mem = &d->mem;
	dev->shared_loop = &d->shared_loop;
	dev->transport = &mock_transport;
	dev->transport_data = d;
	d->queues = g_new0(struct mock_queue, dev->n_queues);
	for (uint16_t i = 0; i < dev->n_queues; i++) {
		struct mock_queue *mq = &d->queues[i];

		mq->driver = d;
		mq->q = &dev->queues[i];
		mq->size = mq->q->size_max;
		mq->desc_gpa = mock_alloc(d, virtq_desc_bytes(mq->size), 16);
		mq->avail_gpa = mock_alloc(d, virtq_avail_bytes(mq->size), 2);
		mq->used_gpa = mock_alloc(d, virtq_used_bytes(mq->size), 4);
		mq->irq_fd = eventfd_new();
	}
}

void mock_driver_deinit(struct mock_driver *d)
{
	uint16_t n = d->dev->n_queues;

	virtio_device_reset(d->dev);
	d->dev->ops->free(d->dev);
	loop_stop(&d->shared_loop);
	for (uint16_t i = 0; i < n; i++)
		close(d->queues[i].irq_fd);
	g_free(d->queues);
	close(d->config_fd);
	guest_mem_deinit(&d->mem);
}

int mock_driver_try_start(struct mock_driver *d, uint64_t features, struct err *err)
{
	d->dev->features = features & d->dev->features_offered;
	g_assert_cmphex(d->dev->features, ==, features);
	for (uint16_t i = 0; i < d->dev->n_queues; i++) {
		struct mock_queue *mq = &d->queues[i];
		struct virtio_queue_state *st = &mq->q->st;

		if (guest_fill(&d->mem, mq->desc_gpa, 0, virtq_desc_bytes(mq->size)) < 0 ||
		    guest_fill(&d->mem, mq->avail_gpa, 0, virtq_avail_bytes(mq->size)) < 0 ||
		    guest_fill(&d->mem, mq->used_gpa, 0, virtq_used_bytes(mq->size)) < 0)
			g_error("the rings are outside RAM");
		mq->next_desc = mq->avail_idx = mq->seen_used = 0;
		eventfd_take(mq->irq_fd);
		st->desc_gpa = mq->desc_gpa;
		st->avail_gpa = mq->avail_gpa;
		st->used_gpa = mq->used_gpa;
		st->size = mq->size;
		st->enabled = true;
	}
	return virtio_device_activate(d->dev, err);
}

void mock_driver_start(struct mock_driver *d, uint64_t features)
{
	struct err err = { 0 };

	if (mock_driver_try_start(d, features, &err) < 0)
		g_error("%s", err.msg);
}

void mock_driver_reset(struct mock_driver *d)
{
	virtio_device_reset(d->dev);
}

uint64_t mock_alloc(struct mock_driver *d, size_t len, size_t align)
{
	uint64_t gpa = (d->alloc_gpa + align - 1) / align * align;

	d->alloc_gpa = gpa + len;
	if (guest_fill(&d->mem, gpa, 0, len) < 0)
		g_error("the test has used up its guest RAM");
	return gpa;
}

uint64_t mock_put(struct mock_driver *d, const void *data, size_t len)
{
	uint64_t gpa = mock_alloc(d, len, 16);

	if (guest_write(&d->mem, gpa, data, len) < 0)
		g_error("the test has used up its guest RAM");
	return gpa;
}

void mock_read(struct mock_driver *d, uint64_t gpa, void *buf, size_t len)
{
	if (guest_read(&d->mem, gpa, buf, len) < 0)
		g_error("0x%lx is outside RAM", (unsigned long)gpa);
}

uint8_t mock_read_u8(struct mock_driver *d, uint64_t gpa)
{
	uint8_t byte = 0;

	mock_read(d, gpa, &byte, 1);
	return byte;
}

/* Ring indices are shared with the device's thread: single accesses, as a driver makes them. */
static uint16_t *ring_word(struct mock_queue *mq, uint64_t gpa)
{
	uint16_t *p = guest_range(&mq->driver->mem, gpa, 2, 2);

	if (!p)
		g_error("a ring word is outside RAM");
	return p;
}

static uint16_t load_used_idx(struct mock_queue *mq)
{
	return __atomic_load_n(ring_word(mq, mq->used_gpa + 2), __ATOMIC_ACQUIRE);
}

void mock_queue_set_avail_idx(struct mock_queue *mq, uint16_t idx)
{
	__atomic_store_n(ring_word(mq, mq->avail_gpa + 2), idx, __ATOMIC_RELEASE);
}

void mock_queue_set_used_event(struct mock_queue *mq, uint16_t idx)
{
	__atomic_store_n(ring_word(mq, mq->avail_gpa + 4 + 2UL * mq->size), idx, __ATOMIC_RELEASE);
}

static void write_desc(struct mock_driver *d, uint64_t table_gpa, uint16_t i,
		       const struct virtq_desc *desc)
{
	if (guest_write(&d->mem, table_gpa + 16UL * i, desc, sizeof(*desc)) < 0)
		g_error("a descriptor is outside RAM");
}

void mock_queue_set_desc(struct mock_queue *mq, uint16_t i, uint64_t gpa, uint32_t len,
			 uint16_t flags, uint16_t next)
{
	const struct virtq_desc desc = { le64_make(gpa), le32_make(len), le16_make(flags),
					 le16_make(next) };

	write_desc(mq->driver, mq->desc_gpa, i, &desc);
}

void mock_queue_publish(struct mock_queue *mq, uint16_t head)
{
	uint16_t at = mq->avail_idx % mq->size;

	__atomic_store_n(ring_word(mq, mq->avail_gpa + 4 + 2UL * at), head, __ATOMIC_RELAXED);
	mq->avail_idx++;
	mock_queue_set_avail_idx(mq, mq->avail_idx);
}

uint16_t mock_queue_add(struct mock_queue *mq, const struct mock_buf *bufs, size_t n)
{
	uint16_t head = mq->next_desc;

	g_assert_cmpuint(n, <=, mq->size);
	for (size_t i = 0; i < n; i++) {
		uint16_t here = mq->next_desc;
		uint16_t next = (uint16_t)((here + 1) % mq->size);
		uint16_t flags = (uint16_t)((i + 1 < n ? VIRTQ_DESC_F_NEXT : 0) |
					    (bufs[i].writable ? VIRTQ_DESC_F_WRITE : 0));

		mock_queue_set_desc(mq, here, bufs[i].gpa, bufs[i].len, flags, next);
		mq->next_desc = next;
	}
	mock_queue_publish(mq, head);
	return head;
}

uint16_t mock_queue_add_indirect(struct mock_queue *mq, const struct mock_buf *bufs, size_t n)
{
	uint64_t table = mock_alloc(mq->driver, 16 * n, 16);
	uint16_t head = mq->next_desc;

	for (size_t i = 0; i < n; i++) {
		const struct virtq_desc desc = {
			le64_make(bufs[i].gpa), le32_make(bufs[i].len),
			le16_make((uint16_t)((i + 1 < n ? VIRTQ_DESC_F_NEXT : 0) |
					     (bufs[i].writable ? VIRTQ_DESC_F_WRITE : 0))),
			le16_make((uint16_t)(i + 1))
		};

		write_desc(mq->driver, table, (uint16_t)i, &desc);
	}
	mock_queue_set_desc(mq, head, table, (uint32_t)(16 * n), VIRTQ_DESC_F_INDIRECT, 0);
	mq->next_desc = (uint16_t)((head + 1) % mq->size);
	mock_queue_publish(mq, head);
	return head;
}

void mock_queue_kick(struct mock_queue *mq)
{
	eventfd_signal(mq->q->kick_fd);
}

uint16_t mock_queue_wait(struct mock_queue *mq, uint32_t *ret_len)
{
	struct virtq_used_elem elem;

	while (load_used_idx(mq) == mq->seen_used)
		wait_readable(mq->irq_fd, "a used buffer");
	mock_read(mq->driver, mq->used_gpa + 4 + 8UL * (mq->seen_used % mq->size), &elem,
		  sizeof(elem));
	mq->seen_used++;
	mock_queue_set_used_event(mq, mq->seen_used);
	if (ret_len)
		*ret_len = le32_get(elem.len);
	return (uint16_t)le32_get(elem.id);
}

bool mock_queue_idle(struct mock_queue *mq)
{
	return load_used_idx(mq) == mq->seen_used;
}

uint32_t mock_queue_do(struct mock_queue *mq, const struct mock_buf *bufs, size_t n)
{
	uint16_t head = mock_queue_add(mq, bufs, n);
	uint32_t len = 0;

	mock_queue_kick(mq);
	g_assert_cmpuint(mock_queue_wait(mq, &len), ==, head);
	return len;
}

void mock_driver_wait_broken(struct mock_driver *d)
{
	while (!virtio_device_is_broken(d->dev))
		wait_readable(d->config_fd, "the device to break");
}

static _Atomic uint64_t *find_counter(struct mock_driver *d, const char *name)
{
	for (const struct virtio_counter *c = d->dev->ops->counters(d->dev); c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c->value;
	g_error("there is no counter '%s'", name);
}

uint64_t mock_driver_counter(struct mock_driver *d, const char *name)
{
	return atomic_load_explicit(find_counter(d, name), memory_order_relaxed);
}

void mock_driver_wait_counter(struct mock_driver *d, const char *name, uint64_t at_least)
{
	_Atomic uint64_t *value = find_counter(d, name);

	for (int ms = 0; atomic_load_explicit(value, memory_order_relaxed) < at_least; ms++) {
		if (ms == TIMEOUT_MS)
			g_error("counter '%s' stays at %lu", name, (unsigned long)*value);
		poll(NULL, 0, 1);
	}
}

void mock_driver_conformance(struct mock_driver *d, uint64_t features)
{
	struct err err = { 0 };

	if (d->dev->ops->state && !state_desc_tiles(d->dev->ops->state, &err))
		g_error("%s", err.msg);
	virtio_device_reset(d->dev);
	virtio_device_reset(d->dev);
	for (int i = 0; i < 2; i++) {
		mock_driver_start(d, features);
		g_assert_true(d->dev->active);
		virtio_device_pause(d->dev);
		virtio_device_resume(d->dev);
		virtio_device_pause(d->dev);
		virtio_device_reset(d->dev);
		g_assert_false(d->dev->active);
		virtio_device_reset(d->dev);
	}
	g_assert_false(virtio_device_is_broken(d->dev));
}
