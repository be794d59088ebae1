/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device must do: resets, activations, pauses, state.  A kind of
 * device that a configuration can have and this test has not fails it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/config/tables.h"
#include "vmm/devices/chardev.h"
#include "vmm/net/vhost.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/iommu.h"
#include "vmm/virtio/iova.h"
#include "vmm/virtio/mem.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/pmem.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/rtc.h"
#include "vmm/virtio/vhost-user-abi.h"
#include "vmm/virtio/vsock.h"

#define PAIRS 3

struct fixture {
	struct mock_driver driver;
	struct loop loop;
	struct chardev chardev;
	struct guest_mem mem; /* where pmem shows its file */
	struct iova_unit *unit;
	int wires[PAIRS];
	bool has_chardev;
	pthread_t backend; /* fs */
	int backend_fd;
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

/* The kernel's vhost, which serves nothing: what it was given last is where it stands. */
static int vhost_call(int fd G_GNUC_UNUSED, unsigned long request, void *arg)
{
	static unsigned int base[VHOST_NET_QUEUES_N_];
	struct vhost_vring_state *state = arg;

	if (request == VHOST_GET_FEATURES)
		*(uint64_t *)arg = VHOST_NET_RING_FEATURES | 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;
	else if (request == VHOST_SET_VRING_BASE)
		base[state->index] = state->num;
	else if (request == VHOST_GET_VRING_BASE)
		state->num = base[state->index];
	return 0;
}

static struct virtio_device *make_net(struct fixture *f, enum virtio_net_wire wire, bool vhost,
				      uint16_t n_pairs, struct err *err)
{
	int type = wire == VIRTIO_NET_WIRE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
	struct virtio_device *dev = NULL;
	int fds[PAIRS], vhost_fds[PAIRS];
	const struct virtio_net_params params = { .id = "net",
						  .wire = wire,
						  .fds = fds,
						  .vhost_fds = vhost ? vhost_fds : NULL,
						  .n_pairs = n_pairs,
						  .queue_size = 16,
						  .mac = { 2, 0, 0, 0, 0, 1 },
						  .allow_socket = true,
						  .vhost_call = vhost_call };

	for (uint16_t i = 0; i < n_pairs; i++) {
		int pair[2];

		g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), ==, 0);
		fds[i] = pair[0];
		f->wires[i] = pair[1];
		vhost_fds[i] = vhost ? open("/dev/null", O_RDWR | O_CLOEXEC) : -EBADF;
	}
	return virtio_net_new(&params, &dev, err) < 0 ? NULL : dev;
}

static struct virtio_device *new_net(struct fixture *f, struct err *err)
{
	return make_net(f, VIRTIO_NET_WIRE_TAP, false, 1, err);
}

static struct virtio_device *new_net_pairs(struct fixture *f, struct err *err)
{
	return make_net(f, VIRTIO_NET_WIRE_TAP, false, PAIRS, err);
}

static struct virtio_device *new_net_stream(struct fixture *f, struct err *err)
{
	return make_net(f, VIRTIO_NET_WIRE_STREAM, false, 1, err);
}

static struct virtio_device *new_net_vhost(struct fixture *f, struct err *err)
{
	return make_net(f, VIRTIO_NET_WIRE_TAP, true, 1, err);
}

/* A virtiofsd that takes everything and serves nothing, until the device closes its end. */
static void *run_backend(void *data)
{
	struct fixture *f = data;
	uint32_t base[2] = { 0 };
	struct vhost_user_header h;
	union vhost_user_payload p;

	/* What descriptors come with them is closed by not being asked for. */
	while (recv(f->backend_fd, &h, sizeof(h), MSG_WAITALL) == (ssize_t)sizeof(h)) {
		bool reply = h.flags & VHOST_USER_NEED_REPLY;

		g_assert_cmpuint(h.size, <=, sizeof(p));
		if (h.size && recv(f->backend_fd, &p, h.size, MSG_WAITALL) != (ssize_t)h.size)
			break;
		h.size = sizeof(p.u64);
		if (h.request == VHOST_USER_GET_FEATURES) {
			p.u64 = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				VIRTIO_FEATURE(VHOST_USER_F_PROTOCOL_FEATURES);
		} else if (h.request == VHOST_USER_GET_PROTOCOL_FEATURES) {
			p.u64 = UINT64_MAX;
		} else if (h.request == VHOST_USER_GET_QUEUE_NUM) {
			p.u64 = G_N_ELEMENTS(base);
		} else if (h.request == VHOST_USER_GET_VRING_BASE) {
			p.state.num = base[p.state.index % G_N_ELEMENTS(base)];
		} else {
			if (h.request == VHOST_USER_SET_VRING_BASE)
				base[p.state.index % G_N_ELEMENTS(base)] = p.state.num;
			if (!reply)
				continue;
			p.u64 = 0;
		}
		h.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
		if (send(f->backend_fd, &h, sizeof(h), MSG_NOSIGNAL) < 0 ||
		    send(f->backend_fd, &p, h.size, MSG_NOSIGNAL) < 0)
			break;
	}
	close(f->backend_fd);
	return NULL;
}

static struct virtio_device *new_fs(struct fixture *f, struct err *err)
{
	struct virtio_fs_params params = {
		.id = "fs", .tag = "shared", .n_queues = 1, .queue_size = 16
	};
	struct virtio_device *dev = NULL;
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	params.fd = pair[0];
	f->backend_fd = pair[1];
	g_assert_cmpint(pthread_create(&f->backend, NULL, run_backend, f), ==, 0);
	return virtio_fs_new(&params, &dev, err) < 0 ? NULL : dev;
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

static void ignore(void *data G_GNUC_UNUSED)
{
}

static struct virtio_device *new_mem(struct fixture *f G_GNUC_UNUSED, struct err *err)
{
	const struct virtio_mem_params params = { .id = "mem",
						  .gpa = 1ULL << 32,
						  .size = 128 << 20,
						  .block = VIRTIO_MEM_BLOCK_MIN,
						  .requested = 64 << 20,
						  .node = -1,
						  .changed = ignore };
	struct virtio_device *dev = NULL;

	return virtio_mem_new(&params, &dev, err) < 0 ? NULL : dev;
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
	const char *key; /* of the configuration */
	/* NULL: it is no virtio device */
	struct virtio_device *(*new)(struct fixture *f, struct err *err);
};

static const struct type types[] = {
	{ "/virtio/conformance/blk", "disks", new_blk },
	{ "/virtio/conformance/net", "net", new_net },
	{ "/virtio/conformance/net-pairs", "net", new_net_pairs },
	{ "/virtio/conformance/net-stream", "net", new_net_stream },
	{ "/virtio/conformance/net-vhost", "net", new_net_vhost },
	{ "/virtio/conformance/fs", "fs", new_fs },
	{ "/virtio/conformance/pmem", "pmem", new_pmem },
	{ "/virtio/conformance/rng", "rng", new_rng },
	{ "/virtio/conformance/console", "console", new_console },
	{ "/virtio/conformance/balloon", "balloon", new_balloon },
	{ "/virtio/conformance/mem", "memory", new_mem },
	{ "/virtio/conformance/iommu", "iommu", new_iommu },
	{ "/virtio/conformance/rtc", "rtc", new_rtc },
	{ "/virtio/conformance/vsock", "vsock", new_vsock },
	{ NULL, "pvpanic", NULL }, /* tests/unit/devices/test-pvpanic.c */
};

/* Each kind of device is in the list above. */
static void test_all(void)
{
	unsigned int n_kinds = 0;

	for (size_t i = 0; i < vm_table.n_fields; i++) {
		const char *key = vm_table.fields[i].key;
		bool listed = false;

		if (!config_is_device_key(key))
			continue;
		n_kinds++;
		for (size_t j = 0; j < G_N_ELEMENTS(types); j++)
			listed = listed || strcmp(types[j].key, key) == 0;
		if (!listed)
			g_error("'%s' is a kind of device that no row of this test makes", key);
	}
	g_assert_cmpuint(n_kinds, >=, 11);
}

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
	g_autofree struct fixture *f = g_new0(struct fixture, 1);
	struct err err = { 0 };
	size_t size;

	f->backend_fd = -EBADF;
	for (size_t i = 0; i < G_N_ELEMENTS(f->wires); i++)
		f->wires[i] = -EBADF;
	if (loop_start(&f->loop, "shared", NULL, &err) < 0)
		g_error("%s", err.msg);
	dev = type->new (f, &err);
	if (!dev)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 8 << 20);
	/* For who else serves queues. Nobody maps it here: that there is a descriptor counts. */
	f->driver.mem.regions[0].fd = memfd_create("ram", MFD_CLOEXEC);
	dev->shared_loop = &f->loop;
	size = dev->ops->state ? dev->ops->state->size : 0;
	power_on = g_memdup2(state_of(dev), size);
	check_state(dev);
	virtio_device_pause(dev); /* inactive: nothing to do */
	virtio_device_resume(dev);
	mock_driver_conformance(&f->driver, features);
	mock_driver_start(&f->driver, features);
	check_pauses(dev);
	mock_driver_reset(&f->driver);
	mock_driver_start(&f->driver, dev->features_offered);
	check_pauses(dev);
	/* none of the driver's is left */
	mock_driver_reset(&f->driver);
	check_state(dev);
	g_assert_cmpmem(state_of(dev), size, power_on, size);
	mock_driver_deinit(&f->driver);
	guest_mem_deinit(&f->mem);
	iova_unit_free(f->unit);
	if (f->has_chardev)
		chardev_deinit(&f->chardev);
	loop_stop(&f->loop);
	for (size_t i = 0; i < G_N_ELEMENTS(f->wires); i++)
		if (f->wires[i] >= 0)
			close(f->wires[i]);
	if (f->backend_fd >= 0)
		pthread_join(f->backend, NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/conformance/all", test_all);
	for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
		if (types[i].new)
			g_test_add_data_func(types[i].path, &types[i], test_type);
	return g_test_run();
}
