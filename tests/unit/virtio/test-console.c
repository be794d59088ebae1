/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console from the driver's side, with a real chardev and its client
 */
#include "vmm/virtio/console.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/devices/chardev.h"

#define FEATURES_MIN VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define FEATURES_ALL                                                                               \
	(FEATURES_MIN | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |                                  \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(0 /* SIZE */))

struct fixture {
	struct mock_driver driver;
	struct mock_queue *rx, *tx;
	struct chardev chardev;
	struct loop loop; /* the shared one */
	int client;
};

static void setup(struct fixture *f)
{
	const struct virtio_console_params params = {
		.id = "_console", .chardev = &f->chardev, .cols = 80, .rows = 25
	};
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	if (loop_start(&f->loop, "shared", NULL, &err) < 0 ||
	    chardev_init(&f->chardev, "console", CONSOLE_MODE_TTY, -EBADF, &f->loop, &err) < 0 ||
	    virtio_console_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 8 << 20);
	dev->shared_loop = &f->loop;
	f->rx = &f->driver.queues[0];
	f->tx = &f->driver.queues[1];
	if (chardev_open(&f->chardev, false, false, &f->client, &err) < 0)
		g_error("%s", err.msg);
}

static void teardown(struct fixture *f)
{
	close(f->client);
	mock_driver_deinit(&f->driver);
	chardev_deinit(&f->chardev);
	loop_stop(&f->loop);
}

static void expect_output(struct fixture *f, const char *want, size_t len)
{
	g_autofree char *got = g_malloc(len);
	size_t at = 0;

	while (at < len) {
		struct pollfd p = { .fd = f->client, .events = POLLIN };
		ssize_t n;

		g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
		n = recv(f->client, got + at, len - at, 0);
		g_assert_cmpint(n, >, 0);
		at += (size_t)n;
	}
	g_assert_cmpmem(got, len, want, len);
}

static void post_input(struct fixture *f, uint64_t gpa, uint32_t len)
{
	const struct mock_buf buf = { gpa, len, true };

	mock_queue_add(f->rx, &buf, 1);
	mock_queue_kick(f->rx);
}

static void expect_input(struct fixture *f, uint64_t gpa, const char *want)
{
	char got[64];
	uint32_t len;

	mock_queue_wait(f->rx, &len);
	g_assert_cmpuint(len, ==, strlen(want));
	mock_read(&f->driver, gpa, got, len);
	g_assert_cmpmem(got, len, want, strlen(want));
}

static void send_input(struct fixture *f, const char *text)
{
	g_assert_cmpint(send(f->client, text, strlen(text), 0), ==, (ssize_t)strlen(text));
}

static void test_output(void)
{
	struct fixture f;
	static char big[40000];
	struct mock_buf bufs[2];

	setup(&f);
	mock_driver_start(&f.driver, FEATURES_ALL);
	bufs[0] = (struct mock_buf){ mock_put(&f.driver, "hello ", 6), 6, false };
	bufs[1] = (struct mock_buf){ mock_put(&f.driver, "world\n", 6), 6, false };
	g_assert_cmpuint(mock_queue_do(f.tx, bufs, 2), ==, 0);
	expect_output(&f, "hello world\n", 12);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i % 26);
	bufs[0] = (struct mock_buf){ mock_put(&f.driver, big, sizeof(big)), sizeof(big), false };
	mock_queue_do(f.tx, bufs, 1);
	expect_output(&f, big, sizeof(big));
	bufs[0].len = 0; /* legal */
	mock_queue_do(f.tx, bufs, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_bytes"), ==, 12 + sizeof(big));
	teardown(&f);
}

static void test_input(void)
{
	struct fixture f;
	uint64_t gpa;

	setup(&f);
	/* typed before the driver was there, and while it has no buffers */
	send_input(&f, "ear");
	mock_driver_start(&f.driver, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 4096, 16);
	post_input(&f, gpa, 32);
	expect_input(&f, gpa, "ear");
	send_input(&f, "longer than the buffer");
	post_input(&f, gpa, 10);
	expect_input(&f, gpa, "longer tha");
	post_input(&f, gpa, 4);
	expect_input(&f, gpa, "n th");
	post_input(&f, gpa, 60);
	expect_input(&f, gpa, "e buffer");
	/* buffers first */
	post_input(&f, gpa, 32);
	post_input(&f, gpa + 32, 32);
	send_input(&f, "x");
	expect_input(&f, gpa, "x");
	send_input(&f, "yz");
	expect_input(&f, gpa + 32, "yz");
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_bytes"), ==, 28);
	teardown(&f);
}

static void test_pause(void)
{
	struct fixture f;
	uint64_t gpa;

	setup(&f);
	mock_driver_start(&f.driver, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 4096, 16);
	post_input(&f, gpa, 32);
	virtio_device_pause(f.driver.dev);
	send_input(&f, "later");
	g_assert_true(mock_queue_idle(f.rx));
	virtio_device_resume(f.driver.dev);
	expect_input(&f, gpa, "later");
	teardown(&f);
}

static void test_resize(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmpuint(f.driver.dev->config_size, ==, 4);
	g_assert_cmpmem(f.driver.dev->config, 4, "\x50\0\x19\0", 4);
	mock_driver_start(&f.driver, FEATURES_ALL);
	virtio_console_resize(f.driver.dev, 132, 50);
	g_assert_cmpmem(f.driver.dev->config, 4, "\x84\0\x32\0", 4);
	g_assert_cmpuint(f.driver.dev->config_generation, ==, 1);
	teardown(&f);
}

static void test_malformed(void)
{
	struct fixture f;

	setup(&f);
	for (unsigned int i = 0; i < 4; i++) {
		struct mock_buf buf = { mock_alloc(&f.driver, 64, 16), 64, i < 2 };

		mock_driver_start(&f.driver, FEATURES_ALL);
		if (i % 2)
			buf.gpa = 1ULL << 50; /* outside RAM */
		else
			buf.writable = !buf.writable; /* of the wrong direction */
		if (i == 2)
			buf.len = 0, buf.gpa = 0;
		mock_queue_add(i < 2 ? f.rx : f.tx, &buf, 1);
		if (i == 2) { /* writable output is no output: harmless */
			mock_queue_kick(f.tx);
			mock_queue_wait(f.tx, NULL);
			mock_driver_reset(&f.driver);
			continue;
		}
		mock_queue_kick(i < 2 ? f.rx : f.tx);
		if (i < 2)
			send_input(&f, "x");
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
		g_assert_false(virtio_device_is_broken(f.driver.dev));
	}
	teardown(&f);
}

static void test_conformance(void)
{
	struct fixture f;

	setup(&f);
	mock_driver_conformance(&f.driver, FEATURES_ALL);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/console/output", test_output);
	g_test_add_func("/virtio/console/input", test_input);
	g_test_add_func("/virtio/console/pause", test_pause);
	g_test_add_func("/virtio/console/resize", test_resize);
	g_test_add_func("/virtio/console/malformed", test_malformed);
	g_test_add_func("/virtio/console/conformance", test_conformance);
	return g_test_run();
}
