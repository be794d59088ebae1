/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image looks like, and whether that fits what was said about it
 */
#include "vmm/block/detect.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/err.h"

static int image(const char *head, size_t len, off_t head_off, off_t size)
{
	char path[] = "/tmp/brume-test-detect-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	g_assert_cmpint(ftruncate(fd, size), ==, 0);
	if (len)
		g_assert_cmpint(pwrite(fd, head, len, head_off), ==, len);
	return fd;
}

static const struct {
	const char *name, *head;
	size_t len;
	off_t off, size;
	const char *format;
} cases[] = {
	{ "zeroes", "", 0, 0, 1 << 20, NULL },
	{ "empty", "", 0, 0, 0, NULL },
	{ "qcow2", "QFI\xfb\0\0\0\3", 8, 0, 1 << 20, "qcow2" },
	{ "four bytes", "QFI\xfb", 4, 0, 4, "qcow2" },
	{ "vhdx", "vhdxfile", 8, 0, 1 << 20, "vhdx" },
	{ "dynamic vhd", "conectix", 8, 0, 1 << 20, "vhd" },
	{ "fixed vhd", "conectix", 8, (1 << 20) + 512, (1 << 20) + 1024, "vhd" },
	{ "fixed vhd, aligned", "conectix", 8, (1 << 20) - 512, 1 << 20, "vhd" },
	{ "a cookie elsewhere", "conectix", 8, 1 << 19, 1 << 20, NULL },
	{ "sparse vmdk", "KDMV", 4, 0, 1 << 20, "vmdk" },
	{ "vmdk descriptor", "# Disk DescriptorFile\n", 22, 0, 600, "vmdk" },
	{ "boot sector", "\xeb\x63\x90", 3, 0, 1 << 20, NULL },
};

static void test_looks_like(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		int fd = image(cases[i].head, cases[i].len, cases[i].off, cases[i].size);

		g_test_message("%s", cases[i].name);
		g_assert_cmpstr(block_looks_like(fd, NULL), ==, cases[i].format);
		/* the same through O_DIRECT, where the file system has it */
		if (fcntl(fd, F_SETFL, O_DIRECT) == 0)
			g_assert_cmpstr(block_looks_like(fd, NULL), ==, cases[i].format);
		close(fd);
	}
	g_assert_null(block_looks_like(-EBADF, NULL));
}

static void check(int fd, const char *stated, const char *text)
{
	struct err err = { 0 };
	int r = block_check_stated(fd, stated, &err);

	g_assert_cmpint(r, ==, text ? -EINVAL : 0);
	g_assert_cmpstr(err.msg, ==, text ?: "");
	if (text)
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
}

static void test_stated(void)
{
	int qcow2 = image("QFI\xfb", 4, 0, 1 << 20), raw = image("", 0, 0, 1 << 20);

	check(raw, NULL, NULL);
	check(raw, "raw", NULL);
	check(raw, "qcow2", "image_type says qcow2, but the image has no header of a known format");
	check(qcow2, NULL,
	      "the image has the header of a qcow2 image: set image_type to qcow2, or to raw if "
	      "that header is a raw disk's contents");
	/* A guest can write this into its raw disk. */
	check(qcow2, "raw", NULL);
	check(qcow2, "qcow2", NULL);
	check(qcow2, "vhdx", "image_type says vhdx, but the image has the header of a qcow2 image");
	close(qcow2);
	close(raw);
}

/* What a guest writes to the start of a fixed VHD does not take its disk from it. */
static void test_two_looks(void)
{
	int vhd = image("conectix", 8, 1 << 20, (1 << 20) + 512);

	g_assert_cmpint(pwrite(vhd, "QFI\xfb", 4, 0), ==, 4);
	g_assert_cmpstr(block_looks_like(vhd, NULL), ==, "qcow2");
	g_assert_cmpstr(block_looks_like(vhd, "vhd"), ==, "vhd");
	check(vhd, "vhd", NULL);
	check(vhd, "qcow2", NULL);
	check(vhd, "vhdx", "image_type says vhdx, but the image has the header of a qcow2 image");
	close(vhd);
}

static void check_backing(int fd, const char *stated, const char *text)
{
	struct err err = { 0 };
	int r = block_check_backing(fd, stated, 2, &err);

	g_assert_cmpint(r, ==, text ? -EINVAL : 0);
	g_assert_cmpstr(err.msg, ==, text ?: "");
}

static void test_backing(void)
{
	int qcow2 = image("QFI\xfb", 4, 0, 1 << 20), raw = image("", 0, 0, 1 << 20);
	int vhdx = image("vhdxfile", 8, 0, 1 << 20);

	check_backing(qcow2, "qcow2", NULL);
	check_backing(qcow2, "raw", NULL);
	check_backing(raw, "raw", NULL);
	check_backing(raw, "qcow2",
		      "backing file 2 is stated to be a qcow2 image, but it has no header of a "
		      "known format");
	check_backing(vhdx, "qcow2",
		      "backing file 2 is stated to be a qcow2 image, but it has the header of a "
		      "vhdx image");
	close(qcow2);
	close(raw);
	close(vhdx);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/detect/looks-like", test_looks_like);
	g_test_add_func("/block/detect/stated", test_stated);
	g_test_add_func("/block/detect/two-looks", test_two_looks);
	g_test_add_func("/block/detect/backing", test_backing);
	return g_test_run();
}
