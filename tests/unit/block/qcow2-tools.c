/* SPDX-License-Identifier: Apache-2.0 */
#include "qcow2-tools.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *folder;

bool tools_have_qemu_img(void)
{
	g_autofree char *found = g_find_program_in_path("qemu-img");

	if (!found)
		g_test_skip("no qemu-img");
	return found != NULL;
}

char *tools_path(const char *name)
{
	if (!folder) {
		/* In memory where it can be: these tests flush a lot. */
		folder = g_build_filename(g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
					  "brume-test-qcow2-XXXXXX", NULL);
		g_assert_nonnull(g_mkdtemp(folder));
	}
	return g_build_filename(folder, name, NULL);
}

void tools_clean_up(void)
{
	g_autoptr(GDir) dir = folder ? g_dir_open(folder, 0, NULL) : NULL;
	const char *name;

	while (dir && (name = g_dir_read_name(dir))) {
		g_autofree char *path = g_build_filename(folder, name, NULL);

		g_unlink(path);
	}
	if (folder)
		g_rmdir(folder);
	g_clear_pointer(&folder, g_free);
}

static int run(const char *args)
{
	g_auto(GStrv) argv = NULL;
	g_autofree char *line = g_strdup_printf("qemu-img %s", args), *out = NULL, *errors = NULL;
	g_autoptr(GError) error = NULL;
	int status = 0;

	argv = g_strsplit(line, " ", -1);
	if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &errors, &status,
			  &error))
		g_error("%s", error->message);
	g_assert_true(WIFEXITED(status));
	status = WEXITSTATUS(status);
	if (status)
		g_test_message("%s: exit status %d\n%s%s", line, status, out, errors);
	return status;
}

int tools_qemu_img(const char *fmt, ...)
{
	g_autofree char *args = NULL;
	va_list ap;

	va_start(ap, fmt);
	args = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	return run(args);
}

void tools_qemu_img_ok(const char *fmt, ...)
{
	g_autofree char *args = NULL;
	va_list ap;

	va_start(ap, fmt);
	args = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	g_assert_cmpint(run(args), ==, 0);
}

void tools_write_file(const char *path, const void *data, size_t len)
{
	g_assert_true(g_file_set_contents(path, data, (gssize)len, NULL));
}

int tools_open_fd(const char *path, bool readonly)
{
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	return fd;
}

struct block_image *tools_try_open(const char *path, const char *backing, bool readonly,
				   struct err *err)
{
	g_auto(GStrv) names = g_strsplit(backing ?: "", " ", -1);
	struct block_backing files[BLOCK_FILES_MAX];
	struct block_image_params params = { .id = "t", .readonly = readonly, .backing = files };
	struct block_image *img = NULL;
	int fd = tools_open_fd(path, readonly), r;

	for (; names[params.n_backing]; params.n_backing++) {
		char *colon = strchr(names[params.n_backing], ':');

		g_assert_nonnull(colon);
		*colon = 0;
		files[params.n_backing].format = block_format_by_name(names[params.n_backing]);
		files[params.n_backing].fd = tools_open_fd(colon + 1, true);
	}
	r = block_image_open(&block_format_qcow2, fd, &params, &img, err);
	if (r >= 0)
		return img;
	/* The descriptors stayed ours. */
	g_assert_cmpint(close(fd), ==, 0);
	for (unsigned int i = 0; i < params.n_backing; i++)
		g_assert_cmpint(close(files[i].fd), ==, 0);
	g_assert_cmpint(err->code, ==, -r);
	return NULL;
}

struct block_image *tools_open(const char *path, const char *backing, bool readonly)
{
	struct err err = { 0 };
	struct block_image *img = tools_try_open(path, backing, readonly, &err);

	if (!img)
		g_error("%s: %s", path, err.msg);
	return img;
}

static int finish_one(struct block_queue *bq, struct block_request *req)
{
	block_queue_add(bq, req);
	block_queue_submit(bq);
	block_queue_drain(bq);
	g_assert_true(block_queue_reap(bq) == req);
	return req->result;
}

int tools_rw(struct block_queue *bq, enum block_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { buf, len };
	struct block_request req = { .op = op, .off = off, .len = len, .iov = &iov, .n_iov = 1 };

	return finish_one(bq, &req);
}

int tools_range(struct block_queue *bq, enum block_op op, uint64_t off, uint64_t len, bool unmap)
{
	struct block_request req = { .op = op, .off = off, .len = len, .unmap = unmap };

	return finish_one(bq, &req);
}

uint64_t tools_random(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

void tools_fill(uint8_t *buf, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(i & 15 ? seed >> (i & 7) * 8 : i >> 9);
}
