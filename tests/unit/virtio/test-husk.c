/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What answers a driver whose device was taken away
 */
#include "vmm/virtio/husk.h"

#include <errno.h>
#include <glib.h>
#include <linux/fuse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/virtio/blk.h"

#define RAM         (1UL << 20)
#define QUEUES      5
#define MQ_FEATURES (VIRTIO_FEATURE(VIRTIO_NET_F_MQ) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ))

/* As the transport does it. */
static void make_husk(struct mock_driver *d)
{
	struct virtio_device *old = d->dev, *husk = NULL;
	bool active = old->active;
	struct err err = { 0 };

	if (virtio_husk_new(old, &husk, &err) < 0)
		g_error("%s", err.msg);
	virtio_device_stop(old);
	g_assert_false(old->active);
	virtio_husk_take_queues(husk, old);
	husk->transport = old->transport;
	husk->transport_data = d;
	d->dev = husk;
	for (uint16_t i = 0; i < husk->n_queues; i++)
		d->queues[i].q = &husk->queues[i];
	old->ops->free(old);
	if (active && virtio_device_activate(husk, &err) < 0)
		g_error("%s", err.msg);
}

/* --- devices of each kind, which do nothing --- */

static int toy_activate(struct virtio_device *dev G_GNUC_UNUSED, struct err *err G_GNUC_UNUSED)
{
	return 0;
}

static void toy_kick(struct virtio_device *dev G_GNUC_UNUSED, struct virtio_queue *q G_GNUC_UNUSED)
{
}

static void toy_reset(struct virtio_device *dev G_GNUC_UNUSED)
{
}

static void toy_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
	g_free(dev);
}

static const struct virtio_device_ops toys[] = {
#define TOY(name_, id)                                                                             \
	{                                                                                          \
		.name = name_, .device_id = id, .activate = toy_activate, .kick = toy_kick,        \
		.reset = toy_reset, .free = toy_free                                               \
	}
	TOY("blk", VIRTIO_ID_BLOCK), TOY("net", VIRTIO_ID_NET),     TOY("pmem", VIRTIO_ID_PMEM),
	TOY("fs", VIRTIO_ID_FS),     TOY("vsock", VIRTIO_ID_VSOCK),
#undef TOY
};

static void start_toy(struct mock_driver *d, const char *kind, uint64_t features)
{
	static const uint16_t sizes[QUEUES] = { 16, 16, 16, 16, 16 };
	struct virtio_device *dev = g_new0(struct virtio_device, 1);
	const struct virtio_device_ops *ops = toys;
	struct err err = { 0 };

	while (strcmp(ops->name, kind) != 0)
		ops++;
	dev->features_offered = features;
	if (virtio_device_init(dev, ops, kind, sizes, QUEUES, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(d, dev, RAM);
	mock_driver_start(d, features | VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
}

#define HOLDS (-1) /* the buffer stays the device's */

/* Each byte that the driver may read is 0x11, 0x22 before that it may write. */
static const struct {
	const char *kind;
	uint64_t features;
	uint16_t queue;
	uint32_t readable, writable;
	int used;        /* bytes in the used ring, or HOLDS */
	unsigned int at; /* of the writable part */
	int32_t value;   /* there, if used is above 0 */
	unsigned int width;
} cases[] = {
	{ "blk", 0, 0, 16, 1, 1, 0, VIRTIO_BLK_S_IOERR, 1 },
	{ "blk", 0, 3, 16, 513, 1, 512, VIRTIO_BLK_S_IOERR, 1 },
	{ "net", 0, 0, 0, 1526, HOLDS, 0, 0, 0 },
	{ "net", 0, 1, 60, 0, 0, 0, 0, 0 },
	{ "net", VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ), 2, 4, 1, 1, 0, VIRTIO_NET_ERR, 1 },
	{ "net", MQ_FEATURES, 2, 0, 1526, HOLDS, 0, 0, 0 },
	{ "net", MQ_FEATURES, 3, 60, 0, 0, 0, 0, 0 },
	{ "net", MQ_FEATURES, 4, 4, 1, 1, 0, VIRTIO_NET_ERR, 1 },
	{ "pmem", 0, 0, 4, 4, 4, 0, 1, 4 },
	{ "fs", 0, 0, 48, 0, 0, 0, 0, 0 },
	{ "fs", 0, 1, 48, 4096, sizeof(struct fuse_out_header),
	  offsetof(struct fuse_out_header, error), -ENOTCONN, 4 },
	{ "fs", 0, 2, 48, 16, sizeof(struct fuse_out_header),
	  offsetof(struct fuse_out_header, unique), 0x11111111, 4 },
	{ "vsock", 0, 0, 0, 4096, HOLDS, 0, 0, 0 },
	{ "vsock", 0, 1, 44, 0, 0, 0, 0, 0 },
	{ "vsock", 0, 2, 0, 8, HOLDS, 0, 0, 0 },
};

static void test_answers(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct mock_driver d;
		struct mock_queue *mq;
		struct mock_buf bufs[2];
		uint8_t got[4] = { 0 };
		size_t n = 0;

		g_test_message("%s, queue %u, case %zu", cases[i].kind, cases[i].queue, i);
		start_toy(&d, cases[i].kind, cases[i].features);
		make_husk(&d);
		mq = &d.queues[cases[i].queue];
		if (cases[i].readable)
			bufs[n++] = (struct mock_buf){ mock_alloc(&d, 4096, 16), cases[i].readable,
						       false };
		if (n)
			g_assert_cmpint(guest_fill(&d.mem, bufs[0].gpa, 0x11, 4096), ==, 0);
		if (cases[i].writable)
			bufs[n++] = (struct mock_buf){ mock_alloc(&d, 4096, 16), cases[i].writable,
						       true };
		mock_queue_add(mq, bufs, n);
		mock_queue_kick(mq);
		if (cases[i].used == HOLDS) {
			/* Its loop has been there. */
			virtio_device_pause(d.dev);
			g_assert_true(mock_queue_idle(mq));
		} else {
			uint32_t len = 0;

			mock_queue_wait(mq, &len);
			g_assert_cmpint((int)len, ==, cases[i].used);
		}
		if (cases[i].width) {
			mock_read(&d, bufs[n - 1].gpa + cases[i].at, got, cases[i].width);
			g_assert_cmpint((int32_t)bytes_get_le(got, sizeof(got)), ==,
					cases[i].value);
		}
		g_assert_false(virtio_device_is_broken(d.dev));
		mock_driver_deinit(&d);
	}
}

/* A request that cannot carry an answer breaks the husk, like the device. */
static void test_malformed(void)
{
	static const struct {
		const char *kind;
		uint32_t readable, writable;
	} bad[] = {
		{ "blk", 16, 0 },
		{ "pmem", 4, 3 },
		{ "fs", 48, 15 },
		{ "fs", 39, 4096 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct mock_buf bufs[2];
		struct mock_driver d;

		g_test_message("%s, case %zu", bad[i].kind, i);
		start_toy(&d, bad[i].kind, 0);
		make_husk(&d);
		bufs[0] = (struct mock_buf){ mock_alloc(&d, 4096, 16), bad[i].readable, false };
		bufs[1] = (struct mock_buf){ mock_alloc(&d, 4096, 16), bad[i].writable, true };
		mock_queue_add(&d.queues[1], bufs, bad[i].writable ? 2 : 1);
		mock_queue_kick(&d.queues[1]);
		mock_driver_wait_broken(&d);
		mock_driver_deinit(&d);
	}
}

/* --- a disk that is in use --- */

static void add_read(struct mock_queue *mq, uint64_t status_gpa)
{
	struct virtio_blk_outhdr hdr = { 0 }; /* VIRTIO_BLK_T_IN, sector 0 */
	struct mock_driver *d = mq->driver;
	const struct mock_buf bufs[] = {
		{ mock_put(d, &hdr, sizeof(hdr)), sizeof(hdr), false },
		{ mock_alloc(d, 512, 512), 512, true },
		{ status_gpa, 1, true },
	};

	g_assert_cmpint(guest_fill(&d->mem, status_gpa, 0xee, 1), ==, 0);
	mock_queue_add(mq, bufs, G_N_ELEMENTS(bufs));
}

/* No request is lost: what was under way ends as a read, what comes then as an error. */
static void test_disk(void)
{
	struct virtio_blk_params params = {
		.id = "data", .n_queues = 2, .queue_size = 64, .engine = "sync"
	};
	struct virtio_device *dev = NULL;
	const unsigned int n = 20;
	struct mock_driver d;
	uint64_t gpa, features;
	struct err err = { 0 };
	char link[64];

	params.fd = memfd_create("disk", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(params.fd, 1 << 20), ==, 0);
	g_snprintf(link, sizeof(link), "/proc/self/fd/%d", params.fd);
	if (virtio_blk_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&d, dev, RAM);
	features = d.dev->features_offered;
	mock_driver_start(&d, features);
	gpa = mock_alloc(&d, n + 2, 16);
	for (unsigned int i = 0; i < n; i++)
		add_read(&d.queues[1], gpa + i);
	mock_queue_kick(&d.queues[1]);
	make_husk(&d);
	/* Nothing of the host's is left. */
	g_assert_false(g_file_test(link, G_FILE_TEST_EXISTS));
	g_assert_cmpuint(bytes_get_le(d.dev->config, 8), ==, (1 << 20) / 512);
	add_read(&d.queues[0], gpa + n);
	add_read(&d.queues[1], gpa + n + 1);
	mock_queue_kick(&d.queues[0]);
	mock_queue_kick(&d.queues[1]);
	mock_queue_wait(&d.queues[0], NULL);
	while (d.queues[1].seen_used != n + 1)
		mock_queue_wait(&d.queues[1], NULL);
	for (unsigned int i = 0; i < n; i++)
		g_assert_cmpuint(mock_read_u8(&d, gpa + i), !=, 0xee);
	g_assert_cmpuint(mock_read_u8(&d, gpa + n), ==, VIRTIO_BLK_S_IOERR);
	g_assert_cmpuint(mock_read_u8(&d, gpa + n + 1), ==, VIRTIO_BLK_S_IOERR);

	/* A driver may try it again. */
	mock_driver_reset(&d);
	mock_driver_start(&d, features);
	add_read(&d.queues[0], gpa);
	mock_queue_kick(&d.queues[0]);
	mock_queue_wait(&d.queues[0], NULL);
	g_assert_cmpuint(mock_read_u8(&d, gpa), ==, VIRTIO_BLK_S_IOERR);
	mock_driver_reset(&d);
	mock_driver_conformance(&d, features);
	mock_driver_deinit(&d);
}

/* One that nobody drives yet is driven as a husk. */
static void test_inactive(void)
{
	struct mock_driver d;
	struct mock_buf buf;

	start_toy(&d, "blk", 0);
	mock_driver_reset(&d);
	make_husk(&d);
	g_assert_false(d.dev->active);
	mock_driver_start(&d, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	buf = (struct mock_buf){ mock_alloc(&d, 16, 16), 1, true };
	mock_queue_do(&d.queues[0], &buf, 1);
	g_assert_cmpuint(mock_read_u8(&d, buf.gpa), ==, VIRTIO_BLK_S_IOERR);
	mock_driver_deinit(&d);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/husk/answers", test_answers);
	g_test_add_func("/virtio/husk/malformed", test_malformed);
	g_test_add_func("/virtio/husk/disk", test_disk);
	g_test_add_func("/virtio/husk/inactive", test_inactive);
	return g_test_run();
}
