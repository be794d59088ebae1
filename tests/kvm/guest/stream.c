/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of byte streams: virtio-rng and virtio-console (virtio 1.3, 5.4 and 5.3)
 */
#include "tests/kvm/guest/stream.h"

#include <stddef.h>

#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/virtio.h"

#define QUEUE_SIZE 16
#define STREAM_MS  5000
#define CONSOLE_RX 0
#define CONSOLE_TX 1
#define TEXT_MAX   128

/* a buffer of @len from the device; bytes written, or -1 */
static int rng_fill(struct virtio_device *dev, struct virtqueue *vq, uint8_t *buffer, uint32_t len)
{
	const struct segment segment = { buffer, len, true };
	struct virtq_used_elem used;

	memset(buffer, 0, len);
	if (virtqueue_add(vq, &segment, 1) < 0)
		return -1;
	virtqueue_kick(vq);
	if (virtio_wait(dev, vq, STREAM_MS) != OUTCOME_USED || !virtqueue_take(vq, &used))
		return -1;
	return used.len <= len ? (int)used.len : -1;
}

static bool all_equal(const uint8_t *buffer, uint32_t len)
{
	for (uint32_t i = 1; i < len; i++)
		if (buffer[i] != buffer[0])
			return false;
	return true;
}

bool rng_works(struct virtio_device *dev)
{
	static struct virtqueue vq;
	static uint8_t buffer[32];

	if (!virtio_negotiate(dev, 0) || !virtqueue_setup(dev, &vq, 0, QUEUE_SIZE))
		return false;
	virtio_driver_ok(dev);
	return rng_fill(dev, &vq, buffer, sizeof(buffer)) > 0;
}

static void run_rng(void)
{
	static struct virtqueue vq;
	struct virtio_device dev;
	uint32_t len = (uint32_t)arg_u64("len", 64), count = (uint32_t)arg_u64("count", 4);
	uint8_t *buffer = alloc_pages(1);
	unsigned int bad = 0;

	if (!virtio_find(VIRTIO_RNG, (unsigned int)arg_u64("nth", 0), &dev)) {
		skip("no virtio-rng device");
		return;
	}
	if (len < 8 || len > 4096)
		len = 64;
	if (!check(virtio_negotiate(&dev, 0) && virtqueue_setup(&dev, &vq, 0, QUEUE_SIZE),
		   "set up"))
		return;
	virtio_driver_ok(&dev);
	for (uint32_t i = 0; i < count; i++) {
		int got = rng_fill(&dev, &vq, buffer, len);

		/* fewer bytes than asked for are right, none are not (5.4.6) */
		if (got <= 0 || (got >= 8 && all_equal(buffer, (uint32_t)got)))
			bad++;
	}
	check_eq(bad, 0, "%u buffers of %u random bytes", count, len);
}

static void run_console(void)
{
	static struct virtqueue rx, tx;
	static char text[TEXT_MAX] = "hello-console";
	static char input[TEXT_MAX];
	struct virtio_device dev;
	struct virtq_used_elem used = { 0 };
	struct segment segment = { text, 0, false };

	if (!virtio_find(VIRTIO_CONSOLE, (unsigned int)arg_u64("nth", 0), &dev)) {
		skip("no virtio-console device");
		return;
	}
	arg_get("text", text, sizeof(text) - 1);
	while (text[segment.len])
		segment.len++;
	text[segment.len++] = '\n';
	if (!check(virtio_negotiate(&dev, 0) &&
			   virtqueue_setup(&dev, &rx, CONSOLE_RX, QUEUE_SIZE) &&
			   virtqueue_setup(&dev, &tx, CONSOLE_TX, QUEUE_SIZE),
		   "set up"))
		return;
	virtio_driver_ok(&dev);
	virtqueue_add(&tx, &segment, 1);
	virtqueue_kick(&tx);
	check(virtio_wait(&dev, &tx, STREAM_MS) == OUTCOME_USED, "text taken");
	if (!arg_u64("echo", 0))
		return;
	virtqueue_add(&rx, &(struct segment){ input, sizeof(input) - 1, true }, 1);
	virtqueue_kick(&rx);
	info("waiting");
	if (!check(virtio_wait(&dev, &rx, 2 * STREAM_MS) == OUTCOME_USED, "input arrives"))
		return;
	virtqueue_take(&rx, &used);
	if (check(used.len > 0 && used.len < sizeof(input), "input length %u", used.len)) {
		input[used.len - (input[used.len - 1] == '\n')] = '\0';
		info("input %s", input);
	}
}

const struct scenario stream_scenarios[] = {
	{ "rng", run_rng },
	{ "console", run_console },
	{ 0 },
};
