/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of virtio-vsock's packets and connections: a list of {u8 what, arguments}
 *
 * Guest and host take turns as the input says: packets of the guest, whole headers
 * or ones that fit a connection, packets taken by it, sockets of the host that
 * come, send, read and go, answers to wishes, pauses and resets.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/vsock-mux.h"

#define CID       3
#define PEERS     8U
#define STEPS_MAX 400

struct world {
	struct vsock_mux mux;
	struct loop loop;
	int peers[PEERS]; /* the host's ends */
	const uint8_t *data;
	size_t size;
};

static uint8_t guest_memory[VSOCK_PAYLOAD_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void nothing(void *data)
{
	(void)data;
}

static const struct vsock_mux_ops ops = { .work = nothing, .wish = nothing };

static uint32_t take(struct world *w, unsigned int n)
{
	uint32_t v = 0;

	if (w->size < n)
		n = (unsigned int)w->size;
	memcpy(&v, w->data, n);
	w->data += n;
	w->size -= n;
	return v;
}

static void check(const struct world *w)
{
	const struct vsock_conn *conn;
	uint32_t n = 0;

	LIST_FOREACH(conn, &w->mux.conns, link) {
		assert(conn->buffer.len <= VSOCK_BUFFER_SIZE);
		assert(conn->rx_cnt - conn->fwd_cnt <= VSOCK_BUFFER_SIZE);
		assert((conn->buffer.data != NULL) == (conn->buffer.len > 0));
		n++;
	}
	assert(n == w->mux.n_conns && n <= VSOCK_CONNS_MAX);
	assert(w->mux.n_resets <= VSOCK_RESETS_MAX);
}

static void packet(struct world *w, const struct virtio_vsock_hdr *hdr, uint32_t payload)
{
	struct vsock_packet p = { 0 };
	struct iovec iov[2];
	int r;

	if (vsock_mux_is_full(&w->mux))
		return;
	r = vsock_packet_parse(hdr, payload, CID, true, &p);
	if (r < 0 || r == VSOCK_VERDICT_DROP)
		return;
	assert(p.len <= payload && p.len <= VSOCK_PAYLOAD_MAX);
	if (r == VSOCK_VERDICT_RESET) {
		vsock_mux_refuse(&w->mux, &p);
		return;
	}
	iov[0] = (struct iovec){ guest_memory, p.len / 3 };
	iov[1] = (struct iovec){ guest_memory + p.len / 3, p.len - p.len / 3 };
	vsock_mux_receive(&w->mux, &p, iov, p.len ? 2 : 0);
}

static void whole_packet(struct world *w)
{
	struct virtio_vsock_hdr hdr = { 0 };
	size_t n = MIN(w->size, sizeof(hdr));

	memcpy(&hdr, w->data, n);
	w->data += n;
	w->size -= n;
	packet(w, &hdr, VSOCK_PAYLOAD_MAX);
}

/* One that most likely means something to an open connection. */
static void fitting_packet(struct world *w)
{
	uint32_t what = take(w, 1), which = take(w, 1), len = take(w, 2);
	struct virtio_vsock_hdr hdr = {
		.src_cid = CID,
		.dst_cid = VSOCK_CID_HOST,
		.type = (uint16_t)(1 + (what >> 7)),
		.op = (uint16_t)(what & 15),
		.flags = (what >> 4) & 3,
		.src_port = which & 3,
		.dst_port = which & 0x80 ? (1U << 30) + ((which >> 2) & 15) : (which >> 2) & 15,
		.buf_alloc = 1U << 18,
	};

	hdr.len = hdr.op == VIRTIO_VSOCK_OP_RW ? len : 0;
	if (what & 0x40) {
		hdr.buf_alloc = take(w, 4);
		hdr.fwd_cnt = take(w, 4);
	}
	packet(w, &hdr, VSOCK_PAYLOAD_MAX);
}

static void fill(struct world *w)
{
	uint32_t room = 1 + take(w, 1) * 17;
	struct iovec iov[2] = { { guest_memory, room / 2 + 1 }, { guest_memory + room, room } };
	struct vsock_packet p = { 0 };

	if (vsock_mux_fill(&w->mux, &p, iov, 2) == 0)
		return;
	assert(p.op >= VIRTIO_VSOCK_OP_REQUEST && p.op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	assert(p.len <= iov[0].iov_len + iov[1].iov_len);
	assert(p.op == VIRTIO_VSOCK_OP_RW ? p.len > 0 : p.len == 0);
}

static void set_peer(struct world *w, uint32_t i, int fd)
{
	if (w->peers[i] >= 0)
		close(w->peers[i]);
	w->peers[i] = fd;
}

static int new_pair(int type, int *ret_mine)
{
	int pair[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	*ret_mine = pair[0];
	return pair[1];
}

static void client(struct world *w)
{
	uint32_t i = take(w, 1), port = take(w, 1);
	char line[32];
	int mine, n;

	n = snprintf(line, sizeof(line), "CONNECT %u\n", port & 3);
	if (vsock_mux_add_client(&w->mux, new_pair(SOCK_STREAM, &mine)) < 0) {
		close(mine);
		return;
	}
	/* mostly the line, else what the input has */
	if (port & 0x80) {
		n = (int)MIN(w->size, (size_t)20);
		memcpy(line, w->data, (size_t)n);
	}
	(void)!write(mine, line, (size_t)n);
	set_peer(w, i % PEERS, mine);
}

static void grant(struct world *w)
{
	uint32_t how = take(w, 1);
	struct vsock_wish wish;
	int mine;

	if (!vsock_mux_next_wish(&w->mux, &wish))
		return;
	if (how & 0x80) {
		vsock_mux_answer(&w->mux, wish.cookie, -111);
		return;
	}
	vsock_mux_answer(&w->mux, wish.cookie,
			 new_pair(wish.seqpacket ? SOCK_SEQPACKET : SOCK_STREAM, &mine));
	set_peer(w, how % PEERS, mine);
}

static void host(struct world *w)
{
	static uint8_t buf[20000];
	uint32_t what = take(w, 1);
	int fd = w->peers[what % PEERS];

	if (fd < 0)
		return;
	switch (what >> 3 & 7) {
	case 0:
	case 1:
	case 2:
		(void)!send(fd, buf, take(w, 2) % sizeof(buf), MSG_NOSIGNAL);
		break;
	case 3:
	case 4:
		(void)!recv(fd, buf, sizeof(buf), 0);
		break;
	case 5:
		shutdown(fd, SHUT_WR);
		break;
	case 6:
		shutdown(fd, SHUT_RD);
		break;
	default:
		set_peer(w, what % PEERS, -1);
		break;
	}
}

/* One turn of the loop. */
static void turn(struct world *w)
{
	struct epoll_event events[16];
	int n = epoll_wait(w->loop.epoll_fd, events, 16, 0);

	for (int i = 0; i < n; i++) {
		struct loop_source *source = events[i].data.ptr;

		if (source->armed)
			source->fn(source, events[i].events);
	}
}

static void step(struct world *w)
{
	switch (take(w, 1) % 10) {
	case 0:
		whole_packet(w);
		break;
	case 1:
	case 2:
		fitting_packet(w);
		break;
	case 3:
	case 4:
		fill(w);
		break;
	case 5:
		client(w);
		break;
	case 6:
		grant(w);
		break;
	case 7:
		host(w);
		break;
	case 8:
		turn(w);
		break;
	default:
		vsock_mux_stop(&w->mux);
		if (take(w, 1) & 1)
			vsock_mux_clear(&w->mux);
		if (vsock_mux_start(&w->mux, &w->loop) < 0)
			abort();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int none[VSOCK_LISTENERS] = { -1, -1 };
	struct world w = { .data = data, .size = size };
	struct err err = { 0 };

	for (unsigned int i = 0; i < PEERS; i++)
		w.peers[i] = -1;
	if (loop_init(&w.loop, "fuzz", NULL, &err) < 0 ||
	    vsock_mux_init(&w.mux, &ops, NULL, none, &err) < 0 ||
	    vsock_mux_start(&w.mux, &w.loop) < 0)
		abort();
	for (int i = 0; w.size > 0 && i < STEPS_MAX; i++) {
		step(&w);
		check(&w);
	}
	vsock_mux_stop(&w.mux);
	vsock_mux_deinit(&w.mux);
	loop_stop(&w.loop);
	for (unsigned int i = 0; i < PEERS; i++)
		set_peer(&w, i, -1);
	return 0;
}
