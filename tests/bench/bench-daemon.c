/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What defined VMs cost the daemon
 *
 * brumed ($BRUMED) on a bus of its own with 0, 100 and 1000 defined VMs: its
 * memory, CreateVM calls a second (one at a time, each on the disk when it
 * returns), GetManagedObjects of 1000, and how long a daemon with 1000 takes
 * from its start to its name on the bus.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "dbus/bus-path.h"
#include "tests/bench/bench.h"
#include "tests/lib/private-bus.h"
#include "vmm/base/cleanup.h"

#define TIMEOUT_MS   20000
#define TIMEOUT_USEC (60 * 1000000ULL)

/* What a definition looks like: two disks, a network, a console. */
static const char config[] =
	"{\"cpus\": {\"boot_vcpus\": 2}, \"memory\": {\"size\": 1073741824},"
	" \"payload\": {\"kernel\": \"/var/lib/brume/images/vmlinuz\", \"cmdline\": \"root=/dev/vda\"},"
	" \"disks\": [{\"path\": \"/var/lib/brume/images/root.img\"},"
	" {\"path\": \"/var/lib/brume/images/data.img\", \"readonly\": true}],"
	" \"net\": [{\"tap\": \"vmtap0\"}], \"serial\": {\"mode\": \"Tty\"}}";

struct daemon {
	pid_t pid;
	double born_ms, named_ms;
	sd_bus *bus;
	struct private_bus *private;
	char state[40], runtime[40];
};

static void exec_daemon(const struct daemon *d)
{
	char address[160], state[64], runtime[64], worker[512];
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, STDERR_FILENO); /* that --worker-direct is for tests only */
	snprintf(address, sizeof(address), "--address=%s", d->private->address);
	snprintf(state, sizeof(state), "--state-dir=%s", d->state);
	snprintf(runtime, sizeof(runtime), "--runtime-dir=%s", d->runtime);
	snprintf(worker, sizeof(worker), "--worker=%s", g_getenv("BRUME_VMM"));
	execl(g_getenv("BRUMED"), "brumed", address, state, runtime, worker, "--worker-direct",
	      NULL);
	_exit(127);
}

static bool has_name(sd_bus *bus)
{
	sd_bus_message *reply = NULL;
	int owned = 0;

	if (sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
			       "org.freedesktop.DBus", "NameHasOwner", NULL, &reply, "s",
			       BRUME_BUS_NAME) >= 0)
		sd_bus_message_read(reply, "b", &owned);
	sd_bus_message_unref(reply);
	return owned;
}

static void daemon_start(struct daemon *d)
{
	d->born_ms = bench_now_ms();
	d->pid = fork();
	g_assert_cmpint(d->pid, >=, 0);
	if (d->pid == 0)
		exec_daemon(d);
	while (!has_name(d->bus)) {
		if (waitpid(d->pid, NULL, WNOHANG) == d->pid)
			g_error("brumed ended");
		if (bench_now_ms() > d->born_ms + TIMEOUT_MS)
			g_error("brumed does not take its name");
		g_usleep(500);
	}
	d->named_ms = bench_now_ms();
}

static void daemon_stop(struct daemon *d)
{
	kill(d->pid, SIGTERM);
	waitpid(d->pid, NULL, 0);
}

static void create(struct daemon *d, unsigned int i)
{
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	char name[32];

	snprintf(name, sizeof(name), "vm%04u", i);
	if (sd_bus_call_method(d->bus, BRUME_BUS_NAME, BRUME_ROOT_PATH, BRUME_MANAGER_INTERFACE,
			       "CreateVM", &error, NULL, "ssa{sh}a{sv}", name, config, 0, 0) < 0)
		g_error("CreateVM: %s", error.message);
}

/* Milliseconds until the whole reply is here. */
static double get_managed_objects(struct daemon *d)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
	_cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
	double start = bench_now_ms();

	g_assert_cmpint(sd_bus_message_new_method_call(d->bus, &m, BRUME_BUS_NAME, BRUME_ROOT_PATH,
						       "org.freedesktop.DBus.ObjectManager",
						       "GetManagedObjects"),
			>=, 0);
	if (sd_bus_call(d->bus, m, TIMEOUT_USEC, &error, &reply) < 0)
		g_error("GetManagedObjects: %s", error.message);
	return bench_now_ms() - start;
}

static double print_memory(const struct daemon *d, const char *peer, double goal)
{
	double rss = (double)bench_proc_kib(d->pid, "smaps_rollup", "Rss");

	bench_print_value("daemon-rss", peer, "KiB", rss, goal);
	bench_print_value("daemon-pss", peer, "KiB",
			  (double)bench_proc_kib(d->pid, "smaps_rollup", "Pss"), 0);
	return rss;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

int main(void)
{
	static struct bench_samples objects = {
		"get-managed-objects", "brumed-1000", "ms", 50, 0, { 0 }
	};
	static struct bench_samples load = { "daemon-start", "brumed-1000", "ms", 0, 0, { 0 } };
	struct private_bus private;
	struct daemon d = { .private = &private };
	char top[] = "/tmp/brume-bench-XXXXXX";
	double none, hundred, all, start;

	private_bus_start(&private);
	g_assert_nonnull(mkdtemp(top));
	snprintf(d.state, sizeof(d.state), "%s/state", top);
	snprintf(d.runtime, sizeof(d.runtime), "%s/run", top);
	d.bus = private_bus_connect(&private);

	daemon_start(&d);
	bench_print_value("daemon-start", "brumed-0", "ms", d.named_ms - d.born_ms, 0);
	none = print_memory(&d, "brumed-0", 8192);
	for (unsigned int i = 0; i < 100; i++)
		create(&d, i);
	hundred = print_memory(&d, "brumed-100", 0);
	bench_print_value("daemon-rss-per-vm", "brumed-100", "KiB", (hundred - none) / 100, 16);
	start = bench_now_ms();
	for (unsigned int i = 100; i < 1000; i++)
		create(&d, i);
	bench_print_value("create-vm-rate", "brumed-1000", "1/s",
			  900 * 1e3 / (bench_now_ms() - start), 0);
	all = print_memory(&d, "brumed-1000", 0);
	bench_print_value("daemon-rss-per-vm", "brumed-1000", "KiB", (all - none) / 1000, 16);
	for (unsigned int i = 0; i < bench_runs(); i++)
		bench_add(&objects, get_managed_objects(&d));
	bench_print(&objects);
	print_memory(&d, "brumed-1000-asked", 0);
	for (unsigned int i = 0; i < 5; i++) {
		daemon_stop(&d);
		daemon_start(&d);
		bench_add(&load, d.named_ms - d.born_ms);
	}
	bench_print(&load);
	print_memory(&d, "brumed-1000-restarted", 0);

	daemon_stop(&d);
	sd_bus_flush_close_unref(d.bus);
	private_bus_stop(&private);
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? 0 : 1;
}
