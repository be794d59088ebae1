/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net's other ends from the driver's side: a stream socket, the kernel
 * (played by this test), and the link's state with each of them.
 */
#include "vmm/virtio/net.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/net/vhost.h"

#define QUEUE_SIZE 64U
#define HDR        12U
#define FEATURE(n) VIRTIO_FEATURE(VIRTIO_NET_F_##n)
#define FEATURES                                                                                   \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |            \
	 FEATURE(MAC) | FEATURE(STATUS) | FEATURE(CTRL_VQ) | FEATURE(MRG_RXBUF) |                  \
	 FEATURE(GUEST_ANNOUNCE))

/* An errno that sendmsg(2) has for the stream, or 0. */
static atomic_int sendmsg_fails;

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	errno = atomic_load(&sendmsg_fails);
	return errno ? -1 : syscall(SYS_sendmsg, fd, msg, flags);
}

enum kind {
	STREAM,
	DATAGRAM, /* what stands for a tap */
	VHOST,
};

struct fixture {
	struct mock_driver driver;
	struct mock_queue *rx, *tx, *ctrl;
	int wire;
};

/* --- the kernel's part, as vhost.h asks for it; control thread only --- */

static struct {
	unsigned long requests[64];
	unsigned int n;
	int backend[2];
	uint16_t base[2];
	int call_fd[2], kick_fd[2], err_fd[2];
	uint64_t features_offered, features;
	unsigned int n_regions;
	unsigned long fail;
} kernel;

static int kernel_call(int fd, unsigned long request, void *arg)
{
	const struct vhost_vring_file *file = arg;
	struct vhost_vring_state *state = arg;

	(void)fd;
	if (kernel.n < G_N_ELEMENTS(kernel.requests))
		kernel.requests[kernel.n++] = request;
	if (request == kernel.fail)
		return -EINVAL;
	switch (request) {
	case VHOST_GET_FEATURES:
		*(uint64_t *)arg = kernel.features_offered;
		break;
	case VHOST_SET_FEATURES:
		kernel.features = *(uint64_t *)arg;
		break;
	case VHOST_SET_MEM_TABLE:
		kernel.n_regions = ((struct vhost_memory *)arg)->nregions;
		break;
	case VHOST_SET_VRING_BASE:
		/* the kernel says EBUSY while the queue is connected */
		g_assert_cmpint(kernel.backend[state->index], ==, -1);
		kernel.base[state->index] = (uint16_t)state->num;
		break;
	case VHOST_GET_VRING_BASE:
		state->num = kernel.base[state->index];
		break;
	case VHOST_SET_VRING_KICK:
		kernel.kick_fd[file->index] = file->fd;
		break;
	case VHOST_SET_VRING_CALL:
		kernel.call_fd[file->index] = file->fd;
		break;
	case VHOST_SET_VRING_ERR:
		kernel.err_fd[file->index] = file->fd;
		break;
	case VHOST_NET_SET_BACKEND:
		kernel.backend[file->index] = file->fd;
		break;
	default:
		break;
	}
	return 0;
}

static void kernel_init(void)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.backend[0] = kernel.backend[1] = -1;
	kernel.features_offered = VHOST_NET_RING_FEATURES | 1ULL << VHOST_NET_F_VIRTIO_NET_HDR;
}

/* --- fixture --- */

static int new_device(struct fixture *f, enum kind kind, struct virtio_device **ret,
		      struct err *err)
{
	int type = kind == STREAM ? SOCK_STREAM : SOCK_SEQPACKET, pair[2], vhost, r;
	struct virtio_net_params params = {
		.id = "_net1",
		.wire = kind == STREAM ? VIRTIO_NET_WIRE_STREAM : VIRTIO_NET_WIRE_TAP,
		.fds = pair,
		.vhost_fds = kind == VHOST ? &vhost : NULL,
		.n_pairs = 1,
		.queue_size = QUEUE_SIZE,
		.mac = { 0x52, 0x54, 0, 1, 2, 3 },
		.allow_socket = true,
		.vhost_call = kernel_call,
	};

	g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), ==, 0);
	f->wire = pair[1];
	vhost = kind == VHOST ? open("/dev/null", O_RDWR | O_CLOEXEC) : -EBADF;
	r = virtio_net_new(&params, ret, err);
	if (r < 0) {
		/* they are still the caller's */
		g_assert_cmpint(close(pair[0]), ==, 0);
		if (kind == VHOST)
			g_assert_cmpint(close(vhost), ==, 0);
		close(f->wire);
	}
	return r;
}

static void setup(struct fixture *f, enum kind kind)
{
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	if (new_device(f, kind, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 32 << 20);
	f->rx = &f->driver.queues[0];
	f->tx = &f->driver.queues[1];
	f->ctrl = &f->driver.queues[2];
}

static void start(struct fixture *f, enum kind kind)
{
	setup(f, kind);
	mock_driver_start(&f->driver, FEATURES);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	if (f->wire >= 0)
		close(f->wire);
}

static unsigned int status(struct fixture *f)
{
	unsigned int value;

	pthread_mutex_lock(&f->driver.dev->lock);
	value = (unsigned int)bytes_get_le(f->driver.dev->config +
						   offsetof(struct virtio_net_config, status),
					   2);
	pthread_mutex_unlock(&f->driver.dev->lock);
	return value;
}

static void wait_config_interrupt(struct fixture *f)
{
	struct pollfd p = { .fd = f->driver.config_fd, .events = POLLIN };

	g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
	eventfd_take(p.fd);
}

static bool config_interrupted(struct fixture *f)
{
	return eventfd_take(f->driver.config_fd);
}

static void post_rx(struct fixture *f, uint32_t len)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, len, 16), len, true };

	mock_queue_add(f->rx, &buf, 1);
	mock_queue_kick(f->rx);
}

/* len bytes behind a header */
static void guest_sends(struct fixture *f, uint32_t len)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, HDR + len, 16), HDR + len, false };

	mock_queue_do(f->tx, &buf, 1);
}

static void stream_sends(struct fixture *f, uint32_t len)
{
	g_autofree uint8_t *bytes = g_malloc0(4 + len);
	be32 prefix = be32_make(len);

	memcpy(bytes, &prefix, 4);
	for (uint32_t i = 0; i < len; i++)
		bytes[4 + i] = (uint8_t)(i * 3);
	g_assert_cmpint(fd_write_all(f->wire, bytes, 4 + len), ==, 0);
}

/* --- a stream --- */

static void test_stream(void)
{
	uint8_t prefix[4], frame[1000], got[HDR + 1000];
	struct fixture f;
	uint64_t gpa;
	uint32_t len = 0;

	start(&f, STREAM);
	g_assert_cmphex(f.driver.dev->features_offered & (FEATURE(CSUM) | FEATURE(GUEST_CSUM)), ==,
			0);
	for (unsigned int i = 0; i < 200; i++) {
		guest_sends(&f, 60 + i);
		g_assert_cmpint(recv(f.wire, prefix, 4, MSG_WAITALL), ==, 4);
		g_assert_cmpuint(prefix[3], ==, (60 + i) & 0xff);
		g_assert_cmpint(recv(f.wire, frame, 60 + i, MSG_WAITALL), ==, 60 + i);
	}
	/* a burst that comes at once, and buffers one after the other */
	for (unsigned int i = 0; i < 40; i++)
		stream_sends(&f, 1000);
	for (unsigned int i = 0; i < 40; i++) {
		const struct mock_buf buf = { mock_alloc(&f.driver, 2048, 16), 2048, true };

		mock_queue_add(f.rx, &buf, 1);
		mock_queue_kick(f.rx);
		mock_queue_wait(f.rx, &len);
		g_assert_cmpuint(len, ==, HDR + 1000);
		gpa = buf.gpa;
		mock_read(&f.driver, gpa, got, sizeof(got));
		g_assert_cmpuint(got[10], ==, 1); /* num_buffers */
		for (unsigned int j = 0; j < 1000; j++)
			g_assert_cmpuint(got[HDR + j], ==, (j * 3) & 0xff);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_packets"), ==, 40);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_packets"), ==, 200);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_kicks"), >=, 1);
	teardown(&f);
}

/* Many at once, more than the wire takes: all arrive, in order, and the driver gets all back. */
static void test_stream_full(void)
{
	enum {
		COUNT = 60,
		LEN = 30000
	};
	const uint64_t gpas[] = { 1 << 20, 2 << 20 };
	static uint8_t frame[LEN];
	struct fixture f;

	start(&f, STREAM);
	for (uint8_t i = 0; i < 2; i++)
		if (guest_fill(&f.driver.mem, gpas[i], i, HDR + LEN) < 0)
			g_error("outside RAM");
	for (unsigned int i = 0; i < COUNT; i++) {
		const struct mock_buf buf = { gpas[i % 2], HDR + LEN, false };

		mock_queue_add(f.tx, &buf, 1);
	}
	mock_queue_kick(f.tx);
	for (unsigned int i = 0; i < COUNT; i++) {
		be32 prefix;

		g_assert_cmpint(recv(f.wire, &prefix, 4, MSG_WAITALL), ==, 4);
		g_assert_cmpuint(be32_get(prefix), ==, LEN);
		g_assert_cmpint(recv(f.wire, frame, LEN, MSG_WAITALL), ==, LEN);
		for (unsigned int j = 0; j < LEN; j++)
			g_assert_cmpuint(frame[j], ==, i % 2);
	}
	for (unsigned int i = 0; i < COUNT; i++)
		mock_queue_wait(f.tx, NULL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_packets"), ==, COUNT);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 0);
	teardown(&f);
}

/*
 * The host has no memory for a while: what was to be sent is lost, as on a wire, and the
 * link is there still.
 */
static void test_stream_no_memory(void)
{
	static const int codes[] = { ENOMEM, ENOBUFS };
	uint8_t got[4 + 100];
	struct fixture f;

	start(&f, STREAM);
	for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
		atomic_store(&sendmsg_fails, codes[i]);
		guest_sends(&f, 100);
		atomic_store(&sendmsg_fails, 0);
		g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
		g_assert_true(virtio_net_link_is_up(f.driver.dev));
		guest_sends(&f, 100);
		g_assert_cmpint(recv(f.wire, got, sizeof(got), MSG_WAITALL), ==, sizeof(got));
		g_assert_cmpuint(got[3], ==, 100);
		g_assert_cmpint(recv(f.wire, got, 1, MSG_DONTWAIT), ==, -1);
	}
	teardown(&f);
}

/* The other program dies: the link goes down, the guest's frames are dropped, for good. */
static void test_stream_end(void)
{
	struct fixture f;

	start(&f, STREAM);
	post_rx(&f, 2048);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	close(f.wire);
	f.wire = -EBADF;
	wait_config_interrupt(&f);
	g_assert_cmpuint(status(&f), ==, 0);
	g_assert_false(virtio_net_link_is_up(f.driver.dev));
	guest_sends(&f, 100);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 1);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	/* a cable that is put in again does not help */
	virtio_net_set_link(f.driver.dev, true);
	g_assert_cmpuint(status(&f), ==, 0);
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmpuint(status(&f), ==, 0);
	guest_sends(&f, 100);
	teardown(&f);
}

/* A length that cannot be: nothing that follows can be understood. */
static void test_stream_nonsense(void)
{
	struct fixture f;

	start(&f, STREAM);
	post_rx(&f, 2048);
	g_assert_cmpint(fd_write_all(f.wire, "\xff\xff\xff\xff hello", 10), ==, 0);
	wait_config_interrupt(&f);
	g_assert_cmpuint(status(&f), ==, 0);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

static void test_stream_pause(void)
{
	struct fixture f;

	start(&f, STREAM);
	virtio_device_pause(f.driver.dev);
	for (unsigned int i = 0; i < 3; i++)
		stream_sends(&f, 100);
	virtio_device_resume(f.driver.dev);
	for (unsigned int i = 0; i < 3; i++) {
		post_rx(&f, 2048);
		mock_queue_wait(f.rx, NULL);
	}
	teardown(&f);
}

static void test_stream_refused(void)
{
	struct virtio_net_params params = { .id = "_net1",
					    .wire = VIRTIO_NET_WIRE_STREAM,
					    .n_pairs = 1,
					    .queue_size = QUEUE_SIZE,
					    .offload_csum = true };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	g_assert_cmpint(virtio_net_new(&params, &dev, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==,
			"network '_net1': a stream has one queue pair, no offloads, no vhost");
}

/* --- sizes --- */

/* Small ones into the first buffers, large ones over many; what follows which is no matter. */
static void test_sizes(void)
{
	static const uint32_t sizes[] = { 60,   60,         4096 - HDR, 4097 - HDR, 5000,
					  60,   65000,      60,         65000,      65000,
					  1514, 4578 - HDR, 60,         9000,       1514 };
	enum {
		CHAIN = 1526,
		CHAINS = 50
	};
	static uint8_t frame[HDR + 65536], got[CHAIN];
	uint64_t gpa[CHAINS];
	struct fixture f;
	uint32_t len = 0;

	start(&f, DATAGRAM);
	for (unsigned int i = 0; i < CHAINS; i++)
		gpa[i] = mock_alloc(&f.driver, CHAIN, 16);
	for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
		uint32_t total = HDR + sizes[i], at = 0;
		unsigned int n = 0;

		for (uint32_t j = 0; j < sizes[i]; j++)
			frame[HDR + j] = (uint8_t)(i + j * 13 + (j >> 8));
		for (unsigned int c = 0; c < CHAINS; c++) {
			const struct mock_buf buf = { gpa[c], CHAIN, true };

			mock_queue_add(f.rx, &buf, 1);
		}
		mock_queue_kick(f.rx);
		g_assert_cmpint(send(f.wire, frame, total, 0), ==, total);
		for (; at < total; at += len, n++) {
			uint32_t here = MIN(total - at, (uint32_t)CHAIN);

			mock_queue_wait(f.rx, &len);
			g_assert_cmpuint(len, ==, here);
			mock_read(&f.driver, gpa[n], got, here);
			if (at == 0)
				g_assert_cmpuint(bytes_get_le(got + 10, 2), ==,
						 (total + CHAIN - 1) / CHAIN);
			g_assert_cmpmem(got + (at ? 0 : HDR), here - (at ? 0 : HDR),
					frame + at + (at ? 0 : HDR), here - (at ? 0 : HDR));
		}
		/* the next frame finds the buffers in their first order */
		mock_driver_reset(&f.driver);
		mock_driver_start(&f.driver, FEATURES);
	}
	teardown(&f);
}

/* The same without resets: frames follow each other while buffers last. */
static void test_sizes_mixed(void)
{
	enum {
		CHAIN = 1526
	};
	static uint8_t frame[HDR + 65536];
	struct fixture f;
	uint32_t len = 0;
	unsigned int seed = 7;

	start(&f, DATAGRAM);
	for (unsigned int round = 0; round < 300; round++) {
		uint32_t size, total;
		unsigned int chains;

		seed = seed * 1103515245 + 12345;
		size = (seed >> 16) % 3 ? 60 + (seed >> 8) % 1400 : 60 + (seed >> 8) % 60000;
		total = HDR + size;
		chains = (total + CHAIN - 1) / CHAIN;
		memset(frame + HDR, (int)round, size);
		/* exactly what it needs: it waits aside until they are there */
		for (unsigned int i = 0; i < chains; i++) {
			const struct mock_buf buf = { (1 << 20) + 2048UL * i, CHAIN, true };

			mock_queue_add(f.rx, &buf, 1);
		}
		mock_queue_kick(f.rx);
		g_assert_cmpint(send(f.wire, frame, total, 0), ==, total);
		for (uint32_t at = 0; at < total; at += len) {
			mock_queue_wait(f.rx, &len);
			g_assert_cmpuint(len, ==, MIN(total - at, (uint32_t)CHAIN));
			g_assert_cmpuint(mock_read_u8(&f.driver,
						      (1 << 20) + 2048UL * (at / CHAIN) + len - 1),
					 ==, round & 0xff);
		}
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_packets"), ==, 300);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_drops"), ==, 0);
	teardown(&f);
}

/* --- the link --- */

static void test_link(gconstpointer data)
{
	enum kind kind = GPOINTER_TO_UINT(data);
	struct virtio_net_state *st;
	uint8_t frame[200] = { 0 };
	struct fixture f;

	kernel_init();
	start(&f, kind);
	st = f.driver.dev->ops->state_ptr(f.driver.dev);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	g_assert_false(config_interrupted(&f));
	virtio_net_set_link(f.driver.dev, true);
	g_assert_false(config_interrupted(&f)); /* no news */
	virtio_net_set_link(f.driver.dev, false);
	g_assert_true(config_interrupted(&f));
	g_assert_cmpuint(status(&f), ==, 0);
	g_assert_true(st->link_down);
	if (kind == DATAGRAM) {
		post_rx(&f, 2048);
		guest_sends(&f, 100);
		g_assert_cmpint(recv(f.wire, frame, sizeof(frame), MSG_DONTWAIT), ==, -1);
		g_assert_cmpint(send(f.wire, frame, 100, 0), ==, 100);
		mock_driver_wait_counter(&f.driver, "rx_drops", 1);
		g_assert_true(mock_queue_idle(f.rx));
		g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 1);
	}
	/* kept over resets and restarts */
	mock_driver_reset(&f.driver);
	g_assert_true(st->link_down);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmpuint(status(&f), ==, 0);
	virtio_net_set_link(f.driver.dev, true);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	g_assert_true(virtio_net_link_is_up(f.driver.dev));
	if (kind == DATAGRAM) {
		post_rx(&f, 2048);
		g_assert_cmpint(send(f.wire, frame, 100, 0), ==, 100);
		mock_queue_wait(f.rx, NULL);
		guest_sends(&f, 100);
		g_assert_cmpint(recv(f.wire, frame, sizeof(frame), 0), ==, HDR + 100);
	}
	mock_driver_reset(&f.driver);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	teardown(&f);
}

static uint8_t command(struct fixture *f, const void *data, uint32_t len)
{
	const uint8_t unset = 0xff;
	const struct mock_buf bufs[] = { { mock_put(&f->driver, data, len), len, false },
					 { mock_put(&f->driver, &unset, 1), 1, true } };

	mock_queue_do(f->ctrl, bufs, 2);
	return mock_read_u8(&f->driver, bufs[1].gpa);
}

static void test_announce(void)
{
	struct fixture f;

	start(&f, DATAGRAM);
	virtio_net_announce(f.driver.dev);
	g_assert_true(config_interrupted(&f));
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	g_assert_cmpuint(command(&f, "\3\0", 2), ==, VIRTIO_NET_OK);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	g_assert_false(config_interrupted(&f));
	g_assert_cmpuint(command(&f, "\3\1", 2), ==, VIRTIO_NET_ERR);
	g_assert_cmpuint(command(&f, "\3\0\0", 3), ==, VIRTIO_NET_ERR);
	/* a reset is an answer, too */
	virtio_net_announce(f.driver.dev);
	mock_driver_reset(&f.driver);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	config_interrupted(&f);
	/* drivers that do not know how are left alone */
	mock_driver_start(&f.driver, FEATURES & ~FEATURE(GUEST_ANNOUNCE));
	virtio_net_announce(f.driver.dev);
	g_assert_cmpuint(status(&f), ==, VIRTIO_NET_S_LINK_UP);
	g_assert_false(config_interrupted(&f));
	teardown(&f);
}

/* --- the kernel --- */

static void test_vhost(void)
{
	struct fixture f;

	kernel_init();
	setup(&f, VHOST);
	g_assert_cmpuint(kernel.n, ==, 2);
	g_assert_cmphex(kernel.requests[0], ==, VHOST_SET_OWNER);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmphex(kernel.features, ==, FEATURES & VHOST_NET_RING_FEATURES);
	g_assert_cmpuint(kernel.n_regions, ==, 1);
	for (unsigned int i = 0; i < 2; i++) {
		const struct virtio_queue *q = &f.driver.dev->queues[i];

		g_assert_cmpint(kernel.kick_fd[i], ==, q->kick_fd);
		g_assert_cmpint(kernel.call_fd[i], ==, f.driver.queues[i].irq_fd);
		g_assert_cmpint(kernel.backend[i], >=, 0);
		g_assert_true(q->external);
		g_assert_false(q->kick_source.armed);
		g_assert_true(eventfd_take(q->kick_fd)); /* the kernel was told to look */
	}
	g_assert_cmpuint(f.driver.dev->n_loops, ==, 0);
	/* the control queue is ours all the same */
	g_assert_cmpuint(command(&f, "\0\0\1", 3), ==, VIRTIO_NET_OK);
	mock_driver_reset(&f.driver);
	g_assert_cmpint(kernel.backend[0], ==, -1);
	g_assert_cmpint(kernel.backend[1], ==, -1);
	g_assert_false(f.driver.dev->queues[0].external);
	teardown(&f);
}

/* A pause takes the rings back as the kernel left them. */
/* More memory: the kernel is told while it serves the queues, and not when there are none. */
static void test_vhost_memory(void)
{
	const struct guest_zone_params more = {
		.pointer = "/memory", .size = 1U << 20, .file_fd = -EBADF, .host_node = -1
	};
	struct fixture f;
	struct err err = { 0 };

	kernel_init();
	setup(&f, VHOST);
	g_assert_cmpint(guest_mem_add_ram(&f.driver.mem, 1ULL << 40, &more, &err), ==, 0);
	virtio_device_grow_memory(f.driver.dev);
	g_assert_cmpuint(kernel.n_regions, ==, 0);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_cmpuint(kernel.n_regions, ==, 2);
	g_assert_cmpint(guest_mem_add_ram(&f.driver.mem, 2ULL << 40, &more, &err), ==, 0);
	virtio_device_grow_memory(f.driver.dev);
	g_assert_cmpuint(kernel.n_regions, ==, 3);
	g_assert_cmpint(kernel.backend[0], >=, 0);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

static void test_vhost_pause(void)
{
	struct fixture f;

	kernel_init();
	start(&f, VHOST);
	kernel.base[0] = 17;
	kernel.base[1] = 65535;
	virtio_device_pause(f.driver.dev);
	g_assert_cmpint(kernel.backend[0], ==, -1);
	g_assert_cmpint(kernel.backend[1], ==, -1);
	g_assert_cmpuint(f.driver.dev->queues[0].st.next_avail, ==, 17);
	g_assert_cmpuint(f.driver.dev->queues[1].st.next_avail, ==, 65535);
	virtio_device_pause(f.driver.dev);
	g_assert_cmpuint(f.driver.dev->queues[0].st.next_avail, ==, 17);
	f.driver.dev->queues[0].st.next_avail = 20;
	virtio_device_resume(f.driver.dev);
	virtio_device_resume(f.driver.dev);
	g_assert_cmpuint(kernel.base[0], ==, 20);
	g_assert_cmpint(kernel.backend[0], >=, 0);
	teardown(&f);
}

static void test_vhost_link(void)
{
	struct fixture f;

	kernel_init();
	start(&f, VHOST);
	virtio_net_set_link(f.driver.dev, false);
	g_assert_cmpint(kernel.backend[0], ==, -1);
	/* a pause and a resume do not connect it */
	virtio_device_pause(f.driver.dev);
	virtio_device_resume(f.driver.dev);
	g_assert_cmpint(kernel.backend[1], ==, -1);
	g_assert_cmpint(send(f.wire, "stale frame..", 13, 0), ==, 13);
	virtio_net_set_link(f.driver.dev, true);
	g_assert_cmpint(kernel.backend[0], >=, 0);
	/* what waited was not for this moment */
	g_assert_cmpint(recv(kernel.backend[0], (char[16]){ 0 }, 16, MSG_DONTWAIT), ==, -1);
	teardown(&f);
}

/* The kernel says so by an eventfd. */
static void test_vhost_error(void)
{
	struct fixture f;

	kernel_init();
	start(&f, VHOST);
	eventfd_signal(kernel.err_fd[1]);
	mock_driver_wait_broken(&f.driver);
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, FEATURES);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

static void test_vhost_vector(void)
{
	struct fixture f;
	int other = eventfd_new();

	kernel_init();
	start(&f, VHOST);
	f.driver.queues[1].irq_fd = other;
	f.driver.dev->ops->vector_changed(f.driver.dev, &f.driver.dev->queues[1]);
	g_assert_cmpint(kernel.call_fd[1], ==, other);
	teardown(&f);
}

static void test_vhost_features(void)
{
	struct virtio_device *dev = NULL;
	struct err err = { 0 };
	struct fixture f;

	kernel_init();
	kernel.features_offered &= ~VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX);
	setup(&f, VHOST);
	g_assert_cmphex(f.driver.dev->features_offered & VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX),
			==, 0);
	g_assert_cmphex(f.driver.dev->features_offered & FEATURE(MRG_RXBUF), !=, 0);
	teardown(&f);

	kernel_init();
	kernel.features_offered = 0;
	g_assert_cmpint(new_device(&f, VHOST, &dev, &err), ==, -EOPNOTSUPP);
	g_assert_cmpstr(err.msg, ==,
			"network '_net1': queue pair 0: the kernel's vhost-net does not know "
			"virtio 1");
}

static void test_vhost_fails(void)
{
	static const unsigned long requests[] = { VHOST_SET_FEATURES,   VHOST_SET_MEM_TABLE,
						  VHOST_SET_VRING_NUM,  VHOST_SET_VRING_BASE,
						  VHOST_SET_VRING_ADDR, VHOST_SET_VRING_KICK,
						  VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
						  VHOST_NET_SET_BACKEND };

	for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
		struct err err = { 0 };
		struct fixture f;

		kernel_init();
		setup(&f, VHOST);
		kernel.fail = requests[i];
		g_assert_cmpint(mock_driver_try_start(&f.driver, FEATURES, &err), <, 0);
		g_assert_nonnull(strstr(err.msg, "queue pair 0"));
		kernel.fail = 0;
		mock_driver_reset(&f.driver);
		mock_driver_start(&f.driver, FEATURES);
		teardown(&f);
	}
}

static void conformance(enum kind kind)
{
	struct fixture f;

	kernel_init();
	setup(&f, kind);
	mock_driver_conformance(&f.driver, FEATURES);
	teardown(&f);
}

static void test_conformance_stream(void)
{
	conformance(STREAM);
}

static void test_conformance_vhost(void)
{
	conformance(VHOST);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/net/stream", test_stream);
	g_test_add_func("/virtio/net/stream/full", test_stream_full);
	g_test_add_func("/virtio/net/stream/no-memory", test_stream_no_memory);
	g_test_add_func("/virtio/net/stream/end", test_stream_end);
	g_test_add_func("/virtio/net/stream/nonsense", test_stream_nonsense);
	g_test_add_func("/virtio/net/stream/pause", test_stream_pause);
	g_test_add_func("/virtio/net/stream/refused", test_stream_refused);
	g_test_add_func("/virtio/net/stream/conformance", test_conformance_stream);
	g_test_add_func("/virtio/net/sizes", test_sizes);
	g_test_add_func("/virtio/net/sizes/mixed", test_sizes_mixed);
	g_test_add_data_func("/virtio/net/link/stream", GUINT_TO_POINTER(STREAM), test_link);
	g_test_add_data_func("/virtio/net/link/datagram", GUINT_TO_POINTER(DATAGRAM), test_link);
	g_test_add_data_func("/virtio/net/link/vhost", GUINT_TO_POINTER(VHOST), test_link);
	g_test_add_func("/virtio/net/announce", test_announce);
	g_test_add_func("/virtio/net/vhost", test_vhost);
	g_test_add_func("/virtio/net/vhost/pause", test_vhost_pause);
	g_test_add_func("/virtio/net/vhost/memory", test_vhost_memory);
	g_test_add_func("/virtio/net/vhost/link", test_vhost_link);
	g_test_add_func("/virtio/net/vhost/error", test_vhost_error);
	g_test_add_func("/virtio/net/vhost/vector", test_vhost_vector);
	g_test_add_func("/virtio/net/vhost/features", test_vhost_features);
	g_test_add_func("/virtio/net/vhost/fails", test_vhost_fails);
	g_test_add_func("/virtio/net/vhost/conformance", test_conformance_vhost);
	return g_test_run();
}
