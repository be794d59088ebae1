/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk device with an image of its own, from the driver's side
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/blk.h"

#define DISK_SIZE  (1U << 20)
#define QUEUE_SIZE 64U

#define FEATURES_ALL                                                                               \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |            \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) |        \
	 VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE))
#define FEATURES_MIN VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

struct fixture {
	struct mock_driver driver;
	struct mock_queue *mq;
	int disk;  /* a second descriptor of the image */
	int image; /* the device's own, which it closes */
	bool keep_allocated;
};

static inline int temp_file(void)
{
	char path[] = "/tmp/brume-test-blk-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
	return fd;
}

static inline void setup(struct fixture *f, const char *engine, bool readonly, uint16_t n_queues)
{
	int fd = temp_file();
	const struct virtio_blk_params params = {
		.id = "_disk0",
		.fd = fd,
		.readonly = readonly,
		.n_queues = n_queues,
		.queue_size = QUEUE_SIZE,
		.engine = engine,
		.keep_allocated = f->keep_allocated,
	};
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	f->disk = dup(fd);
	f->image = fd;
	if (virtio_blk_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 16 << 20);
	f->mq = &f->driver.queues[0];
}

static inline void start(struct fixture *f, const char *engine, uint64_t features)
{
	setup(f, engine, false, 1);
	mock_driver_start(&f->driver, features);
}

static inline void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	close(f->disk);
}

/* {type, ioprio, sector} in guest RAM */
static inline struct mock_buf header(struct fixture *f, uint32_t type, uint64_t sector)
{
	struct {
		le32 type, ioprio;
		le64 sector;
	} h = { le32_make(type), le32_make(0), le64_make(sector) };

	return (struct mock_buf){ mock_put(&f->driver, &h, sizeof(h)), sizeof(h), false };
}

static inline struct mock_buf status(struct fixture *f)
{
	const uint8_t unset = 0xff;

	return (struct mock_buf){ mock_put(&f->driver, &unset, 1), 1, true };
}

/* One request with one data buffer; returns the status. */
static inline uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint64_t data_gpa,
			      uint32_t len, bool read, uint32_t *ret_used)
{
	const struct mock_buf bufs[] = { header(f, type, sector),
					 { data_gpa, len, read },
					 status(f) };
	uint32_t used = mock_queue_do(f->mq, bufs, 3);

	if (ret_used)
		*ret_used = used;
	return mock_read_u8(&f->driver, bufs[2].gpa);
}

static inline void add_reads(struct fixture *f, uint64_t gpa, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, i),
						 { gpa + 512 * i, 512, true },
						 status(f) };

		mock_queue_add(f->mq, bufs, 3);
	}
}

/* A result for each engine: "/virtio/blk/aio/get-id". */
static inline void add_for_engines(const char *name, void (*fn)(const void *engine))
{
	static const char *const engines[] = { "sync", "aio", "io_uring" };

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		g_autofree char *path = g_strdup_printf("/virtio/blk/%s/%s", engines[i], name);

		g_test_add_data_func(path, engines[i], fn);
	}
}
