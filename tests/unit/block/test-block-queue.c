/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_queue over each engine on temporary files, and over a format and an
 * engine of the test that fragment, stop short and fail.
 */
#include "vmm/block/block-queue.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define DEPTH 8

static const char *const engine_names[] = { "sync", "aio", "io_uring" };

static int temp_file(uint64_t size)
{
	char path[] = "/tmp/brume-test-block-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	return fd;
}

static struct block_image *open_image(int fd)
{
	const struct block_image_params params = { .id = "t" };
	struct block_image *img = NULL;
	struct err err = { 0 };

	if (block_image_open(&block_format_raw, fd, &params, &img, &err) < 0)
		g_error("%s", err.msg);
	return img;
}

/* NULL when the host has no such engine. */
static struct block_queue *open_queue(struct block_image *img, const char *engine)
{
	struct block_queue *bq = NULL;
	struct err err = { 0 };
	int r = block_queue_new(img, engine, DEPTH, &bq, &err);

	if (r == -ENOSYS || r == -EPERM) {
		g_test_skip(err.msg);
		return NULL;
	}
	if (r < 0)
		g_error("%s", err.msg);
	g_assert_cmpstr(block_queue_engine_name(bq), ==, engine);
	return bq;
}

static void init_rw(struct block_request *req, enum block_op op, uint64_t off, struct iovec *iov,
		    unsigned int n_iov)
{
	*req = (struct block_request){ .op = op, .off = off, .iov = iov, .n_iov = n_iov };
	for (unsigned int i = 0; i < n_iov; i++)
		req->len += iov[i].iov_len;
}

static int run_one(struct block_queue *bq, struct block_request *req)
{
	block_queue_add(bq, req);
	block_queue_submit(bq);
	block_queue_drain(bq);
	g_assert_true(block_queue_reap(bq) == req);
	g_assert_null(block_queue_reap(bq));
	g_assert_cmpuint(block_queue_n_in_flight(bq), ==, 0);
	return req->result;
}

static int run_rw(struct block_queue *bq, enum block_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct block_request req;

	init_rw(&req, op, off, &iov, 1);
	return run_one(bq, &req);
}

static int run_flush(struct block_queue *bq)
{
	struct block_request req = { .op = BLOCK_OP_FLUSH };

	return run_one(bq, &req);
}

static void fill(uint8_t *buf, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void test_round_trip(const void *engine)
{
	int fd = temp_file(1 << 20);
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	static uint8_t out[8192], in[8192], on_file[8192];
	struct iovec write_iov[3] = { { out, 512 }, { out + 512, 0 }, { out + 512, 7680 } };
	struct iovec read_iov[2] = { { in, 1 }, { in + 1, 8191 } };
	struct block_request req;

	if (!bq)
		return;
	fill(out, sizeof(out), 1);
	init_rw(&req, BLOCK_OP_WRITE, 4096, write_iov, 3);
	g_assert_cmpint(run_one(bq, &req), ==, 0);
	g_assert_cmpint(run_flush(bq), ==, 0);
	init_rw(&req, BLOCK_OP_READ, 4096, read_iov, 2);
	g_assert_cmpint(run_one(bq, &req), ==, 0);
	g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
	g_assert_cmpint(pread(fd, on_file, sizeof(on_file), 4096), ==, sizeof(on_file));
	g_assert_cmpmem(on_file, sizeof(on_file), out, sizeof(out));
	/* a request of no bytes is legal */
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, in, 0), ==, 0);
}

/* Discard and zeroes go to the file, and only to where they belong. */
static void test_zeroes(const void *engine)
{
	static const struct {
		const char *name;
		enum block_op op;
		bool unmap, frees;
	} cases[] = {
		{ "discard", BLOCK_OP_DISCARD, false, true },
		{ "zeroes", BLOCK_OP_WRITE_ZEROES, false, false },
		{ "zeroes, unmap", BLOCK_OP_WRITE_ZEROES, true, true },
	};
	static uint8_t out[1 << 20], in[1 << 20];
	int fd = temp_file(sizeof(out));
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);

	if (!bq)
		return;
	g_assert_true(img->can_write_zeroes);
	if (!img->can_discard) {
		g_test_skip("the file system of /tmp cannot punch holes");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct block_request req = { .op = cases[i].op,
					     .unmap = cases[i].unmap,
					     .off = 256 << 10,
					     .len = 512 << 10 };
		struct stat before, after;

		g_test_message("%s", cases[i].name);
		fill(out, sizeof(out), 9);
		g_assert_cmpint(pwrite(fd, out, sizeof(out), 0), ==, sizeof(out));
		fsync(fd);
		fstat(fd, &before);
		g_assert_cmpint(run_one(bq, &req), ==, 0);
		g_assert_cmpint(run_flush(bq), ==, 0);
		fstat(fd, &after);
		memset(out + (256 << 10), 0, 512 << 10);
		g_assert_cmpint(pread(fd, in, sizeof(in), 0), ==, sizeof(in));
		g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
		g_assert_cmpint(after.st_size, ==, sizeof(out));
		if (cases[i].frees)
			g_assert_cmpint(after.st_blocks, <, before.st_blocks);
		else
			g_assert_cmpint(after.st_blocks, ==, before.st_blocks);
	}
}

/* A file that knows no such call: zeroes are written, a discard says so. */
static void test_fallocate_refused(void)
{
	static uint8_t out[1 << 20], in[1 << 20];
	int fd = temp_file(sizeof(out));
	struct block_io io = { .op = BLOCK_OP_WRITE_ZEROES, .off = 512, .len = (1 << 20) - 1024 };

	fill(out, sizeof(out), 4);
	g_assert_cmpint(pwrite(fd, out, sizeof(out), 0), ==, sizeof(out));
	g_assert_cmpint(block_io_after_fallocate(fd, &io, -ENOSPC), ==, -ENOSPC);
	g_assert_cmpint(block_io_after_fallocate(fd, &io, -EOPNOTSUPP), ==, 0);
	memset(out + 512, 0, (1 << 20) - 1024);
	g_assert_cmpint(pread(fd, in, sizeof(in), 0), ==, sizeof(in));
	g_assert_cmpmem(in, sizeof(in), out, sizeof(out));
	io.unmap = true;
	g_assert_cmpint(block_io_after_fallocate(fd, &io, -EOPNOTSUPP), ==, 0);
	io.op = BLOCK_OP_DISCARD;
	g_assert_cmpint(block_io_after_fallocate(fd, &io, -EOPNOTSUPP), ==, -ENOTTY);
	close(fd);
}

static void test_best_engine(void)
{
	static const struct {
		unsigned int without;
		const char *name;
	} cases[] = {
		{ BLOCK_WITHOUT_URING, "aio" },
		{ BLOCK_WITHOUT_URING | BLOCK_WITHOUT_AIO, "sync" },
		{ BLOCK_WITHOUT_AIO, "io_uring" },
		{ 0, "io_uring" },
	};
	int fd = temp_file(4096);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct block_engine *engine = NULL;
		struct err err = { 0 };

		if (block_engine_open_best(cases[i].without, &fd, 1, DEPTH, &engine, &err) < 0)
			g_error("%s", err.msg);
		/* A host may forbid io_uring. */
		if (strcmp(cases[i].name, "io_uring") != 0)
			g_assert_cmpstr(engine->ops->name, ==, cases[i].name);
		block_engine_free(engine);
	}
	close(fd);
}

static void test_dsync(const void *engine)
{
	int fd = temp_file(1 << 20);
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	uint8_t out[512], on_file[512];
	struct iovec iov = { out, sizeof(out) };
	struct block_request req;

	if (!bq)
		return;
	fill(out, sizeof(out), 3);
	init_rw(&req, BLOCK_OP_WRITE, 0, &iov, 1);
	req.dsync = true;
	g_assert_cmpint(run_one(bq, &req), ==, 0);
	g_assert_cmpint(pread(fd, on_file, sizeof(on_file), 0), ==, sizeof(on_file));
	g_assert_cmpmem(on_file, sizeof(on_file), out, sizeof(out));
}

/* As deep as it goes, many times, collected through the descriptor a loop would watch. */
static void test_batch(const void *engine)
{
	int fd = temp_file(1 << 20);
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	static uint8_t bufs[DEPTH][4096];
	struct block_request reqs[DEPTH];
	struct iovec iovs[DEPTH];
	static uint8_t back[4096];

	if (!bq)
		return;
	for (unsigned int round = 0; round < 64; round++) {
		unsigned int n_done = 0;

		for (unsigned int i = 0; i < DEPTH; i++) {
			fill(bufs[i], 4096, round * DEPTH + i);
			iovs[i] = (struct iovec){ bufs[i], 4096 };
			init_rw(&reqs[i], BLOCK_OP_WRITE, 4096UL * i, &iovs[i], 1);
			block_queue_add(bq, &reqs[i]);
		}
		block_queue_submit(bq);
		while (n_done < DEPTH) {
			struct block_request *req = block_queue_reap(bq);
			struct pollfd p = { .fd = block_queue_event_fd(bq), .events = POLLIN };

			if (req) {
				g_assert_cmpint(req->result, ==, 0);
				n_done++;
			} else {
				g_assert_cmpint(p.fd, >=, 0);
				g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
			}
		}
		g_assert_cmpuint(block_queue_n_in_flight(bq), ==, 0);
		for (unsigned int i = 0; i < DEPTH; i++) {
			g_assert_cmpint(pread(fd, back, 4096, 4096L * i), ==, 4096);
			g_assert_cmpmem(back, 4096, bufs[i], 4096);
		}
	}
}

/* The file has shrunk under the disk: an error, and no endless loop. */
static void test_short_file(const void *engine)
{
	int fd = temp_file(64 << 10);
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	uint8_t buf[4096];

	if (!bq)
		return;
	g_assert_cmpint(ftruncate(fd, 6 << 10), ==, 0);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, buf, 4096), ==, 0);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 4096, buf, 4096), ==, -EIO);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 32 << 10, buf, 4096), ==, -EIO);
}

/* The host's file cannot grow: the write fails, and the queue goes on. */
static void test_file_limit(const void *engine)
{
	int fd = temp_file(64 << 10);
	_cleanup_(block_image_close_cleanup) struct block_image *img = open_image(fd);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	struct rlimit old, limit = { 8 << 10, RLIM_INFINITY };
	uint8_t buf[4096] = { 1 };
	int beyond, straddling, inside;

	if (!bq)
		return;
	signal(SIGXFSZ, SIG_IGN); /* the worker's threads block it */
	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
	limit.rlim_max = old.rlim_max;
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	beyond = run_rw(bq, BLOCK_OP_WRITE, 16 << 10, buf, 4096);
	straddling = run_rw(bq, BLOCK_OP_WRITE, (8 << 10) - 2048, buf, 4096);
	inside = run_rw(bq, BLOCK_OP_WRITE, 0, buf, 4096);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
	g_assert_cmpint(beyond, ==, -EFBIG);
	g_assert_cmpint(straddling, ==, -EFBIG);
	g_assert_cmpint(inside, ==, 0);
}

static void test_readonly_descriptor(const void *engine)
{
	int fd = temp_file(64 << 10), ro;
	char path[64];
	const struct block_image_params params = { .id = "t", .readonly = true };
	_cleanup_(block_image_close_cleanup) struct block_image *img = NULL;
	uint8_t buf[512] = { 0 };

	g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	g_assert_cmpint(ro, >=, 0);
	close(fd);
	g_assert_cmpint(block_image_open(&block_format_raw, ro, &params, &img, NULL), ==, 0);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(img, engine);
	if (!bq)
		return;
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, buf, 512), ==, 0);
	g_assert_cmpint(run_flush(bq), ==, 0);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_WRITE, 0, buf, 512), ==, -EBADF);
}

/* --- a format that is in pieces, on an engine that misbehaves --- */

#define PIECE 1024U

struct pieces {
	struct block_image base;
	bool fail_map;
};

/* Even pieces are in the file, in reverse order; odd ones are zero and appear when written. */
static int pieces_map(struct block_image *img, const struct block_access *access,
		      struct block_extent *ret)
{
	uint64_t off = access->off, piece = off / PIECE, last = img->size / PIECE - 1;

	if (container_of(img, struct pieces, base)->fail_map)
		return -EUCLEAN;
	*ret = (struct block_extent){ .len = MIN(access->len, PIECE - off % PIECE) };
	if (piece % 2 && access->op == BLOCK_OP_READ) {
		ret->kind = BLOCK_EXTENT_ZERO;
	} else {
		ret->kind = BLOCK_EXTENT_HOST;
		ret->off = (last - piece) * PIECE + off % PIECE;
	}
	return 0;
}

static int n_synced;

static int pieces_sync(struct block_image *img _unused_)
{
	n_synced++;
	return 0;
}

static const struct block_format_ops pieces_ops = {
	.name = "pieces",
	.map = pieces_map,
	.sync_metadata = pieces_sync,
};

static struct pieces make_pieces(int fd, uint64_t size)
{
	return (struct pieces){ .base = {
					.ops = &pieces_ops,
					.n_files = 1,
					.files = { fd },
					.size = size,
					.logical_block = 512,
					.physical_block = 512,
					.mem_align = 1,
					.off_align = 1,
				} };
}

static void test_fragments(const void *engine)
{
	_cleanup_close_ int fd = temp_file(16 * PIECE);
	struct pieces img = make_pieces(fd, 16 * PIECE);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(&img.base, engine);
	static uint8_t out[6 * PIECE], in[6 * PIECE], want[6 * PIECE], piece[PIECE];
	struct iovec iov[3] = { { out, 700 },
				{ out + 700, 1500 },
				{ out + 2200, 6 * PIECE - 2200 } };
	struct block_request req;

	if (!bq)
		return;
	fill(out, sizeof(out), 9);
	init_rw(&req, BLOCK_OP_WRITE, 512, iov, 3);
	g_assert_cmpint(run_one(bq, &req), ==, 0);
	g_assert_cmpint(pread(fd, piece, PIECE, 13 * PIECE), ==, PIECE);
	g_assert_cmpmem(piece, PIECE, out + 512 + PIECE, PIECE); /* piece 2 of the disk */

	memset(in, 0xff, sizeof(in));
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 512, in, sizeof(in)), ==, 0);
	memcpy(want, out, sizeof(out));
	for (unsigned int i = 1; i < 7; i += 2) /* odd pieces read as zero */
		memset(want + i * PIECE - 512, 0, PIECE);
	g_assert_cmpmem(in, sizeof(in), want, sizeof(want));

	n_synced = 0;
	g_assert_cmpint(run_flush(bq), ==, 0);
	g_assert_cmpint(n_synced, ==, 1);
	img.fail_map = true;
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, in, 512), ==, -EUCLEAN);
}

/* Direct I/O's demand on memory, as a file system would check it. */
static void test_bounce(const void *engine)
{
	_cleanup_close_ int fd = temp_file(1 << 20);
	struct pieces img = make_pieces(fd, 1 << 20);
	static const struct block_format_ops linear = { .name = "linear" };
	struct block_format_ops ops = linear;
	uint8_t *out = g_malloc(300 << 10), *in = g_malloc0(300 << 10);
	struct block_request reqs[3];
	struct iovec iovs[3];

	ops.map = block_format_raw.map;
	img.base.ops = &ops;
	img.base.mem_align = 512;
	img.base.off_align = 512;
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = open_queue(&img.base, engine);
	if (!bq) {
		g_free(out);
		g_free(in);
		return;
	}
	fill(out, 300 << 10, 5);
	/* three at once: they take turns with the one buffer */
	for (unsigned int i = 0; i < 3; i++) {
		iovs[i] = (struct iovec){ out + 1 + i * (90 << 10), 90 << 10 };
		init_rw(&reqs[i], BLOCK_OP_WRITE, i * (90UL << 10), &iovs[i], 1);
		block_queue_add(bq, &reqs[i]);
	}
	block_queue_drain(bq);
	for (unsigned int i = 0; i < 3; i++)
		g_assert_cmpint(block_queue_reap(bq)->result, ==, 0);
	for (unsigned int i = 0; i < 3; i++) {
		iovs[i] = (struct iovec){ in + 3 + i * (90 << 10), 90 << 10 };
		init_rw(&reqs[i], BLOCK_OP_READ, i * (90UL << 10), &iovs[i], 1);
		block_queue_add(bq, &reqs[i]);
	}
	block_queue_drain(bq);
	for (unsigned int i = 0; i < 3; i++)
		g_assert_cmpint(block_queue_reap(bq)->result, ==, 0);
	g_assert_cmpmem(in + 3, 270 << 10, out + 1, 270 << 10);
	g_free(out);
	g_free(in);
}

static void test_direct(const void *engine)
{
	/* not in /tmp, which may be a tmpfs without direct I/O */
	char path[] = "/var/tmp/brume-test-block-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	const struct block_image_params params = { .id = "t", .direct = true };
	_cleanup_(block_image_close_cleanup) struct block_image *img = NULL;
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = NULL;
	_cleanup_free_ uint8_t *out = malloc(64 << 10), *in = calloc(1, 64 << 10);
	struct err err = { 0 };

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(fd, 1 << 20), ==, 0);
	if (block_image_open(&block_format_raw, fd, &params, &img, &err) < 0) {
		g_test_skip(err.msg);
		close(fd);
		return;
	}
	g_assert_cmpuint(img->off_align, >=, 512);
	g_assert_cmpuint(img->logical_block, >=, img->off_align);
	bq = open_queue(img, engine);
	if (!bq)
		return;
	fill(out, 64 << 10, 4);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_WRITE, 4096, out + 1, 32 << 10), ==, 0);
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 4096, in + 5, 32 << 10), ==, 0);
	g_assert_cmpmem(in + 5, 32 << 10, out + 1, 32 << 10);
}

/* --- an engine that does as little as it may --- */

static int64_t scripted[17];
static unsigned int n_scripted, at_scripted;
static struct block_io *grudging_head;

static void grudging_submit(struct block_engine *engine _unused_, struct block_io *const *ios,
			    unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		ios[i]->result = at_scripted < n_scripted ? scripted[at_scripted++] : 1;
		ios[i]->next = grudging_head;
		grudging_head = ios[i];
	}
}

static unsigned int grudging_reap(struct block_engine *engine _unused_, struct block_io **ret,
				  unsigned int max _unused_, bool wait _unused_)
{
	if (!grudging_head)
		return 0;
	ret[0] = grudging_head;
	grudging_head = grudging_head->next;
	return 1;
}

static void grudging_free(struct block_engine *engine _unused_)
{
}

static void test_grudging_engine(void)
{
	static const struct {
		const char *name;
		int64_t script[ARRAY_SIZE(scripted)];
		unsigned int n;
		int want;
	} cases[] = {
		{ "whole", { 512 }, 1, 0 },
		{ "short", { 100, 1, 411 }, 3, 0 },
		{ "retry", { -EINTR, -EAGAIN, 512 }, 3, 0 },
		{ "short then error", { 100, -ENOSPC }, 2, -ENOSPC },
		{ "end", { 100, 0 }, 2, -EIO },
	};
	static const struct block_engine_ops ops = {
		.name = "grudging",
		.submit = grudging_submit,
		.reap = grudging_reap,
		.free = grudging_free,
	};
	struct block_engine engine = { .ops = &ops, .event_fd = -EBADF };
	_cleanup_close_ int fd = temp_file(4096);
	struct pieces img = make_pieces(fd, 4096);
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = NULL;
	uint8_t buf[512];

	g_assert_cmpint(block_queue_new_on(&img.base, &engine, DEPTH, &bq, NULL), ==, 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(scripted, cases[i].script, sizeof(scripted));
		n_scripted = cases[i].n;
		at_scripted = 0;
		g_test_message("%s", cases[i].name);
		g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, buf, 512), ==, cases[i].want);
		g_assert_cmpuint(at_scripted, ==, n_scripted);
	}
	/* -EAGAIN for ever becomes an error */
	for (unsigned int i = 0; i < ARRAY_SIZE(scripted); i++)
		scripted[i] = -EAGAIN;
	n_scripted = ARRAY_SIZE(scripted);
	at_scripted = 0;
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, buf, 512), ==, -EAGAIN);
}

static void test_no_such_engine(void)
{
	_cleanup_close_ int fd = temp_file(4096);
	struct pieces img = make_pieces(fd, 4096);
	struct block_queue *bq = NULL;
	struct err err = { 0 };

	g_assert_cmpint(block_queue_new(&img.base, "aio2", DEPTH, &bq, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"there is no I/O engine 'aio2': use 'io_uring', 'aio' or 'sync'");
	g_assert_cmpint(block_queue_new(&img.base, NULL, DEPTH, &bq, &err), ==, 0);
	block_queue_free(bq);
}

/* A host that forbids io_uring, by sysctl or seccomp: disks work all the same. */
static void test_fallback(void)
{
	static struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ARRAY_SIZE(filter), filter };
	_cleanup_(block_queue_free_cleanup) struct block_queue *bq = NULL;
	struct pieces img;
	struct err err = { 0 };
	uint8_t buf[512];
	int fd;

	if (!g_test_subprocess()) {
		g_test_trap_subprocess(NULL, 0, 0);
		g_test_trap_assert_passed();
		g_test_trap_assert_stderr("*cannot set up an io_uring: Operation not permitted; "
					  "disks do without the io_uring engine*");
		return;
	}
	fd = temp_file(4096);
	img = make_pieces(fd, 4096);
	g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
	g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), ==, 0);
	g_assert_cmpint(block_queue_new(&img.base, "io_uring", DEPTH, &bq, &err), ==, -EPERM);
	g_assert_cmpstr(err.msg, ==, "cannot set up an io_uring: Operation not permitted");
	g_assert_cmpint(block_queue_new(&img.base, NULL, DEPTH, &bq, NULL), ==, 0);
	g_assert_cmpstr(block_queue_engine_name(bq), ==, "aio");
	g_assert_cmpint(run_rw(bq, BLOCK_OP_READ, 0, buf, 512), ==, 0);
	close(fd);
}

static void add_for_engines(const char *name, void (*fn)(const void *engine))
{
	for (size_t i = 0; i < ARRAY_SIZE(engine_names); i++) {
		g_autofree char *path =
			g_strdup_printf("/block/queue/%s/%s", engine_names[i], name);

		g_test_add_data_func(path, engine_names[i], fn);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/queue/fallocate-refused", test_fallocate_refused);
	g_test_add_func("/block/queue/best-engine", test_best_engine);
	add_for_engines("round-trip", test_round_trip);
	add_for_engines("dsync", test_dsync);
	add_for_engines("zeroes", test_zeroes);
	add_for_engines("batch", test_batch);
	add_for_engines("short-file", test_short_file);
	add_for_engines("file-limit", test_file_limit);
	add_for_engines("readonly-descriptor", test_readonly_descriptor);
	add_for_engines("fragments", test_fragments);
	add_for_engines("bounce", test_bounce);
	add_for_engines("direct", test_direct);
	g_test_add_func("/block/queue/grudging-engine", test_grudging_engine);
	g_test_add_func("/block/queue/fallback", test_fallback);
	g_test_add_func("/block/queue/no-such-engine", test_no_such_engine);
	return g_test_run();
}
