/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/peer-libvirt.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/peer.h"
#include "vmm/base/cleanup.h"

#define TIMEOUT_MS      30000
#define TIMEOUT_USEC    (TIMEOUT_MS * 1000ULL)
#define LIBVIRT_NAME    "org.libvirt"
#define LIBVIRT_PATH    "/org/libvirt/QEMU"
#define LIBVIRT_CONNECT "org.libvirt.Connect"
#define LIBVIRT_DOMAIN  "org.libvirt.Domain"

/* A call of libvirt-dbus that has to succeed; the reply's object path if there is to be one. */
static void libvirt(sd_bus *bus, sd_bus_message *m, char *ret_path, size_t size)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	const char *path;

	if (sd_bus_call(bus, m, TIMEOUT_USEC, &error, &reply) < 0)
		g_error("libvirt-dbus: %s: %s", sd_bus_message_get_member(m), error.message);
	if (ret_path) {
		g_assert_cmpint(sd_bus_message_read(reply, "o", &path), >, 0);
		g_strlcpy(ret_path, path, size);
	}
}

static sd_bus_message *new_call(sd_bus *bus, const char *path, const char *interface,
				const char *method)
{
	sd_bus_message *m = NULL;

	g_assert_cmpint(sd_bus_message_new_method_call(bus, &m, LIBVIRT_NAME, path, interface,
						       method),
			>=, 0);
	return m;
}

static void domain_define(sd_bus *bus, struct libvirt_domain *d)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m =
		new_call(bus, LIBVIRT_PATH, LIBVIRT_CONNECT, "DomainDefineXML");

	g_assert_cmpint(sd_bus_message_append(m, "s", d->xml), >=, 0);
	libvirt(bus, m, d->path, sizeof(d->path));
}

static void domain_do(sd_bus *bus, const char *path, const char *method)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m =
		new_call(bus, path, LIBVIRT_DOMAIN, method);

	g_assert_cmpint(sd_bus_message_append(m, "u", 0U), >=, 0);
	libvirt(bus, m, NULL, 0);
}

struct start {
	char path[256];
	bool replied;
};

static int on_started(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct start *start = data;
	const char *path;

	if (error)
		g_error("libvirt-dbus: %s: %s", error->name, error->message);
	if (sd_bus_message_read(m, "o", &path) > 0)
		g_strlcpy(start->path, path, sizeof(start->path));
	start->replied = true;
	return 0;
}

static double wait_first(sd_bus *bus, int fifo, double end)
{
	for (;;) {
		struct pollfd pfds[] = { { .fd = fifo, .events = POLLIN },
					 { .fd = sd_bus_get_fd(bus), .events = POLLIN } };
		unsigned char code;

		if (bench_now_ms() > end)
			g_error("libvirt-dbus: no sign of the guest within %d ms", TIMEOUT_MS);
		poll(pfds, G_N_ELEMENTS(pfds), 1000);
		if (read(fifo, &code, 1) == 1)
			return bench_now_ms();
		while (sd_bus_process(bus, NULL) > 0)
			;
	}
}

/* Sends the call that starts the domain; when the guest runs ends it again. */
static void run_domain(sd_bus *bus, int fifo, sd_bus_message *m, const char *defined,
		       struct bench_samples *samples)
{
	struct start start = { .replied = false };
	double sent, end;
	char rest[64];

	while (read(fifo, rest, sizeof(rest)) > 0)
		;
	sent = bench_now_ms();
	end = sent + TIMEOUT_MS;
	g_assert_cmpint(sd_bus_call_async(bus, NULL, m, on_started, &start, TIMEOUT_USEC), >=, 0);
	g_assert_cmpint(sd_bus_flush(bus), >=, 0);
	bench_add(samples, wait_first(bus, fifo, end) - sent);
	while (!start.replied)
		if (sd_bus_process(bus, NULL) == 0)
			sd_bus_wait(bus, TIMEOUT_USEC);
	g_usleep(PEER_SETTLE_USEC);
	domain_do(bus, defined ? defined : start.path, "Destroy");
	g_usleep(PEER_SETTLE_USEC);
}

static void run_domain_create(sd_bus *bus, int fifo, struct libvirt_domain *d)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m =
		new_call(bus, d->path, LIBVIRT_DOMAIN, "Create");

	g_assert_cmpint(sd_bus_message_append(m, "u", 0U), >=, 0);
	run_domain(bus, fifo, m, d->path, &d->create);
}

static void run_domain_create_xml(sd_bus *bus, int fifo, struct libvirt_domain *d)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m =
		new_call(bus, LIBVIRT_PATH, LIBVIRT_CONNECT, "DomainCreateXML");

	g_assert_cmpint(sd_bus_message_append(m, "su", d->xml, 0U), >=, 0);
	run_domain(bus, fifo, m, NULL, &d->create_xml);
}

void libvirt_domain_init(struct libvirt_domain *d, const char *argument)
{
	const char *equals = strchr(argument, '=');

	if (!equals || !g_file_get_contents(equals + 1, &d->xml, NULL, NULL))
		g_error("'%s' is no PEER=XML with a file XML", argument);
	d->peer = g_strndup(argument, (gsize)(equals - argument));
	d->transient_peer = g_strdup_printf("%s-transient", d->peer);
	d->create =
		(struct bench_samples){ .benchmark = "start-bus", .peer = d->peer, .unit = "ms" };
	d->create_xml = d->create;
	d->create_xml.peer = d->transient_peer;
}

/* Both domains have one name: only one of them can be there. */
void libvirt_domain_run(struct libvirt_domain *d, sd_bus *bus, int fifo)
{
	domain_define(bus, d);
	run_domain_create(bus, fifo, d);
	domain_do(bus, d->path, "Undefine");
	run_domain_create_xml(bus, fifo, d);
}
