/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device must do: resets, activations, pauses, state
 */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/devices/chardev.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/iommu.h"
#include "vmm/virtio/iova.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/pmem.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/rtc.h"
#include "vmm/virtio/vsock.h"

struct fixture {
	struct mock_driver driver;
	struct loop loop;
	struct chardev chardev;
	struct guest_mem mem; /* where pmem shows its file */
	struct iova_unit *unit;
	int wire;
	bool has_chardev;
};

static struct virtio_device *new_blk(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	struct virtio_blk_params params = {
		.id = "blk", .n_queues = 2, .queue_size = 16, .engine = "sync"
	};
	struct virtio_device *dev = NULL;

	params.fd = memfd_create("disk", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(params.fd, 1 << 20), ==, 0);
	return virtio_blk_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_net(struct fixture *f, struct err *err)
{
	struct virtio_device *dev = NULL;
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
	f->wire = pair[1];
	const struct virtio_net_params params = { .id = "net",
						  .fds = &pair[0],
						  .n_pairs = 1,
						  .queue_size = 16,
						  .mac = { 2, 0, 0, 0, 0, 1 },
						  .allow_socket = true };
	return virtio_net_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_pmem(struct fixture *f, struct err *err)
{
	const struct guest_mem_params ram = { .size = 1 << 20 };
	struct virtio_pmem_params params = { .id = "pmem", .mem = &f->mem, .gpa = 1ULL << 32 };
	struct virtio_device *dev = NULL;

	params.fd = memfd_create("pmem", MFD_CLOEXEC);
	g_assert_cmpint(ftruncate(params.fd, 2 << 20), ==, 0);
	if (guest_mem_init(&f->mem, NULL, &ram, err) < 0)
		return NULL;
	return virtio_pmem_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_rng(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	const struct virtio_rng_params params = { .id = "rng", .fd = -EBADF };
	struct virtio_device *dev = NULL;

	return virtio_rng_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_console(struct fixture *f, struct err *err)
{
	const struct virtio_console_params params = { .id = "con", .chardev = &f->chardev };
	struct virtio_device *dev = NULL;

	if (chardev_init(&f->chardev, "con", CONSOLE_MODE_TTY, -EBADF, &f->loop, err) < 0)
		return NULL;
	f->has_chardev = true;
	return virtio_console_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_balloon(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	const struct virtio_balloon_params params = { .id = "balloon",
						      .size = 1 << 20,
						      .deflate_on_oom = true,
						      .free_page_reporting = true,
						      .statistics_interval = 1 };
	struct virtio_device *dev = NULL;

	return virtio_balloon_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_iommu(struct fixture *f, struct err *err)
{
	struct virtio_iommu_params params = { .id = "iommu", .unit = iova_unit_new(64) };
	struct virtio_device *dev = NULL;

	f->unit = params.unit;
	return virtio_iommu_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_rtc(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	const struct virtio_rtc_params params = { .id = "rtc" };
	struct virtio_device *dev = NULL;

	return virtio_rtc_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_vsock(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	const struct virtio_vsock_params params = { .id = "vsock",
						    .cid = 3,
						    .listen_fds = { -EBADF, -EBADF } };
	struct virtio_device *dev = NULL;

	return virtio_vsock_new(&params, &dev, err) < 0 ? NULL : dev;
}

struct type {
	const char *path;
	struct virtio_device *(*new)(struct fixture *f, struct err *err);
};

static const struct type types[] = {
	{ "/virtio/conformance/blk", new_blk },
	{ "/virtio/conformance/net", new_net },
	{ "/virtio/conformance/pmem", new_pmem },
	{ "/virtio/conformance/rng", new_rng },
	{ "/virtio/conformance/console", new_console },
	{ "/virtio/conformance/balloon", new_balloon },
	{ "/virtio/conformance/iommu", new_iommu },
	{ "/virtio/conformance/rtc", new_rtc },
	{ "/virtio/conformance/vsock", new_vsock },
};

static const void *state_of(const struct virtio_device *dev)
{
	return dev->ops->state ? dev->ops->state_ptr((struct virtio_device *)dev) : NULL;
}

/* What a snapshot would hold is what loading it would take. */
static void check_state(const struct virtio_device *dev)
{
	struct err err = { 0 };

	if (dev->ops->state && dev->ops->state->validate &&
	    dev->ops->state->validate(state_of(dev), &err) < 0)
		g_error("%s", err.msg);
}

static void save_tables(struct virtio_device *dev, struct state_table *ret)
{
	struct err err = { 0 };

	if (dev->ops->n_tables && dev->ops->save_tables(dev, ret, &err) < 0)
		g_error("%s", err.msg);
	for (size_t i = 0; i < dev->ops->n_tables; i++)
		if (!state_desc_tiles(ret[i].desc, &err))
			g_error("%s", err.msg);
}

/* What was loaded is what is saved then. */
static void check_tables(struct virtio_device *dev)
{
	struct state_table saved[4] = { 0 }, again[4] = { 0 };
	struct err err = { 0 };

	g_assert_cmpuint(dev->ops->n_tables, <=, G_N_ELEMENTS(saved));
	save_tables(dev, saved);
	if (dev->ops->n_tables && dev->ops->load_tables(dev, saved, &err) < 0)
		g_error("%s", err.msg);
	save_tables(dev, again);
	for (size_t i = 0; i < dev->ops->n_tables; i++) {
		g_assert_cmpmem(saved[i].rows, saved[i].n * saved[i].desc->size, again[i].rows,
				again[i].n * again[i].desc->size);
		state_table_deinit(&saved[i]);
		state_table_deinit(&again[i]);
	}
}

/* pause and resume, each once or twice, leave what a snapshot holds as it was. */
static void check_pauses(struct virtio_device *dev)
{
	g_autofree struct virtio_queue_state *queues =
		g_new(struct virtio_queue_state, dev->n_queues);
	g_autofree void *state = NULL;
	size_t size = dev->ops->state ? dev->ops->state->size : 0;

	check_state(dev);
	virtio_device_pause(dev);
	check_state(dev);
	check_tables(dev);
	state = g_memdup2(state_of(dev), size);
	for (uint16_t i = 0; i < dev->n_queues; i++)
		queues[i] = dev->queues[i].st;
	for (int round = 0; round < 3; round++) {
		virtio_device_pause(dev);
		virtio_device_resume(dev);
		virtio_device_resume(dev);
		g_assert_false(virtio_device_is_broken(dev));
		virtio_device_pause(dev);
		g_assert_cmpmem(state_of(dev), size, state, size);
		for (uint16_t i = 0; i < dev->n_queues; i++)
			g_assert_cmpmem(&dev->queues[i].st, sizeof(queues[i]), &queues[i],
					sizeof(queues[i]));
	}
	virtio_device_resume(dev);
}

static void test_type(gconstpointer data)
{
	const struct type *type = data;
	const uint64_t features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	g_autofree void *power_on = NULL;
	struct virtio_device *dev;
	struct fixture f = { .wire = -EBADF };
	struct err err = { 0 };
	size_t size;

	if (loop_start(&f.loop, "shared", NULL, &err) < 0)
		g_error("%s", err.msg);
	dev = type->new (&f, &err);
	if (!dev)
		g_error("%s", err.msg);
	mock_driver_init(&f.driver, dev, 8 << 20);
	dev->shared_loop = &f.loop;
	size = dev->ops->state ? dev->ops->state->size : 0;
	power_on = g_memdup2(state_of(dev), size);
	check_state(dev);
	virtio_device_pause(dev); /* inactive: nothing to do */
	virtio_device_resume(dev);
	mock_driver_conformance(&f.driver, features);
	mock_driver_start(&f.driver, features);
	check_pauses(dev);
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, dev->features_offered);
	check_pauses(dev);
	/* none of the driver's is left */
	mock_driver_reset(&f.driver);
	check_state(dev);
	g_assert_cmpmem(state_of(dev), size, power_on, size);
	mock_driver_deinit(&f.driver);
	guest_mem_deinit(&f.mem);
	iova_unit_free(f.unit);
	if (f.has_chardev)
		chardev_deinit(&f.chardev);
	loop_stop(&f.loop);
	if (f.wire >= 0)
		close(f.wire);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
		g_test_add_data_func(types[i].path, &types[i], test_type);
	return g_test_run();
}
