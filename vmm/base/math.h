/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic that cannot go wrong silently: everything on sizes and addresses
 * that come from a guest, a file or a configuration goes through here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

/* GLib has its own, which evaluate their arguments twice. */
#undef MIN
#undef MAX
#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a_ = (a);                                                        \
		__typeof__(b) min_b_ = (b);                                                        \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a_ = (a);                                                        \
		__typeof__(b) max_b_ = (b);                                                        \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

/* [base, base + len) inside [0, limit), without overflow; len 0 is inside. */
static inline bool range_fits(uint64_t base, uint64_t len, uint64_t limit)
{
	return base <= limit && len <= limit - base;
}

static inline bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a_len && b_len && a < b + b_len && b < a + a_len;
}

static inline bool is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* align: a power of two */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* Saturates to UINT64_MAX instead of wrapping. */
static inline uint64_t align_up(uint64_t v, uint64_t align)
{
	uint64_t sum;

	if (__builtin_add_overflow(v, align - 1, &sum))
		return UINT64_MAX;
	return align_down(sum, align);
}
