/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be asked of the size of a machine, and what becomes of its definition
 *
 * Main loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct machine;
struct resize_wish;

/* vCPUs, or bytes of all of the memory, with a zone as it is wished. */
uint64_t resize_wish_total(const struct machine *vm, const struct resize_wish *wish);
/* live: it is to be had while the machine runs. */
int resize_wish_check(const struct machine *vm, const struct resize_wish *wish, bool live,
		      struct err *err);
/* The definition with another number; checked as a whole. */
int resize_wish_define(struct machine *vm, const struct resize_wish *wish, struct err *err);
