/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rtc from the driver's side
 */
#include "vmm/virtio/rtc.h"

#include <glib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"

struct fixture {
	struct mock_driver driver;
	struct virtio_device *dev;
};

static void setup(struct fixture *f)
{
	const struct virtio_rtc_params params = { .id = "__rtc" };
	struct err err = { 0 };

	if (virtio_rtc_new(&params, &f->dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, f->dev, 8 << 20);
	mock_driver_start(&f->driver, f->dev->features_offered);
}

static struct virtio_rtc_request request(uint16_t type, uint16_t clock)
{
	return (struct virtio_rtc_request){ .type = le16_make(type), .clock = le16_make(clock) };
}

/* Returns the response's length. */
static uint32_t ask(struct fixture *f, const struct virtio_rtc_request *req, uint32_t len,
		    uint32_t room, struct virtio_rtc_response *ret)
{
	const struct mock_buf bufs[] = {
		{ mock_put(&f->driver, req, sizeof(*req)), len, false },
		{ mock_alloc(&f->driver, sizeof(*ret), 8), room, true },
	};
	uint32_t n = mock_queue_do(&f->driver.queues[0], bufs, 2);

	mock_read(&f->driver, bufs[1].gpa, ret, sizeof(*ret));
	return n;
}

static void test_read(void)
{
	const struct virtio_rtc_request cfg = request(VIRTIO_RTC_CFG, 0),
					cap = request(VIRTIO_RTC_CLOCK_CAP, 0),
					cross = request(VIRTIO_RTC_CROSS_CAP, 0),
					reading = request(VIRTIO_RTC_READ, 0);
	struct virtio_rtc_response resp;
	struct fixture f;
	uint64_t before = (uint64_t)g_get_real_time() * 1000, got;

	setup(&f);
	g_assert_cmpuint(ask(&f, &cfg, 8, 16, &resp), ==, 16);
	g_assert_cmpuint(resp.status, ==, VIRTIO_RTC_OK);
	g_assert_cmpuint(le16_get(resp.cfg.num_clocks), ==, 1);
	g_assert_cmpuint(ask(&f, &cap, 16, 16, &resp), ==, 16);
	g_assert_cmpuint(resp.status, ==, VIRTIO_RTC_OK);
	g_assert_cmpuint(resp.clock_cap.type, ==, VIRTIO_RTC_CLOCK_UTC_MAYBE_SMEARED);
	g_assert_cmpuint(ask(&f, &cross, 16, 16, &resp), ==, 16);
	g_assert_cmpuint(resp.cross_cap.flags, ==, 0);
	g_assert_cmpuint(ask(&f, &reading, 16, 16, &resp), ==, 16);
	g_assert_cmpuint(resp.status, ==, VIRTIO_RTC_OK);
	got = le64_get(resp.clock_reading);
	g_assert_cmpuint(got, >=, before);
	g_assert_cmpuint(got, <=, ((uint64_t)g_get_real_time() + 1) * 1000);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "requests"), ==, 4);
	mock_driver_deinit(&f.driver);
}

static void test_refused(void)
{
	static const struct {
		uint16_t type, clock;
		uint32_t len, room, want_len;
		uint8_t status;
	} cases[] = {
		{ VIRTIO_RTC_READ, 1, 16, 16, 16, VIRTIO_RTC_ENODEV },
		{ VIRTIO_RTC_READ, 0, 8, 16, 16, VIRTIO_RTC_EINVAL },
		{ VIRTIO_RTC_READ, 0, 3, 16, 8, VIRTIO_RTC_EINVAL },
		{ VIRTIO_RTC_READ, 0, 16, 15, 8, VIRTIO_RTC_EINVAL },
		{ VIRTIO_RTC_READ_CROSS, 0, 16, 24, 24, VIRTIO_RTC_EOPNOTSUPP },
		{ 0x1003, 0, 16, 24, 8, VIRTIO_RTC_EOPNOTSUPP },
		{ 0, 0, 16, 24, 8, VIRTIO_RTC_EOPNOTSUPP },
	};
	struct virtio_rtc_response resp;
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct virtio_rtc_request req = request(cases[i].type, cases[i].clock);

		g_assert_cmpuint(ask(&f, &req, cases[i].len, cases[i].room, &resp), ==,
				 cases[i].want_len);
		g_assert_cmpuint(resp.status, ==, cases[i].status);
		g_assert_cmpuint(le64_get(resp.clock_reading), ==, 0);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "refused"), ==, G_N_ELEMENTS(cases));
	mock_driver_deinit(&f.driver);
}

/* No room for a status. */
static void test_malformed(void)
{
	struct fixture f;
	struct mock_buf buf;

	setup(&f);
	buf = (struct mock_buf){ mock_alloc(&f.driver, 16, 8), 7, true };
	mock_queue_add(&f.driver.queues[0], &buf, 1);
	mock_queue_kick(&f.driver.queues[0]);
	mock_driver_wait_broken(&f.driver);
	mock_driver_deinit(&f.driver);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/rtc/read", test_read);
	g_test_add_func("/virtio/rtc/refused", test_refused);
	g_test_add_func("/virtio/rtc/malformed", test_malformed);
	return g_test_run();
}
