/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection between a guest's port and a socket of the host
 *
 *   HELLO      a client of the host has not said yet which port it wants
 *   REQUESTED  the guest was asked
 *   ASKING     the guest asked; the daemon connects to the host's socket
 *   OPEN       bytes go both ways, each way until its sender has shut it down
 *   CLOSING    the guest is done with it; the last bytes go to the host's socket
 *   DEAD       the guest is about to be told by a RST
 *
 * Towards the guest a connection sends nothing by itself: it is on the muxer's
 * list of ready ones while there is a packet to make, and vsock_conn_fill()
 * makes the next one.  Bytes for the guest stay in the host's socket until then
 * (SEQPACKET: one message is held).  Bytes for the host go to its socket at
 * once, and what it does not take into a buffer that the credit given to the
 * guest (buf_alloc, fwd_cnt: virtio 1.3, 5.10.6.3) keeps in bounds; a guest
 * that sends more is reset.
 *
 * The device's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/list.h"
#include "vmm/base/loop.h"
#include "vmm/virtio/vsock-buffer.h"
#include "vmm/virtio/vsock-packet.h"

struct vsock_mux;

#define VSOCK_IOV_MAX 256U /* pieces of a payload */

enum vsock_conn_state {
	VSOCK_CONN_HELLO,
	VSOCK_CONN_REQUESTED,
	VSOCK_CONN_ASKING,
	VSOCK_CONN_OPEN,
	VSOCK_CONN_CLOSING,
	VSOCK_CONN_DEAD,
};

struct vsock_conn {
	struct vsock_mux *mux;
	struct list link;       /* of all connections; of the dead ones in the end */
	struct list table_link; /* by ports: states that the guest knows, and REQUESTED */
	struct list ready_link; /* there is a packet for the guest */
	struct loop_source source;
	enum vsock_conn_state state;
	bool seqpacket;
	uint16_t pending; /* packets to be made: bits of 1 << enum virtio_vsock_op */
	uint32_t host_port, guest_port;
	uint32_t cookie;      /* ASKING: the answer is for this one */
	bool asked;           /* ASKING: vsock_mux_next_wish() has told it */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */

	/* from the guest */
	struct vsock_buffer buffer;
	uint32_t rx_cnt, fwd_cnt; /* bytes that came, and that left us */
	uint32_t told_fwd_cnt;
	uint8_t guest_shutdown; /* enum virtio_vsock_shutdown, what the guest said */
	bool deaf;              /* the host's socket takes no more: bytes are dropped */

	/* to the guest */
	uint32_t tx_cnt, peer_fwd_cnt, peer_buf_alloc;
	bool readable, half, hung_up; /* the host's socket: has input, or its end; is closed */
	bool ended;                   /* it has nothing more for the guest */
	bool credit_asked;
	uint8_t told_shutdown; /* what the guest was told */
	uint8_t *message;      /* SEQPACKET: the message on its way */
	uint32_t message_len, message_at;
};

/* fd: taken over, or -EBADF while there is none. */
void vsock_conn_init(struct vsock_conn *conn, struct vsock_mux *mux, enum vsock_conn_state state,
		     int fd, bool seqpacket);
/* Frees what it holds, not the struct; the source is out of the loop then. */
void vsock_conn_deinit(struct vsock_conn *conn);

/* A packet of the guest for it; iov: its payload. */
void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
			const struct iovec *iov, size_t n_iov);
/* The next packet for the guest: 1, or 0 there is none now. iov: where a payload may go. */
int vsock_conn_fill(struct vsock_conn *conn, struct vsock_packet *ret, const struct iovec *iov,
		    size_t n_iov);
/* ASKING: the host's socket, taken over, or -errno. */
void vsock_conn_answer(struct vsock_conn *conn, int fd);
void vsock_conn_on_socket(struct loop_source *source, uint32_t events);
/* Its deadline has passed. */
void vsock_conn_on_deadline(struct vsock_conn *conn);
/* Watches what has to be watched, which is nothing while the muxer does not run. */
void vsock_conn_watch(struct vsock_conn *conn);
