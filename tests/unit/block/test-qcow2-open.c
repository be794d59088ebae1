/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images that are damaged, unsupported or not what was said: a sentence, or
 * an error for the guest, and never more
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/math.h"
#include "vmm/block/qcow2/backing.h"

#define DISK    (64ULL << 20)
#define CLUSTER 65536ULL

/* Where qemu-img puts things in a fresh image of that size. */
#define REFTABLE (1 * CLUSTER)
#define REFBLOCK (2 * CLUSTER)
#define L1       (3 * CLUSTER)
#define L2       (4 * CLUSTER)
#define DATA     (5 * CLUSTER)

struct disk {
	struct block_image *img;
	struct block_queue *bq;
};

static struct disk disk_open(const char *path, bool readonly)
{
	struct disk d = { .img = tools_open(path, NULL, readonly) };

	g_assert_cmpint(block_queue_new(d.img, "sync", TOOLS_DEPTH, &d.bq, NULL), ==, 0);
	return d;
}

static void disk_close(struct disk *d)
{
	block_queue_free(d->bq);
	block_image_close(d->img);
}

static void assert_marked_corrupt(const char *path, bool corrupt)
{
	g_autofree char *bytes = NULL;

	g_assert_true(g_file_get_contents(path, &bytes, NULL, NULL));
	g_assert_cmpuint(qcow2_get64(bytes + QCOW2_H_INCOMPATIBLE), ==,
			 corrupt ? QCOW2_INCOMPATIBLE_CORRUPT : 0);
}

/* The bytes of an image with data in its first two clusters. */
static uint8_t *fresh(size_t *ret_len)
{
	static uint8_t *bytes;
	static size_t len;

	if (!bytes) {
		g_autofree char *path = tools_path("fresh");
		uint8_t buf[4096];
		struct disk d;

		tools_qemu_img_ok("create -q -f qcow2 %s %llu", path, DISK);
		d = disk_open(path, false);
		memset(buf, 7, sizeof(buf));
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, 0, buf, 4096), ==, 0);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, CLUSTER, buf, 4096), ==, 0);
		disk_close(&d);
		g_assert_true(g_file_get_contents(path, (char **)&bytes, &len, NULL));
		g_assert_cmpuint(qcow2_get64(bytes + QCOW2_H_REFTABLE_OFF), ==, REFTABLE);
		g_assert_cmpuint(qcow2_get64(bytes + QCOW2_H_L1_OFF), ==, L1);
		g_assert_cmpuint(qcow2_get64(bytes + L1), ==, L2 | QCOW2_COPIED);
		g_assert_cmpuint(qcow2_get64(bytes + L2), ==, DATA | QCOW2_COPIED);
	}
	*ret_len = len;
	return g_memdup2(bytes, len);
}

struct patch {
	const char *name;
	size_t off;
	unsigned int bytes;
	uint64_t value;
	bool readonly;
	const char *text; /* NULL: it is opened */
};

static void apply(uint8_t *image, const struct patch *p)
{
	for (unsigned int i = 0; i < p->bytes; i++)
		image[p->off + i] =
			p->bytes > 8 ? 0 : (uint8_t)(p->value >> 8 * (p->bytes - 1 - i));
}

static void test_header(void)
{
	static const struct patch patches[] = {
		{ "magic", 0, 4, 0x51464900, false, "the file has no qcow2 header" },
		{ "version 1", 4, 4, 1, false, "qcow2 version 1 is not supported: 2 and 3 are" },
		{ "version 4", 4, 4, 4, false, "qcow2 version 4 is not supported: 2 and 3 are" },
		{ "backing without a length", 8, 8, 512, false,
		  "the backing file's name has 0 bytes: 1 to 1023 work" },
		{ "backing far away", 8, 12, 0, false, NULL },
		{ "cluster_bits 8", 20, 4, 8, false, "cluster_bits is 8: 9 to 21 work" },
		{ "cluster_bits 22", 20, 4, 22, false, "cluster_bits is 22: 9 to 21 work" },
		{ "cluster_bits 2^31", 20, 4, 1U << 31, false,
		  "cluster_bits is 2147483648: 9 to 21 work" },
		{ "cluster_bits 9", 20, 4, 9, false,
		  "the L1 table has 1 entries, too few for a disk of 67108864 bytes" },
		{ "size 0", 24, 8, 0, false, "the disk has 0 bytes, less than one block of 512" },
		{ "size 2^63", 24, 8, 1ULL << 63, false,
		  "the disk's size of 9223372036854775808 bytes is too large" },
		{ "size 2^62", 24, 8, 1ULL << 62, false,
		  "the L1 table has 1 entries, too few for a disk of 4611686018427387904 bytes" },
		{ "AES", 32, 4, 1, false,
		  "the image is encrypted (method 1, AES), which is not supported" },
		{ "LUKS", 32, 4, 2, true,
		  "the image is encrypted (method 2, LUKS), which is not supported" },
		{ "no L1", 36, 4, 0, false,
		  "the L1 table has 0 entries, too few for a disk of 67108864 bytes" },
		{ "large L1", 36, 4, 4194304, false,
		  "the L1 table of 33554432 bytes at 196608 is not inside the file" },
		{ "too large L1", 36, 4, 4194305, false,
		  "the L1 table has 4194305 entries: at most 4194304 work" },
		{ "L1 in the header", 40, 8, 0, false,
		  "the L1 table is at 0, which is no cluster's start" },
		{ "unaligned L1", 40, 8, L1 + 512, false,
		  "the L1 table is at 197120, which is no cluster's start" },
		{ "L1 outside", 40, 8, 1ULL << 40, false,
		  "the L1 table of 8 bytes at 1099511627776 is not inside the file" },
		{ "L1 at the end of numbers", 40, 8, 0xffffffffffff0000ULL, false,
		  "the L1 table of 8 bytes at 18446744073709486080 is not inside the file" },
		{ "L1 in the refcount table", 40, 8, REFTABLE, false,
		  "the L1 table at 65536 and the refcount table at 65536 overlap" },
		{ "refcount table in the header", 48, 8, 0, false,
		  "the refcount table is at 0, which is no cluster's start" },
		{ "unaligned refcount table", 48, 8, REFTABLE + 8, false,
		  "the refcount table is at 65544, which is no cluster's start" },
		{ "refcount table outside", 48, 8, 1ULL << 40, false,
		  "the refcount table of 65536 bytes at 1099511627776 is not inside the file" },
		{ "no refcount table", 56, 4, 0, false,
		  "the refcount table has 0 clusters: 1 to 128 work" },
		{ "large refcount table", 56, 4, 128, false,
		  "the refcount table of 8388608 bytes at 65536 is not inside the file" },
		{ "too large refcount table", 56, 4, 129, false,
		  "the refcount table has 129 clusters: 1 to 128 work" },
		{ "snapshots", 60, 4, 2, false,
		  "the image has 2 internal snapshots, with which it cannot be written: delete them "
		  "with 'qemu-img snapshot -d'" },
		{ "snapshots, only read", 60, 4, 2, true, NULL },
		{ "corrupt", 72, 8, 2, false,
		  "the image is marked corrupt: it can be opened with 'readonly', or repaired with "
		  "'qemu-img check -r all'" },
		{ "corrupt, only read", 72, 8, 2, true, NULL },
		{ "data file", 72, 8, 4, false,
		  "the image keeps its data in an external data file, which is not supported" },
		{ "compression without type", 72, 8, 8, false,
		  "compression type 0 is not supported: zlib (0) and zstd (1, with its feature bit) "
		  "are" },
		{ "unknown feature", 72, 8, 1ULL << 40 | 1ULL << 33, false,
		  "the image has features that are not supported: bit 33, bit 40" },
		{ "unknown compatible feature", 80, 8, 1ULL << 40, false, NULL },
		{ "unknown autoclear feature", 88, 8, 1ULL << 40, false, NULL },
		{ "refcount_order", 96, 4, 7, false, "refcount_order is 7: at most 6 works" },
		{ "header_length 72", 100, 4, 72, false,
		  "the qcow2 header states a length of 72 bytes" },
		{ "header_length 108", 100, 4, 108, false,
		  "the qcow2 header states a length of 108 bytes" },
		{ "header_length 2^31", 100, 4, 1U << 31, false,
		  "the qcow2 header states a length of 2147483648 bytes" },
		{ "compression type", 104, 1, 1, false,
		  "compression type 1 is not supported: zlib (0) and zstd (1, with its feature bit) "
		  "are" },
		{ "long extension", 116, 4, 0xfffffff0, false,
		  "header extension 0x6803f857 of 4294967280 bytes does not fit" },
		{ "L1 entry unaligned", L1, 8, (L2 + 512) | QCOW2_COPIED, false,
		  "L1 entry 0 points at 262656, where no L2 table can be" },
		{ "L1 entry outside", L1, 8, 1ULL << 40 | QCOW2_COPIED, true,
		  "L1 entry 0 points at 1099511627776, where no L2 table can be" },
		{ "L1 entry at the L1 table", L1, 8, L1 | QCOW2_COPIED, false,
		  "L1 entry 0 points at 196608, where no L2 table can be" },
	};
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	for (size_t i = 0; i < G_N_ELEMENTS(patches); i++) {
		const struct patch *p = &patches[i];
		size_t len;
		g_autofree uint8_t *image = fresh(&len);
		g_autofree char *want = g_strdup_printf("disk 't': %s", p->text ?: "");
		struct block_image *img;
		struct err err = { 0 };

		g_test_message("%s", p->name);
		apply(image, p);
		tools_write_file(path, image, len);
		img = tools_try_open(path, NULL, p->readonly, &err);
		if (p->text) {
			g_assert_null(img);
			g_assert_cmpstr(err.msg, ==, want);
		} else {
			g_assert_cmpstr(err.msg, ==, "");
			g_assert_nonnull(img);
			block_image_close(img);
		}
	}
}

/* Every byte of the header, each with several values: opened or refused, nothing else. */
static void test_header_bytes(void)
{
	static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
	size_t len;
	g_autofree uint8_t *image = NULL;
	g_autofree char *path = NULL;
	unsigned int n_opened = 0;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	image = fresh(&len);
	for (size_t at = 0; at < 128; at++) {
		for (size_t v = 0; v < G_N_ELEMENTS(values); v++) {
			struct err err = { 0 };
			struct block_image *img;
			uint8_t was = image[at];

			image[at] = values[v];
			tools_write_file(path, image, len);
			img = tools_try_open(path, NULL, true, &err);
			g_assert_true(!img == !!err.msg[0]);
			n_opened += img != NULL;
			block_image_close(img);
			image[at] = was;
		}
	}
	g_assert_cmpuint(n_opened, >, 20);
}

static void test_feature_names(void)
{
	size_t len;
	g_autofree uint8_t *image = NULL;
	g_autofree char *path = NULL;
	struct err err = { 0 };

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	image = fresh(&len);
	/* The table is the first extension, behind a header of 112 bytes. */
	g_assert_cmpuint(qcow2_get32(image + 112), ==, QCOW2_EXT_FEATURE_NAMES);
	image[120] = 0;
	image[121] = 45;
	memcpy(image + 122, "time travel\x01", 13);
	qcow2_put64(image + QCOW2_H_INCOMPATIBLE, 1ULL << 45);
	tools_write_file(path, image, len);
	g_assert_null(tools_try_open(path, NULL, false, &err));
	g_assert_cmpstr(err.msg, ==,
			"disk 't': the image has features that are not supported: bit 45 'time "
			"travel?'");
}

/* Entries that make no sense: the guest gets errors, the image its mark. */
static void test_entries(void)
{
	static const struct {
		const char *name;
		size_t off;
		uint64_t value;
		int read, write; /* of the first 4 KiB of the disk */
		bool corrupt;    /* after the write */
	} cases[] = {
		{ "unaligned", L2, (DATA + 512) | QCOW2_COPIED, -EIO, -EIO, true },
		{ "in the header", L2, 0 | QCOW2_COPIED, 0, 0, false },
		{ "in the L1 table", L2, L1 | QCOW2_COPIED, 0, -EIO, true },
		{ "in the refcount table", L2, REFTABLE | QCOW2_COPIED, 0, -EIO, true },
		{ "behind the file", L2, 1ULL << 50 | QCOW2_COPIED, 0, -EIO, true },
		{ "compressed, behind the file", L2, QCOW2_COMPRESSED | 1ULL << 45, -EIO, -EIO,
		  false },
		{ "compressed, no such data", L2, QCOW2_COMPRESSED | L1, -EIO, -EIO, false },
		{ "compressed, in the header", L2, QCOW2_COMPRESSED | 8, -EIO, -EIO, false },
		{ "compressed, longest", L2, QCOW2_COMPRESSED | DATA | 0xffULL << 54, -EIO, -EIO,
		  false },
		{ "reserved bits", L2, DATA | QCOW2_COPIED | 1ULL << 60 | 6, 0, 0, false },
		{ "zero with a place", L2, DATA | QCOW2_COPIED | 1, 0, 0, false },
	};
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		size_t len;
		g_autofree uint8_t *image = fresh(&len);
		struct disk d;
		uint8_t buf[4096] = { 0 };

		g_test_message("%s", cases[i].name);
		qcow2_put64(image + cases[i].off, cases[i].value);
		tools_write_file(path, image, len);
		d = disk_open(path, true);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_READ, 0, buf, 4096), ==, cases[i].read);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, 0, buf, 4096), ==, -EROFS);
		disk_close(&d);
		d = disk_open(path, false);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, 0, buf, 4096), ==, cases[i].write);
		/* Another cluster: reading goes on, writing only without damage. */
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_READ, CLUSTER, buf, 4096), ==, 0);
		g_assert_cmpint(buf[0], ==, 7);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, CLUSTER * 9, buf, 4096), ==,
				cases[i].corrupt ? -EIO : 0);
		disk_close(&d);
		assert_marked_corrupt(path, cases[i].corrupt);
	}
}

/* Tables and clusters without the flag that says they may be changed: they are copied. */
static void test_not_copied(void)
{
	size_t len;
	g_autofree uint8_t *image = NULL;
	g_autofree char *path = NULL;
	struct disk d;
	uint8_t buf[8192];

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	image = fresh(&len);
	qcow2_put64(image + L1, L2);
	qcow2_put64(image + L2, DATA);
	qcow2_put64(image + L2 + 8, DATA + CLUSTER);
	tools_write_file(path, image, len);
	d = disk_open(path, false);
	memset(buf, 9, sizeof(buf));
	g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, 512, buf, 512), ==, 0);
	g_assert_cmpint(tools_range(d.bq, BLOCK_OP_WRITE_ZEROES, CLUSTER + 512, 512, false), ==, 0);
	for (uint64_t at = 0; at <= CLUSTER; at += CLUSTER) {
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_READ, at, buf, 8192), ==, 0);
		g_assert_cmpint(buf[511], ==, 7);
		g_assert_cmpint(buf[512], ==, at ? 0 : 9);
		g_assert_cmpint(buf[1023], ==, at ? 0 : 9);
		g_assert_cmpint(buf[1024], ==, 7);
		g_assert_cmpint(buf[4095], ==, 7);
		g_assert_cmpint(buf[4096], ==, 0);
	}
	disk_close(&d);
	tools_qemu_img_ok("check -q %s", path);
}

/* A cluster that reads as zeroes and kept its place: which may be written only if it is one. */
static void test_kept(void)
{
	static const struct {
		const char *name;
		uint64_t place;
		bool counted;
		int result;
	} cases[] = {
		{ "its own", DATA, true, 0 },
		{ "L1 table", L1, true, -EIO },
		{ "refcount table", REFTABLE, true, -EIO },
		{ "L2 table", L2, true, -EIO },
		{ "header", 0, true, 0 }, /* no place at all: it gets one */
		{ "cut off", 16 * CLUSTER, true, 0 },
		{ "behind the end", 16 * CLUSTER, false, -EIO },
	};
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		size_t len;
		g_autofree uint8_t *image = fresh(&len);
		g_autofree uint8_t *after = NULL;
		struct disk d;
		uint8_t buf[4096], got[4096];
		int result;

		g_test_message("%s", cases[i].name);
		g_assert_cmpuint(len, <=, 16 * CLUSTER);
		qcow2_put64(image + L2, cases[i].place | QCOW2_COPIED | QCOW2_ZERO);
		if (cases[i].counted && cases[i].place == 16 * CLUSTER)
			image[REFBLOCK + 33] = 1;
		tools_write_file(path, image, len);
		d = disk_open(path, false);
		memset(buf, 0x33, sizeof(buf));
		result = tools_rw(d.bq, BLOCK_OP_WRITE, 0, buf, sizeof(buf));
		g_assert_cmpint(result, ==, cases[i].result);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_READ, 0, got, sizeof(got)), ==, 0);
		if (result == 0)
			g_assert_cmpmem(got, sizeof(got), buf, sizeof(buf));
		disk_close(&d);
		if (result == 0)
			continue;
		/* Not a byte of the tables was touched, but for the mark of damage. */
		assert_marked_corrupt(path, true);
		g_assert_true(g_file_get_contents(path, (char **)&after, &len, NULL));
		g_assert_cmpmem(after + CLUSTER, DATA - CLUSTER, image + CLUSTER, DATA - CLUSTER);
	}
}

/* Refcounts that call tables unused: the tables are not given away. */
static void test_refcounts(void)
{
	static const struct {
		const char *name;
		size_t off;
		uint64_t value;
		unsigned int bytes;
	} cases[] = {
		{ "header unused", REFBLOCK, 0, 2 },
		{ "L1 table unused", REFBLOCK + 6, 0, 2 },
		{ "L2 table unused", REFBLOCK + 8, 0, 2 },
		{ "block unaligned", REFTABLE, REFBLOCK + 512, 8 },
		{ "block outside", REFTABLE, 1ULL << 40, 8 },
		{ "block in the L1 table", REFTABLE, L1, 8 },
	};
	g_autofree char *path = NULL;

	if (!tools_have_qemu_img())
		return;
	path = tools_path("patched");
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct patch p = {
			"", cases[i].off, cases[i].bytes, cases[i].value, false, ""
		};
		size_t len;
		g_autofree uint8_t *image = fresh(&len);
		struct disk d;
		uint8_t buf[4096] = { 0 };

		g_test_message("%s", cases[i].name);
		apply(image, &p);
		tools_write_file(path, image, len);
		d = disk_open(path, false);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, CLUSTER * 9, buf, 4096), ==, -EIO);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_WRITE, 0, buf, 4096), ==, -EIO);
		g_assert_cmpint(tools_rw(d.bq, BLOCK_OP_READ, 0, buf, 4096), ==, 0);
		disk_close(&d);
		assert_marked_corrupt(path, true);
	}
}

static void refuse(const char *path, const char *backing, const char *text)
{
	struct err err = { 0 };

	g_assert_null(tools_try_open(path, backing, false, &err));
	g_assert_cmpstr(err.msg, ==, text);
}

static void test_backing(void)
{
	g_autofree char *base = NULL, *raw = NULL, *top = NULL, *text = NULL, *chain = NULL;
	struct qcow2_backing found = { 0 };
	struct block_image *img;
	struct err err = { 0 };
	int fd;

	if (!tools_have_qemu_img())
		return;
	base = tools_path("base");
	raw = tools_path("raw");
	top = tools_path("top");
	tools_qemu_img_ok("create -q -f qcow2 %s 1M", base);
	tools_qemu_img_ok("create -q -f raw %s 1M", raw);
	tools_qemu_img_ok("create -q -f qcow2 -b %s -F qcow2 %s 2M", base, top);

	text = g_strdup_printf("disk 't': the image is based on backing file '%s', which was not "
			       "given",
			       base);
	refuse(top, NULL, text);
	chain = g_strdup_printf("qcow2:%s", base);
	refuse(base, chain, "disk 't': backing file 1 is the image itself");
	g_free(chain);
	chain = g_strdup_printf("qcow2:%s qcow2:%s", base, base);
	refuse(top, chain, "disk 't': backing file 2 is backing file 1 again");
	g_free(chain);
	chain = g_strdup_printf("qcow2:%s raw:%s", base, raw);
	refuse(top, chain, "disk 't': backing file: the image has no backing file, 1 are given");
	g_free(chain);
	chain = g_strdup_printf("qcow2:%s", raw);
	refuse(top, chain,
	       "disk 't': backing file 1 is stated to be a qcow2 image, but it has no header of a "
	       "known format");
	g_free(chain);
	chain = g_strdup_printf("qcow2:%s", top);
	refuse(base, chain, "disk 't': the image has no backing file, 1 are given");
	g_free(chain);
	chain = g_strdup_printf("qcow2:%s", base);
	img = tools_open(top, chain, false);
	g_assert_cmpuint(img->n_files, ==, 2);
	block_image_close(img);

	fd = tools_open_fd(top, true);
	g_assert_cmpint(qcow2_read_backing(fd, &found, &err), ==, 0);
	g_assert_cmpstr(found.name, ==, base);
	g_assert_cmpstr(found.format, ==, "qcow2");
	close(fd);
	fd = tools_open_fd(base, true);
	g_assert_cmpint(qcow2_read_backing(fd, &found, &err), ==, 0);
	g_assert_cmpstr(found.name, ==, "");
	close(fd);
	fd = tools_open_fd(raw, true);
	g_assert_cmpint(qcow2_read_backing(fd, &found, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "the file has no qcow2 header");
	close(fd);
}

static void test_formats(void)
{
	g_assert_true(block_format_by_name("raw") == &block_format_raw);
	g_assert_true(block_format_by_name("qcow2") == &block_format_qcow2);
	g_assert_null(block_format_by_name("qcow"));
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	/* Warnings about damage are what is tested. */
	g_test_add_func("/block/qcow2/formats", test_formats);
	g_test_add_func("/block/qcow2/open/header", test_header);
	g_test_add_func("/block/qcow2/open/header-bytes", test_header_bytes);
	g_test_add_func("/block/qcow2/open/feature-names", test_feature_names);
	g_test_add_func("/block/qcow2/open/backing", test_backing);
	g_test_add_func("/block/qcow2/damage/entries", test_entries);
	g_test_add_func("/block/qcow2/damage/kept", test_kept);
	g_test_add_func("/block/qcow2/damage/refcounts", test_refcounts);
	g_test_add_func("/block/qcow2/not-copied", test_not_copied);
	r = g_test_run();
	tools_clean_up();
	return r;
}
