/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images: what is accepted, what is refused and how that reads
 */
#include "vmm/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"

static int temp_file(uint64_t size, int flags)
{
	char path[] = "/tmp/brume-test-raw-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), again;

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	again = open(path, flags | O_CLOEXEC);
	g_assert_cmpint(again, >=, 0);
	unlink(path);
	close(fd);
	return again;
}

static void refuse(int fd, bool readonly, const char *text)
{
	const struct block_image_params params = { .id = "root", .readonly = readonly };
	struct block_image *img = NULL;
	struct err err = { 0 };

	g_assert_cmpint(block_image_open(&block_format_raw, fd, &params, &img, &err), <, 0);
	g_assert_cmpstr(err.msg, ==, text);
	g_assert_null(img);
	/* the descriptor stays the caller's */
	g_assert_cmpint(close(fd), ==, 0);
}

static void test_refused(void)
{
	int pipes[2], sockets[2];

	refuse(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), true,
	       "disk 'root': the image is a directory: a regular file or a block device is needed");
	refuse(open("/dev/null", O_RDWR | O_CLOEXEC), false,
	       "disk 'root': the image is a character device: a regular file or a block device is "
	       "needed");
	g_assert_cmpint(pipe2(pipes, O_CLOEXEC), ==, 0);
	refuse(pipes[0], true,
	       "disk 'root': the image is a pipe: a regular file or a block device is needed");
	close(pipes[1]);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
	refuse(sockets[0], true,
	       "disk 'root': the image is a socket: a regular file or a block device is needed");
	close(sockets[1]);
	refuse(temp_file(4096, O_RDONLY), false,
	       "disk 'root': the image was opened for reading, but the disk is not 'readonly'");
	refuse(temp_file(4096, O_WRONLY), true,
	       "disk 'root': the image was opened for writing only");
	refuse(temp_file(0, O_RDWR), false,
	       "disk 'root': the image has 0 bytes, less than one block of 512");
	refuse(temp_file(511, O_RDWR), false,
	       "disk 'root': the image has 511 bytes, less than one block of 512");
}

static void test_bad_descriptor(void)
{
	const struct block_image_params params = { .id = "root" };
	struct block_image *img = NULL;
	struct err err = { 0 };

	g_assert_cmpint(block_image_open(&block_format_raw, -EBADF, &params, &img, &err), ==,
			-EBADF);
	g_assert_cmpstr(err.msg, ==,
			"disk 'root': cannot inspect the image's descriptor: Bad file descriptor");
}

static void test_geometry(void)
{
	const struct block_image_params params = { .id = "root" };
	_cleanup_(block_image_close_cleanup) struct block_image *img = NULL;
	const struct block_access access = { .op = BLOCK_OP_WRITE, .off = 12345, .len = 678 };
	struct block_extent ext = { 0 };

	g_assert_cmpint(block_image_open(&block_format_raw, temp_file((1 << 20) + 700, O_RDWR),
					 &params, &img, NULL),
			==, 0);
	g_assert_cmpuint(img->size, ==, (1 << 20) + 512); /* whole sectors only */
	g_assert_cmpuint(img->logical_block, ==, 512);
	g_assert_cmpuint(img->physical_block, >=, 512);
	g_assert_cmpuint(img->mem_align, ==, 1);
	g_assert_false(img->readonly);
	g_assert_cmpint(img->ops->map(img, &access, &ext), ==, 0);
	g_assert_cmpint(ext.kind, ==, BLOCK_EXTENT_HOST);
	g_assert_cmpuint(ext.file, ==, 0);
	g_assert_cmpuint(ext.off, ==, 12345);
	g_assert_cmpuint(ext.len, ==, 678);
}

static void resize(struct block_image *img, uint64_t size)
{
	struct err err = { 0 };

	if (block_image_resize(img, size, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpuint(img->size, ==, size);
}

/* The file follows the disk; what the host does not give leaves both as they were. */
static void test_resize(void)
{
	for (unsigned int allocate = 0; allocate < 2; allocate++) {
		const struct block_image_params params = { .id = "root", .allocate = allocate };
		int fd = temp_file((1 << 20) + 100, O_RDWR);
		struct block_image *img = NULL;
		struct rlimit old, limit;
		struct err err = { 0 };
		struct stat st = { 0 };

		g_assert_cmpint(block_image_open(&block_format_raw, fd, &params, &img, &err), ==,
				0);
		resize(img, 3 << 20);
		g_assert_cmpint(fstat(fd, &st), ==, 0);
		g_assert_cmpint(st.st_size, ==, 3 << 20);
		g_assert_true(!allocate || st.st_blocks * 512 >= 2 << 20);
		resize(img, 512);
		g_assert_cmpint(fstat(fd, &st), ==, 0);
		g_assert_cmpint(st.st_size, ==, 512);

		signal(SIGXFSZ, SIG_IGN);
		g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &old), ==, 0);
		limit = (struct rlimit){ 1 << 20, old.rlim_max };
		g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
		g_assert_cmpint(block_image_resize(img, 2 << 20, &err), ==, -EFBIG);
		g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &old), ==, 0);
		g_assert_cmpstr(err.msg, ==,
				"cannot make the image 2097152 bytes large: File too large");
		g_assert_cmpuint(img->size, ==, 512);
		g_assert_cmpint(fstat(fd, &st), ==, 0);
		g_assert_cmpint(st.st_size, ==, 512);
		block_image_close(img);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/block/raw/refused", test_refused);
	g_test_add_func("/block/raw/bad-descriptor", test_bad_descriptor);
	g_test_add_func("/block/raw/geometry", test_geometry);
	g_test_add_func("/block/raw/resize", test_resize);
	return g_test_run();
}
