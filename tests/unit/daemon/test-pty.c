/* SPDX-License-Identifier: Apache-2.0 */
/* Terminals of consoles in mode Pty: whose they are, how they are set, and when they are gone */
#include "daemon/console-paths.h"

#include "daemon/machine.h"
#include "daemon/resources.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define STRANGER 54321 /* a uid that is not ours */

static const char *const text = "{\"payload\":{\"kernel\":\"/proc/version\"},"
				"\"serial\":{\"mode\":\"Pty\"},"
				"\"console\":{\"mode\":\"Pty\"},"
				"\"debug_console\":{\"mode\":\"Pty\"}}";

static void open_all(uid_t owner, struct resource_set *ret)
{
	_cleanup_(vm_config_free_cleanup) struct vm_config *config = NULL;
	struct err err = { 0 };

	if (machine_parse_config(text, &config, NULL, &err) < 0 ||
	    resources_open(config, NULL, NULL, "/dev/null", owner, ret, &err) < 0)
		g_error("%s", err.msg);
}

static int find_fd(const struct resource_set *set, const char *pointer)
{
	for (size_t i = 0; i < set->n_fds; i++)
		if (strcmp(set->fds[i].pointer, pointer) == 0)
			return set->fds[i].fd;
	return -ENOENT;
}

static short poll_now(int fd)
{
	struct pollfd poller = { .fd = fd, .events = POLLIN };

	return poll(&poller, 1, 0) < 0 ? POLLNVAL : poller.revents;
}

static void test_made(void)
{
	static const char *const names[][2] = {
		{ "serial", "/serial/mode" },
		{ "console", "/console/mode" },
		{ "debug", "/debug_console/mode" },
	};
	struct resource_set set = { 0 };
	struct console_paths paths;

	open_all(geteuid(), &set);
	paths = set.console_paths;
	g_assert_cmpuint(paths.n, ==, 3);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		const char *path = console_paths_find(&paths, names[i][0]);
		int master = find_fd(&set, names[i][1]), fd;
		struct termios settings;
		struct stat st;

		g_assert_cmpint(master, >=, 0);
		g_assert_cmpint(fcntl(master, F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
		g_assert_cmpint(poll_now(master) & POLLHUP, ==, POLLHUP);
		g_assert_cmpint(stat(path, &st), ==, 0);
		g_assert_cmpint(st.st_mode, ==, S_IFCHR | 0600);
		g_assert_cmpuint(st.st_uid, ==, geteuid());
		fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
		g_assert_cmpint(fd, >=, 0);
		g_assert_cmpint(poll_now(master), ==, 0);
		g_assert_cmpint(tcgetattr(fd, &settings), ==, 0);
		g_assert_cmpuint(settings.c_lflag & (ECHO | ICANON | ISIG), ==, 0);
		g_assert_cmpuint(settings.c_oflag & OPOST, ==, 0);
		close(fd);
		g_assert_cmpint(poll_now(master) & POLLHUP, ==, POLLHUP);
	}
	resource_set_deinit(&set);
	for (size_t i = 0; i < paths.n; i++)
		g_assert_cmpint(access(paths.items[i].path, F_OK), ==, -1);
}

static void test_owner(void)
{
	_cleanup_(resource_set_deinit) struct resource_set set = { 0 };
	struct stat st;

	if (geteuid() != 0) {
		g_test_skip("only root can give files away");
		return;
	}
	open_all(STRANGER, &set);
	g_assert_cmpint(stat(console_paths_find(&set.console_paths, "serial"), &st), ==, 0);
	g_assert_cmpuint(st.st_uid, ==, STRANGER);
	g_assert_cmpint(st.st_mode, ==, S_IFCHR | 0600);
}

static void test_round_trip(void)
{
	const struct console_paths paths = {
		.items = { { "serial", "/dev/pts/7" }, { "debug", "/dev/pts/123456" } }, .n = 2
	};
	g_autoptr(GVariant) saved = g_variant_ref_sink(console_paths_save(&paths));
	g_autoptr(GVariant) bad = g_variant_ref_sink(g_variant_new_parsed(
		"{'serial': <7>, 'console': <'/etc/passwd'>, 'other': <'/dev/pts/1'>,"
		" 'debug': <'/dev/pts/00000000000000000000000000000000000000000000000'>}"));
	struct console_paths again;

	console_paths_load(saved, &again);
	g_assert_cmpuint(again.n, ==, 2);
	g_assert_cmpstr(console_paths_find(&again, "serial"), ==, "/dev/pts/7");
	g_assert_cmpstr(console_paths_find(&again, "debug"), ==, "/dev/pts/123456");
	g_assert_cmpstr(console_paths_find(&again, "console"), ==, "");
	console_paths_load(bad, &again);
	g_assert_cmpuint(again.n, ==, 0);
	console_paths_load(NULL, &again);
	g_assert_cmpuint(again.n, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/pty/made", test_made);
	g_test_add_func("/daemon/pty/owner", test_owner);
	g_test_add_func("/daemon/pty/round-trip", test_round_trip);
	return g_test_run();
}
