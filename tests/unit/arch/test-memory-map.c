/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM entries and address windows for machines of all sizes
 */
#include <errno.h>
#include <glib.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

static void test_memmap(void)
{
	static const struct {
		uint64_t ram;
		struct x86_memmap want;
	} cases[] = {
		{ 512 * KIB, { { { 0, 512 * KIB, 1 }, { 0xe8000000, 256 * MIB, 2 } }, 2 } },
		{ 512 * MIB,
		  { { { 0, 0xa0000, 1 }, { MIB, 511 * MIB, 1 }, { 0xe8000000, 256 * MIB, 2 } },
		    3 } },
		{ 3 * GIB,
		  { { { 0, 0xa0000, 1 }, { MIB, 3071 * MIB, 1 }, { 0xe8000000, 256 * MIB, 2 } },
		    3 } },
		{ 3 * GIB + MIB,
		  { { { 0, 0xa0000, 1 },
		      { MIB, 3071 * MIB, 1 },
		      { 0xe8000000, 256 * MIB, 2 },
		      { 4 * GIB, MIB, 1 } },
		    4 } },
		{ 100 * GIB,
		  { { { 0, 0xa0000, 1 },
		      { MIB, 3071 * MIB, 1 },
		      { 0xe8000000, 256 * MIB, 2 },
		      { 4 * GIB, 97 * GIB, 1 } },
		    4 } },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct x86_memmap map;

		x86_memmap_init(&map, cases[i].ram);
		g_assert_cmpuint(map.n, ==, cases[i].want.n);
		for (size_t j = 0; j < map.n; j++) {
			g_assert_cmphex(map.entries[j].gpa, ==, cases[i].want.entries[j].gpa);
			g_assert_cmphex(map.entries[j].size, ==, cases[i].want.entries[j].size);
			g_assert_cmpint(map.entries[j].type, ==, cases[i].want.entries[j].type);
		}
	}
}

static void test_windows(void)
{
	static const struct {
		uint64_t ram;
		uint8_t bits;
		uint64_t mmio64_start;
	} cases[] = {
		{ 512 * MIB, 46, 4 * GIB },      { 3 * GIB, 46, 4 * GIB },
		{ 3 * GIB + MIB, 46, 8 * GIB },  { 7 * GIB, 39, 8 * GIB },
		{ 7 * GIB + MIB, 36, 12 * GIB }, { 1024 * GIB, 46, 1028 * GIB },
		{ 4 * GIB, 52, 8 * GIB },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct x86_windows w;
		uint64_t limit = 1ULL << cases[i].bits;

		g_assert_cmpint(x86_windows_init(&w, cases[i].ram, cases[i].bits, NULL), ==, 0);
		g_assert_cmphex(w.mmio32_start, ==, 0xc0000000);
		g_assert_cmphex(w.mmio32_size, ==, 640 * MIB);
		g_assert_cmphex(w.mmio64_start, ==, cases[i].mmio64_start);
		g_assert_cmphex(w.platform_start, ==, limit - 64 * KIB - MIB);
		g_assert_cmphex(w.mmio64_start + w.mmio64_size, <=, w.platform_start);
		g_assert_cmphex(w.mmio64_start + w.mmio64_size, >, w.platform_start - 2 * GIB);
		g_assert_cmphex(w.mmio64_size, >=, 3 * GIB);
	}
}

static void test_windows_bad(void)
{
	static const struct {
		uint64_t ram;
		uint8_t bits;
		const char *text;
	} cases[] = {
		{ GIB, 35, "/cpus/max_phys_bits: 35 address bits, not 36 to 52" },
		{ GIB, 53, "/cpus/max_phys_bits: 53 address bits, not 36 to 52" },
		{ 64 * GIB, 36,
		  "/memory/size: 65536 MiB and the devices do not fit into 36 physical "
		  "address bits" },
		{ 60 * GIB, 36,
		  "/memory/size: 61440 MiB and the devices do not fit into 36 physical "
		  "address bits" },
		{ UINT64_MAX - 4095, 46,
		  "/memory/size: 17592186044415 MiB and the devices do not fit into 46 physical "
		  "address bits" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };
		struct x86_windows w;

		g_assert_cmpint(x86_windows_init(&w, cases[i].ram, cases[i].bits, &err), <, 0);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_cmpint(err.fault, ==, FAULT_BAD_CONFIG);
	}
}

/* Shares follow the weights, in whole units, one right after the other. */
static void test_split(void)
{
	static const struct {
		const char *name;
		uint64_t size;
		uint32_t weights[4];
		size_t n;
		uint64_t sizes[4];
	} cases[] = {
		{ "one gets all, odd or not", 0x12345, { 1 }, 1, { 0x12345 } },
		{ "equal", 0x4000, { 1, 1, 1, 1 }, 4, { 0x1000, 0x1000, 0x1000, 0x1000 } },
		{ "weights", 0x8000, { 5, 2, 1 }, 3, { 0x5000, 0x2000, 0x1000 } },
		{ "large weights", 0x4000, { 65535, 65535 }, 2, { 0x2000, 0x2000 } },
		{ "the rest is the last one's", 0x3800, { 1, 1 }, 2, { 0x1000, 0x2800 } },
		{ "fewer units than shares", 0x2000, { 1, 1, 1 }, 3, { 0, 0x1000, 0x1000 } },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint64_t starts[4], sizes[4], at = 0x100000;

		g_test_message("%s", cases[i].name);
		x86_window_split(at, cases[i].size, 0x1000, cases[i].weights, cases[i].n, starts,
				 sizes);
		for (size_t k = 0; k < cases[i].n; k++) {
			g_assert_cmphex(starts[k], ==, at);
			g_assert_cmphex(sizes[k], ==, cases[i].sizes[k]);
			at += sizes[k];
		}
		g_assert_cmphex(at, ==, 0x100000 + cases[i].size);
	}
}

/* What devices show as memory comes right after RAM, before the window. */
static void test_take(void)
{
	struct x86_windows w;
	struct err err = { 0 };
	uint64_t gpa = 0, start, size;

	g_assert_cmpint(x86_windows_init(&w, 6 * GIB, 40, &err), ==, 0);
	start = w.mmio64_start;
	size = w.mmio64_size;
	g_assert_cmpint(x86_windows_take(&w, 3 * GIB, &gpa, &err), ==, 0);
	g_assert_cmphex(gpa, ==, start);
	g_assert_cmphex(w.mmio64_start, ==, start + 3 * GIB);
	g_assert_cmphex(w.mmio64_size, ==, size - 3 * GIB);
	g_assert_cmpint(x86_windows_take(&w, 1ULL << 40, &gpa, &err), ==, -E2BIG);
	g_assert_cmphex(w.mmio64_size, ==, size - 3 * GIB);
}

/* Room for RAM that comes is above 4 GiB and all RAM, on 128 MiB, and below the window. */
static void test_hotplug(void)
{
	static const struct {
		uint64_t ram, size, start, window;
	} cases[] = {
		{ 512 * MIB, 128 * MIB, 4 * GIB, 8 * GIB },
		{ 512 * MIB, 4 * GIB, 4 * GIB, 8 * GIB },
		{ 4 * GIB + MIB, 2 * GIB, 5 * GIB + 128 * MIB, 8 * GIB },
		{ 6 * GIB, 64 * GIB, 7 * GIB, 72 * GIB },
	};
	struct x86_windows w;
	struct err err = { 0 };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint64_t end;

		g_assert_cmpint(x86_windows_init(&w, cases[i].ram, 40, &err), ==, 0);
		end = w.mmio64_start + w.mmio64_size;
		g_assert_cmpint(x86_windows_add_hotplug(&w, cases[i].ram, 0, &err), ==, 0);
		g_assert_cmphex(w.hotplug_size, ==, 0);
		g_assert_cmpint(x86_windows_add_hotplug(&w, cases[i].ram, cases[i].size, &err), ==,
				0);
		g_assert_cmphex(w.hotplug_start, ==, cases[i].start);
		g_assert_cmphex(w.hotplug_size, ==, cases[i].size);
		g_assert_cmphex(w.mmio64_start, ==, cases[i].window);
		g_assert_cmphex(w.mmio64_start + w.mmio64_size, ==, end);
	}
	g_assert_cmpint(x86_windows_init(&w, 6 * GIB, 40, &err), ==, 0);
	g_assert_cmpint(x86_windows_add_hotplug(&w, 6 * GIB, 1ULL << 40, &err), ==, -E2BIG);
	g_assert_true(g_str_has_prefix(err.msg, "/memory/hotplug_size: "));
	err_clear(&err);
	g_assert_cmpint(x86_windows_add_hotplug(&w, 6 * GIB, UINT64_MAX - 128 * MIB + 1, &err), ==,
			-E2BIG);
}

/* What has grown is one more range of RAM, or makes the last one longer. */
static void test_memmap_grown(void)
{
	struct x86_memmap map;
	size_t n;

	x86_memmap_init(&map, 512 * MIB);
	n = map.n;
	x86_memmap_add_ram(&map, 4 * GIB, 256 * MIB);
	g_assert_cmpuint(map.n, ==, n + 1);
	g_assert_cmphex(map.entries[n].gpa, ==, 4 * GIB);
	g_assert_cmphex(map.entries[n].size, ==, 256 * MIB);
	x86_memmap_init(&map, 6 * GIB);
	n = map.n;
	x86_memmap_add_ram(&map, 7 * GIB, 256 * MIB);
	g_assert_cmpuint(map.n, ==, n);
	g_assert_cmphex(map.entries[n - 1].size, ==, 3 * GIB + 256 * MIB);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/arch/memory-map/memmap", test_memmap);
	g_test_add_func("/arch/memory-map/windows", test_windows);
	g_test_add_func("/arch/memory-map/windows-bad", test_windows_bad);
	g_test_add_func("/arch/memory-map/split", test_split);
	g_test_add_func("/arch/memory-map/take", test_take);
	g_test_add_func("/arch/memory-map/hotplug", test_hotplug);
	g_test_add_func("/arch/memory-map/memmap-grown", test_memmap_grown);
	return g_test_run();
}
