/* SPDX-License-Identifier: Apache-2.0 */
/* The machine without its PCI devices: start, processors, memory, ports, ends. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"
#include "vmm/api/protocol.h"
#include "vmm/arch/x86/layout.h"

static void check_two_boots(struct test_worker *w)
{
	g_assert_cmpuint(test_worker_count(w, "boot "), ==, 2);
	g_assert_cmpstr(w->states->pdata[w->states->len - 2], ==, "running>running:guest-reboot");
}

static void check_debug_codes(struct test_worker *w)
{
	const guint64 *first = g_hash_table_lookup(w->debug_codes, GUINT_TO_POINTER(0x40));
	const guint64 *last = g_hash_table_lookup(w->debug_codes, GUINT_TO_POINTER(0x41));

	g_assert_nonnull(first);
	g_assert_nonnull(last);
	g_assert_cmpuint(*first, <, *last);
}

static const struct scenario scenarios[] = {
	{ .name = "/machine/hello", .cmdline = "test=hello", .check = check_debug_codes },
	{ .name = "/machine/memmap", .cmdline = "test=memmap" },
	{ .name = "/machine/memory/512M", .cmdline = "test=mem-high size=512" },
	{ .name = "/machine/memory/across-the-hole",
	  .cmdline = "test=mem-high size=5120",
	  .config = "{'memory': <{'size': <uint64 5368709120>}>}" },
	{ .name = "/machine/memory/shared",
	  .cmdline = "test=mem-high size=64",
	  .config = "{'memory': <{'size': <uint64 67108864>, 'shared': <true>}>}" },
	{ .name = "/machine/memory/prefault",
	  .cmdline = "test=mem-high size=64",
	  .config = "{'memory': <{'size': <uint64 67108864>, 'prefault': <true>}>}" },
	{ .name = "/machine/acpi/1-of-1", .cmdline = "test=acpi cpus=1 max=1" },
	{ .name = "/machine/acpi/2-of-4",
	  .cmdline = "test=acpi cpus=2 max=4",
	  .config = "{'cpus': <{'boot_vcpus': <uint32 2>, 'max_vcpus': <uint32 4>}>}" },
	{ .name = "/machine/smp/2",
	  .cmdline = "test=smp cpus=2",
	  .config = "{'cpus': <{'boot_vcpus': <uint32 2>}>}" },
	{ .name = "/machine/smp/4",
	  .cmdline = "test=smp cpus=4",
	  .config = "{'cpus': <{'boot_vcpus': <uint32 4>}>}" },
	{ .name = "/machine/smp/topology",
	  .cmdline = "test=smp cpus=6",
	  .config =
		  "{'cpus': <{'boot_vcpus': <uint32 6>, 'topology': <{'threads_per_core': <uint32 2>,"
		  " 'cores_per_die': <uint32 3>, 'dies_per_package': <uint32 1>,"
		  " 'packages': <uint32 1>}>}>}" },
	{ .name = "/machine/smp/affinity",
	  .cmdline = "test=smp cpus=2",
	  .config =
		  "{'cpus': <{'boot_vcpus': <uint32 2>, 'affinity': <[{'vcpu': <uint32 0>,"
		  " 'host_cpus': <[uint32 0]>}, {'vcpu': <uint32 1>, 'host_cpus': <[uint32 1]>}]>}>}" },
	{ .name = "/machine/pmtimer", .cmdline = "test=pmtimer" },
	{ .name = "/machine/rtc", .cmdline = "test=rtc" },
	{ .name = "/machine/reset/keyboard-controller",
	  .cmdline = "test=reset-kbd",
	  .check = check_two_boots },
	{ .name = "/machine/reset/acpi", .cmdline = "test=reset-acpi", .check = check_two_boots },
	{ .name = "/machine/reset/smp",
	  .cmdline = "test=smp,reset-acpi cpus=2",
	  .config = "{'cpus': <{'boot_vcpus': <uint32 2>}>}",
	  .check = check_two_boots },
	{ .name = "/machine/poweroff", .cmdline = "test=poweroff" },
	{ .name = "/machine/triple-fault",
	  .cmdline = "test=triple-fault",
	  .edge = "running>shutdown:triple-fault",
	  .status = WORKER_EXIT_TRIPLE_FAULT },
};

static void begin(struct test_worker *w, const char *cmdline, const char *config, bool paused)
{
	struct err err = { 0 };

	test_worker_spawn(w, NULL);
	test_worker_resource(w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	if (test_worker_start(w, cmdline, config, paused, &err) < 0)
		g_error("Start: %s", err.msg);
}

static void test_pause_resume(void)
{
	struct test_worker w;
	unsigned int ticks;

	begin(&w, "test=count hz=50", "{'cpus': <{'boot_vcpus': <uint32 2>}>}", false);
	test_worker_wait_output(&w, "# tick 3", 10);
	test_worker_call(&w, "Pause", NULL);
	test_worker_call(&w, "Pause", NULL); /* once more is no error */
	test_worker_wait_state(&w, "running>paused:request", 5);
	ticks = test_worker_count(&w, "# tick ");
	test_worker_run_for(&w, 300);
	g_assert_cmpuint(test_worker_count(&w, "# tick "), ==, ticks);
	test_worker_call(&w, "Resume", NULL);
	test_worker_wait_state(&w, "paused>running:request", 5);
	{
		_cleanup_free_ char *more = g_strdup_printf("# tick %u", ticks + 5);

		test_worker_wait_output(&w, more, 10);
	}
	test_worker_call(&w, "Quit", NULL);
	test_worker_wait_exit(&w, 5);
	g_assert_cmpint(WEXITSTATUS(w.status), ==, WORKER_EXIT_OK);
	test_worker_end(&w);
}

static void test_pause_storm(void)
{
	struct test_worker w;

	begin(&w, "test=count hz=100", "{'cpus': <{'boot_vcpus': <uint32 4>}>}", false);
	for (unsigned int i = 0; i < 100; i++) {
		test_worker_call(&w, "Pause", NULL);
		test_worker_call(&w, "Resume", NULL);
	}
	test_worker_wait_output(&w, "# tick 5", 20);
	test_worker_end(&w);
}

static void test_start_paused(void)
{
	struct test_worker w;

	begin(&w, "test=hello", NULL, true);
	test_worker_run_for(&w, 200);
	g_assert_cmpuint(test_worker_count(&w, "ok"), ==, 0);
	test_worker_call(&w, "Resume", NULL);
	test_worker_wait_exit(&w, 10);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

static void test_reset_by_request(void)
{
	struct test_worker w;

	begin(&w, "test=count hz=50", "{'cpus': <{'boot_vcpus': <uint32 2>}>}", false);
	test_worker_wait_output(&w, "# tick 3", 10);
	test_worker_call(&w, "Reset", NULL);
	test_worker_wait_state(&w, "running>running:reset", 5);
	test_worker_call(&w, "Pause", NULL);
	test_worker_call(&w, "Reset", NULL); /* of a paused machine: it runs again */
	test_worker_run_for(&w, 400);
	g_assert_cmpuint(test_worker_count(&w, "# tick 1\n"), >=, 2);
	test_worker_end(&w);
}

static void test_nmi(void)
{
	struct test_worker w;

	begin(&w, "test=nmi", NULL, false);
	test_worker_wait_output(&w, "# waiting", 10);
	test_worker_call(&w, "InjectNMI", NULL);
	test_worker_wait_exit(&w, 15);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

static void test_power_button(void)
{
	_cleanup_free_ char *cmdline =
		g_strdup_printf("test=power-button gsi=%u addr=0x%llx", LAYOUT_GED_GSI,
				scenario_platform_start() + LAYOUT_PLATFORM_GED);
	struct test_worker w;

	begin(&w, cmdline, NULL, false);
	test_worker_wait_output(&w, "# waiting", 10);
	test_worker_call(&w, "PowerButton", NULL);
	test_worker_wait_exit(&w, 15);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

/* Reboot: the button, and the shutdown that answers it becomes a restart. */
static void test_reboot(void)
{
	struct test_worker w;

	begin(&w, "test=count hz=20 count=20", NULL, false);
	test_worker_wait_output(&w, "# tick 2", 10);
	test_worker_call(&w, "Reboot", NULL);
	test_worker_wait_state(&w, "running>running:guest-reboot", 15);
	test_worker_wait_exit(&w, 15);
	g_assert_cmpuint(test_worker_count(&w, "# tick 1\n"), ==, 2);
	test_worker_end(&w);
}

static void read_until(int fd, const char *text)
{
	GString *got = g_string_new(NULL);
	char buf[256];
	ssize_t n;

	while (!strstr(got->str, text) && (n = read(fd, buf, sizeof(buf))) > 0)
		g_string_append_len(got, buf, n);
	if (!strstr(got->str, text))
		g_error("no '%s' on the console: %s", text, got->str);
	g_string_free(got, TRUE);
}

static void test_serial_echo(void)
{
	_cleanup_close_ int fd = -EBADF, second = -EBADF;
	struct err err = { 0 };
	struct test_worker w;

	begin(&w, "test=serial-echo out=e9", NULL, false);
	g_assert_cmpint(test_worker_open_console(&w, "", false, &fd, &err), ==, 0);
	/* one client at a time */
	g_assert_cmpint(test_worker_open_console(&w, "serial", false, &second, &err), <, 0);
	g_assert_cmpint(err.fault, ==, FAULT_CONSOLE_IN_USE);
	err_clear(&err);
	test_worker_wait_output(&w, "# waiting", 10);
	/* more than the FIFO holds: flow control must not lose any */
	g_assert_cmpint(write(fd, "every good brown fox jumps over the lazy dog", 44), ==, 44);
	read_until(fd, "lazy dog");
	/* a forced client takes it over, and gets what the console has kept */
	g_assert_cmpint(test_worker_open_console(&w, "serial", true, &second, &err), ==, 0);
	read_until(second, "every good brown fox");
	g_assert_cmpint(write(second, "q", 1), ==, 1);
	test_worker_wait_exit(&w, 15);
	scenario_expect_done(&w);
	test_worker_end(&w);
}

static void test_wrong_state(void)
{
	struct err err = { 0 };
	struct test_worker w;

	test_worker_spawn(&w, NULL);
	g_assert_cmpint(test_worker_call(&w, "Pause", &err), <, 0);
	g_assert_cmpint(err.fault, ==, FAULT_WRONG_STATE);
	g_assert_cmpstr(err.msg, ==, "the machine has not been started");
	test_worker_call(&w, "Quit", NULL);
	test_worker_wait_exit(&w, 5);
	g_assert_cmpint(WEXITSTATUS(w.status), ==, WORKER_EXIT_OK);
	test_worker_end(&w);
}

/* The worker validates what it gets, and says what is missing. */
static void test_start_refused(void)
{
	static const struct {
		const char *config, *text;
	} cases[] = {
		{ "{'disks': <[{'path': <'/disks/0/path'>}]>}",
		  "disk '_disk0': resource '/disks/0/path' was not handed over" },
		{ "{'cpus': <{'boot_vcpus': <uint32 0>}>}", "/cpus/boot_vcpus:" },
		{ "{'colour': <'blue'>}", "/colour:" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };
		struct test_worker w;

		test_worker_spawn(&w, NULL);
		test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
		g_assert_cmpint(test_worker_start(&w, "test=hello", cases[i].config, false, &err),
				<, 0);
		if (!strstr(err.msg, cases[i].text))
			g_error("case %zu: '%s' is not in '%s'", i, cases[i].text, err.msg);
		test_worker_end(&w);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	scenarios_add(scenarios, G_N_ELEMENTS(scenarios));
	g_test_add_func("/machine/pause-resume", test_pause_resume);
	g_test_add_func("/machine/pause-storm", test_pause_storm);
	g_test_add_func("/machine/start-paused", test_start_paused);
	g_test_add_func("/machine/reset/by-request", test_reset_by_request);
	g_test_add_func("/machine/reset/reboot", test_reboot);
	g_test_add_func("/machine/nmi", test_nmi);
	g_test_add_func("/machine/power-button", test_power_button);
	g_test_add_func("/machine/serial-echo", test_serial_echo);
	g_test_add_func("/machine/wrong-state", test_wrong_state);
	g_test_add_func("/machine/start-refused", test_start_refused);
	return g_test_run();
}
