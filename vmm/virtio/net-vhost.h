/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's data path of virtio-net: two queues on one tap by vhost-net
 *
 * The other kind of struct net_pair: no thread, no frames here.  Between start
 * and stop the rings are the kernel's; stop brings back how far it has come.
 * Doorbells and interrupts go past this process, so a queue is `external`.
 * What the kernel finds wrong with a ring breaks the device, as with our own.
 *
 * Control thread, but for the sign of a broken ring, which the shared thread gets.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/loop.h"
#include "vmm/net/vhost.h"

struct err;
struct net_backend;
struct virtio_device;
struct virtio_queue;

struct net_vhost {
	struct virtio_device *dev;
	uint16_t index;
	struct vhost vhost;
	struct net_backend *tap;
	int err_fd; /* eventfd: the kernel found a ring malformed */
	struct loop_source err_source;
	bool set_up;  /* the driver uses at least one of the queues */
	bool running; /* the rings are the kernel's */
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

void net_vhost_set_link(struct net_vhost *nv, bool up);
void net_vhost_vector_changed(struct net_vhost *nv, struct virtio_queue *q);
