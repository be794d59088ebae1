/* SPDX-License-Identifier: Apache-2.0 */
/* A machine on passt where workers are plain children: it starts with it, and ends with it */
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/unit/daemon/fixture.h"

#define WAIT "a{sv}", 1, "Wait", "b", 1

/* How many children of ours run passt. */
static unsigned int count_passt(void)
{
	g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", (int)getpid());
	g_autofree char *text = NULL;
	g_auto(GStrv) pids = NULL;
	unsigned int n = 0;

	if (!g_file_get_contents(path, &text, NULL, NULL))
		return 0;
	pids = g_strsplit(g_strstrip(text), " ", -1);
	for (size_t i = 0; pids[i]; i++) {
		g_autofree char *comm = g_strdup_printf("/proc/%s/cmdline", pids[i]), *name = NULL;

		if (g_file_get_contents(comm, &name, NULL, NULL) && strstr(name, "passt"))
			n++;
	}
	return n;
}

/* passt takes addresses and routes of the host's. */
static bool host_has_network(void)
{
	g_autofree char *routes = NULL;

	return g_file_get_contents("/proc/net/route", &routes, NULL, NULL) &&
	       strstr(routes, "\t00000000\t");
}

/* What it cannot do it says by ending, and the machine does not start without its network. */
static void test_port_taken(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	struct fixture *f = fixture_new();
	g_autofree char *net = NULL, *config = NULL;
	unsigned int before = fixture_count_fds();
	int fd;

	if (access("/usr/bin/passt", X_OK) < 0 && access("/usr/local/bin/passt", X_OK) < 0) {
		g_test_skip("there is no passt");
		fixture_free(f);
		return;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&address, len), ==, 0);
	g_assert_cmpint(listen(fd, 1), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &len), ==, 0);
	net = g_strdup_printf("\"net\":[{\"backend\":\"Passt\",\"id\":\"n0\","
			      "\"forward_tcp\":[\"127.0.0.1/%u:22\"]}]",
			      ntohs(address.sin_port));
	config = fixture_config(f, "", net);
	fixture_create(f, "p", "", true);
	fixture_vm_ok(f, "p", "SetConfig", "sa{sv}", config, 0);
	fixture_vm_fails(f, "p", "ResourceUnavailable",
			 "VM 'p': passt of device 'n0' has ended at once: the journal of "
			 "'brume-passt-p:n0.service' tells why",
			 "Start", WAIT);
	fixture_assert_nothing_left(f, "p");
	close(fd);
	g_assert_cmpuint(fixture_count_fds(), ==, before);
	fixture_free(f);
}

static void test_passt(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *config =
		fixture_config(f, "", "\"net\":[{\"backend\":\"Passt\",\"id\":\"n0\"}]");

	fixture_create(f, "p", "", true);
	fixture_vm_ok(f, "p", "SetConfig", "sa{sv}", config, 0);
	if (access("/usr/bin/passt", X_OK) < 0 && access("/usr/local/bin/passt", X_OK) < 0) {
		fixture_vm_fails(f, "p", "ResourceUnavailable",
				 "there is no '/usr/bin/passt': install passt, or use a tap",
				 "Start", WAIT);
		fixture_free(f);
		return;
	}
	if (!host_has_network()) {
		fixture_vm_fails(f, "p", "ResourceUnavailable", "has ended at once", "Start", WAIT);
		fixture_free(f);
		return;
	}
	fixture_vm_ok(f, "p", "Start", WAIT);
	/* The worker does not wait for it to be loaded. */
	for (unsigned int i = 0; i < 200 && count_passt() == 0; i++)
		fixture_turn(f, 50000);
	g_assert_cmpuint(count_passt(), ==, 1);
	fixture_vm_ok(f, "p", "Terminate", "a{sv}", 0);
	/* its socket to the worker has ended, and somebody has waited for it */
	for (unsigned int i = 0; i < 200 && count_passt() > 0; i++)
		fixture_turn(f, 50000);
	g_assert_cmpuint(count_passt(), ==, 0);
	fixture_free(f);
}

/* The loop ends while passt is still there: what watched it goes with the loop. */
static void test_loop_ends_first(void)
{
	struct fixture *f = fixture_new();
	g_autofree char *config =
		fixture_config(f, "", "\"net\":[{\"backend\":\"Passt\",\"id\":\"n0\"}]");
	unsigned int before = fixture_count_fds(), n = 0;

	if (!host_has_network() ||
	    (access("/usr/bin/passt", X_OK) < 0 && access("/usr/local/bin/passt", X_OK) < 0)) {
		g_test_skip("there is no passt, or no network for it");
		fixture_free(f);
		return;
	}
	fixture_create(f, "p", "", true);
	fixture_vm_ok(f, "p", "SetConfig", "sa{sv}", config, 0);
	fixture_vm_ok(f, "p", "Start", WAIT);
	fixture_free(f);
	n = fixture_count_fds();
	g_assert_cmpuint(n, <, before);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/daemon/companion/passt", test_passt);
	g_test_add_func("/daemon/companion/loop-ends-first", test_loop_ends_first);
	g_test_add_func("/daemon/companion/port-taken", test_port_taken);
	return g_test_run();
}
