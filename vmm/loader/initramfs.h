/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placing the initramfs: as high as it goes in low RAM, page-aligned, out of
 * the way of whatever the kernel unpacks above itself.  Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct x86_memmap;

struct initramfs {
	uint64_t gpa, size; /* bytes; size 0 = none */
};

/*
 * fd -EBADF: none.  kernel_end: first address the kernel leaves free; limit:
 * first address the kernel cannot use for it.
 */
int initramfs_load(int fd, struct guest_mem *mem, const struct x86_memmap *memmap,
		   uint64_t kernel_end, uint64_t limit, struct initramfs *ret, struct err *err);
