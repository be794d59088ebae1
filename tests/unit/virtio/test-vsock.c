/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock from the driver's side, with real sockets at the host's
 */
#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/mock-queue.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define CID      42
#define FEATURES VIRTIO_FEATURE(VIRTIO_F_VERSION_1)
#define RX_SIZE  4140U
#define TIMEOUT  10000

struct fixture {
	struct mock_driver driver;
	struct mock_queue *rx, *tx, *event;
	uint64_t rx_gpa[256]; /* by head of the chain */
	int wish_fd;
	struct sockaddr_un addr[2];
};

struct got {
	struct virtio_vsock_hdr hdr;
	uint8_t data[RX_SIZE];
};

static void on_wish(void *data)
{
	eventfd_signal(((struct fixture *)data)->wish_fd);
}

static int listen_at(struct fixture *f, int i, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(f->addr[i]);

	f->addr[i] = (struct sockaddr_un){ .sun_family = AF_UNIX };
	/* autobind: an abstract name */
	g_assert_cmpint(bind(fd, (struct sockaddr *)&f->addr[i], sizeof(sa_family_t)), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&f->addr[i], &len), ==, 0);
	g_assert_cmpint(listen(fd, 64), ==, 0);
	return fd;
}

static void setup(struct fixture *f, uint64_t features)
{
	struct virtio_vsock_params params = { .id = "_vsock", .cid = CID, .wish = on_wish };
	struct virtio_device *dev = NULL;
	struct err err = { 0 };

	params.data = f;
	params.listen_fds[0] = listen_at(f, 0, SOCK_STREAM);
	params.listen_fds[1] = listen_at(f, 1, SOCK_SEQPACKET);
	f->wish_fd = eventfd_new();
	if (virtio_vsock_new(&params, &dev, &err) < 0)
		g_error("%s", err.msg);
	mock_driver_init(&f->driver, dev, 16 << 20);
	f->rx = &f->driver.queues[0];
	f->tx = &f->driver.queues[1];
	f->event = &f->driver.queues[2];
	mock_driver_start(&f->driver, features);
}

static void teardown(struct fixture *f)
{
	mock_driver_deinit(&f->driver);
	close(f->wish_fd);
}

static void post(struct fixture *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t gpa = mock_alloc(&f->driver, RX_SIZE, 16);
		const struct mock_buf bufs[] = { { gpa, 44, true },
						 { gpa + 44, RX_SIZE - 44, true } };

		f->rx_gpa[mock_queue_add(f->rx, bufs, 2)] = gpa;
	}
	mock_queue_kick(f->rx);
}

static struct virtio_vsock_hdr header(uint16_t op, uint32_t guest, uint32_t host, uint32_t len)
{
	return (struct virtio_vsock_hdr){ .src_cid = CID,
					  .dst_cid = 2,
					  .src_port = guest,
					  .dst_port = host,
					  .len = len,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = op,
					  .buf_alloc = 262144 };
}

static void send_raw(struct fixture *f, const struct virtio_vsock_hdr *hdr, const void *data,
		     uint32_t len)
{
	const struct mock_buf bufs[] = {
		{ mock_put(&f->driver, hdr, sizeof(*hdr)), sizeof(*hdr), false },
		{ len ? mock_put(&f->driver, data, len) : 0, len, false },
	};

	mock_queue_add(f->tx, bufs, len ? 2 : 1);
	mock_queue_kick(f->tx);
}

static void send_packet(struct fixture *f, const struct virtio_vsock_hdr *hdr, const void *data)
{
	send_raw(f, hdr, data, hdr->len);
	mock_queue_wait(f->tx, NULL);
}

static void send_op(struct fixture *f, uint16_t op, uint32_t guest, uint32_t host, uint32_t flags)
{
	struct virtio_vsock_hdr hdr = header(op, guest, host, 0);

	hdr.flags = flags;
	send_packet(f, &hdr, NULL);
}

static void receive(struct fixture *f, uint16_t op, struct got *ret)
{
	uint32_t len;
	uint16_t head = mock_queue_wait(f->rx, &len);

	g_assert_cmpuint(len, >=, 44);
	mock_read(&f->driver, f->rx_gpa[head], ret, len);
	g_assert_cmpuint(ret->hdr.op, ==, op);
	g_assert_cmpuint(ret->hdr.len, ==, len - 44);
	g_assert_cmpuint(ret->hdr.src_cid, ==, 2);
	g_assert_cmpuint(ret->hdr.dst_cid, ==, CID);
}

static int host_connect(struct fixture *f, bool seqpacket)
{
	int fd = socket(AF_UNIX, (seqpacket ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	g_assert_cmpint(connect(fd, (struct sockaddr *)&f->addr[seqpacket],
				sizeof(sa_family_t) + 6),
			==, 0);
	return fd;
}

static void host_send(int fd, const char *text)
{
	g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (ssize_t)strlen(text));
}

static void host_expect(int fd, const char *text)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char got[256];
	ssize_t n;

	g_assert_cmpint(poll(&p, 1, TIMEOUT), ==, 1);
	n = recv(fd, got, sizeof(got), 0);
	g_assert_cmpmem(got, (size_t)MAX(n, 0), text, strlen(text));
}

/* A connection from the host; returns its socket and port. */
static int open_from_host(struct fixture *f, bool seqpacket, uint32_t guest, uint32_t *ret_port)
{
	g_autofree char *hello = g_strdup_printf("CONNECT %u\n", guest);
	g_autofree char *ok = NULL;
	struct virtio_vsock_hdr hdr;
	int fd = host_connect(f, seqpacket);
	struct got got;

	host_send(fd, hello);
	receive(f, VIRTIO_VSOCK_OP_REQUEST, &got);
	g_assert_cmpuint(got.hdr.dst_port, ==, guest);
	g_assert_cmpuint(got.hdr.buf_alloc, ==, 65536);
	g_assert_cmpuint(got.hdr.type, ==, seqpacket ? 2 : 1);
	*ret_port = got.hdr.src_port;
	hdr = header(VIRTIO_VSOCK_OP_RESPONSE, guest, *ret_port, 0);
	hdr.type = got.hdr.type;
	send_packet(f, &hdr, NULL);
	ok = g_strdup_printf("OK %u\n", *ret_port);
	host_expect(fd, ok);
	return fd;
}

/* A connection of the guest; returns the host's end. */
static int open_from_guest(struct fixture *f, uint16_t type, uint32_t guest, uint32_t port)
{
	struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_REQUEST, guest, port, 0);
	struct pollfd p = { .fd = f->wish_fd, .events = POLLIN };
	struct vsock_wish wish;
	struct got got;
	int pair[2];

	hdr.type = type;
	send_packet(f, &hdr, NULL);
	g_assert_cmpint(poll(&p, 1, TIMEOUT), ==, 1);
	eventfd_take(f->wish_fd);
	g_assert_true(virtio_vsock_next_wish(f->driver.dev, &wish));
	g_assert_cmpuint(wish.port, ==, port);
	g_assert_cmpint(wish.seqpacket, ==, type == VIRTIO_VSOCK_TYPE_SEQPACKET);
	g_assert_cmpint(socketpair(AF_UNIX,
				   (type == 1 ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0,
				   pair),
			==, 0);
	fd_set_nonblock(pair[0], true);
	virtio_vsock_answer(f->driver.dev, wish.cookie, pair[0]);
	g_assert_false(virtio_vsock_next_wish(f->driver.dev, &wish));
	receive(f, VIRTIO_VSOCK_OP_RESPONSE, &got);
	return pair[1];
}

static void test_from_host(void)
{
	struct virtio_vsock_hdr hdr;
	struct fixture f;
	struct got got;
	uint32_t port;
	int fd;

	setup(&f, FEATURES);
	post(&f, 16);
	fd = open_from_host(&f, false, 52, &port);
	host_send(fd, "to the guest");
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpmem(got.data, got.hdr.len, "to the guest", 12);
	hdr = header(VIRTIO_VSOCK_OP_RW, 52, port, 11);
	send_packet(&f, &hdr, "to the host");
	host_expect(fd, "to the host");
	/* half closed: the host sends no more, the guest still does */
	shutdown(fd, SHUT_WR);
	receive(&f, VIRTIO_VSOCK_OP_SHUTDOWN, &got);
	g_assert_cmpuint(got.hdr.flags, ==, VIRTIO_VSOCK_SHUTDOWN_SEND);
	send_packet(&f, &hdr, "to the host");
	host_expect(fd, "to the host");
	send_op(&f, VIRTIO_VSOCK_OP_SHUTDOWN, 52, port, 3);
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	host_expect(fd, "");
	g_assert_cmpuint(mock_driver_counter(&f.driver, "connections"), ==, 1);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "rx_bytes"), ==, 12);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "tx_bytes"), ==, 22);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "reset"), ==, 0);
	close(fd);
	teardown(&f);
}

static void test_from_guest(void)
{
	struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_RW, 1000, 80, 5);
	struct fixture f;
	struct got got;
	int fd;

	setup(&f, FEATURES);
	post(&f, 16);
	fd = open_from_guest(&f, 1, 1000, 80);
	send_packet(&f, &hdr, "hello");
	host_expect(fd, "hello");
	host_send(fd, "world");
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpmem(got.data, got.hdr.len, "world", 5);
	g_assert_cmpuint(got.hdr.fwd_cnt, ==, 5);
	/* the host closes: all of it is over, and the guest agrees */
	close(fd);
	receive(&f, VIRTIO_VSOCK_OP_SHUTDOWN, &got);
	g_assert_cmpuint(got.hdr.flags, ==, 3);
	send_op(&f, VIRTIO_VSOCK_OP_RST, 1000, 80, 0);
	/* the same ports again */
	fd = open_from_guest(&f, 1, 1000, 80);
	/* this time the guest does not answer to the end */
	close(fd);
	receive(&f, VIRTIO_VSOCK_OP_SHUTDOWN, &got);
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	teardown(&f);
}

static void test_refused(void)
{
	struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_REQUEST, 7, 8, 0);
	struct vsock_wish wish;
	struct fixture f;
	struct got got;
	int fd;

	setup(&f, FEATURES);
	post(&f, 16);
	/* by the host */
	send_packet(&f, &hdr, NULL);
	while (!virtio_vsock_next_wish(f.driver.dev, &wish))
		g_usleep(1000);
	virtio_vsock_answer(f.driver.dev, wish.cookie, -ECONNREFUSED);
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	g_assert_cmpuint(got.hdr.src_port, ==, 8);
	g_assert_cmpuint(got.hdr.dst_port, ==, 7);
	/* by nobody at all: after two seconds; an answer is too late then */
	send_packet(&f, &hdr, NULL);
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	virtio_vsock_answer(f.driver.dev, wish.cookie + 1, eventfd_new());
	/* by the guest */
	fd = host_connect(&f, false);
	host_send(fd, "CONNECT 99\n");
	receive(&f, VIRTIO_VSOCK_OP_REQUEST, &got);
	send_op(&f, VIRTIO_VSOCK_OP_RST, 99, got.hdr.src_port, 0);
	host_expect(fd, "");
	close(fd);
	g_assert_cmpuint(mock_driver_counter(&f.driver, "refused"), ==, 3);
	teardown(&f);
}

static void test_hello(void)
{
	static const char *const bad[] = {
		"CONNECT \n",           "CONNECT x\n",        "connect 1\n",
		"CONNECT 4294967296\n", "CONNECT -1\n",       "\n",
		"CONNECT 1 2\n",        "GET / HTTP/1.1\r\n", "CONNECT 00000000000000000000000001\n"
	};
	struct fixture f;
	struct got got;
	int fd;

	setup(&f, FEATURES);
	post(&f, 4);
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct pollfd p = { .events = POLLHUP };
		fd = host_connect(&f, i & 1 && strlen(bad[i]) < 30);
		host_send(fd, bad[i]);
		p.fd = fd;
		g_assert_cmpint(poll(&p, 1, TIMEOUT), ==, 1);
		g_assert_true(p.revents & POLLHUP);
		close(fd);
	}
	/* in pieces, with what follows */
	fd = host_connect(&f, false);
	host_send(fd, "CONN");
	g_usleep(20000);
	host_send(fd, "ECT 5\nearly");
	receive(&f, VIRTIO_VSOCK_OP_REQUEST, &got);
	send_op(&f, VIRTIO_VSOCK_OP_RESPONSE, 5, got.hdr.src_port, 0);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpmem(got.data, got.hdr.len, "early", 5);
	close(fd);
	teardown(&f);
}

/* The guest's credit is kept to, and asked for when there is none. */
static void test_credit_to_guest(void)
{
	struct virtio_vsock_hdr hdr;
	g_autofree char *data = g_malloc0(10000);
	struct fixture f;
	struct got got;
	uint32_t port;
	int fd;

	setup(&f, FEATURES);
	post(&f, 16);
	fd = open_from_host(&f, false, 52, &port);
	hdr = header(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 52, port, 0);
	hdr.buf_alloc = 5000;
	send_packet(&f, &hdr, NULL);
	g_assert_cmpint(send(fd, data, 10000, 0), ==, 10000);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpuint(got.hdr.len, ==, 4096);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpuint(got.hdr.len, ==, 904);
	receive(&f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, &got);
	hdr.fwd_cnt = 5001; /* more than was sent: nonsense, no credit */
	send_packet(&f, &hdr, NULL);
	g_usleep(20000);
	g_assert_true(mock_queue_idle(f.rx));
	hdr.fwd_cnt = 3000;
	send_packet(&f, &hdr, NULL);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpuint(got.hdr.len, ==, 3000);
	receive(&f, VIRTIO_VSOCK_OP_CREDIT_REQUEST, &got);
	hdr.fwd_cnt = 8000;
	send_packet(&f, &hdr, NULL);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpuint(got.hdr.len, ==, 2000);
	close(fd);
	teardown(&f);
}

/* A host that does not read: bounded, then a reset; one that reads late gets all of it. */
static void test_credit_to_host(void)
{
	struct virtio_vsock_hdr hdr;
	g_autofree char *data = g_malloc(32768);
	struct fixture f;
	struct got got;
	uint32_t port, sent = 0, read_back = 0;
	int fd;

	setup(&f, FEATURES);
	post(&f, 64);
	fd = open_from_host(&f, false, 52, &port);
	memset(data, 'x', 32768);
	hdr = header(VIRTIO_VSOCK_OP_RW, 52, port, 32768);
	/* as a driver: no more than there is credit for; the socket takes some hundred KiB */
	for (uint32_t told = 0;;) {
		if (sent + 32768 - told > 65536) {
			if (mock_queue_idle(f.rx)) {
				struct virtio_vsock_hdr ask =
					header(VIRTIO_VSOCK_OP_CREDIT_REQUEST, 52, port, 0);

				send_packet(&f, &ask, NULL);
			}
			receive(&f, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &got);
			if (got.hdr.fwd_cnt == told)
				break; /* full */
			told = got.hdr.fwd_cnt;
			continue;
		}
		send_packet(&f, &hdr, data);
		sent += 32768;
	}
	while (read_back < sent) {
		ssize_t n = recv(fd, data, 32768, 0);

		g_assert_cmpint(n, >, 0);
		read_back += (uint32_t)n;
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "reset"), ==, 0);
	/* beyond what it was given */
	while (mock_driver_counter(&f.driver, "reset") == 0)
		send_packet(&f, &hdr, data);
	do {
		uint16_t head = mock_queue_wait(f.rx, NULL);

		mock_read(&f.driver, f.rx_gpa[head], &got.hdr, 44);
	} while (got.hdr.op != VIRTIO_VSOCK_OP_RST);
	close(fd);
	teardown(&f);
}

static void test_seqpacket(void)
{
	struct virtio_vsock_hdr hdr;
	g_autofree char *data = g_malloc0(70000);
	struct fixture f;
	struct got got;
	uint32_t port;
	int fd;

	setup(&f, FEATURES | VIRTIO_FEATURE(VSOCK_F_SEQPACKET));
	post(&f, 40);
	fd = open_from_host(&f, true, 52, &port);
	host_send(fd, "one");
	host_send(fd, "two");
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpmem(got.data, got.hdr.len, "one", 3);
	g_assert_cmpuint(got.hdr.flags, ==, VIRTIO_VSOCK_SEQ_EOM);
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	g_assert_cmpmem(got.data, got.hdr.len, "two", 3);
	/* a long one comes in parts, of which the last ends it */
	g_assert_cmpint(send(fd, data, 9000, 0), ==, 9000);
	for (int i = 0; i < 3; i++) {
		receive(&f, VIRTIO_VSOCK_OP_RW, &got);
		g_assert_cmpuint(got.hdr.len, ==, i < 2 ? 4096 : 9000 - 8192);
		g_assert_cmpuint(got.hdr.flags, ==, i < 2 ? 0 : VIRTIO_VSOCK_SEQ_EOM);
	}
	hdr = header(VIRTIO_VSOCK_OP_RW, 52, port, 3);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	send_packet(&f, &hdr, "abc");
	hdr.flags = VIRTIO_VSOCK_SEQ_EOM | VIRTIO_VSOCK_SEQ_EOR;
	send_packet(&f, &hdr, "def");
	send_packet(&f, &hdr, "ghi");
	host_expect(fd, "abcdef");
	host_expect(fd, "ghi");
	/* an end without bytes ends what came before, and is no message of its own */
	hdr.flags = 0;
	send_packet(&f, &hdr, "jkl");
	hdr.flags = VIRTIO_VSOCK_SEQ_EOM;
	hdr.len = 0;
	for (int i = 0; i < 2; i++)
		send_packet(&f, &hdr, NULL);
	host_expect(fd, "jkl");
	hdr.len = 3;
	send_packet(&f, &hdr, "mno");
	host_expect(fd, "mno");
	/* of the other type: there is no such connection */
	hdr.type = VIRTIO_VSOCK_TYPE_STREAM;
	send_packet(&f, &hdr, "jkl");
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	g_assert_cmpuint(got.hdr.type, ==, VIRTIO_VSOCK_TYPE_STREAM);
	/* the guest could never take it */
	g_assert_cmpint(send(fd, data, 70000, 0), ==, 70000);
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	g_assert_cmpuint(got.hdr.type, ==, VIRTIO_VSOCK_TYPE_SEQPACKET);
	close(fd);
	fd = open_from_guest(&f, 2, 9, 10);
	host_send(fd, "x");
	receive(&f, VIRTIO_VSOCK_OP_RW, &got);
	close(fd);
	receive(&f, VIRTIO_VSOCK_OP_SHUTDOWN, &got);
	teardown(&f);
}

/* The same while the host does not read: each end is one message's, and its credit comes back. */
static void test_seqpacket_ends(void)
{
	struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_RW, 9, 10, 2);
	unsigned int messages = 3000;
	struct fixture f;
	char buf[16];
	int fd;

	setup(&f, FEATURES | VIRTIO_FEATURE(VSOCK_F_SEQPACKET));
	post(&f, 8);
	fd = open_from_guest(&f, 2, 9, 10);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	for (unsigned int i = 0; i < messages; i++) {
		const char data[] = { (char)i, (char)(i >> 8) };

		hdr.len = 2;
		hdr.flags = 0;
		send_packet(&f, &hdr, data);
		hdr.len = 0;
		hdr.flags = VIRTIO_VSOCK_SEQ_EOM;
		send_packet(&f, &hdr, NULL);
		send_packet(&f, &hdr, NULL); /* empty: nothing */
	}
	for (unsigned int i = 0; i < messages; i++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		g_assert_cmpint(poll(&p, 1, TIMEOUT), ==, 1);
		g_assert_cmpint(recv(fd, buf, sizeof(buf), 0), ==, 2);
		g_assert_cmpint(buf[0], ==, (char)i);
		g_assert_cmpint(buf[1], ==, (char)(i >> 8));
	}
	mock_driver_wait_counter(&f.driver, "tx_bytes", 2UL * messages);
	close(fd);
	teardown(&f);
}

/* Short messages to a host that does not read: bounded by credit, none merged, none lost. */
static void test_seqpacket_many(void)
{
	struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_RW, 9, 10, 1);
	struct fixture f;
	char buf[16];
	int fd;

	setup(&f, FEATURES | VIRTIO_FEATURE(VSOCK_F_SEQPACKET));
	post(&f, 8);
	fd = open_from_guest(&f, 2, 9, 10);
	hdr.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	hdr.flags = VIRTIO_VSOCK_SEQ_EOM;
	for (int i = 0; i < 3000; i++) {
		char c = (char)i;

		send_packet(&f, &hdr, &c);
	}
	for (int i = 0; i < 3000; i++) {
		g_assert_cmpint(recv(fd, buf, sizeof(buf), 0), ==, 1);
		g_assert_cmpint(buf[0], ==, (char)i);
	}
	close(fd);
	teardown(&f);
}

struct odd {
	const char *name;
	struct virtio_vsock_hdr hdr;
	int want; /* op of the answer, 0 none, -1 the device breaks */
};

static void test_odd_packets(void)
{
	struct virtio_vsock_hdr base = header(VIRTIO_VSOCK_OP_RW, 5, 6, 0);
	struct odd odds[] = {
		{ "data without a connection", base, VIRTIO_VSOCK_OP_RST },
		{ "a reset of nothing", header(VIRTIO_VSOCK_OP_RST, 5, 6, 0), 0 },
		{ "an answer to nothing", header(VIRTIO_VSOCK_OP_RESPONSE, 5, 6, 0),
		  VIRTIO_VSOCK_OP_RST },
		{ "op 0", header(0, 5, 6, 0), VIRTIO_VSOCK_OP_RST },
		{ "op 8", header(8, 5, 6, 0), VIRTIO_VSOCK_OP_RST },
		{ "type 0", base, VIRTIO_VSOCK_OP_RST },
		{ "type 2, not negotiated", base, VIRTIO_VSOCK_OP_RST },
		{ "another guest's", base, 0 },
		{ "to another guest", base, 0 },
		{ "long cid", base, 0 },
		{ "longer than it is", header(VIRTIO_VSOCK_OP_RW, 5, 6, 1), -1 },
		{ "too long", header(VIRTIO_VSOCK_OP_RW, 5, 6, 65537), -1 },
	};
	struct fixture f;
	struct got got;

	odds[5].hdr.type = 0;
	odds[6].hdr.type = 2;
	odds[7].hdr.src_cid = CID + 1;
	odds[8].hdr.dst_cid = CID;
	odds[9].hdr.dst_cid = 0x100000002;
	setup(&f, FEATURES);
	post(&f, 16);
	for (size_t i = 0; i < G_N_ELEMENTS(odds); i++) {
		g_test_message("%s", odds[i].name);
		send_raw(&f, &odds[i].hdr, NULL, 0);
		if (odds[i].want < 0) {
			mock_driver_wait_broken(&f.driver);
			mock_driver_reset(&f.driver);
			mock_driver_start(&f.driver, FEATURES);
			continue;
		}
		mock_queue_wait(f.tx, NULL);
		if (odds[i].want)
			receive(&f, (uint16_t)odds[i].want, &got);
		g_assert_true(mock_queue_idle(f.rx));
	}
	g_assert_cmpuint(mock_driver_counter(&f.driver, "dropped"), ==, 3);
	teardown(&f);
}

/* In an open connection: all that a driver must not do ends it, and only it. */
static void test_misuse(void)
{
	static const struct {
		uint16_t op;
		uint32_t flags;
	} cases[] = { { VIRTIO_VSOCK_OP_REQUEST, 0 }, { VIRTIO_VSOCK_OP_RESPONSE, 0 } };
	struct virtio_vsock_hdr hdr;
	struct fixture f;
	struct got got;
	uint32_t port;
	int fd;

	setup(&f, FEATURES);
	post(&f, 32);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		fd = open_from_host(&f, false, 52, &port);
		send_op(&f, cases[i].op, 52, port, cases[i].flags);
		receive(&f, VIRTIO_VSOCK_OP_RST, &got);
		host_expect(fd, "");
		close(fd);
	}
	/* data after its own end */
	fd = open_from_host(&f, false, 52, &port);
	send_op(&f, VIRTIO_VSOCK_OP_SHUTDOWN, 52, port, VIRTIO_VSOCK_SHUTDOWN_SEND);
	host_expect(fd, "");
	hdr = header(VIRTIO_VSOCK_OP_RW, 52, port, 1);
	send_packet(&f, &hdr, "x");
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	close(fd);
	/* data in a connection that it has not accepted */
	fd = host_connect(&f, false);
	host_send(fd, "CONNECT 9\n");
	receive(&f, VIRTIO_VSOCK_OP_REQUEST, &got);
	hdr = header(VIRTIO_VSOCK_OP_RW, 9, got.hdr.src_port, 1);
	send_packet(&f, &hdr, "x");
	receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	close(fd);
	g_assert_false(virtio_device_is_broken(f.driver.dev));
	/* a buffer that is too short for a packet */
	fd = host_connect(&f, false);
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, FEATURES);
	mock_queue_add(f.rx, &(struct mock_buf){ mock_alloc(&f.driver, 64, 16), 44, true }, 1);
	close(fd);
	fd = host_connect(&f, false);
	host_send(fd, "CONNECT 9\n");
	mock_driver_wait_broken(&f.driver);
	close(fd);
	teardown(&f);
}

/* Answers that find no buffers: kept up to a bound, then the transmit queue waits. */
static void test_resets_wait(void)
{
	const struct virtio_vsock_hdr hdr = header(VIRTIO_VSOCK_OP_RW, 5, 6, 0);
	struct fixture f;
	struct got got;

	setup(&f, FEATURES);
	for (unsigned int i = 0; i < 256; i++)
		send_raw(&f, &hdr, NULL, 0);
	for (unsigned int i = 0; i < 256; i++)
		mock_queue_wait(f.tx, NULL);
	send_raw(&f, &hdr, NULL, 0);
	send_raw(&f, &hdr, NULL, 0);
	g_usleep(20000);
	g_assert_true(mock_queue_idle(f.tx));
	for (unsigned int i = 0; i < 258; i++) {
		if (i % 16 == 0)
			post(&f, 16);
		receive(&f, VIRTIO_VSOCK_OP_RST, &got);
	}
	mock_queue_wait(f.tx, NULL);
	mock_queue_wait(f.tx, NULL);
	teardown(&f);
}

static void test_pause(void)
{
	struct fixture f;
	struct got got;
	uint32_t port;
	int fd, late;

	setup(&f, FEATURES);
	post(&f, 16);
	fd = open_from_host(&f, false, 52, &port);
	virtio_device_pause(f.driver.dev);
	host_send(fd, "later");
	late = host_connect(&f, false);
	host_send(late, "CONNECT 53\n");
	g_usleep(20000);
	g_assert_true(mock_queue_idle(f.rx));
	virtio_device_resume(f.driver.dev);
	for (int i = 0; i < 2; i++) {
		uint16_t head = mock_queue_wait(f.rx, NULL);

		mock_read(&f.driver, f.rx_gpa[head], &got, 64);
		g_assert_true(got.hdr.op == VIRTIO_VSOCK_OP_RW ||
			      got.hdr.op == VIRTIO_VSOCK_OP_REQUEST);
	}
	close(fd);
	close(late);
	teardown(&f);
}

static void test_reset(void)
{
	struct virtio_vsock_event event = { .id = 77 };
	struct mock_buf buf;
	struct fixture f;
	uint32_t port;
	int fd;

	setup(&f, FEATURES);
	post(&f, 16);
	/* the machine was restored: all connections end, the driver is told when it has a buffer */
	fd = open_from_host(&f, false, 52, &port);
	virtio_vsock_transport_reset(f.driver.dev);
	host_expect(fd, "");
	close(fd);
	buf = (struct mock_buf){ mock_put(&f.driver, &event, 4), 4, true };
	g_assert_cmpuint(mock_queue_do(f.event, &buf, 1), ==, 4);
	mock_read(&f.driver, buf.gpa, &event, 4);
	g_assert_cmpuint(event.id, ==, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	/* buffers first; one too short breaks it */
	mock_queue_add(f.event, &buf, 1);
	mock_queue_kick(f.event);
	virtio_vsock_transport_reset(f.driver.dev);
	mock_queue_wait(f.event, NULL);
	buf.len = 3;
	mock_queue_add(f.event, &buf, 1);
	virtio_vsock_transport_reset(f.driver.dev);
	mock_driver_wait_broken(&f.driver);
	/* a reset of the device */
	mock_driver_reset(&f.driver);
	mock_driver_start(&f.driver, FEATURES);
	post(&f, 16);
	fd = open_from_host(&f, false, 52, &port);
	mock_driver_reset(&f.driver);
	host_expect(fd, "");
	close(fd);
	teardown(&f);
}

static void test_client(void)
{
	struct err err = { 0 };
	struct fixture f;
	struct got got;
	int pair[2];

	setup(&f, FEATURES);
	post(&f, 16);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			==, 0);
	host_send(pair[0], "CONNECT 22\n");
	g_assert_cmpint(virtio_vsock_add_client(f.driver.dev, pair[1], &err), ==, 0);
	receive(&f, VIRTIO_VSOCK_OP_REQUEST, &got);
	send_op(&f, VIRTIO_VSOCK_OP_RESPONSE, 22, got.hdr.src_port, 0);
	host_expect(pair[0], "OK 1073741824\n");
	close(pair[0]);
	mock_driver_reset(&f.driver);
	g_assert_cmpint(virtio_vsock_add_client(f.driver.dev, eventfd_new(), &err), ==, -ENOTCONN);
	g_assert_cmpstr(err.msg, ==, "vsock '_vsock': the guest has no driver for it (yet)");
	teardown(&f);
}

static void test_many(void)
{
	struct err err = { 0 };
	struct fixture f;
	int fds[VSOCK_CONNS_MAX + 8];
	int pair[2];

	setup(&f, FEATURES);
	/* the most there can be, from the listening socket and not; the rest waits there */
	for (unsigned int i = 0; i < VSOCK_CONNS_MAX; i++) {
		g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
					   pair),
				==, 0);
		fds[i] = pair[0];
		g_assert_cmpint(virtio_vsock_add_client(f.driver.dev, pair[1], &err), ==, 0);
	}
	g_assert_cmpint(virtio_vsock_add_client(f.driver.dev, eventfd_new(), &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==,
			"vsock '_vsock' has 512 connections already, which is the most");
	for (unsigned int i = VSOCK_CONNS_MAX; i < G_N_ELEMENTS(fds); i++) {
		fds[i] = host_connect(&f, false);
		host_send(fds[i], "nonsense\n");
	}
	/* places become free: the others have their turn, and are turned out */
	for (unsigned int i = 0; i < 16; i++)
		close(fds[i]);
	for (unsigned int i = VSOCK_CONNS_MAX; i < G_N_ELEMENTS(fds); i++)
		host_expect(fds[i], "");
	for (unsigned int i = 16; i < G_N_ELEMENTS(fds); i++)
		close(fds[i]);
	teardown(&f);
}

static void test_conformance(void)
{
	struct fixture f;

	setup(&f, FEATURES);
	mock_driver_conformance(&f.driver, f.driver.dev->features_offered);
	g_assert_cmpuint(f.driver.dev->config_size, ==, 8);
	g_assert_cmpmem(f.driver.dev->config, 8, "\x2a\0\0\0\0\0\0\0", 8);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/vsock/from-host", test_from_host);
	g_test_add_func("/virtio/vsock/from-guest", test_from_guest);
	g_test_add_func("/virtio/vsock/refused", test_refused);
	g_test_add_func("/virtio/vsock/hello", test_hello);
	g_test_add_func("/virtio/vsock/credit-to-guest", test_credit_to_guest);
	g_test_add_func("/virtio/vsock/credit-to-host", test_credit_to_host);
	g_test_add_func("/virtio/vsock/seqpacket", test_seqpacket);
	g_test_add_func("/virtio/vsock/seqpacket-ends", test_seqpacket_ends);
	g_test_add_func("/virtio/vsock/seqpacket-many", test_seqpacket_many);
	g_test_add_func("/virtio/vsock/odd-packets", test_odd_packets);
	g_test_add_func("/virtio/vsock/misuse", test_misuse);
	g_test_add_func("/virtio/vsock/resets-wait", test_resets_wait);
	g_test_add_func("/virtio/vsock/pause", test_pause);
	g_test_add_func("/virtio/vsock/reset", test_reset);
	g_test_add_func("/virtio/vsock/client", test_client);
	g_test_add_func("/virtio/vsock/many", test_many);
	g_test_add_func("/virtio/vsock/conformance", test_conformance);
	return g_test_run();
}
