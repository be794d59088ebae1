/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that misuse their devices: the device breaks or refuses, the worker
 * lives, and after a reset the device works again (the guest checks that).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/scenario.h"
#include "vmm/api/protocol.h"

#define HOSTILE(test, args)                                                                        \
	{                                                                                          \
		"/hostile/" test, "test=" test " dev=all victims=5" args, CONFIG_ALL,              \
			prepare_all_devices, .seconds = 60                                         \
	}

/* The devices of a cloud guest, the entropy source behind the IOMMU. */
#define CONFIG_MORE_DEVICES                                                                        \
	"'vsock': <{'cid': <uint64 3>, 'socket': <'/vsock/socket'>}>,"                             \
	" 'balloon': <{'size': <uint64 0>, 'free_page_reporting': <true>}>,"                       \
	" 'pmem': <[{'file': <'/pmem/0/file'>}]>,"                                                 \
	" 'rng': <{'src': <'/rng/src'>, 'iommu': <true>}>,"                                        \
	" 'console': <{'mode': <'Tty'>}>, 'rtc': <@a{sv} {}>"

#define HOSTILE_MORE(test, args)                                                                   \
	{                                                                                          \
		"/hostile/more/" test, "test=" test " dev=all victims=8" args,                     \
			"{" CONFIG_MORE_DEVICES "}", prepare_more_devices, check_more_devices,     \
			.seconds = 60                                                              \
	}

#define CONFIG_PLATFORM                                                                            \
	"{'pvpanic': <true>, 'watchdog': <true>, 'watchdog_action': <'Report'>,"                   \
	" 'payload': <{'fw_cfg_config': <{'items': <{'item_list': <["                              \
	"{'name': <'opt/test'>, 'string': <'hello'>}]>}>}>}>}"

#define PMEM_SIZE (4U << 20)

static int pmem_fd = -EBADF;

static void prepare_more_devices(struct test_worker *w)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(listener, >=, 0);
	g_assert_cmpint(bind(listener, (const struct sockaddr *)&any, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(listen(listener, 4), ==, 0);
	test_worker_resource(w, "/vsock/socket", listener);
	pmem_fd = memfd_create("pmem", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(pmem_fd, PMEM_SIZE), ==, 0);
	g_assert_cmpint(pwrite(pmem_fd, "precious", 8, 0), ==, 8);
	test_worker_resource(w, "/pmem/0/file", dup(pmem_fd));
}

/* No page of the file was given away by the balloon, nor a random address in it written to. */
static void check_more_devices(struct test_worker *w G_GNUC_UNUSED)
{
	char text[9] = "";

	g_assert_cmpint(pread(pmem_fd, text, 8, 0), ==, 8);
	g_assert_cmpstr(text, ==, "precious");
	g_assert_cmpint(close(pmem_fd), ==, 0);
}

/* Connects to the guest until the worker is gone, and reads nothing. */
static void *connect_always(void *data)
{
	g_autofree struct sockaddr_un *address = data;
	struct pollfd p = { 0 };
	int r;

	do {
		p.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		/* autobind: an address without a name in the file system */
		r = connect(p.fd, (struct sockaddr *)address,
			    sizeof(sa_family_t) + 1 + strlen(address->sun_path + 1));
		if (r == 0 && send(p.fd, "CONNECT 1024\nping", 17, MSG_NOSIGNAL) == 17)
			poll(&p, 1, -1);
		close(p.fd);
	} while (r == 0);
	return NULL;
}

static void prepare_connections(struct test_worker *w)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX },
			   *address = g_new0(struct sockaddr_un, 1);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*address);

	g_assert_cmpint(bind(listener, (struct sockaddr *)&any, sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(listen(listener, 4), ==, 0);
	g_assert_cmpint(getsockname(listener, (struct sockaddr *)address, &len), ==, 0);
	test_worker_resource(w, "/vsock/socket", listener);
	g_thread_unref(g_thread_new("client", connect_always, address));
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
	{ "/hostile/bad-race", "test=bad-race dev=all victims=5 ms=2000",
	  "{'cpus': <{'boot_vcpus': <uint32 4>}>," CONFIG_ALL_DEVICES "}", prepare_all_devices,
	  .seconds = 60 },
	{ "/hostile/bad-storm-2", "test=bad-storm dev=all seed=2 count=96", CONFIG_ALL,
	  prepare_all_devices, .seconds = 60 },
	HOSTILE_MORE("bad-loop", ""),
	HOSTILE_MORE("bad-next", ""),
	HOSTILE_MORE("bad-index", ""),
	HOSTILE_MORE("bad-addr", ""),
	HOSTILE_MORE("bad-len", ""),
	HOSTILE_MORE("bad-avail-jump", ""),
	HOSTILE_MORE("bad-indirect-nested", ""),
	HOSTILE_MORE("bad-indirect-size", ""),
	HOSTILE_MORE("bad-rw-order", ""),
	HOSTILE_MORE("bad-queue-addr", ""),
	HOSTILE_MORE("bad-queue-size", ""),
	HOSTILE_MORE("bad-notify", ""),
	HOSTILE_MORE("bad-config", ""),
	HOSTILE_MORE("bad-status", ""),
	HOSTILE_MORE("bad-request", ""),
	HOSTILE_MORE("bad-storm", " seed=3"),
	{ "/hostile/more/bad-race", "test=bad-race dev=all victims=8 ms=2000",
	  "{'cpus': <{'boot_vcpus': <uint32 4>}>," CONFIG_MORE_DEVICES "}", prepare_more_devices,
	  check_more_devices, .seconds = 60 },
	{ "/hostile/vsock-connections", "test=vsock-misuse",
	  "{'vsock': <{'cid': <uint64 3>, 'socket': <'/vsock/socket'>}>}", prepare_connections,
	  .seconds = 60 },
	{ "/hostile/noise", "test=bad-noise", CONFIG_PLATFORM, NULL, .seconds = 60 },
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
