/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a qcow2 image's file: repaired after it was not closed, grown, full,
 * given back to the host, accessed with O_DIRECT
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"
#include "vmm/block/qcow2/qcow2-abi.h"

#define CLUSTER 65536ULL

/* Not closed: all refcounts are wrong, and the dirty bit says so. */
static void test_repair(void)
{
	static const char *const options[] = { "lazy_refcounts=on",
					       "lazy_refcounts=on,cluster_size=512",
					       "lazy_refcounts=on,refcount_bits=1",
					       "extended_l2=on,refcount_bits=64,cluster_size=16k" };
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("dirty");
	for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
		g_autofree uint8_t *image = NULL;
		struct block_queue *bq = NULL;
		struct block_image *img;
		uint64_t reftable, random = i;
		uint8_t buf[4096];
		size_t len;

		g_test_message("%s", options[i]);
		tools_qemu_img_ok("create -q -f qcow2 -o %s %s 4M", options[i], path);
		img = tools_open(path, NULL, false);
		g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
		for (unsigned int n = 0; n < 100; n++)
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE,
						 tools_random(&random) % 1000 * 4096, buf, 4096),
					==, 0);
		block_queue_free(bq);
		block_image_close(img);
		tools_qemu_img_ok("check -q %s", path);
		g_assert_true(g_file_get_contents(path, (char **)&image, &len, NULL));
		image[QCOW2_H_INCOMPATIBLE + 7] |= QCOW2_INCOMPATIBLE_DIRTY;
		reftable = qcow2_get64(image + QCOW2_H_REFTABLE_OFF);
		for (unsigned int t = 0; t < 8; t++) {
			uint64_t block = qcow2_get64(image + reftable + t * 8UL);

			/* Some blocks lose their counts, some are gone, some count too much. */
			if (block && t % 3 == 1)
				qcow2_put64(image + reftable + t * 8UL, 0);
			else if (block)
				memset(image + block, t % 3 ? 0xff : 0, 64);
		}
		tools_write_file(path, image, len);
		/* Read-only it is left alone. */
		block_image_close(tools_open(path, NULL, true));
		img = tools_open(path, NULL, false);
		block_image_close(img);
		tools_qemu_img_ok("check -q %s", path);
		tools_qemu_img_ok("compare -q %s %s", path, path);
	}
}

static void test_resize(void)
{
	static const char *const options[] = { "compat=1.1", "cluster_size=512", "compat=0.10",
					       "extended_l2=on",
					       "lazy_refcounts=on,cluster_size=4k" };
	g_autofree char *path = NULL, *raw = NULL, *chain = NULL, *want = NULL;
	uint8_t *model = g_malloc0(8 << 20);

	if (!tools_have_qemu_img())
		return;
	path = tools_path("grown");
	raw = tools_path("raw");
	want = tools_path("model");
	tools_fill(model, 8 << 20, 3);
	tools_write_file(raw, model, 6 << 20);
	chain = g_strdup_printf("raw:%s", raw);
	for (size_t i = 0; i < 2 * G_N_ELEMENTS(options); i++) {
		const char *o = options[i / 2];
		struct block_queue *bq = NULL;
		struct block_image *img;
		struct err err = { 0 };
		uint8_t buf[4096];

		g_test_message("%s %s", o, i % 2 ? "based" : "");
		/* Shorter than what it is based on, and no whole number of clusters. */
		if (i % 2)
			tools_qemu_img_ok("create -q -f qcow2 -o %s -b %s -F raw %s 2098688", o,
					  raw, path);
		else
			tools_qemu_img_ok("create -q -f qcow2 -o %s %s 2098688", o, path);
		tools_fill(model, 6 << 20, 3);
		memset(model + 2098688, 0, (8 << 20) - 2098688);
		if (i % 2 == 0)
			memset(model, 0, 8 << 20);
		img = tools_open(path, i % 2 ? chain : NULL, false);
		g_assert_cmpint(block_image_resize(img, 2098688 - 512, &err), ==, -EOPNOTSUPP);
		g_assert_cmpstr(err.msg, ==,
				"the disk has 2098688 bytes and cannot shrink to 2098176: its "
				"image is qcow2, which can only grow");
		err_clear(&err);
		g_assert_cmpint(block_image_resize(img, 1ULL << 62, &err), ==, -EFBIG);
		err_clear(&err);
		if (block_image_resize(img, 8 << 20, &err) < 0)
			g_error("%s", err.msg);
		g_assert_cmpuint(img->size, ==, 8 << 20);
		g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
		tools_fill(buf, 4096, 99);
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, (8 << 20) - 4096, buf, 4096), ==, 0);
		memcpy(model + (8 << 20) - 4096, buf, 4096);
		block_queue_free(bq);
		block_image_close(img);
		tools_write_file(want, model, 8 << 20);
		tools_qemu_img_ok("check -q %s", path);
		tools_qemu_img_ok("compare -q -f raw -F qcow2 %s %s", want, path);
	}
	g_free(model);
}

static uint64_t free_hint_of(struct block_image *img)
{
	return qcow2_image(img)->free_hint;
}

/*
 * A quarter of a million clusters in use: no allocation looks at all of them, and free
 * ones are found all the same in the end.
 */
static void test_full(void)
{
	static const char *const options[] = { "refcount_bits=16", "refcount_bits=1",
					       "refcount_bits=64", "refcount_bits=8" };
	const uint64_t disk = 1ULL << 30, cluster = 4096;
	g_autofree char *path = NULL;
	uint8_t buf[4096] = { 1 };

	if (!tools_have_qemu_img())
		return;
	path = tools_path("large");
	for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
		struct block_queue *bq = NULL;
		struct block_image *img;
		uint64_t hint, last = 0, end;
		unsigned int n = 0;

		g_test_message("%s", options[i]);
		tools_qemu_img_ok("create -q -f qcow2 -o cluster_size=4k,preallocation=metadata,%s "
				  "%s 1G",
				  options[i], path);
		tools_qemu_img_ok("resize -q %s 2G", path);
		img = tools_open(path, NULL, false);
		g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
		for (; (hint = free_hint_of(img)) != last || n == 0; n++) {
			g_assert_cmpuint(hint - last, <=, 3 * 65536);
			last = hint;
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, disk + n * cluster, buf, 4096),
					==, 0);
			if (hint * cluster > disk)
				break;
		}
		g_assert_cmpuint(free_hint_of(img) * cluster, >, disk);
		g_assert_cmpuint(n, >=, 2);
		/* One that becomes free is used before the file grows. */
		g_assert_cmpint(tools_range(bq, BLOCK_OP_DISCARD, 512 << 20, cluster, true), ==, 0);
		for (unsigned int flush = 0; flush < 2; flush++)
			g_assert_cmpint(tools_range(bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
		end = qcow2_image(img)->used_end;
		g_assert_cmpuint(free_hint_of(img) * cluster, <, disk);
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, disk + n++ * cluster, buf, 4096), ==,
				0);
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, disk + n * cluster, buf, 4096), ==, 0);
		g_assert_cmpuint(qcow2_image(img)->used_end, <=, end + cluster);
		block_queue_free(bq);
		block_image_close(img);
		tools_qemu_img_ok("check -q %s", path);
	}
	unlink(path);
}

/* The host's file cannot grow: an error, and later it can. */
static void test_no_space(void)
{
	g_autofree char *path = NULL;
	struct block_queue *bq = NULL;
	struct block_image *img;
	struct rlimit old, limit;
	static uint8_t buf[65536];
	unsigned int n_good = 0;
	int r = 0;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("full");
	tools_qemu_img_ok("create -q -f qcow2 -o cluster_size=4k %s 64M", path);
	img = tools_open(path, NULL, false);
	g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
	signal(SIGXFSZ, SIG_IGN); /* the worker's threads block it */
	g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
	limit = (struct rlimit){ 1 << 20, old.rlim_max };
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
	for (uint64_t off = 0; off < 4 << 20; off += sizeof(buf)) {
		r = tools_rw(bq, BLOCK_OP_WRITE, off, buf, sizeof(buf));
		n_good += r == 0;
	}
	g_assert_cmpint(r, ==, -EFBIG);
	g_assert_cmpuint(n_good, >, 4);
	g_assert_cmpint(tools_range(bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
	g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, 0, buf, sizeof(buf)), ==, 0);
	g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
	g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, 3 << 20, buf, sizeof(buf)), ==, 0);
	block_queue_free(bq);
	block_image_close(img);
	tools_qemu_img_ok("check -q %s", path);
}

/* What the guest discards, the host gets back; what is written again uses it again. */
static void test_discard(void)
{
	static uint8_t buf[1 << 20];
	g_autofree char *path = NULL;
	struct block_queue *bq = NULL;
	struct block_image *img;
	struct stat st = { 0 };

	if (!tools_have_qemu_img())
		return;
	path = tools_path("discarded");
	memset(buf, 1, sizeof(buf));
	tools_qemu_img_ok("create -q -f qcow2 %s 64M", path);
	img = tools_open(path, NULL, false);
	g_assert_true(img->can_discard);
	g_assert_cmpuint(img->discard_granularity, ==, CLUSTER);
	g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
	for (unsigned int round = 0; round < 3; round++) {
		for (uint64_t off = 0; off < 16 << 20; off += sizeof(buf))
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, off, buf, sizeof(buf)), ==, 0);
		g_assert_cmpint(stat(path, &st), ==, 0);
		g_assert_cmpint(st.st_blocks, >=, (16 << 20) / 512);
		g_assert_cmpint(tools_range(bq, BLOCK_OP_DISCARD, 0, 16 << 20, false), ==, 0);
		g_assert_cmpint(tools_range(bq, BLOCK_OP_FLUSH, 0, 0, false), ==, 0);
		g_assert_cmpint(stat(path, &st), ==, 0);
		g_assert_cmpint(st.st_blocks, <, (1 << 20) / 512);
		/* The same clusters each time. */
		g_assert_cmpint(st.st_size, <, 20 << 20);
	}
	block_queue_free(bq);
	block_image_close(img);
	tools_qemu_img_ok("check -q %s", path);
}

/* Metadata, copies and compressed data through a descriptor that wants alignment. */
static void test_direct(void)
{
	/* Not the tests' folder, which may be a tmpfs without direct I/O. */
	g_autofree char *path = g_strdup("/var/tmp/brume-test-qcow2-XXXXXX"), *raw = NULL;
	g_autofree uint8_t *model = g_malloc(1 << 20), *in = g_malloc(1 << 20);
	int tmp = g_mkstemp(path);
	uint64_t random = 3;

	g_assert_cmpint(tmp, >=, 0);
	close(tmp);
	if (!tools_have_qemu_img())
		return;
	raw = tools_path("raw");
	for (unsigned int c = 0; c < 2; c++) {
		struct block_image_params params = { .id = "t", .direct = true };
		struct block_queue *bq = NULL;
		struct block_image *img = NULL;
		struct err err = { 0 };
		int fd;

		tools_fill(model, 1 << 20, 5);
		tools_write_file(raw, model, 1 << 20);
		tools_qemu_img_ok("convert -q%s -f raw -O qcow2 -o cluster_size=8k %s %s",
				  c ? " -c" : "", raw, path);
		fd = tools_open_fd(path, false);
		if (block_image_open(&block_format_qcow2, fd, &params, &img, &err) < 0) {
			g_test_skip(err.msg);
			close(fd);
			break;
		}
		g_assert_cmpint(block_queue_new(img, NULL, TOOLS_DEPTH, &bq, NULL), ==, 0);
		for (unsigned int i = 0; i < 40; i++) {
			uint64_t block = img->logical_block;
			uint64_t off = tools_random(&random) % ((1 << 20) / block - 8) * block;
			uint64_t len = (1 + tools_random(&random) % 7) * block;

			if (i % 3 == 2) {
				memset(model + off, 0, len);
				g_assert_cmpint(tools_range(bq, BLOCK_OP_WRITE_ZEROES, off, len,
							    i % 2),
						==, 0);
			} else {
				tools_fill(model + off, len, i);
				g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, off, model + off, len),
						==, 0);
			}
		}
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, 0, in, 1 << 20), ==, 0);
		g_assert_cmpmem(in, 1 << 20, model, 1 << 20);
		block_queue_free(bq);
		block_image_close(img);
		tools_write_file(raw, model, 1 << 20);
		tools_qemu_img_ok("check -q %s", path);
		tools_qemu_img_ok("compare -q -f raw -F qcow2 %s %s", raw, path);
	}
	unlink(path);
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/qcow2/repair", test_repair);
	g_test_add_func("/block/qcow2/full", test_full);
	g_test_add_func("/block/qcow2/no-space", test_no_space);
	g_test_add_func("/block/qcow2/direct", test_direct);
	g_test_add_func("/block/qcow2/discard", test_discard);
	g_test_add_func("/block/qcow2/resize", test_resize);
	r = g_test_run();
	tools_clean_up();
	return r;
}
