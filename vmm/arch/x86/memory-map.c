/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/arch/x86/memory-map.h"

#include <assert.h>
#include <errno.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

/* BARs bigger than this need a wider address space; every VM gets at least as much. */
#define MMIO64_MIN    (4 * GIB)
#define MMIO64_UNIT   (4 * GIB)
#define PHYS_BITS_MIN 36 /* what the first long-mode processors had */
#define PHYS_BITS_MAX 52 /* SDM 3A, 4.1.4 */

uint64_t x86_ram_low_end(uint64_t ram_size)
{
	return MIN(ram_size, LAYOUT_HOLE_START);
}

uint64_t x86_ram_end(uint64_t ram_size)
{
	return ram_size <= LAYOUT_HOLE_START ? ram_size
					     : ram_size - LAYOUT_HOLE_START + LAYOUT_HOLE_END;
}

int x86_windows_init(struct x86_windows *w, uint64_t ram_size, uint8_t phys_bits, struct err *err)
{
	uint64_t limit, platform, start, end;

	if (phys_bits < PHYS_BITS_MIN || phys_bits > PHYS_BITS_MAX)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/cpus/max_phys_bits: %u address bits, not %u to %u", phys_bits,
				 PHYS_BITS_MIN, PHYS_BITS_MAX);
	limit = 1ULL << phys_bits;
	platform = limit - LAYOUT_PLATFORM_GAP - LAYOUT_PLATFORM_SIZE;
	end = align_down(platform, GIB);
	if (ram_size > limit)
		start = UINT64_MAX;
	else
		start = align_up(MAX(x86_ram_end(ram_size), LAYOUT_HOLE_END), MMIO64_UNIT);
	if (start > end || end - start < MMIO64_MIN - GIB)
		return err_fault(err, FAULT_BAD_CONFIG, E2BIG,
				 "/memory/size: %llu MiB and the devices do not fit into %u "
				 "physical address bits",
				 (unsigned long long)(ram_size / MIB), phys_bits);
	*w = (struct x86_windows){
		.mmio32_start = LAYOUT_MMIO32_START,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.mmio64_start = start,
		.mmio64_size = end - start,
		.platform_start = platform,
	};
	return 0;
}

int x86_windows_add_hotplug(struct x86_windows *w, uint64_t ram_size, uint64_t size,
			    struct err *err)
{
	uint64_t end = w->mmio64_start + w->mmio64_size;
	uint64_t from = align_up(MAX(x86_ram_end(ram_size), LAYOUT_HOLE_END), X86_HOTPLUG_ALIGN);
	uint64_t start;

	if (!size)
		return 0;
	start = size < end ? align_up(from + size, MMIO64_UNIT) : end;
	if (start >= end || end - start < MMIO64_MIN - GIB)
		return err_fault(err, FAULT_BAD_CONFIG, E2BIG,
				 "/memory/hotplug_size: %llu MiB more of memory and the devices do "
				 "not fit into the physical address bits (see /cpus/max_phys_bits)",
				 (unsigned long long)(size / MIB));
	w->hotplug_start = from;
	w->hotplug_size = size;
	w->mmio64_start = start;
	w->mmio64_size = end - start;
	return 0;
}

int x86_windows_take(struct x86_windows *w, uint64_t size, uint64_t *ret_gpa, struct err *err)
{
	if (size % GIB || size > w->mmio64_size || w->mmio64_size - size < MMIO64_MIN - GIB)
		return err_fault(err, FAULT_BAD_CONFIG, E2BIG,
				 "%llu MiB of device memory do not fit into the physical address "
				 "bits (see /cpus/max_phys_bits)",
				 (unsigned long long)(size / MIB));
	*ret_gpa = w->mmio64_start;
	w->mmio64_start += size;
	w->mmio64_size -= size;
	return 0;
}

void x86_window_split(uint64_t start, uint64_t size, uint64_t unit, const uint32_t *weights,
		      size_t n, uint64_t *ret_starts, uint64_t *ret_sizes)
{
	uint64_t units = size / unit, total = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		total += weights[i];
	/* Fewer than 2^20 units and 2^24 weights: no product is too large. */
	for (size_t i = 0; i < n; i++) {
		uint64_t from = units * sum / total * unit, to;

		sum += weights[i];
		to = i + 1 < n ? units * sum / total * unit : size;
		ret_starts[i] = start + from;
		ret_sizes[i] = to - from;
	}
}

static void memmap_add(struct x86_memmap *map, uint64_t gpa, uint64_t end,
		       enum x86_memmap_type type)
{
	if (gpa >= end)
		return;
	assert(map->n < X86_MEMMAP_MAX);
	map->entries[map->n++] = (struct x86_memmap_entry){ gpa, end - gpa, type };
}

void x86_memmap_init(struct x86_memmap *map, uint64_t ram_size)
{
	*map = (struct x86_memmap){ 0 };
	/* From 640 KiB to 1 MiB is RAM too, but ACPI and SMBIOS tables live there. */
	memmap_add(map, 0, MIN(x86_ram_low_end(ram_size), LAYOUT_EBDA_START), X86_MEMMAP_RAM);
	memmap_add(map, LAYOUT_HIGH_RAM, x86_ram_low_end(ram_size), X86_MEMMAP_RAM);
	/* Linux uses ECAM only when the firmware's map reserves it (PCI FW spec 3.2, 4.1.2). */
	memmap_add(map, LAYOUT_ECAM_START, LAYOUT_ECAM_START + LAYOUT_ECAM_SIZE,
		   X86_MEMMAP_RESERVED);
	memmap_add(map, LAYOUT_HOLE_END, x86_ram_end(ram_size), X86_MEMMAP_RAM);
}

void x86_memmap_add_ram(struct x86_memmap *map, uint64_t gpa, uint64_t size)
{
	struct x86_memmap_entry *last = &map->entries[map->n - 1];

	/* One range, where it is one: boot loaders and old kernels have few places for them. */
	if (last->type == X86_MEMMAP_RAM && last->gpa + last->size == gpa)
		last->size += size;
	else
		memmap_add(map, gpa, gpa + size, X86_MEMMAP_RAM);
}
