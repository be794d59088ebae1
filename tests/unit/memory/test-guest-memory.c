/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/guest-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

/* A small machine with a hole: RAM at 0 to 64 KiB and 1 MiB to 1 MiB + 64 KiB. */
#define HALF     0x10000ULL
#define HOLE_END 0x100000ULL

static const struct guest_mem_params small = {
	.size = 2 * HALF, .hole_start = HALF, .hole_end = HOLE_END, .thp = true
};

static uint64_t size_of(const struct guest_mem *mem)
{
	uint64_t size = 0;

	for (uint32_t i = 0; i < mem->n_regions; i++)
		size += mem->regions[i].size;
	return size;
}

static void test_layout(void)
{
	static const struct {
		const char *name;
		uint64_t size, hole_start, hole_end;
		const char *log;
	} cases[] = {
		{ "below the hole", HALF / 2, HALF, HOLE_END,
		  "memory slot=0 gpa=0x0 size=0x8000\n" },
		{ "up to the hole", HALF, HALF, HOLE_END, "memory slot=0 gpa=0x0 size=0x10000\n" },
		{ "around the hole", 2 * HALF, HALF, HOLE_END,
		  "memory slot=0 gpa=0x0 size=0x10000\n"
		  "memory slot=1 gpa=0x100000 size=0x10000\n" },
		{ "no hole", 2 * HALF, 0, 0, "memory slot=0 gpa=0x0 size=0x20000\n" },
		{ "PC, 4 GiB", 4 * GIB, 3 * GIB, 4 * GIB,
		  "memory slot=0 gpa=0x0 size=0xc0000000\n"
		  "memory slot=1 gpa=0x100000000 size=0x40000000\n" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
		struct guest_mem_params p = { .size = cases[i].size,
					      .hole_start = cases[i].hole_start,
					      .hole_end = cases[i].hole_end };
		struct guest_mem mem;
		struct err err = { 0 };

		g_test_message("%s", cases[i].name);
		g_assert_cmpint(guest_mem_init(&mem, fake_hv_vm(fake), &p, &err), ==, 0);
		g_assert_cmpstr(fake_hv_log(fake), ==, cases[i].log);
		g_assert_cmpuint(size_of(&mem), ==, cases[i].size);
		guest_mem_deinit(&mem);
		g_assert_cmpuint(size_of(&mem), ==, 0);
		g_assert_nonnull(strstr(fake_hv_log(fake), "size=0x0\n"));
	}
}

static void test_access(void)
{
	static const struct {
		uint64_t gpa, len;
		int r;
	} cases[] = {
		{ 0, 0, 0 },
		{ 0, 1, 0 },
		{ 0, HALF, 0 },
		{ 0, HALF + 1, -EFAULT },
		{ HALF - 1, 1, 0 },
		{ HALF - 1, 2, -EFAULT },
		{ HALF, 1, -EFAULT },
		{ HOLE_END - 1, 2, -EFAULT },
		{ HOLE_END, HALF, 0 },
		{ HOLE_END + HALF - 1, 1, 0 },
		{ HOLE_END + HALF - 1, 2, -EFAULT },
		{ HOLE_END + HALF, 1, -EFAULT },
		{ UINT64_MAX, 1, -EFAULT },
		{ UINT64_MAX, SIZE_MAX, -EFAULT },
		{ HOLE_END, SIZE_MAX, -EFAULT },
		{ 1, SIZE_MAX, -EFAULT },
	};
	g_autofree uint8_t *buf = g_malloc0(2 * HALF);
	struct guest_mem mem;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &small, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct iovec iov[2];
		size_t n = 0;

		g_test_message("0x%" G_GINT64_MODIFIER "x + 0x%" G_GINT64_MODIFIER "x",
			       cases[i].gpa, cases[i].len);
		if (cases[i].len <= 2 * HALF) {
			g_assert_cmpint(guest_read(&mem, cases[i].gpa, buf, cases[i].len), ==,
					cases[i].r);
			g_assert_cmpint(guest_write(&mem, cases[i].gpa, buf, cases[i].len), ==,
					cases[i].r);
		}
		g_assert_cmpint(guest_fill(&mem, cases[i].gpa, 0, cases[i].len), ==, cases[i].r);
		g_assert_cmpint(guest_iov(&mem, cases[i].gpa, cases[i].len, iov, 2, &n), ==,
				cases[i].r);
		g_assert_cmpuint(n, ==, cases[i].r == 0 && cases[i].len ? 1 : 0);
		g_assert_true((guest_range(&mem, cases[i].gpa, cases[i].len, 1) != NULL) ==
			      (cases[i].r == 0));
	}
	guest_mem_deinit(&mem);
}

static void test_nothing_copied_on_failure(void)
{
	struct guest_mem mem;
	uint8_t buf[4] = { 1, 2, 3, 4 };

	g_assert_cmpint(guest_mem_init(&mem, NULL, &small, NULL), ==, 0);
	g_assert_cmpint(guest_write(&mem, HALF - 2, buf, 4), ==, -EFAULT);
	g_assert_cmpint(guest_read(&mem, HALF - 2, buf, 4), ==, -EFAULT);
	g_assert_cmpmem(buf, 4, "\1\2\3\4", 4);
	g_assert_cmpint(guest_read(&mem, HALF - 2, buf, 2), ==, 0);
	g_assert_cmpmem(buf, 4, "\0\0\3\4", 4);
	guest_mem_deinit(&mem);
}

/* Two regions that touch are one piece of RAM, in two iovecs. */
static void test_regions_that_touch(void)
{
	struct guest_mem_params p = { .size = 2 * HALF,
				      .hole_start = HALF,
				      .hole_end = HALF + 4096 };
	struct guest_mem mem;
	struct iovec iov[3];
	uint8_t buf[16] = "0123456789abcde", back[16] = "";
	size_t n = 1;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &p, NULL), ==, 0);
	mem.regions[1].gpa = HALF;
	g_assert_cmpint(guest_write(&mem, HALF - 8, buf, 16), ==, 0);
	g_assert_cmpint(guest_read(&mem, HALF - 8, back, 16), ==, 0);
	g_assert_cmpmem(buf, 16, back, 16);
	g_assert_cmpmem(mem.regions[1].hva, 8, buf + 8, 8);
	g_assert_cmpint(guest_iov(&mem, HALF - 8, 16, iov, 3, &n), ==, 0);
	g_assert_cmpuint(n, ==, 3);
	g_assert_true(iov[1].iov_base == mem.regions[0].hva + HALF - 8);
	g_assert_cmpuint(iov[1].iov_len, ==, 8);
	g_assert_true(iov[2].iov_base == mem.regions[1].hva);
	n = 2;
	g_assert_cmpint(guest_iov(&mem, HALF - 8, 16, iov, 3, &n), ==, -ENOBUFS);
	g_assert_cmpuint(n, ==, 2);
	/* Too little room, and outside RAM: the latter is the guest's mistake. */
	g_assert_cmpint(guest_iov(&mem, HALF - 8, 2 * HALF, iov, 3, &n), ==, -EFAULT);
	g_assert_null(guest_range(&mem, HALF - 8, 16, 1));
	g_assert_cmpint(guest_fill(&mem, HALF - 1, 0xee, 2), ==, 0);
	g_assert_cmpuint(mem.regions[1].hva[0], ==, 0xee);
	guest_mem_deinit(&mem);
}

static void test_range_alignment(void)
{
	struct guest_mem mem;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &small, NULL), ==, 0);
	g_assert_nonnull(guest_range(&mem, 0x1010, 16, 16));
	g_assert_null(guest_range(&mem, 0x1008, 16, 16));
	g_assert_true((uint8_t *)guest_range(&mem, HOLE_END + 2, 2, 2) == mem.regions[1].hva + 2);
	guest_mem_deinit(&mem);
}

static void test_thp_alignment(void)
{
	struct guest_mem_params p = {
		.size = 16 * MIB, .hole_start = 8 * MIB, .hole_end = 64 * MIB, .thp = true
	};
	struct guest_mem mem;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &p, NULL), ==, 0);
	for (unsigned int i = 0; i < 2; i++)
		g_assert_cmpuint((uintptr_t)mem.regions[i].hva % (2 * MIB), ==, 0);
	guest_mem_deinit(&mem);
}

static void test_shared(void)
{
	struct guest_mem_params p = small;
	struct guest_mem mem;
	struct stat st;
	uint8_t v = 0x5a, *other;

	p.shared = true;
	p.reserve = true;
	g_assert_cmpint(guest_mem_init(&mem, NULL, &p, NULL), ==, 0);
	for (unsigned int i = 0; i < 2; i++) {
		g_assert_cmpint(mem.regions[i].fd, >=, 0);
		g_assert_cmpint(fstat(mem.regions[i].fd, &st), ==, 0);
		g_assert_cmpint(st.st_size, ==, HALF);
		g_assert_cmpint(st.st_blocks * 512, ==, HALF); /* reserve: set aside */
	}
	/* Somebody else who has the descriptor sees the same memory. */
	other = mmap(NULL, HALF, PROT_READ, MAP_SHARED, mem.regions[1].fd, 0);
	g_assert_cmpint(guest_write(&mem, HOLE_END + 5, &v, 1), ==, 0);
	g_assert_cmphex(other[5], ==, 0x5a);
	munmap(other, HALF);
	guest_mem_deinit(&mem);
}

static void assert_resident(const void *p, size_t len)
{
	g_autofree unsigned char *vec = g_malloc(len / 4096);

	g_assert_cmpint(mincore((void *)(uintptr_t)p, len, vec), ==, 0);
	for (size_t i = 0; i < len / 4096; i++)
		g_assert_cmpuint(vec[i] & 1, ==, 1);
}

static void test_prefault(void)
{
	struct guest_mem_params p = { .size = 160 * MIB, .prefault = true };
	struct guest_mem mem;
	struct err err = { 0 };
	int r = guest_mem_init(&mem, NULL, &p, &err);

	if (r == -EINVAL) {
		g_test_skip("the kernel has no MADV_POPULATE_WRITE");
		return;
	}
	g_assert_cmpint(r, ==, 0);
	assert_resident(mem.regions[0].hva, p.size);
	guest_mem_deinit(&mem);
}

static void test_clear(void)
{
	static const struct {
		const char *name;
		bool shared, reserve;
	} cases[] = { { "anonymous" },
		      { "shared", .shared = true },
		      { "shared and reserved", .shared = true, .reserve = true } };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct guest_mem_params p = small;
		struct guest_mem mem;
		struct stat st;

		g_test_message("%s", cases[i].name);
		p.shared = cases[i].shared;
		p.reserve = cases[i].reserve;
		g_assert_cmpint(guest_mem_init(&mem, NULL, &p, NULL), ==, 0);
		g_assert_cmpint(guest_fill(&mem, HOLE_END, 0xaa, HALF), ==, 0);
		g_assert_cmpint(guest_mem_clear(&mem, NULL, NULL, NULL), ==, 0);
		for (size_t k = 0; k < HALF; k++)
			g_assert_cmphex(mem.regions[1].hva[k], ==, 0);
		if (p.reserve) { /* what was set aside still is */
			g_assert_cmpint(fstat(mem.regions[1].fd, &st), ==, 0);
			g_assert_cmpint(st.st_blocks * 512, ==, HALF);
		}
		guest_mem_deinit(&mem);
	}
}

static void count(void *data)
{
	(*(unsigned int *)data)++;
}

/* Who waits for a large machine hears of it; slices leave nothing out. */
static void test_clear_in_slices(void)
{
	const struct guest_mem_params p = { .size = 5 * GIB / 2 + 4096,
					    .hole_start = 2 * GIB,
					    .hole_end = 4 * GIB };
	const uint64_t at[] = { 0, GIB - 1, GIB, 2 * GIB - 1, 4 * GIB, 9 * GIB / 2 + 4095 };
	unsigned int progress = 0;
	struct guest_mem mem;

	g_assert_cmpint(guest_mem_init(&mem, NULL, &p, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(at); i++)
		g_assert_cmpint(guest_fill(&mem, at[i], 0xaa, 1), ==, 0);
	g_assert_cmpint(guest_mem_clear(&mem, count, &progress, NULL), ==, 0);
	g_assert_cmpuint(progress, ==, 3); /* two of the lower region, one of the upper */
	for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
		uint8_t byte = 0xff;

		g_assert_cmpint(guest_read(&mem, at[i], &byte, 1), ==, 0);
		g_assert_cmphex(byte, ==, 0);
	}
	guest_mem_deinit(&mem);
}

static void test_mergeable(void)
{
	struct guest_mem_params p = small;
	struct guest_mem mem;
	struct err err = { 0 };
	int r;

	p.mergeable = true;
	r = guest_mem_init(&mem, NULL, &p, &err);
	if (r < 0) {
		g_assert_cmpint(err.fault, ==, FAULT_UNSUPPORTED);
		g_test_skip("the kernel has no KSM");
		return;
	}
	guest_mem_deinit(&mem);
}

/* Works if the host has hugepages set aside, else says what is missing. */
static void test_hugepages(void)
{
	struct guest_mem_params p = { .size = 8 * GIB,
				      .hugepages = true,
				      .hugepage_size = 2 * MIB };
	struct guest_mem mem;
	struct err err = { 0 };
	int r = guest_mem_init(&mem, NULL, &p, &err);

	if (r == 0) {
		guest_mem_deinit(&mem);
		return;
	}
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
	g_assert_nonnull(strstr(err.msg, "2048 KiB"));
	g_assert_null(mem.regions[0].hva);
}

static void test_bad_params(void)
{
	static const struct {
		const char *name;
		struct guest_mem_params p;
		const char *text;
	} cases[] = {
		{ "empty",
		  { .size = 0 },
		  "/memory/size: 0 is not a multiple of 4096 bytes above 0" },
		{ "odd",
		  { .size = 4097 },
		  "/memory/size: 4097 is not a multiple of 4096 bytes above 0" },
		{ "mergeable and shared",
		  { .size = 4096, .mergeable = true, .shared = true },
		  "/memory/mergeable: cannot be combined with shared or hugepages" },
		{ "page size without hugepages",
		  { .size = 4096, .hugepage_size = 2 * MIB },
		  "/memory/hugepage_size: needs hugepages=on" },
		{ "no power of two",
		  { .size = 4096, .hugepages = true, .hugepage_size = 3 * MIB },
		  "/memory/hugepage_size: 3145728 is not a power of two" },
		{ "too much",
		  { .size = 1ULL << 63, .hole_start = 4096, .hole_end = 8192 },
		  "guest RAM of 8796093022208 MiB does not fit around its hole" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct guest_mem mem;
		struct err err = { 0 };

		g_test_message("%s", cases[i].name);
		g_assert_cmpint(guest_mem_init(&mem, NULL, &cases[i].p, &err), ==, -EINVAL);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_cmpuint(size_of(&mem), ==, 0);
	}
}

static void test_more_than_address_space(void)
{
	struct guest_mem_params p = { .size = 1ULL << 60 };
	struct guest_mem mem;
	struct err err = { 0 };

	g_assert_cmpint(guest_mem_init(&mem, NULL, &p, &err), ==, -ENOMEM);
	g_assert_cmpstr(err.msg, ==,
			"cannot map 1099511627776 MiB of guest memory: Cannot allocate memory");
	g_assert_cmpint(err.fault, ==, FAULT_HOST_RESOURCE);
}

static void test_second_slot_refused(void)
{
	_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
	struct guest_mem mem;
	struct err err = { 0 };

	fake_hv_fail(fake, "memory", 2, EINVAL);
	g_assert_cmpint(guest_mem_init(&mem, fake_hv_vm(fake), &small, &err), ==, -EINVAL);
	g_assert_cmpstr(fake_hv_log(fake), ==,
			"memory slot=0 gpa=0x0 size=0x10000\nmemory fails\n"
			"memory slot=0 gpa=0x0 size=0x0\n");
	g_assert_cmpuint(size_of(&mem), ==, 0);
}

static size_t resident_pages(const struct guest_mem *mem, uint64_t gpa, size_t len)
{
	unsigned char pages[1024];
	size_t n = 0;

	g_assert_cmpuint(len / 4096, <=, sizeof(pages));
	g_assert_cmpint(mincore(guest_range(mem, gpa, len, 1), len, pages), ==, 0);
	for (size_t i = 0; i < len / 4096; i++)
		n += pages[i] & 1;
	return n;
}

/* Whole pages go, of both kinds of memory and across regions; parts of pages stay. */
static void test_discard(void)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct guest_mem_params params = { .size = 4 * MIB,
							 .hole_start = 2 * MIB,
							 .hole_end = 2 * MIB + 4096 * 16,
							 .shared = shared };
		uint64_t freed = 0, last = 2 * MIB + 4096 * 16;
		struct err err = { 0 };
		struct guest_mem mem;
		uint8_t byte = 1;

		g_assert_cmpint(guest_mem_init(&mem, NULL, &params, &err), ==, 0);
		g_assert_cmpint(guest_fill(&mem, 0, 0xaa, 2 * MIB), ==, 0);
		g_assert_cmpint(guest_fill(&mem, last, 0xaa, 2 * MIB), ==, 0);
		g_assert_cmpint(guest_mem_discard(&mem, 4096, 8192, &freed), ==, 0);
		g_assert_cmpuint(freed, ==, 8192);
		g_assert_cmpuint(resident_pages(&mem, 0, 4096 * 4), ==, 2);
		g_assert_cmpint(guest_read(&mem, 4096, &byte, 1), ==, 0);
		g_assert_cmpuint(byte, ==, 0);
		/* 100 bytes of one page, all of the next, 100 of a third */
		g_assert_cmpint(guest_mem_discard(&mem, 65536 - 100, 4096 + 200, &freed), ==, 0);
		g_assert_cmpuint(freed, ==, 8192 + 4096);
		g_assert_cmpint(guest_read(&mem, 65536 - 100, &byte, 1), ==, 0);
		g_assert_cmpuint(byte, ==, 0xaa);
		g_assert_cmpint(guest_mem_discard(&mem, 100, 200, &freed), ==, 0);
		g_assert_cmpint(guest_mem_discard(&mem, 100, 0, &freed), ==, 0);
		g_assert_cmpuint(freed, ==, 8192 + 4096);
		/* not all of it is RAM: nothing is done */
		g_assert_cmpint(guest_mem_discard(&mem, 2 * MIB - 8192, 4096 * 18, &freed), ==,
				-EFAULT);
		g_assert_cmpint(guest_mem_discard(&mem, UINT64_MAX - 4096, 8192, &freed), ==,
				-EFAULT);
		g_assert_cmpint(guest_mem_discard(&mem, 0, UINT64_MAX, &freed), ==, -EFAULT);
		g_assert_cmpuint(resident_pages(&mem, 2 * MIB - 8192, 8192), ==, 2);
		g_assert_cmpuint(freed, ==, 8192 + 4096);
		guest_mem_deinit(&mem);
	}
}

/* --- zones ------------------------------------------------------------------ */

static struct guest_zone_params zone(const char *pointer, uint64_t size)
{
	return (struct guest_zone_params){
		.pointer = pointer, .size = size, .file_fd = -EBADF, .host_node = -1
	};
}

/* Three zones: one below the hole, one on both sides of it, one behind. */
static void test_zones_layout(void)
{
	const struct guest_zone_params zones[] = { zone("/memory/zones/0", HALF / 2),
						   zone("/memory/zones/1", HALF),
						   zone("/memory/zones/2", HALF) };
	const struct guest_layout layout = { zones, 3, HALF, HOLE_END };
	_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
	struct guest_mem mem;
	struct err err = { 0 };

	g_assert_cmpint(guest_mem_init_zones(&mem, fake_hv_vm(fake), &layout, &err), ==, 0);
	g_assert_cmpstr(fake_hv_log(fake), ==,
			"memory slot=0 gpa=0x0 size=0x8000\n"
			"memory slot=1 gpa=0x8000 size=0x8000\n"
			"memory slot=2 gpa=0x100000 size=0x8000\n"
			"memory slot=3 gpa=0x108000 size=0x10000\n");
	g_assert_cmpuint(mem.n_regions, ==, 4);
	g_assert_cmpuint(mem.regions[1].zone, ==, 1);
	g_assert_cmpuint(mem.regions[2].zone, ==, 1);
	g_assert_cmpuint(mem.regions[3].zone, ==, 2);
	/* to the guest it is one piece, but for the hole */
	g_assert_true(guest_covers(&mem, 0, HALF));
	g_assert_true(guest_covers(&mem, HOLE_END, 3 * HALF / 2));
	g_assert_false(guest_covers(&mem, HALF, 1));
	guest_mem_deinit(&mem);
}

/* A file over the hole: shared it is written to and kept, private only read. */
static void test_zone_file(void)
{
	for (int shared = 0; shared < 2; shared++) {
		_cleanup_close_ int fd = memfd_create("zone", MFD_CLOEXEC);
		struct guest_zone_params z = zone("/memory/zones/0", 2 * HALF);
		const struct guest_layout layout = { &z, 1, HALF, HOLE_END };
		struct guest_mem mem;
		struct err err = { 0 };
		uint64_t freed = 0;
		char byte = 0;

		g_assert_cmpint(ftruncate(fd, shared ? 100 : 2 * HALF), ==, 0);
		g_assert_cmpint(pwrite(fd, "a", 1, 0), ==, 1);
		z.file_fd = fd;
		z.shared = shared;
		g_assert_cmpint(guest_mem_init_zones(&mem, NULL, &layout, &err), ==, 0);
		g_assert_cmpint(guest_read(&mem, 0, &byte, 1), ==, 0);
		g_assert_cmpint(byte, ==, 'a');
		g_assert_cmpint(guest_write(&mem, HOLE_END + 5, "b", 1), ==, 0);
		g_assert_cmpint(guest_mem_clear(&mem, NULL, NULL, &err), ==, 0);
		g_assert_cmpint(guest_mem_discard(&mem, HOLE_END, HALF, &freed), ==, 0);
		g_assert_cmpuint(freed, ==, 0);
		g_assert_cmpint(guest_read(&mem, HOLE_END + 5, &byte, 1), ==, 0);
		g_assert_cmpint(byte, ==, 'b');
		g_assert_cmpint(pread(fd, &byte, 1, HALF + 5), ==, 1);
		g_assert_cmpint(byte, ==, shared ? 'b' : 0);
		guest_mem_deinit(&mem);
		g_assert_cmpint(fcntl(fd, F_GETFD), >=, 0); /* the caller's */
	}
}

static void test_zone_bad(void)
{
	_cleanup_close_ int fd = memfd_create("zone", MFD_CLOEXEC);
	struct guest_zone_params z = zone("/memory/zones/7", HALF);
	const struct guest_layout layout = { &z, 1, HALF, HOLE_END };
	struct guest_mem mem;
	struct err err = { 0 };

	z.file_fd = fd;
	g_assert_cmpint(guest_mem_init_zones(&mem, NULL, &layout, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"/memory/zones/7/file: has 0 bytes, must have at least 65536, or be shared "
			"to be made larger");
	z.hugepages = true;
	err_clear(&err);
	g_assert_cmpint(guest_mem_init_zones(&mem, NULL, &layout, &err), ==, -EINVAL);
	z = zone("/memory/zones/7", HALF);
	z.host_node = 900;
	err_clear(&err);
	g_assert_cmpint(guest_mem_init_zones(&mem, NULL, &layout, &err), <, 0);
	g_assert_nonnull(strstr(err.msg, "/memory/zones/7/host_numa_node: "));
	g_assert_cmpuint(mem.n_regions, ==, 0);
}

static void test_zone_node(void)
{
	struct guest_zone_params z = zone("/memory/zones/0", HALF);
	const struct guest_layout layout = { &z, 1, HALF, HOLE_END };
	struct guest_mem mem;
	struct err err = { 0 };

	z.host_node = 0;
	if (guest_mem_init_zones(&mem, NULL, &layout, &err) < 0) {
		g_test_skip(err.msg); /* a kernel without NUMA, or a container that forbids it */
		return;
	}
	g_assert_cmpint(guest_write(&mem, 0, "x", 1), ==, 0);
	guest_mem_deinit(&mem);
}

/* Memory that a device shows: below and above RAM, found like RAM, and no RAM. */
static void test_device_memory(void)
{
	_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
	_cleanup_close_ int fd = memfd_create("pmem", MFD_CLOEXEC);
	struct guest_mem_params p = { .size = HALF };
	struct guest_mem mem;
	struct err err = { 0 };
	uint64_t freed = 0;
	char byte = 0;

	g_assert_cmpint(ftruncate(fd, HALF), ==, 0);
	g_assert_cmpint(pwrite(fd, "a", 1, 0), ==, 1);
	g_assert_cmpint(guest_mem_init(&mem, fake_hv_vm(fake), &p, &err), ==, 0);
	g_assert_cmpint(guest_mem_add_device(&mem, HALF / 2, HALF, fd, MAP_SHARED, &err), ==,
			-EBUSY);
	g_assert_cmpstr(err.msg, ==, "0x10000 bytes at 0x8000: guest memory is there");
	err_clear(&err);
	g_assert_cmpint(guest_mem_add_device(&mem, 100, HALF, fd, MAP_SHARED, &err), ==, -EINVAL);
	err_clear(&err);
	g_assert_cmpint(guest_mem_add_device(&mem, 4 * HOLE_END, HALF, fd, MAP_SHARED, &err), ==,
			0);
	g_assert_nonnull(strstr(fake_hv_log(fake), "memory slot=1 gpa=0x400000 size=0x10000\n"));
	g_assert_cmpint(guest_read(&mem, 4 * HOLE_END, &byte, 1), ==, 0);
	g_assert_cmpint(byte, ==, 'a');
	g_assert_cmpint(guest_write(&mem, 4 * HOLE_END, "b", 1), ==, 0);
	g_assert_cmpint(guest_mem_clear(&mem, NULL, NULL, &err), ==, 0);
	g_assert_cmpint(pread(fd, &byte, 1, 0), ==, 1);
	g_assert_cmpint(byte, ==, 'b');
	g_assert_null(guest_range(&mem, 4 * HOLE_END, 16, 16));
	g_assert_cmpint(guest_mem_discard(&mem, 4 * HOLE_END, 4096, &freed), ==, -EFAULT);
	/* another one, below: it is found all the same */
	g_assert_cmpint(guest_mem_add_device(&mem, 2 * HOLE_END, HALF, fd, MAP_PRIVATE, &err), ==,
			0);
	g_assert_cmphex(mem.regions[guest_mem_order(&mem, 3)[1]].gpa, ==, 2 * HOLE_END);
	g_assert_cmphex(mem.regions[guest_mem_order(&mem, 3)[2]].gpa, ==, 4 * HOLE_END);
	g_assert_true(guest_covers(&mem, 2 * HOLE_END, HALF));
	guest_mem_deinit(&mem);
}

/* A device's memory goes, with all that is in it; another of its size can have the place. */
static void test_device_memory_goes(void)
{
	_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
	_cleanup_close_ int fd = memfd_create("pmem", MFD_CLOEXEC);
	const uint64_t gpa = 4 * HOLE_END;
	struct guest_mem_params p = { .size = HALF };
	struct guest_mem mem;
	struct err err = { 0 };
	uint64_t found = 0;
	char byte = 0;

	g_assert_cmpint(ftruncate(fd, HALF), ==, 0);
	g_assert_cmpint(pwrite(fd, "a", 1, 0), ==, 1);
	g_assert_cmpint(guest_mem_init(&mem, fake_hv_vm(fake), &p, &err), ==, 0);
	g_assert_cmpint(guest_mem_add_device(&mem, gpa, HALF, fd, MAP_SHARED, &err), ==, 0);
	g_assert_false(guest_mem_find_retired(&mem, HALF, &found));
	guest_mem_remove_device(&mem, gpa);
	g_assert_nonnull(strstr(fake_hv_log(fake), "memory slot=1 gpa=0x400000 size=0x0\n"));
	/* who still has it in hand reads zeros, and what it writes is lost */
	g_assert_cmpint(guest_read(&mem, gpa, &byte, 1), ==, 0);
	g_assert_cmpint(byte, ==, 0);
	g_assert_cmpint(guest_write(&mem, gpa, "b", 1), ==, 0);
	g_assert_cmpint(pread(fd, &byte, 1, 0), ==, 1);
	g_assert_cmpint(byte, ==, 'a');
	g_assert_false(guest_mem_find_retired(&mem, HALF / 2, &found));
	g_assert_true(guest_mem_find_retired(&mem, HALF, &found));
	g_assert_cmphex(found, ==, gpa);
	/* a place once given is not another size's */
	g_assert_cmpint(guest_mem_add_device(&mem, gpa, HALF / 2, fd, MAP_SHARED, &err), ==,
			-EBUSY);
	err_clear(&err);
	/* what the hypervisor does not take leaves the place as it was */
	fake_hv_fail(fake, "memory", 1, ENOMEM);
	g_assert_cmpint(guest_mem_add_device(&mem, gpa, HALF, fd, MAP_SHARED, &err), <, 0);
	err_clear(&err);
	g_assert_cmpint(guest_read(&mem, gpa, &byte, 1), ==, 0);
	g_assert_cmpint(byte, ==, 0);
	for (unsigned int i = 0; i < 2 * GUEST_REGIONS_MAX; i++) {
		g_assert_cmpint(guest_mem_add_device(&mem, gpa, HALF, fd, MAP_SHARED, &err), ==, 0);
		g_assert_cmpint(guest_read(&mem, gpa, &byte, 1), ==, 0);
		g_assert_cmpint(byte, ==, 'a');
		guest_mem_remove_device(&mem, gpa);
	}
	g_assert_cmpuint(mem.n_regions, ==, 2);
	guest_mem_deinit(&mem);
}

/* --- RAM that comes while others use what is there --- */

#define GROW_STEPS 40

struct reader {
	struct guest_mem *mem;
	atomic_uint published; /* pieces that are there */
	atomic_bool stop;
};

static uint64_t piece_at(unsigned int i)
{
	/* from both ends to the middle: every other one comes before those that are there */
	return (4 + (i % 2 ? i : 2 * GROW_STEPS - i)) * (uint64_t)HOLE_END;
}

static void *read_all(void *data)
{
	struct reader *reader = data;
	unsigned int rounds = 0;

	/* Once at least: on a busy machine all may be there before it runs. */
	do {
		unsigned int n = atomic_load(&reader->published);
		uint32_t value = 0;

		g_assert_true(guest_covers(reader->mem, 0, HALF));
		g_assert_false(guest_covers(reader->mem, 3 * HOLE_END, 1));
		for (unsigned int i = 0; i < n; i++) {
			g_assert_cmpint(guest_read(reader->mem, piece_at(i) + 8, &value,
						   sizeof(value)),
					==, 0);
			g_assert_cmpuint(value, ==, i + 1);
		}
		rounds++;
	} while (!atomic_load(&reader->stop));
	return GUINT_TO_POINTER(rounds);
}

static void test_grow(void)
{
	_cleanup_(fake_hv_free_cleanup) struct fake_hv *fake = fake_hv_new();
	struct guest_zone_params more = zone("/memory", HALF);
	struct guest_mem_params p = { .size = HALF };
	struct guest_mem mem;
	struct reader reader = { .mem = &mem };
	GThread *threads[3];
	struct err err = { 0 };
	uint64_t freed = 0;
	uint32_t value = 0;

	g_assert_cmpint(guest_mem_init(&mem, fake_hv_vm(fake), &p, &err), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		threads[i] = g_thread_new("reader", read_all, &reader);
	for (unsigned int i = 0; i < GROW_STEPS; i++) {
		value = i + 1;
		g_assert_cmpint(guest_mem_add_ram(&mem, piece_at(i), &more, &err), ==, 0);
		g_assert_cmpint(guest_write(&mem, piece_at(i) + 8, &value, sizeof(value)), ==, 0);
		atomic_store(&reader.published, i + 1);
		g_usleep(200);
	}
	atomic_store(&reader.stop, true);
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		g_assert_cmpuint(GPOINTER_TO_UINT(g_thread_join(threads[i])), >, 0);
	g_assert_cmpint(guest_mem_add_ram(&mem, piece_at(3), &more, &err), ==, -EBUSY);
	err_clear(&err);
	/* RAM like any other */
	g_assert_nonnull(guest_range(&mem, piece_at(1), 64, 64));
	g_assert_cmpint(guest_mem_discard(&mem, piece_at(2), HALF, &freed), ==, 0);
	g_assert_cmpuint(freed, ==, HALF);
	g_assert_cmpint(guest_mem_clear(&mem, NULL, NULL, &err), ==, 0);
	g_assert_cmpint(guest_read(&mem, piece_at(5) + 8, &value, sizeof(value)), ==, 0);
	g_assert_cmpuint(value, ==, 0);
	for (unsigned int i = GROW_STEPS; i + 1 < GUEST_REGIONS_MAX; i++)
		g_assert_cmpint(guest_mem_add_ram(&mem, (1000 + i) * HOLE_END, &more, &err), ==, 0);
	g_assert_cmpint(guest_mem_add_ram(&mem, 2000 * HOLE_END, &more, &err), ==, -ENOSPC);
	g_assert_cmpstr(err.msg, ==, "there are more than 64 pieces of guest memory");
	guest_mem_deinit(&mem);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory/guest-memory/layout", test_layout);
	g_test_add_func("/memory/guest-memory/access", test_access);
	g_test_add_func("/memory/guest-memory/nothing-copied-on-failure",
			test_nothing_copied_on_failure);
	g_test_add_func("/memory/guest-memory/regions-that-touch", test_regions_that_touch);
	g_test_add_func("/memory/guest-memory/range-alignment", test_range_alignment);
	g_test_add_func("/memory/guest-memory/thp-alignment", test_thp_alignment);
	g_test_add_func("/memory/guest-memory/shared", test_shared);
	g_test_add_func("/memory/guest-memory/prefault", test_prefault);
	g_test_add_func("/memory/guest-memory/clear", test_clear);
	g_test_add_func("/memory/guest-memory/clear-in-slices", test_clear_in_slices);
	g_test_add_func("/memory/guest-memory/mergeable", test_mergeable);
	g_test_add_func("/memory/guest-memory/hugepages", test_hugepages);
	g_test_add_func("/memory/guest-memory/bad-params", test_bad_params);
	g_test_add_func("/memory/guest-memory/more-than-address-space",
			test_more_than_address_space);
	g_test_add_func("/memory/guest-memory/second-slot-refused", test_second_slot_refused);
	g_test_add_func("/memory/guest-memory/discard", test_discard);
	g_test_add_func("/memory/zones/layout", test_zones_layout);
	g_test_add_func("/memory/zones/file", test_zone_file);
	g_test_add_func("/memory/zones/bad", test_zone_bad);
	g_test_add_func("/memory/zones/node", test_zone_node);
	g_test_add_func("/memory/device", test_device_memory);
	g_test_add_func("/memory/device-goes", test_device_memory_goes);
	g_test_add_func("/memory/grow", test_grow);
	return g_test_run();
}
