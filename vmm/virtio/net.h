/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.3, 5.1)
 *
 * Queue pair n has a thread, a back end (vmm/net/backend.h: a tap's queue, or the
 * socket of another program) and receive buffers it holds ready; the control
 * queue runs on the shared thread.  Frames go straight between guest memory and
 * the back end.  With vhost the kernel moves them instead (net-vhost.h), and there
 * are no threads but the shared one.
 *
 * Receive: buffers are popped ahead of frames, since a mergeable frame may need
 * many of them; pause and reset give back those not yet used.  Without buffers
 * the tap is not watched until the driver's next doorbell.  Transmit: a tap
 * that is full (EAGAIN) is watched for EPOLLOUT, and the frame stays in the
 * queue.
 *
 * Offered: MAC, STATUS, MTU, MQ, CTRL_VQ, CTRL_GUEST_OFFLOADS, MRG_RXBUF,
 * checksum, TSO, ECN and UFO both ways as configured, event index, indirect
 * descriptors, GUEST_ANNOUNCE.
 *
 * The link is up while it is not set down (virtio_net_set_link, kept over resets)
 * and no pair has lost its back end; a new activation tries those again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct rate_limiter;
struct virtio_device;

#define VIRTIO_NET_PAIRS_MAX 16
#define VIRTIO_NET_CTRL_MAX  2048 /* bytes of the longest control command taken */

enum virtio_net_wire {
	VIRTIO_NET_WIRE_TAP,
	VIRTIO_NET_WIRE_STREAM, /* passt; one pair, no offloads */
};

struct virtio_net_params {
	const char *id;
	enum virtio_net_wire wire;
	const int *fds;       /* n_pairs taps, or one stream socket */
	const int *vhost_fds; /* taps: n_pairs of /dev/vhost-net, or NULL */
	uint16_t n_pairs;
	uint16_t queue_size;
	uint8_t mac[6];
	uint16_t mtu;                                 /* 0 = not announced */
	bool offload_tso, offload_ufo, offload_csum;  /* the first two need the third */
	bool allow_socket;                            /* fds may be datagram sockets (tests) */
	struct rate_limiter *rx_limiter, *tx_limiter; /* NULL: none; not with vhost; outlive it */
	int (*vhost_call)(int fd, unsigned long request, void *arg); /* tests: struct vhost */
};

struct virtio_net_state {
	uint64_t guest_offloads; /* VIRTIO_NET_F_GUEST_* in effect */
	uint16_t pairs;          /* in use; 0 = the driver has not started */
	bool link_down;          /* set down from outside; outlives resets */
	uint8_t pad[5];
};
extern const struct state_desc virtio_net_state_desc;

/* Control thread. Takes params->fds and vhost_fds over on success. */
int virtio_net_new(const struct virtio_net_params *params, struct virtio_device **ret,
		   struct err *err);

/* Control thread; any state of the device.  dev is one of virtio_net_new(). */
void virtio_net_set_link(struct virtio_device *dev, bool up);
/* What the driver is told: not set down, and with a back end behind it. */
bool virtio_net_link_is_up(struct virtio_device *dev);
/*
 * Asks the driver to make itself known to the network (5.1.6.5.4), after the machine came to
 * another host; nothing happens if it does not know how.
 */
void virtio_net_announce(struct virtio_device *dev);

/* The control queue's commands, for the device, its test and the fuzzer. */

enum virtio_net_ctrl_kind {
	VIRTIO_NET_CTRL_REFUSED, /* answered with an error */
	VIRTIO_NET_CTRL_IGNORED, /* answered with success: filters, which are best effort
				    (5.1.6.5.1) */
	VIRTIO_NET_CTRL_PAIRS,
	VIRTIO_NET_CTRL_OFFLOADS,
	VIRTIO_NET_CTRL_ANNOUNCED, /* what virtio_net_announce() asked for is being done */
};

/* Features that the driver may switch on and off. */
#define VIRTIO_NET_GUEST_OFFLOADS                                                                  \
	(VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |       \
	 VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN) |        \
	 VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO))

struct virtio_net_ctrl {
	enum virtio_net_ctrl_kind kind;
	uint64_t value; /* number of pairs; offload bits */
};

/*
 * data: the first len bytes of the readable part, at most VIRTIO_NET_CTRL_MAX.
 * 0, or -EBADMSG when the chain cannot even carry an answer.
 */
int virtio_net_ctrl_parse(uint64_t features, uint16_t n_pairs, const uint8_t *data, size_t len,
			  uint64_t readable_len, uint64_t writable_len,
			  struct virtio_net_ctrl *ret);
