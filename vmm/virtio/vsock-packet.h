/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets of virtio-vsock (virtio 1.3, 5.10.6)
 *
 * A header is copied out of guest memory once, taken apart and judged here;
 * what comes out is in host numbers and inside the limits.  Pure functions.
 */
#pragma once

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>

#define VSOCK_HEADER_SIZE 44U
#define VSOCK_CID_HOST    2U
#define VSOCK_CID_MIN     3U
#define VSOCK_CID_MAX     0xfffffffeU
/* The largest payload of one packet: Linux' own limit. */
#define VSOCK_PAYLOAD_MAX (64U << 10)

#define VSOCK_F_STREAM    0 /* bits; 5.10.3 */
#define VSOCK_F_SEQPACKET 1

struct vsock_packet {
	uint32_t src_port, dst_port;
	uint32_t len, flags, buf_alloc, fwd_cnt;
	uint16_t type; /* enum virtio_vsock_type, or an unknown one (VSOCK_VERDICT_RESET) */
	uint16_t op;   /* enum virtio_vsock_op */
};

enum vsock_verdict {
	VSOCK_VERDICT_OK,
	VSOCK_VERDICT_DROP,  /* not for us, or an answer to nothing: ignored */
	VSOCK_VERDICT_RESET, /* no such thing: answered with RST */
};

/*
 * hdr: from the guest; payload_len: what follows it in the request.  Returns an
 * enum vsock_verdict, or -EBADMSG: the request itself is wrong.
 */
int vsock_packet_parse(const struct virtio_vsock_hdr *hdr, uint64_t payload_len, uint32_t guest_cid,
		       bool seqpacket, struct vsock_packet *ret);
/* Of the host's packets. */
void vsock_packet_make(const struct vsock_packet *packet, uint32_t guest_cid,
		       struct virtio_vsock_hdr *ret);
