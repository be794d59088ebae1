/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describing the machine by Linux's boot_params, the "zero page"
 * (Documentation/arch/x86/zero-page.rst).  Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct bzimage;
struct err;
struct guest_mem;
struct initramfs;
struct x86_memmap;

int zero_page_write(struct guest_mem *mem, const struct bzimage *image,
		    const struct x86_memmap *memmap, const struct initramfs *initramfs,
		    uint64_t rsdp_gpa, struct err *err);
