/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon from the driver's side: memory that the host really has back
 */
#include "vmm/virtio/balloon.h"

#include <glib.h>
#include <linux/virtio_balloon.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define FEATURES_MIN VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define RAM          (16 * MIB)
#define LENT_GPA     (8 * MIB) /* mock_alloc() does not get there */
#define PAGE         4096U

struct fixture {
	struct mock_driver driver;
	struct virtio_device *dev;
	struct mock_queue *queues;
};

static void setup(struct fixture *f, bool reporting, unsigned int interval)
{
	const struct virtio_balloon_params params = { .id = "__balloon",
						      .size = 2 * MIB,
						      .deflate_on_oom = true,
						      .free_page_reporting = reporting,
						      .statistics_interval = interval };
	struct err err = { 0 };

	if (virtio_balloon_new(&params, &f->dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, f->dev, RAM);
	f->queues = f->driver.queues;
}

/* How many pages of [gpa, gpa + len) the host holds. */
static size_t resident(struct fixture *f, uint64_t gpa, size_t len)
{
	unsigned char pages[RAM / PAGE];
	size_t n = 0;

	g_assert_cmpint(mincore(guest_range(&f->driver.mem, gpa, len, 1), len, pages), ==, 0);
	for (size_t i = 0; i < len / PAGE; i++)
		n += pages[i] & 1;
	return n;
}

static uint64_t put_pfns(struct fixture *f, const uint32_t *pfns, size_t n)
{
	g_autofree le32 *le = g_new(le32, n);

	for (size_t i = 0; i < n; i++)
		le[i] = le32_make(pfns[i]);
	return mock_put(&f->driver, le, n * sizeof(*le));
}

static uint32_t config_get(struct fixture *f, uint32_t off)
{
	uint32_t v;

	pthread_mutex_lock(&f->dev->lock);
	v = (uint32_t)bytes_get_le(f->dev->config + off, 4);
	pthread_mutex_unlock(&f->dev->lock);
	return v;
}

static void config_put(struct fixture *f, uint32_t off, uint32_t value)
{
	le32 le = le32_make(value);

	pthread_mutex_lock(&f->dev->lock);
	f->dev->ops->config_write(f->dev, off, &le, sizeof(le));
	pthread_mutex_unlock(&f->dev->lock);
}

static void touch(struct fixture *f, uint64_t gpa, size_t len)
{
	g_assert_cmpint(guest_fill(&f->driver.mem, gpa, 0xaa, len), ==, 0);
}

/* Every order of page numbers gives back the same pages, and no others. */
static void test_inflate(void)
{
	enum {
		N = 256
	};
	uint32_t first = LENT_GPA / PAGE;

	for (unsigned int order = 0; order < 3; order++) {
		uint32_t pfns[N];
		struct mock_buf buf = { .len = sizeof(pfns) };
		struct fixture f;

		setup(&f, false, 0);
		mock_driver_start(&f.driver, FEATURES_MIN);
		touch(&f, LENT_GPA - PAGE, (N + 2) * PAGE);
		for (uint32_t i = 0; i < N; i++)
			pfns[i] = first + (order == 0 ? i : order == 1 ? N - 1 - i : i * 77 % N);
		buf.gpa = put_pfns(&f, pfns, N);
		mock_queue_do(&f.queues[0], &buf, 1);
		g_assert_cmpuint(resident(&f, LENT_GPA, N * PAGE), ==, 0);
		g_assert_cmpuint(resident(&f, LENT_GPA - PAGE, PAGE), ==, 1);
		g_assert_cmpuint(resident(&f, LENT_GPA + N * PAGE, PAGE), ==, 1);
		g_assert_cmpuint(mock_driver_counter(&f.driver, "inflated_bytes"), ==, N * PAGE);
		g_assert_cmpuint(mock_driver_counter(&f.driver, "freed_bytes"), ==, N * PAGE);
		g_assert_cmpuint(mock_driver_counter(&f.driver, "failures"), ==, 0);
		/* touched again they are there, empty */
		g_assert_cmpuint(mock_read_u8(&f.driver, LENT_GPA), ==, 0);
		mock_queue_do(&f.queues[1], &buf, 1);
		g_assert_cmpuint(mock_driver_counter(&f.driver, "deflated_bytes"), ==, N * PAGE);
		mock_driver_deinit(&f.driver);
	}
}

static void test_malformed(void)
{
	static const struct {
		uint32_t pfn, len;
		unsigned int queue;
		bool writable;
	} cases[] = {
		{ RAM / PAGE, 4, 0, false }, /* behind RAM */
		{ UINT32_MAX, 4, 0, false },
		{ 1, 3, 0, false }, /* not whole numbers */
		{ 1, 3, 1, false },
		{ 1, 0, 1, false }, /* none */
		{ 1, 4, 0, true },  /* nothing to read */
		{ 1, 4, 4, false }, /* reporting: nothing that is the device's */
		{ 1, 65537 * 4, 0, false },
		{ 1, 65537 * 4, 1, false }, /* too many to serve at once */
	};
	struct fixture f;

	setup(&f, true, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct mock_buf buf = { put_pfns(&f, &cases[i].pfn, 1), cases[i].len,
					cases[i].writable };

		mock_driver_start(&f.driver, f.dev->features_offered);
		mock_queue_add(&f.queues[cases[i].queue], &buf, 1);
		mock_queue_kick(&f.queues[cases[i].queue]);
		mock_driver_wait_broken(&f.driver);
		mock_driver_reset(&f.driver);
	}
	mock_driver_deinit(&f.driver);
}

/* A reporting queue at either of the numbers drivers use; a pattern in free pages is left alone. */
static void test_reporting(void)
{
	static const struct {
		uint64_t features;
		unsigned int queue;
		uint32_t poison;
		bool freed;
	} cases[] = {
		{ VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING), 2, 0, true },
		{ VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING) |
			  VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ),
		  3, 0, true },
		{ VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING) |
			  VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ),
		  4, 0, true },
		{ VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING) |
			  VIRTIO_FEATURE(VIRTIO_BALLOON_F_PAGE_POISON),
		  4, 0, true },
		{ VIRTIO_FEATURE(VIRTIO_BALLOON_F_REPORTING) |
			  VIRTIO_FEATURE(VIRTIO_BALLOON_F_PAGE_POISON),
		  4, 0xaaaaaaaa, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct mock_buf bufs[] = { { LENT_GPA, 2 * MIB, true },
						 { LENT_GPA + 4 * MIB, MIB, true } };
		struct fixture f;

		setup(&f, true, 0);
		mock_driver_start(&f.driver, FEATURES_MIN | cases[i].features);
		config_put(&f, 12, cases[i].poison);
		touch(&f, LENT_GPA, 5 * MIB);
		mock_queue_do(&f.queues[cases[i].queue], bufs, 2);
		g_assert_cmpuint(resident(&f, LENT_GPA, 2 * MIB), ==, cases[i].freed ? 0 : 512);
		g_assert_cmpuint(resident(&f, LENT_GPA + 2 * MIB, 2 * MIB), ==, 512);
		g_assert_cmpuint(resident(&f, LENT_GPA + 4 * MIB, MIB), ==,
				 cases[i].freed ? 0 : 256);
		g_assert_cmpuint(mock_driver_counter(&f.driver, "reported_bytes"), ==, 3 * MIB);
		mock_driver_deinit(&f.driver);
	}
}

static void test_target(void)
{
	struct virtio_balloon_figures figures;
	struct fixture f;
	uint8_t generation;

	setup(&f, false, 0);
	mock_driver_start(&f.driver, FEATURES_MIN);
	g_assert_cmpuint(config_get(&f, 0), ==, 512);
	config_put(&f, 4, 7);
	config_put(&f, 0, 99); /* the device's own */
	config_put(&f, 8, 99);
	g_assert_cmpuint(config_get(&f, 0), ==, 512);
	g_assert_cmpuint(config_get(&f, 8), ==, 0);
	virtio_balloon_get(f.dev, &figures);
	g_assert_cmpuint(figures.target, ==, 2 * MIB);
	g_assert_cmpuint(figures.actual, ==, 7 * PAGE);
	generation = f.dev->config_generation;
	virtio_balloon_set_target(f.dev, 4 * MIB);
	g_assert_cmpuint(config_get(&f, 0), ==, 1024);
	g_assert_cmpuint(f.dev->config_generation, ==, generation + 1);
	mock_driver_reset(&f.driver);
	virtio_balloon_get(f.dev, &figures);
	g_assert_cmpuint(figures.target, ==, 4 * MIB);
	g_assert_cmpuint(figures.actual, ==, 0);
	mock_driver_deinit(&f.driver);
}

static uint64_t put_stats(struct fixture *f, uint64_t free_memory)
{
	uint8_t stats[40] = { 0 };

	bytes_put_le(stats, 2, VIRTIO_BALLOON_S_MEMFREE);
	bytes_put_le(stats + 2, 8, free_memory);
	bytes_put_le(stats + 10, 2, VIRTIO_BALLOON_S_SWAP_IN);
	bytes_put_le(stats + 12, 8, UINT64_MAX); /* not known */
	bytes_put_le(stats + 20, 2, 999);
	bytes_put_le(stats + 30, 2, VIRTIO_BALLOON_S_MEMTOT);
	bytes_put_le(stats + 32, 8, 16 * MIB);
	return mock_put(&f->driver, stats, sizeof(stats));
}

static void wait_stats(struct fixture *f, uint64_t free_memory)
{
	struct virtio_balloon_figures figures;

	for (int ms = 0; ms < 10000; ms++) {
		virtio_balloon_get(f->dev, &figures);
		if (figures.stats_known && figures.stats[VIRTIO_BALLOON_S_MEMFREE] == free_memory)
			break;
		g_usleep(1000);
	}
	g_assert_cmphex(figures.stats_known, ==,
			1U << VIRTIO_BALLOON_S_MEMFREE | 1U << VIRTIO_BALLOON_S_MEMTOT);
	g_assert_cmpuint(figures.stats[VIRTIO_BALLOON_S_MEMFREE], ==, free_memory);
	g_assert_cmpuint(figures.stats_usec, >, 1000000000000000ULL);
}

/* The buffer is kept until figures are wanted: at a change of the target, and by the timer. */
static void test_statistics(void)
{
	for (unsigned int interval = 0; interval < 2; interval++) {
		struct fixture f;
		struct mock_buf buf = { .len = 40 };

		setup(&f, false, interval);
		mock_driver_start(&f.driver, f.dev->features_offered);
		buf.gpa = put_stats(&f, 1 * MIB);
		mock_queue_add(&f.queues[2], &buf, 1);
		mock_queue_kick(&f.queues[2]);
		wait_stats(&f, 1 * MIB);
		if (interval == 0) {
			g_assert_true(mock_queue_idle(&f.queues[2]));
			virtio_device_pause(f.dev);
			virtio_balloon_set_target(f.dev, 3 * MIB); /* nothing moves now */
			g_assert_true(mock_queue_idle(&f.queues[2]));
			virtio_device_resume(f.dev);
			virtio_balloon_set_target(f.dev, 4 * MIB);
		}
		mock_queue_wait(&f.queues[2], NULL);
		buf.gpa = put_stats(&f, 5 * MIB);
		mock_queue_add(&f.queues[2], &buf, 1);
		mock_queue_kick(&f.queues[2]);
		wait_stats(&f, 5 * MIB);
		/* one buffer at a time */
		mock_queue_add(&f.queues[2], &buf, 1);
		mock_queue_kick(&f.queues[2]);
		mock_driver_wait_broken(&f.driver);
		mock_driver_deinit(&f.driver);
	}
}

static void test_ranges(void)
{
	uint32_t pfns[] = { 9, 3, 4, 4, 5, 11, 10, UINT32_MAX }, at = 0, n = G_N_ELEMENTS(pfns);
	const uint64_t want[][2] = { { 3, 3 }, { 9, 3 }, { UINT32_MAX, 1 } };
	uint64_t gpa, len;

	virtio_balloon_sort(pfns, n);
	for (size_t i = 0; i < G_N_ELEMENTS(want); i++) {
		g_assert_true(virtio_balloon_range(pfns, n, &at, &gpa, &len));
		g_assert_cmpuint(gpa, ==, want[i][0] * PAGE);
		g_assert_cmpuint(len, ==, want[i][1] * PAGE);
	}
	g_assert_false(virtio_balloon_range(pfns, n, &at, &gpa, &len));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/balloon/inflate", test_inflate);
	g_test_add_func("/virtio/balloon/malformed", test_malformed);
	g_test_add_func("/virtio/balloon/reporting", test_reporting);
	g_test_add_func("/virtio/balloon/target", test_target);
	g_test_add_func("/virtio/balloon/statistics", test_statistics);
	g_test_add_func("/virtio/balloon/ranges", test_ranges);
	return g_test_run();
}
