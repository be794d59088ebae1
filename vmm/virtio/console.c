/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/console.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/devices/chardev.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE 256
#define QUEUE_RX   0 /* 5.3.2: receiveq(port0), transmitq(port0) */
#define QUEUE_TX   1
#define CHUNK      4096U
#define OUTPUT_MAX (1U << 20) /* bytes of one request that are looked at */

#define CONFIG_SIZE (offsetof(struct virtio_console_config, rows) + 2)

struct virtio_console {
	struct virtio_device dev;
	struct chardev *chardev;
	struct virtio_queue *rx; /* loop thread; NULL while the driver takes no input */
	_Atomic uint64_t rx_bytes, tx_bytes;
	struct virtio_counter counters[3];
};

static struct virtio_console *virtio_console(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_console, dev);
}

/* One buffer of input: bytes taken, 0 no buffer, -EBADMSG. */
static ssize_t give_input(struct virtio_queue *q, const uint8_t *buf, size_t len)
{
	struct virtq_chain chain;
	uint32_t n;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	if (chain.writable_len == 0)
		return -EBADMSG;
	n = (uint32_t)MIN(chain.writable_len, (uint64_t)len);
	r = virtq_chain_write(q, &chain, 0, buf, n);
	if (r < 0)
		return r;
	virtio_queue_push(q, chain.head, n);
	return n;
}

/* The chardev has input. Without buffers it asks for a doorbell, which makes it come back. */
static size_t console_receive(void *data, const uint8_t *buf, size_t len)
{
	struct virtio_console *con = data;
	struct virtio_queue *q = con->rx;
	size_t taken = 0;

	if (!q || virtio_device_is_broken(&con->dev))
		return 0;
	virtio_queue_kicks_off(q);
	while (taken < len) {
		ssize_t n = give_input(q, buf + taken, len - taken);

		if (n < 0) {
			virtio_device_broken(&con->dev, "queue %u: malformed request", q->index);
			break;
		}
		if (n == 0 && !virtio_queue_kicks_on(q))
			break;
		taken += (size_t)n;
	}
	atomic_fetch_add_explicit(&con->rx_bytes, taken, memory_order_relaxed);
	virtio_queue_notify(q);
	return taken;
}

/* One request's output: 1, 0 none, -EBADMSG. */
static int take_output(struct virtio_queue *q, void *data)
{
	struct virtio_console *con = data;
	struct virtq_chain chain;
	uint8_t buf[CHUNK];
	uint32_t len, at = 0;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	len = (uint32_t)MIN(chain.readable_len, (uint64_t)OUTPUT_MAX);
	while (at < len) {
		uint32_t n = MIN(len - at, CHUNK);

		r = virtq_chain_read(q, &chain, at, buf, n);
		if (r < 0)
			return r;
		chardev_write(con->chardev, buf, n);
		at += n;
	}
	atomic_fetch_add_explicit(&con->tx_bytes, len, memory_order_relaxed);
	virtio_queue_push(q, chain.head, 0);
	return 1;
}

static void console_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_console *con = virtio_console(dev);

	if (q->index == QUEUE_RX)
		chardev_receive_more(con->chardev);
	else if (virtio_queue_serve(q, take_output, con) < 0)
		virtio_device_broken(dev, "queue %u: malformed request", q->index);
}

static void input_on(void *data)
{
	struct virtio_console *con = data;

	con->rx = &con->dev.queues[QUEUE_RX];
}

static void input_off(void *data)
{
	struct virtio_console *con = data;

	con->rx = NULL;
}

/* The doorbell that activation and resume ring fetches input that waits already. */
static void console_resume(struct virtio_device *dev)
{
	struct virtio_console *con = virtio_console(dev);

	if (dev->queues[QUEUE_RX].loop)
		loop_call(dev->queues[QUEUE_RX].loop, input_on, con);
}

static void console_pause(struct virtio_device *dev)
{
	struct virtio_console *con = virtio_console(dev);

	if (dev->queues[QUEUE_RX].loop)
		loop_call(dev->queues[QUEUE_RX].loop, input_off, con);
}

static int console_activate(struct virtio_device *dev, struct err *err _unused_)
{
	/* Input and queues are served by one thread, so they need no lock. */
	assert(virtio_console(dev)->chardev->loop == dev->shared_loop);
	console_resume(dev);
	return 0;
}

static const struct virtio_counter *console_counters(struct virtio_device *dev)
{
	return virtio_console(dev)->counters;
}

static void detach_chardev(void *data)
{
	chardev_set_receiver(data, NULL, NULL);
}

static void console_free(struct virtio_device *dev)
{
	struct virtio_console *con = virtio_console(dev);

	loop_call(con->chardev->loop, detach_chardev, con->chardev);
	virtio_device_deinit(dev);
	free(con);
}

static const struct virtio_device_ops console_ops = {
	.name = "console",
	.device_id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x07,    /* communication */
	.pci_subclass = 0x80, /* other */
	.threads = VIRTIO_THREADS_SHARED,
	.activate = console_activate,
	.kick = console_kick,
	.reset = console_pause,
	.pause = console_pause,
	.resume = console_resume,
	.counters = console_counters,
	.free = console_free,
};

static void put_size(struct virtio_device *dev, uint16_t cols, uint16_t rows)
{
	bytes_put_le(dev->config + offsetof(struct virtio_console_config, cols), 2, cols);
	bytes_put_le(dev->config + offsetof(struct virtio_console_config, rows), 2, rows);
}

void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows)
{
	assert(dev->ops == &console_ops);
	pthread_mutex_lock(&dev->lock);
	put_size(dev, cols, rows);
	pthread_mutex_unlock(&dev->lock);
	virtio_device_config_changed(dev);
}

int virtio_console_new(const struct virtio_console_params *params, struct virtio_device **ret,
		       struct err *err)
{
	static const uint16_t sizes[] = { QUEUE_SIZE, QUEUE_SIZE };
	struct virtio_console *con = calloc(1, sizeof(*con));
	int r;

	if (!con)
		return err_errno(err, ENOMEM, "console '%s'", params->id);
	con->dev.features_offered =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_CONSOLE_F_SIZE);
	r = virtio_device_init(&con->dev, &console_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(con);
		return r;
	}
	put_size(&con->dev, params->cols, params->rows);
	con->dev.config_size = CONFIG_SIZE;
	con->chardev = params->chardev;
	con->counters[0] = (struct virtio_counter){ "rx_bytes", &con->rx_bytes };
	con->counters[1] = (struct virtio_counter){ "tx_bytes", &con->tx_bytes };
	chardev_set_receiver(con->chardev, console_receive, con);
	*ret = &con->dev;
	return 0;
}
