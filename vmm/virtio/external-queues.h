/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues that somebody else serves: the host's kernel (vhost) or another process
 * (vhost-user)
 *
 * Which of a device's queues are handed over, when they are, and how they come back:
 * the same for every server.  What a server is told, and how, is in its ops
 * (net-vhost.c, fs.c).  From set_up to tear_down the queues are `external`: their
 * doorbells and interrupts go past this process.  From start to stop the rings are the
 * server's; stop brings back how far it has come.  Only queues that the driver uses are
 * spoken of.
 *
 * One descriptor tells that the server has failed; the shared thread looks at it, once
 * an activation.  A queue that does not come back breaks the device: nobody knows what
 * its server still does.
 *
 * Control thread, but for ops->failed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/loop.h"

struct err;
struct external_queues;
struct virtio_device;
struct virtio_queue;

struct external_queues_ops {
	uint32_t failed_events; /* EPOLL*: of the descriptor, that it has failed */
	/*
	 * Served from here on; its doorbell rings when this has returned.  call_fd -EBADF:
	 * the driver wants no interrupts.  A failure leaves it as after stop_queue.
	 */
	int (*start_queue)(struct external_queues *eq, struct virtio_queue *q, int call_fd,
			   struct err *err);
	/* The ring is not touched when this returns: 0, or -errno, it may well be. */
	int (*stop_queue)(struct external_queues *eq, struct virtio_queue *q,
			  uint16_t *ret_next_avail);
	/* Another interrupt for a queue that is served. */
	void (*set_call)(struct external_queues *eq, struct virtio_queue *q, int call_fd);
	/* Shared thread: says so with virtio_device_broken(). */
	void (*failed)(struct external_queues *eq);
};

struct external_queues {
	const struct external_queues_ops *ops;
	struct virtio_device *dev;
	uint16_t first, n;
	struct loop_source failed; /* on the shared thread */
	bool set_up;
	bool running; /* the rings are the server's */
};

/* Activation: queues first to first + n of dev are handed over. failed_fd stays the caller's. */
void external_queues_set_up(struct external_queues *eq, const struct external_queues_ops *ops,
			    struct virtio_device *dev, uint16_t first, uint16_t n, int failed_fd);
/* Does nothing without set_up, or when they run. On failure none runs. */
int external_queues_start(struct external_queues *eq, struct err *err);
void external_queues_stop(struct external_queues *eq);
/* Stops, and gives the queues back for good. Of zeroed ones it is harmless. */
void external_queues_tear_down(struct external_queues *eq);
/* For ops->vector_changed of the device. */
void external_queues_vector_changed(struct external_queues *eq, struct virtio_queue *q);

/* The next used queue at or after *i of them; NULL: no more. *i begins with 0. */
struct virtio_queue *external_queues_next(const struct external_queues *eq, uint16_t *i);
/* Does the driver use one of these queues? */
bool external_queues_used(const struct virtio_device *dev, uint16_t first, uint16_t n);
