/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that belong to a machine: made, left behind, in use, connected to for its guest */
#include "daemon/listen.h"

#include "daemon/created-files.h"
#include "daemon/machine.h"
#include "daemon/resources.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STRANGER 54321 /* a uid that is not ours */

struct fixture {
	char *dir, *path;
	struct created_files created;
};

static void set_up(struct fixture *f, gconstpointer data)
{
	(void)data;
	f->dir = g_dir_make_tmp("brumed-XXXXXX", NULL);
	f->path = g_build_filename(f->dir, "socket", NULL);
	f->created = (struct created_files){ .owner = geteuid() };
}

static void tear_down(struct fixture *f, gconstpointer data)
{
	(void)data;
	created_files_deinit(&f->created);
	g_unlink(f->path);
	g_rmdir(f->dir);
	g_free(f->dir);
	g_free(f->path);
}

static int listen_now(struct fixture *f, uid_t owner)
{
	struct err err = { 0 };
	int fd = -EBADF;

	if (listen_at(owner, f->path, SOCK_STREAM, &f->created, &fd, &err) < 0)
		g_error("%s", err.msg);
	return fd;
}

static void test_made(struct fixture *f, gconstpointer data)
{
	struct stat st;
	int fd, client;

	(void)data;
	fd = listen_now(f, geteuid());
	g_assert_cmpint(lstat(f->path, &st), ==, 0);
	g_assert_true(S_ISSOCK(st.st_mode));
	g_assert_cmpint(st.st_mode & 0777, ==, 0600);
	client = listen_connect(geteuid(), f->path, SOCK_STREAM);
	g_assert_cmpint(client, >=, 0);
	close(client);
	/* as a start that fails does */
	created_files_remove(&f->created);
	g_assert_cmpint(lstat(f->path, &st), ==, -1);
	close(fd);
}

static void test_stale(struct fixture *f, gconstpointer data)
{
	(void)data;
	close(listen_now(f, geteuid()));
	g_assert_cmpint(listen_connect(geteuid(), f->path, SOCK_STREAM), ==, -ECONNREFUSED);
	close(listen_now(f, geteuid()));
}

static void test_in_use(struct fixture *f, gconstpointer data)
{
	g_autofree char *sentence = g_strdup_printf(
		"'%s' is there already, and in use or no socket; remove it or name another",
		f->path);
	struct err err = { 0 };
	int fd, other = -EBADF;

	(void)data;
	fd = listen_now(f, geteuid());
	/* of another type too */
	for (int i = 0; i < 2; i++) {
		err = (struct err){ 0 };
		g_assert_cmpint(listen_at(geteuid(), f->path, i ? SOCK_SEQPACKET : SOCK_STREAM,
					  &f->created, &other, &err),
				==, -EADDRINUSE);
		g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
		g_assert_cmpstr(err.msg, ==, sentence);
	}
	close(fd);
	/* and what is no socket is never touched */
	g_unlink(f->path);
	g_assert_true(g_file_set_contents(f->path, "", 0, NULL));
	err = (struct err){ 0 };
	g_assert_cmpint(listen_at(geteuid(), f->path, SOCK_STREAM, &f->created, &other, &err), ==,
			-EADDRINUSE);
	g_assert_true(g_file_test(f->path, G_FILE_TEST_IS_REGULAR));
}

static void test_owner(struct fixture *f, gconstpointer data)
{
	struct stat st;
	int fd, client;

	(void)data;
	if (geteuid() != 0) {
		g_test_skip("not root");
		return;
	}
	fd = listen_now(f, STRANGER);
	g_assert_cmpint(lstat(f->path, &st), ==, 0);
	g_assert_cmpuint(st.st_uid, ==, STRANGER);
	client = listen_connect(STRANGER, f->path, SOCK_STREAM);
	g_assert_cmpint(client, >=, 0);
	close(client);
	/* what is not theirs is not reached with the daemon's rights */
	g_assert_cmpint(listen_connect(STRANGER + 1, f->path, SOCK_STREAM), ==, -EACCES);
	close(fd);
}

static void test_link(struct fixture *f, gconstpointer data)
{
	g_autofree char *link = g_strconcat(f->path, "_80", NULL);
	struct err err = { 0 };
	int fd = listen_now(f, geteuid()), other = -EBADF;

	(void)data;
	g_assert_cmpint(symlink(f->path, link), ==, 0);
	g_assert_cmpint(listen_connect(STRANGER, link, SOCK_STREAM), ==, -ELOOP);
	g_assert_cmpint(listen_at(STRANGER, link, SOCK_STREAM, &f->created, &other, &err), ==,
			-EADDRINUSE);
	g_assert_cmpint(listen_connect(geteuid(), "/nowhere/socket", SOCK_STREAM), ==, -ENOENT);
	g_assert_cmpint(listen_connect(geteuid(), f->path, SOCK_SEQPACKET), ==, -EPROTOTYPE);
	g_unlink(link);
	close(fd);
}

/* A vsock has two; both go when a start fails after them, or when the machine ends. */
static void test_vsock(struct fixture *f, gconstpointer data)
{
	g_autofree char *second = g_strconcat(f->path, LISTEN_SEQPACKET_SUFFIX, NULL);
	g_autofree char *text = g_strdup_printf("{\"payload\":{\"kernel\":\"/proc/version\"},"
						"\"vsock\":{\"cid\":3,\"socket\":\"%s\"}}",
						f->path);
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct resource_set set = { 0 };
	sd_event *event = NULL;
	struct err err = { 0 };
	size_t found = 0;

	(void)data;
	g_assert_cmpint(machine_parse_config(text, &config, NULL, &err), ==, 0);
	if (resources_open(config, NULL, NULL, "/dev/null", geteuid(), &set, &err) < 0)
		g_error("%s", err.msg);
	for (size_t i = 0; i < set.n_fds; i++)
		found += strcmp(set.fds[i].pointer, "/vsock/socket") == 0 ||
			 strcmp(set.fds[i].pointer, "/vsock/socket/seqpacket") == 0;
	g_assert_cmpuint(found, ==, 2);
	g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
	g_assert_true(g_file_test(second, G_FILE_TEST_EXISTS));
	g_assert_cmpint(sd_event_new(&event), ==, 0);
	/* while somebody listens they stay */
	listen_remove_later(config, geteuid(), event, "vm");
	for (int i = 0; i < 20; i++)
		sd_event_run(event, 5000);
	g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
	resource_set_deinit(&set);
	listen_remove_later(config, geteuid(), event, "vm");
	for (int i = 0; i < 1000 && g_file_test(second, G_FILE_TEST_EXISTS); i++)
		sd_event_run(event, 5000);
	g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
	g_assert_false(g_file_test(second, G_FILE_TEST_EXISTS));
	sd_event_unref(event);
}

#define ADD(path, fn) g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/daemon/listen/made", test_made);
	ADD("/daemon/listen/stale", test_stale);
	ADD("/daemon/listen/in-use", test_in_use);
	ADD("/daemon/listen/owner", test_owner);
	ADD("/daemon/listen/link", test_link);
	ADD("/daemon/listen/vsock", test_vsock);
	return g_test_run();
}
