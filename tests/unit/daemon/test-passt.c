/* SPDX-License-Identifier: Apache-2.0 */
/* How passt is called, and what is there before it runs */
#include "daemon/passt.h"

#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/companion.h"
#include "vmm/base/err.h"
#include "vmm/config/vm-config.h"

static void test_arguments(void)
{
	char *tcp[] = { (char *)"127.0.0.1/2222:22", (char *)"8080", NULL };
	char *udp[] = { (char *)"53:53", NULL };
	struct net_config net = { .backend = NET_BACKEND_PASST };
	g_auto(GStrv) plain = passt_arguments("/usr/bin/passt", &net), more = NULL;
	g_autofree char *text = g_strjoinv(" ", plain), *more_text = NULL;

	g_assert_cmpstr(text, ==,
			"/usr/bin/passt --foreground --quiet --stderr --no-map-gw --fd 0");
	net.mtu = 1400;
	net.forward_tcp = tcp;
	net.forward_udp = udp;
	more = passt_arguments("/usr/bin/passt", &net);
	more_text = g_strjoinv(" ", more);
	g_assert_true(g_str_has_prefix(more_text, text));
	g_assert_cmpstr(more_text + strlen(text), ==,
			" --mtu 1400 --tcp-ports 127.0.0.1/2222:22 --tcp-ports 8080 --udp-ports "
			"53:53");
}

static void test_open(void)
{
	struct net_config net = { .backend = NET_BACKEND_PASST, .pci.id = (char *)"net0" };
	struct companion companion = { .fd = -EBADF };
	struct err err = { 0 };
	char byte = 'x';
	int fd;

	if (access("/usr/bin/passt", X_OK) < 0 && access("/usr/local/bin/passt", X_OK) < 0) {
		g_assert_cmpint(passt_open(&net, &fd, &companion, &err), ==, -ENOENT);
		g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
		g_assert_cmpstr(err.msg, ==,
				"there is no '/usr/bin/passt': install passt, or use a tap");
		return;
	}
	g_assert_cmpint(passt_open(&net, &fd, &companion, &err), ==, 0);
	g_assert_cmpstr(companion.id, ==, "net0");
	g_assert_true(companion.kind == &companion_passt);
	g_assert_cmpint(send(fd, &byte, 1, 0), ==, 1);
	g_assert_cmpint(recv(companion.fd, &byte, 1, 0), ==, 1);
	companion_deinit(&companion);
	/* the end of one is seen by the other */
	g_assert_cmpint(recv(fd, &byte, 1, 0), ==, 0);
	close(fd);
	companion_deinit(&companion);
}

static void test_find(void)
{
	static const char *const paths[] = { "/nonexistent/a", "/bin/sh", "/bin/cat" };

	g_assert_cmpstr(companion_find_program(paths, 3), ==, "/bin/sh");
	g_assert_null(companion_find_program(paths, 1));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/passt/arguments", test_arguments);
	g_test_add_func("/daemon/passt/open", test_open);
	g_test_add_func("/daemon/companion/find", test_find);
	return g_test_run();
}
