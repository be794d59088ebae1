/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.3, 5.1) on taps
 *
 * Queue pair n has a thread, a tap queue and receive buffers it holds ready;
 * the control queue runs on the shared thread.  Frames go straight between
 * guest memory and the tap, one system call each way.
 *
 * Receive: buffers are popped ahead of frames, since a mergeable frame may need
 * many of them; pause and reset give back those not yet used.  Without buffers
 * the tap is not watched until the driver's next doorbell.  Transmit: a tap
 * that is full (EAGAIN) is watched for EPOLLOUT, and the frame stays in the
 * queue.
 *
 * Offered: MAC, STATUS, MTU, MQ, CTRL_VQ, CTRL_GUEST_OFFLOADS, MRG_RXBUF,
 * checksum, TSO, ECN and UFO both ways as configured, event index, indirect
 * descriptors.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct virtio_device;

#define VIRTIO_NET_PAIRS_MAX 16
#define VIRTIO_NET_CTRL_MAX  2048 /* bytes of the longest control command taken */

struct virtio_net_params {
	const char *id;
	const int *fds; /* n_pairs taps */
	uint16_t n_pairs;
	uint16_t queue_size;
	uint8_t mac[6];
	uint16_t mtu;                                /* 0 = not announced */
	bool offload_tso, offload_ufo, offload_csum; /* the first two need the third */
	bool allow_socket;                           /* fds may be datagram sockets (tests) */
};

struct virtio_net_state {
	uint64_t guest_offloads; /* VIRTIO_NET_F_GUEST_* in effect */
	uint16_t pairs;          /* in use; 0 = the driver has not started */
	uint8_t pad[6];
};
extern const struct state_desc virtio_net_state_desc;

/* Control thread. Takes params->fds over on success. */
int virtio_net_new(const struct virtio_net_params *params, struct virtio_device **ret,
		   struct err *err);

/* The control queue's commands, for the device, its test and the fuzzer. */

enum virtio_net_ctrl_kind {
	VIRTIO_NET_CTRL_REFUSED, /* answered with an error */
	VIRTIO_NET_CTRL_IGNORED, /* answered with success: filters, which are best effort
				    (5.1.6.5.1) */
	VIRTIO_NET_CTRL_PAIRS,
	VIRTIO_NET_CTRL_OFFLOADS,
};

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
