/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng from the driver's side
 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"

#define FEATURES_MIN VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define FEATURES_ALL                                                                               \
	(FEATURES_MIN | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |                                  \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

struct fixture {
	struct mock_driver driver;
	struct mock_queue *mq;
};

static void setup(struct fixture *f, int fd)
{
	const struct virtio_rng_params params = { .id = "_rng", .fd = fd };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	if (virtio_rng_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 8 << 20);
	f->mq = &f->driver.queues[0];
}

static bool all_zero(const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i])
			return false;
	return true;
}

static void test_bytes(void)
{
	const int sources[] = { -EBADF, open("/dev/urandom", O_RDONLY | O_CLOEXEC) };
	static uint8_t got[100000];

	for (size_t k = 0; k < ARRAY_SIZE(sources); k++) {
		struct fixture f;
		struct mock_buf bufs[2];
		uint64_t gpa;

		setup(&f, sources[k]);
		mock_driver_start(&f.driver, FEATURES_ALL);
		gpa = mock_alloc(&f.driver, sizeof(got), 16);
		bufs[0] = (struct mock_buf){ gpa, 10, true };
		bufs[1] = (struct mock_buf){ gpa + 10, 54, true };
		g_assert_cmpuint(mock_queue_do(f.mq, bufs, 2), ==, 64);
		mock_read(&f.driver, gpa, got, 64);
		g_assert_false(all_zero(got, 32));
		g_assert_false(all_zero(got + 32, 32));
		/* bounded: the rest of a huge buffer is not touched */
		bufs[0] = (struct mock_buf){ gpa, sizeof(got), true };
		g_assert_cmpuint(mock_queue_do(f.mq, bufs, 1), ==, VIRTIO_RNG_REQUEST_MAX);
		mock_read(&f.driver, gpa, got, sizeof(got));
		g_assert_false(all_zero(got + VIRTIO_RNG_REQUEST_MAX - 64, 64));
		g_assert_true(all_zero(got + VIRTIO_RNG_REQUEST_MAX,
				       sizeof(got) - VIRTIO_RNG_REQUEST_MAX));
		g_assert_cmpuint(mock_driver_counter(&f.driver, "bytes"), ==,
				 64 + VIRTIO_RNG_REQUEST_MAX);
		mock_driver_deinit(&f.driver);
	}
}

/* A file gives what it has, then the kernel takes over. */
static void test_source_ends(void)
{
	char path[] = "/tmp/brume-test-rng-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	struct fixture f;
	struct mock_buf buf = { 0, 64, true };
	uint8_t got[64];

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(pwrite(fd, "0123456789", 10, 0), ==, 10);
	setup(&f, fd);
	mock_driver_start(&f.driver, FEATURES_MIN);
	buf.gpa = mock_alloc(&f.driver, 64, 16);
	g_assert_cmpuint(mock_queue_do(f.mq, &buf, 1), ==, 64);
	mock_read(&f.driver, buf.gpa, got, 64);
	g_assert_cmpmem(got, 10, "0123456789", 10);
	g_assert_false(all_zero(got + 10, 54));
	mock_driver_deinit(&f.driver);
}

static void note(void *data)
{
	*(bool *)data = true;
}

/*
 * A source that gives its bytes late, as /dev/hwrng may: the other devices' thread goes on,
 * and a request gets no more than control could wait for.
 */
static void test_slow_source(void)
{
	static const char bytes[VIRTIO_RNG_SLOW_MAX + 1] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	int source = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), other;
	struct mock_buf buf = { 0, 4096, true };
	char got[VIRTIO_RNG_SLOW_MAX], path[64];
	bool called = false;
	struct fixture f;

	g_assert_cmpint(source, >=, 0);
	g_assert_cmpint(grantpt(source), ==, 0);
	g_assert_cmpint(unlockpt(source), ==, 0);
	g_assert_cmpint(ptsname_r(source, path, sizeof(path)), ==, 0);
	other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	g_assert_cmpint(other, >=, 0);
	setup(&f, source);
	mock_driver_start(&f.driver, FEATURES_MIN);
	buf.gpa = mock_alloc(&f.driver, 4096, 16);
	mock_queue_add(f.mq, &buf, 1);
	mock_queue_kick(f.mq);
	g_usleep(20000);
	loop_call(&f.driver.shared_loop, note, &called);
	g_assert_true(called);
	g_assert_true(mock_queue_idle(f.mq));
	g_assert_cmpint(write(other, bytes, VIRTIO_RNG_SLOW_MAX), ==, VIRTIO_RNG_SLOW_MAX);
	g_assert_cmpuint((mock_queue_wait(f.mq, &buf.len), buf.len), ==, VIRTIO_RNG_SLOW_MAX);
	mock_read(&f.driver, buf.gpa, got, sizeof(got));
	g_assert_cmpmem(got, sizeof(got), bytes, VIRTIO_RNG_SLOW_MAX);
	mock_driver_deinit(&f.driver);
	close(other);
}

static void test_many(void)
{
	struct fixture f;
	uint64_t gpa;

	setup(&f, -EBADF);
	mock_driver_start(&f.driver, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 256 * 64, 16);
	for (unsigned int i = 0; i < 256; i++) {
		const struct mock_buf buf = { gpa + 64 * i, 64, true };

		mock_queue_add(f.mq, &buf, 1);
	}
	mock_queue_kick(f.mq); /* more than one turn's worth for one doorbell */
	for (unsigned int i = 0; i < 256; i++)
		mock_queue_wait(f.mq, NULL);
	mock_driver_deinit(&f.driver);
}

static void test_malformed(void)
{
	struct fixture f;
	struct mock_buf buf;

	setup(&f, -EBADF);
	for (unsigned int i = 0; i < 3; i++) {
		mock_driver_start(&f.driver, FEATURES_ALL);
		buf = (struct mock_buf){ mock_alloc(&f.driver, 64, 16), 64, i != 0 };
		if (i == 1)
			buf.gpa = 1ULL << 50;
		if (i == 2)
			buf.len = 0;
		mock_queue_add(f.mq, &buf, 1);
		mock_queue_kick(f.mq);
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
	}
	mock_driver_deinit(&f.driver);
}

static void test_bad_source(void)
{
	int pipes[2];
	struct virtio_rng_params params = { .id = "_rng" };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
	params.fd = pipes[0];
	g_assert_cmpint(virtio_rng_new(&params, &dev, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"rng '_rng': its source is neither a character device nor a "
			"regular file");
	close(pipes[0]);
	close(pipes[1]);
}

static void test_conformance(void)
{
	struct fixture f;

	setup(&f, -EBADF);
	mock_driver_conformance(&f.driver, FEATURES_ALL);
	mock_driver_deinit(&f.driver);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/rng/bytes", test_bytes);
	g_test_add_func("/virtio/rng/source-ends", test_source_ends);
	g_test_add_func("/virtio/rng/slow-source", test_slow_source);
	g_test_add_func("/virtio/rng/many", test_many);
	g_test_add_func("/virtio/rng/malformed", test_malformed);
	g_test_add_func("/virtio/rng/bad-source", test_bad_source);
	g_test_add_func("/virtio/rng/conformance", test_conformance);
	return g_test_run();
}
