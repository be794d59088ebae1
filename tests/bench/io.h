/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throughput, and what the host's processors spend on it
 *
 * A subject is a process that runs one of the tiny guest's bench scenarios.  It is
 * measured between two codes of the guest; processor time is that of all threads
 * but the vCPU's, which is the guest's own where KVM emulates instructions.
 */
#pragma once

#include <stdbool.h>

#include "tests/bench/bench.h"

struct peer;

struct io_subject {
	const char *peer;
	struct bench_samples speed, cpu;
};

/* name: of the case; cpu_name: of its second figure. Both stay the caller's. */
void io_subject_init(struct io_subject *s, const char *peer, const char *name,
		     const char *cpu_name);
/* From the guest's first request to its last of count; ends the process. */
void io_measure(struct io_subject *s, struct peer *p, unsigned int count);
/* The goals are set by the faster peer and by the thriftier one; NULL: none. */
void io_print(struct io_subject *s, struct io_subject *peer, struct io_subject *other);
/* $BENCH_CASES, separated by commas; without it all. */
bool io_wanted(const char *name);
/* At most five: each takes seconds. */
unsigned int io_runs(void);
