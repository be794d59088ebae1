/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: a disk that gets another size, or another image
 */
#include <sys/stat.h>

#include "tests/unit/virtio/blk-fixture.h"
#include "vmm/block/block.h"

static void assert_size(struct fixture *f, uint64_t size, uint64_t n_told)
{
	struct stat st = { 0 };
	uint64_t n = 0;

	g_assert_cmpuint(bytes_get_le(f->driver.dev->config, 8), ==, size / 512);
	g_assert_cmpint(fstat(f->disk, &st), ==, 0);
	g_assert_cmpuint((uint64_t)st.st_size, ==, size);
	if (read(f->driver.config_fd, &n, sizeof(n)) < 0)
		n = 0;
	g_assert_cmpuint(n, ==, n_told);
}

static void resize(struct fixture *f, uint64_t size, bool paused)
{
	struct err err = { 0 };

	if (virtio_blk_resize(f->driver.dev, size, paused, &err) < 0)
		g_error("%s", err.msg);
}

static void resize_fails(struct fixture *f, uint64_t size, const char *text)
{
	struct err err = { 0 };

	g_assert_cmpint(virtio_blk_resize(f->driver.dev, size, false, &err), <, 0);
	g_assert_cmpstr(err.msg, ==, text);
}

static void test_resize(const void *engine)
{
	const uint64_t last = 2 * DISK_SIZE / 512 - 1;
	struct fixture f = { 0 };
	uint64_t gpa, statuses[20];

	start(&f, engine, FEATURES_ALL);
	fcntl(f.driver.config_fd, F_SETFL, O_NONBLOCK);
	gpa = mock_alloc(&f.driver, 512, 512);
	g_assert_cmpint(request(&f, VIRTIO_BLK_T_OUT, last, gpa, 512, false, NULL), ==,
			VIRTIO_BLK_S_IOERR);
	resize(&f, 2 * DISK_SIZE, false);
	assert_size(&f, 2 * DISK_SIZE, 1);
	g_assert_cmpint(request(&f, VIRTIO_BLK_T_OUT, last, gpa, 512, false, NULL), ==,
			VIRTIO_BLK_S_OK);

	/* Those that were taken before it shrinks are done, the others fail, none is lost. */
	for (unsigned int i = 0; i < 20; i++) {
		const struct mock_buf bufs[] = { header(&f, VIRTIO_BLK_T_OUT, last),
						 { gpa, 512, false },
						 status(&f) };

		statuses[i] = bufs[2].gpa;
		mock_queue_add(f.mq, bufs, 3);
		if (i == 9)
			mock_queue_kick(f.mq);
	}
	resize(&f, DISK_SIZE, false);
	assert_size(&f, DISK_SIZE, 1);
	mock_queue_kick(f.mq);
	while (f.mq->seen_used != 22)
		mock_queue_wait(f.mq, NULL);
	for (unsigned int i = 0; i < 20; i++) {
		uint8_t got = mock_read_u8(&f.driver, statuses[i]);

		g_assert_true(got == VIRTIO_BLK_S_OK || got == VIRTIO_BLK_S_IOERR);
	}
	assert_size(&f, DISK_SIZE, 0); /* nothing was written behind the end */
	g_assert_cmpint(request(&f, VIRTIO_BLK_T_IN, last, gpa, 512, true, NULL), ==,
			VIRTIO_BLK_S_IOERR);

	virtio_device_pause(f.driver.dev);
	resize(&f, DISK_SIZE / 2, true);
	virtio_device_resume(f.driver.dev);
	assert_size(&f, DISK_SIZE / 2, 1);
	g_assert_cmpint(request(&f, VIRTIO_BLK_T_IN, 0, gpa, 512, true, NULL), ==, VIRTIO_BLK_S_OK);

	resize_fails(&f, 0, "0 bytes are no multiple of the block size 512");
	resize_fails(&f, 1025, "1025 bytes are no multiple of the block size 512");
	resize_fails(&f, 1ULL << 63, "9223372036854775808 bytes are more than a file can have");
	assert_size(&f, DISK_SIZE / 2, 0);
	mock_driver_reset(&f.driver);
	assert_size(&f, DISK_SIZE / 2, 0);
	teardown(&f);

	setup(&f, engine, true, 1);
	resize_fails(&f, 2 * DISK_SIZE, "the disk is 'readonly' and cannot be resized");
	teardown(&f);
}

/* `sparse` off: what is new has its storage as well. */
static void test_resize_allocated(void)
{
	struct fixture f = { .keep_allocated = true };
	struct stat st = { 0 };

	setup(&f, "sync", false, 1);
	resize(&f, 2 * DISK_SIZE, false);
	g_assert_cmpint(fstat(f.disk, &st), ==, 0);
	g_assert_cmpuint((uint64_t)st.st_blocks * 512, >=, DISK_SIZE);
	teardown(&f);
}

static uint8_t first_byte(struct fixture *f, uint64_t gpa)
{
	g_assert_cmpint(request(f, VIRTIO_BLK_T_IN, 0, gpa, 512, true, NULL), ==, VIRTIO_BLK_S_OK);
	return mock_read_u8(&f->driver, gpa);
}

/* An image of n bytes that begins with `byte`; *ret_again: a second descriptor. */
static struct virtio_blk_medium new_medium(off_t n, uint8_t byte, int *ret_again)
{
	struct virtio_blk_medium medium = { .fd = temp_file(), .format = &block_format_raw };

	g_assert_cmpint(ftruncate(medium.fd, n), ==, 0);
	g_assert_cmpint(pwrite(medium.fd, &byte, 1, 0), ==, 1);
	*ret_again = dup(medium.fd);
	return medium;
}

static void test_replace(const void *engine)
{
	struct virtio_blk_medium medium;
	struct fixture f = { 0 };
	struct err err = { 0 };
	uint64_t gpa;
	int again, bad;
	uint8_t byte;

	setup(&f, engine, false, 2);
	mock_driver_start(&f.driver, FEATURES_ALL);
	fcntl(f.driver.config_fd, F_SETFL, O_NONBLOCK);
	gpa = mock_alloc(&f.driver, 40 * 512, 512);
	for (unsigned int i = 0; i < 6; i++) {
		bool paused = i % 2;
		off_t size = i % 3 ? DISK_SIZE * 2 : DISK_SIZE / 2;

		medium = new_medium(size, (uint8_t)(10 + i), &again);
		add_reads(&f, gpa, 20);
		mock_queue_kick(f.mq);
		if (paused)
			virtio_device_pause(f.driver.dev);
		if (virtio_blk_replace(f.driver.dev, &medium, paused, &err) < 0)
			g_error("%s", err.msg);
		if (paused)
			virtio_device_resume(f.driver.dev);
		mock_queue_kick(f.mq);
		for (unsigned int n = 0; n < 20; n++)
			mock_queue_wait(f.mq, NULL);
		/* The old one is closed; what is read and written is the new one. */
		g_assert_cmpint(fcntl(f.image, F_GETFD), ==, -1);
		close(f.disk);
		f.disk = again;
		f.image = medium.fd;
		assert_size(&f, (uint64_t)size, 1);
		g_assert_cmpint(first_byte(&f, gpa), ==, 10 + i);
		f.mq = &f.driver.queues[1];
		g_assert_cmpint(first_byte(&f, gpa), ==, 10 + i);
		f.mq = &f.driver.queues[0];
		g_assert_cmpint(request(&f, VIRTIO_BLK_T_OUT, 1, gpa, 512, false, NULL), ==,
				VIRTIO_BLK_S_OK);
		g_assert_cmpint(pread(f.disk, &byte, 1, 512), ==, 1);
		g_assert_cmpint(byte, ==, 10 + i);
	}

	/* What cannot be opened leaves all as it was. */
	bad = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	medium = (struct virtio_blk_medium){ .fd = bad, .format = &block_format_raw };
	g_assert_cmpint(virtio_blk_replace(f.driver.dev, &medium, false, &err), <, 0);
	g_assert_cmpstr(err.msg, ==,
			"disk '_disk0': the image is a directory: a regular file or a block device "
			"is needed");
	g_assert_cmpint(fcntl(bad, F_GETFD), ==, -1);
	g_assert_cmpint(first_byte(&f, gpa), ==, 15);
	/* Of a device without a driver too. */
	mock_driver_reset(&f.driver);
	medium = new_medium(DISK_SIZE, 99, &again);
	err_clear(&err);
	g_assert_cmpint(virtio_blk_replace(f.driver.dev, &medium, false, &err), ==, 0);
	mock_driver_start(&f.driver, FEATURES_ALL);
	g_assert_cmpint(first_byte(&f, gpa), ==, 99);
	close(again);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_for_engines("resize", test_resize);
	g_test_add_func("/virtio/blk/resize/allocated", test_resize_allocated);
	add_for_engines("replace", test_replace);
	return g_test_run();
}
