/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: activation, reset and pause, also with requests in flight
 */
#include "tests/unit/virtio/blk-fixture.h"

static void test_reset_in_flight(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa, base;

	setup(&f, engine, false, 1);
	gpa = mock_alloc(&f.driver, 20 * 512, 512);
	base = f.driver.alloc_gpa;
	for (unsigned int round = 0; round < 100; round++) {
		f.driver.alloc_gpa = base;
		mock_driver_start(&f.driver, FEATURES_ALL);
		add_reads(&f, gpa, 20);
		mock_queue_kick(f.mq);
		if (round % 2)
			mock_queue_wait(f.mq, NULL);
		mock_driver_reset(&f.driver);
		g_assert_cmpuint(f.mq->q->st.next_avail, ==, 0);
	}
	teardown(&f);
}

static void test_pause_in_flight(const void *engine)
{
	struct fixture f = { 0 };
	uint64_t gpa;

	start(&f, engine, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 40 * 512, 512);
	add_reads(&f, gpa, 20);
	mock_queue_kick(f.mq);
	virtio_device_pause(f.driver.dev);
	/* Whatever was taken has come back: the saved indexes tell the whole truth. */
	g_assert_cmpuint(f.mq->q->st.next_avail, ==, f.mq->q->st.next_used);
	while (f.mq->seen_used != f.mq->q->st.next_used)
		mock_queue_wait(f.mq, NULL);
	g_assert_true(mock_queue_idle(f.mq));
	mock_queue_kick(f.mq);
	virtio_device_resume(f.driver.dev);
	while (f.mq->seen_used != 20)
		mock_queue_wait(f.mq, NULL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "read_ops"), ==, 20);
	teardown(&f);
}

static void test_conformance(const void *engine)
{
	struct fixture f = { 0 };

	setup(&f, engine, false, 2);
	mock_driver_conformance(&f.driver, FEATURES_ALL);
	teardown(&f);
}

/* An engine that cannot be had fails the activation and leaves nothing behind. */
static void test_activate_fails(void)
{
	struct fixture f = { 0 };
	struct err err = { 0 };

	setup(&f, "nonesuch", false, 2);
	g_assert_cmpint(mock_driver_try_start(&f.driver, FEATURES_ALL, &err), ==, -EINVAL);
	g_assert_nonnull(strstr(err.msg, "'_disk0'"));
	g_assert_nonnull(strstr(err.msg, "there is no I/O engine 'nonesuch'"));
	g_assert_false(f.driver.dev->active);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	add_for_engines("reset-in-flight", test_reset_in_flight);
	add_for_engines("pause-in-flight", test_pause_in_flight);
	add_for_engines("conformance", test_conformance);
	g_test_add_func("/virtio/blk/activate-fails", test_activate_fails);
	return g_test_run();
}
