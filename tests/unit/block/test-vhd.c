/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHD and VHDX images that qemu-img makes: used at random against a model, compared
 * with it by qemu-img, killed in the middle, and with each field of their headers wrong
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/math.h"
#include "vmm/block/vhd-abi.h"
#include "vmm/block/vhdx/internal.h"

#define CHUNK_MAX (96U << 10)

struct variant {
	const char *name;
	const struct block_format_ops *format;
	const char *qemu, *options; /* of qemu-img create */
	uint64_t size;
	uint32_t sector;
};

static const struct variant variants[] = {
	{ "vhd-dynamic", &block_format_vhd, "vpc", "subformat=dynamic,force_size=on", 24 << 20,
	  512 },
	{ "vhd-fixed", &block_format_vhd, "vpc", "subformat=fixed,force_size=on", 8 << 20, 512 },
	{ "vhdx", &block_format_vhdx, "vhdx", "subformat=dynamic,block_size=1M", 40 << 20, 512 },
	{ "vhdx-8m", &block_format_vhdx, "vhdx", "subformat=dynamic,block_size=8M", 40 << 20, 512 },
	{ "vhdx-fixed", &block_format_vhdx, "vhdx", "subformat=fixed", 16 << 20, 512 },
	{ "vhdx-log", &block_format_vhdx, "vhdx", "subformat=dynamic,block_size=1M,log_size=4M",
	  24 << 20, 512 },
};

static char *make_image(const struct variant *v)
{
	char *path = tools_path(v->name);

	unlink(path);
	tools_qemu_img_ok("create -q -f %s -o %s %s %llu", v->qemu, v->options, path,
			  (unsigned long long)v->size);
	return path;
}

static int try_open(const struct variant *v, const char *path, bool readonly,
		    struct block_image **ret, struct err *err)
{
	const struct block_image_params params = { .id = "t", .readonly = readonly };
	int fd = tools_open_fd(path, readonly), r;

	r = block_image_open(v->format, fd, &params, ret, err);
	if (r < 0)
		g_assert_cmpint(close(fd), ==, 0); /* it stayed ours */
	return r;
}

static struct block_image *open_image(const struct variant *v, const char *path, bool readonly)
{
	struct block_image *img = NULL;
	struct err err = { 0 };

	if (try_open(v, path, readonly, &img, &err) < 0)
		g_error("%s: %s", path, err.msg);
	g_assert_cmpuint(img->size, ==, v->size);
	return img;
}

static void compare(const struct variant *v, const char *path, const uint8_t *model)
{
	g_autofree char *raw = tools_path("model");

	tools_write_file(raw, model, v->size);
	tools_qemu_img_ok("compare -f raw -F %s %s %s", v->qemu, raw, path);
}

/* n random reads and writes; what is read must be the model's. */
static void use(struct block_queue *bq, const struct variant *v, uint8_t *model, unsigned int n,
		uint64_t seed)
{
	g_autofree uint8_t *buf = g_malloc(CHUNK_MAX);
	uint64_t random = seed;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t off = align_down(tools_random(&random) % v->size, v->sector);
		uint64_t len = align_down(1 + tools_random(&random) % CHUNK_MAX, v->sector);

		len = MIN(MAX(len, (uint64_t)v->sector), v->size - off);
		if (tools_random(&random) % 2) {
			tools_fill(buf, len, tools_random(&random));
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, off, buf, len), ==, 0);
			memcpy(model + off, buf, len);
		} else {
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, off, buf, len), ==, 0);
			g_assert_cmpmem(buf, len, model + off, len);
		}
		if (i % 16 == 15)
			g_assert_cmpint(tools_rw(bq, BLOCK_OP_FLUSH, 0, NULL, 0), ==, 0);
	}
}

static void test_random(gconstpointer data)
{
	static const char *const engines[] = { "io_uring", "aio", "sync" };
	const struct variant *v = data;
	g_autofree uint8_t *model = g_malloc0(v->size);
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = make_image(v);
	for (unsigned int i = 0; i < G_N_ELEMENTS(engines); i++) {
		struct block_image *img = open_image(v, path, false);
		struct block_queue *bq = NULL;
		struct err err = { 0 };

		if (block_queue_new(img, engines[i], TOOLS_DEPTH, &bq, &err) < 0)
			g_error("%s", err.msg);
		use(bq, v, model, 60, i);
		block_queue_free(bq);
		block_image_close(img);
		compare(v, path, model);
		/* And for who only reads. */
		img = open_image(v, path, true);
		g_assert_cmpint(block_queue_new(img, engines[i], TOOLS_DEPTH, &bq, &err), ==, 0);
		for (uint64_t off = 0; off < v->size; off += CHUNK_MAX) {
			uint8_t *buf = g_malloc(CHUNK_MAX);
			size_t len = MIN(CHUNK_MAX, v->size - off);

			g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, off, buf, len), ==, 0);
			g_assert_cmpmem(buf, len, model + off, len);
			g_free(buf);
		}
		block_queue_free(bq);
		block_image_close(img);
	}
}

/* --- killed --- */

/* What was flushed before the kill; shared with the child. */
struct shared {
	volatile uint64_t n_flushed;
};

#define KILL_PIECE 4096U

/* Piece i of the disk is written in a random order, each once, with a flush now and then. */
static void write_until_killed(struct block_queue *bq, const uint32_t *order, uint64_t n,
			       struct shared *shared)
{
	uint8_t buf[KILL_PIECE];

	for (uint64_t i = 0; i < n; i++) {
		tools_fill(buf, sizeof(buf), order[i] + 1);
		if (tools_rw(bq, BLOCK_OP_WRITE, (uint64_t)order[i] * KILL_PIECE, buf,
			     sizeof(buf)) < 0)
			_exit(1);
		if (i % 8 == 7) {
			if (tools_rw(bq, BLOCK_OP_FLUSH, 0, NULL, 0) < 0)
				_exit(1);
			shared->n_flushed = i + 1;
		}
	}
	_exit(0);
}

static void kill_once(const struct variant *v, const char *path, const uint32_t *order,
		      struct shared *shared, uint64_t delay)
{
	struct block_image *img;
	struct block_queue *bq = NULL;
	int status = 0;
	pid_t pid;

	shared->n_flushed = 0;
	pid = fork();
	if (pid == 0) {
		img = open_image(v, path, false);
		if (block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL) < 0)
			_exit(1);
		write_until_killed(bq, order, v->size / KILL_PIECE, shared);
	}
	g_assert_cmpint(pid, >, 0);
	/* Some way into it; where exactly does not matter. */
	while (shared->n_flushed < delay && waitpid(pid, &status, WNOHANG) == 0)
		g_usleep(100);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	g_assert_false(WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

static void check_after_kill(const struct variant *v, const char *path, const uint32_t *order,
			     uint64_t n_flushed)
{
	struct block_image *img = open_image(v, path, false);
	struct block_queue *bq = NULL;
	uint8_t buf[KILL_PIECE], wanted[KILL_PIECE];
	static const uint8_t zeroes[KILL_PIECE];

	g_assert_cmpint(block_queue_new(img, "sync", TOOLS_DEPTH, &bq, NULL), ==, 0);
	for (uint64_t i = 0; i < v->size / KILL_PIECE; i++) {
		g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, (uint64_t)order[i] * KILL_PIECE, buf,
					 sizeof(buf)),
				==, 0);
		tools_fill(wanted, sizeof(wanted), order[i] + 1);
		/* What was not flushed may have got there, or some of its sectors. */
		for (size_t at = 0; i >= n_flushed && at < sizeof(buf); at += BLOCK_SECTOR)
			if (memcmp(buf + at, zeroes, BLOCK_SECTOR) == 0)
				memset(wanted + at, 0, BLOCK_SECTOR);
		g_assert_cmpmem(buf, sizeof(buf), wanted, sizeof(wanted));
	}
	block_queue_free(bq);
	block_image_close(img);
}

static void test_killed(gconstpointer data)
{
	const struct variant *v = data;
	uint64_t n = v->size / KILL_PIECE, random = 11;
	g_autofree uint32_t *order = g_new(uint32_t, n);
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	g_assert_true(shared != MAP_FAILED);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint64_t i = n - 1; i > 0; i--) {
		uint64_t j = tools_random(&random) % (i + 1);
		uint32_t other = order[i];

		order[i] = order[j];
		order[j] = other;
	}
	for (unsigned int round = 0; round < (g_test_thorough() ? 40U : 6U); round++) {
		path = (g_free(path), make_image(v));
		kill_once(v, path, order, shared, 8 + round * 24);
		check_after_kill(v, path, order, shared->n_flushed);
		/* Closed by then: qemu-img finds nothing either. */
		if (v->format == &block_format_vhdx)
			tools_qemu_img_ok("check -q -f vhdx %s", path);
	}
	munmap(shared, sizeof(*shared));
}

static void test_resize(void)
{
	if (!tools_have_qemu_img())
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
		g_autofree char *path = make_image(&variants[i]);
		g_autofree char *text = g_strdup_printf("images of format '%s' cannot be resized",
							variants[i].format->name);
		struct block_image *img = open_image(&variants[i], path, false);
		struct err err = { 0 };

		g_assert_cmpint(block_image_resize(img, 64 << 20, &err), ==, -EOPNOTSUPP);
		g_assert_cmpstr(err.msg, ==, text);
		block_image_close(img);
	}
}

/* An unclean image is of no use to who may not write, and says so. */
static void test_readonly_log(void)
{
	const struct variant *v = &variants[2];
	struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	g_autofree uint32_t *order = g_new(uint32_t, v->size / KILL_PIECE);
	g_autofree char *path = NULL;
	struct block_image *img = NULL;
	struct err err = { 0 };

	if (!tools_have_qemu_img())
		return;
	path = make_image(v);
	for (uint32_t i = 0; i < v->size / KILL_PIECE; i++)
		order[i] = i;
	kill_once(v, path, order, shared, 16);
	g_assert_cmpint(try_open(v, path, true, &img, &err), ==, -EROFS);
	g_assert_cmpstr(err.msg, ==,
			"disk 't': the VHDX image was not closed and its log must be replayed, "
			"which a disk that is 'readonly' cannot");
	/* qemu-img replays what we wrote into the log. */
	tools_qemu_img_ok("check -q -r all -f vhdx %s", path);
	check_after_kill(v, path, order, shared->n_flushed);
	munmap(shared, sizeof(*shared));
}

/* --- wrong headers --- */

struct field {
	const char *name;
	uint64_t off; /* in the file; from the end when negative is set */
	bool from_end;
	const char *bytes; /* what is put there */
	size_t len;
	/* What is summed again afterwards: */
	enum {
		NOTHING,
		FOOTER,
		DYNAMIC,
		HEADERS,
		REGIONS
	} sum;
	const char *error; /* NULL: it opens */
};

#define PUT(s)       s, sizeof(s) - 1
#define VHDX_ITEM(n) (0x300000 + 32 + 32 * (n))

static const struct field vhd_fields[] = {
	{ "nothing", 0, false, PUT(""), NOTHING, NULL },
	{ "copy-of-footer", 0, false, PUT("CONECTIX"), NOTHING, NULL },
	{ "version", 12, true, PUT("\0\2\0\0"), FOOTER,
	  "the VHD footer has version 2.0, must be 1.x" },
	{ "differencing", 60, true, PUT("\0\0\0\4"), FOOTER,
	  "differencing VHD images are not supported, the image must be fixed or dynamic" },
	{ "type", 60, true, PUT("\0\0\0\7"), FOOTER,
	  "the VHD footer has disk type 7, must be 2 (fixed) or 3 (dynamic)" },
	{ "size-0", 48, true, PUT("\0\0\0\0\0\0\0\0"), FOOTER,
	  "the VHD footer has a size of 0 bytes, must be a multiple of 512" },
	{ "size-odd", 48, true, PUT("\0\0\0\0\0\0\1\1"), FOOTER,
	  "the VHD footer has a size of 257 bytes, must be a multiple of 512" },
	{ "size-huge", 48, true, PUT("\xff\0\0\0\0\0\0\0"), FOOTER,
	  "the VHD table has 12 entries, must cover 18374686479671623680 bytes with at most "
	  "4194304" },
	{ "saved", 84, true, PUT("\1"), FOOTER,
	  "the VHD image belongs to a machine in saved state" },
	{ "dynamic-off", 16, true, PUT("\xff\xff\xff\xff\xff\xff\xfe\0"), FOOTER,
	  "the VHD footer puts the dynamic header at 18446744073709551104, outside the file" },
	{ "dynamic-cookie", 512, false, PUT("x"), NOTHING,
	  "the VHD dynamic header is damaged: cookie or checksum is wrong" },
	{ "dynamic-version", 512 + 24, false, PUT("\0\3\0\0"), DYNAMIC,
	  "the VHD dynamic header has version 0x30000, must be 1.x" },
	{ "entries", 512 + 28, false, PUT("\0\0\0\0"), DYNAMIC,
	  "the VHD table has 0 entries, must cover 25165824 bytes with at most 4194304" },
	{ "entries-huge", 512 + 28, false, PUT("\xff\0\0\0"), DYNAMIC,
	  "the VHD table has 4278190080 entries, must cover 25165824 bytes with at most 4194304" },
	{ "block", 512 + 32, false, PUT("\0\0\3\0"), DYNAMIC,
	  "the VHD block size is 768 bytes, must be a power of two from 4 KiB to 256 MiB" },
	{ "table", 512 + 16, false, PUT("\x7f\0\0\0\0\0\0\0"), DYNAMIC,
	  "the VHD table lies at 9151314442816847872, outside the file" },
	{ "entry-outside", 1536, false, PUT("\0\1\0\0"), NOTHING,
	  "VHD block 0 lies at 33554432, outside the file or over its headers or "
	  "footer" },
	{ "entry-footer", 1536, false, PUT("\0\0\0\0"), NOTHING,
	  "VHD block 0 lies at 0, outside the file or over its headers or "
	  "footer" },
	{ "entry-table", 1536, false, PUT("\0\0\0\2"), NOTHING,
	  "VHD block 0 lies at 1024, outside the file or over its headers or "
	  "footer" },
	{ "entry-trailer", 1536, false, PUT("\0\0\0\5"), NOTHING,
	  "VHD block 0 lies at 2560, outside the file or over its headers or "
	  "footer" },
	{ "entry-twice", 1536 + 4, false, PUT("\0\0\0\4"), NOTHING,
	  "two VHD blocks lie over each other at 2048" },
};

static const struct field vhdx_fields[] = {
	{ "nothing", 0, false, PUT(""), NOTHING, NULL },
	{ "one-header", 0x10000, false, PUT("HEAD"), NOTHING, NULL },
	{ "version", 0x10000 + 66, false, PUT("\2\0"), HEADERS,
	  "the VHDX header has version 2, must be 1" },
	{ "log-version", 0x10000 + 64, false, PUT("\1\0"), HEADERS,
	  "the VHDX log has version 1, must be 0" },
	{ "log-length", 0x10000 + 68, false, PUT("\1\0\0\0"), HEADERS,
	  "the VHDX log of 1 bytes at 1048576 is not in the file, in whole MiB" },
	{ "log-offset", 0x10000 + 72, false, PUT("\0\0\0\0\0\0\0\x7f"), HEADERS,
	  "the VHDX log of 1048576 bytes at 9151314442816847872 is not in the file, in whole MiB" },
	{ "log-guid", 0x10000 + 48, false, PUT("\1\2\3\4"), HEADERS, NULL },
	{ "regions-count", 0x30000 + 8, false, PUT("\xff\xff\xff\xff"), REGIONS,
	  "both VHDX region tables are damaged: signature, count or checksum is wrong" },
	{ "regions-none", 0x30000 + 8, false, PUT("\0\0\0\0"), REGIONS,
	  "the VHDX image has no BAT region" },
	{ "region-off", 0x30000 + 16 + 16, false, PUT("\1\0\0\0\0\0\0\0"), REGIONS,
	  "the VHDX BAT region of 1048576 bytes at 1 is not in the file, in whole MiB beside the "
	  "log" },
	{ "region-log", 0x30000 + 16 + 16, false, PUT("\0\0\x10\0\0\0\0\0"), REGIONS,
	  "the VHDX BAT region of 1048576 bytes at 1048576 is not in the file, in whole MiB beside "
	  "the log" },
	{ "region-over", 0x30000 + 16 + 16, false, PUT("\0\0\x30\0\0\0\0\0"), REGIONS,
	  "the VHDX BAT and metadata regions overlap" },
	{ "region-unknown", 0x30000 + 16, false,
	  PUT("0123456789abcdef\0\0\x20\0\0\0\0\0\0\0\x10\0\1\0\0\0"), REGIONS,
	  "the VHDX image has a region that is required and unknown" },
	{ "items-signature", 0x300000, false, PUT("M"), NOTHING,
	  "the VHDX metadata table is damaged: signature or count is wrong" },
	{ "items-count", 0x300000 + 10, false, PUT("\xff\xff"), NOTHING,
	  "the VHDX metadata table is damaged: signature or count is wrong" },
	{ "items-few", 0x300000 + 10, false, PUT("\1\0"), NOTHING,
	  "the VHDX metadata lacks the block size, the disk's size or a sector size" },
	{ "item-off", VHDX_ITEM(0) + 16, false, PUT("\xff\xff\xff\xff"), NOTHING,
	  "a VHDX metadata item of 8 bytes at 4294967295 is damaged" },
	{ "item-length", VHDX_ITEM(0) + 20, false, PUT("\xff\xff\xff\xff"), NOTHING,
	  "a VHDX metadata item of 4294967295 bytes at 65536 is damaged" },
	{ "item-unknown", VHDX_ITEM(0), false, PUT("\0"), NOTHING,
	  "the VHDX image has metadata that is required and unknown" },
	{ "block-size", 0x310000, false, PUT("\1\0\0\0"), NOTHING,
	  "the VHDX block size is 1 bytes, must be a power of two from 1 MiB to 256 MiB" },
	{ "parent", 0x310000 + 4, false, PUT("\2"), NOTHING,
	  "differencing VHDX images are not supported, the image must stand alone" },
	{ "size-0", 0x310000 + 8, false, PUT("\0\0\0\0\0\0\0\0"), NOTHING,
	  "the VHDX disk has 0 bytes, must be whole sectors of 512, at most 64 TiB" },
	{ "size-large", 0x310000 + 8, false, PUT("\0\0\0\0\0\x20\0\0"), NOTHING,
	  "the VHDX BAT region has 1048576 bytes, a disk of 35184372088832 bytes needs "
	  "268500984" },
	{ "bat-state", 0x200000, false, PUT("\4"), NOTHING,
	  "VHDX block 0 has state 4, must be 0 to 3 or 6" },
	{ "bat-outside", 0x200000, false, PUT("\6\0\0\0\0\0\xff\0"), NOTHING,
	  "VHDX block 0 lies at 71776119061217280, outside the file or over its tables" },
	{ "bat-log", 0x200000, false, PUT("\6\0\x10\0\0\0\0\0"), NOTHING,
	  "VHDX block 0 lies at 1048576, outside the file or over its tables" },
};

static uint32_t vhd_sum(const uint8_t *p, size_t len, size_t at)
{
	uint32_t sum = 0;

	memset((uint8_t *)(uintptr_t)p + at, 0, 4);
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	return GUINT32_TO_BE(~sum);
}

static void sum_again(const struct field *f, uint8_t *image, size_t len)
{
	uint32_t sum;

	switch (f->sum) {
	case NOTHING:
		break;
	case FOOTER:
		sum = vhd_sum(image + len - 512, 512, 64);
		memcpy(image + len - 512 + 64, &sum, 4);
		break;
	case DYNAMIC:
		sum = vhd_sum(image + 512, 1024, 36);
		memcpy(image + 512 + 36, &sum, 4);
		break;
	case HEADERS: /* the second is no better */
		bytes_put_le(image + 0x10004, 4, vhdx_checksum(image + 0x10000, 4096, 4));
		memset(image + 0x20000, 0, 4096);
		break;
	case REGIONS:
		bytes_put_le(image + 0x30004, 4, vhdx_checksum(image + 0x30000, 65536, 4));
		memset(image + 0x40000, 0, 65536);
		break;
	}
}

static void test_fields(const struct variant *v, const struct field *fields, size_t n)
{
	g_autofree char *path = NULL, *image = NULL;
	struct block_queue *bq = NULL;
	struct block_image *img;
	uint8_t sector[512] = { 1 };
	size_t len = 0;

	if (!tools_have_qemu_img())
		return;
	path = make_image(v);
	/* One block is there. */
	img = open_image(v, path, false);
	g_assert_cmpint(block_queue_new(img, "sync", 1, &bq, NULL), ==, 0);
	g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, 0, sector, sizeof(sector)), ==, 0);
	block_queue_free(bq);
	block_image_close(img);
	g_assert_true(g_file_get_contents(path, &image, &len, NULL));
	for (size_t i = 0; i < n; i++) {
		const struct field *f = &fields[i];
		g_autofree uint8_t *bad = g_memdup2(image, len);
		struct err err = { 0 };
		int r;

		memcpy(bad + (f->from_end ? len - 512 + f->off : f->off), f->bytes, f->len);
		sum_again(f, bad, len);
		tools_write_file(path, bad, len);
		img = NULL;
		r = try_open(v, path, false, &img, &err);
		g_test_message("%s: %s", f->name, err.msg);
		if (f->error) {
			g_assert_cmpint(r, <, 0);
			g_assert_true(g_str_has_prefix(err.msg, "disk 't': "));
			g_assert_cmpstr(err.msg + strlen("disk 't': "), ==, f->error);
		} else {
			g_assert_cmpint(r, ==, 0);
			block_image_close(img);
		}
	}
}

static void test_vhd_fields(void)
{
	test_fields(&variants[0], vhd_fields, G_N_ELEMENTS(vhd_fields));
}

static void test_vhdx_fields(void)
{
	test_fields(&variants[2], vhdx_fields, G_N_ELEMENTS(vhdx_fields));
}

/* A log of one entry, which zeroes len bytes at off. */
static void put_zeroing_log(uint8_t *image, uint64_t off, uint64_t len, uint64_t size)
{
	struct vhdx_log_header *h = (void *)(image + VHDX_SECTION);
	struct vhdx_log_descriptor *d = (void *)(h + 1);

	for (size_t at = VHDX_HEADER_OFF; at <= VHDX_HEADER_2_OFF; at += 0x10000) {
		struct vhdx_header *header = (void *)(image + at);

		memset(&header->log, 7, sizeof(header->log));
		header->checksum = le32_make(vhdx_checksum(header, sizeof(*header),
							   offsetof(struct vhdx_header, checksum)));
	}
	memset(h, 0, VHDX_LOG_SECTOR);
	memcpy(h->signature, "loge", 4);
	h->length = le32_make(VHDX_LOG_SECTOR);
	h->sequence = le64_make(1);
	h->n_descriptors = le32_make(1);
	memset(&h->log, 7, sizeof(h->log));
	h->flushed_size = h->last_size = le64_make(size);
	memcpy(d->signature, "zero", 4);
	d->leading = le64_make(len);
	d->off = le64_make(off);
	d->sequence = le64_make(1);
	h->checksum = le32_make(
		vhdx_checksum(h, VHDX_LOG_SECTOR, offsetof(struct vhdx_log_header, checksum)));
}

/* The log's zeroes stay inside the file, however many it asks for. */
static void test_log_zeroes(void)
{
	const struct variant *v = &variants[2];
	g_autofree char *path = NULL, *image = NULL;
	struct block_queue *bq = NULL;
	struct block_image *img;
	struct err err = { 0 };
	uint8_t data[4096], zeroes[4096] = { 0 };
	uint64_t place;
	size_t len = 0;

	if (!tools_have_qemu_img())
		return;
	path = make_image(v);
	memset(data, 0x5a, sizeof(data));
	img = open_image(v, path, false);
	g_assert_cmpint(block_queue_new(img, "sync", 1, &bq, NULL), ==, 0);
	g_assert_cmpint(tools_rw(bq, BLOCK_OP_WRITE, 0, data, sizeof(data)), ==, 0);
	block_queue_free(bq);
	block_image_close(img);
	g_assert_true(g_file_get_contents(path, &image, &len, NULL));
	place = bytes_get_le((uint8_t *)image + 0x200000, 8) & VHDX_BAT_OFF_MASK;

	put_zeroing_log((uint8_t *)image, place, 1ULL << 50, len);
	tools_write_file(path, image, len);
	img = NULL;
	g_assert_cmpint(try_open(v, path, false, &img, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==,
			"disk 't': the VHDX log has a damaged descriptor, for 1125899906842624 "
			"bytes at 8388608");

	put_zeroing_log((uint8_t *)image, place, sizeof(data), len);
	tools_write_file(path, image, len);
	img = open_image(v, path, false);
	g_assert_cmpint(block_queue_new(img, "sync", 1, &bq, NULL), ==, 0);
	g_assert_cmpint(tools_rw(bq, BLOCK_OP_READ, 0, data, sizeof(data)), ==, 0);
	g_assert_cmpmem(data, sizeof(data), zeroes, sizeof(zeroes));
	block_queue_free(bq);
	block_image_close(img);
}

/* Every byte of what is parsed, changed in turn: anything but a crash. */
static void test_bytes(gconstpointer data)
{
	const struct variant *v = data;
	g_autofree char *path = NULL, *image = NULL;
	size_t len = 0, step = g_test_thorough() ? 1 : 7;

	if (!tools_have_qemu_img())
		return;
	path = make_image(v);
	g_assert_true(g_file_get_contents(path, &image, &len, NULL));
	for (size_t at = 0; at < len; at += step) {
		/* Between the tables there is nothing. */
		if (v->format == &block_format_vhdx && (at & 0xffff) > 300)
			at = (at | 0xffff) + 1;
		else if (v->format == &block_format_vhd && at > 3000 && at < len - 512)
			at = len - 512;
		if (at >= len || at > 0x310040)
			break;
		for (unsigned int bit = 0; bit < 8; bit += 7) {
			struct block_image *img = NULL;
			struct err err = { 0 };
			int fd = open(path, O_RDWR | O_CLOEXEC);
			uint8_t byte = (uint8_t)((uint8_t)image[at] ^ 1U << bit);

			g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
			if (try_open(v, path, false, &img, &err) >= 0)
				block_image_close(img);
			else
				g_assert_cmpint(strlen(err.msg), >, 20);
			g_assert_cmpint(pwrite(fd, image + at, 1, (off_t)at), ==, 1);
			close(fd);
		}
	}
}

static void test_crc32c(void)
{
	g_assert_cmphex(vhdx_crc32c(0, "123456789", 9), ==, 0xe3069283);
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
		g_autofree char *random = g_strdup_printf("/block/random/%s", variants[i].name);

		g_test_add_data_func(random, &variants[i], test_random);
	}
	g_test_add_data_func("/block/killed/vhd", &variants[0], test_killed);
	g_test_add_data_func("/block/killed/vhdx", &variants[2], test_killed);
	g_test_add_func("/block/vhdx/log/readonly", test_readonly_log);
	g_test_add_func("/block/vhdx/log/zeroes", test_log_zeroes);
	g_test_add_func("/block/vhd/resize", test_resize);
	g_test_add_func("/block/vhd/fields", test_vhd_fields);
	g_test_add_func("/block/vhdx/fields", test_vhdx_fields);
	g_test_add_data_func("/block/vhd/bytes", &variants[0], test_bytes);
	g_test_add_data_func("/block/vhdx/bytes", &variants[2], test_bytes);
	g_test_add_func("/block/vhdx/crc32c", test_crc32c);
	r = g_test_run();
	tools_clean_up();
	return r;
}
