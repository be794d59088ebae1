/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of virtio-net's control queue (virtio 1.3, 5.1.6.5): the bytes
 * become a checked command; no state, any thread
 */
#include "vmm/virtio/net.h"

#include <errno.h>
#include <linux/virtio_net.h>

#include "vmm/base/bytes.h"
#include "vmm/virtio/virtio-abi.h"

static bool mac_table_is_whole(const uint8_t *data, size_t len)
{
	/* 5.1.6.5.2: twice {le32 entries, entries times 6 bytes} */
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t bytes;

		if (len < 4)
			return false;
		bytes = 4 + 6 * bytes_get_le(data, 4);
		if (bytes > len)
			return false;
		data += bytes;
		len -= bytes;
	}
	return len == 0;
}

int virtio_net_ctrl_parse(uint64_t features, uint16_t n_pairs, const uint8_t *data, size_t len,
			  uint64_t readable_len, uint64_t writable_len, struct virtio_net_ctrl *ret)
{
	struct virtio_net_ctrl ctrl = { .kind = VIRTIO_NET_CTRL_REFUSED };
	uint8_t class, cmd;

	if (readable_len < 2 || len < 2 || writable_len < 1)
		return -EBADMSG;
	*ret = ctrl;
	if (readable_len != len)
		return 0;
	class = data[0];
	cmd = data[1];
	data += 2;
	len -= 2;
	switch (class) {
	case VIRTIO_NET_CTRL_RX:
		if (cmd <= VIRTIO_NET_CTRL_RX_NOBCAST && len == 1)
			ctrl.kind = VIRTIO_NET_CTRL_IGNORED;
		break;
	case VIRTIO_NET_CTRL_MAC:
		if (cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET && mac_table_is_whole(data, len))
			ctrl.kind = VIRTIO_NET_CTRL_IGNORED;
		break;
	case VIRTIO_NET_CTRL_VLAN:
		if (cmd <= VIRTIO_NET_CTRL_VLAN_DEL && len == 2)
			ctrl.kind = VIRTIO_NET_CTRL_IGNORED;
		break;
	case VIRTIO_NET_CTRL_MQ:
		if (cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || len != 2 ||
		    !(features & VIRTIO_FEATURE(VIRTIO_NET_F_MQ)))
			break;
		ctrl.value = bytes_get_le(data, 2);
		if (ctrl.value >= 1 && ctrl.value <= n_pairs)
			ctrl.kind = VIRTIO_NET_CTRL_PAIRS;
		break;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		if (cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || len != 8 ||
		    !(features & VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)))
			break;
		ctrl.value = bytes_get_le(data, 8);
		/* 5.1.6.5.6.1: none that was not negotiated */
		if (!(ctrl.value & ~(features & VIRTIO_NET_GUEST_OFFLOADS)))
			ctrl.kind = VIRTIO_NET_CTRL_OFFLOADS;
		break;
	case VIRTIO_NET_CTRL_ANNOUNCE:
		if (cmd == VIRTIO_NET_CTRL_ANNOUNCE_ACK && len == 0 &&
		    features & VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE))
			ctrl.kind = VIRTIO_NET_CTRL_ANNOUNCED;
		break;
	default:
		break;
	}
	*ret = ctrl;
	return 0;
}
