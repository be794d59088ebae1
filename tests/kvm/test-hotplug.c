/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go, at a guest that does what it should, and at others
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "dbus/worker-error.h"
#include "tests/kvm/scenario.h"
#include "vmm/api/protocol.h"
#include "vmm/arch/x86/layout.h"

#define WAIT_SECONDS 20
#define ROUNDS       8

struct heard {
	unsigned int n_removed, n_refused;
	char id[64];
};

static int on_removed(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct heard *heard = data;
	const char *id;

	(void)ret_error;
	g_assert_cmpint(sd_bus_message_read(m, "s", &id), >, 0);
	g_strlcpy(heard->id, id, sizeof(heard->id));
	if (sd_bus_message_is_signal(m, NULL, "DeviceRemoved"))
		heard->n_removed++;
	else
		heard->n_refused++;
	return 0;
}

static void begin(struct test_worker *w, struct heard *heard, const char *test, const char *config)
{
	_cleanup_free_ char *cmdline =
		g_strdup_printf("test=%s addr=0x%llx", test,
				scenario_platform_start() + LAYOUT_PLATFORM_PCI_HOTPLUG);
	static const char *const signals[] = { "DeviceRemoved", "RemovalRefused" };
	struct err err = { 0 };

	*heard = (struct heard){ 0 };
	test_worker_spawn(w, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
		g_assert_cmpint(sd_bus_match_signal(w->bus, NULL, NULL, PROTOCOL_OBJECT,
						    PROTOCOL_INTERFACE, signals[i], on_removed,
						    heard),
				>=, 0);
	test_worker_resource(w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (config)
		prepare_disk(w);
	if (test_worker_start(w, cmdline, config, false, &err) < 0)
		g_error("%s", err.msg);
}

static void finish(struct test_worker *w)
{
	test_worker_wait_exit(w, WAIT_SECONDS);
	scenario_expect_done(w);
	test_worker_end(w);
}

static void hand_over(struct test_worker *w, const char *name)
{
	int fd = test_disk(1U << 20);

	g_assert_cmpint(sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
					   "AddResources", NULL, NULL, "a{sh}", 1, name, fd),
			>=, 0);
	close(fd);
}

static int fail(struct err *err, int r, const sd_bus_error *error)
{
	err_from_worker_error(err, r, error);
	return r;
}

/* 0, or the worker's error */
static int add_disk(struct test_worker *w, const char *id, const char *path, char **ret_bdf,
		    struct err *err)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	const char *got, *bdf;
	int r;

	r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "AddDevice",
			       &error, &reply, "sa{sv}", "disks", 2, "id", "s", id, "path", "s",
			       path);
	if (r < 0)
		return fail(err, r, &error);
	g_assert_cmpint(sd_bus_message_read(reply, "ss", &got, &bdf), >, 0);
	g_assert_cmpstr(got, ==, id);
	if (ret_bdf)
		*ret_bdf = g_strdup(bdf);
	return 0;
}

static int remove_device(struct test_worker *w, const char *id, bool force, struct err *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE,
				   "RemoveDevice", &error, NULL, "sb", id, (int)force);

	return r < 0 ? fail(err, r, &error) : 0;
}

static void wait_for(struct test_worker *w, const unsigned int *n, unsigned int wanted)
{
	for (unsigned int i = 0; *n != wanted && i < WAIT_SECONDS * 20; i++)
		test_worker_run_for(w, 50);
	if (*n != wanted) {
		g_autofree char *output = test_worker_output(w);

		g_error("%u, not %u; the guest:\n%s", *n, wanted, output);
	}
}

static unsigned int count_entries(struct test_worker *w, const char *what)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/%s", w->pid, what);
	DIR *dir = opendir(path);
	unsigned int n = 0;

	g_assert_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* In and out again: nothing of it is left, and its slot, name and index are free for the next. */
static void test_rounds(void)
{
	unsigned int fds = 0, threads = 0;
	g_autofree char *first = NULL;
	struct err err = { 0 };
	struct test_worker w;
	struct heard heard;

	begin(&w, &heard, "hotplug-pci rounds=" G_STRINGIFY(ROUNDS), NULL);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		g_autofree char *waiting = g_strdup_printf("# waiting %u", i);
		g_autofree char *plugged = g_strdup_printf("# plugged %u", i);
		g_autofree char *bdf = NULL;

		test_worker_wait_output(&w, waiting, WAIT_SECONDS);
		if (i == 0) {
			fds = count_entries(&w, "fd");
			threads = count_entries(&w, "task");
		}
		hand_over(&w, "/disks/0/path");
		if (add_disk(&w, "data", "/disks/0/path", &bdf, &err) < 0)
			g_error("%s", err.msg);
		if (i == 0)
			first = g_strdup(bdf);
		g_assert_cmpstr(bdf, ==, first);
		test_worker_wait_output(&w, plugged, WAIT_SECONDS);
		g_assert_cmpint(remove_device(&w, "data", false, &err), ==, 0);
		wait_for(&w, &heard.n_removed, i + 1);
		g_assert_cmpstr(heard.id, ==, "data");
		if (i + 1 < ROUNDS) {
			g_assert_cmpuint(count_entries(&w, "fd"), ==, fds);
			g_assert_cmpuint(count_entries(&w, "task"), ==, threads);
		}
	}
	finish(&w);
}

/* The guest says no: told, the disk works on, and it can be asked again. */
static void test_refuse(void)
{
	struct err err = { 0 };
	struct test_worker w;
	struct heard heard;

	begin(&w, &heard, "hotplug-refuse", NULL);
	test_worker_wait_output(&w, "# waiting", WAIT_SECONDS);
	hand_over(&w, "/disks/0/path");
	g_assert_cmpint(add_disk(&w, "data", "/disks/0/path", NULL, &err), ==, 0);
	test_worker_wait_output(&w, "# plugged", WAIT_SECONDS);
	g_assert_cmpint(remove_device(&w, "data", false, &err), ==, 0);
	wait_for(&w, &heard.n_refused, 1);
	test_worker_wait_output(&w, "# refused", WAIT_SECONDS);
	g_assert_cmpuint(heard.n_removed, ==, 0);
	g_assert_cmpint(remove_device(&w, "data", false, &err), ==, 0);
	wait_for(&w, &heard.n_removed, 1);
	finish(&w);
}

static void test_rude(void)
{
	struct test_worker w;
	struct heard heard;

	begin(&w, &heard, "hotplug-rude", CONFIG_DISK);
	test_worker_wait_exit(&w, WAIT_SECONDS);
	g_assert_cmpuint(heard.n_removed, ==, 0);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

/* A guest that never answers loses the disk all the same; one that is reset has let go of it. */
static void test_force_and_reset(void)
{
	struct err err = { 0 };
	struct test_worker w;
	struct heard heard;

	begin(&w, &heard, "spin-forever", CONFIG_DISK);
	hand_over(&w, "/disks/1/path");
	g_assert_cmpint(add_disk(&w, "data", "/disks/1/path", NULL, &err), ==, 0);
	g_assert_cmpint(remove_device(&w, "data", false, &err), ==, 0);
	test_worker_run_for(&w, 200);
	g_assert_cmpuint(heard.n_removed, ==, 0);
	g_assert_cmpint(remove_device(&w, "data", true, &err), ==, 0);
	wait_for(&w, &heard.n_removed, 1);

	/* Of two the first goes: what is behind it moves up. */
	hand_over(&w, "/disks/1/path");
	g_assert_cmpint(add_disk(&w, "b", "/disks/1/path", NULL, &err), ==, 0);
	hand_over(&w, "/disks/2/path");
	g_assert_cmpint(add_disk(&w, "c", "/disks/2/path", NULL, &err), ==, 0);
	g_assert_cmpint(remove_device(&w, "b", false, &err), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	wait_for(&w, &heard.n_removed, 2);
	g_assert_cmpstr(heard.id, ==, "b");
	hand_over(&w, "/disks/2/path");
	g_assert_cmpint(add_disk(&w, "d", "/disks/2/path", NULL, &err), ==, 0);

	g_assert_cmpint(test_worker_call(&w, "Pause", &err), ==, 0);
	g_assert_cmpint(remove_device(&w, "c", true, &err), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Resume", &err), ==, 0);
	wait_for(&w, &heard.n_removed, 3);
	test_worker_end(&w);
}

/*
 * A guest that uses the disk: id and image are free at once, and what the guest has of it
 * when it has let go.
 */
static void test_force_in_use(void)
{
	g_autofree char *output = NULL;
	unsigned int fds, threads;
	struct err err = { 0 };
	struct test_worker w;
	struct heard heard;

	begin(&w, &heard, "hotplug-force", NULL);
	test_worker_wait_output(&w, "# waiting", WAIT_SECONDS);
	fds = count_entries(&w, "fd");
	threads = count_entries(&w, "task");
	hand_over(&w, "/disks/0/path");
	g_assert_cmpint(add_disk(&w, "data", "/disks/0/path", NULL, &err), ==, 0);
	test_worker_wait_output(&w, "# plugged", WAIT_SECONDS);
	g_assert_cmpint(remove_device(&w, "data", true, &err), ==, 0);
	wait_for(&w, &heard.n_removed, 1);
	g_assert_cmpuint(count_entries(&w, "task"), ==, threads);
	g_assert_cmpint(remove_device(&w, "data", true, &err), <, 0);
	g_assert_cmpint((int)err.fault, ==, FAULT_NO_SUCH_DEVICE);
	test_worker_wait_output(&w, "# lost", WAIT_SECONDS);
	hand_over(&w, "/disks/0/path");
	g_assert_cmpint(add_disk(&w, "data", "/disks/0/path", NULL, &err), ==, 0);
	test_worker_wait_output(&w, "# well", WAIT_SECONDS);
	/* Of a machine that is paused, too; a reset lets go of all. */
	g_assert_cmpint(test_worker_call(&w, "Pause", &err), ==, 0);
	g_assert_cmpint(remove_device(&w, "data", true, &err), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Resume", &err), ==, 0);
	test_worker_wait_output(&w, "# lost both", WAIT_SECONDS);
	output = test_worker_output(&w);
	g_assert_null(strstr(output, "not ok"));
	g_assert_cmpuint(count_entries(&w, "fd"), >, fds);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	g_assert_cmpuint(count_entries(&w, "fd"), ==, fds);
	test_worker_end(&w);
}

/* What cannot be is refused with a sentence, and nothing of it stays. */
static void test_refused_calls(void)
{
	struct err err = { 0 };
	struct test_worker w;
	struct heard heard;
	unsigned int fds;

	begin(&w, &heard, "spin-forever", CONFIG_DISK);
	test_worker_wait_output(&w, "done", WAIT_SECONDS);
	fds = count_entries(&w, "fd");
	hand_over(&w, "/disks/1/path");
	g_assert_cmpint(add_disk(&w, "_disk0", "/disks/1/path", NULL, &err), <, 0);
	g_assert_cmpstr(err.msg, ==, "/disks/1/id: '_disk0' is /disks/0's too, must be unique");
	g_assert_cmpuint(count_entries(&w, "fd"), ==, fds);
	err = (struct err){ 0 };
	g_assert_cmpint(add_disk(&w, "x", "/disks/1/path", NULL, &err), <, 0);
	g_assert_cmpstr(err.msg, ==, "disk 'x': resource '/disks/1/path' was not handed over");
	err = (struct err){ 0 };
	g_assert_cmpint(remove_device(&w, "x", false, &err), <, 0);
	g_assert_cmpint(err.fault, ==, FAULT_NO_SUCH_DEVICE);
	err = (struct err){ 0 };
	g_assert_cmpint(remove_device(&w, "__rng", true, &err), <, 0);
	g_assert_cmpint(err.fault, ==, FAULT_UNSUPPORTED);
	g_assert_cmpstr(err.msg, ==,
			"device '__rng' (rng) cannot be taken out while the machine runs");
	g_assert_cmpuint(count_entries(&w, "fd"), ==, fds);
	test_worker_end(&w);
}

/* --- memory ------------------------------------------------------------------------ */

#define MIB_BYTES     (1ULL << 20)
#define CONFIG_MEMORY "{'memory': <{'hotplug_size': <uint64 536870912>}>}"
#define CONFIG_CPUS   "{'cpus': <{'max_vcpus': <uint32 4>}>}"

struct sizes {
	uint64_t memory, target;
	uint32_t vcpus, vcpus_target;
	unsigned int n_refused;
	const char *key; /* of what can be refused */
};

static int on_sizes(sd_bus_message *m, void *data, sd_bus_error *ret_error)
{
	struct sizes *sizes = data;
	const char *key;

	(void)ret_error;
	if (sd_bus_message_is_signal(m, NULL, "ResizeRefused")) {
		g_assert_cmpint(sd_bus_message_read(m, "s", &key), >, 0);
		g_assert_cmpstr(key, ==, sizes->key);
		sizes->n_refused++;
		return 0;
	}
	g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{sv}"), >, 0);
	while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
		g_assert_cmpint(sd_bus_message_read(m, "s", &key), >, 0);
		if (strcmp(key, "memory") == 0)
			g_assert_cmpint(sd_bus_message_read(m, "v", "t", &sizes->memory), >, 0);
		else if (strcmp(key, "memory_target") == 0)
			g_assert_cmpint(sd_bus_message_read(m, "v", "t", &sizes->target), >, 0);
		else if (strcmp(key, "vcpus") == 0)
			g_assert_cmpint(sd_bus_message_read(m, "v", "u", &sizes->vcpus), >, 0);
		else if (strcmp(key, "vcpus_target") == 0)
			g_assert_cmpint(sd_bus_message_read(m, "v", "u", &sizes->vcpus_target), >,
					0);
		else
			g_assert_cmpint(sd_bus_message_skip(m, "v"), >, 0);
		g_assert_cmpint(sd_bus_message_exit_container(m), >, 0);
	}
	return 0;
}

static void begin_resize(struct test_worker *w, struct sizes *sizes, const char *key,
			 const char *test, uint64_t controller, const char *config)
{
	_cleanup_free_ char *cmdline =
		g_strdup_printf("test=%s addr=0x%llx", test,
				(unsigned long long)(scenario_platform_start() + controller));
	static const char *const signals[] = { "SizesChanged", "ResizeRefused" };
	struct err err = { 0 };

	*sizes = (struct sizes){ .key = key };
	test_worker_spawn(w, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
		g_assert_cmpint(sd_bus_match_signal(w->bus, NULL, NULL, PROTOCOL_OBJECT,
						    PROTOCOL_INTERFACE, signals[i], on_sizes,
						    sizes),
				>=, 0);
	test_worker_resource(w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (test_worker_start(w, cmdline, config, false, &err) < 0)
		g_error("%s", err.msg);
}

static void begin_memory(struct test_worker *w, struct sizes *sizes, const char *test)
{
	begin_resize(w, sizes, "memory", test, LAYOUT_PLATFORM_MEMORY_HOTPLUG, CONFIG_MEMORY);
}

static int set_memory(struct test_worker *w, uint64_t mib, struct err *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "SetMemory",
				   &error, NULL, "t", mib * MIB_BYTES);

	return r < 0 ? fail(err, r, &error) : 0;
}

static void wait_memory(struct test_worker *w, const uint64_t *n, uint64_t mib)
{
	for (unsigned int i = 0; *n != mib * MIB_BYTES && i < WAIT_SECONDS * 20; i++)
		test_worker_run_for(w, 50);
	g_assert_cmpuint(*n, ==, mib * MIB_BYTES);
}

/* Taken, refused, offered again: what the guest has follows what it says. */
static void test_memory(void)
{
	struct err err = { 0 };
	struct sizes sizes;
	struct test_worker w;

	begin_memory(&w, &sizes, "hotplug-memory");
	test_worker_wait_output(&w, "# waiting", WAIT_SECONDS);
	g_assert_cmpint(set_memory(&w, 512 + 128, &err), ==, 0);
	wait_memory(&w, &sizes.memory, 512 + 128);
	g_assert_cmpint(set_memory(&w, 512 + 384, &err), ==, 0);
	wait_for(&w, &sizes.n_refused, 1);
	g_assert_cmpuint(sizes.memory, ==, 640 * MIB_BYTES);
	g_assert_cmpuint(sizes.target, ==, 896 * MIB_BYTES);
	g_assert_cmpint(set_memory(&w, 512 + 384, &err), ==, 0);
	wait_memory(&w, &sizes.memory, 512 + 384);
	finish(&w);
}

static void test_memory_rude(void)
{
	struct err err = { 0 };
	struct sizes sizes;
	struct test_worker w;

	begin_memory(&w, &sizes, "hotplug-memory-rude");
	test_worker_wait_output(&w, "# waiting", WAIT_SECONDS);
	g_assert_cmpint(set_memory(&w, 512 + 128, &err), ==, 0);
	finish(&w);
	g_assert_cmpuint(sizes.target, ==, 640 * MIB_BYTES);
}

/* A guest that never answers, and what cannot be; a reset takes what was offered. */
static void test_memory_calls(void)
{
	struct err err = { 0 };
	struct sizes sizes;
	struct test_worker w;

	begin_memory(&w, &sizes, "spin-forever");
	test_worker_wait_output(&w, "done", WAIT_SECONDS);
	g_assert_cmpint(set_memory(&w, 256, &err), <, 0);
	g_assert_nonnull(strstr(err.msg, "cannot have less while it runs"));
	err = (struct err){ 0 };
	g_assert_cmpint(set_memory(&w, 513, &err), <, 0);
	g_assert_nonnull(strstr(err.msg, "must be a multiple of 134217728"));
	err = (struct err){ 0 };
	g_assert_cmpint(set_memory(&w, 2048, &err), <, 0);
	g_assert_nonnull(strstr(err.msg, "must be at most 1073741824"));
	g_assert_cmpint(set_memory(&w, 640, &err), ==, 0);
	wait_memory(&w, &sizes.target, 640);
	g_assert_cmpuint(sizes.memory, ==, 512 * MIB_BYTES);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	wait_memory(&w, &sizes.memory, 640);
	g_assert_cmpint(set_memory(&w, 1024, &err), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	wait_memory(&w, &sizes.memory, 1024);
	test_worker_end(&w);
}

/* --- processors ---------------------------------------------------------------------- */

static void begin_cpus(struct test_worker *w, struct sizes *sizes, const char *test)
{
	begin_resize(w, sizes, "vcpus", test, LAYOUT_PLATFORM_CPU_HOTPLUG, CONFIG_CPUS);
}

static int set_vcpus(struct test_worker *w, uint32_t n, struct err *err)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = sd_bus_call_method(w->bus, NULL, PROTOCOL_OBJECT, PROTOCOL_INTERFACE, "SetVCPUs",
				   &error, NULL, "u", n);

	return r < 0 ? fail(err, r, &error) : 0;
}

/* Brought up, kept, given back, twice: the numbers follow what the guest does. */
static void test_cpu(void)
{
	struct err err = { 0 };
	unsigned int threads;
	struct sizes sizes;
	struct test_worker w;

	begin_cpus(&w, &sizes, "hotplug-cpu");
	test_worker_wait_output(&w, "# waiting 0", WAIT_SECONDS);
	threads = count_entries(&w, "task");
	for (unsigned int i = 1; i <= 2; i++) {
		g_assert_cmpint(set_vcpus(&w, 2, &err), ==, 0);
		wait_for(&w, &sizes.vcpus, 2);
		g_assert_cmpuint(count_entries(&w, "task"), ==, threads + 1);
		g_assert_cmpint(set_vcpus(&w, 1, &err), ==, 0);
		wait_for(&w, &sizes.n_refused, i);
		g_assert_cmpuint(sizes.vcpus, ==, 2);
		g_assert_cmpuint(sizes.vcpus_target, ==, 1);
		g_assert_cmpint(set_vcpus(&w, 1, &err), ==, 0);
		wait_for(&w, &sizes.vcpus, 1);
		if (i == 1)
			g_assert_cmpuint(count_entries(&w, "task"), ==, threads);
	}
	finish(&w);
}

static void test_cpu_rude(void)
{
	struct err err = { 0 };
	struct sizes sizes;
	struct test_worker w;

	begin_cpus(&w, &sizes, "hotplug-cpu-rude");
	test_worker_wait_output(&w, "# waiting", WAIT_SECONDS);
	g_assert_cmpint(set_vcpus(&w, 2, &err), ==, 0);
	test_worker_wait_output(&w, "# was rude", WAIT_SECONDS);
	g_assert_cmpuint(sizes.vcpus, ==, 2);
	g_assert_cmpint(set_vcpus(&w, 1, &err), ==, 0);
	wait_for(&w, &sizes.vcpus, 1);
	finish(&w);
}

/* A guest that never answers, and what cannot be; a reset ends it as it was meant. */
static void test_cpu_calls(void)
{
	struct err err = { 0 };
	struct sizes sizes;
	struct test_worker w;

	begin_cpus(&w, &sizes, "spin-forever");
	test_worker_wait_output(&w, "done", WAIT_SECONDS);
	for (uint32_t n = 0; n <= 5; n += 5) {
		g_assert_cmpint(set_vcpus(&w, n, &err), <, 0);
		g_assert_nonnull(strstr(err.msg, "must be 1 to 4 (/cpus/max_vcpus)"));
		err = (struct err){ 0 };
	}
	g_assert_cmpint(set_vcpus(&w, 4, &err), ==, 0);
	wait_for(&w, &sizes.vcpus_target, 4);
	g_assert_cmpuint(sizes.vcpus, ==, 1);
	/* asked back, those that were never started still do not count; and again */
	g_assert_cmpint(set_vcpus(&w, 2, &err), ==, 0);
	wait_for(&w, &sizes.vcpus_target, 2);
	g_assert_cmpuint(sizes.vcpus, ==, 1);
	g_assert_cmpint(set_vcpus(&w, 4, &err), ==, 0);
	wait_for(&w, &sizes.vcpus_target, 4);
	g_assert_cmpuint(sizes.vcpus, ==, 1);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	wait_for(&w, &sizes.vcpus, 4);
	g_assert_cmpint(set_vcpus(&w, 2, &err), ==, 0);
	g_assert_cmpint(test_worker_call(&w, "Reset", &err), ==, 0);
	wait_for(&w, &sizes.vcpus, 2);
	test_worker_end(&w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hotplug/pci/rounds", test_rounds);
	g_test_add_func("/hotplug/pci/refuse", test_refuse);
	g_test_add_func("/hotplug/pci/rude", test_rude);
	g_test_add_func("/hotplug/pci/force-and-reset", test_force_and_reset);
	g_test_add_func("/hotplug/pci/force-in-use", test_force_in_use);
	g_test_add_func("/hotplug/pci/refused-calls", test_refused_calls);
	g_test_add_func("/hotplug/cpu/come-and-go", test_cpu);
	g_test_add_func("/hotplug/cpu/rude", test_cpu_rude);
	g_test_add_func("/hotplug/cpu/calls", test_cpu_calls);
	g_test_add_func("/hotplug/memory/come", test_memory);
	g_test_add_func("/hotplug/memory/rude", test_memory_rude);
	g_test_add_func("/hotplug/memory/calls", test_memory_calls);
	return g_test_run();
}
