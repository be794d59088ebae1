/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of a tap device: a back end whose frames carry offloads
 *
 * The daemon creates and configures the interface (it has CAP_NET_ADMIN, the
 * worker has nothing) and hands over one descriptor per queue.  What is left to
 * the worker are the ioctls that need no privilege: the size of the header in
 * front of each frame, the offloads that follow the guest's choice, and taking
 * queues in and out of the set that the kernel spreads flows over.
 *
 * A macvtap, or any datagram socket that carries a 12-byte virtio_net_hdr_v1 in
 * front of each frame, works as well, the latter only when told so.
 */
#pragma once

#include "vmm/net/backend.h"

struct err;

#define TAP_HEADER_SIZE NET_HEADER_SIZE

struct tap {
	struct net_backend base;
	bool is_tap;   /* false: a socket, which has no offloads and no queues */
	bool attached; /* is one of the queues the kernel delivers to */
	bool offloads_known;
	unsigned int offloads; /* TUN_F_*, as set last */
};

/*
 * Control thread. Checks that fd is a tap with a virtio header, makes it
 * non-blocking, sets the header's size.  fd is taken over on success.
 * allow_socket: accept what is no tap.
 */
int tap_new(int fd, bool allow_socket, struct net_backend **ret, struct err *err);
