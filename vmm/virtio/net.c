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
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/net/backend.h"
#include "vmm/net/stream.h"
#include "vmm/net/tap.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/net-pair.h"
#include "vmm/virtio/net-vhost.h"

#define CONFIG_SIZE (offsetof(struct virtio_net_config, mtu) + 2)

static const char *const counter_names[NET_COUNTER_N_] = {
	[NET_RX_BYTES] = "rx_bytes", [NET_RX_PACKETS] = "rx_packets", [NET_RX_DROPS] = "rx_drops",
	[NET_TX_BYTES] = "tx_bytes", [NET_TX_PACKETS] = "tx_packets", [NET_TX_DROPS] = "tx_drops",
	[NET_RX_KICKS] = "rx_kicks", [NET_TX_KICKS] = "tx_kicks",
};

struct virtio_net;

/* How the frames of pair i go: through this process, or past it.  Control thread, but want. */
struct net_path {
	int (*set_up)(struct virtio_net *net, uint16_t i, struct err *err);
	int (*start)(struct virtio_net *net, uint16_t i, struct err *err);
	void (*stop)(struct virtio_net *net, uint16_t i);
	void (*tear_down)(struct virtio_net *net, uint16_t i);
	void (*set_link)(struct virtio_net *net, uint16_t i, bool up);
	/* The control queue's thread: the driver uses this pair, or not. */
	void (*want)(struct virtio_net *net, uint16_t i, bool wanted);
};

struct virtio_net {
	struct virtio_device dev;
	/* The control queue's thread; control while parked.  link_down: control, dev.lock. */
	struct virtio_net_state st;
	const struct net_path *path;
	struct net_backend **backends;
	struct net_pair *pairs;
	struct net_vhost *vhosts; /* NULL without vhost; then pairs are not used */
	uint16_t n_pairs;
	struct rate_limiter *rx_limiter, *tx_limiter; /* of all pairs; or NULL */
	bool announce;            /* dev.lock: the driver has not answered yet */
	atomic_bool carrier_lost; /* set by a pair's thread; relaxed: goes with dev.lock */
	_Atomic uint64_t values[NET_COUNTER_N_]; /* added to by all pairs: relaxed, sums only */
	struct virtio_counter counters[NET_COUNTER_N_ + 1];
};

#define F(kind, member) STATE_##kind(struct virtio_net_state, member)
static const struct state_field net_fields[] = { F(U64, guest_offloads), F(U16, pairs),
						 F(BOOL, link_down), F(BYTES, pad) };
#undef F
const struct state_desc virtio_net_state_desc = {
	"virtio-net",
	.version = 1,
	STATE_LAYOUT(struct virtio_net_state, net_fields),
};

static const struct virtio_device_ops net_ops, net_vhost_ops;

static struct virtio_net *virtio_net(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_net, dev);
}

/* --- the link: any thread --- */

/* dev.lock held */
static bool link_is_up(const struct virtio_net *net)
{
	return !net->st.link_down &&
	       !atomic_load_explicit(&net->carrier_lost, memory_order_relaxed);
}

/* What config space says of link and announcement: true when that is news. */
static bool update_status(struct virtio_net *net)
{
	uint8_t *field = net->dev.config + offsetof(struct virtio_net_config, status);
	uint16_t status = 0;
	bool changed;

	pthread_mutex_lock(&net->dev.lock);
	if (link_is_up(net))
		status |= VIRTIO_NET_S_LINK_UP;
	if (net->announce)
		status |= VIRTIO_NET_S_ANNOUNCE;
	changed = bytes_get_le(field, 2) != status;
	bytes_put_le(field, 2, status);
	pthread_mutex_unlock(&net->dev.lock);
	return changed;
}

static void tell_status(struct virtio_net *net)
{
	if (!update_status(net))
		return;
	virtio_device_config_changed(&net->dev);
	virtio_device_values_changed(&net->dev);
}

/* A pair's thread. */
static void on_lost(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	atomic_store_explicit(&net->carrier_lost, true, memory_order_relaxed);
	tell_status(net);
}

/* --- the control queue --- */

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
		r = net_backend_set_offloads(net->backends[i], bits);
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
			net->path->want(net, i, i < net->st.pairs);
		return true;
	case VIRTIO_NET_CTRL_OFFLOADS:
		return set_guest_offloads(net, ctrl->value) == 0;
	case VIRTIO_NET_CTRL_ANNOUNCED:
		pthread_mutex_lock(&net->dev.lock);
		net->announce = false;
		pthread_mutex_unlock(&net->dev.lock);
		update_status(net); /* 5.1.6.5.4: no news to the driver, it said so itself */
		return true;
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

/* --- the path through this process --- */

/* 5.1.2: behind all pairs, or behind the first one when the driver knows only that */
static uint16_t ctrl_queue_index(const struct virtio_net *net)
{
	return virtio_has_feature(&net->dev, VIRTIO_NET_F_MQ) ? (uint16_t)(2 * net->n_pairs) : 2;
}

static int user_set_up(struct virtio_net *net, uint16_t i, struct err *err)
{
	const struct net_pair_params params = {
		.dev = &net->dev,
		.index = i,
		.backend = net->backends[i],
		.counters = net->values,
		.mergeable = virtio_has_feature(&net->dev, VIRTIO_NET_F_MRG_RXBUF),
		.many = net->n_pairs > 1,
		.wanted = i < net->st.pairs,
		.link_down = net->st.link_down,
		.lost = on_lost,
		.rx_limiter = net->rx_limiter,
		.tx_limiter = net->tx_limiter,
	};

	return net_pair_init(&net->pairs[i], &params, err);
}

static int user_start(struct virtio_net *net, uint16_t i, struct err *err _unused_)
{
	net_pair_start(&net->pairs[i]);
	return 0;
}

static void user_stop(struct virtio_net *net, uint16_t i)
{
	net_pair_stop(&net->pairs[i]);
}

static void user_tear_down(struct virtio_net *net, uint16_t i)
{
	net_pair_deinit(&net->pairs[i]);
}

static void user_set_link(struct virtio_net *net, uint16_t i, bool up)
{
	net_pair_set_link(&net->pairs[i], up);
}

static void user_want(struct virtio_net *net, uint16_t i, bool wanted)
{
	net_pair_want(&net->pairs[i], wanted);
}

static const struct net_path user_path = {
	.set_up = user_set_up,
	.start = user_start,
	.stop = user_stop,
	.tear_down = user_tear_down,
	.set_link = user_set_link,
	.want = user_want,
};

/* --- the kernel's path --- */

static void vhost_want(struct virtio_net *net, uint16_t i, bool wanted)
{
	/* Rings of a pair that is out of use stay the kernel's: they are silent. */
	if (net->n_pairs > 1 && net_backend_set_attached(net->backends[i], wanted) < 0)
		log_warning("network '%s': queue pair %u cannot be %s", net->dev.id, i,
			    wanted ? "attached" : "detached");
}

static int vhost_set_up(struct virtio_net *net, uint16_t i, struct err *err)
{
	vhost_want(net, i, i < net->st.pairs);
	return net_vhost_set_up(&net->vhosts[i], &net->dev, i, net->backends[i], net->st.link_down,
				err);
}

static int vhost_start(struct virtio_net *net, uint16_t i, struct err *err)
{
	return net_vhost_start(&net->vhosts[i], err);
}

static void vhost_stop(struct virtio_net *net, uint16_t i)
{
	net_vhost_stop(&net->vhosts[i]);
}

static void vhost_tear_down(struct virtio_net *net, uint16_t i)
{
	net_vhost_tear_down(&net->vhosts[i]);
}

static void vhost_set_link(struct virtio_net *net, uint16_t i, bool up)
{
	net_vhost_set_link(&net->vhosts[i], up);
}

static const struct net_path vhost_path = {
	.set_up = vhost_set_up,
	.start = vhost_start,
	.stop = vhost_stop,
	.tear_down = vhost_tear_down,
	.set_link = vhost_set_link,
	.want = vhost_want,
};

/* --- device ops --- */

static void net_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_net *net = virtio_net(dev);

	if (q->index == ctrl_queue_index(net) && virtio_has_feature(dev, VIRTIO_NET_F_CTRL_VQ)) {
		if (virtio_queue_serve(q, ctrl_command, net) < 0)
			virtio_device_broken(dev, "queue %u: malformed control command", q->index);
		return;
	}
	if (q->index < 2 * net->n_pairs && !net->vhosts)
		net_pair_kick(&net->pairs[q->index / 2], q);
}

static void net_vector_changed(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_net *net = virtio_net(dev);

	if (q->index < 2 * net->n_pairs)
		net_vhost_vector_changed(&net->vhosts[q->index / 2], q);
}

static void net_reset(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	for (uint16_t i = 0; i < net->n_pairs; i++) {
		net->path->tear_down(net, i);
		if (net->n_pairs > 1)
			net_backend_set_attached(net->backends[i], i == 0);
	}
	/* The cable is no business of the driver's. */
	net->st = (struct virtio_net_state){ .link_down = net->st.link_down };
	net->announce = false;
	update_status(net);
}

/* The state of a driver that has just started, unless a snapshot brought one. */
static int init_state(struct virtio_net *net, struct err *err)
{
	uint64_t negotiated = net->dev.features & VIRTIO_NET_GUEST_OFFLOADS;
	bool carrier_lost = false;

	if (net->st.pairs == 0)
		net->st = (struct virtio_net_state){ .pairs = 1,
						     .guest_offloads = negotiated,
						     .link_down = net->st.link_down };
	if (net->st.pairs > net->n_pairs)
		return err_set(err, EBADMSG, "%u queue pairs are in use, the device has %u",
			       net->st.pairs, net->n_pairs);
	if (net->st.guest_offloads & ~negotiated)
		return err_set(err, EBADMSG, "offloads 0x%llx were not all negotiated",
			       (unsigned long long)net->st.guest_offloads);
	for (uint16_t i = 0; i < net->n_pairs; i++)
		carrier_lost |= net->backends[i]->dead;
	atomic_store_explicit(&net->carrier_lost, carrier_lost, memory_order_relaxed);
	return 0;
}

static int net_activate(struct virtio_device *dev, struct err *err)
{
	struct virtio_net *net = virtio_net(dev);
	uint16_t n = net->n_pairs;
	int r;

	r = init_state(net, err);
	if (r < 0)
		return r;
	/* A driver without MQ has the control queue where the second pair would be. */
	if (2 * n > ctrl_queue_index(net))
		n = ctrl_queue_index(net) / 2;
	for (uint16_t i = 0; r == 0 && i < n; i++)
		r = net->path->set_up(net, i, err);
	if (r == 0) {
		r = set_guest_offloads(net, net->st.guest_offloads);
		if (r < 0)
			err_errno(err, -r, "cannot set the tap's offloads");
	}
	for (uint16_t i = 0; r == 0 && i < n; i++)
		r = net->path->start(net, i, err);
	if (r < 0) {
		net_reset(dev);
		return r;
	}
	tell_status(net);
	return 0;
}

static void net_pause(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	for (uint16_t i = 0; i < net->n_pairs; i++)
		net->path->stop(net, i);
}

static void net_resume(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);
	struct err err = { 0 };

	for (uint16_t i = 0; i < net->n_pairs; i++) {
		if (net->path->start(net, i, &err) == 0)
			continue;
		virtio_device_broken(dev, "%s", err.msg);
		return;
	}
}

void virtio_net_set_link(struct virtio_device *dev, bool up)
{
	struct virtio_net *net = virtio_net(dev);

	pthread_mutex_lock(&dev->lock);
	net->st.link_down = !up;
	pthread_mutex_unlock(&dev->lock);
	for (uint16_t i = 0; i < net->n_pairs; i++)
		net->path->set_link(net, i, up);
	tell_status(net);
}

bool virtio_net_link_is_up(struct virtio_device *dev)
{
	bool up;

	pthread_mutex_lock(&dev->lock);
	up = link_is_up(virtio_net(dev));
	pthread_mutex_unlock(&dev->lock);
	return up;
}

void virtio_net_announce(struct virtio_device *dev)
{
	struct virtio_net *net = virtio_net(dev);

	if (!virtio_has_feature(dev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    !virtio_has_feature(dev, VIRTIO_NET_F_CTRL_VQ))
		return;
	pthread_mutex_lock(&dev->lock);
	net->announce = true;
	pthread_mutex_unlock(&dev->lock);
	tell_status(net);
}

static void *net_state_ptr(struct virtio_device *dev)
{
	return &virtio_net(dev)->st;
}

static const struct virtio_counter *net_counters(struct virtio_device *dev)
{
	return virtio_net(dev)->counters;
}

/* What it was made of; the descriptors stay the caller's if it was never whole. */
static void free_parts(struct virtio_net *net, bool close_fds)
{
	for (uint16_t i = 0; net->vhosts && i < net->n_pairs; i++) {
		if (!close_fds)
			net->vhosts[i].vhost.fd = -EBADF;
		net_vhost_deinit(&net->vhosts[i]);
	}
	for (uint16_t i = 0; net->backends && i < net->n_pairs; i++) {
		if (!net->backends[i])
			continue;
		/* The daemon may hold the queue for a next worker, which expects it attached. */
		if (net->n_pairs > 1)
			net_backend_set_attached(net->backends[i], true);
		if (!close_fds)
			net->backends[i]->fd = -EBADF;
		net_backend_free(net->backends[i]);
	}
	free(net->backends);
	free(net->vhosts);
	free(net->pairs);
	free(net);
}

static void net_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
	free_parts(virtio_net(dev), true);
}

static uint64_t features_offered(const struct virtio_net_params *params)
{
	uint64_t features =
		VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | VIRTIO_FEATURE(VIRTIO_NET_F_MAC) |
		VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ) |
		VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) |
		VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE);

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
	bytes_put_le(config + offsetof(struct virtio_net_config, max_virtqueue_pairs), 2,
		     params->n_pairs);
	bytes_put_le(config + offsetof(struct virtio_net_config, mtu), 2, params->mtu);
	net->dev.config_size = CONFIG_SIZE;
	update_status(net);
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
	if (params->wire == VIRTIO_NET_WIRE_STREAM &&
	    (params->n_pairs > 1 || params->offload_csum || params->vhost_fds))
		return err_set(err, EINVAL,
			       "network '%s': a stream has one queue pair, no offloads, no vhost",
			       params->id);
	return 0;
}

static int open_wire(const struct virtio_net_params *params, uint16_t i, struct net_backend **ret,
		     struct err *err)
{
	return params->wire == VIRTIO_NET_WIRE_STREAM
		       ? net_stream_new(params->fds[i], ret, err)
		       : tap_new(params->fds[i], params->allow_socket, ret, err);
}

static int open_wires(struct virtio_net *net, const struct virtio_net_params *params,
		      struct err *err)
{
	int r;

	for (uint16_t i = 0; i < params->n_pairs; i++) {
		r = open_wire(params, i, &net->backends[i], err);
		if (r < 0)
			return err_prefix(err, r, "network '%s': queue pair %u", params->id, i);
	}
	/* Until the driver asks for more, the kernel has one queue to deliver to. */
	for (uint16_t i = 1; i < params->n_pairs; i++) {
		r = net_backend_set_attached(net->backends[i], false);
		if (r < 0)
			return err_errno(err, -r,
					 "network '%s': queue pair %u: the tap has a single queue",
					 params->id, i);
	}
	return 0;
}

/* What the kernel cannot do with rings is not offered. */
static int open_vhosts(struct virtio_net *net, const struct virtio_net_params *params,
		       struct err *err)
{
	int r;

	net->vhosts = calloc(params->n_pairs, sizeof(*net->vhosts));
	if (!net->vhosts)
		return err_errno(err, ENOMEM, "network '%s'", params->id);
	for (uint16_t i = 0; i < params->n_pairs; i++) {
		uint64_t features = 0;

		r = net_vhost_init(&net->vhosts[i], params->vhost_fds[i], params->vhost_call,
				   &features, err);
		if (r < 0)
			return err_prefix(err, r, "network '%s': queue pair %u", params->id, i);
		net->dev.features_offered &= features | ~VHOST_NET_RING_FEATURES;
	}
	net->path = &vhost_path;
	return 0;
}

static int open_parts(struct virtio_net *net, const struct virtio_net_params *params,
		      struct err *err)
{
	net->path = &user_path;
	net->backends = calloc(params->n_pairs, sizeof(struct net_backend *));
	net->pairs = calloc(params->n_pairs, sizeof(*net->pairs));
	if (!net->backends || !net->pairs)
		return err_errno(err, ENOMEM, "network '%s'", params->id);
	return params->vhost_fds ? open_vhosts(net, params, err) : 0;
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
	net->n_pairs = params->n_pairs;
	net->rx_limiter = params->rx_limiter;
	net->tx_limiter = params->tx_limiter;
	n_queues = (uint16_t)(2 * params->n_pairs + 1);
	for (uint16_t i = 0; i < n_queues; i++)
		sizes[i] = params->queue_size;
	net->dev.features_offered = features_offered(params);
	r = open_parts(net, params, err);
	if (r < 0)
		goto fail;
	r = virtio_device_init(&net->dev, net->vhosts ? &net_vhost_ops : &net_ops, params->id,
			       sizes, n_queues, err);
	if (r < 0)
		goto fail;
	/* Last, because the descriptors are the caller's if it fails. */
	r = open_wires(net, params, err);
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
	free_parts(net, false);
	return r;
}

/* Rows that both kinds share. */
#define NET_OPS                                                                                    \
	.name = "net", .device_id = VIRTIO_ID_NET, .pci_class = 0x02, /* network */                \
		.pci_subclass = 0x00,                                 /* Ethernet */               \
		.state = &virtio_net_state_desc, .activate = net_activate, .kick = net_kick,       \
	.reset = net_reset, .pause = net_pause, .resume = net_resume, .state_ptr = net_state_ptr,  \
	.counters = net_counters, .free = net_free

static int net_vhost_memory_grown(struct virtio_device *dev, struct err *err)
{
	struct virtio_net *net = container_of(dev, struct virtio_net, dev);
	int r = 0;

	for (uint16_t i = 0; r >= 0 && i < net->n_pairs; i++)
		r = net_vhost_set_memory(&net->vhosts[i], err);
	return r;
}

static const struct virtio_device_ops net_ops = {
	NET_OPS,
	.threads = VIRTIO_THREADS_PER_PAIR,
};

static const struct virtio_device_ops net_vhost_ops = {
	NET_OPS,
	.threads = VIRTIO_THREADS_SHARED, /* the control queue's */
	.vector_changed = net_vector_changed,
	.memory_grown = net_vhost_memory_grown,
};
