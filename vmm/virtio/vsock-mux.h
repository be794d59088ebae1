/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All connections of a virtio-vsock device, and who wants one
 *
 * Clients of the host connect to a listening socket and send "CONNECT
 * <port>\n"; when the guest has accepted they get "OK <number>\n" and from then
 * on what the guest sends (Firecracker's protocol).  A second listening socket
 * is the same for SEQPACKET: the first message is that line.  Connections of the
 * guest are asked for (struct vsock_mux_ops) and answered by somebody who can
 * reach the host.
 *
 * The muxer knows no queue: packets come in by vsock_mux_receive() and are taken
 * out by vsock_mux_fill(), both without waiting.  It takes no more than
 * VSOCK_CONNS_MAX connections, each with what vsock-conn.h says, and
 * VSOCK_RESETS_MAX packets to be answered with RST; when those are full,
 * vsock_mux_is_full() says so, and no packet may be put in until some are out.
 *
 * The device's thread, but where a function says otherwise.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/list.h"
#include "vmm/base/loop.h"
#include "vmm/virtio/vsock-conn.h"
#include "vmm/virtio/vsock-packet.h"

struct err;

#define VSOCK_CONNS_MAX  512U
#define VSOCK_RESETS_MAX 256U
#define VSOCK_BUCKETS    64U
#define VSOCK_LISTENERS  2U

struct vsock_mux_ops {
	/* Something came from the host: there may be packets to take out. */
	void (*work)(void *data);
	/* vsock_mux_next_wish() has something; optional. */
	void (*wish)(void *data);
};

/* A connection that the guest wants. */
struct vsock_wish {
	uint32_t cookie, port;
	bool seqpacket;
};

struct vsock_reset {
	uint32_t src_port, dst_port; /* of the packet to be made */
	uint16_t type;
};

struct vsock_mux {
	const struct vsock_mux_ops *ops;
	void *data;
	struct loop *loop; /* NULL: does not run */
	struct list conns;
	struct list ready;
	struct list table[VSOCK_BUCKETS];
	struct list dead[2]; /* ended since the last turn of the loop, and before */
	struct loop_source listeners[VSOCK_LISTENERS]; /* stream, seqpacket; fd -EBADF: none */
	struct loop_source timer, reaper;
	uint64_t timer_ns; /* 0: not set */
	uint32_t n_conns;
	uint32_t next_port, next_cookie;
	struct vsock_reset *resets; /* a ring, allocated with the first one */
	uint32_t resets_head, n_resets;
	_Atomic uint64_t opened, refused, reset, tx_bytes, rx_bytes; /* tx: from the guest */
};

/*
 * Control thread: fds of the listening sockets, -EBADF for none; taken over on
 * success.
 */
int vsock_mux_init(struct vsock_mux *mux, const struct vsock_mux_ops *ops, void *data,
		   const int listen_fds[static VSOCK_LISTENERS], struct err *err);
/* Control thread, stopped. */
void vsock_mux_deinit(struct vsock_mux *mux);

/* Serves sockets by this loop: 0 or -errno; and no longer. */
int vsock_mux_start(struct vsock_mux *mux, struct loop *loop);
void vsock_mux_stop(struct vsock_mux *mux);
/* Ends all connections, as if there had been none; clients of the host see theirs closed. */
void vsock_mux_clear(struct vsock_mux *mux);

bool vsock_mux_is_full(const struct vsock_mux *mux);
/* A packet of the guest, judged as VSOCK_VERDICT_OK. */
void vsock_mux_receive(struct vsock_mux *mux, const struct vsock_packet *packet,
		       const struct iovec *iov, size_t n_iov);
/* Answers it with RST. */
void vsock_mux_refuse(struct vsock_mux *mux, const struct vsock_packet *packet);
bool vsock_mux_has_output(const struct vsock_mux *mux);
/* The next packet for the guest, its payload at iov: 1, or 0 there is none. */
int vsock_mux_fill(struct vsock_mux *mux, struct vsock_packet *ret, const struct iovec *iov,
		   size_t n_iov);

/* A client that did not come by the listening socket, taken over: 0, or -EBUSY there are too many.
 */
int vsock_mux_add_client(struct vsock_mux *mux, int fd);
bool vsock_mux_next_wish(struct vsock_mux *mux, struct vsock_wish *ret);
/* fd: taken over; -errno: refused. */
void vsock_mux_answer(struct vsock_mux *mux, uint32_t cookie, int fd);

/* For vsock-conn.c. */

/* Gives it a port of the host and enters it in the table. */
void vsock_mux_enter(struct vsock_mux *mux, struct vsock_conn *conn, uint32_t guest_port);
/* Out of the table: the guest's ports are free. */
void vsock_mux_leave(struct vsock_conn *conn);
void vsock_mux_set_ready(struct vsock_conn *conn, bool ready);
/* usec from now; 0: none. */
void vsock_mux_set_deadline(struct vsock_conn *conn, uint64_t usec);
/* Ends it: it must not be used any more, though it is freed a little later. */
void vsock_mux_drop(struct vsock_conn *conn);
