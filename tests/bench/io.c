/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/io.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/peer.h"

#define TIMEOUT_MS 60000
#define CODE_BEGIN 0x42
#define CODE_END   0x43

/* What of the peer's a figure may be: no fewer requests, a fifth less processor time. */
#define GOAL_SPEED 1.0
#define GOAL_CPU   0.8

void io_subject_init(struct io_subject *s, const char *peer, const char *name, const char *cpu_name)
{
	s->peer = s->speed.peer = s->cpu.peer = peer;
	s->speed.benchmark = name;
	s->speed.unit = "requests/s";
	s->cpu.benchmark = cpu_name;
	s->cpu.unit = "s/million";
	s->speed.goal = s->cpu.goal = 0;
	s->speed.n = s->cpu.n = 0;
}

unsigned int io_runs(void)
{
	return MIN(bench_runs(), 5U);
}

/* "vcpu0" is ours, "CPU 0/KVM" QEMU's. */
static bool is_vcpu(const char *path, const char *tid)
{
	g_autofree char *file = g_strdup_printf("%s/%s/comm", path, tid);
	g_autofree char *text = NULL;

	return g_file_get_contents(file, &text, NULL, NULL) &&
	       (g_str_has_prefix(text, "vcpu") || g_str_has_prefix(text, "CPU "));
}

/* In seconds, without vCPUs: the threads of the data path live as long as the guest runs. */
static double cpu_seconds(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
	GDir *dir = g_dir_open(path, 0, NULL);
	double sum = 0;
	const char *tid;

	while (dir && (tid = g_dir_read_name(dir))) {
		g_autofree char *file = g_strdup_printf("%s/%s/schedstat", path, tid);
		g_autofree char *text = NULL;

		if (!is_vcpu(path, tid) && g_file_get_contents(file, &text, NULL, NULL))
			sum += g_ascii_strtod(text, NULL) / 1e9;
	}
	if (dir)
		g_dir_close(dir);
	return sum;
}

void io_measure(struct io_subject *s, struct peer *p, unsigned int count)
{
	double cpu, start;
	int r = peer_wait_code(p, CODE_BEGIN, TIMEOUT_MS);

	cpu = cpu_seconds(p->pid);
	start = p->seen_ms;
	if (r == 0)
		r = peer_wait_code(p, CODE_END, TIMEOUT_MS);
	if (r < 0)
		g_error("%s, %s: %s", s->peer, s->speed.benchmark, g_strerror(-r));
	bench_add(&s->speed, count / ((p->seen_ms - start) / 1e3));
	bench_add(&s->cpu, (cpu_seconds(p->pid) - cpu) / count * 1e6);
	peer_end(p);
}

void io_print(struct io_subject *s, struct io_subject *peer, struct io_subject *other)
{
	if (peer && peer->speed.n > 0) {
		s->speed.goal =
			GOAL_SPEED * MAX(bench_median(&peer->speed), bench_median(&other->speed));
		s->cpu.goal = GOAL_CPU * MIN(bench_median(&peer->cpu), bench_median(&other->cpu));
	}
	bench_print(&s->speed);
	bench_print(&s->cpu);
}

bool io_wanted(const char *name)
{
	const char *list = g_getenv("BENCH_CASES");
	g_auto(GStrv) names = list ? g_strsplit(list, ",", 0) : NULL;

	return !names || g_strv_contains((const char *const *)names, name);
}
