/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net from the driver's side, with a socket pair as the wire: the test
 * holds the other end of each pair's socket.
 */
#include "vmm/virtio/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"

#define QUEUE_SIZE 64U
#define HDR        12U

#define BIT(name)    VIRTIO_FEATURE(VIRTIO_NET_F_##name)
#define FEATURES_MIN VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define FEATURES_ALL                                                                               \
	(FEATURES_MIN | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |                                  \
	 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | BIT(MAC) | BIT(STATUS) | BIT(CTRL_VQ) |     \
	 BIT(MRG_RXBUF) | BIT(CSUM) | BIT(GUEST_CSUM) | BIT(CTRL_GUEST_OFFLOADS) |                 \
	 BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6))

struct fixture {
	struct mock_driver driver;
	struct mock_queue *rx, *tx, *ctrl; /* of the first pair */
	int wire[VIRTIO_NET_PAIRS_MAX];
	uint16_t n_pairs;
};

static void setup(struct fixture *f, uint16_t n_pairs)
{
	int fds[VIRTIO_NET_PAIRS_MAX];
	const struct virtio_net_params params = {
		.id = "_net1",
		.fds = fds,
		.n_pairs = n_pairs,
		.queue_size = QUEUE_SIZE,
		.mac = { 0x52, 0x54, 0, 1, 2, 3 },
		.mtu = 1400,
		.offload_tso = true,
		.offload_ufo = true,
		.offload_csum = true,
		.allow_socket = true,
	};
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	for (uint16_t i = 0; i < n_pairs; i++) {
		int pair[2];

		g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
		fds[i] = pair[0];
		f->wire[i] = pair[1];
	}
	if (virtio_net_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 32 << 20);
	f->n_pairs = n_pairs;
	f->rx = &f->driver.queues[0];
	f->tx = &f->driver.queues[1];
	f->ctrl = &f->driver.queues[2 * n_pairs];
}

static void start(struct fixture *f, uint64_t features)
{
	setup(f, 1);
	mock_driver_start(&f->driver, features);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	for (uint16_t i = 0; i < f->n_pairs; i++)
		if (f->wire[i] >= 0)
			close(f->wire[i]);
}

static void fill(uint8_t *buf, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 11 + (i >> 8));
}

/* A frame with header on the wire towards the guest. */
static void wire_send(struct fixture *f, uint16_t pair, const uint8_t *frame, size_t len)
{
	g_assert_cmpint(send(f->wire[pair], frame, len, 0), ==, (ssize_t)len);
}

static ssize_t wire_receive(struct fixture *f, uint16_t pair, uint8_t *buf, size_t len)
{
	struct pollfd p = { .fd = f->wire[pair], .events = POLLIN };

	g_assert_cmpint(poll(&p, 1, 10000), ==, 1);
	return recv(f->wire[pair], buf, len, 0);
}

static void post_rx(struct fixture *f, uint64_t gpa, uint32_t len)
{
	const struct mock_buf buf = { gpa, len, true };

	mock_queue_add(f->rx, &buf, 1);
}

/* --- transmit --- */

static void test_tx(void)
{
	struct fixture f;
	static uint8_t frame[HDR + 1500], got[2000];
	uint64_t gpa;

	start(&f, FEATURES_ALL);
	fill(frame, sizeof(frame), 1);
	gpa = mock_put(&f.driver, frame, sizeof(frame));
	for (unsigned int i = 0; i < 300; i++) {
		/* header apart, as the specification allows, and together */
		const struct mock_buf apart[] = { { gpa, HDR, false },
						  { gpa + HDR, 700, false },
						  { gpa + HDR + 700, 800, false } };
		const struct mock_buf together[] = { { gpa, sizeof(frame), false } };
		uint16_t head =
			i % 2 ? mock_queue_add(f.tx, apart, 3) : mock_queue_add(f.tx, together, 1);

		mock_queue_kick(f.tx);
		g_assert_cmpint(wire_receive(&f, 0, got, sizeof(got)), ==, sizeof(frame));
		g_assert_cmpmem(got, sizeof(frame), frame, sizeof(frame));
		g_assert_cmpuint(mock_queue_wait(f.tx, NULL), ==, head);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_packets"), ==, 300);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_bytes"), ==, 300 * 1500);
	teardown(&f);
}

/* The wire is full: frames wait in the queue, none is lost, none is reordered. */
static void test_tx_full(void)
{
	enum {
		N = 60,
		LEN = 20000
	};
	struct fixture f;
	static uint8_t frame[HDR + LEN], got[HDR + LEN];
	int size = 4096;

	setup(&f, 1);
	g_assert_cmpint(setsockopt(f.wire[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), ==, 0);
	mock_driver_start(&f.driver, FEATURES_ALL);
	for (unsigned int i = 0; i < N; i++) {
		struct mock_buf buf = { 0, sizeof(frame), false };

		fill(frame, sizeof(frame), i);
		buf.gpa = mock_put(&f.driver, frame, sizeof(frame));
		mock_queue_add(f.tx, &buf, 1);
	}
	mock_queue_kick(f.tx);
	mock_driver_wait_counter(&f.driver, "tx_packets", 1);
	for (unsigned int i = 0; i < N; i++) {
		fill(frame, sizeof(frame), i);
		g_assert_cmpint(wire_receive(&f, 0, got, sizeof(got)), ==, sizeof(frame));
		g_assert_cmpmem(got, sizeof(got), frame, sizeof(frame));
	}
	for (unsigned int i = 0; i < N; i++)
		mock_queue_wait(f.tx, NULL);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_packets"), ==, N);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 0);
	teardown(&f);
}

static void test_tx_too_long(void)
{
	struct fixture f;
	uint64_t gpa;
	struct mock_buf buf;

	start(&f, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 1 << 20, 16);
	buf = (struct mock_buf){ gpa, 1 << 20, false };
	mock_queue_do(f.tx, &buf, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_packets"), ==, 0);
	teardown(&f);
}

/* --- receive --- */

static void check_rx(struct fixture *f, const uint8_t *frame, size_t len, uint32_t buf_len,
		     uint64_t first_gpa, unsigned int first)
{
	static uint8_t got[70000];
	unsigned int n = (unsigned int)((len + buf_len - 1) / buf_len);
	uint32_t used;
	size_t at = 0;

	for (unsigned int i = 0; i < n; i++) {
		mock_queue_wait(f->rx, &used);
		g_assert_cmpuint(used, ==, MIN((size_t)buf_len, len - at));
		mock_read(&f->driver, first_gpa + (uint64_t)buf_len * (first + i), got + at, used);
		at += used;
	}
	g_assert_cmpuint(at, ==, len);
	g_assert_cmpuint(bytes_get_le(got + 10, 2), ==, n);
	g_assert_cmpmem(got, 10, frame, 10);
	g_assert_cmpmem(got + HDR, len - HDR, frame + HDR, len - HDR);
}

static void test_rx_mergeable(void)
{
	static const size_t lens[] = { HDR + 14, HDR + 60, HDR + 1500, 1536, 1537, 3072, 60000 };
	struct fixture f;
	static uint8_t frame[60000];
	uint64_t gpa;
	unsigned int at = 0;

	start(&f, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 64 * 1536, 16);
	for (unsigned int i = 0; i < 64; i++)
		post_rx(&f, gpa + 1536 * i, 1536);
	mock_queue_kick(f.rx);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		fill(frame, lens[i], (unsigned int)i);
		wire_send(&f, 0, frame, lens[i]);
		check_rx(&f, frame, lens[i], 1536, gpa, at);
		at += (unsigned int)((lens[i] + 1535) / 1536);
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_packets"), ==, ARRAY_SIZE(lens));
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_drops"), ==, 0);
	teardown(&f);
}

/* Few buffers: a long frame waits for more, and goes when there can never be enough. */
static void test_rx_mergeable_few(void)
{
	struct fixture f;
	static uint8_t frame[60000];
	uint64_t gpa;

	start(&f, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 128 * 1024, 16);
	post_rx(&f, gpa, 1024);
	mock_queue_kick(f.rx);
	fill(frame, 3000, 1);
	wire_send(&f, 0, frame, 3000);
	fill(frame, 100, 2);
	wire_send(&f, 0, frame, 100);
	for (unsigned int i = 1; i < 4; i++) {
		post_rx(&f, gpa + 1024 * i, 1024);
		mock_queue_kick(f.rx);
	}
	fill(frame, 3000, 1);
	check_rx(&f, frame, 3000, 1024, gpa, 0);
	fill(frame, 100, 2);
	check_rx(&f, frame, 100, 1024, gpa, 3);
	/* all 64 buffers together have 64 * 128 bytes */
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		post_rx(&f, gpa + 128 * i, 128);
	mock_queue_kick(f.rx);
	wire_send(&f, 0, frame, 60000);
	fill(frame, 100, 5);
	wire_send(&f, 0, frame, 100);
	check_rx(&f, frame, 100, 128, gpa, 0);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_drops"), ==, 1);
	teardown(&f);
}

static void test_rx_single(void)
{
	struct fixture f;
	static uint8_t frame[2000];
	uint64_t gpa;
	uint32_t used;

	start(&f, FEATURES_MIN);
	gpa = mock_alloc(&f.driver, 16 * 2048, 16);
	/* without buffers the frames wait on the wire */
	for (unsigned int i = 0; i < 4; i++) {
		fill(frame, 500, i);
		wire_send(&f, 0, frame, 500);
	}
	for (unsigned int i = 0; i < 4; i++) {
		const struct mock_buf bufs[] = { { gpa + 2048 * i, HDR, true },
						 { gpa + 2048 * i + HDR, 600, true } };
		uint8_t got[500];

		mock_queue_add(f.rx, bufs, 2);
		mock_queue_kick(f.rx);
		mock_queue_wait(f.rx, &used);
		g_assert_cmpuint(used, ==, 500);
		fill(frame, 500, i);
		bytes_put_le(frame + 10, 2, 1);
		mock_read(&f.driver, gpa + 2048 * i, got, 500);
		g_assert_cmpmem(got, 500, frame, 500);
	}
	/* a frame that is too long for the buffer is dropped, the next one uses it */
	post_rx(&f, gpa, 600);
	mock_queue_kick(f.rx);
	wire_send(&f, 0, frame, 601);
	wire_send(&f, 0, frame, 11); /* not even a header */
	wire_send(&f, 0, frame, 600);
	mock_queue_wait(f.rx, &used);
	g_assert_cmpuint(used, ==, 600);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_drops"), ==, 2);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_packets"), ==, 5);
	teardown(&f);
}

/* Both directions at once, thousands of frames, buffers recycled as a driver does. */
static void test_stream(void)
{
	enum {
		N = 4000,
		LEN = 200
	};
	struct fixture f;
	static uint8_t frame[LEN], got[LEN];
	uint64_t rx_gpa, tx_gpa;
	unsigned int sent = 0, received = 0, tx_done = 0, tx_queued = 0, echoed = 0;

	start(&f, FEATURES_ALL);
	rx_gpa = mock_alloc(&f.driver, 32 * 2048, 16);
	tx_gpa = mock_put(&f.driver, frame, LEN);
	for (unsigned int i = 0; i < 32; i++)
		post_rx(&f, rx_gpa + 2048 * i, 2048);
	mock_queue_kick(f.rx);
	while (received < N || echoed < N) {
		while (sent < N && sent - received < 24) {
			fill(frame, LEN, sent++);
			wire_send(&f, 0, frame, LEN);
		}
		while (tx_queued < N && tx_queued - tx_done < 24) {
			const struct mock_buf buf = { tx_gpa, LEN, false };

			mock_queue_add(f.tx, &buf, 1);
			tx_queued++;
		}
		mock_queue_kick(f.tx);
		if (received < N) {
			uint32_t used;

			mock_queue_wait(f.rx, &used);
			g_assert_cmpuint(used, ==, LEN);
			fill(frame, LEN, received);
			mock_read(&f.driver, rx_gpa + 2048 * (received % 32), got, LEN);
			g_assert_cmpmem(got + HDR, LEN - HDR, frame + HDR, LEN - HDR);
			post_rx(&f, rx_gpa + 2048 * (received % 32), 2048);
			mock_queue_kick(f.rx);
			received++;
		}
		if (echoed < N) {
			g_assert_cmpint(wire_receive(&f, 0, got, LEN), ==, LEN);
			echoed++;
		}
		while (tx_done < echoed) {
			mock_queue_wait(f.tx, NULL);
			tx_done++;
		}
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_drops"), ==, 0);
	teardown(&f);
}

/* The other end has closed: frames are dropped, nothing spins, a reset works. */
static void test_wire_gone(void)
{
	struct fixture f;
	struct mock_buf buf = { 0, 100, false };

	start(&f, FEATURES_ALL);
	buf.gpa = mock_alloc(&f.driver, 2048, 16);
	post_rx(&f, buf.gpa, 2048);
	mock_queue_kick(f.rx);
	close(f.wire[0]);
	f.wire[0] = -1;
	mock_queue_do(f.tx, &buf, 1);
	mock_queue_do(f.tx, &buf, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_drops"), ==, 2);
	mock_driver_reset(&f.driver);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	teardown(&f);
}

/* --- malformed --- */

static void bad_tx_short(struct fixture *f)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, 64, 16), HDR - 1, false };

	mock_queue_add(f->tx, &buf, 1);
	mock_queue_kick(f->tx);
}

static void bad_tx_outside_ram(struct fixture *f)
{
	const struct mock_buf buf = { 1ULL << 45, 100, false };

	mock_queue_add(f->tx, &buf, 1);
	mock_queue_kick(f->tx);
}

static void bad_tx_writable(struct fixture *f)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, 64, 16), 64, true };

	mock_queue_add(f->tx, &buf, 1);
	mock_queue_kick(f->tx);
}

static void bad_rx_short(struct fixture *f)
{
	post_rx(f, mock_alloc(&f->driver, 64, 16), HDR - 1);
	mock_queue_kick(f->rx);
}

static void bad_rx_outside_ram(struct fixture *f)
{
	post_rx(f, (32 << 20) - 100, 200);
	mock_queue_kick(f->rx);
}

static void bad_rx_readable(struct fixture *f)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, 64, 16), 64, false };

	mock_queue_add(f->rx, &buf, 1);
	mock_queue_kick(f->rx);
}

static void bad_rx_head(struct fixture *f)
{
	mock_queue_publish(f->rx, QUEUE_SIZE + 3);
	mock_queue_kick(f->rx);
}

static void bad_ctrl_no_ack(struct fixture *f)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, 64, 16), 3, false };

	mock_queue_add(f->ctrl, &buf, 1);
	mock_queue_kick(f->ctrl);
}

static void bad_ctrl_empty(struct fixture *f)
{
	const struct mock_buf buf = { mock_alloc(&f->driver, 64, 16), 1, true };

	mock_queue_add(f->ctrl, &buf, 1);
	mock_queue_kick(f->ctrl);
}

static void test_malformed(void)
{
	static const struct {
		const char *name;
		void (*make)(struct fixture *f);
	} cases[] = {
		{ "tx: shorter than the header", bad_tx_short },
		{ "tx: outside RAM", bad_tx_outside_ram },
		{ "tx: writable buffer", bad_tx_writable },
		{ "rx: shorter than the header", bad_rx_short },
		{ "rx: leaves RAM", bad_rx_outside_ram },
		{ "rx: readable buffer", bad_rx_readable },
		{ "rx: head beyond the table", bad_rx_head },
		{ "ctrl: no room for the answer", bad_ctrl_no_ack },
		{ "ctrl: no command", bad_ctrl_empty },
	};
	struct fixture f;
	uint8_t frame[100] = { 0 };

	setup(&f, 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("%s", cases[i].name);
		mock_driver_start(&f.driver, FEATURES_ALL);
		cases[i].make(&f);
		mock_driver_wait_broken(&f.driver);
		wire_send(&f, 0, frame, sizeof(frame)); /* must not make a broken device spin */
		mock_driver_reset(&f.driver);
		mock_driver_start(&f.driver, FEATURES_ALL);
		post_rx(&f, mock_alloc(&f.driver, 2048, 16), 2048);
		mock_queue_kick(f.rx);
		mock_queue_wait(f.rx, NULL);
		mock_driver_reset(&f.driver);
	}
	teardown(&f);
}

/* --- control queue --- */

static uint8_t command(struct fixture *f, const void *data, uint32_t len)
{
	const uint8_t unset = 0xff;
	const struct mock_buf bufs[] = { { mock_put(&f->driver, data, len), len, false },
					 { mock_put(&f->driver, &unset, 1), 1, true } };

	mock_queue_do(f->ctrl, bufs, 2);
	return mock_read_u8(&f->driver, bufs[1].gpa);
}

static void test_ctrl_parse(void)
{
	static const struct {
		const char *name;
		uint8_t data[32];
		size_t len;
		enum virtio_net_ctrl_kind kind;
		uint64_t value;
	} cases[] = {
		{ "promiscuous", { 0, 0, 1 }, 3, VIRTIO_NET_CTRL_IGNORED, 0 },
		{ "promiscuous without a value", { 0, 0 }, 2, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "unknown receive mode", { 0, 6, 1 }, 3, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "empty MAC tables", { 1, 0 }, 10, VIRTIO_NET_CTRL_IGNORED, 0 },
		{ "MAC table of one",
		  { 1, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7 },
		  16,
		  VIRTIO_NET_CTRL_IGNORED,
		  0 },
		{ "MAC table cut short",
		  { 1, 0, 2, 0, 0, 0, 2, 3, 4, 5, 6, 7 },
		  16,
		  VIRTIO_NET_CTRL_REFUSED,
		  0 },
		{ "MAC table with a huge count",
		  { 1, 0, 0xff, 0xff, 0xff, 0xff },
		  10,
		  VIRTIO_NET_CTRL_REFUSED,
		  0 },
		{ "MAC address was not offered",
		  { 1, 1, 2, 3, 4, 5, 6, 7 },
		  8,
		  VIRTIO_NET_CTRL_REFUSED,
		  0 },
		{ "VLAN", { 2, 0, 5, 0 }, 4, VIRTIO_NET_CTRL_IGNORED, 0 },
		{ "VLAN, one byte", { 2, 1, 5 }, 3, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "announce was not offered", { 3, 0 }, 2, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "pairs", { 4, 0, 2, 0 }, 4, VIRTIO_NET_CTRL_PAIRS, 2 },
		{ "no pairs", { 4, 0, 0, 0 }, 4, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "too many pairs", { 4, 0, 5, 0 }, 4, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "pairs and one byte", { 4, 0, 2, 0, 0 }, 5, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "RSS was not offered", { 4, 1, 2, 0 }, 4, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "offloads", { 5, 0, 0x82 }, 10, VIRTIO_NET_CTRL_OFFLOADS, 0x82 },
		{ "no offloads", { 5, 0 }, 10, VIRTIO_NET_CTRL_OFFLOADS, 0 },
		{ "offloads not negotiated", { 5, 0, 0, 4 }, 10, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "offloads, short", { 5, 0, 2 }, 9, VIRTIO_NET_CTRL_REFUSED, 0 },
		{ "unknown class", { 99, 0, 1 }, 3, VIRTIO_NET_CTRL_REFUSED, 0 },
	};
	const uint64_t features = BIT(MQ) | BIT(CTRL_VQ) | BIT(CTRL_GUEST_OFFLOADS) |
				  BIT(GUEST_CSUM) | BIT(GUEST_TSO4);
	struct virtio_net_ctrl ctrl;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		g_test_message("%s", cases[i].name);
		ctrl = (struct virtio_net_ctrl){ .kind = 77 };
		g_assert_cmpint(virtio_net_ctrl_parse(features, 4, cases[i].data, cases[i].len,
						      cases[i].len, 1, &ctrl),
				==, 0);
		g_assert_cmpint(ctrl.kind, ==, cases[i].kind);
		if (ctrl.kind != VIRTIO_NET_CTRL_REFUSED)
			g_assert_cmpuint(ctrl.value, ==, cases[i].value);
	}
	/* what was not negotiated is refused */
	g_assert_cmpint(virtio_net_ctrl_parse(0, 4, (const uint8_t[]){ 4, 0, 2, 0 }, 4, 4, 1,
					      &ctrl),
			==, 0);
	g_assert_cmpint(ctrl.kind, ==, VIRTIO_NET_CTRL_REFUSED);
	/* longer than what was copied */
	g_assert_cmpint(virtio_net_ctrl_parse(features, 4, (const uint8_t[]){ 0, 0, 1 }, 3, 1 << 20,
					      1, &ctrl),
			==, 0);
	g_assert_cmpint(ctrl.kind, ==, VIRTIO_NET_CTRL_REFUSED);
	g_assert_cmpint(virtio_net_ctrl_parse(features, 4, (const uint8_t[]){ 0 }, 1, 1, 1, &ctrl),
			==, -EBADMSG);
	g_assert_cmpint(virtio_net_ctrl_parse(features, 4, (const uint8_t[]){ 0, 0, 1 }, 3, 3, 0,
					      &ctrl),
			==, -EBADMSG);
}

static void test_ctrl(void)
{
	struct fixture f;
	struct virtio_net_state *st;

	start(&f, FEATURES_ALL);
	st = f.driver.dev->ops->state_ptr(f.driver.dev);
	g_assert_cmpuint(st->pairs, ==, 1);
	g_assert_cmphex(st->guest_offloads, ==,
			BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6));
	g_assert_cmpuint(command(&f, "\5\0\2\0\0\0\0\0\0\0", 10), ==, VIRTIO_NET_OK);
	g_assert_cmphex(st->guest_offloads, ==, BIT(GUEST_CSUM));
	g_assert_cmpuint(command(&f, "\0\0\1", 3), ==, VIRTIO_NET_OK);
	g_assert_cmpuint(command(&f, "\4\0\1\0", 4), ==, VIRTIO_NET_ERR); /* MQ not negotiated */
	g_assert_cmpuint(command(&f, "\x63\0", 2), ==, VIRTIO_NET_ERR);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	mock_driver_reset(&f.driver);
	g_assert_cmpuint(st->pairs, ==, 0);
	teardown(&f);
}

/* Pairs come and go by command; frames of pairs out of use stay on the wire. */
static void test_multi_queue(void)
{
	struct fixture f;
	uint8_t frame[100] = { 0 }, got[200];
	uint64_t gpa;

	setup(&f, 4);
	mock_driver_start(&f.driver, FEATURES_ALL | BIT(MQ));
	gpa = mock_alloc(&f.driver, 4 * 2048, 16);
	for (uint16_t i = 0; i < 4; i++) {
		const struct mock_buf buf = { gpa + 2048UL * i, 2048, true };

		mock_queue_add(&f.driver.queues[2 * i], &buf, 1);
		mock_queue_kick(&f.driver.queues[2 * i]);
		wire_send(&f, i, frame, sizeof(frame));
	}
	mock_queue_wait(&f.driver.queues[0], NULL);
	for (uint16_t i = 1; i < 4; i++)
		g_assert_true(mock_queue_idle(&f.driver.queues[2 * i]));
	g_assert_cmpuint(command(&f, "\4\0\4\0", 4), ==, VIRTIO_NET_OK);
	for (uint16_t i = 1; i < 4; i++)
		mock_queue_wait(&f.driver.queues[2 * i], NULL);
	for (uint16_t i = 0; i < 4; i++) {
		const struct mock_buf buf = { gpa, 60, false };

		mock_queue_do(&f.driver.queues[2 * i + 1], &buf, 1);
		g_assert_cmpint(wire_receive(&f, i, got, sizeof(got)), ==, 60);
	}
	g_assert_cmpuint(command(&f, "\4\0\1\0", 4), ==, VIRTIO_NET_OK);
	g_assert_cmpuint(command(&f, "\4\0\5\0", 4), ==, VIRTIO_NET_ERR);
	teardown(&f);
}

/* 5.1.2: without MQ the control queue is number 2, whatever the device could do. */
static void test_multi_queue_not_negotiated(void)
{
	struct fixture f;

	setup(&f, 4);
	mock_driver_start(&f.driver, FEATURES_ALL);
	f.ctrl = &f.driver.queues[2];
	g_assert_cmpuint(command(&f, "\0\0\1", 3), ==, VIRTIO_NET_OK);
	teardown(&f);
}

/* --- pause, reset, state --- */

/* Buffers held ready go back: the saved indexes tell the whole truth. */
static void test_pause(void)
{
	struct fixture f;
	static uint8_t frame[500];
	uint64_t gpa;

	start(&f, FEATURES_ALL);
	gpa = mock_alloc(&f.driver, 64 * 1536, 16);
	for (unsigned int i = 0; i < 60; i++)
		post_rx(&f, gpa + 1536 * i, 1536);
	mock_queue_kick(f.rx);
	for (unsigned int round = 0; round < 5; round++) {
		fill(frame, sizeof(frame), round);
		wire_send(&f, 0, frame, sizeof(frame));
		check_rx(&f, frame, sizeof(frame), 1536, gpa, 2 * round);
		virtio_device_pause(f.driver.dev);
		g_assert_cmpuint(f.rx->q->st.next_avail, ==, 2 * round + 1);
		g_assert_cmpuint(f.rx->q->st.next_used, ==, 2 * round + 1);
		fill(frame, sizeof(frame), round + 100);
		wire_send(&f, 0, frame, sizeof(frame)); /* waits on the wire */
		g_assert_true(mock_queue_idle(f.rx));
		virtio_device_resume(f.driver.dev);
		check_rx(&f, frame, sizeof(frame), 1536, gpa, 2 * round + 1);
	}
	teardown(&f);
}

static void test_reset_under_load(void)
{
	struct fixture f;
	static uint8_t frame[500];
	uint64_t gpa;

	setup(&f, 1);
	gpa = mock_alloc(&f.driver, 64 * 1536, 16);
	for (unsigned int round = 0; round < 50; round++) {
		const struct mock_buf buf = { gpa, 100, false };
		uint8_t got[100];

		mock_driver_start(&f.driver, FEATURES_ALL);
		for (unsigned int i = 0; i < 60; i++) {
			post_rx(&f, gpa + 1536 * i, 1536);
			mock_queue_add(f.tx, &buf, 1);
		}
		for (unsigned int i = 0; i < 10; i++)
			wire_send(&f, 0, frame, sizeof(frame));
		mock_queue_kick(f.rx);
		mock_queue_kick(f.tx);
		if (round % 2)
			mock_queue_wait(f.rx, NULL);
		mock_driver_reset(&f.driver);
		while (recv(f.wire[0], got, sizeof(got), MSG_DONTWAIT) > 0)
			;
	}
	teardown(&f);
}

static void test_state(void)
{
	struct fixture f;
	struct virtio_net_state *st;
	struct err err = { 0 };

	setup(&f, 2);
	st = f.driver.dev->ops->state_ptr(f.driver.dev);
	st->pairs = 2;
	st->guest_offloads = BIT(GUEST_CSUM);
	mock_driver_start(&f.driver, FEATURES_ALL | BIT(MQ));
	g_assert_cmpuint(st->pairs, ==, 2);
	g_assert_cmphex(st->guest_offloads, ==, BIT(GUEST_CSUM));
	mock_driver_reset(&f.driver);
	st->pairs = 3;
	g_assert_cmpint(mock_driver_try_start(&f.driver, FEATURES_ALL | BIT(MQ), &err), ==,
			-EBADMSG);
	g_assert_cmpstr(err.msg, ==, "net '_net1': 3 queue pairs are in use, the device has 2");
	mock_driver_reset(&f.driver);
	st->pairs = 1;
	st->guest_offloads = BIT(GUEST_UFO);
	err_clear(&err);
	g_assert_cmpint(mock_driver_try_start(&f.driver, FEATURES_ALL, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==, "net '_net1': offloads 0x400 were not all negotiated");
	teardown(&f);
}

static void test_conformance(void)
{
	struct fixture f;

	setup(&f, 2);
	mock_driver_conformance(&f.driver, FEATURES_ALL | BIT(MQ));
	teardown(&f);
}

/* Real taps in a namespace of their own, a packet socket as the host. */
static void test_taps(void)
{
	enum {
		N_PAIRS = 2,
		LEN = 60
	};
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
	struct ifreq ifr = { .ifr_name = "n0" };
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(0x88b5) };
	struct virtio_device *dev = NULL;
	struct mock_driver driver;
	struct err err = { 0 };
	int fds[N_PAIRS], host, ctl;
	uint8_t frame[HDR + LEN] = { 0 }, got[2000];
	uint64_t gpa;
	uint32_t len;

	if (unshare(CLONE_NEWNET) < 0) {
		g_test_skip("no network namespace: not root");
		return;
	}
	for (unsigned int i = 0; i < N_PAIRS; i++) {
		fds[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
		if (fds[i] < 0) {
			g_test_skip("no /dev/net/tun");
			return;
		}
		ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
		g_assert_cmpint(ioctl(fds[i], TUNSETIFF, &ifr), ==, 0);
	}
	ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_flags = IFF_UP;
	g_assert_cmpint(ioctl(ctl, SIOCSIFFLAGS, &ifr), ==, 0);
	close(ctl);
	host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
	addr.sll_ifindex = (int)if_nametoindex("n0");
	g_assert_cmpint(bind(host, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);

	const struct virtio_net_params params = {
		.id = "_net1",
		.fds = fds,
		.n_pairs = N_PAIRS,
		.queue_size = QUEUE_SIZE,
		.offload_tso = true,
		.offload_ufo = true,
		.offload_csum = true,
	};
	if (virtio_net_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&driver, dev, 8 << 20);
	for (unsigned int round = 0; round < 2; round++) {
		const struct mock_buf tx = { mock_alloc(&driver, sizeof(frame), 16), sizeof(frame),
					     false };

		mock_driver_start(&driver, FEATURES_ALL | BIT(MQ) | BIT(GUEST_UFO));
		/* guest to host, by both pairs */
		memset(frame + HDR, 0xff, 6);
		memcpy(frame + HDR + 6, mac, 6);
		memcpy(frame + HDR + 12, "\x88\xb5 guest", 8);
		g_assert_cmpint(guest_write(&driver.mem, tx.gpa, frame, sizeof(frame)), ==, 0);
		mock_queue_do(&driver.queues[1], &tx, 1);
		g_assert_cmpint(recv(host, got, sizeof(got), 0), ==, LEN);
		g_assert_cmpmem(got, LEN, frame + HDR, LEN);
		const struct mock_buf command[] = {
			{ mock_put(&driver, "\4\0\2\0", 4), 4, false },
			{ mock_put(&driver, "\xff", 1), 1, true },
		};
		mock_queue_do(&driver.queues[4], command, 2);
		g_assert_cmpuint(mock_read_u8(&driver, command[1].gpa), ==, VIRTIO_NET_OK);
		mock_queue_do(&driver.queues[3], &tx, 1);
		g_assert_cmpint(recv(host, got, sizeof(got), 0), ==, LEN);
		/* host to guest: whichever queue the kernel takes */
		gpa = mock_alloc(&driver, 32 * 2048, 16);
		for (unsigned int i = 0; i < 32; i++) {
			const struct mock_buf rx = { gpa + 2048 * i, 2048, true };

			mock_queue_add(&driver.queues[i % 2 ? 2 : 0], &rx, 1);
		}
		mock_queue_kick(&driver.queues[0]);
		mock_queue_kick(&driver.queues[2]);
		memcpy(frame + HDR, mac, 6);
		memcpy(frame + HDR + 12, "\x88\xb5 host!", 8);
		g_assert_cmpint(send(host, frame + HDR, LEN, 0), ==, LEN);
		for (bool found = false; !found;) {
			/* the kernel's own multicast comes by as well */
			unsigned int q = mock_queue_idle(&driver.queues[0]) ? 2 : 0;
			uint16_t head;

			if (mock_queue_idle(&driver.queues[q])) {
				poll(NULL, 0, 1);
				continue;
			}
			head = mock_queue_wait(&driver.queues[q], &len);
			mock_read(&driver, gpa + 2048UL * (2UL * head + q / 2), got, len);
			found = len == HDR + LEN && memcmp(got + HDR, frame + HDR, LEN) == 0;
		}
		mock_driver_reset(&driver);
	}
	mock_driver_deinit(&driver);
	close(host);
}

static void test_config(void)
{
	static const uint8_t want[] = { 0x52, 0x54, 0, 1, 2, 3, 1, 0, 3, 0, 0x78, 0x05 };
	struct fixture f;

	setup(&f, 3);
	g_assert_cmpmem(f.driver.dev->config, f.driver.dev->config_size, want, sizeof(want));
	g_assert_true(f.driver.dev->features_offered & BIT(MQ));
	g_assert_true(f.driver.dev->features_offered & BIT(MTU));
	g_assert_true(f.driver.dev->features_offered & BIT(GUEST_UFO));
	teardown(&f);
}

static void test_bad_params(void)
{
	int fds[2] = { -EBADF, -EBADF }, stream[2];
	const struct virtio_net_params good = {
		.id = "n", .fds = fds, .n_pairs = 1, .queue_size = 256, .offload_csum = true
	};
	struct virtio_net_params p[7];
	static const char *const texts[] = {
		"network 'n': 0 queue pairs: 1 to 16 are possible",
		"network 'n': queue_size is 300: a power of two from 4 to 1024 is needed",
		"network 'n': mac 01:00:5e:00:00:01 is a multicast address",
		"network 'n': offload_tso needs offload_csum",
		"network 'n': queue pair 0: the network descriptor is not a tap: "
		"Bad file descriptor",
		"network 'n': queue pair 0: the network socket does not keep frames apart: "
		"it must be SOCK_SEQPACKET or SOCK_DGRAM",
		"network 'n': queue pair 0: the network descriptor is not a tap: "
		"Inappropriate ioctl for device",
	};

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), ==, 0);
	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		p[i] = good;
	p[0].n_pairs = 0;
	p[1].queue_size = 300;
	memcpy(p[2].mac, "\x01\x00\x5e\x00\x00\x01", 6);
	p[3].offload_tso = true;
	p[3].offload_csum = false;
	p[5].fds = stream;
	p[5].allow_socket = true;
	p[6].fds = stream;
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		struct virtio_device *dev = NULL;
		struct err err = { 0 };

		g_assert_cmpint(virtio_net_new(&p[i], &dev, &err), <, 0);
		g_assert_cmpstr(err.msg, ==, texts[i]);
	}
	close(stream[0]);
	close(stream[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/net/config", test_config);
	g_test_add_func("/virtio/net/bad-params", test_bad_params);
	g_test_add_func("/virtio/net/tx", test_tx);
	g_test_add_func("/virtio/net/tx/full", test_tx_full);
	g_test_add_func("/virtio/net/tx/too-long", test_tx_too_long);
	g_test_add_func("/virtio/net/rx/mergeable", test_rx_mergeable);
	g_test_add_func("/virtio/net/rx/mergeable-few", test_rx_mergeable_few);
	g_test_add_func("/virtio/net/rx/single", test_rx_single);
	g_test_add_func("/virtio/net/stream", test_stream);
	g_test_add_func("/virtio/net/wire-gone", test_wire_gone);
	g_test_add_func("/virtio/net/malformed", test_malformed);
	g_test_add_func("/virtio/net/ctrl/parse", test_ctrl_parse);
	g_test_add_func("/virtio/net/ctrl", test_ctrl);
	g_test_add_func("/virtio/net/multi-queue", test_multi_queue);
	g_test_add_func("/virtio/net/multi-queue/not-negotiated", test_multi_queue_not_negotiated);
	g_test_add_func("/virtio/net/pause", test_pause);
	g_test_add_func("/virtio/net/reset-under-load", test_reset_under_load);
	g_test_add_func("/virtio/net/state", test_state);
	g_test_add_func("/virtio/net/conformance", test_conformance);
	g_test_add_func("/virtio/net/taps", test_taps);
	return g_test_run();
}
