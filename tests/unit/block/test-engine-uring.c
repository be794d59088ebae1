/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the io_uring engine does at once and what it leaves to its ring
 *
 * The linker hands its calls and its clock to functions here (meson.build): they count,
 * refuse, and make a write slow.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"

#define N     4U
#define BYTES 4096U
#define MS    1000000U

ssize_t __real_preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __real___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **ret, unsigned int submit,
			      unsigned int n_wait, sigset_t *mask);
int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **ret, unsigned int submit,
			      unsigned int n_wait, sigset_t *mask);

static unsigned int n_reads, n_writes;
static bool cold;             /* nothing is in the page cache */
static uint64_t time_ns = MS; /* as the engine sees it */
static uint64_t write_ns;     /* what a write takes */

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	n_reads++;
	g_assert_cmpint(flags, ==, RWF_NOWAIT);
	if (!cold)
		return __real_preadv64v2(fd, iov, n, off, flags);
	errno = EAGAIN;
	return -1;
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t off)
{
	n_writes++;
	time_ns += write_ns;
	return __real_pwritev64(fd, iov, n, off);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	g_assert_cmpint(clock, ==, CLOCK_MONOTONIC_COARSE);
	*ret = (struct timespec){ (time_t)(time_ns / 1000000000U), (long)(time_ns % 1000000000U) };
	return 0;
}

static bool refuse_wait; /* for completions */
static unsigned int n_refused;
static int late[2] = { -1, -1 }; /* a pipe that gets a byte by then */

int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **ret, unsigned int submit,
			      unsigned int n_wait, sigset_t *mask)
{
	if (!refuse_wait || n_wait == 0)
		return __real___io_uring_get_cqe(ring, ret, submit, n_wait, mask);
	n_refused++;
	if (n_refused == 1)
		g_assert_cmpint(write(late[1], "\x09", 1), ==, 1);
	return -EBADF;
}

struct fixture {
	int fd;
	struct block_engine *engine; /* NULL: the host has none */
	uint8_t *memory;
	struct iovec iov[N];
	struct block_io ios[N];
};

/* Not in /tmp: a tmpfs may have neither direct I/O nor reads that do not wait. */
static bool set_up(struct fixture *f, bool direct)
{
	char path[] = "/var/tmp/brume-test-uring-XXXXXX";
	struct err err = { 0 };
	int r;

	*f = (struct fixture){ .fd = mkostemp(path, O_CLOEXEC) };
	g_assert_cmpint(f->fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(f->fd, N * BYTES), ==, 0);
	f->memory = aligned_alloc(BYTES, N * BYTES);
	for (size_t i = 0; i < N * BYTES; i++)
		f->memory[i] = (uint8_t)(1 + i / BYTES);
	g_assert_cmpint(write(f->fd, f->memory, N * BYTES), ==, N * BYTES);
	if (direct && (fsync(f->fd) < 0 || fcntl(f->fd, F_SETFL, O_DIRECT) < 0)) {
		g_test_skip("the file system of /var/tmp has no direct I/O");
		return false;
	}
	r = block_engine_open("io_uring", &f->fd, 1, N, &f->engine, &err);
	if (r < 0)
		g_test_skip(err.msg);
	n_reads = n_writes = 0;
	cold = false;
	write_ns = 0;
	return r >= 0;
}

static void tear_down(struct fixture *f)
{
	block_engine_free(f->engine);
	free(f->memory);
	close(f->fd);
}

/* Four transfers in one batch; returns how many were finished by submit. */
static unsigned int run(struct fixture *f, enum block_op op, bool dsync)
{
	struct block_io *batch[N], *done[N];
	unsigned int n = 0, at_once;

	for (unsigned int i = 0; i < N; i++) {
		f->iov[i] = (struct iovec){ f->memory + i * BYTES, BYTES };
		f->ios[i] = (struct block_io){ .op = op,
					       .dsync = dsync,
					       .iov = &f->iov[i],
					       .n_iov = 1,
					       .off = i * BYTES,
					       .result = INT64_MIN };
		batch[i] = &f->ios[i];
	}
	f->engine->ops->submit(f->engine, batch, N);
	for (at_once = 0; at_once < N && f->ios[at_once].result != INT64_MIN; at_once++)
		;
	while (n < N)
		n += f->engine->ops->reap(f->engine, done + n, N - n, true);
	for (unsigned int i = 0; i < N; i++)
		g_assert_cmpint(f->ios[i].result, ==, BYTES);
	return at_once;
}

static void test_reads(void)
{
	struct fixture f;

	if (set_up(&f, false)) {
		memset(f.memory, 0, N * BYTES);
		g_assert_cmpuint(run(&f, BLOCK_OP_READ, false), ==, N);
		g_assert_cmpuint(n_reads, ==, N);
		for (unsigned int i = 0; i < N; i++)
			g_assert_cmpuint(f.memory[i * BYTES], ==, i + 1);
		/* One that has to wait is the ring's, with all behind it. */
		cold = true;
		memset(f.memory, 0, N * BYTES);
		g_assert_cmpuint(run(&f, BLOCK_OP_READ, false), ==, 0);
		g_assert_cmpuint(n_reads, ==, N + 1);
		for (unsigned int i = 0; i < N; i++)
			g_assert_cmpuint(f.memory[i * BYTES], ==, i + 1);
	}
	tear_down(&f);
}

static void test_writes(void)
{
	uint8_t in[BYTES];
	struct fixture f;

	if (set_up(&f, false)) {
		memset(f.memory, 7, N * BYTES);
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, false), ==, N);
		g_assert_cmpuint(n_writes, ==, N);
		g_assert_cmpint(pread(f.fd, in, BYTES, (N - 1) * BYTES), ==, BYTES);
		g_assert_cmpmem(in, BYTES, f.memory, BYTES);
		/* To be durable takes a wait for the disk. */
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, true), ==, 0);
		g_assert_cmpuint(n_writes, ==, N);
	}
	tear_down(&f);
}

/* Writes that make the thread wait are left to the ring for a while. */
static void test_slow_writes(void)
{
	struct fixture f;

	if (set_up(&f, false)) {
		/* 9 ms after the third one. */
		write_ns = 3 * MS;
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, false), ==, 3);
		g_assert_cmpuint(n_writes, ==, 3);
		time_ns += 16 * 9 * MS - 1;
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, false), ==, 0);
		g_assert_cmpuint(n_writes, ==, 3);
		/* reads go on as before */
		g_assert_cmpuint(run(&f, BLOCK_OP_READ, false), ==, N);
		time_ns += 1;
		write_ns = 0;
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, false), ==, N);
		g_assert_cmpuint(n_writes, ==, 3 + N);
	}
	tear_down(&f);
}

/* Who bypasses the page cache waits for the disk. */
static void test_direct(void)
{
	struct fixture f;

	if (set_up(&f, true)) {
		g_assert_cmpuint(run(&f, BLOCK_OP_WRITE, false), ==, 0);
		g_assert_cmpuint(run(&f, BLOCK_OP_READ, false), ==, 0);
		g_assert_cmpuint(n_reads + n_writes, ==, 0);
	}
	tear_down(&f);
}

/*
 * The kernel refuses to wait: what it has in flight ends all the same, without a busy
 * loop, and what comes after it fails.
 */
static void test_no_waiting(void)
{
	struct block_io *reaped[1], *io;
	struct block_engine *engine;
	uint8_t byte = 0;
	struct err err = { 0 };
	int r;

	g_assert_cmpint(pipe2(late, O_CLOEXEC), ==, 0);
	r = block_engine_open("io_uring", &late[0], 1, N, &engine, &err);
	if (r < 0) {
		g_test_skip(err.msg);
		return;
	}
	for (unsigned int i = 0; i < 2; i++) {
		struct iovec iov = { &byte, 1 };
		struct block_io read = { .op = BLOCK_OP_READ, .iov = &iov, .n_iov = 1 };

		io = &read;
		n_refused = 0;
		refuse_wait = true;
		engine->ops->submit(engine, &io, 1);
		while (engine->ops->reap(engine, reaped, 1, true) == 0)
			;
		refuse_wait = false;
		g_assert_true(reaped[0] == &read);
		/* The first one was with the kernel already, and is told of only once. */
		g_assert_cmpint(read.result, ==, i == 0 ? 1 : -EBADF);
		g_assert_cmpuint(n_refused, ==, i == 0);
	}
	g_assert_cmpuint(byte, ==, 9);
	block_engine_free(engine);
	close(late[0]);
	close(late[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/uring/reads", test_reads);
	g_test_add_func("/block/uring/writes", test_writes);
	g_test_add_func("/block/uring/slow-writes", test_slow_writes);
	g_test_add_func("/block/uring/direct", test_direct);
	g_test_add_func("/block/uring/no-waiting", test_no_waiting);
	return g_test_run();
}
