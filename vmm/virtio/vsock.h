/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock (virtio 1.3, 5.10): sockets between the guest and the host
 *
 * The device's thread is the shared one.  This file moves packets between the
 * queues and the muxer (vsock-mux.h), which has the connections; what the host
 * has to do is done by the caller: connections that the guest wants are told by
 * params->wish and fetched and answered from the control thread.
 *
 * Offered: STREAM, SEQPACKET, event index, indirect descriptors.  No state: no
 * connection outlives the process; who restores a machine calls
 * virtio_vsock_transport_reset(), and the driver ends them all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/vsock-mux.h"

struct err;
struct virtio_device;

struct virtio_vsock_params {
	const char *id;
	uint32_t cid;
	int listen_fds[VSOCK_LISTENERS]; /* stream, seqpacket; -EBADF: none. Taken over on success
					  */
	/* The device's thread: virtio_vsock_next_wish() has something. NULL: nobody can connect. */
	void (*wish)(void *data);
	void *data;
};

/* Control thread. */
int virtio_vsock_new(const struct virtio_vsock_params *params, struct virtio_device **ret,
		     struct err *err);
bool virtio_vsock_next_wish(struct virtio_device *dev, struct vsock_wish *ret);
/* fd: a connected socket, non-blocking, taken over; -errno: refused. */
void virtio_vsock_answer(struct virtio_device *dev, uint32_t cookie, int fd);
/* A client from elsewhere, taken over, also when this fails: -ENOTCONN, -EBUSY and a sentence. */
int virtio_vsock_add_client(struct virtio_device *dev, int fd, struct err *err);
/* All connections are gone, as the driver is told (5.10.6.7). Its machine was restored. */
void virtio_vsock_transport_reset(struct virtio_device *dev);
