/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/private-bus.h"

#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char config[] =
	"<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
	" \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
	"<busconfig><type>custom</type><listen>unix:path=%s/bus</listen><auth>EXTERNAL</auth>"
	"<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>"
	"<allow send_type=\"method_call\"/><allow send_type=\"signal\"/>"
	"<allow send_requested_reply=\"true\"/><allow receive_requested_reply=\"true\"/>"
	"<allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>\n";

void private_bus_start(struct private_bus *bus)
{
	char conf[64], ready[256];
	ssize_t n;
	int fds[2];
	FILE *f;

	strcpy(bus->dir, "/tmp/brume-test-XXXXXX");
	g_assert_nonnull(mkdtemp(bus->dir));
	snprintf(conf, sizeof(conf), "%s/bus.conf", bus->dir);
	f = fopen(conf, "we");
	g_assert_nonnull(f);
	fprintf(f, config, bus->dir);
	g_assert_cmpint(fclose(f), ==, 0);

	g_assert_cmpint(pipe(fds), ==, 0);
	bus->pid = fork();
	g_assert_cmpint(bus->pid, >=, 0);
	if (bus->pid == 0) {
		char option[96], address_option[32];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(option, sizeof(option), "--config-file=%s", conf);
		snprintf(address_option, sizeof(address_option), "--print-address=%d", fds[1]);
		execlp("dbus-daemon", "dbus-daemon", option, "--nofork", "--nopidfile",
		       "--nosyslog", address_option, NULL);
		_exit(127);
	}
	close(fds[1]);
	n = read(fds[0], ready, sizeof(ready)); /* the address, or the end of a failed start */
	close(fds[0]);
	g_assert_cmpint(n, >, 0);
	snprintf(bus->address, sizeof(bus->address), "unix:path=%s/bus", bus->dir);
}

void private_bus_stop(struct private_bus *bus)
{
	static const char *const files[] = { "bus", "bus.conf" };
	char path[64];

	kill(bus->pid, SIGTERM);
	waitpid(bus->pid, NULL, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", bus->dir, files[i]);
		unlink(path);
	}
	g_assert_cmpint(rmdir(bus->dir), ==, 0);
}

sd_bus *private_bus_connect(const struct private_bus *bus)
{
	sd_bus *conn = NULL;

	g_assert_cmpint(sd_bus_new(&conn), >=, 0);
	g_assert_cmpint(sd_bus_set_address(conn, bus->address), >=, 0);
	g_assert_cmpint(sd_bus_set_bus_client(conn, 1), >=, 0);
	g_assert_cmpint(sd_bus_start(conn), >=, 0);
	return conn;
}
