/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Start on the system bus to the guest's first instruction
 *
 * bench-start-bus VM [FIFO PEER=XML...]: the VM is defined, stopped, and runs the
 * tiny guest.  Each round sends Start, waits for the Event "debug-code" 0x40, then
 * for the state "running", and terminates the VM.  Also where that time goes: until
 * systemd has forked the worker's process (start-bus-forked); what comes then is the
 * sandbox, the worker and its guest.
 *
 * Each PEER is a domain of libvirt-dbus, see peer-libvirt.h, in turns with ours.
 *
 * Run by system-start.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dbus/bus-path.h"
#include "dbus/variant.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer-libvirt.h"
#include "tests/bench/peer.h"
#include "vmm/base/cleanup.h"

#define GOAL_MS    40.0
#define TIMEOUT_MS 30000
#define PEERS_MAX  4

struct round {
	char state[16];
	double first_ms, running_ms;
	int failed;
};

static int on_state(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	const char *from, *to, *reason;
	struct round *round = data;

	if (sd_bus_message_read(m, "sss", &from, &to, &reason) < 0)
		return 0;
	g_strlcpy(round->state, to, sizeof(round->state));
	if (strcmp(to, "running") == 0)
		round->running_ms = bench_now_ms();
	return 0;
}

static int on_event(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	_cleanup_(g_variant_unref_cleanup) GVariant *details = NULL;
	struct round *round = data;
	const char *source, *name;
	guchar code;

	if (sd_bus_message_read(m, "ss", &source, &name) >= 0 && strcmp(name, "debug-code") == 0 &&
	    variant_from_message(m, "a{sv}", &details, NULL) >= 0 &&
	    g_variant_lookup(details, "code", "y", &code) && code == PEER_CODE_FIRST)
		round->first_ms = bench_now_ms();
	return 0;
}

static int on_reply(sd_bus_message *m, void *data, sd_bus_error *e _unused_)
{
	const sd_bus_error *error = sd_bus_message_get_error(m);
	struct round *round = data;

	if (error) {
		fprintf(stderr, "%s: %s\n", error->name, error->message);
		round->failed = -1;
	}
	return 0;
}

static void call(sd_bus *bus, const char *path, const char *method, struct round *round)
{
	g_assert_cmpint(sd_bus_call_method_async(bus, NULL, BRUME_BUS_NAME, path,
						 BRUME_VM_INTERFACE, method, on_reply, round,
						 "a{sv}", 0),
			>=, 0);
}

static bool ended(const struct round *round)
{
	return strcmp(round->state, "stopped") == 0 || strcmp(round->state, "crashed") == 0 ||
	       strcmp(round->state, "failed") == 0;
}

static void turn(sd_bus *bus, const struct round *round, double end)
{
	int r = sd_bus_process(bus, NULL);

	if (r < 0 || round->failed || bench_now_ms() > end)
		g_error("the VM does not do what it should, state '%s'", round->state);
	if (r == 0)
		sd_bus_wait(bus, 100000);
}

/* When systemd forked the unit's process, as bench_now_ms(). */
static double forked_ms(sd_bus *bus, const char *unit)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	uint64_t usec;

	if (sd_bus_get_property_trivial(bus, "org.freedesktop.systemd1", unit,
					"org.freedesktop.systemd1.Service",
					"ExecMainStartTimestampMonotonic", &error, 't', &usec) < 0)
		g_error("systemd: %s: %s", unit, error.message);
	return (double)usec / 1e3;
}

enum {
	FORKED,
	FIRST,
	RUNNING,
	OURS_N_,
};

static void run_ours(sd_bus *bus, const char *path, const char *unit, struct round *round,
		     struct bench_samples *samples)
{
	double start = bench_now_ms();

	*round = (struct round){ 0 };
	call(bus, path, "Start", round);
	while (round->first_ms == 0 || round->running_ms == 0)
		turn(bus, round, start + TIMEOUT_MS);
	bench_add(&samples[FIRST], round->first_ms - start);
	bench_add(&samples[RUNNING], round->running_ms - start);
	bench_add(&samples[FORKED], forked_ms(bus, unit) - start);
	g_usleep(PEER_SETTLE_USEC);
	call(bus, path, "Terminate", round);
	while (!ended(round))
		turn(bus, round, bench_now_ms() + TIMEOUT_MS);
	g_usleep(PEER_SETTLE_USEC);
}

int main(int argc, char **argv)
{
	static struct bench_samples ours[OURS_N_] = {
		[FORKED] = { "start-bus-forked", "brume", "ms", 0, 0, { 0 } },
		[FIRST] = { "start-bus", "brume", "ms", GOAL_MS, 0, { 0 } },
		[RUNNING] = { "start-bus-running", "brume", "ms", 0, 0, { 0 } },
	};
	static struct libvirt_domain domains[PEERS_MAX];
	struct round round = { 0 };
	size_t n_domains = 0;
	sd_bus *bus = NULL;
	char path[256], name[256], *unit = NULL;
	int fifo = -EBADF;

	if (argc < 2 || argc == 3 || argc > 3 + PEERS_MAX) {
		fputs("usage: bench-start-bus VM [FIFO PEER=XML...]\n", stderr);
		return 2;
	}
	if (argc > 3) {
		fifo = open(argv[2], O_RDWR | O_NONBLOCK | O_CLOEXEC);
		g_assert_cmpint(fifo, >=, 0);
	}
	for (int i = 3; i < argc; i++)
		libvirt_domain_init(&domains[n_domains++], argv[i]);
	snprintf(path, sizeof(path), BRUME_VM_PATH_PREFIX "/%s", argv[1]);
	snprintf(name, sizeof(name), "brume-vm-%s.service", argv[1]);
	g_assert_cmpint(sd_bus_path_encode("/org/freedesktop/systemd1/unit", name, &unit), >=, 0);
	g_assert_cmpint(sd_bus_open_system(&bus), >=, 0);
	g_assert_cmpint(sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, path, BRUME_VM_INTERFACE,
					    "StateChanged", on_state, &round),
			>=, 0);
	g_assert_cmpint(sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, path, BRUME_VM_INTERFACE,
					    "Event", on_event, &round),
			>=, 0);
	for (size_t i = 0; i < n_domains; i++) {
		/* does not count: libvirt asks QEMU once what it can do */
		libvirt_domain_run(&domains[i], bus, fifo);
		domains[i].create.n = domains[i].create_xml.n = 0;
	}
	for (unsigned int i = 0; i < bench_runs(); i++) {
		run_ours(bus, path, unit, &round, ours);
		for (size_t n = 0; n < n_domains; n++)
			libvirt_domain_run(&domains[n], bus, fifo);
	}
	for (size_t i = 0; i < OURS_N_; i++)
		bench_print(&ours[i]);
	for (size_t i = 0; i < n_domains; i++) {
		bench_print(&domains[i].create);
		bench_print(&domains[i].create_xml);
	}
	free(unit);
	sd_bus_flush_close_unref(bus);
	return 0;
}
