/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describing the machine by PVH (Xen docs/misc/pvh.pandoc).  Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct initramfs;
struct x86_memmap;

/* start_info at LAYOUT_PVH_START_INFO, with the memory map and, if any, the initramfs as module. */
int pvh_write_start_info(struct guest_mem *mem, const struct x86_memmap *memmap,
			 const struct initramfs *initramfs, uint64_t rsdp_gpa, struct err *err);
