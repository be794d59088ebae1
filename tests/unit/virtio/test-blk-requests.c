/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: every request, on every engine
 */
#include <sys/stat.h>

#include "tests/unit/virtio/blk-fixture.h"

static void fill(uint8_t *buf, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 13 + (i >> 8));
}

static void test_read_write(const void *engine)
{
	struct fixture f = { 0 };
	static uint8_t out[8192], back[8192];
	uint64_t data;
	uint32_t used;

	start(&f, engine, FEATURES_ALL);
	fill(out, sizeof(out), 1);
	data = mock_put(&f.driver, out, sizeof(out));
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_OUT, 16, data, 8192, false, &used), ==,
			 VIRTIO_BLK_S_OK);
	g_assert_cmpuint(used, ==, 1);
	g_assert_cmpint(pread(f.disk, back, 8192, 8192), ==, 8192);
	g_assert_cmpmem(back, 8192, out, 8192);

	data = mock_alloc(&f.driver, 8192, 1);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 16, data, 8192, true, &used), ==,
			 VIRTIO_BLK_S_OK);
	g_assert_cmpuint(used, ==, 8193);
	mock_read(&f.driver, data, back, 8192);
	g_assert_cmpmem(back, 8192, out, 8192);

	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_FLUSH, 0, data, 0, true, &used), ==,
			 VIRTIO_BLK_S_OK);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_bytes"), ==, 8192);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_ops"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "write_bytes"), ==, 8192);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "write_ops"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "flush_ops"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "errors"), ==, 0);
	/* one of each: the longest is the sum */
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_latency_ns"), >, 0);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_latency_ns"), ==,
			 mock_driver_counter(&f.driver, "read_latency_max_ns"));
	g_assert_cmpuint(mock_driver_counter(&f.driver, "write_latency_ns"), ==,
			 mock_driver_counter(&f.driver, "write_latency_max_ns"));
	g_assert_cmpuint(mock_driver_counter(&f.driver, "flush_latency_max_ns"), >, 0);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "discard_latency_ns"), ==, 0);
	teardown(&f);
}

/* Header and status in pieces, as 2.7.4 allows any framing. */
static void test_framing(const void *engine)
{
	struct fixture f = { 0 };
	struct mock_buf h, s, bufs[5];
	uint8_t out[1024], back[1024];
	uint64_t data;

	start(&f, engine, FEATURES_MIN);
	fill(out, sizeof(out), 8);
	data = mock_put(&f.driver, out, sizeof(out));
	h = header(&f, VIRTIO_BLK_T_OUT, 0);
	s = status(&f);
	bufs[0] = (struct mock_buf){ h.gpa, 7, false };
	bufs[1] = (struct mock_buf){ h.gpa + 7, 0, false }; /* empty buffers are legal */
	bufs[2] = (struct mock_buf){ h.gpa + 7, 9, false };
	bufs[3] = (struct mock_buf){ data, 1024, false };
	bufs[4] = s;
	mock_queue_do(f.mq, bufs, 5);
	g_assert_cmpuint(mock_read_u8(&f.driver, s.gpa), ==, VIRTIO_BLK_S_OK);
	/* data and status share a buffer */
	h = header(&f, VIRTIO_BLK_T_IN, 0);
	data = mock_alloc(&f.driver, 1025, 1);
	bufs[0] = h;
	bufs[1] = (struct mock_buf){ data, 1025, true };
	g_assert_cmpuint(mock_queue_do(f.mq, bufs, 2), ==, 1025);
	g_assert_cmpuint(mock_read_u8(&f.driver, data + 1024), ==, VIRTIO_BLK_S_OK);
	mock_read(&f.driver, data, back, 1024);
	g_assert_cmpmem(back, 1024, out, 1024);
	teardown(&f);
}

static void test_get_id(const void *engine)
{
	struct fixture f = { 0 };
	uint8_t id[20];
	uint32_t used;
	uint64_t gpa;

	start(&f, engine, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 20, 1);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_GET_ID, 0, gpa, 20, true, &used), ==,
			 VIRTIO_BLK_S_OK);
	mock_read(&f.driver, gpa, id, 20);
	g_assert_cmpmem(id, 20, "_disk0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	g_assert_cmpuint(used, ==, 21);
	teardown(&f);
}

/* Requests that are answered with an error and leave the device working. */
static void test_refused(const void *engine)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		bool read;
		uint8_t want;
	} cases[] = {
		{ "past the end", VIRTIO_BLK_T_IN, 2048, 512, true, VIRTIO_BLK_S_IOERR },
		{ "straddles the end", VIRTIO_BLK_T_OUT, 2047, 1024, false, VIRTIO_BLK_S_IOERR },
		{ "part of a sector", VIRTIO_BLK_T_OUT, 0, 100, false, VIRTIO_BLK_S_IOERR },
		{ "unknown type", 99, 0, 512, true, VIRTIO_BLK_S_UNSUPP },
		{ "half a range", VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, false, VIRTIO_BLK_S_IOERR },
		{ "secure erase", VIRTIO_BLK_T_SECURE_ERASE, 0, 16, false, VIRTIO_BLK_S_UNSUPP },
		{ "fine", VIRTIO_BLK_T_IN, 0, 512, true, VIRTIO_BLK_S_OK },
	};
	struct fixture f = { 0 };
	uint64_t gpa;

	start(&f, engine, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 4096, 512);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("%s", cases[i].name);
		g_assert_cmpuint(request(&f, cases[i].type, cases[i].sector, gpa, cases[i].len,
					 cases[i].read, NULL),
				 ==, cases[i].want);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "errors"), ==, 6);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

struct range {
	uint64_t sector;
	uint32_t n, flags;
};

/* One DISCARD or WRITE_ZEROES; returns the status. */
static uint8_t ranged(struct fixture *f, uint32_t type, const struct range *ranges, size_t n)
{
	uint8_t bytes[16 * 16];
	uint64_t gpa;

	for (size_t i = 0; i < n; i++) {
		bytes_put_le(bytes + i * 16, 8, ranges[i].sector);
		bytes_put_le(bytes + i * 16 + 8, 4, ranges[i].n);
		bytes_put_le(bytes + i * 16 + 12, 4, ranges[i].flags);
	}
	gpa = mock_put(&f->driver, bytes, n * 16);
	return request(f, type, 0, gpa, (uint32_t)(n * 16), false, NULL);
}

static bool can_punch(const struct fixture *f)
{
	if (f->driver.dev->features_offered & VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD))
		return true;
	g_test_skip("the file system of /tmp cannot punch holes");
	return false;
}

/* Several ranges in one request, empty ones among them; what lies between them stays. */
static void test_ranges(const void *engine)
{
	static const struct range ranges[] = { { 8, 8, 0 },    { 0, 0, 0 },      { 64, 1, 0 },
					       { 2047, 1, 0 }, { 1024, 128, 0 }, { 5, 0, 0 } };
	static const struct range bad[] = { { 0, 8, 0 }, { 2048, 1, 0 } };
	static const struct range unknown[] = { { 0, 8, 0 }, { 16, 8, 4 } };
	static uint8_t out[DISK_SIZE], back[DISK_SIZE];
	const uint64_t features[] = { FEATURES_ALL, FEATURES_MIN }; /* write-back, write-through */

	for (size_t k = 0; k < ARRAY_SIZE(features) * 2; k++) {
		uint32_t type = k & 1 ? VIRTIO_BLK_T_WRITE_ZEROES : VIRTIO_BLK_T_DISCARD;
		const char *counter = k & 1 ? "write_zeroes_bytes" : "discard_bytes";
		struct fixture f = { 0 };

		start(&f, engine, features[k / 2]);
		if (!can_punch(&f)) {
			teardown(&f);
			return;
		}
		fill(out, sizeof(out), 3);
		g_assert_cmpint(pwrite(f.disk, out, sizeof(out), 0), ==, sizeof(out));
		g_assert_cmpuint(ranged(&f, type, ranges, ARRAY_SIZE(ranges)), ==, VIRTIO_BLK_S_OK);
		for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
			memset(out + ranges[i].sector * 512, 0, ranges[i].n * 512UL);
		/* Discarding part of a file system's block may leave it as it is. */
		g_assert_cmpint(pread(f.disk, back, sizeof(back), 0), ==, sizeof(back));
		g_assert_cmpmem(back, sizeof(back), out, sizeof(out));
		g_assert_cmpuint(mock_driver_counter(&f.driver, counter), ==, 138 * 512);
		/* One range that is wrong refuses all of them, before anything is done. */
		g_assert_cmpuint(ranged(&f, type, bad, ARRAY_SIZE(bad)), ==, VIRTIO_BLK_S_IOERR);
		g_assert_cmpuint(ranged(&f, type, unknown, ARRAY_SIZE(unknown)), ==,
				 VIRTIO_BLK_S_UNSUPP);
		g_assert_cmpuint(ranged(&f, type, ranges + 1, 1), ==, VIRTIO_BLK_S_OK);
		g_assert_cmpint(pread(f.disk, back, sizeof(back), 0), ==, sizeof(back));
		g_assert_cmpmem(back, sizeof(back), out, sizeof(out));
		g_assert_false(virtio_device_is_broken(f.driver.dev));
		teardown(&f);
	}
}

static blkcnt_t allocated(const struct fixture *f)
{
	struct stat st = { 0 };

	fsync(f->disk);
	fstat(f->disk, &st);
	return st.st_blocks;
}

/* Discard and zeroes with unmap give storage back; neither does for a disk that keeps it. */
static void test_unmap(const void *engine)
{
	static const struct range all = { 0, 2048, 0 }, all_unmap = { 0, 2048, 1 };
	static const uint8_t out[DISK_SIZE] = { 1, 2, 3 };

	for (int keep = 0; keep < 2; keep++) {
		struct fixture f = { .keep_allocated = keep };
		blkcnt_t full;
		uint64_t offered;

		start(&f, engine, FEATURES_ALL);
		if (!keep && !can_punch(&f)) {
			teardown(&f);
			return;
		}
		g_assert_cmpint(pwrite(f.disk, out, sizeof(out), 0), ==, sizeof(out));
		full = allocated(&f);
		g_assert_cmpuint(ranged(&f, VIRTIO_BLK_T_WRITE_ZEROES, &all, 1), ==,
				 VIRTIO_BLK_S_OK);
		g_assert_cmpint(allocated(&f), ==, full);
		g_assert_cmpuint(ranged(&f, VIRTIO_BLK_T_WRITE_ZEROES, &all_unmap, 1), ==,
				 VIRTIO_BLK_S_OK);
		offered = f.driver.dev->features_offered;
		if (keep) {
			g_assert_cmpint(allocated(&f), ==, full);
			g_assert_false(offered & VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD));
			g_assert_cmpuint(ranged(&f, VIRTIO_BLK_T_DISCARD, &all, 1), ==,
					 VIRTIO_BLK_S_UNSUPP);
		} else {
			g_assert_cmpint(allocated(&f), <, full);
			g_assert_cmpint(pwrite(f.disk, out, sizeof(out), 0), ==, sizeof(out));
			g_assert_cmpuint(ranged(&f, VIRTIO_BLK_T_DISCARD, &all, 1), ==,
					 VIRTIO_BLK_S_OK);
			g_assert_cmpint(allocated(&f), <, full);
		}
		g_assert_true(offered & VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES));
		teardown(&f);
	}
}

static void test_readonly(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa;
	uint8_t back[512];

	setup(&f, engine, true, 1);
	g_assert_true(f.driver.dev->features_offered & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	mock_driver_start(&f.driver, FEATURES_MIN); /* refused although RO was not accepted */
	gpa = mock_put(&f.driver, "x", 1);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_OUT, 0, gpa, 512, false, NULL), ==,
			 VIRTIO_BLK_S_IOERR);
	g_assert_cmpint(pread(f.disk, back, 512, 0), ==, 512);
	g_assert_cmpuint(back[0], ==, 0);
	g_assert_false(
		f.driver.dev->features_offered &
		(VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES)));
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_FLUSH, 0, gpa, 0, true, NULL), ==,
			 VIRTIO_BLK_S_OK);
	teardown(&f);
}

/* The host's file has shrunk: an error for the guest, a counter, and the disk goes on. */
static void test_io_error(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa;

	start(&f, engine, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 512, 512);
	g_assert_cmpint(ftruncate(f.disk, 4096), ==, 0);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 16, gpa, 512, true, NULL), ==,
			 VIRTIO_BLK_S_IOERR);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "errors"), ==, 1);
	g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 0, gpa, 512, true, NULL), ==,
			 VIRTIO_BLK_S_OK);
	teardown(&f);
}

/* More large requests than there are large vectors: the queue stalls and goes on. */
static void test_many_segments(const void *engine)
{
	enum {
		N_SEGS = 32,
		N_REQS = 40
	};
	struct fixture f = { 0 };
	struct mock_buf bufs[N_SEGS + 2], stats[N_REQS];
	static uint8_t out[N_SEGS * 512], back[N_SEGS * 512];
	uint64_t data;

	start(&f, engine, FEATURES_ALL);
	fill(out, sizeof(out), 2);
	data = mock_put(&f.driver, out, sizeof(out));
	for (unsigned int i = 0; i < N_REQS; i++) {
		bufs[0] = header(&f, VIRTIO_BLK_T_OUT, i * N_SEGS);
		for (unsigned int j = 0; j < N_SEGS; j++)
			bufs[1 + j] = (struct mock_buf){ data + 512 * j, 512, false };
		stats[i] = bufs[N_SEGS + 1] = status(&f);
		mock_queue_add_indirect(f.mq, bufs, N_SEGS + 2);
	}
	mock_queue_kick(f.mq);
	for (unsigned int i = 0; i < N_REQS; i++)
		mock_queue_wait(f.mq, NULL);
	for (unsigned int i = 0; i < N_REQS; i++) {
		g_assert_cmpuint(mock_read_u8(&f.driver, stats[i].gpa), ==, VIRTIO_BLK_S_OK);
		g_assert_cmpint(pread(f.disk, back, sizeof(back), (off_t)(i * sizeof(back))), ==,
				sizeof(back));
		g_assert_cmpmem(back, sizeof(back), out, sizeof(out));
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "write_ops"), ==, N_REQS);
	teardown(&f);
}

/* A full ring over and over, kicked once a batch, with and without the event index. */
static void test_batches(const void *engine)
{
	enum {
		N = QUEUE_SIZE / 3
	};
	static const uint64_t features[] = { FEATURES_MIN, FEATURES_ALL };

	for (size_t k = 0; k < ARRAY_SIZE(features); k++) {
		struct fixture f = { 0 };
		uint64_t gpa, base;
		uint32_t used;

		start(&f, engine, features[k]);
		gpa = mock_alloc(&f.driver, N * 512, 512);
		base = f.driver.alloc_gpa;
		for (unsigned int round = 0; round < 200; round++) {
			f.driver.alloc_gpa = base;
			for (unsigned int i = 0; i < N; i++) {
				const struct mock_buf bufs[] = {
					header(&f, VIRTIO_BLK_T_IN, i),
					{ gpa + 512 * i, 512, true },
					status(&f),
				};

				mock_queue_add(f.mq, bufs, 3);
				if (i == 0 || i == N / 2)
					mock_queue_kick(f.mq);
			}
			mock_queue_kick(f.mq);
			for (unsigned int i = 0; i < N; i++) {
				mock_queue_wait(f.mq, &used);
				g_assert_cmpuint(used, ==, 513);
			}
		}
		g_assert_cmpuint(mock_driver_counter(&f.driver, "read_ops"), ==, 200 * N);
		teardown(&f);
	}
}

static void test_multi_queue(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa;
	uint16_t n;

	setup(&f, engine, false, 4);
	memcpy(&n, f.driver.dev->config + offsetof(struct virtio_blk_config, num_queues), 2);
	g_assert_cmpuint(le16toh(n), ==, 4);
	mock_driver_start(&f.driver, FEATURES_ALL | VIRTIO_FEATURE(VIRTIO_BLK_F_MQ));
	gpa = mock_alloc(&f.driver, 4 * 512, 512);
	for (unsigned int round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < 4; i++) {
			const struct mock_buf bufs[] = { header(&f, VIRTIO_BLK_T_IN, i),
							 { gpa + 512 * i, 512, true },
							 status(&f) };

			mock_queue_add(&f.driver.queues[i], bufs, 3);
			mock_queue_kick(&f.driver.queues[i]);
		}
		for (unsigned int i = 0; i < 4; i++)
			mock_queue_wait(&f.driver.queues[i], NULL);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_ops"), ==, 400);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_for_engines("read-write", test_read_write);
	add_for_engines("framing", test_framing);
	add_for_engines("get-id", test_get_id);
	add_for_engines("refused", test_refused);
	add_for_engines("ranges", test_ranges);
	add_for_engines("unmap", test_unmap);
	add_for_engines("readonly", test_readonly);
	add_for_engines("io-error", test_io_error);
	add_for_engines("many-segments", test_many_segments);
	add_for_engines("batches", test_batches);
	add_for_engines("multi-queue", test_multi_queue);
	return g_test_run();
}
