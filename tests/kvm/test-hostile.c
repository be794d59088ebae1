/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that misuse their devices: the device breaks or refuses, the worker
 * lives, and after a reset the device works again (the guest checks that).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"
#include "vmm/api/protocol.h"

#define HOSTILE(test, args)                                                                        \
	{                                                                                          \
		"/hostile/" test, "test=" test " dev=all" args, CONFIG_ALL, prepare_all_devices,   \
			.seconds = 60                                                              \
	}

static const struct scenario scenarios[] = {
	HOSTILE("bad-loop", ""),
	HOSTILE("bad-next", ""),
	HOSTILE("bad-index", ""),
	HOSTILE("bad-addr", ""),
	HOSTILE("bad-len", ""),
	HOSTILE("bad-avail-jump", ""),
	HOSTILE("bad-indirect-nested", ""),
	HOSTILE("bad-indirect-size", ""),
	HOSTILE("bad-rw-order", ""),
	HOSTILE("bad-queue-addr", ""),
	HOSTILE("bad-queue-size", ""),
	HOSTILE("bad-notify", ""),
	HOSTILE("bad-config", ""),
	HOSTILE("bad-status", ""),
	HOSTILE("bad-header", ""),
	HOSTILE("bad-storm", " seed=1"),
	{ "/hostile/bad-race", "test=bad-race dev=all ms=2000",
	  "{'cpus': <{'boot_vcpus': <uint32 4>}>," CONFIG_ALL_DEVICES "}", prepare_all_devices,
	  .seconds = 60 },
	{ "/hostile/bad-storm-2", "test=bad-storm dev=all seed=2 count=96", CONFIG_ALL,
	  prepare_all_devices, .seconds = 60 },
};

static void storm_console(struct test_worker *w, unsigned int i)
{
	struct err err = { 0 };
	int fd = -EBADF;

	/* each is thrown away by the next, at the latest */
	if (test_worker_open_console(w, i % 2 ? "serial" : "", true, &fd, &err) == 0)
		close(fd);
	err_clear(&err);
}

/* The daemon's calls in the middle of a race of four vCPUs: no hang, no crash, an orderly end. */
static void test_race_and_calls(void)
{
	static const char *const calls[] = {
		"Pause", "GetCounters", "Resume", "Query", "Pause", "Reset",  "Hello",
		"Pause", "PowerButton", "Reset",  "Pause", "Query", "Resume", "Reboot",
	};
	struct test_worker w;
	struct err err = { 0 };

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		g_test_skip("no access to /dev/kvm");
		return;
	}
	test_worker_spawn(&w, NULL);
	test_worker_resource(&w, "/rng/src", open("/dev/urandom", O_RDONLY | O_CLOEXEC));
	prepare_all_devices(&w);
	if (test_worker_start(&w, "test=bad-race ms=100000 out=e9",
			      "{'cpus': <{'boot_vcpus': <uint32 4>}>," CONFIG_ALL_DEVICES "}",
			      false, &err) < 0)
		g_error("Start: %s", err.msg);
	for (unsigned int i = 0; i < 140 && !w.exited; i++) {
		/* A wrong state is an answer; a missing one is a hang, and sd-bus says so. */
		test_worker_call(&w, calls[i % G_N_ELEMENTS(calls)], &err);
		if (err.code == ETIMEDOUT)
			g_error("%s: no answer", calls[i % G_N_ELEMENTS(calls)]);
		err_clear(&err);
		storm_console(&w, i);
		test_worker_run_for(&w, i % 7 * 12);
	}
	g_assert_false(w.exited);
	g_assert_cmpuint(test_worker_count(&w, "# racing"), >, 1);
	/* last, as what it does to a guest without an IDT is its end */
	test_worker_call(&w, "InjectNMI", &err);
	err_clear(&err);
	test_worker_call(&w, "Quit", &err);
	test_worker_wait_exit(&w, 10);
	g_assert_true(WIFEXITED(w.status));
	test_worker_end(&w);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	scenarios_add(scenarios, G_N_ELEMENTS(scenarios));
	g_test_add_func("/hostile/bad-race/calls", test_race_and_calls);
	return g_test_run();
}
