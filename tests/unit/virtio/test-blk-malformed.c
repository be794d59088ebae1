/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk, malformed chains: the device breaks, the process does not, a reset heals
 */
#include "tests/unit/virtio/blk-fixture.h"

static void bad_half_header(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0), status(f) };

	bufs[0].len = 15;
	mock_queue_add(f->mq, bufs, 2);
}

static void bad_no_status(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_FLUSH, 0) };

	mock_queue_add(f->mq, bufs, 1);
}

static void bad_header_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { { 1ULL << 40, 16, false }, status(f) };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_data_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0),
				   { UINT64_MAX - 511, 512, true },
				   status(f) };

	mock_queue_add(f->mq, bufs, 3);
}

static void bad_data_leaves_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0),
				   { (16 << 20) - 512, 1024, true },
				   status(f) };

	mock_queue_add(f->mq, bufs, 3);
}

static void bad_status_outside_ram(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_FLUSH, 0), { 16 << 20, 1, true } };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_status_outside_ram_refused(struct fixture *f)
{
	struct mock_buf bufs[] = { header(f, 1234, 0), { 16 << 20, 1, true } };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_order(struct fixture *f)
{
	struct mock_buf bufs[] = { status(f), header(f, VIRTIO_BLK_T_FLUSH, 0) };

	mock_queue_add(f->mq, bufs, 2);
}

static void bad_loop(struct fixture *f)
{
	struct mock_buf h = header(f, VIRTIO_BLK_T_IN, 0);

	mock_queue_set_desc(f->mq, 0, h.gpa, 16, VIRTQ_DESC_F_NEXT, 1);
	mock_queue_set_desc(f->mq, 1, h.gpa, 16, VIRTQ_DESC_F_NEXT, 0);
	mock_queue_publish(f->mq, 0);
}

static void bad_head(struct fixture *f)
{
	mock_queue_publish(f->mq, QUEUE_SIZE);
}

static void bad_avail_idx(struct fixture *f)
{
	mock_queue_set_avail_idx(f->mq, QUEUE_SIZE + 1);
}

/* The same head made available again before it came back. */
static void bad_duplicate_head(struct fixture *f)
{
	uint64_t gpa = mock_alloc(&f->driver, 512, 512);
	struct mock_buf bufs[] = { header(f, VIRTIO_BLK_T_IN, 0), { gpa, 512, true }, status(f) };
	uint16_t head = mock_queue_add(f->mq, bufs, 3);

	mock_queue_publish(f->mq, head);
}

static void test_malformed(const void *engine)
{
	static const struct {
		const char *name;
		void (*make)(struct fixture *f);
	} cases[] = {
		{ "half a header", bad_half_header },
		{ "no status byte", bad_no_status },
		{ "header outside RAM", bad_header_outside_ram },
		{ "data outside RAM", bad_data_outside_ram },
		{ "data leaves RAM", bad_data_leaves_ram },
		{ "status outside RAM", bad_status_outside_ram },
		{ "status outside RAM, refused request", bad_status_outside_ram_refused },
		{ "writable before readable", bad_order },
		{ "loop", bad_loop },
		{ "head beyond the table", bad_head },
		{ "index too far ahead", bad_avail_idx },
		{ "duplicate head", bad_duplicate_head },
	};
	struct fixture f = { 0 };
	uint64_t gpa;

	setup(&f, engine, false, 1);
	gpa = mock_alloc(&f.driver, 512, 512);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("%s", cases[i].name);
		mock_driver_start(&f.driver, FEATURES_ALL);
		cases[i].make(&f);
		mock_queue_kick(f.mq);
		mock_driver_wait_broken(&f.driver);
		/* a broken device takes nothing more */
		mock_queue_kick(f.mq);
		mock_driver_reset(&f.driver);
		g_assert_false(virtio_device_is_broken(f.driver.dev));
		mock_driver_start(&f.driver, FEATURES_ALL);
		g_assert_cmpuint(request(&f, VIRTIO_BLK_T_IN, 0, gpa, 512, true, NULL), ==,
				 VIRTIO_BLK_S_OK);
		mock_driver_reset(&f.driver);
	}
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_for_engines("malformed", test_malformed);
	return g_test_run();
}
