/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where L2 tables may be: a set that has no false negatives (a Bloom filter)
 *
 * Before a cluster is given away it is made sure that no L1 entry points at it.  A disk of
 * 1 TiB in clusters of 4 KiB has half a million of those, so they are asked only when this
 * set does not already say no.  An entry changes its place once at most, when a table that
 * may be shared is copied; the old place stays in the set and does no harm.
 */
#include <stdlib.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

#define BITS_A_PLACE 32U /* of which an entry can have two: one no in some hundred is missed */
#define HASHES       4U

struct qcow2_places {
	uint64_t n_bits; /* power of two */
	uint64_t *bits;
};

struct qcow2_places *qcow2_places_new(uint64_t n)
{
	struct qcow2_places *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	for (p->n_bits = 4096; p->n_bits < n * BITS_A_PLACE;)
		p->n_bits *= 2;
	p->bits = qcow2_pages_new(p->n_bits / 8);
	if (p->bits)
		return p;
	free(p);
	return NULL;
}

void qcow2_places_free(struct qcow2_places *p)
{
	if (!p)
		return;
	qcow2_pages_free(p->bits, p->n_bits / 8);
	free(p);
}

/* The bits of off one after the other: an odd step through a table of a power of two. */
static uint64_t first_bit(uint64_t off, uint64_t *ret_step)
{
	uint64_t h = off * 0x9e3779b97f4a7c15U;

	h ^= h >> 29;
	*ret_step = (h * 0xbf58476d1ce4e5b9U) >> 16 | 1;
	return h;
}

void qcow2_places_add(struct qcow2_places *p, uint64_t off)
{
	uint64_t step, bit = first_bit(off, &step);

	for (unsigned int i = 0; i < HASHES; i++, bit += step) {
		uint64_t at = bit & (p->n_bits - 1);

		p->bits[at / 64] |= 1ULL << at % 64;
	}
}

bool qcow2_places_may_have(const struct qcow2_places *p, uint64_t off)
{
	uint64_t step, bit = first_bit(off, &step);

	for (unsigned int i = 0; i < HASHES; i++, bit += step) {
		uint64_t at = bit & (p->n_bits - 1);

		if (!(p->bits[at / 64] >> at % 64 & 1))
			return false;
	}
	return true;
}
