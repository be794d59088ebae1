/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/net/tap.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/net-pair.h"

#define CONFIG_SIZE (offsetof(struct virtio_net_config, mtu) + 2)

#define GUEST_OFFLOADS                                                                             \
	(VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |       \
	 VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN) |        \
	 VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO))

static const char *const counter_names[NET_COUNTER_N_] = {
	[NET_RX_BYTES] = "rx_bytes", [NET_RX_PACKETS] = "rx_packets", [NET_RX_DROPS] = "rx_drops",
	[NET_TX_BYTES] = "tx_bytes", [NET_TX_PACKETS] = "tx_packets", [NET_TX_DROPS] = "tx_drops",
};

struct virtio_net {
	struct virtio_device dev;
	struct virtio_net_state st; /* the control queue's thread; control while parked */
	struct tap *taps;
	struct net_pair *pairs;
	uint16_t n_pairs;
	_Atomic uint64_t values[NET_COUNTER_N_]; /* added to by all pairs: relaxed, sums only */
	struct virtio_counter counters[NET_COUNTER_N_ + 1];
};

#define F(kind, member) STATE_##kind(struct virtio_net_state, member)
static const struct state_field net_fields[] = { F(U64, guest_offloads), F(U16, pairs),
						 F(BYTES, pad) };
#undef F
const struct state_desc virtio_net_state_desc = {
	"virtio-net",
	.version = 1,
	STATE_LAYOUT(struct virtio_net_state, net_fields),
};

static const struct virtio_device_ops net_ops;

static struct virtio_net *virtio_net(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_net, dev);
}

/* --- the control queue --- */

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
		if (!(ctrl.value & ~(features & GUEST_OFFLOADS)))
			ctrl.kind = VIRTIO_NET_CTRL_OFFLOADS;
		break;
	default:
		break;
	}
	*ret = ctrl;
	return 0;
}

static int set_guest_offloads(struct virtio_net *net, uint64_t offloads)
{
	static const struct {
		unsigned int feature, bit;
	} map[] = {
		{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
		{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
		{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
		{ VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO },
	};
	unsigned int bits = 0;
	int r;

	/* Segments come without checksums: none of the others goes without this one. */
	if (offloads & VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM)) {
		bits = TUN_F_CSUM;
		for (size_t i = 0; i < ARRAY_SIZE(map); i++)
			if (offloads & VIRTIO_FEATURE(map[i].feature))
				bits |= map[i].bit;
		if (!(bits & (TUN_F_TSO4 | TUN_F_TSO6)))
			bits &= ~(unsigned int)TUN_F_TSO_ECN;
	}
	for (uint16_t i = 0; i < net->n_pairs; i++) {
		r = tap_set_offloads(&net->taps[i], bits);
		if (r < 0)
			return r;
	}
	net->st.guest_offloads = offloads;
	return 0;
}

static bool ctrl_execute(struct virtio_net *net, const struct virtio_net_ctrl *ctrl)
{
	switch (ctrl->kind) {
	case VIRTIO_NET_CTRL_REFUSED:
		return false;
	case VIRTIO_NET_CTRL_IGNORED:
		return true;
	case VIRTIO_NET_CTRL_PAIRS:
		net->st.pairs = (uint16_t)ctrl->value;
		for (uint16_t i = 0; i < net->n_pairs; i++)
			net_pair_want(&net->pairs[i], i < net->st.pairs);
		return true;
	case VIRTIO_NET_CTRL_OFFLOADS:
		return set_guest_offloads(net, ctrl->value) == 0;
	}
	return false;
}

/* One command: 1, 0 none, -EBADMSG. */
static int ctrl_command(struct virtio_queue *q, void *net_)
{
	struct virtio_net *net = net_;
	uint8_t data[VIRTIO_NET_CTRL_MAX];
	struct virtio_net_ctrl ctrl = { 0 };
	struct virtq_chain chain;
	uint8_t ack;
	size_t len;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	len = MIN(chain.readable_len, (uint64_t)sizeof(data));
	if (virtq_chain_read(q, &chain, 0, data, len) < 0 ||
	    virtio_net_ctrl_parse(net->dev.features, net->n_pairs, data, len, chain.readable_len,
				  chain.writable_len, &ctrl) < 0)
		return -EBADMSG;
	ack = ctrl_execute(net, &ctrl) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	if (virtq_chain_write(q, &chain, 0, &ack, 1) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain.head, 1);
	return 1;
}

/* --- device ops --- */

/* 5.1.2: behind all pairs, or behind the first one when the driver knows only that */
static uint16_t ctrl_queue_index(const struct virtio_net *net)
{
	return virtio_has_feature(&net->dev, VIRTIO_NET_F_MQ) ? (uint16_t)(2 * net->n_pairs) : 2;
}

static void net_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_net *net = virtio_net(dev);

	if (q->index == ctrl_queue_index(net) && virtio_has_feature(dev, VIRTIO_NET_F_CTRL_VQ)) {
		if (virtio_queue_serve(q, ctrl_command, net) < 0)
			virtio_device_broken(dev, "queue %u: malformed control command", q->index);
		return;
	}
	if (q->index < 2 * net->n_pairs)
		net_pair_kick(&net->pairs[q->index / 2], q);
}

static void net_reset(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	for (uint16_t i = 0; i < net->n_pairs; i++) {
		net_pair_deinit(&net->pairs[i]);
		if (net->n_pairs > 1)
			tap_set_attached(&net->taps[i], i == 0);
	}
	net->st = (struct virtio_net_state){ 0 };
}

/* The state of a driver that has just started, unless a snapshot brought one. */
static int init_state(struct virtio_net *net, struct err *err)
{
	uint64_t negotiated = net->dev.features & GUEST_OFFLOADS;

	if (net->st.pairs == 0)
		net->st = (struct virtio_net_state){ .pairs = 1, .guest_offloads = negotiated };
	if (net->st.pairs > net->n_pairs)
		return err_set(err, EBADMSG, "%u queue pairs are in use, the device has %u",
			       net->st.pairs, net->n_pairs);
	if (net->st.guest_offloads & ~negotiated)
		return err_set(err, EBADMSG, "offloads 0x%llx were not all negotiated",
			       (unsigned long long)net->st.guest_offloads);
	return 0;
}

static int make_pairs(struct virtio_net *net, struct err *err)
{
	uint16_t ctrl = ctrl_queue_index(net);
	int r;

	for (uint16_t i = 0; i < net->n_pairs && 2 * i != ctrl; i++) {
		const struct net_pair_params params = {
			.dev = &net->dev,
			.index = i,
			.tap = &net->taps[i],
			.counters = net->values,
			.mergeable = virtio_has_feature(&net->dev, VIRTIO_NET_F_MRG_RXBUF),
			.many = net->n_pairs > 1,
			.wanted = i < net->st.pairs,
		};

		r = net_pair_init(&net->pairs[i], &params, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int net_activate(struct virtio_device *dev, struct err *err)
{
	struct virtio_net *net = virtio_net(dev);
	int r;

	r = init_state(net, err);
	if (r < 0)
		return r;
	r = make_pairs(net, err);
	if (r < 0)
		goto fail;
	r = set_guest_offloads(net, net->st.guest_offloads);
	if (r < 0) {
		err_errno(err, -r, "cannot set the tap's offloads");
		goto fail;
	}
	for (uint16_t i = 0; i < net->n_pairs; i++)
		net_pair_start(&net->pairs[i]);
	return 0;

fail:
	net_reset(dev);
	return r;
}

static void net_pause(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	for (uint16_t i = 0; i < net->n_pairs; i++)
		net_pair_stop(&net->pairs[i]);
}

static void net_resume(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	for (uint16_t i = 0; i < net->n_pairs; i++)
		net_pair_start(&net->pairs[i]);
}

static void *net_state_ptr(struct virtio_device *dev)
{
	return &virtio_net(dev)->st;
}

static const struct virtio_counter *net_counters(struct virtio_device *dev)
{
	return virtio_net(dev)->counters;
}

static void net_free(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	virtio_device_deinit(dev);
	for (uint16_t i = 0; i < net->n_pairs; i++) {
		/* The daemon may hold the queue for a next worker, which expects it attached. */
		if (net->n_pairs > 1)
			tap_set_attached(&net->taps[i], true);
		tap_deinit(&net->taps[i]);
	}
	free(net->taps);
	free(net->pairs);
	free(net);
}

static uint64_t features_offered(const struct virtio_net_params *params)
{
	uint64_t features =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_NET_F_MAC) |
		VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ) |
		VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);

	if (params->mtu)
		features |= VIRTIO_FEATURE(VIRTIO_NET_F_MTU);
	if (params->n_pairs > 1)
		features |= VIRTIO_FEATURE(VIRTIO_NET_F_MQ);
	if (params->offload_csum)
		features |= VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (params->offload_tso)
		features |= VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_HOST_ECN) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN);
	if (params->offload_ufo)
		features |= VIRTIO_FEATURE(VIRTIO_NET_F_HOST_UFO) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO);
	return features;
}

static void fill_config(struct virtio_net *net, const struct virtio_net_params *params)
{
	uint8_t *config = net->dev.config;

	memcpy(config, params->mac, sizeof(params->mac));
	bytes_put_le(config + offsetof(struct virtio_net_config, status), 2, VIRTIO_NET_S_LINK_UP);
	bytes_put_le(config + offsetof(struct virtio_net_config, max_virtqueue_pairs), 2,
		     params->n_pairs);
	bytes_put_le(config + offsetof(struct virtio_net_config, mtu), 2, params->mtu);
	net->dev.config_size = CONFIG_SIZE;
}

static int check_params(const struct virtio_net_params *params, struct err *err)
{
	if (params->n_pairs < 1 || params->n_pairs > VIRTIO_NET_PAIRS_MAX)
		return err_set(err, EINVAL, "network '%s': %u queue pairs: 1 to %u are possible",
			       params->id, params->n_pairs, VIRTIO_NET_PAIRS_MAX);
	if (!is_pow2(params->queue_size) || params->queue_size < 4 ||
	    params->queue_size > VIRTQ_SIZE_MAX)
		return err_set(
			err, EINVAL,
			"network '%s': queue_size is %u: a power of two from 4 to %u is needed",
			params->id, params->queue_size, VIRTQ_SIZE_MAX);
	if (params->mac[0] & 1)
		return err_set(
			err, EINVAL,
			"network '%s': mac %02x:%02x:%02x:%02x:%02x:%02x is a multicast address",
			params->id, params->mac[0], params->mac[1], params->mac[2], params->mac[3],
			params->mac[4], params->mac[5]);
	if ((params->offload_tso || params->offload_ufo) && !params->offload_csum)
		return err_set(err, EINVAL, "network '%s': offload_%s needs offload_csum",
			       params->id, params->offload_tso ? "tso" : "ufo");
	return 0;
}

static int open_taps(struct virtio_net *net, const struct virtio_net_params *params,
		     struct err *err)
{
	int r;

	for (uint16_t i = 0; i < params->n_pairs; i++) {
		r = tap_init(&net->taps[i], params->fds[i], params->allow_socket, err);
		if (r < 0)
			return err_prefix(err, r, "network '%s': queue pair %u", params->id, i);
	}
	/* Until the driver asks for more, the kernel has one queue to deliver to. */
	for (uint16_t i = 1; i < params->n_pairs; i++) {
		r = tap_set_attached(&net->taps[i], false);
		if (r < 0)
			return err_errno(err, -r,
					 "network '%s': queue pair %u: the tap has a single queue",
					 params->id, i);
	}
	return 0;
}

int virtio_net_new(const struct virtio_net_params *params, struct virtio_device **ret,
		   struct err *err)
{
	uint16_t sizes[2 * VIRTIO_NET_PAIRS_MAX + 1];
	struct virtio_net *net;
	uint16_t n_queues;
	int r;

	r = check_params(params, err);
	if (r < 0)
		return r;
	net = calloc(1, sizeof(*net));
	if (!net)
		return err_errno(err, ENOMEM, "network '%s'", params->id);
	net->taps = calloc(params->n_pairs, sizeof(*net->taps));
	net->pairs = calloc(params->n_pairs, sizeof(*net->pairs));
	if (!net->taps || !net->pairs) {
		r = err_errno(err, ENOMEM, "network '%s'", params->id);
		goto fail;
	}
	net->n_pairs = params->n_pairs;
	n_queues = (uint16_t)(2 * params->n_pairs + 1);
	for (uint16_t i = 0; i < n_queues; i++)
		sizes[i] = params->queue_size;
	net->dev.features_offered = features_offered(params);
	r = virtio_device_init(&net->dev, &net_ops, params->id, sizes, n_queues, err);
	if (r < 0)
		goto fail;
	/* Last, because the descriptors are the caller's if it fails. */
	r = open_taps(net, params, err);
	if (r < 0)
		goto fail_device;
	fill_config(net, params);
	for (unsigned int i = 0; i < NET_COUNTER_N_; i++)
		net->counters[i] = (struct virtio_counter){ counter_names[i], &net->values[i] };
	*ret = &net->dev;
	return 0;

fail_device:
	virtio_device_deinit(&net->dev);
fail:
	free(net->taps);
	free(net->pairs);
	free(net);
	return r;
}

static const struct virtio_device_ops net_ops = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.pci_class = 0x02,    /* network */
	.pci_subclass = 0x00, /* Ethernet */
	.threads = VIRTIO_THREADS_PER_PAIR,
	.state = &virtio_net_state_desc,
	.activate = net_activate,
	.kick = net_kick,
	.reset = net_reset,
	.pause = net_pause,
	.resume = net_resume,
	.state_ptr = net_state_ptr,
	.counters = net_counters,
	.free = net_free,
};
