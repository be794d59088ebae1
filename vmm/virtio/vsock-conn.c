/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/virtio/vsock-mux.h"

#define REQUEST_USEC  2000000ULL /* for an answer to a request, from either side */
#define SHUTDOWN_USEC 2000000ULL /* for RST after SHUTDOWN; for the host to take more */
#define HELLO_USEC    30000000ULL
#define HELLO_MAX     32U
/* The guest hears of its credit when it sees less than this. */
#define CREDIT_LOW (VSOCK_BUFFER_SIZE / 2)

#define PENDING(op)   ((uint16_t)(1U << VIRTIO_VSOCK_OP_##op))
#define SHUTDOWN_RCV  VIRTIO_VSOCK_SHUTDOWN_RCV
#define SHUTDOWN_SEND VIRTIO_VSOCK_SHUTDOWN_SEND
#define SHUTDOWN_BOTH (SHUTDOWN_RCV | SHUTDOWN_SEND)

void vsock_conn_init(struct vsock_conn *conn, struct vsock_mux *mux, enum vsock_conn_state state,
		     int fd, bool seqpacket)
{
	*conn = (struct vsock_conn){ .mux = mux, .state = state, .seqpacket = seqpacket };
	list_init(&conn->link);
	list_init(&conn->table_link);
	list_init(&conn->ready_link);
	conn->source = (struct loop_source){ .fd = fd, .fn = vsock_conn_on_socket, .data = conn };
	if (state == VSOCK_CONN_HELLO)
		vsock_mux_set_deadline(conn, HELLO_USEC);
	if (state == VSOCK_CONN_ASKING)
		vsock_mux_set_deadline(conn, REQUEST_USEC);
}

static void close_socket(struct vsock_conn *conn)
{
	if (conn->source.armed)
		loop_remove(conn->mux->loop, &conn->source);
	if (conn->source.fd >= 0)
		close(conn->source.fd);
	conn->source.fd = -EBADF;
	vsock_buffer_clear(&conn->buffer);
	free(conn->message);
	conn->message = NULL;
}

void vsock_conn_deinit(struct vsock_conn *conn)
{
	close_socket(conn);
}

/* --- what is watched --- */

static bool wants_input(const struct vsock_conn *conn)
{
	return !conn->ended && !(conn->guest_shutdown & SHUTDOWN_RCV);
}

/* 0: nothing; then it must not be in the epoll at all, which would go on telling of hang-ups. */
static uint32_t wanted_events(const struct vsock_conn *conn)
{
	uint32_t out = vsock_buffer_is_sendable(&conn->buffer) ? EPOLLOUT : 0;

	switch (conn->state) {
	case VSOCK_CONN_HELLO:
		/* An unfinished line stays in the socket: hear only of what is new. */
		return EPOLLIN | EPOLLET;
	case VSOCK_CONN_OPEN:
		if (conn->hung_up)
			return conn->readable ? 0 : EPOLLIN;
		if (!wants_input(conn))
			return out ? out : EPOLLET;
		return out | (conn->readable ? 0 : EPOLLIN | EPOLLRDHUP);
	case VSOCK_CONN_CLOSING:
		return out;
	case VSOCK_CONN_REQUESTED:
	case VSOCK_CONN_ASKING:
	case VSOCK_CONN_DEAD:
		break;
	}
	return 0;
}

void vsock_conn_watch(struct vsock_conn *conn)
{
	struct loop *loop = conn->mux->loop;
	uint32_t events = loop && conn->source.fd >= 0 ? wanted_events(conn) : 0;

	if (conn->hung_up && !wants_input(conn))
		events = 0;
	if (!events) {
		if (loop && conn->source.armed)
			loop_remove(loop, &conn->source);
		return;
	}
	if (conn->source.armed) {
		loop_modify(loop, &conn->source, events);
		return;
	}
	conn->source.events = events;
	if (loop_add(loop, &conn->source) < 0)
		log_guest("vsock: a connection cannot be watched");
}

/* --- ends --- */

/* Misuse, or the host's socket failed: the guest hears of it by a RST. */
static void kill_conn(struct vsock_conn *conn)
{
	close_socket(conn);
	if (conn->state == VSOCK_CONN_HELLO || conn->state == VSOCK_CONN_CLOSING) {
		vsock_mux_drop(conn); /* the guest does not know it */
		return;
	}
	atomic_fetch_add_explicit(&conn->mux->reset, 1, memory_order_relaxed);
	conn->state = VSOCK_CONN_DEAD;
	conn->pending = PENDING(RST);
	vsock_mux_set_deadline(conn, 0);
	vsock_mux_set_ready(conn, true);
}

/* The guest is done with it; its last bytes are not. */
static void leave_guest(struct vsock_conn *conn)
{
	vsock_mux_leave(conn);
	if (conn->state != VSOCK_CONN_OPEN || !vsock_buffer_is_sendable(&conn->buffer)) {
		vsock_mux_drop(conn);
		return;
	}
	conn->state = VSOCK_CONN_CLOSING;
	conn->pending = 0;
	vsock_mux_set_ready(conn, false);
	vsock_mux_set_deadline(conn, SHUTDOWN_USEC);
	vsock_conn_watch(conn);
}

void vsock_conn_on_deadline(struct vsock_conn *conn)
{
	conn->deadline_ns = 0;
	if (conn->state == VSOCK_CONN_REQUESTED || conn->state == VSOCK_CONN_ASKING)
		atomic_fetch_add_explicit(&conn->mux->refused, 1, memory_order_relaxed);
	kill_conn(conn);
}

/* --- towards the guest: what is to be told --- */

static void tell(struct vsock_conn *conn, uint16_t pending)
{
	conn->pending |= pending;
	vsock_mux_set_ready(conn, true);
}

static void tell_shutdown(struct vsock_conn *conn, uint8_t flags)
{
	if ((conn->told_shutdown | flags) == conn->told_shutdown)
		return;
	conn->told_shutdown |= flags;
	tell(conn, PENDING(SHUTDOWN));
	if (conn->told_shutdown == SHUTDOWN_BOTH)
		vsock_mux_set_deadline(conn, SHUTDOWN_USEC);
}

/* What the guest may be sent still (5.10.6.3); nonsense counts as nothing. */
static uint32_t peer_credit(const struct vsock_conn *conn)
{
	uint32_t in_flight = conn->tx_cnt - conn->peer_fwd_cnt;

	return in_flight < conn->peer_buf_alloc ? conn->peer_buf_alloc - in_flight : 0;
}

/* What the guest believes it may send still. */
static uint32_t told_credit(const struct vsock_conn *conn)
{
	return VSOCK_BUFFER_SIZE - (conn->rx_cnt - conn->told_fwd_cnt);
}

static void offer_credit(struct vsock_conn *conn)
{
	if (conn->fwd_cnt != conn->told_fwd_cnt && told_credit(conn) < CREDIT_LOW)
		tell(conn, PENDING(CREDIT_UPDATE));
}

/* --- towards the host --- */

static void count_sent(struct vsock_conn *conn, size_t n)
{
	conn->fwd_cnt += (uint32_t)n;
	atomic_fetch_add_explicit(&conn->mux->tx_bytes, n, memory_order_relaxed);
}

/* The host's socket takes no more: what comes is dropped, the guest is told. */
static void deafen(struct vsock_conn *conn)
{
	vsock_buffer_clear(&conn->buffer);
	conn->deaf = true;
	conn->fwd_cnt = conn->rx_cnt;
	if (conn->state == VSOCK_CONN_OPEN)
		tell_shutdown(conn, SHUTDOWN_RCV);
}

static void shut_sending(struct vsock_conn *conn)
{
	if ((conn->guest_shutdown & SHUTDOWN_SEND) && !vsock_buffer_is_sendable(&conn->buffer))
		shutdown(conn->source.fd, SHUT_WR);
}

static void flush(struct vsock_conn *conn)
{
	ssize_t n;

	while ((n = vsock_buffer_send(&conn->buffer, conn->source.fd)) > 0) {
		count_sent(conn, (size_t)n);
		if (conn->state == VSOCK_CONN_CLOSING)
			vsock_mux_set_deadline(conn, SHUTDOWN_USEC);
	}
	if (n < 0 && n != -EAGAIN && n != -ENOBUFS)
		deafen(conn);
	if (conn->state == VSOCK_CONN_CLOSING) {
		if (!vsock_buffer_is_sendable(&conn->buffer))
			vsock_mux_drop(conn);
		return;
	}
	offer_credit(conn);
	shut_sending(conn);
}

/* As much as the socket takes at once: bytes, or -errno. */
static ssize_t send_now(struct vsock_conn *conn, const struct iovec *iov, size_t n_iov)
{
	/* sendmsg only reads them */
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n_iov };
	ssize_t n;

	do {
		n = sendmsg(conn->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
	return n;
}

static void receive_data(struct vsock_conn *conn, const struct vsock_packet *packet,
			 const struct iovec *iov, size_t n_iov)
{
	bool end = packet->flags & VIRTIO_VSOCK_SEQ_EOM;
	ssize_t n = 0;

	if ((conn->guest_shutdown & SHUTDOWN_SEND) ||
	    packet->len > VSOCK_BUFFER_SIZE - (conn->rx_cnt - conn->fwd_cnt)) {
		kill_conn(conn);
		return;
	}
	conn->rx_cnt += packet->len;
	if (!conn->deaf && !conn->seqpacket && conn->buffer.len == 0 && packet->len > 0) {
		n = send_now(conn, iov, n_iov);
		if (n < 0)
			deafen(conn);
		else
			count_sent(conn, (size_t)n);
	}
	if (conn->deaf) {
		conn->fwd_cnt = conn->rx_cnt;
	} else if (vsock_buffer_put(&conn->buffer, iov, n_iov, (size_t)n, conn->seqpacket, end) <
		   0) {
		kill_conn(conn);
		return;
	}
	if (conn->seqpacket && end && !conn->deaf)
		flush(conn);
	offer_credit(conn);
}

static void receive_shutdown(struct vsock_conn *conn, const struct vsock_packet *packet)
{
	conn->guest_shutdown |= (uint8_t)(packet->flags & SHUTDOWN_BOTH);
	if (conn->guest_shutdown == SHUTDOWN_BOTH) {
		vsock_mux_refuse(conn->mux, packet); /* the clean end */
		leave_guest(conn);
		return;
	}
	if (conn->guest_shutdown & SHUTDOWN_RCV) {
		shutdown(conn->source.fd, SHUT_RD);
		free(conn->message);
		conn->message = NULL;
	}
	shut_sending(conn);
}

static void receive_open(struct vsock_conn *conn, const struct vsock_packet *packet,
			 const struct iovec *iov, size_t n_iov)
{
	switch (packet->op) {
	case VIRTIO_VSOCK_OP_RW:
		receive_data(conn, packet, iov, n_iov);
		break;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		receive_shutdown(conn, packet);
		break;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		tell(conn, PENDING(CREDIT_UPDATE));
		break;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		break;
	default: /* REQUEST, RESPONSE */
		kill_conn(conn);
		break;
	}
}

static void take_credit(struct vsock_conn *conn, const struct vsock_packet *packet)
{
	conn->peer_buf_alloc = packet->buf_alloc;
	conn->peer_fwd_cnt = packet->fwd_cnt;
	if (conn->state != VSOCK_CONN_OPEN || peer_credit(conn) == 0)
		return;
	conn->credit_asked = false;
	if (conn->readable || conn->message)
		vsock_mux_set_ready(conn, true);
}

static void accepted(struct vsock_conn *conn)
{
	char line[HELLO_MAX];
	int len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);

	if (send(conn->source.fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len) {
		kill_conn(conn);
		return;
	}
	conn->state = VSOCK_CONN_OPEN;
	vsock_mux_set_deadline(conn, 0);
	atomic_fetch_add_explicit(&conn->mux->opened, 1, memory_order_relaxed);
}

void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
			const struct iovec *iov, size_t n_iov)
{
	if (packet->op == VIRTIO_VSOCK_OP_RST) {
		if (conn->state == VSOCK_CONN_REQUESTED)
			atomic_fetch_add_explicit(&conn->mux->refused, 1, memory_order_relaxed);
		leave_guest(conn);
		return;
	}
	if (conn->state == VSOCK_CONN_DEAD)
		return; /* the RST is on its way */
	take_credit(conn, packet);
	if (conn->state == VSOCK_CONN_REQUESTED && packet->op == VIRTIO_VSOCK_OP_RESPONSE)
		accepted(conn);
	else if (conn->state == VSOCK_CONN_OPEN)
		receive_open(conn, packet, iov, n_iov);
	else if (packet->op == VIRTIO_VSOCK_OP_SHUTDOWN &&
		 (packet->flags & SHUTDOWN_BOTH) == SHUTDOWN_BOTH)
		receive_shutdown(conn, packet);
	else
		kill_conn(conn);
	vsock_conn_watch(conn);
}

/* --- from the host --- */

/* The number of "CONNECT <number>\n": 0 or -EPROTO. */
static int parse_hello(const char *line, size_t len, uint32_t *ret)
{
	static const char word[] = "CONNECT ";
	const size_t at = sizeof(word) - 1;
	uint64_t port = 0;

	if (len < at + 2 || memcmp(line, word, at) != 0)
		return -EPROTO;
	for (size_t i = at; i < len - 1; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -EPROTO;
		port = port * 10 + (uint64_t)(line[i] - '0');
		if (port > UINT32_MAX)
			return -EPROTO;
	}
	*ret = (uint32_t)port;
	return 0;
}

/* 1 and the port, 0 not yet, -errno. What follows the line stays in the socket. */
static int take_hello(struct vsock_conn *conn, uint32_t *ret)
{
	char line[HELLO_MAX];
	const char *end;
	size_t len;
	ssize_t n = recv(conn->source.fd, line, sizeof(line), MSG_DONTWAIT | MSG_PEEK);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	end = memchr(line, '\n', (size_t)n);
	if (!end)
		return conn->seqpacket || n == sizeof(line) ? -EPROTO : 0;
	len = (size_t)(end + 1 - line);
	if (conn->seqpacket && len != (size_t)n)
		return -EPROTO;
	if (parse_hello(line, len, ret) < 0)
		return -EPROTO;
	return recv(conn->source.fd, line, len, MSG_DONTWAIT) < 0 ? -errno : 1;
}

static void hello(struct vsock_conn *conn)
{
	uint32_t port = 0;
	int r = take_hello(conn, &port);

	if (r == 0)
		return;
	if (r < 0) {
		vsock_mux_drop(conn);
		return;
	}
	vsock_mux_enter(conn->mux, conn, port);
	conn->state = VSOCK_CONN_REQUESTED;
	vsock_mux_set_deadline(conn, REQUEST_USEC);
	tell(conn, PENDING(REQUEST));
}

void vsock_conn_answer(struct vsock_conn *conn, int fd)
{
	if (fd < 0) {
		atomic_fetch_add_explicit(&conn->mux->refused, 1, memory_order_relaxed);
		kill_conn(conn);
		return;
	}
	conn->source.fd = fd;
	conn->state = VSOCK_CONN_OPEN;
	vsock_mux_set_deadline(conn, 0);
	atomic_fetch_add_explicit(&conn->mux->opened, 1, memory_order_relaxed);
	tell(conn, PENDING(RESPONSE));
	vsock_conn_watch(conn);
}

void vsock_conn_on_socket(struct loop_source *source, uint32_t events)
{
	struct vsock_conn *conn = source->data;
	struct vsock_mux *mux = conn->mux;

	conn->half = conn->half || (events & (EPOLLRDHUP | EPOLLHUP));
	conn->hung_up = conn->hung_up || (events & EPOLLHUP);
	if (conn->state == VSOCK_CONN_HELLO) {
		hello(conn);
	} else {
		if (vsock_buffer_is_sendable(&conn->buffer))
			flush(conn);
		if (conn->state == VSOCK_CONN_OPEN && wants_input(conn) &&
		    (events & ~(uint32_t)EPOLLOUT)) {
			conn->readable = true;
			vsock_mux_set_ready(conn, true);
		}
		if (conn->state == VSOCK_CONN_OPEN && conn->hung_up && !wants_input(conn))
			tell_shutdown(conn, SHUTDOWN_BOTH);
	}
	vsock_conn_watch(conn);
	mux->ops->work(mux->data);
}

/* --- packets for the guest --- */

static int input_ended(struct vsock_conn *conn)
{
	conn->readable = false;
	conn->ended = true;
	tell_shutdown(conn, conn->hung_up ? SHUTDOWN_BOTH : SHUTDOWN_SEND);
	return 1;
}

/* What recv() said, other than bytes: 1 there is a packet, 0 there is nothing. */
static int no_input(struct vsock_conn *conn, int code)
{
	if (code == EAGAIN || code == EINTR) {
		conn->readable = false;
		return 0;
	}
	kill_conn(conn);
	return 1;
}

/* iov cut to at most max bytes; returns how many entries. */
static size_t cut(const struct iovec *iov, size_t n_iov, uint32_t max, struct iovec *ret)
{
	size_t n = 0;

	for (; n < n_iov && max > 0; n++) {
		ret[n] = iov[n];
		ret[n].iov_len = MIN(ret[n].iov_len, (size_t)max);
		max -= (uint32_t)ret[n].iov_len;
	}
	return n;
}

/* Bytes for the packet in *ret_len: 1; or 1 with another packet pending; or 0. */
static int read_stream(struct vsock_conn *conn, const struct iovec *iov, size_t n_iov,
		       uint32_t *ret_len)
{
	uint32_t max = MIN(peer_credit(conn), VSOCK_PAYLOAD_MAX);
	struct iovec part[VSOCK_IOV_MAX];
	struct msghdr msg = { .msg_iov = part, .msg_iovlen = cut(iov, n_iov, max, part) };
	ssize_t n = recvmsg(conn->source.fd, &msg, MSG_DONTWAIT);

	if (n < 0)
		return no_input(conn, errno);
	if (n == 0)
		return input_ended(conn);
	*ret_len = (uint32_t)n;
	return 1;
}

/* The next message into conn->message: 1, or as read_stream(). */
static int read_message(struct vsock_conn *conn)
{
	ssize_t n = recv(conn->source.fd, NULL, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);

	if (n < 0)
		return no_input(conn, errno);
	if (n == 0 && conn->half)
		return input_ended(conn);
	if (n == 0) { /* an empty message is none, or the end is about to be heard of */
		(void)!recv(conn->source.fd, NULL, 0, MSG_DONTWAIT);
		conn->readable = false;
		return 0;
	}
	/* A guest with the usual buffer could never take it. */
	conn->message = n <= VSOCK_PAYLOAD_MAX ? malloc((size_t)n) : NULL;
	if (!conn->message || recv(conn->source.fd, conn->message, (size_t)n, MSG_DONTWAIT) != n) {
		kill_conn(conn);
		return 1;
	}
	conn->message_len = (uint32_t)n;
	conn->message_at = 0;
	return 1;
}

static uint32_t copy_out(struct vsock_conn *conn, const struct iovec *iov, size_t n_iov)
{
	uint32_t max = MIN(peer_credit(conn), conn->message_len - conn->message_at), done = 0;

	for (size_t i = 0; i < n_iov && done < max; i++) {
		size_t n = MIN(iov[i].iov_len, (size_t)(max - done));

		memcpy(iov[i].iov_base, conn->message + conn->message_at, n);
		conn->message_at += (uint32_t)n;
		done += (uint32_t)n;
	}
	return done;
}

static int fill_data(struct vsock_conn *conn, struct vsock_packet *packet, const struct iovec *iov,
		     size_t n_iov)
{
	int r = 1;

	if (peer_credit(conn) == 0) {
		if (conn->credit_asked)
			return 0;
		conn->credit_asked = true;
		packet->op = VIRTIO_VSOCK_OP_CREDIT_REQUEST;
		return 1;
	}
	packet->op = VIRTIO_VSOCK_OP_RW;
	if (!conn->seqpacket)
		r = read_stream(conn, iov, n_iov, &packet->len);
	else if (!conn->message)
		r = read_message(conn);
	if (conn->message) {
		packet->len = copy_out(conn, iov, n_iov);
		if (conn->message_at == conn->message_len) {
			packet->flags = VIRTIO_VSOCK_SEQ_EOM;
			free(conn->message);
			conn->message = NULL;
		}
	}
	conn->tx_cnt += packet->len;
	atomic_fetch_add_explicit(&conn->mux->rx_bytes, packet->len, memory_order_relaxed);
	return r;
}

/* A packet without payload: 1, or 0. */
static int fill_pending(struct vsock_conn *conn, struct vsock_packet *packet)
{
	uint16_t op;

	if (!conn->pending)
		return 0;
	op = (uint16_t)__builtin_ctz(conn->pending);
	conn->pending &= (uint16_t) ~(1U << op);
	packet->op = op;
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		packet->flags = conn->told_shutdown;
	return 1;
}

int vsock_conn_fill(struct vsock_conn *conn, struct vsock_packet *ret, const struct iovec *iov,
		    size_t n_iov)
{
	struct vsock_packet packet = {
		.src_port = conn->host_port,
		.dst_port = conn->guest_port,
		.type = conn->seqpacket ? VIRTIO_VSOCK_TYPE_SEQPACKET : VIRTIO_VSOCK_TYPE_STREAM,
		.buf_alloc = VSOCK_BUFFER_SIZE,
		.fwd_cnt = conn->fwd_cnt,
	};
	int r = fill_pending(conn, &packet);

	if (r == 0 && conn->state == VSOCK_CONN_OPEN && wants_input(conn) &&
	    (conn->readable || conn->message)) {
		r = fill_data(conn, &packet, iov, n_iov);
		if (r > 0 && packet.op == VIRTIO_VSOCK_OP_RW && packet.len == 0)
			r = fill_pending(conn, &packet); /* it ended instead */
	}
	if (r > 0) {
		conn->told_fwd_cnt = conn->fwd_cnt;
		conn->pending &= (uint16_t)~PENDING(CREDIT_UPDATE);
		*ret = packet;
	}
	if (r > 0 && packet.op == VIRTIO_VSOCK_OP_RST)
		vsock_mux_drop(conn);
	else if (r == 0)
		vsock_mux_set_ready(conn, false);
	vsock_conn_watch(conn);
	return r;
}
