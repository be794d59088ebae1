/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hotplug takes from a vCPU
 *
 * A guest looks at the clock all the time and says, for each window of time, how long it was away
 * at most. In every second window something is plugged or taken out; "idle" are the others, which
 * tells what the host takes without our help.
 */
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/lib/worker.h"
#include "vmm/api/protocol.h"

#define GOAL_MS    1.0
#define WINDOW_MS  100
#define ROUNDS     30
#define MAX_VCPUS  (1 + ROUNDS)
#define MAX_DIMMS  8
#define MEMORY_MIB 512
#define DIMM_MIB   1024
#define TIMEOUT_S  60
#define CMDLINE    "test=gap ms=" G_STRINGIFY(WINDOW_MS)
#define DISK       "/disks/0/path"

static void must(int r, const sd_bus_error *error)
{
	if (r < 0)
		g_error("%s", error->message ? error->message : g_strerror(-r));
}

#define CALL(w, method, ...)                                                                       \
	do {                                                                                       \
		_cleanup_(sd_bus_error_free) sd_bus_error error_ = SD_BUS_ERROR_NULL;              \
		must(sd_bus_call_method((w)->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,       \
					method, &error_, NULL, __VA_ARGS__),                       \
		     &error_);                                                                     \
	} while (0)

static void add_disk(struct test_worker *w, unsigned int i)
{
	(void)i;
	CALL(w, "AddDevice", "sa{sv}", "disks", 2, "id", "s", "d", "path", "s", DISK);
}

static void remove_disk(struct test_worker *w, unsigned int i)
{
	(void)i;
	CALL(w, "RemoveDevice", "sb", "d", 1);
}

static void add_cpu(struct test_worker *w, unsigned int i)
{
	CALL(w, "SetVCPUs", "u", i + 2);
}

static void add_memory(struct test_worker *w, unsigned int i)
{
	CALL(w, "SetMemory", "t", (guint64)(MEMORY_MIB + (i + 1) * DIMM_MIB) << 20);
}

/* The descriptor of the disk to come: not part of what is measured. */
static void hand_over_disk(struct test_worker *w)
{
	int fd = test_disk(1U << 20);

	CALL(w, "AddResources", "a{sh}", 1, DISK, fd);
	close(fd);
}

/* The largest gap of the window that ends next, in ms. */
static double next_gap(struct test_worker *w)
{
	unsigned int n = test_worker_count(w, "# gap ");
	gint64 end = g_get_monotonic_time() + TIMEOUT_S * G_USEC_PER_SEC;
	g_autofree char *text = NULL;
	unsigned long long ns;

	while (test_worker_count(w, " ns\n") <= n) {
		if (g_get_monotonic_time() > end)
			g_error("the guest does not run");
		test_worker_run_for(w, 1);
	}
	text = test_worker_output(w);
	if (sscanf(g_strrstr(text, "# gap "), "# gap %llu", &ns) != 1)
		g_error("no number in '%s'", g_strrstr(text, "# gap "));
	return (double)ns / 1e6;
}

struct operation {
	void (*prepare)(struct test_worker *w);
	void (*run)(struct test_worker *w, unsigned int i);
	struct bench_samples *samples;
};

static void measure(const char *config, const struct operation *operations, unsigned int n,
		    unsigned int rounds, struct bench_samples *idle)
{
	struct test_worker w;
	struct err err = { 0 };

	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (test_worker_start(&w, CMDLINE, config, false, &err) < 0)
		g_error("%s", err.msg);
	test_worker_wait_output(&w, " ns\n", TIMEOUT_S);
	for (unsigned int i = 0; i < rounds; i++)
		for (unsigned int k = 0; k < n; k++) {
			if (operations[k].prepare)
				operations[k].prepare(&w);
			next_gap(&w);
			operations[k].run(&w, i);
			bench_add(operations[k].samples, next_gap(&w));
			bench_add(idle, next_gap(&w));
		}
	test_worker_end(&w);
}

int main(void)
{
	static struct bench_samples
		idle = { "hotplug-pause-idle", "brume", "ms", 0, 0, { 0 } },
		add = { "hotplug-pause-disk-add", "brume", "ms", GOAL_MS, 0, { 0 } },
		gone = { "hotplug-pause-disk-remove", "brume", "ms", GOAL_MS, 0, { 0 } },
		cpu = { "hotplug-pause-cpu-add", "brume", "ms", GOAL_MS, 0, { 0 } },
		memory = { "hotplug-pause-memory-add", "brume", "ms", GOAL_MS, 0, { 0 } };
	static const struct operation disks[] = {
		{ hand_over_disk, add_disk, &add },
		{ NULL, remove_disk, &gone },
	};
	static const struct operation cpus[] = { { NULL, add_cpu, &cpu } };
	static const struct operation dimms[] = { { NULL, add_memory, &memory } };
	g_autofree char *max_vcpus =
		g_strdup_printf("{'cpus': <{'max_vcpus': <uint32 %u>}>}", MAX_VCPUS);
	g_autofree char *hotplug_size =
		g_strdup_printf("{'memory': <{'hotplug_size': <uint64 %llu>}>}",
				(unsigned long long)MAX_DIMMS * DIMM_MIB << 20);

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return bench_print_missing("hotplug", "brume", "no access to /dev/kvm");
	measure("@a{sv} {}", disks, G_N_ELEMENTS(disks), ROUNDS, &idle);
	measure(max_vcpus, cpus, G_N_ELEMENTS(cpus), ROUNDS, &idle);
	measure(hotplug_size, dimms, G_N_ELEMENTS(dimms), MAX_DIMMS, &idle);
	bench_print(&idle);
	bench_print(&add);
	bench_print(&gone);
	bench_print(&cpu);
	bench_print(&memory);
	return 0;
}
