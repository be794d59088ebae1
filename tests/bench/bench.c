/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/bench.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

unsigned int bench_runs(void)
{
	const char *text = getenv("BENCH_RUNS");
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	return n >= 1 && n <= BENCH_SAMPLES_MAX ? (unsigned int)n : 20;
}

void bench_add(struct bench_samples *s, double value)
{
	assert(s->n < BENCH_SAMPLES_MAX);
	s->values[s->n++] = value;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

double bench_median(struct bench_samples *s)
{
	if (s->n == 0)
		return 0;
	qsort(s->values, s->n, sizeof(s->values[0]), compare);
	return s->n % 2 ? s->values[s->n / 2] : (s->values[s->n / 2 - 1] + s->values[s->n / 2]) / 2;
}

static void print_head(const char *benchmark, const char *peer)
{
	printf("{\"benchmark\": \"%s\", \"peer\": \"%s\"", benchmark, peer);
}

static void print_goal(double goal)
{
	if (goal > 0)
		printf(", \"goal\": %g", goal);
	puts("}");
	fflush(stdout);
}

void bench_print(struct bench_samples *s)
{
	double median = bench_median(s);

	if (s->n == 0)
		return;
	print_head(s->benchmark, s->peer);
	printf(", \"unit\": \"%s\", \"median\": %.3f, \"min\": %.3f, \"p90\": %.3f, \"runs\": %zu",
	       s->unit, median, s->values[0], s->values[s->n * 9 / 10], s->n);
	print_goal(s->goal);
}

void bench_print_value(const char *benchmark, const char *peer, const char *unit, double value,
		       double goal)
{
	print_head(benchmark, peer);
	printf(", \"unit\": \"%s\", \"value\": %.3f", unit, value);
	print_goal(goal);
}

int bench_print_missing(const char *benchmark, const char *peer, const char *why)
{
	print_head(benchmark, peer);
	printf(", \"missing\": \"%s\"", why);
	print_goal(0);
	fprintf(stderr, "%s: nothing to say about %s: %s\n", benchmark, peer, why);
	return 1;
}

long bench_proc_kib(int pid, const char *file, const char *key)
{
	char path[64], line[256];
	size_t n = strlen(key);
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f))
		if (strncmp(line, key, n) == 0 && line[n] == ':')
			value = strtol(line + n + 1, NULL, 10);
	fclose(f);
	return value;
}
