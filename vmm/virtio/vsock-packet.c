/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-packet.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>

static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HEADER_SIZE, "virtio 1.3, 5.10.6");

static enum vsock_verdict judge(const struct vsock_packet *p, bool seqpacket)
{
	bool known = p->type == VIRTIO_VSOCK_TYPE_STREAM ||
		     (p->type == VIRTIO_VSOCK_TYPE_SEQPACKET && seqpacket);

	/* 5.10.6.4.2: an unknown type is answered with RST; a RST with nothing. */
	if (!known)
		return p->op == VIRTIO_VSOCK_OP_RST ? VSOCK_VERDICT_DROP : VSOCK_VERDICT_RESET;
	if (p->op < VIRTIO_VSOCK_OP_REQUEST || p->op > VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return VSOCK_VERDICT_RESET;
	if (p->op != VIRTIO_VSOCK_OP_RW && p->len > 0)
		return p->op == VIRTIO_VSOCK_OP_RST ? VSOCK_VERDICT_OK : VSOCK_VERDICT_RESET;
	if (p->op == VIRTIO_VSOCK_OP_SHUTDOWN &&
	    (p->flags & ~(uint32_t)(VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)))
		return VSOCK_VERDICT_RESET;
	return VSOCK_VERDICT_OK;
}

int vsock_packet_parse(const struct virtio_vsock_hdr *hdr, uint64_t payload_len, uint32_t guest_cid,
		       bool seqpacket, struct vsock_packet *ret)
{
	const struct vsock_packet p = {
		.src_port = le32toh(hdr->src_port),
		.dst_port = le32toh(hdr->dst_port),
		.len = le32toh(hdr->len),
		.flags = le32toh(hdr->flags),
		.buf_alloc = le32toh(hdr->buf_alloc),
		.fwd_cnt = le32toh(hdr->fwd_cnt),
		.type = le16toh(hdr->type),
		.op = le16toh(hdr->op),
	};

	if (p.len > payload_len || p.len > VSOCK_PAYLOAD_MAX)
		return -EBADMSG;
	*ret = p;
	/* There is nobody else to send to here; an answer would go to a stranger. */
	if (le64toh(hdr->src_cid) != guest_cid || le64toh(hdr->dst_cid) != VSOCK_CID_HOST)
		return VSOCK_VERDICT_DROP;
	return (int)judge(&p, seqpacket);
}

void vsock_packet_make(const struct vsock_packet *packet, uint32_t guest_cid,
		       struct virtio_vsock_hdr *ret)
{
	*ret = (struct virtio_vsock_hdr){
		.src_cid = htole64(VSOCK_CID_HOST),
		.dst_cid = htole64(guest_cid),
		.src_port = htole32(packet->src_port),
		.dst_port = htole32(packet->dst_port),
		.len = htole32(packet->len),
		.type = htole16(packet->type),
		.op = htole16(packet->op),
		.flags = htole32(packet->flags),
		.buf_alloc = htole32(packet->buf_alloc),
		.fwd_cnt = htole32(packet->fwd_cnt),
	};
}
