/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long until the guest's first instruction
 *
 * From before the fork to when the guest's first port write (0x40 to port 0x80)
 * is known outside of the process, 128 MiB and one vCPU: the worker, QEMU's
 * microvm, and KVM alone as the floor, in turns.  Of the worker also what comes
 * before its main() (bench-start-exec: "brume-vmm --version").
 */
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#define GOAL_MS    5.0
#define TIMEOUT_MS 20000
#define CMDLINE    "test=hlt-forever"

static void take(struct bench_samples *s, struct peer *p)
{
	int r = peer_wait_code(p, PEER_CODE_FIRST, TIMEOUT_MS);

	if (r < 0)
		g_error("%s: %s", s->peer, g_strerror(-r));
	bench_add(s, p->seen_ms - p->born_ms);
	peer_end(p);
}

/* Exec, dynamic linking and exit. */
static void take_exec(struct bench_samples *s)
{
	double born = bench_now_ms();
	pid_t pid = fork();

	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
		execl(g_getenv("BRUME_VMM"), "brume-vmm", "--version", NULL);
		_exit(127);
	}
	g_assert_cmpint(pid, >, 0);
	waitpid(pid, NULL, 0);
	bench_add(s, bench_now_ms() - born);
}

int main(void)
{
	static struct bench_samples ours = { "start", "brume", "ms", GOAL_MS, 0, { 0 } };
	static struct bench_samples exec = { "start-exec", "brume", "ms", 0, 0, { 0 } };
	static struct bench_samples qemu = { "start", "qemu-microvm", "ms", 0, 0, { 0 } };
	static struct bench_samples floor = { "start", "kvm-floor", "ms", 0, 0, { 0 } };
	const char *const qemu_argv[] = {
		PEER_QEMU_ARGV(PEER_QEMU_MACHINE, g_getenv("BRUME_TINY"), CMDLINE), NULL
	};
	const char *const floor_argv[] = { g_getenv("BENCH_KVM_FLOOR"), NULL };
	const char *missing = peer_qemu_missing();
	struct peer p;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return bench_print_missing("start", "brume", "no access to /dev/kvm");
	for (unsigned int i = 0; i < bench_runs(); i++) {
		peer_start(&p, floor_argv);
		take(&floor, &p);
		peer_start_brume(&p, CMDLINE, "@a{sv} {}", NULL);
		take(&ours, &p);
		take_exec(&exec);
		if (!missing) {
			peer_start(&p, qemu_argv);
			take(&qemu, &p);
		}
	}
	bench_print(&floor);
	bench_print(&exec);
	bench_print(&ours);
	bench_print(&qemu);
	return missing ? bench_print_missing("start", "qemu-microvm", missing) : 0;
}
