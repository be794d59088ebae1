/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From descriptors to a guest that can start
 *
 * Puts a kernel or firmware, its initramfs and its command line into guest RAM
 * and describes the machine to it, by PVH or by Linux's 32-bit boot protocol.
 * Kernel and firmware images may come from a tenant: every byte of them is
 * hostile, and a wrong one ends in a sentence.  Files are read with pread only,
 * straight into guest RAM; nothing is opened or mapped, so this runs inside the
 * sandbox and a file that shrinks meanwhile is an error, not a SIGBUS.
 *
 * A bzImage is normally unpacked here and its ELF entered by PVH.  Measured
 * with Debian's 6.1 cloud kernel (14 MiB, LZ4): 17 ms of host time instead of
 * 2 ms for copying it, and in the linux rig, where the processor is emulated,
 * about a second less from start to power-off of the guest (medians of 7 runs,
 * 8.8 and 10.1 s, each between 5 and 13 s because the machine was busy;
 * tests/bench/bench-unpack.c prints the host's part).
 * The host does the work once, natively and into RAM that needs no page tables
 * yet; the guest does it with nested page faults.
 *
 * What that costs: the decompressor is also what moves the kernel to a random
 * address (KASLR, and with it the random layout of its direct map), so a kernel
 * entered by PVH runs at its link address.  LOADER_BZIMAGE keeps both.
 *
 * Control thread, before any vCPU runs (also on every reset).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/arch/x86/boot.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;

enum loader_mode {
	LOADER_AUTO,    /* unpack a bzImage if its payload allows, else boot it as it is */
	LOADER_PVH,     /* PVH or an error */
	LOADER_BZIMAGE, /* a bzImage is booted as it is */
};

struct loader_params {
	const char *what;    /* "kernel" or "firmware": how errors call it */
	int kernel_fd;       /* borrowed, regular file or block device */
	int initramfs_fd;    /* borrowed; -EBADF = none */
	const char *cmdline; /* NULL = empty */
	const struct x86_memmap *memmap;
	uint64_t rsdp_gpa; /* 0 = none */
	enum loader_mode mode;
	/* RAM reads as zeros where nobody wrote: clearing a .bss by hand can be left out. */
	bool fresh_ram;
};

struct loader_result {
	struct x86_boot_entry entry;
	const char *format; /* static text for logs: "ELF", "bzImage, LZ4, unpacked" */
};

int loader_load(struct guest_mem *mem, const struct loader_params *params,
		struct loader_result *ret, struct err *err);
