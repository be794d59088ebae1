/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Benchmarks: clocks, samples and results as JSON lines
 *
 * Peers are run in turns, so that what else the machine does hits all of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define BENCH_SAMPLES_MAX 1000

struct bench_samples {
	const char *benchmark, *peer, *unit;
	double goal; /* 0 = none: a peer, or a floor */
	size_t n;
	double values[BENCH_SAMPLES_MAX];
};

/* CLOCK_MONOTONIC in milliseconds. */
double bench_now_ms(void);
/* $BENCH_RUNS, else 20. */
unsigned int bench_runs(void);

void bench_add(struct bench_samples *s, double value);
double bench_median(struct bench_samples *s);
/*
 * {"benchmark": ..., "peer": ..., "unit": ..., "median": ..., "min": ..., "p90": ..., "runs": ...}
 */
void bench_print(struct bench_samples *s);
/* A figure that is not sampled. */
void bench_print_value(const char *benchmark, const char *peer, const char *unit, double value,
		       double goal);
/*
 * Why a peer or a figure is missing, as a line and on stderr.  Returns the exit
 * status: half a comparison must not pass for a whole one.
 */
int bench_print_missing(const char *benchmark, const char *peer, const char *why);

/* One key of a /proc file in KiB ("Rss" of smaps_rollup), or -1. */
long bench_proc_kib(int pid, const char *file, const char *key);
