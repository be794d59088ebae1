/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xorshift64*: the same seed makes the same attack
 */
#pragma once

#include <stdint.h>

struct random {
	uint64_t state;
};

static inline uint32_t random_next(struct random *r)
{
	r->state ^= r->state >> 12;
	r->state ^= r->state << 25;
	r->state ^= r->state >> 27;
	return (uint32_t)((r->state * 0x2545f4914f6cdd1dULL) >> 32);
}

/* 0 to @n - 1 */
static inline uint32_t random_below(struct random *r, uint32_t n)
{
	return (uint32_t)(((uint64_t)random_next(r) * n) >> 32);
}

static inline struct random random_seed(uint64_t seed)
{
	return (struct random){ seed * 0x9e3779b97f4a7c15ULL | 1 };
}
