/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images that qemu-img makes, used at random by several threads at once
 *
 * Each thread has a queue of its own and its own sectors: small ones, interleaved
 * with those of the others so that they meet in one cluster, and a part of the disk
 * for large requests.  A model in memory says what must be read.  Afterwards
 * `qemu-img check` must be clean and `qemu-img compare` find the model.
 *
 * `-m thorough` runs every case, on every engine, and longer: some minutes.
 */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/math.h"

#define N_THREADS 3U
#define BATCH     6U
#define LARGE_MAX (192U << 10)

struct variant {
	const char *name;
	const char *options; /* of qemu-img create */
	uint64_t cluster, size;
	const char *base;     /* "raw" or "qcow2": based on such an image */
	const char *compress; /* made by convert -c with this compression_type */
	bool slow;            /* only with -m thorough */
};

static const struct variant variants[] = {
	{ "v3-64k", "compat=1.1", 65536, 24 << 20, NULL, NULL },
	{ "v2-64k", "compat=0.10", 65536, 16 << 20, NULL, NULL },
	{ "v3-512", "compat=1.1,cluster_size=512", 512, 2 << 20, NULL, NULL, true },
	{ "v3-512-rc64", "compat=1.1,cluster_size=512,refcount_bits=64", 512, 2 << 20, NULL, NULL },
	{ "v3-4k-rc1", "compat=1.1,cluster_size=4k,refcount_bits=1", 4096, 8 << 20, NULL, NULL },
	{ "v3-4k-rc2", "compat=1.1,cluster_size=4k,refcount_bits=2", 4096, 8 << 20, NULL, NULL,
	  true },
	{ "v3-8k-rc4", "compat=1.1,cluster_size=8k,refcount_bits=4", 8192, 8 << 20, NULL, NULL },
	{ "v3-4k-rc8", "compat=1.1,cluster_size=4k,refcount_bits=8", 4096, 8 << 20, NULL, NULL,
	  true },
	{ "v3-4k-rc32", "compat=1.1,cluster_size=4k,refcount_bits=32", 4096, 8 << 20, NULL, NULL,
	  true },
	{ "v3-2m", "compat=1.1,cluster_size=2M", 2 << 20, 40 << 20, NULL, NULL },
	{ "lazy", "compat=1.1,lazy_refcounts=on", 65536, 16 << 20, NULL, NULL },
	{ "lazy-512", "compat=1.1,lazy_refcounts=on,cluster_size=512", 512, 2 << 20, NULL, NULL,
	  true },
	{ "extended", "compat=1.1,extended_l2=on", 65536, 16 << 20, NULL, NULL, true },
	{ "extended-16k", "compat=1.1,extended_l2=on,cluster_size=16k", 16384, 8 << 20, "raw",
	  NULL },
	{ "extended-qcow2", "compat=1.1,extended_l2=on", 65536, 16 << 20, "qcow2", NULL },
	{ "extended-2m", "compat=1.1,extended_l2=on,cluster_size=2M", 2 << 20, 40 << 20, "raw",
	  NULL, true },
	{ "metadata", "compat=1.1,preallocation=metadata", 65536, 8 << 20, NULL, NULL, true },
	{ "extended-metadata", "compat=1.1,extended_l2=on,preallocation=metadata", 65536, 8 << 20,
	  NULL, NULL },
	{ "falloc", "compat=1.1,preallocation=falloc", 65536, 8 << 20, NULL, NULL, true },
	{ "on-raw", "compat=1.1", 65536, 16 << 20, "raw", NULL },
	{ "v2-on-raw", "compat=0.10", 65536, 16 << 20, "raw", NULL },
	{ "on-qcow2", "compat=1.1,cluster_size=32k", 32768, 16 << 20, "qcow2", NULL },
	{ "on-qcow2-512", "compat=1.1,cluster_size=512", 512, 2 << 20, "qcow2", NULL, true },
	{ "zlib", "compat=1.1", 65536, 12 << 20, NULL, "zlib", true },
	{ "v2-zlib", "compat=0.10", 65536, 12 << 20, NULL, "v2", true },
	{ "zlib-4k", "compat=1.1,cluster_size=4k", 4096, 4 << 20, NULL, "zlib" },
	{ "zstd", "compat=1.1", 65536, 12 << 20, NULL, "zstd" },
	{ "extended-zstd", "compat=1.1,extended_l2=on", 65536, 12 << 20, NULL, "zstd" },
	{ "zstd-2m", "compat=1.1,cluster_size=2M", 2 << 20, 24 << 20, NULL, "zstd", true },
};

static const char *const engines[] = { "io_uring", "sync", "aio" };

struct test {
	const struct variant *v;
	const char *engine;
	struct block_image *img;
	uint8_t *model; /* of v->size */
	unsigned int n_rounds;
};

struct worker {
	struct test *t;
	unsigned int index;
	uint64_t random;
	struct block_queue *bq;
	pthread_t thread;
	uint8_t *bufs[BATCH];
	struct block_request reqs[BATCH];
	struct iovec iovs[BATCH][2];
	uint64_t offs[BATCH], lens[BATCH]; /* the requests' own are consumed */
};

/* Contents of what an image is based on or made from: data, zeroes, repeated data. */
static void fill_disk(uint8_t *disk, uint64_t size)
{
	uint64_t random = 5;

	for (uint64_t at = 0; at < size; at += 16384) {
		uint64_t len = MIN(size - at, (uint64_t)16384), kind = tools_random(&random);

		if (kind % 3 == 0)
			memset(disk + at, 0, len);
		else
			tools_fill(disk + at, len, kind);
	}
}

static void make_image(const struct variant *v, uint8_t *model, const char *path, char **ret_chain)
{
	g_autofree char *base = tools_path("base"), *raw = tools_path("raw");
	uint64_t base_size = v->size / 4 * 3 + 512 * 3;

	*ret_chain = NULL;
	memset(model, 0, v->size);
	if (v->base) {
		fill_disk(model, base_size);
		tools_write_file(raw, model, base_size);
		/* A base of its own format and cluster size, some of it compressed. */
		if (strcmp(v->base, "qcow2") == 0)
			tools_qemu_img_ok("convert -q -c -f raw -O qcow2 -o cluster_size=4k %s %s",
					  raw, base);
		else
			tools_qemu_img_ok("convert -q -f raw -O raw %s %s", raw, base);
		tools_qemu_img_ok("create -q -f qcow2 -o %s -b %s -F %s %s %llu", v->options, base,
				  v->base, path, (unsigned long long)v->size);
		*ret_chain = g_strdup_printf("%s:%s", v->base, base);
	} else if (v->compress) {
		fill_disk(model, v->size);
		tools_write_file(raw, model, v->size);
		if (strcmp(v->compress, "v2") == 0)
			tools_qemu_img_ok("convert -q -c -f raw -O qcow2 -o %s %s %s", v->options,
					  raw, path);
		else
			tools_qemu_img_ok(
				"convert -q -c -f raw -O qcow2 -o %s,compression_type=%s %s %s",
				v->options, v->compress, raw, path);
	} else {
		tools_qemu_img_ok("create -q -f qcow2 -o %s %s %llu", v->options, path,
				  (unsigned long long)v->size);
	}
}

/* A range of the worker's own, that none of its batch's other requests touches. */
static void choose_range(struct worker *w, unsigned int n, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t half = w->t->v->size / 2, part = half / N_THREADS / BATCH;
	uint64_t small = part * BATCH / 2048;

	if (tools_random(&w->random) % 3) {
		/* One of the pieces of 2 KiB that are ours in the first half, and our n-th part's.
		 */
		uint64_t piece = small / BATCH * n + tools_random(&w->random) % (small / BATCH);

		*ret_off = (piece * N_THREADS + w->index) * 2048;
		*ret_off += tools_random(&w->random) % 4 * 512;
		*ret_len = 2048 - *ret_off % 2048;
		*ret_len = 512 + tools_random(&w->random) % (*ret_len / 512) * 512;
	} else {
		uint64_t base = half + (w->index * BATCH + n) * (part / 512 * 512);
		uint64_t len =
			512 + tools_random(&w->random) % MIN(part - 512, (uint64_t)LARGE_MAX);

		*ret_len = len / 512 * 512;
		*ret_off = base + tools_random(&w->random) % ((part - len) / 512 + 1) * 512;
		if (tools_random(&w->random) % 2 && part > 2 * w->t->v->cluster) {
			/* Whole clusters. */
			*ret_off = align_up(base, w->t->v->cluster);
			*ret_len = align_down(MIN(len + w->t->v->cluster, base + part - *ret_off),
					      w->t->v->cluster);
			*ret_len = MIN(*ret_len, (uint64_t)LARGE_MAX);
		}
	}
}

static void start_one(struct worker *w, unsigned int n)
{
	static const enum block_op ops[] = { BLOCK_OP_WRITE,        BLOCK_OP_WRITE,  BLOCK_OP_WRITE,
					     BLOCK_OP_READ,         BLOCK_OP_READ,   BLOCK_OP_READ,
					     BLOCK_OP_WRITE_ZEROES, BLOCK_OP_DISCARD };
	struct block_request *req = &w->reqs[n];
	uint64_t off, len;
	size_t cut;

	choose_range(w, n, &off, &len);
	w->offs[n] = off;
	w->lens[n] = len;
	*req = (struct block_request){ .op = ops[tools_random(&w->random) % G_N_ELEMENTS(ops)],
				       .off = off,
				       .len = len };
	req->unmap = tools_random(&w->random) % 2;
	req->dsync = tools_random(&w->random) % 64 == 0;
	if (req->op == BLOCK_OP_WRITE)
		tools_fill(w->bufs[n], len, tools_random(&w->random));
	if (req->op == BLOCK_OP_READ || req->op == BLOCK_OP_WRITE) {
		cut = tools_random(&w->random) % len;
		w->iovs[n][0] = (struct iovec){ w->bufs[n], cut };
		w->iovs[n][1] = (struct iovec){ w->bufs[n] + cut, len - cut };
		req->iov = w->iovs[n];
		req->n_iov = 2;
	}
	block_queue_add(w->bq, req);
}

static void check_one(struct worker *w, unsigned int n)
{
	uint64_t off = w->offs[n], len = w->lens[n];
	uint8_t *model = w->t->model + off;

	g_assert_cmpint(w->reqs[n].result, ==, 0);
	switch (w->reqs[n].op) {
	case BLOCK_OP_READ:
		if (memcmp(w->bufs[n], model, len) != 0) {
			uint64_t i = 0;

			while (w->bufs[n][i] == model[i])
				i++;
			g_error("worker %u: byte %llu of a read at %llu, %llu is 0x%02x, not 0x%02x",
				w->index, (unsigned long long)(off + i), (unsigned long long)off,
				(unsigned long long)len, w->bufs[n][i], model[i]);
		}
		break;
	case BLOCK_OP_WRITE:
		memcpy(model, w->bufs[n], len);
		break;
	case BLOCK_OP_WRITE_ZEROES:
		memset(model, 0, len);
		break;
	case BLOCK_OP_DISCARD:
		/* Each sector is what it was, or zeroes. */
		g_assert_cmpint(tools_rw(w->bq, BLOCK_OP_READ, off, w->bufs[n], len), ==, 0);
		for (uint64_t at = 0; at < len; at += 512)
			if (memcmp(w->bufs[n] + at, model + at, 512) != 0)
				for (uint64_t i = at; i < at + 512; i++)
					g_assert_cmpuint(w->bufs[n][i], ==, 0);
		memcpy(model, w->bufs[n], len);
		break;
	case BLOCK_OP_FLUSH:
	case BLOCK_OP_N_:
		g_assert_not_reached();
	}
}

static void *work(void *data)
{
	struct worker *w = data;

	for (unsigned int round = 0; round < w->t->n_rounds; round++) {
		unsigned int n_batch = 1 + (unsigned int)(tools_random(&w->random) % BATCH);

		for (unsigned int i = 0; i < n_batch; i++)
			start_one(w, i);
		block_queue_submit(w->bq);
		block_queue_drain(w->bq);
		while (block_queue_reap(w->bq))
			;
		for (unsigned int i = 0; i < n_batch; i++)
			check_one(w, i);
		if (tools_random(&w->random) % 8 == 0)
			g_assert_cmpint(tools_range(w->bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
	}
	return NULL;
}

/* False when the host has no such engine. */
static bool run_workers(struct test *t, uint64_t seed)
{
	static struct worker workers[N_THREADS];
	struct err err = { 0 };

	for (unsigned int i = 0; i < N_THREADS; i++) {
		struct worker *w = &workers[i];
		int r;

		*w = (struct worker){ .t = t, .index = i, .random = seed + i };
		r = block_queue_new(t->img, t->engine, TOOLS_DEPTH, &w->bq, &err);
		if (r == -ENOSYS || r == -EPERM || r == -EAGAIN) {
			g_test_skip(err.msg);
			while (i-- > 0)
				block_queue_free(workers[i].bq);
			return false;
		}
		g_assert_cmpint(r, ==, 0);
	}
	for (unsigned int i = 0; i < N_THREADS; i++) {
		for (unsigned int n = 0; n < BATCH; n++)
			workers[i].bufs[n] = g_malloc(2 * LARGE_MAX);
		g_assert_cmpint(pthread_create(&workers[i].thread, NULL, work, &workers[i]), ==, 0);
	}
	for (unsigned int i = 0; i < N_THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		block_queue_free(workers[i].bq);
		for (unsigned int n = 0; n < BATCH; n++)
			g_free(workers[i].bufs[n]);
	}
	return true;
}

static void judge(const struct test *t, const char *path)
{
	g_autofree char *want = tools_path("model");

	tools_qemu_img_ok("check -q -f qcow2 %s", path);
	tools_write_file(want, t->model, t->v->size);
	tools_qemu_img_ok("compare -q -f raw -F qcow2 %s %s", want, path);
}

static void test_variant(const void *data)
{
	struct test t = *(const struct test *)data;
	g_autofree char *path = tools_path("image"), *chain = NULL;

	if (!tools_have_qemu_img())
		return;
	t.model = g_malloc(t.v->size);
	make_image(t.v, t.model, path, &chain);
	/* Twice: what is read back by a second opening was written by the first. */
	for (unsigned int i = 0; i < 2; i++) {
		bool ran;

		t.img = tools_open(path, chain, false);
		g_assert_cmpuint(t.img->size, ==, t.v->size);
		ran = run_workers(&t, 77 + i);
		block_image_close(t.img);
		if (!ran)
			break;
		if (i > 0 || g_test_thorough())
			judge(&t, path);
	}
	g_free(t.model);
}

/* --- clusters that are freed while others still write to them --- */

#define RACE_CLUSTERS 24U

struct racer {
	struct block_image *img;
	const char *engine;
	unsigned int index;
	unsigned int n_rounds;
};

/* Several in flight on the same few clusters: nobody knows what they end up with. */
static void race(const struct racer *r, struct block_queue *bq)
{
	static uint8_t bytes[2][65536];
	uint64_t random = r->index;

	memset(bytes[r->index], 0xee, sizeof(bytes[0]));
	for (unsigned int round = 0; round < r->n_rounds; round++) {
		struct block_request reqs[TOOLS_DEPTH] = { 0 };
		struct iovec iovs[TOOLS_DEPTH];

		for (unsigned int i = 0; i < TOOLS_DEPTH; i++) {
			bool write = tools_random(&random) % 2;

			iovs[i] = (struct iovec){ bytes[r->index], 65536 };
			reqs[i] = (struct block_request){
				.op = write ? BLOCK_OP_WRITE : BLOCK_OP_DISCARD,
				.off = tools_random(&random) % RACE_CLUSTERS * 65536,
				.len = 65536,
				.iov = write ? &iovs[i] : NULL,
				.n_iov = write ? 1 : 0,
			};
			block_queue_add(bq, &reqs[i]);
			if (tools_random(&random) % 4 == 0)
				block_queue_submit(bq);
		}
		block_queue_submit(bq);
		block_queue_drain(bq);
		for (struct block_request *req; (req = block_queue_reap(bq));)
			g_assert_cmpint(req->result, ==, 0);
		if (round % 4 == 0)
			g_assert_cmpint(tools_range(bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
	}
}

/* Meanwhile somebody else gets the clusters that become free, and nothing else in them. */
static void use_own(const struct racer *r, struct block_queue *bq)
{
	g_autofree uint8_t *in = g_malloc(65536), *out = g_malloc(65536);
	uint64_t random = 9;

	for (unsigned int round = 0; round < 2 * r->n_rounds; round++) {
		uint64_t off = (RACE_CLUSTERS + tools_random(&random) % 64) * 65536;
		uint64_t from = tools_random(&random) % 64 * 512;

		tools_fill(out, 65536, round);
		g_assert_cmpint(tools_range(bq, BLOCK_OP_WRITE_ZEROES, off, 65536, true), ==, 0);
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, off + from, out + from, 16384), ==, 0);
		memset(out, 0, from);
		memset(out + from + 16384, 0, 65536 - 16384 - from);
		for (unsigned int i = 0; i < 3; i++) {
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, off, in, 65536), ==, 0);
			g_assert_cmpmem(in, 65536, out, 65536);
		}
	}
}

static void *run_racer(void *data)
{
	const struct racer *r = data;
	struct block_queue *bq = NULL;

	g_assert_cmpint(block_queue_new(r->img, r->engine, TOOLS_DEPTH, &bq, NULL), ==, 0);
	if (r->index < 2)
		race(r, bq);
	else
		use_own(r, bq);
	block_queue_free(bq);
	return NULL;
}

static void test_freed_in_flight(const void *engine)
{
	g_autofree char *path = tools_path("raced");
	struct racer racers[3];
	pthread_t threads[3];
	struct block_image *img;

	if (!tools_have_qemu_img())
		return;
	tools_qemu_img_ok("create -q -f qcow2 %s 64M", path);
	img = tools_open(path, NULL, false);
	for (unsigned int i = 0; i < 3; i++) {
		racers[i] = (struct racer){ img, engine, i, g_test_thorough() ? 5000 : 100 };
		g_assert_cmpint(pthread_create(&threads[i], NULL, run_racer, &racers[i]), ==, 0);
	}
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	block_image_close(img);
	tools_qemu_img_ok("check -q -f qcow2 %s", path);
}

int main(int argc, char **argv)
{
	bool all;
	int r;

	g_test_init(&argc, &argv, NULL);
	all = g_test_thorough();
	for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
		for (size_t e = 0; e < G_N_ELEMENTS(engines); e++) {
			g_autofree char *name = NULL;
			struct test *t;

			if (!all && (variants[i].slow || e != i % G_N_ELEMENTS(engines)))
				continue;
			t = g_new0(struct test, 1);
			t->v = &variants[i];
			t->engine = engines[e];
			t->n_rounds = all ? 2000 : 40;
			name = g_strdup_printf("/block/qcow2/random/%s/%s", t->v->name, t->engine);
			g_test_add_data_func_full(name, t, test_variant, g_free);
		}
	}
	for (size_t e = 0; e < G_N_ELEMENTS(engines); e++) {
		g_autofree char *name =
			g_strdup_printf("/block/qcow2/freed-in-flight/%s", engines[e]);

		g_test_add_data_func(name, engines[e], test_freed_in_flight);
	}
	r = g_test_run();
	tools_clean_up();
	return r;
}
