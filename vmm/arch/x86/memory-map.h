/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who lives where in guest-physical address space
 *
 * x86_windows are the address ranges that depend on the machine's size: the
 * PCI allocator places BARs in them, ACPI describes them, GED and the hotplug
 * controllers sit in the platform area.  x86_memmap is the list of ranges that
 * both boot protocols hand to the kernel (e820 types; PVH uses the same
 * numbers).  Pure functions of RAM size and address width; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;

/* gpa and bytes; size 0 = none */
struct x86_windows {
	uint64_t mmio32_start, mmio32_size;
	uint64_t mmio64_start, mmio64_size;   /* whole GiBs, starts on a 4 GiB boundary */
	uint64_t platform_start;              /* LAYOUT_PLATFORM_SIZE bytes */
	uint64_t hotplug_start, hotplug_size; /* where RAM may come; size 0 = nowhere */
};

/* What one PCI segment has of them; size 0 = none */
struct x86_segment_windows {
	uint64_t mmio32_start, mmio32_size, mmio64_start, mmio64_size;
};

enum x86_memmap_type {
	X86_MEMMAP_RAM = 1, /* ACPI 6.5, table 15.4 */
	X86_MEMMAP_RESERVED = 2,
};

struct x86_memmap_entry {
	uint64_t gpa, size;
	enum x86_memmap_type type;
};

#define X86_MEMMAP_MAX 8

struct x86_memmap {
	struct x86_memmap_entry entries[X86_MEMMAP_MAX]; /* ascending, disjoint */
	size_t n;
};

/* End (exclusive) of RAM below the 32-bit hole, and of all RAM. */
uint64_t x86_ram_low_end(uint64_t ram_size);
uint64_t x86_ram_end(uint64_t ram_size);

/*
 * Takes size bytes (whole GiBs) from the start of the 64-bit window, right above RAM, for
 * memory that devices show.  Before the window is shared out.
 */
int x86_windows_take(struct x86_windows *w, uint64_t size, uint64_t *ret_gpa, struct err *err);
/* Fails when the RAM and a minimum of device space do not fit into phys_bits. */
int x86_windows_init(struct x86_windows *w, uint64_t ram_size, uint8_t phys_bits, struct err *err);
/*
 * Sets room for size bytes of RAM that may come aside, right above what is there: from a
 * multiple of X86_HOTPLUG_ALIGN on, and above 4 GiB.  Before x86_windows_take().
 */
int x86_windows_add_hotplug(struct x86_windows *w, uint64_t ram_size, uint64_t size,
			    struct err *err);
#define X86_HOTPLUG_ALIGN (128ULL << 20)
/*
 * Shares a window of `size` bytes at `start` out by weight, in whole units and without
 * a gap; the last gets what is no whole unit.
 */
void x86_window_split(uint64_t start, uint64_t size, uint64_t unit, const uint32_t *weights,
		      size_t n, uint64_t *ret_starts, uint64_t *ret_sizes);
#define X86_MMIO32_UNIT 0x1000ULL
#define X86_MMIO64_UNIT 0x100000000ULL
void x86_memmap_init(struct x86_memmap *map, uint64_t ram_size);
/* More RAM, above all that is there. */
void x86_memmap_add_ram(struct x86_memmap *map, uint64_t gpa, uint64_t size);
