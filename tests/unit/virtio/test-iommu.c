/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-iommu: its requests, what they do to addresses, and a device behind it
 */
#include "vmm/virtio/iommu.h"

#include <errno.h>
#include <glib.h>
#include <linux/virtio_iommu.h>
#include <string.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/iova-state.h"
#include "vmm/virtio/iova.h"
#include "vmm/virtio/rng.h"

#define PAGE     4096ULL
#define ENDPOINT 0x18U
#define FEATURES                                                                                   \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_IOMMU_F_MAP_UNMAP) |           \
	 VIRTIO_FEATURE(VIRTIO_IOMMU_F_PROBE) | VIRTIO_FEATURE(VIRTIO_IOMMU_F_BYPASS_CONFIG))

/* --- the address spaces ------------------------------------------------------------- */

static void test_attach(void)
{
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = iova_unit_new(64);
	struct iova_endpoint *a = NULL, *b = NULL;
	uint64_t gpa = 0, len = 0;

	g_assert_cmpint(iova_endpoint_add(unit, 8, &a), ==, 0);
	g_assert_cmpint(iova_endpoint_add(unit, 16, &b), ==, 0);
	g_assert_cmpint(iova_endpoint_add(unit, 8, &a), ==, -EEXIST);
	g_assert_cmpint(iova_map(unit, 1, 0, PAGE - 1, 0, IOVA_READ), ==, -ENOENT);
	g_assert_cmpint(iova_attach(unit, 1, 9, false), ==, -ENOENT);
	g_assert_cmpint(iova_attach(unit, 1, 8, false), ==, 0);
	g_assert_cmpint(iova_attach(unit, 1, 8, false), ==, 0);
	g_assert_cmpint(iova_attach(unit, 1, 16, true), ==, -EINVAL);
	g_assert_cmpint(iova_attach(unit, 1, 16, false), ==, 0);
	g_assert_cmpint(iova_map(unit, 1, 0, PAGE - 1, 5 * PAGE, IOVA_READ), ==, 0);
	/* both see it; one leaves, and the domain is still there */
	g_assert_cmpint(iova_translate(b, 10, 4, IOVA_READ, &gpa, &len), ==, 0);
	g_assert_cmphex(gpa, ==, 5 * PAGE + 10);
	g_assert_cmpint(iova_detach(unit, 2, 8), ==, -EINVAL);
	g_assert_cmpint(iova_detach(unit, 1, 8), ==, 0);
	g_assert_cmpint(iova_detach(unit, 1, 8), ==, -EINVAL);
	g_assert_cmpuint(iova_n_mappings(unit), ==, 1);
	/* straight into another domain, a bypass: the first is gone with its mappings */
	g_assert_cmpint(iova_attach(unit, 7, 16, true), ==, 0);
	g_assert_cmpuint(iova_n_mappings(unit), ==, 0);
	g_assert_cmpint(iova_unmap(unit, 1, 0, PAGE - 1), ==, -ENOENT);
	g_assert_cmpint(iova_map(unit, 7, 0, PAGE - 1, 0, IOVA_READ), ==, -EINVAL);
	g_assert_cmpint(iova_unmap(unit, 7, 0, PAGE - 1), ==, -EINVAL);
	g_assert_cmpint(iova_translate(b, 77, 9, IOVA_WRITE, &gpa, &len), ==, 0);
	g_assert_cmphex(gpa, ==, 77);
	/* attached to none: what bypass says */
	g_assert_cmpint(iova_translate(a, 77, 9, IOVA_WRITE, &gpa, &len), ==, 0);
	iova_set_bypass(unit, false);
	g_assert_cmpint(iova_translate(a, 77, 9, IOVA_WRITE, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(b, 77, 9, IOVA_WRITE, &gpa, &len), ==, 0);
	iova_detach_all(unit);
	g_assert_cmpint(iova_translate(b, 77, 9, IOVA_WRITE, &gpa, &len), ==, -EFAULT);
}

static void test_map(void)
{
	static const struct {
		const char *name;
		uint64_t start, end, gpa;
		int r;
	} cases[] = {
		{ "empty", 2 * PAGE, PAGE - 1, 0, -ERANGE },
		{ "start not a page", 1, PAGE - 1, 0, -ERANGE },
		{ "end not a page", 0, PAGE, 0, -ERANGE },
		{ "memory not a page", 0, PAGE - 1, 512, -ERANGE },
		{ "memory wraps", 0, 2 * PAGE - 1, UINT64_MAX - PAGE + 1, -ERANGE },
		{ "beyond the width", 1ULL << 40, (1ULL << 40) + PAGE - 1, 0, -ERANGE },
		{ "across the width", (1ULL << 40) - PAGE, (1ULL << 40) + PAGE - 1, 0, -ERANGE },
		{ "interrupts", IOVA_MSI_START, IOVA_MSI_START + PAGE - 1, 0, -EINVAL },
		{ "around interrupts", 0xfe000000, 0xffffffff, 0, -EINVAL },
		{ "the same again", 0x10000, 0x1ffff, 0, -EINVAL },
		{ "its last page", 0x1f000, 0x20fff, 0, -EINVAL },
		{ "around it", 0xf000, 0x20fff, 0, -EINVAL },
		{ "right before", 0xf000, 0xffff, 0, 0 },
		{ "right after", 0x20000, 0x20fff, 0, 0 },
		{ "the last page", (1ULL << 40) - PAGE, (1ULL << 40) - 1, 0, 0 },
	};
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = iova_unit_new(40);
	struct iova_endpoint *ep = NULL;

	iova_endpoint_add(unit, 1, &ep);
	g_assert_cmpint(iova_attach(unit, 0, 1, false), ==, 0);
	g_assert_cmpint(iova_map(unit, 0, 0x10000, 0x1ffff, 0x800000, IOVA_READ), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_test_message("%s", cases[i].name);
		g_assert_cmpint(iova_map(unit, 0, cases[i].start, cases[i].end, cases[i].gpa,
					 IOVA_READ | IOVA_WRITE),
				==, cases[i].r);
	}
	g_assert_cmpuint(iova_n_mappings(unit), ==, 4);
	/* unmap: what would be split stays, with all others; holes do not matter */
	g_assert_cmpint(iova_unmap(unit, 0, 0xf000, 0x10fff), ==, -ERANGE);
	g_assert_cmpint(iova_unmap(unit, 0, 0x1f000, 0x20fff), ==, -ERANGE);
	g_assert_cmpint(iova_unmap(unit, 0, 0x11000, 0x11fff), ==, -ERANGE);
	g_assert_cmpint(iova_unmap(unit, 0, PAGE, 0), ==, -ERANGE);
	g_assert_cmpuint(iova_n_mappings(unit), ==, 4);
	g_assert_cmpint(iova_unmap(unit, 0, 0x40000, 0x4ffff), ==, 0);
	g_assert_cmpint(iova_unmap(unit, 0, 0x10000, 0x20fff), ==, 0);
	g_assert_cmpuint(iova_n_mappings(unit), ==, 2);
	g_assert_cmpint(iova_unmap(unit, 0, 0, UINT64_MAX), ==, 0);
	g_assert_cmpuint(iova_n_mappings(unit), ==, 0);
}

static void test_translate(void)
{
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = iova_unit_new(64);
	struct iova_endpoint *ep = NULL;
	uint64_t gpa = 0, len = 0;

	iova_endpoint_add(unit, 1, &ep);
	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0x2000, 0x3fff, 0x9000, IOVA_READ), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0x4000, 0x4fff, 0x1000, IOVA_WRITE), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, UINT64_MAX - PAGE + 1, UINT64_MAX, 0x6000, IOVA_READ), ==,
			0);
	g_assert_cmpint(iova_translate(ep, 0x2ffe, 0x10000, IOVA_READ, &gpa, &len), ==, 0);
	g_assert_cmphex(gpa, ==, 0x9ffe);
	g_assert_cmphex(len, ==, 0x1002);
	g_assert_cmpint(iova_translate(ep, 0x2ffe, 1, IOVA_WRITE, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(ep, 0x4fff, 1, IOVA_READ, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(ep, 0x4fff, 5, IOVA_WRITE, &gpa, &len), ==, 0);
	g_assert_cmphex(len, ==, 1);
	g_assert_cmpint(iova_translate(ep, 0x1fff, 1, IOVA_READ, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(ep, 0x5000, 1, IOVA_READ, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(ep, UINT64_MAX, 1, IOVA_READ, &gpa, &len), ==, 0);
	g_assert_cmphex(gpa, ==, 0x6fff);
}

/* A guest that maps without end is told so, and costs what it cost before. */
static void test_limit(void)
{
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = iova_unit_new(64);
	struct iova_endpoint *ep = NULL;

	iova_endpoint_add(unit, 1, &ep);
	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	for (uint64_t i = 0; i < IOVA_MAPPINGS_MAX; i++)
		g_assert_cmpint(iova_map(unit, 3, (1ULL << 33) + i * PAGE,
					 (1ULL << 33) + i * PAGE + PAGE - 1, 0, IOVA_READ),
				==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0, PAGE - 1, 0, IOVA_READ), ==, -ENOMEM);
	g_assert_cmpint(iova_unmap(unit, 3, 1ULL << 33, (1ULL << 33) + PAGE - 1), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0, PAGE - 1, 0, IOVA_READ), ==, 0);
}

struct racer {
	struct iova_unit *unit;
	struct iova_endpoint *ep;
	gint stop;
};

static void *race(void *data)
{
	struct racer *r = data;
	uint64_t gpa = 0, len = 0;

	while (!g_atomic_int_get(&r->stop))
		if (iova_translate(r->ep, 0x5010, 16, IOVA_READ, &gpa, &len) == 0)
			/* one of the two, whole */
			g_assert_true(gpa == 0x7010 || gpa == 0x9010);
	return NULL;
}

static void test_race(void)
{
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = iova_unit_new(64);
	struct racer r = { .unit = unit };
	uint64_t gpa = 0, len = 0;
	GThread *thread;

	iova_endpoint_add(unit, 1, &r.ep);
	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	thread = g_thread_new("race", race, &r);
	for (unsigned int i = 0; i < 5000; i++) {
		g_assert_cmpint(iova_map(unit, 3, 0x5000, 0x5fff, i % 2 ? 0x7000 : 0x9000,
					 IOVA_READ),
				==, 0);
		g_assert_cmpint(iova_map(unit, 3, 0x1000, 0x1fff, 0, IOVA_READ), ==, 0);
		g_assert_cmpint(iova_unmap(unit, 3, 0, 0xffff), ==, 0);
		/* in force as soon as it returned */
		g_assert_cmpint(iova_translate(r.ep, 0x5010, 16, IOVA_READ, &gpa, &len), ==,
				-EFAULT);
	}
	g_atomic_int_set(&r.stop, 1);
	g_thread_join(thread);
}

/* --- saved state ------------------------------------------------------------------------ */

static struct iova_unit *saved_unit(struct iova_endpoint **ret_ep)
{
	struct iova_unit *unit = iova_unit_new(40);
	struct iova_endpoint *other = NULL;

	iova_endpoint_add(unit, 1, ret_ep);
	for (uint32_t id = 4; id > 1; id--)
		iova_endpoint_add(unit, id, &other);
	return unit;
}

static void deinit_tables(struct state_table *tables)
{
	for (size_t i = 0; i < IOVA_TABLES_N_; i++)
		state_table_deinit(&tables[i]);
}

/* One domain for two endpoints, another one, a bypass, and an endpoint of none. */
static void test_save_load(void)
{
	struct state_table saved[IOVA_TABLES_N_], again[IOVA_TABLES_N_];
	struct iova_endpoint *from_ep = NULL, *ep = NULL;
	struct iova_unit *from = saved_unit(&from_ep), *to = saved_unit(&ep);
	const struct iova_attachment_state *at;
	const struct iova_mapping_state *maps;
	uint64_t gpa = 0, len = 0;

	g_assert_cmpint(iova_attach(from, 9, 1, false), ==, 0);
	g_assert_cmpint(iova_attach(from, 9, 3, false), ==, 0);
	g_assert_cmpint(iova_attach(from, 2, 4, true), ==, 0);
	for (uint64_t i = 100; i > 0; i--)
		g_assert_cmpint(iova_map(from, 9, i * 2 * PAGE, i * 2 * PAGE + PAGE - 1,
					 (200 - i) * PAGE, i % 2 ? IOVA_READ : IOVA_WRITE),
				==, 0);
	/* what is there before is not there any more */
	g_assert_cmpint(iova_attach(to, 9, 2, false), ==, 0);
	g_assert_cmpint(iova_map(to, 9, 0, PAGE - 1, 0, IOVA_READ), ==, 0);

	g_assert_cmpint(iova_save(from, saved, NULL), ==, 0);
	g_assert_cmpuint(saved[IOVA_TABLE_ATTACHMENTS].n, ==, 3);
	at = saved[IOVA_TABLE_ATTACHMENTS].rows;
	g_assert_cmpuint(at[0].endpoint, ==, 1);
	g_assert_cmpuint(at[2].endpoint, ==, 4);
	g_assert_true(at[2].bypass);
	g_assert_cmpuint(saved[IOVA_TABLE_MAPPINGS].n, ==, 100);
	maps = saved[IOVA_TABLE_MAPPINGS].rows;
	g_assert_cmphex(maps[0].start, ==, 2 * PAGE);
	g_assert_cmphex(maps[99].start, ==, 200 * PAGE);

	g_assert_cmpint(iova_load(to, saved, NULL), ==, 0);
	g_assert_cmpint(iova_save(to, again, NULL), ==, 0);
	for (size_t i = 0; i < IOVA_TABLES_N_; i++)
		g_assert_cmpmem(saved[i].rows, saved[i].n * saved[i].desc->size, again[i].rows,
				again[i].n * again[i].desc->size);
	g_assert_cmpuint(iova_n_mappings(to), ==, 100);
	g_assert_cmpint(iova_translate(ep, 6 * PAGE + 5, 1, IOVA_READ, &gpa, &len), ==, 0);
	g_assert_cmphex(gpa, ==, 197 * PAGE + 5);
	g_assert_cmpint(iova_translate(ep, 6 * PAGE, 1, IOVA_WRITE, &gpa, &len), ==, -EFAULT);
	g_assert_cmpint(iova_translate(ep, 0, 1, IOVA_READ, &gpa, &len), ==, -EFAULT);
	/* and it goes on as it would have */
	g_assert_cmpint(iova_detach(to, 9, 3), ==, 0);
	g_assert_cmpint(iova_detach(to, 9, 1), ==, 0);
	g_assert_cmpuint(iova_n_mappings(to), ==, 0);
	deinit_tables(saved);
	deinit_tables(again);
	iova_unit_free(from);
	iova_unit_free(to);
}

/* Refused with a sentence, and the unit is as it was. */
static void test_load_hostile(void)
{
#define AT(e, d, b)                                                                                \
	{                                                                                          \
		.endpoint = (e), .domain = (d), .bypass = (b)                                      \
	}
#define MAP(s, e, ...)                                                                             \
	{                                                                                          \
		.start = (s), .end = (e), .domain = 7, __VA_ARGS__                                 \
	}
	static const struct {
		struct iova_attachment_state at[2];
		struct iova_mapping_state maps[2];
		uint32_t n_at, n_maps;
		const char *text;
	} cases[] = {
		{ { AT(5, 7, 0) }, {}, 1, 0, "there is no device at endpoint 0x5 of the IOMMU" },
		{ { AT(2, 7, 0), AT(1, 7, 0) },
		  {},
		  2,
		  0,
		  "endpoint 0x1 of the IOMMU comes after 0x2, must be in ascending order" },
		{ { AT(1, 7, 0), AT(1, 8, 0) },
		  {},
		  2,
		  0,
		  "endpoint 0x1 of the IOMMU comes after 0x1, must be in ascending order" },
		{ { AT(1, 7, 0), AT(2, 7, 1) },
		  {},
		  2,
		  0,
		  "domain 7 of the IOMMU is a bypass for one endpoint and not for another" },
		{ { { .endpoint = 1, .domain = 7, .pad = { 0, 1 } } },
		  {},
		  1,
		  0,
		  "endpoint 0x1 of the IOMMU: padding is not zero" },
		{ { AT(1, 7, 0) },
		  { MAP(0x1000, 0x2fff), MAP(0x2000, 0x3fff) },
		  1,
		  2,
		  "mapping 0x2000-0x3fff of domain 7 of the IOMMU overlaps the one before" },
		{ { AT(1, 7, 0) },
		  { MAP(0x3000, 0x3fff), MAP(0x1000, 0x1fff) },
		  1,
		  2,
		  "mapping 0x1000-0x1fff of domain 7 of the IOMMU is not in ascending order" },
		{ { AT(1, 7, 0) },
		  { MAP(0x3000, 0x3fff, .access = 4) },
		  1,
		  1,
		  "mapping 0x3000-0x3fff of domain 7 of the IOMMU allows what there is not" },
		{ { AT(1, 7, 0) },
		  { MAP(0x3000, 0x2fff) },
		  1,
		  1,
		  "mapping 0x3000-0x2fff of domain 7 of the IOMMU is not in whole pages of "
		  "addresses that can be mapped" },
		{ { AT(1, 7, 0) },
		  { MAP(1ULL << 40, (1ULL << 40) + PAGE - 1) },
		  1,
		  1,
		  "mapping 0x10000000000-0x10000000fff of domain 7 of the IOMMU is not in whole "
		  "pages of addresses that can be mapped" },
		{ { AT(1, 7, 0) },
		  { MAP(0xfee00000, 0xfee00fff) },
		  1,
		  1,
		  "mapping 0xfee00000-0xfee00fff of domain 7 of the IOMMU is not in whole pages "
		  "of addresses that can be mapped" },
		{ { AT(1, 7, 0) },
		  { MAP(0, 0x1fff, .gpa = UINT64_MAX - PAGE + 1) },
		  1,
		  1,
		  "mapping 0-0x1fff of domain 7 of the IOMMU is not in whole pages of addresses "
		  "that can be mapped" },
		{ { AT(1, 8, 0) },
		  { MAP(0, 0xfff) },
		  1,
		  1,
		  "mapping 0-0xfff of domain 7 of the IOMMU is of a domain without endpoints, or "
		  "of a bypass" },
		{ { AT(1, 7, 1) },
		  { MAP(0, 0xfff) },
		  1,
		  1,
		  "mapping 0-0xfff of domain 7 of the IOMMU is of a domain without endpoints, or "
		  "of a bypass" },
		{ { AT(1, 7, 0) },
		  { MAP(0, 0xfff) },
		  1,
		  IOVA_MAPPINGS_MAX + 1,
		  "the IOMMU has 65537 mappings, must be 65536 at most" },
	};
#undef AT
#undef MAP
	struct iova_endpoint *ep = NULL;
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = saved_unit(&ep);
	uint64_t gpa = 0, len = 0;

	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0x8000, 0x8fff, 0x5000, IOVA_READ), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct state_table tables[] = {
			[IOVA_TABLE_ATTACHMENTS] = { &iova_attachment_state_desc,
						     (void *)(uintptr_t)cases[i].at,
						     cases[i].n_at },
			[IOVA_TABLE_MAPPINGS] = { &iova_mapping_state_desc,
						  (void *)(uintptr_t)cases[i].maps,
						  cases[i].n_maps },
		};
		struct err err = { 0 };

		g_assert_cmpint(iova_load(unit, tables, &err), ==, -EBADMSG);
		g_assert_cmpstr(err.msg, ==, cases[i].text);
		g_assert_cmpuint(iova_n_mappings(unit), ==, 1);
		g_assert_cmpint(iova_translate(ep, 0x8000, 1, IOVA_READ, &gpa, &len), ==, 0);
		g_assert_cmphex(gpa, ==, 0x5000);
	}
}

/* As many as there can be. */
static void test_save_load_full(void)
{
	struct state_table saved[IOVA_TABLES_N_];
	struct iova_endpoint *ep = NULL;
	_cleanup_(iova_unit_free_cleanup) struct iova_unit *unit = saved_unit(&ep);

	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	for (uint64_t i = 0; i < IOVA_MAPPINGS_MAX; i++)
		g_assert_cmpint(iova_map(unit, 3, (1ULL << 33) + i * PAGE,
					 (1ULL << 33) + i * PAGE + PAGE - 1, 0, IOVA_READ),
				==, 0);
	g_assert_cmpint(iova_save(unit, saved, NULL), ==, 0);
	g_assert_cmpint(iova_load(unit, saved, NULL), ==, 0);
	g_assert_cmpuint(iova_n_mappings(unit), ==, IOVA_MAPPINGS_MAX);
	deinit_tables(saved);
}

/* The device: what it saved as a whole is in force when it has been loaded. */
static void test_device_state(void)
{
	struct iova_endpoint *ep = NULL;
	struct iova_unit *unit = saved_unit(&ep);
	const struct virtio_iommu_params params = { .id = "iommu", .unit = unit };
	struct state_table saved[IOVA_TABLES_N_];
	struct virtio_device *dev = NULL;
	struct mock_driver driver;
	struct err err = { 0 };
	uint64_t gpa = 0, len = 0;

	g_assert_cmpint(virtio_iommu_new(&params, &dev, &err), ==, 0);
	mock_driver_init(&driver, dev, 1 << 20);
	g_assert_cmpint(iova_attach(unit, 3, 1, false), ==, 0);
	g_assert_cmpint(iova_map(unit, 3, 0x8000, 0x8fff, 0x5000, IOVA_READ), ==, 0);
	g_assert_cmpint(dev->ops->save_tables(dev, saved, &err), ==, 0);
	virtio_iommu_power_on(dev);
	g_assert_true(iova_get_bypass(unit));
	*(uint8_t *)dev->ops->state_ptr(dev) = 0; /* bypass, its first member */
	g_assert_cmpint(dev->ops->load_tables(dev, saved, &err), ==, 0);
	g_assert_false(iova_get_bypass(unit));
	g_assert_cmpuint(dev->config[offsetof(struct virtio_iommu_config, bypass)], ==, 0);
	g_assert_cmpint(iova_translate(ep, 0x8000, 1, IOVA_READ, &gpa, &len), ==, 0);
	((struct iova_mapping_state *)saved[IOVA_TABLE_MAPPINGS].rows)->domain = 4;
	g_assert_cmpint(dev->ops->load_tables(dev, saved, &err), ==, -EBADMSG);
	g_assert_true(
		g_str_has_prefix(err.msg, "iommu 'iommu': mapping 0x8000-0x8fff of domain 4"));
	deinit_tables(saved);
	mock_driver_deinit(&driver);
	iova_unit_free(unit);
}

/* --- the device ------------------------------------------------------------------------- */

struct fixture {
	struct mock_driver driver;
	struct iova_unit *unit;
	struct iova_endpoint *ep;
	uint64_t request_gpa, answer_gpa;
};

static void setup(struct fixture *f)
{
	struct virtio_iommu_params params = { .id = "__iommu" };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	*f = (struct fixture){ .unit = params.unit = iova_unit_new(48) };
	g_assert_cmpint(iova_endpoint_add(f->unit, ENDPOINT, &f->ep), ==, 0);
	if (virtio_iommu_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 4 << 20);
	mock_driver_start(&f->driver, FEATURES);
	f->request_gpa = mock_alloc(&f->driver, 128, 16);
	f->answer_gpa = mock_alloc(&f->driver, 1024, 16);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	iova_unit_free(f->unit);
}

/* Sends it with room for `room` bytes; the status, which is expected at byte `at`. */
static uint8_t request(struct fixture *f, const void *bytes, uint32_t len, uint32_t room,
		       uint32_t at)
{
	const struct mock_buf bufs[] = { { f->request_gpa, len, false },
					 { f->answer_gpa, room, true } };

	g_assert_cmpint(guest_write(&f->driver.mem, f->request_gpa, bytes, len), ==, 0);
	g_assert_cmpint(guest_fill(&f->driver.mem, f->answer_gpa, 0xee, 1024), ==, 0);
	g_assert_cmpuint(mock_queue_do(&f->driver.queues[0], bufs, 2), ==, at + 4);
	return mock_read_u8(&f->driver, f->answer_gpa + at);
}

static uint8_t attach(struct fixture *f, uint32_t domain, uint32_t endpoint, uint32_t flags)
{
	uint8_t b[20] = { VIRTIO_IOMMU_T_ATTACH };

	bytes_put_le(b + 4, 4, domain);
	bytes_put_le(b + 8, 4, endpoint);
	bytes_put_le(b + 12, 4, flags);
	return request(f, b, sizeof(b), 4, 0);
}

static uint8_t map(struct fixture *f, uint32_t domain, uint64_t start, uint64_t end, uint64_t gpa,
		   uint32_t flags)
{
	uint8_t b[36] = { VIRTIO_IOMMU_T_MAP };

	bytes_put_le(b + 4, 4, domain);
	bytes_put_le(b + 8, 8, start);
	bytes_put_le(b + 16, 8, end);
	bytes_put_le(b + 24, 8, gpa);
	bytes_put_le(b + 32, 4, flags);
	return request(f, b, sizeof(b), 4, 0);
}

static void test_requests(void)
{
	uint8_t unmap[28] = { VIRTIO_IOMMU_T_UNMAP }, detach[20] = { VIRTIO_IOMMU_T_DETACH };
	uint8_t unknown[4] = { 77 }, short_map[20] = { VIRTIO_IOMMU_T_MAP };
	struct fixture f;

	setup(&f);
	g_assert_cmpuint(attach(&f, 5, 0x20, 0), ==, VIRTIO_IOMMU_S_NOENT);
	g_assert_cmpuint(attach(&f, 5, ENDPOINT, 2), ==, VIRTIO_IOMMU_S_INVAL);
	g_assert_cmpuint(attach(&f, 5, ENDPOINT, 0), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpuint(attach(&f, 5, ENDPOINT, 1), ==, VIRTIO_IOMMU_S_INVAL);
	g_assert_cmpuint(map(&f, 6, 0, PAGE - 1, 0, 3), ==, VIRTIO_IOMMU_S_NOENT);
	g_assert_cmpuint(map(&f, 5, 0, PAGE - 1, 0, 7), ==, VIRTIO_IOMMU_S_INVAL);
	g_assert_cmpuint(map(&f, 5, 0, PAGE, 0, 3), ==, VIRTIO_IOMMU_S_RANGE);
	g_assert_cmpuint(map(&f, 5, 0, 2 * PAGE - 1, 0, 3), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpuint(map(&f, 5, PAGE, 2 * PAGE - 1, 0, 3), ==, VIRTIO_IOMMU_S_INVAL);
	bytes_put_le(unmap + 4, 4, 5);
	bytes_put_le(unmap + 16, 8, PAGE - 1);
	g_assert_cmpuint(request(&f, unmap, sizeof(unmap), 4, 0), ==, VIRTIO_IOMMU_S_RANGE);
	bytes_put_le(unmap + 16, 8, UINT64_MAX);
	g_assert_cmpuint(request(&f, unmap, sizeof(unmap), 4, 0), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpuint(iova_n_mappings(f.unit), ==, 0);
	unmap[24] = 1; /* reserved */
	g_assert_cmpuint(request(&f, unmap, sizeof(unmap), 4, 0), ==, VIRTIO_IOMMU_S_INVAL);
	g_assert_cmpuint(request(&f, unknown, sizeof(unknown), 64, 0), ==, VIRTIO_IOMMU_S_UNSUPP);
	g_assert_cmpuint(request(&f, short_map, sizeof(short_map), 4, 0), ==, VIRTIO_IOMMU_S_INVAL);
	bytes_put_le(detach + 4, 4, 5);
	bytes_put_le(detach + 8, 4, ENDPOINT);
	g_assert_cmpuint(request(&f, detach, sizeof(detach), 4, 0), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpuint(request(&f, detach, sizeof(detach), 4, 0), ==, VIRTIO_IOMMU_S_INVAL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "maps"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "unmaps"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "refused"), >=, 8);
	/* a reset by the driver takes all away but the bypass field */
	g_assert_cmpuint(attach(&f, 5, ENDPOINT, 0), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpuint(map(&f, 5, 0, PAGE - 1, 0, 3), ==, VIRTIO_IOMMU_S_OK);
	iova_set_bypass(f.unit, false);
	mock_driver_reset(&f.driver);
	g_assert_cmpuint(iova_n_mappings(f.unit), ==, 0);
	g_assert_false(iova_get_bypass(f.unit));
	virtio_iommu_power_on(f.driver.dev);
	g_assert_true(iova_get_bypass(f.unit));
	teardown(&f);
}

static void test_probe(void)
{
	const uint32_t size = VIRTIO_IOMMU_PROBE_SIZE;
	uint8_t b[72] = { VIRTIO_IOMMU_T_PROBE }, got[28];
	struct fixture f;

	setup(&f);
	g_assert_cmphex(bytes_get_le(f.driver.dev->config + 32, 4), ==, size);
	g_assert_cmphex(bytes_get_le(f.driver.dev->config + 16, 8), ==, (1ULL << 48) - 1);
	bytes_put_le(b + 4, 4, ENDPOINT);
	g_assert_cmpuint(request(&f, b, sizeof(b), size + 4, size), ==, VIRTIO_IOMMU_S_OK);
	mock_read(&f.driver, f.answer_gpa, got, sizeof(got));
	g_assert_cmpuint(bytes_get_le(got, 2), ==, VIRTIO_IOMMU_PROBE_T_RESV_MEM);
	g_assert_cmpuint(bytes_get_le(got + 2, 2), ==, 20);
	g_assert_cmpuint(got[4], ==, VIRTIO_IOMMU_RESV_MEM_T_MSI);
	g_assert_cmphex(bytes_get_le(got + 8, 8), ==, 0xfee00000);
	g_assert_cmphex(bytes_get_le(got + 16, 8), ==, 0xfeefffff);
	g_assert_cmphex(bytes_get_le(got + 24, 4), ==, 0); /* NONE: the end of the list */
	bytes_put_le(b + 4, 4, 1);
	g_assert_cmpuint(request(&f, b, sizeof(b), size + 4, size), ==, VIRTIO_IOMMU_S_NOENT);
	g_assert_cmpuint(request(&f, b, sizeof(b), size, 0), ==, VIRTIO_IOMMU_S_INVAL);
	teardown(&f);
}

static void test_malformed(void)
{
	const struct mock_buf no_room[] = { { 0x100, 20, false }, { 0x200, 3, true } };
	const struct mock_buf no_head[] = { { 0x100, 3, false }, { 0x200, 4, true } };
	const struct mock_buf *const cases[] = { no_room, no_head };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct fixture f;

		setup(&f);
		mock_queue_add(&f.driver.queues[0], cases[i], 2);
		mock_queue_kick(&f.driver.queues[0]);
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
		mock_driver_start(&f.driver, FEATURES);
		g_assert_cmpuint(attach(&f, 5, ENDPOINT, 0), ==, VIRTIO_IOMMU_S_OK);
		teardown(&f);
	}
}

/* An address that is not mapped: the driver is told where and how, as buffers come. */
static void test_fault_events(void)
{
	struct mock_buf buf = { 0, 24, true };
	uint64_t gpa = 0, len = 0;
	uint8_t got[24];
	struct fixture f;

	setup(&f);
	buf.gpa = mock_alloc(&f.driver, 24, 16);
	g_assert_cmpuint(attach(&f, 5, ENDPOINT, 0), ==, VIRTIO_IOMMU_S_OK);
	g_assert_cmpint(iova_translate(f.ep, 0x123000, 8, IOVA_WRITE, &gpa, &len), ==, -EFAULT);
	for (unsigned int i = 0; i < 100; i++) /* more than are kept */
		g_assert_cmpint(iova_translate(f.ep, i, 8, IOVA_READ, &gpa, &len), ==, -EFAULT);
	g_assert_cmpuint(mock_queue_do(&f.driver.queues[1], &buf, 1), ==, 24);
	mock_read(&f.driver, buf.gpa, got, sizeof(got));
	g_assert_cmpuint(got[0], ==, VIRTIO_IOMMU_FAULT_R_MAPPING);
	g_assert_cmphex(bytes_get_le(got + 4, 4), ==, 0x102);
	g_assert_cmphex(bytes_get_le(got + 8, 4), ==, ENDPOINT);
	g_assert_cmphex(bytes_get_le(got + 16, 8), ==, 0x123000);
	for (unsigned int i = 0; i < 15; i++)
		g_assert_cmpuint(mock_queue_do(&f.driver.queues[1], &buf, 1), ==, 24);
	g_assert_true(mock_queue_idle(&f.driver.queues[1]));
	g_assert_cmpuint(mock_driver_counter(&f.driver, "faults"), ==, 101);
	teardown(&f);
}

/* --- a device behind it ------------------------------------------------------------------- */

struct behind {
	struct mock_driver driver;
	struct iova_unit *unit;
	struct iova_endpoint *ep;
};

/* Rings where they are in memory (identity), for the mock driver finds them there too. */
static void behind_setup(struct behind *b, uint64_t identity)
{
	const struct virtio_rng_params params = { .id = "_rng", .fd = -EBADF };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	*b = (struct behind){ .unit = iova_unit_new(64) };
	if (iova_endpoint_add(b->unit, ENDPOINT, &b->ep) < 0 ||
	    virtio_rng_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&b->driver, dev, 4 << 20);
	dev->iova = b->ep;
	g_assert_cmpint(iova_attach(b->unit, 1, ENDPOINT, false), ==, 0);
	g_assert_cmpint(iova_map(b->unit, 1, 0, identity - 1, 0, IOVA_READ | IOVA_WRITE), ==, 0);
}

static void behind_teardown(struct behind *b)
{
	mock_driver_deinit(&b->driver);
	iova_unit_free(b->unit);
}

static bool is_zero(struct behind *b, uint64_t gpa, size_t len)
{
	g_autofree uint8_t *got = g_malloc(len);

	mock_read(&b->driver, gpa, got, len);
	for (size_t i = 0; i < len; i++)
		if (got[i])
			return false;
	return true;
}

#define RING_FEATURES                                                                              \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

/* A buffer of two pages that lie the other way round in memory. */
static void test_behind(void)
{
	const uint64_t far = 0x7000000000ULL, one = 0x200000, two = 0x100000;
	struct mock_buf buf = { far + PAGE - 32, 64, true };
	struct behind b;

	behind_setup(&b, 64 << 10);
	mock_driver_start(&b.driver, RING_FEATURES);
	g_assert_cmpint(iova_map(b.unit, 1, far, far + PAGE - 1, one, IOVA_WRITE), ==, 0);
	g_assert_cmpint(iova_map(b.unit, 1, far + PAGE, far + 2 * PAGE - 1, two, IOVA_WRITE), ==,
			0);
	g_assert_cmpuint(mock_queue_do(&b.driver.queues[0], &buf, 1), ==, 64);
	g_assert_false(is_zero(&b, one + PAGE - 32, 32));
	g_assert_false(is_zero(&b, two, 32));
	g_assert_true(is_zero(&b, one, PAGE - 32));
	g_assert_true(is_zero(&b, two + 32, PAGE - 32));
	/* the same through an indirect table, whose address is translated too */
	mock_queue_add_indirect(&b.driver.queues[0], &buf, 1);
	mock_queue_kick(&b.driver.queues[0]);
	mock_queue_wait(&b.driver.queues[0], NULL);
	behind_teardown(&b);
}

static void test_behind_unmapped(void)
{
	const struct mock_buf outside[] = {
		{ 0x100000, 16, true },        /* not mapped */
		{ (64 << 10) - 8, 16, true },  /* its end is not */
		{ UINT64_MAX - 8, 16, true },  /* wraps */
		{ 0x8000000000ULL, 16, true }, /* mapped, but for reading */
		{ 0x8000001000ULL, 16, true }, /* mapped to where no memory is */
	};

	for (size_t i = 0; i < G_N_ELEMENTS(outside); i++) {
		struct behind b;

		behind_setup(&b, 64 << 10);
		mock_driver_start(&b.driver, RING_FEATURES);
		g_assert_cmpint(iova_map(b.unit, 1, 0x8000000000ULL, 0x8000000fffULL, 0, IOVA_READ),
				==, 0);
		g_assert_cmpint(iova_map(b.unit, 1, 0x8000001000ULL, 0x8000001fffULL, 1ULL << 40,
					 IOVA_WRITE),
				==, 0);
		mock_queue_add(&b.driver.queues[0], &outside[i], 1);
		mock_queue_kick(&b.driver.queues[0]);
		mock_driver_wait_broken(&b.driver);
		behind_teardown(&b);
	}
}

/* Rings that are nowhere, or in pieces, break the device when it is to start. */
static void test_behind_rings(void)
{
	struct err err = { 0 };
	struct behind b;

	behind_setup(&b, 1 << 20);
	iova_unmap(b.unit, 1, 0, UINT64_MAX);
	g_assert_cmpint(mock_driver_try_start(&b.driver, RING_FEATURES, &err), ==, -EBADMSG);
	g_assert_nonnull(strstr(err.msg, "is not mapped by the IOMMU"));
	behind_teardown(&b);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/iova/attach", test_attach);
	g_test_add_func("/virtio/iova/map", test_map);
	g_test_add_func("/virtio/iova/translate", test_translate);
	g_test_add_func("/virtio/iova/limit", test_limit);
	g_test_add_func("/virtio/iova/race", test_race);
	g_test_add_func("/virtio/iova/save-load", test_save_load);
	g_test_add_func("/virtio/iova/save-load/full", test_save_load_full);
	g_test_add_func("/virtio/iova/load/hostile", test_load_hostile);
	g_test_add_func("/virtio/iommu/state", test_device_state);
	g_test_add_func("/virtio/iommu/requests", test_requests);
	g_test_add_func("/virtio/iommu/probe", test_probe);
	g_test_add_func("/virtio/iommu/malformed", test_malformed);
	g_test_add_func("/virtio/iommu/fault-events", test_fault_events);
	g_test_add_func("/virtio/iommu/behind", test_behind);
	g_test_add_func("/virtio/iommu/behind-unmapped", test_behind_unmapped);
	g_test_add_func("/virtio/iommu/behind-rings", test_behind_rings);
	return g_test_run();
}
