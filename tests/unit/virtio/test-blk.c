/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk from the driver's side: every request, every malformed one, both
 * engines; reset and pause with requests in flight.
 */
#include "vmm/virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_blk.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"

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

static int temp_file(void)
{
	char path[] = "/tmp/brume-test-blk-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
	return fd;
}

static void setup(struct fixture *f, const char *engine, bool readonly, uint16_t n_queues)
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

static void start(struct fixture *f, const char *engine, uint64_t features)
{
	setup(f, engine, false, 1);
	mock_driver_start(&f->driver, features);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	close(f->disk);
}

/* {type, ioprio, sector} in guest RAM */
static struct mock_buf header(struct fixture *f, uint32_t type, uint64_t sector)
{
	struct {
		le32 type, ioprio;
		le64 sector;
	} h = { le32_make(type), le32_make(0), le64_make(sector) };

	return (struct mock_buf){ mock_put(&f->driver, &h, sizeof(h)), sizeof(h), false };
}

static struct mock_buf status(struct fixture *f)
{
	const uint8_t unset = 0xff;

	return (struct mock_buf){ mock_put(&f->driver, &unset, 1), 1, true };
}

/* One request with one data buffer; returns the status. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint64_t data_gpa,
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

static void fill(uint8_t *buf, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 13 + (i >> 8));
}

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

/* --- requests --- */

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

/* --- malformed chains: the device breaks, the process does not, a reset heals --- */

static void bad_half_header(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0), status(f) };

	bufs[0].len = 15;
	mock_queue_add(f->mq, bufs, 2);
}

static void bad_no_status(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_FLUSH, 0) };

	mock_queue_add(f->mq, bufs, 1);
}

static void bad_header_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { { 1ULL << 40, 16, false }, status(f) };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_data_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0),
				   { UINT64_MAX - 511, 512, true },
				   status(f) };

	mock_queue_add(f->mq, bufs, 3);
}

static void bad_data_leaves_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0),
				   { (16 << 20) - 512, 1024, true },
				   status(f) };

	mock_queue_add(f->mq, bufs, 3);
}

static void bad_status_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_FLUSH, 0), { 16 << 20, 1, true } };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_status_outside_ram_refused(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, 1234, 0), { 16 << 20, 1, true } };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_order(struct fixture *f)
{
	struct mock_buf bufs[] = { status(f), header(f, VIRTIO_BLK_T_FLUSH, 0) };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_loop(struct fixture *f)
{
	struct mock_buf h = header(f, VIRTIO_BLK_T_IN, 0);

	mock_queue_set_desc(f->mq, 0, h.gpa, 16, VIRTQ_DESC_F_NEXT, 1);
	mock_queue_set_desc(f->mq, 1, h.gpa, 16, VIRTQ_DESC_F_NEXT, 0);
	mock_queue_publish(f->mq, 0);
}

static void bad_head(struct fixture *f)
{
	mock_queue_publish(f->mq, QUEUE_SIZE);
}

static void bad_avail_idx(struct fixture *f)
{
	mock_queue_set_avail_idx(f->mq, QUEUE_SIZE + 1);
}

/* The same head made available again before it came back. */
static void bad_duplicate_head(struct fixture *f)
{
	uint64_t gpa = mock_alloc(&f->driver, 512, 512);
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0), { gpa, 512, true }, status(f) };
	uint16_t head = mock_queue_add(f->mq, bufs, 3);

	mock_queue_publish(f->mq, head);
}

static void test_malformed(const void *engine)
{
	static const struct {
		const char *name;
		void (*make)(struct fixture *f);
	} cases[] = {
		{ "half a header", bad_half_header },
		{ "no status byte", bad_no_status },
		{ "header outside RAM", bad_header_outside_ram },
		{ "data outside RAM", bad_data_outside_ram },
		{ "data leaves RAM", bad_data_leaves_ram },
		{ "status outside RAM", bad_status_outside_ram },
		{ "status outside RAM, refused request", bad_status_outside_ram_refused },
		{ "writable before readable", bad_order },
		{ "loop", bad_loop },
		{ "head beyond the table", bad_head },
		{ "index too far ahead", bad_avail_idx },
		{ "duplicate head", bad_duplicate_head },
	};
	struct fixture f = { 0 };
	uint64_t gpa;

	setup(&f, engine, false, 1);
	gpa = mock_alloc(&f.driver, 512, 512);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("%s", cases[i].name);
		mock_driver_start(&f.driver, FEATURES_ALL);
		cases[i].make(&f);
		mock_queue_kick(f.mq);
		mock_driver_wait_broken(&f.driver);
		/* a broken device takes nothing more */
		mock_queue_kick(f.mq);
		mock_driver_reset(&f.driver);
		g_assert_false(virtio_device_is_broken(f.driver.dev));
		mock_driver_start(&f.driver, FEATURES_ALL);
		g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 0, gpa, 512, true, NULL), ==,
				 VIRTIO_BLK_S_OK);
		mock_driver_reset(&f.driver);
	}
	teardown(&f);
}

/* --- reset and pause --- */

static void add_reads(struct fixture *f, uint64_t gpa, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, i),
						 { gpa + 512 * i, 512, true },
						 status(f) };

		mock_queue_add(f->mq, bufs, 3);
	}
}

static void test_reset_in_flight(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa, base;

	setup(&f, engine, false, 1);
	gpa = mock_alloc(&f.driver, 20 * 512, 512);
	base = f.driver.alloc_gpa;
	for (unsigned int round = 0; round < 100; round++) {
		f.driver.alloc_gpa = base;
		mock_driver_start(&f.driver, FEATURES_ALL);
		add_reads(&f, gpa, 20);
		mock_queue_kick(f.mq);
		if (round % 2)
			mock_queue_wait(f.mq, NULL);
		mock_driver_reset(&f.driver);
		g_assert_cmpuint(f.mq->q->st.next_avail, ==, 0);
	}
	teardown(&f);
}

static void test_pause_in_flight(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa;

	start(&f, engine, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 40 * 512, 512);
	add_reads(&f, gpa, 20);
	mock_queue_kick(f.mq);
	virtio_device_pause(f.driver.dev);
	/* Whatever was taken has come back: the saved indexes tell the whole truth. */
	g_assert_cmpuint(f.mq->q->st.next_avail, ==, f.mq->q->st.next_used);
	while (f.mq->seen_used != f.mq->q->st.next_used)
		mock_queue_wait(f.mq, NULL);
	g_assert_true(mock_queue_idle(f.mq));
	mock_queue_kick(f.mq);
	virtio_device_resume(f.driver.dev);
	while (f.mq->seen_used != 20)
		mock_queue_wait(f.mq, NULL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_ops"), ==, 20);
	teardown(&f);
}

/* --- another size, another image --- */

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

static void test_conformance(const void *engine)
{
	struct fixture f = { 0 };

	setup(&f, engine, false, 2);
	mock_driver_conformance(&f.driver, FEATURES_ALL);
	teardown(&f);
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

/* An engine that cannot be had fails the activation and leaves nothing behind. */
static void test_activate_fails(void)
{
	struct fixture f = { 0 };
	struct err err = { 0 };

	setup(&f, "nonesuch", false, 2);
	g_assert_cmpint(mock_driver_try_start(&f.driver, FEATURES_ALL, &err), ==, -EINVAL);
	g_assert_nonnull(strstr(err.msg, "'_disk0'"));
	g_assert_nonnull(strstr(err.msg, "there is no I/O engine 'nonesuch'"));
	g_assert_false(f.driver.dev->active);
	teardown(&f);
}

static void add_for_engines(const char *name, void (*fn)(const void *engine))
{
	static const char *const engines[] = { "sync", "aio", "io_uring" };

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		g_autofree char *path = g_strdup_printf("/virtio/blk/%s/%s", engines[i], name);

		g_test_add_data_func(path, engines[i], fn);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/blk/parse", test_parse);
	g_test_add_func("/virtio/blk/parse/aligned", test_parse_aligned);
	g_test_add_func("/virtio/blk/parse/range", test_parse_range);
	g_test_add_func("/virtio/blk/config", test_config);
	g_test_add_func("/virtio/blk/affinity", test_affinity);
	g_test_add_func("/virtio/blk/writeback", test_writeback);
	g_test_add_func("/virtio/blk/bad-params", test_bad_params);
	g_test_add_func("/virtio/blk/activate-fails", test_activate_fails);
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
	add_for_engines("malformed", test_malformed);
	add_for_engines("reset-in-flight", test_reset_in_flight);
	add_for_engines("pause-in-flight", test_pause_in_flight);
	add_for_engines("conformance", test_conformance);
	add_for_engines("resize", test_resize);
	add_for_engines("replace", test_replace);
	g_test_add_func("/virtio/blk/resize/allocated", test_resize_allocated);
	return g_test_run();
}
