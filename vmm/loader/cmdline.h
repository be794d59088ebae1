/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel command line in guest memory.  Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;

/* NULL = empty.  max: longest text the kernel takes, without the terminating zero. */
int cmdline_write(struct guest_mem *mem, const char *cmdline, uint64_t max, struct err *err);
