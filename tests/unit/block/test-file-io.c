/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Formats' own I/O: what is not aligned, against a copy in memory, in the page cache and
 * beside it, with a file system that has holes and one that has none
 */
#include "vmm/block/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/block/block.h"

#define BYTES  (64U << 10)
#define ROUNDS 400

int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);

static bool no_fallocate;

int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	if (!no_fallocate)
		return __real_fallocate64(fd, mode, off, len);
	errno = EOPNOTSUPP;
	return -1;
}

/* Not /tmp, which may be a tmpfs without direct I/O. */
static int temp_file(void)
{
	char path[] = "/var/tmp/brume-test-file-io-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	unlink(path);
	return fd;
}

/* A file of BYTES bytes is as model says, and reads as zeroes behind its end. */
static void compare(struct file_io *f, const uint8_t *model, uint64_t off, size_t len)
{
	static uint8_t in[2 * BYTES];
	size_t inside = off < BYTES ? MIN(len, (size_t)(BYTES - off)) : 0;

	memset(in, 0xee, len);
	g_assert_cmpint(file_io_read(f, off, in, len), ==, 0);
	g_assert_cmpmem(in, inside, model + off, inside);
	for (size_t i = inside; i < len; i++)
		g_assert_cmpuint(in[i], ==, 0);
}

static void run(int fd, uint32_t align)
{
	const struct block_image img = { .off_align = align, .mem_align = align };
	static uint8_t model[BYTES], out[BYTES];
	struct file_io f;

	g_assert_cmpint(ftruncate(fd, 0), ==, 0);
	g_assert_cmpint(ftruncate(fd, BYTES), ==, 0);
	memset(model, 0, sizeof(model));
	g_assert_cmpint(file_io_init(&f, fd, &img, NULL), ==, 0);
	g_assert_true(!f.block == (align == 1));
	g_assert_false(f.unflushed);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t off = (uint64_t)g_test_rand_int_range(0, BYTES);
		size_t len = (size_t)g_test_rand_int_range(0, (int)MIN(BYTES - off, 9000U) + 1);

		memset(out, 1 + i % 255, len);
		if (i % 3) {
			g_assert_cmpint(file_io_write(&f, off, out, len), ==, 0);
			memcpy(model + off, out, len);
		} else if (len > 0) {
			g_assert_cmpint(file_io_zero(&f, off, len), ==, 0);
			memset(model + off, 0, len);
		}
		compare(&f, model, off, len + 5000);
	}
	g_assert_true(f.unflushed);
	g_assert_cmpint(file_io_flush(&f), ==, 0);
	g_assert_false(f.unflushed);
	compare(&f, model, 0, BYTES);
	g_assert_cmpint(lseek(fd, 0, SEEK_END), ==, BYTES);
	file_io_deinit(&f);
}

static void test_file(const void *direct)
{
	int fd = temp_file();

	if (direct && fcntl(fd, F_SETFL, O_DIRECT) < 0) {
		g_test_skip("the file system of /var/tmp has no direct I/O");
		close(fd);
		return;
	}
	for (unsigned int i = 0; i < 2; i++) {
		no_fallocate = i > 0;
		run(fd, direct ? FILE_IO_BLOCK : 1);
	}
	no_fallocate = false;
	close(fd);
}

static void test_overlap(void)
{
	uint64_t places[] = { 300, 100, 200, 0 };

	g_assert_cmpuint(file_io_find_overlap(places, 4, 100), ==, UINT64_MAX);
	g_assert_cmpuint(file_io_find_overlap(places, 4, 101), ==, 0);
	g_assert_cmpuint(file_io_find_overlap(NULL, 0, 100), ==, UINT64_MAX);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/block/file-io/cached", NULL, test_file);
	g_test_add_data_func("/block/file-io/direct", "", test_file);
	g_test_add_func("/block/file-io/overlap", test_overlap);
	return g_test_run();
}
