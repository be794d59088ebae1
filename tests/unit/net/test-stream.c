/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream socket, with the test as the other program
 */
#include "vmm/net/stream.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define HDR NET_HEADER_SIZE

struct fixture {
	struct net_backend *b;
	int wire;
};

static void setup(struct fixture *f)
{
	struct err err = { 0 };
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	if (net_stream_new(pair[0], &f->b, &err) < 0)
		g_error("%s", err.msg);
	f->wire = pair[1];
}

static void teardown(struct fixture *f)
{
	net_backend_free(f->b);
	if (f->wire >= 0)
		close(f->wire);
}

static void pattern(uint8_t *buf, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void wire_put(struct fixture *f, const void *buf, size_t len)
{
	g_assert_cmpint(fd_write_all(f->wire, buf, len), ==, 0);
}

static void wire_frame(struct fixture *f, const uint8_t *frame, uint32_t len)
{
	g_autofree uint8_t *wire = g_malloc(sizeof(be32) + len);
	be32 prefix = be32_make(len);

	memcpy(wire, &prefix, sizeof(prefix));
	memcpy(wire + sizeof(prefix), frame, len);
	wire_put(f, wire, sizeof(prefix) + len);
}

static ssize_t receive(struct fixture *f, uint8_t *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return f->b->ops->receive(f->b, &iov, 1);
}

static void wire_get(struct fixture *f, void *buf, size_t len)
{
	g_assert_cmpint(recv(f->wire, buf, len, MSG_WAITALL), ==, (ssize_t)len);
}

/* --- the parser --- */

static void test_parse(void)
{
	static const struct {
		const char *name;
		uint8_t bytes[8];
		size_t len;
		int result;
		uint32_t frame;
	} cases[] = {
		{ "nothing", { 0 }, 0, 0, 0 },
		{ "half a prefix", { 0, 0, 0 }, 3, 0, 0 },
		{ "a prefix alone", { 0, 0, 0, 2 }, 4, 0, 0 },
		{ "half a frame", { 0, 0, 0, 2, 9 }, 5, 0, 0 },
		{ "a frame", { 0, 0, 0, 2, 9, 9 }, 6, 1, 2 },
		{ "a frame and a half", { 0, 0, 0, 2, 9, 9, 0, 0 }, 8, 1, 2 },
		{ "an empty frame", { 0, 0, 0, 0, 1 }, 5, -EPROTO, 0 },
		{ "one of 65652 bytes", { 0, 1, 0, 0x74, 1 }, 5, 0, 0 },
		{ "one of 65653 bytes", { 0, 1, 0, 0x75, 1 }, 5, -EPROTO, 0 },
		{ "four gigabytes", { 255, 255, 255, 255 }, 4, -EPROTO, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		uint32_t len = 0;

		g_test_message("%s", cases[i].name);
		g_assert_cmpint(net_stream_parse(cases[i].bytes, cases[i].len, &len), ==,
				cases[i].result);
		g_assert_cmpuint(len, ==, cases[i].frame);
	}
}

/* --- receive --- */

static void test_receive(void)
{
	static uint8_t frame[65000], got[HDR + sizeof(frame)];
	struct fixture f;

	setup(&f);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EAGAIN);
	g_assert_false(f.b->ops->has_frames(f.b));
	for (uint32_t len = 14; len < 1500; len += 31) {
		pattern(frame, len, len);
		wire_frame(&f, frame, len);
	}
	for (uint32_t len = 14; len < 1500; len += 31) {
		memset(got, 0xff, HDR);
		pattern(frame, len, len);
		g_assert_cmpint(receive(&f, got, sizeof(got)), ==, HDR + len);
		g_assert_cmpmem(got + HDR, len, frame, len);
		for (unsigned int i = 0; i < HDR; i++)
			g_assert_cmpuint(got[i], ==, 0);
		/* what one read brought is known to be there */
		g_assert_true(f.b->ops->has_frames(f.b) == (len + 31 < 1500));
	}
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EAGAIN);
	teardown(&f);
}

/* A byte at a time, into buffers that cut header and frame anywhere. */
static void test_receive_pieces(void)
{
	uint8_t wire[4 + 100], got[HDR + 100];
	struct iovec iov[] = { { got, 5 }, { got + 5, 0 }, { got + 5, 20 }, { got + 25, 87 } };
	be32 prefix = be32_make(100);
	struct fixture f;

	setup(&f);
	memcpy(wire, &prefix, 4);
	pattern(wire + 4, 100, 3);
	for (unsigned int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(wire); i++) {
			g_assert_cmpint(f.b->ops->receive(f.b, iov, 4), ==, -EAGAIN);
			wire_put(&f, &wire[i], 1);
		}
		g_assert_cmpint(f.b->ops->receive(f.b, iov, 4), ==, HDR + 100);
		g_assert_cmpmem(got + HDR, 100, wire + 4, 100);
	}
	teardown(&f);
}

/* Too long for the buffers: it is gone, the next one is whole. */
static void test_receive_short(void)
{
	uint8_t frame[200], got[HDR + 100];
	struct fixture f;

	setup(&f);
	pattern(frame, sizeof(frame), 1);
	wire_frame(&f, frame, 200);
	wire_frame(&f, frame, 100);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EMSGSIZE);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, sizeof(got));
	g_assert_cmpmem(got + HDR, 100, frame, 100);
	g_assert_cmpint(receive(&f, got, 3), ==, -EAGAIN);
	teardown(&f);
}

static void test_receive_end(void)
{
	uint8_t frame[60] = { 0 }, got[HDR + 100];
	struct fixture f;

	setup(&f);
	wire_frame(&f, frame, sizeof(frame));
	wire_put(&f, "\0\0", 2);
	close(f.wire);
	f.wire = -EBADF;
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, HDR + 60);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EPIPE);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EPIPE);
	teardown(&f);
	setup(&f);
	wire_put(&f, "\xff\xff\xff\xff", 4);
	g_assert_cmpint(receive(&f, got, sizeof(got)), ==, -EPROTO);
	teardown(&f);
}

/* --- send --- */

static int send_one(struct fixture *f, const uint8_t *frame, size_t len)
{
	uint8_t header[HDR] = { 0xee };
	/* the header apart, and cut */
	struct iovec iov[] = { { header, 7 }, { header + 7, 5 }, { (void *)frame, len } };

	return f->b->ops->send(f->b, iov, 3);
}

static void expect_on_wire(struct fixture *f, const uint8_t *frame, size_t len)
{
	static uint8_t got[NET_FRAME_MAX];
	be32 prefix;

	wire_get(f, &prefix, sizeof(prefix));
	g_assert_cmpuint(be32_get(prefix), ==, len);
	wire_get(f, got, len);
	g_assert_cmpmem(got, len, frame, len);
}

static void test_send(void)
{
	static uint8_t frames[10][1514];
	struct fixture f;
	char byte;

	setup(&f);
	for (unsigned int i = 0; i < 10; i++) {
		pattern(frames[i], sizeof(frames[i]), i);
		g_assert_cmpint(send_one(&f, frames[i], 60 + i * 100), ==, 0);
	}
	/* nothing leaves before the flush */
	g_assert_cmpint(recv(f.wire, &byte, 1, MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(f.b->ops->flush(f.b), ==, 0);
	for (unsigned int i = 0; i < 10; i++)
		expect_on_wire(&f, frames[i], 60 + i * 100);
	g_assert_cmpint(f.b->ops->flush(f.b), ==, 0);
	g_assert_cmpint(recv(f.wire, &byte, 1, MSG_DONTWAIT), ==, -1);
	teardown(&f);
}

/* The socket is full: what was taken arrives whole and in order, whatever happened to its memory.
 */
static void test_send_full(void)
{
	static uint8_t frame[65000], scratch[65000];
	unsigned int sent = 0, taken = 0, blocked = 0;
	struct fixture f;
	int r;

	setup(&f);
	pattern(frame, sizeof(frame), 9);
	while (blocked < 5) {
		size_t len = 1000 + sent * 977 % 64000;

		memcpy(scratch, frame, len);
		r = send_one(&f, scratch, len);
		if (r == 0) {
			sent++;
			r = f.b->ops->flush(f.b);
			memset(scratch, 0xdd, sizeof(scratch));
		}
		if (r == 0)
			continue;
		g_assert_cmpint(r, ==, -EAGAIN);
		blocked++;
		g_assert_cmpint(send_one(&f, scratch, len), ==, -EAGAIN);
		for (unsigned int i = 0; i < 3 && taken < sent; i++, taken++)
			expect_on_wire(&f, frame, 1000 + taken * 977 % 64000);
	}
	while (f.b->ops->flush(f.b) == -EAGAIN || taken < sent)
		expect_on_wire(&f, frame, 1000 + taken++ * 977 % 64000);
	g_assert_cmpuint(taken, ==, sent);
	teardown(&f);
}

static void test_send_refused(void)
{
	static uint8_t frame[NET_FRAME_MAX + 1];
	struct fixture f;

	setup(&f);
	g_assert_cmpint(send_one(&f, frame, 0), ==, -EMSGSIZE);
	g_assert_cmpint(send_one(&f, frame, NET_FRAME_MAX - HDR + 1), ==, -EMSGSIZE);
	close(f.wire);
	f.wire = -EBADF;
	g_assert_cmpint(send_one(&f, frame, 60), ==, 0);
	g_assert_cmpint(f.b->ops->flush(f.b), ==, -EPIPE);
	teardown(&f);
}

static void test_new(void)
{
	struct net_backend *b = NULL;
	struct err err = { 0 };
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
	g_assert_cmpint(net_stream_new(pair[0], &b, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "the network socket is not a SOCK_STREAM");
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/net/stream/parse", test_parse);
	g_test_add_func("/net/stream/receive", test_receive);
	g_test_add_func("/net/stream/receive/pieces", test_receive_pieces);
	g_test_add_func("/net/stream/receive/too-long", test_receive_short);
	g_test_add_func("/net/stream/receive/end", test_receive_end);
	g_test_add_func("/net/stream/send", test_send);
	g_test_add_func("/net/stream/send/full", test_send_full);
	g_test_add_func("/net/stream/send/refused", test_send_refused);
	g_test_add_func("/net/stream/new", test_new);
	return g_test_run();
}
