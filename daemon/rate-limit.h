/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bucket of tokens: burst at once, then one an interval
 *
 * For what a guest or its worker can cause without end.  What is refused is
 * counted, so that whoever hears the next thing knows that some are missing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate_limit {
	unsigned int burst;
	uint64_t interval_usec;
	/* Begin as zero. */
	unsigned int used; /* tokens that are not back yet */
	uint64_t since;    /* when the last of them came back */
	uint32_t dropped;
};

/* now: any clock that only goes forward. true: pass; *ret_dropped were refused before it. */
bool rate_limit_pass(struct rate_limit *limit, uint64_t now_usec, uint32_t *ret_dropped);
