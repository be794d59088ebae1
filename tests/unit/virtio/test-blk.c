/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: what a request is, and what the device is configured to be
 */
#include <sched.h>

#include "tests/unit/virtio/blk-fixture.h"

/* --- parse --- */

static void test_parse(void)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t sector, readable, writable;
		bool readonly;
		int r;
		enum virtio_blk_kind kind;
		uint8_t status;
		uint64_t off, len;
	} cases[] = {
		{ "read", VIRTIO_BLK_T_IN, 2, 16, 513, false, 0, VIRTIO_BLK_KIND_READ, 0, 1024,
		  512 },
		{ "read nothing", VIRTIO_BLK_T_IN, 0, 16, 1, false, 0, VIRTIO_BLK_KIND_READ, 0, 0,
		  0 },
		{ "read the last sector", VIRTIO_BLK_T_IN, 2047, 16, 513, false, 0,
		  VIRTIO_BLK_KIND_READ, 0, 2047 * 512, 512 },
		{ "read past the end", VIRTIO_BLK_T_IN, 2047, 16, 1025, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "read beyond the end", VIRTIO_BLK_T_IN, 2049, 16, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "sector times 512 wraps", VIRTIO_BLK_T_IN, 1ULL << 55, 16, 513, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "last sector number", VIRTIO_BLK_T_OUT, UINT64_MAX, 16 + 512, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "part of a sector", VIRTIO_BLK_T_IN, 0, 16, 512, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "write", VIRTIO_BLK_T_OUT, 1, 16 + 1024, 1, false, 0, VIRTIO_BLK_KIND_WRITE, 0,
		  512, 1024 },
		{ "write to read-only", VIRTIO_BLK_T_OUT, 1, 16 + 1024, 1, true, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "flush", VIRTIO_BLK_T_FLUSH, 77, 16, 1, false, 0, VIRTIO_BLK_KIND_FLUSH, 0, 0,
		  0 },
		{ "flush of read-only", VIRTIO_BLK_T_FLUSH, 0, 16, 1, true, 0,
		  VIRTIO_BLK_KIND_FLUSH, 0, 0, 0 },
		{ "id", VIRTIO_BLK_T_GET_ID, 0, 16, 21, false, 0, VIRTIO_BLK_KIND_GET_ID, 0, 0,
		  20 },
		{ "id, short", VIRTIO_BLK_T_GET_ID, 0, 16, 5, false, 0, VIRTIO_BLK_KIND_GET_ID, 0,
		  0, 4 },
		{ "id, long", VIRTIO_BLK_T_GET_ID, 0, 16, 4097, false, 0, VIRTIO_BLK_KIND_GET_ID, 0,
		  0, 20 },
		{ "discard was not offered", VIRTIO_BLK_T_DISCARD, 0, 32, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_UNSUPP, 0, 0 },
		{ "zeroes", VIRTIO_BLK_T_WRITE_ZEROES, 99, 48, 1, false, 0,
		  VIRTIO_BLK_KIND_WRITE_ZEROES, 0, 0, 32 },
		{ "zeroes without a range", VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "zeroes with half a range", VIRTIO_BLK_T_WRITE_ZEROES, 0, 40, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "zeroes with 8 ranges", VIRTIO_BLK_T_WRITE_ZEROES, 0, 16 + 8 * 16, 1, false, 0,
		  VIRTIO_BLK_KIND_WRITE_ZEROES, 0, 0, 128 },
		{ "zeroes with 9 ranges", VIRTIO_BLK_T_WRITE_ZEROES, 0, 16 + 9 * 16, 1, false, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "zeroes to read-only", VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 1, true, 0,
		  VIRTIO_BLK_KIND_REFUSED, VIRTIO_BLK_S_IOERR, 0, 0 },
		{ "unknown", 0xdeadbeef, 0, 16, 1, false, 0, VIRTIO_BLK_KIND_REFUSED,
		  VIRTIO_BLK_S_UNSUPP, 0, 0 },
		{ "half a header", VIRTIO_BLK_T_IN, 0, 15, 513, false, -EBADMSG, 0, 0, 0, 0 },
		{ "no status byte", VIRTIO_BLK_T_OUT, 0, 528, 0, false, -EBADMSG, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct virtio_blk_limits limits = { DISK_SIZE, 512, cases[i].readonly,
							  .write_zeroes_max = 65536 };
		struct virtio_blk_request req = { 0 };
		uint8_t h[VIRTIO_BLK_HEADER_SIZE] = { 0 };

		g_test_message("%s", cases[i].name);
		bytes_put_le(h, 4, cases[i].type);
		bytes_put_le(h + 8, 8, cases[i].sector);
		g_assert_cmpint(virtio_blk_parse(&limits, h, cases[i].readable, cases[i].writable,
						 &req),
				==, cases[i].r);
		if (cases[i].r < 0)
			continue;
		g_assert_cmpint(req.kind, ==, cases[i].kind);
		if (req.kind == VIRTIO_BLK_KIND_REFUSED) {
			g_assert_cmpuint(req.status, ==, cases[i].status);
			continue;
		}
		g_assert_cmpuint(req.off, ==, cases[i].off);
		g_assert_cmpuint(req.len, ==, cases[i].len);
	}
}

static void test_parse_aligned(void)
{
	const struct virtio_blk_limits limits = { DISK_SIZE, 4096 };
	struct virtio_blk_request req = { 0 };
	uint8_t h[VIRTIO_BLK_HEADER_SIZE] = { 0 };

	bytes_put_le(h + 8, 8, 8);
	g_assert_cmpint(virtio_blk_parse(&limits, h, 16, 4097, &req), ==, 0);
	g_assert_cmpint(req.kind, ==, VIRTIO_BLK_KIND_READ);
	g_assert_cmpint(virtio_blk_parse(&limits, h, 16, 513, &req), ==, 0);
	g_assert_cmpint(req.kind, ==, VIRTIO_BLK_KIND_REFUSED);
	bytes_put_le(h + 8, 8, 9);
	g_assert_cmpint(virtio_blk_parse(&limits, h, 16, 4097, &req), ==, 0);
	g_assert_cmpint(req.kind, ==, VIRTIO_BLK_KIND_REFUSED);
}

static void test_parse_range(void)
{
	static const struct {
		const char *name;
		uint64_t sector;
		uint32_t n, flags;
		bool zeroes;
		uint8_t status;
		bool unmap;
	} cases[] = {
		{ "discard", 8, 16, 0, false, VIRTIO_BLK_S_OK, false },
		{ "discard nothing", 0, 0, 0, false, VIRTIO_BLK_S_OK, false },
		{ "discard with unmap", 8, 16, 1, false, VIRTIO_BLK_S_UNSUPP, false },
		{ "discard with an unknown flag", 8, 16, 2, false, VIRTIO_BLK_S_UNSUPP, false },
		{ "discard past the end", 2048, 1, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "discard across the end", 2040, 16, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "discard too much", 0, 129, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "discard, sector wraps", UINT64_MAX, 8, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "discard, bytes wrap", 1ULL << 55, 8, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "discard 2 TiB", 0, UINT32_MAX, 0, false, VIRTIO_BLK_S_IOERR, false },
		{ "zeroes", 8, 16, 0, true, VIRTIO_BLK_S_OK, false },
		{ "zeroes with unmap", 8, 16, 1, true, VIRTIO_BLK_S_OK, true },
		{ "zeroes with an unknown flag", 8, 16, 1U << 31, true, VIRTIO_BLK_S_UNSUPP,
		  false },
		{ "too many zeroes", 0, 65, 0, true, VIRTIO_BLK_S_IOERR, false },
	};
	struct virtio_blk_limits limits = { DISK_SIZE, 512, .discard_max = 65536,
					    .write_zeroes_max = 32768, .may_unmap = true };
	struct virtio_blk_range range = { 0 };
	uint8_t bytes[VIRTIO_BLK_RANGE_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum virtio_blk_kind kind =
			cases[i].zeroes ? VIRTIO_BLK_KIND_WRITE_ZEROES : VIRTIO_BLK_KIND_DISCARD;

		g_test_message("%s", cases[i].name);
		bytes_put_le(bytes, 8, cases[i].sector);
		bytes_put_le(bytes + 8, 4, cases[i].n);
		bytes_put_le(bytes + 12, 4, cases[i].flags);
		g_assert_cmpuint(virtio_blk_parse_range(&limits, kind, bytes, &range), ==,
				 cases[i].status);
		if (cases[i].status != VIRTIO_BLK_S_OK)
			continue;
		g_assert_cmpuint(range.off, ==, cases[i].sector * 512);
		g_assert_cmpuint(range.len, ==, cases[i].n * 512);
		g_assert_cmpint(range.unmap, ==, cases[i].unmap);
	}
	/* Where nothing is given back, the flag asks for what need not be done. */
	limits.may_unmap = false;
	bytes_put_le(bytes, 8, 8);
	bytes_put_le(bytes + 8, 4, 8);
	bytes_put_le(bytes + 12, 4, 1);
	g_assert_cmpuint(virtio_blk_parse_range(&limits, VIRTIO_BLK_KIND_WRITE_ZEROES, bytes,
						&range),
			 ==, VIRTIO_BLK_S_OK);
	g_assert_false(range.unmap);
	limits.align = 4096;
	bytes_put_le(bytes + 8, 4, 1);
	g_assert_cmpuint(virtio_blk_parse_range(&limits, VIRTIO_BLK_KIND_WRITE_ZEROES, bytes,
						&range),
			 ==, VIRTIO_BLK_S_IOERR);
}

/* --- configuration --- */

static uint64_t config_get(struct fixture *f, size_t off, unsigned int len)
{
	return bytes_get_le(f->driver.dev->config + off, len);
}

static void test_config(void)
{
	struct fixture f = { 0 };

	setup(&f, "sync", false, 1);
	g_assert_cmpuint(config_get(&f, 0, 8), ==, DISK_SIZE / 512);
	g_assert_cmpuint(config_get(&f, offsetof(struct virtio_blk_config, seg_max), 4), ==,
			 QUEUE_SIZE - 2);
	g_assert_cmpuint(config_get(&f, offsetof(struct virtio_blk_config, blk_size), 4), ==, 512);
	g_assert_cmpuint(config_get(&f, offsetof(struct virtio_blk_config, wce), 1), ==, 1);
	g_assert_cmpuint(config_get(&f,
				    offsetof(struct virtio_blk_config, max_write_zeroes_sectors),
				    4),
			 ==, 32768);
	g_assert_cmpuint(config_get(&f, offsetof(struct virtio_blk_config, max_write_zeroes_seg),
				    4),
			 ==, VIRTIO_BLK_RANGES_MAX);
	g_assert_cmpuint(f.driver.dev->config_size, ==, 60); /* 5.2.4, without secure erase */
	g_assert_false(f.driver.dev->features_offered & VIRTIO_FEATURE(VIRTIO_BLK_F_MQ));
	g_assert_false(f.driver.dev->features_offered & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	teardown(&f);
}

static void write_wce(struct fixture *f, uint32_t off, uint8_t value)
{
	pthread_mutex_lock(&f->driver.dev->lock);
	f->driver.dev->ops->config_write(f->driver.dev, off, &value, 1);
	pthread_mutex_unlock(&f->driver.dev->lock);
}

static void test_writeback(void)
{
	const uint32_t wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_blk_state *st;
	struct fixture f = { 0 };
	uint64_t gpa;

	setup(&f, "sync", false, 1);
	st = f.driver.dev->ops->state_ptr(f.driver.dev);
	mock_driver_start(&f.driver, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 512, 512);
	write_wce(&f, wce, 0);
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 0);
	g_assert_false(st->writeback);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_OUT, 0, gpa, 512, false, NULL), ==,
			 VIRTIO_BLK_S_OK);
	write_wce(&f, 0, 9); /* the capacity is not the driver's */
	g_assert_cmpuint(config_get(&f, 0, 8), ==, DISK_SIZE / 512);
	write_wce(&f, wce, 1);
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 1);
	write_wce(&f, wce, 0);
	mock_driver_reset(&f.driver);
	g_assert_true(st->writeback);
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 1);

	/* restored state takes effect at activation */
	st->writeback = false;
	mock_driver_start(&f.driver, FEATURES_ALL);
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 0);
	mock_driver_reset(&f.driver);

	/* 5.2.5.2: CONFIG_WCE without FLUSH starts, and stays, write-through */
	mock_driver_start(&f.driver, FEATURES_MIN | VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE));
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 0);
	write_wce(&f, wce, 1);
	g_assert_cmpuint(config_get(&f, wce, 1), ==, 0);
	mock_driver_reset(&f.driver);

	/* not negotiated: the field is not the driver's */
	mock_driver_start(&f.driver, FEATURES_MIN | VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH));
	write_wce(&f, wce, 0);
	g_assert_true(st->writeback);
	teardown(&f);
}

static void test_bad_params(void)
{
	static const struct {
		struct virtio_blk_params params;
		const char *text;
	} cases[] = {
		{ { .id = "d", .n_queues = 0, .queue_size = 64 },
		  "disk 'd': num_queues is 0: 1 to 64 are possible" },
		{ { .id = "d", .n_queues = 65, .queue_size = 64 },
		  "disk 'd': num_queues is 65: 1 to 64 are possible" },
		{ { .id = "d", .n_queues = 1, .queue_size = 2 },
		  "disk 'd': queue_size is 2: a power of two from 4 to 1024 is needed" },
		{ { .id = "d", .n_queues = 1, .queue_size = 100 },
		  "disk 'd': queue_size is 100: a power of two from 4 to 1024 is needed" },
		{ { .id = "d", .n_queues = 1, .queue_size = 64, .serial = "123456789012345678901" },
		  "disk 'd': serial '123456789012345678901' is longer than 20 bytes" },
		{ { .id = "d", .n_queues = 1, .queue_size = 64, .fd = -EBADF },
		  "disk 'd': cannot inspect the image's descriptor: Bad file descriptor" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct virtio_device *dev = NULL;
		struct err err = { 0 };

		g_assert_cmpint(virtio_blk_new(&cases[i].params, &dev, &err), <, 0);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_null(dev);
	}
}

/* Threads of queues run where they were put, and a place that does not exist is refused. */
static void test_affinity(void)
{
	static const uint32_t first[] = { 0 }, nowhere[] = { 8191 };
	struct virtio_blk_affinity affinity = { 1, first, 1 };
	struct virtio_blk_params params = {
		.id = "d", .n_queues = 2, .queue_size = 64, .affinity = &affinity, .n_affinity = 1
	};
	struct mock_driver driver;
	struct virtio_device *dev = NULL;
	struct err err = { 0 };
	cpu_set_t cpus, ours, after;

	g_assert_cmpint(sched_getaffinity(0, sizeof(ours), &ours), ==, 0);
	if (!CPU_ISSET(0, &ours)) {
		g_test_skip("this process may not use CPU 0");
		return;
	}
	params.fd = temp_file();
	if (virtio_blk_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpint(sched_getaffinity(0, sizeof(after), &after), ==, 0);
	g_assert_true(CPU_EQUAL(&ours, &after));
	mock_driver_init(&driver, dev, 16 << 20);
	mock_driver_start(&driver, FEATURES_ALL | VIRTIO_FEATURE(VIRTIO_BLK_F_MQ));
	pthread_getaffinity_np(dev->queues[1].loop->thread.handle, sizeof(cpus), &cpus);
	g_assert_cmpint(CPU_COUNT(&cpus), ==, 1);
	g_assert_true(CPU_ISSET(0, &cpus));
	pthread_getaffinity_np(dev->queues[0].loop->thread.handle, sizeof(cpus), &cpus);
	g_assert_true(CPU_EQUAL(&ours, &cpus));
	mock_driver_deinit(&driver);

	affinity.host_cpus = nowhere;
	params.fd = temp_file();
	dev = NULL;
	g_assert_cmpint(virtio_blk_new(&params, &dev, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"disk 'd': queue 1 cannot be bound to the host's CPUs of queue_affinity: "
			"Invalid argument");
	err_clear(&err);
	affinity.queue = 2;
	g_assert_cmpint(virtio_blk_new(&params, &dev, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "disk 'd': queue_affinity is for queue 2, there are 2");
	close(params.fd);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/blk/parse", test_parse);
	g_test_add_func("/virtio/blk/parse/aligned", test_parse_aligned);
	g_test_add_func("/virtio/blk/parse/range", test_parse_range);
	g_test_add_func("/virtio/blk/config", test_config);
	g_test_add_func("/virtio/blk/writeback", test_writeback);
	g_test_add_func("/virtio/blk/bad-params", test_bad_params);
	g_test_add_func("/virtio/blk/affinity", test_affinity);
	return g_test_run();
}
