/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Start on the system bus to the guest's first instruction
 *
 * bench-start-bus VM [RUNS]: the VM is defined, stopped, and runs the tiny guest.
 * Each round sends Start, waits for the Event "debug-code" 0x40, then for the
 * state "running", and terminates the VM.  Also what of it the daemon and systemd
 * need until the worker takes the machine: the state "running" and the end of the
 * job.  Run by system-start.py.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "dbus/bus-path.h"
#include "dbus/variant.h"
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"
#include "vmm/base/cleanup.h"

#define GOAL_MS    40.0
#define TIMEOUT_MS 30000

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

int main(int argc, char **argv)
{
	static struct bench_samples first = { "start-bus", "brume", "ms", GOAL_MS, 0, { 0 } };
	static struct bench_samples running = { "start-bus-running", "brume", "ms", 0, 0, { 0 } };
	struct round round = { 0 };
	sd_bus *bus = NULL;
	char path[256];

	if (argc != 2) {
		fputs("usage: bench-start-bus VM\n", stderr);
		return 2;
	}
	snprintf(path, sizeof(path), BRUME_VM_PATH_PREFIX "/%s", argv[1]);
	g_assert_cmpint(sd_bus_open_system(&bus), >=, 0);
	g_assert_cmpint(sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, path, BRUME_VM_INTERFACE,
					    "StateChanged", on_state, &round),
			>=, 0);
	g_assert_cmpint(sd_bus_match_signal(bus, NULL, BRUME_BUS_NAME, path, BRUME_VM_INTERFACE,
					    "Event", on_event, &round),
			>=, 0);
	for (unsigned int i = 0; i < bench_runs(); i++) {
		double start = bench_now_ms();

		round = (struct round){ 0 };
		call(bus, path, "Start", &round);
		while (round.first_ms == 0 || round.running_ms == 0)
			turn(bus, &round, start + TIMEOUT_MS);
		bench_add(&first, round.first_ms - start);
		bench_add(&running, round.running_ms - start);
		g_usleep(100000); /* the unit's own start may be going on */
		call(bus, path, "Terminate", &round);
		while (!ended(&round))
			turn(bus, &round, bench_now_ms() + TIMEOUT_MS);
		g_usleep(100000); /* the unit goes */
	}
	bench_print(&running);
	bench_print(&first);
	sd_bus_flush_close_unref(bus);
	return 0;
}
