/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's data path of virtio-net: two queues on one tap by vhost-net
 *
 * The other kind of struct net_pair: no thread, no frames here, but the kernel's way of
 * serving external queues (external-queues.h).  What the kernel finds wrong with a ring
 * breaks the device, as with our own.
 *
 * Control thread, but for the sign of a broken ring, which the shared thread gets.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/net/vhost.h"
#include "vmm/virtio/external-queues.h"

struct err;
struct net_backend;
struct virtio_device;
struct virtio_queue;

struct net_vhost {
	struct external_queues queues; /* not set up when the driver uses neither */
	uint16_t index;
	struct vhost vhost;
	struct net_backend *tap;
	int err_fd; /* eventfd: the kernel found a ring malformed */
	bool link_down;
};

/*
 * Takes fd (of /dev/vhost-net) over on success; tap stays the caller's.  call: struct vhost.
 * deinit of a zeroed one is harmless.
 */
int net_vhost_init(struct net_vhost *nv, int fd,
		   int (*call)(int fd, unsigned long request, void *arg), uint64_t *ret_features,
		   struct err *err);
void net_vhost_deinit(struct net_vhost *nv);

/* Activation: features, memory, and which of the pair's queues there are. */
int net_vhost_set_up(struct net_vhost *nv, struct virtio_device *dev, uint16_t index,
		     struct net_backend *tap, bool link_down, struct err *err);
int net_vhost_start(struct net_vhost *nv, struct err *err);
void net_vhost_stop(struct net_vhost *nv);
/* Stops, and gives the queues back for good. */
void net_vhost_tear_down(struct net_vhost *nv);

/* Guest memory has grown. */
int net_vhost_set_memory(struct net_vhost *nv, struct err *err);
void net_vhost_set_link(struct net_vhost *nv, bool up);
void net_vhost_vector_changed(struct net_vhost *nv, struct virtio_queue *q);
