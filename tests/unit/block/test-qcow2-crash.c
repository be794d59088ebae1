/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 in the middle of random writes
 *
 * A child process writes, zeroes and discards through two queues on two threads and
 * flushes now and then; it is killed at any moment.  Then `qemu-img check` may find
 * leaked clusters and nothing else (after our own repair, where refcounts are lazy:
 * nothing at all), and every sector must hold what its last flushed operation wrote,
 * or what one after that did.
 *
 * Versions of each piece of 4 KiB are kept in memory that parent and child share:
 * the last that was begun and the last that a flush has covered.
 *
 * `-m thorough` kills ten times as often.
 */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/math.h"

#define DISK      (8ULL << 20)
#define PIECE     4096U
#define N_PIECES  (DISK / PIECE)
#define N_THREADS 2U
#define BATCH     4U

struct variant {
	const char *name, *options;
	bool based;
};

static const struct variant variants[] = {
	{ "v3", "compat=1.1", false },
	{ "v2", "compat=0.10,cluster_size=4k", false },
	{ "512", "compat=1.1,cluster_size=512", false },
	{ "based", "compat=1.1", true },
	{ "extended", "compat=1.1,extended_l2=on,cluster_size=16k", true },
	{ "lazy", "compat=1.1,lazy_refcounts=on,cluster_size=8k", false },
	{ "lazy-based", "compat=1.1,lazy_refcounts=on", true },
};

/* Shared between parent and child. */
struct history {
	atomic_bool started;
	atomic_uint begun[N_PIECES], flushed[N_PIECES];
	unsigned int before[N_PIECES]; /* begun, when this child started */
};

enum kind {
	WRITE,
	ZERO,
	DISCARD
};

/* What version v of a piece was, the same for parent and child. */
static enum kind kind_of(unsigned int piece, unsigned int v)
{
	uint64_t random = (uint64_t)piece << 32 | v;

	switch (tools_random(&random) % 6) {
	case 0:
		return ZERO;
	case 1:
		return DISCARD;
	default:
		return WRITE;
	}
}

static void stamp(uint8_t *buf, unsigned int piece, unsigned int v)
{
	for (unsigned int s = 0; s < PIECE; s += 512) {
		memset(buf + s, 0xa5, 512);
		memcpy(buf + s, &piece, sizeof(piece));
		memcpy(buf + s + 4, &v, sizeof(v));
	}
}

struct child {
	struct history *h;
	struct block_image *img;
	const char *engine;
	unsigned int index;
	uint64_t random;
};

/* One operation a piece of this thread, BATCH at a time, and a flush that covers them. */
static void *write_forever(void *data)
{
	struct child *c = data;
	static uint8_t bufs[N_THREADS][BATCH][PIECE];
	struct block_queue *bq = NULL;
	uint8_t touched[N_PIECES] = { 0 };

	g_assert_cmpint(block_queue_new(c->img, c->engine, TOOLS_DEPTH, &bq, NULL), ==, 0);
	atomic_store(&c->h->started, true);
	for (;;) {
		struct block_request reqs[BATCH] = { 0 };
		struct iovec iovs[BATCH];

		for (unsigned int i = 0; i < BATCH; i++) {
			/* Each of the batch another piece; the first quarter is used most. */
			uint64_t n = N_PIECES / N_THREADS / BATCH;
			uint64_t at = tools_random(&c->random) %
				      (tools_random(&c->random) % 4 ? n / 4 : n);
			unsigned int piece =
				(unsigned int)((at * BATCH + i) * N_THREADS + c->index);
			unsigned int v = atomic_load(&c->h->begun[piece]) + 1;
			enum kind kind = kind_of(piece, v);

			atomic_store(&c->h->begun[piece], v);
			touched[piece] = 1;
			stamp(bufs[c->index][i], piece, v);
			iovs[i] = (struct iovec){ bufs[c->index][i], PIECE };
			reqs[i] = (struct block_request){
				.op = kind == WRITE  ? BLOCK_OP_WRITE
				      : kind == ZERO ? BLOCK_OP_WRITE_ZEROES
						     : BLOCK_OP_DISCARD,
				.unmap = v % 2,
				.off = (uint64_t)piece * PIECE,
				.len = PIECE,
				.iov = kind == WRITE ? &iovs[i] : NULL,
				.n_iov = kind == WRITE ? 1 : 0,
			};
			block_queue_add(bq, &reqs[i]);
		}
		block_queue_submit(bq);
		block_queue_drain(bq);
		for (struct block_request *req; (req = block_queue_reap(bq));)
			g_assert_cmpint(req->result, ==, 0);
		if (tools_random(&c->random) % 8)
			continue;
		g_assert_cmpint(tools_range(bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
		for (unsigned int p = 0; p < N_PIECES; p++) {
			if (touched[p])
				atomic_store(&c->h->flushed[p], atomic_load(&c->h->begun[p]));
			touched[p] = 0;
		}
	}
	return NULL;
}

static _noreturn_ void run_child(struct history *h, const char *path, const char *chain,
				 const char *engine, uint64_t seed)
{
	struct child children[N_THREADS];
	pthread_t threads[N_THREADS];
	struct block_image *img;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	img = tools_open(path, chain, false);
	for (unsigned int i = 0; i < N_THREADS; i++) {
		children[i] = (struct child){ h, img, engine, i, seed * 10 + i };
		g_assert_cmpint(pthread_create(&threads[i], NULL, write_forever, &children[i]), ==,
				0);
	}
	pthread_join(threads[0], NULL);
	_exit(1);
}

/* May a sector of the piece hold this after version v was the last? */
static bool may_be(const struct history *h, unsigned int piece, unsigned int v, bool zero,
		   unsigned int found, bool based)
{
	if (v == 0)
		return based ? !zero && found == 0 : zero;
	switch (kind_of(piece, v)) {
	case WRITE:
		return !zero && found == v;
	case ZERO:
		return zero;
	case DISCARD:
		/* What came before the last kill may have been lost, or not. */
		if (v - 1 <= h->before[piece])
			return zero || found <= h->before[piece];
		return zero || may_be(h, piece, v - 1, zero, found, based);
	}
	return false;
}

static void check_contents(const struct history *h, const char *path, const char *chain)
{
	static const uint8_t zeroes[512];
	struct block_image *img = tools_open(path, chain, true);
	struct block_queue *bq = NULL;
	uint8_t buf[PIECE];

	g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
	for (unsigned int p = 0; p < N_PIECES; p++) {
		unsigned int flushed = atomic_load(&h->flushed[p]),
			     begun = atomic_load(&h->begun[p]);

		g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, (uint64_t)p * PIECE, buf, PIECE), ==,
				0);
		for (unsigned int s = 0; s < PIECE; s += 512) {
			bool zero = memcmp(buf + s, zeroes, 512) == 0, good = false;
			unsigned int piece, found;

			memcpy(&piece, buf + s, sizeof(piece));
			memcpy(&found, buf + s + 4, sizeof(found));
			for (unsigned int v = flushed; !good && v <= begun; v++)
				good = (zero || piece == p) && may_be(h, p, v, zero, found, chain);
			if (!good)
				g_error("piece %u, sector %u: versions %u to %u may be there, %s%u of "
					"piece %u is",
					p, s / 512, flushed, begun, zero ? "zeroes, " : "", found,
					piece);
		}
	}
	block_queue_free(bq);
	block_image_close(img);
}

static void make_image(const struct variant *v, const char *path, char **ret_chain)
{
	g_autofree char *base = tools_path("base");
	g_autofree uint8_t *bytes = g_malloc(DISK);

	*ret_chain = NULL;
	if (!v->based) {
		tools_qemu_img_ok("create -q -f qcow2 -o %s %s %llu", v->options, path, DISK);
		return;
	}
	for (unsigned int p = 0; p < N_PIECES; p++)
		stamp(bytes + (size_t)p * PIECE, p, 0);
	tools_write_file(base, bytes, DISK);
	tools_qemu_img_ok("create -q -f qcow2 -o %s -b %s -F raw %s %llu", v->options, base, path,
			  DISK);
	*ret_chain = g_strdup_printf("raw:%s", base);
}

static void kill_once(const struct variant *v, struct history *h, const char *path,
		      const char *chain, const char *engine, uint64_t seed)
{
	uint64_t random = seed;
	int status, r;
	pid_t pid;

	atomic_store(&h->started, false);
	for (unsigned int p = 0; p < N_PIECES; p++)
		h->before[p] = atomic_load(&h->begun[p]);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0)
		run_child(h, path, chain, engine, seed);
	while (!atomic_load(&h->started)) {
		g_assert_cmpint(waitpid(pid, &status, WNOHANG), ==, 0);
		g_usleep(500);
	}
	g_usleep(tools_random(&random) % 40000);
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFSIGNALED(status));
	if (strstr(v->options, "lazy")) {
		block_image_close(tools_open(path, chain, false));
		tools_qemu_img_ok("check -q %s", path);
	} else {
		r = tools_qemu_img("check -q %s", path);
		if (r != 0)
			g_assert_cmpint(r, ==, 3); /* leaks */
	}
	check_contents(h, path, chain);
	/* What is there now is where the next child begins. */
}

static void test_kill(const void *data)
{
	static const char *const engines[] = { "sync", "io_uring", "aio" };
	const struct variant *v = data;
	g_autofree char *path = tools_path("image"), *chain = NULL;
	unsigned int n = g_test_thorough() ? 40 : 4, n_ops = 0;
	struct history *h;

	if (!tools_have_qemu_img())
		return;
	h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g_assert_true(h != MAP_FAILED);
	make_image(v, path, &chain);
	for (unsigned int i = 0; i < n; i++)
		kill_once(v, h, path, chain, engines[i % G_N_ELEMENTS(engines)], i + 1);
	for (unsigned int p = 0; p < N_PIECES; p++)
		n_ops += atomic_load(&h->begun[p]);
	g_test_message("%u operations, %u kills", n_ops, n);
	g_assert_cmpuint(n_ops, >, 0);
	munmap(h, sizeof(*h));
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
		g_autofree char *name = g_strdup_printf("/block/qcow2/kill/%s", variants[i].name);

		g_test_add_data_func(name, &variants[i], test_kill);
	}
	r = g_test_run();
	tools_clean_up();
	return r;
}
