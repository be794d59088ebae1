/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes that are durable when they finish, as those of a guest that has no write-back
 * cache: after kill -9 they are there, whichever request made the metadata on their way
 */
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qcow2-tools.h"
#include "vmm/base/cleanup.h"

#define PIECE 4096U

struct variant {
	const char *name;
	const struct block_format_ops *format;
	const char *qemu, *options; /* of qemu-img create */
};

static const struct variant variants[] = {
	{ "qcow2", &block_format_qcow2, "qcow2", "compat=1.1" },
	{ "qcow2-lazy", &block_format_qcow2, "qcow2", "lazy_refcounts=on" },
	{ "qcow2-extended", &block_format_qcow2, "qcow2", "extended_l2=on" },
	{ "vhd", &block_format_vhd, "vpc", "subformat=dynamic,force_size=on" },
	{ "vhdx", &block_format_vhdx, "vhdx", "subformat=dynamic" },
	{ "raw", &block_format_raw, "raw", "preallocation=off" },
};

/* --- an engine that counts flushes and does all else as the sync one --- */

static unsigned int n_flushes;

static int count_open(const int *files, unsigned int n_files, unsigned int depth,
		      struct block_engine **ret, struct err *err)
{
	return block_engine_sync.open(files, n_files, depth, ret, err);
}

static void count_submit(struct block_engine *engine, struct block_io *const *ios, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		n_flushes += ios[i]->op == BLOCK_OP_FLUSH;
	block_engine_sync.submit(engine, ios, n);
}

static unsigned int count_reap(struct block_engine *engine, struct block_io **ret, unsigned int max,
			       bool wait)
{
	return block_engine_sync.reap(engine, ret, max, wait);
}

static void count_free(struct block_engine *engine)
{
	block_engine_sync.free(engine);
}

static const struct block_engine_ops counting = {
	.name = "counting",
	.open = count_open,
	.submit = count_submit,
	.reap = count_reap,
	.free = count_free,
};

/* --- the test's own disk --- */

struct disk {
	struct block_image *img;
	struct block_queue *bq;
};

static void open_disk(const struct variant *v, const char *path, struct disk *ret)
{
	const struct block_image_params params = { .id = "t" };
	struct block_engine *engine = NULL;
	struct err err = { 0 };

	if (block_image_open(v->format, tools_open_fd(path, false), &params, &ret->img, &err) < 0)
		g_error("%s", err.msg);
	g_assert_cmpint(counting.open(ret->img->files, ret->img->n_files, TOOLS_DEPTH, &engine,
				      NULL),
			==, 0);
	engine->ops = &counting;
	g_assert_cmpint(block_queue_new_on(ret->img, engine, TOOLS_DEPTH, &ret->bq, NULL), ==, 0);
}

static void close_disk(struct disk *disk)
{
	block_queue_free(disk->bq);
	block_image_close(disk->img);
}

/* Returns the flushes that it took. */
static unsigned int put(struct disk *disk, uint64_t off, uint8_t byte, bool dsync)
{
	uint8_t buf[PIECE];
	struct iovec iov = { buf, sizeof(buf) };
	struct block_request req = { .op = BLOCK_OP_WRITE,
				     .dsync = dsync,
				     .off = off,
				     .len = sizeof(buf),
				     .iov = &iov,
				     .n_iov = 1 };
	unsigned int before = n_flushes;

	memset(buf, byte, sizeof(buf));
	block_queue_add(disk->bq, &req);
	block_queue_drain(disk->bq);
	g_assert_true(block_queue_reap(disk->bq) == &req);
	g_assert_cmpint(req.result, ==, 0);
	return n_flushes - before;
}

static void expect(struct disk *disk, uint64_t off, uint8_t byte)
{
	uint8_t buf[PIECE], want[PIECE];

	memset(want, byte, sizeof(want));
	g_assert_cmpint(tools_rw(disk->bq, BLOCK_OP_READ, off, buf, sizeof(buf)), ==, 0);
	g_assert_cmpmem(buf, sizeof(buf), want, sizeof(want));
}

static char *make(const struct variant *v)
{
	char *path = tools_path(v->name);

	unlink(path);
	tools_qemu_img_ok("create -q -f %s -o %s %s 64M", v->qemu, v->options, path);
	return path;
}

/* The cluster is that of a write which promised nothing; the metadata is due all the same. */
static void test_killed(gconstpointer data)
{
	const struct variant *v = data;
	g_autofree char *path = NULL;
	struct disk disk = { 0 };
	int status = 0;
	pid_t pid;

	if (!tools_have_qemu_img())
		return;
	path = make(v);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		open_disk(v, path, &disk);
		put(&disk, 0, 0x11, false);
		put(&disk, PIECE, 0x22, true);
		put(&disk, 32 << 20, 0x33, false);
		put(&disk, 32 << 20, 0x44, true); /* over itself */
		kill(getpid(), SIGKILL);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	open_disk(v, path, &disk);
	expect(&disk, PIECE, 0x22);
	expect(&disk, 32 << 20, 0x44);
	close_disk(&disk);
}

/* What is durable already costs nothing more. */
static void test_cost(gconstpointer data)
{
	const struct variant *v = data;
	unsigned int once = v->format != &block_format_raw;
	g_autofree char *path = NULL;
	struct disk disk = { 0 };

	if (!tools_have_qemu_img())
		return;
	path = make(v);
	open_disk(v, path, &disk);
	g_assert_cmpuint(put(&disk, 0, 1, false), ==, 0);
	g_assert_cmpuint(put(&disk, PIECE, 2, true), ==, once);
	for (unsigned int i = 0; i < 4; i++)
		g_assert_cmpuint(put(&disk, i % 2 * PIECE, 3, true), ==, 0);
	/* Somebody's flush counts as well. */
	g_assert_cmpuint(put(&disk, 48 << 20, 1, false), ==, 0);
	g_assert_cmpint(tools_rw(disk.bq, BLOCK_OP_FLUSH, 0, NULL, 0), ==, 0);
	g_assert_cmpuint(put(&disk, 48 << 20, 2, true), ==, 0);
	close_disk(&disk);
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(variants); i++) {
		const struct variant *v = &variants[i];
		g_autofree char *killed = g_strdup_printf("/block/through/killed/%s", v->name);
		g_autofree char *cost = g_strdup_printf("/block/through/cost/%s", v->name);

		g_test_add_data_func(killed, v, test_killed);
		g_test_add_data_func(cost, v, test_cost);
	}
	r = g_test_run();
	tools_clean_up();
	return r;
}
