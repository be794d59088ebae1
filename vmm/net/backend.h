/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What carries the frames of one queue pair outside of the guest
 *
 * A frame at this interface begins with a virtio_net_hdr_v1 (virtio 1.3,
 * 5.1.6) of NET_HEADER_SIZE bytes, whatever is on the wire: a back end whose
 * wire has none makes one of zeroes and drops the guest's, and its device
 * offers no offloads.
 *
 * Set up and freed by the control thread while the pair stands; the calls
 * below belong to the pair's thread, set_offloads to whoever runs the control
 * queue.  The kernel's own data path (vhost.h) is no back end of this kind: it
 * has no frames to hand out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_HEADER_SIZE 12 /* struct virtio_net_hdr_v1 */
/* Header, Ethernet and a 64 KiB segment, with room: no frame is longer. */
#define NET_FRAME_MAX (65536U + 128U)

struct net_backend;

struct net_backend_ops {
	const char *name; /* "tap": for log lines */
	/* One with frames that carry offloads: set_offloads does something. */
	bool offloads;
	/*
	 * The next frame: its length with header; -EAGAIN none now, -EMSGSIZE one that did not
	 * fit and is gone, -EPIPE or another -errno.  A length beyond iov's means that it was cut.
	 */
	ssize_t (*receive)(struct net_backend *b, const struct iovec *iov, int n_iov);
	/* 0 taken, -EAGAIN not now (EPOLLOUT tells when), other -errno: it is lost. */
	int (*send)(struct net_backend *b, const struct iovec *iov, int n_iov);
	/*
	 * Optional: what was taken leaves; the memory behind it may change afterwards.
	 * -EAGAIN: the rest is kept, call again at EPOLLOUT; other -errno: it is lost.
	 */
	int (*flush)(struct net_backend *b);
	/* Optional: frames are there that the descriptor's readiness says nothing of. */
	bool (*has_frames)(const struct net_backend *b);
	/* Optional. bits: TUN_F_*; 0 or -errno. */
	int (*set_offloads)(struct net_backend *b, unsigned int bits);
	/* Optional: into, or out of, the queues that the interface spreads flows over. */
	int (*set_attached)(struct net_backend *b, bool attached);
	void (*free)(struct net_backend *b);
};

struct net_backend {
	const struct net_backend_ops *ops;
	int fd; /* EPOLLIN: frames; EPOLLOUT: room */
	/* The other end is gone and does not come back: a pair does not try again. */
	bool dead;
};

static inline int net_backend_set_offloads(struct net_backend *b, unsigned int bits)
{
	return b->ops->set_offloads ? b->ops->set_offloads(b, bits) : 0;
}

static inline int net_backend_set_attached(struct net_backend *b, bool attached)
{
	return b->ops->set_attached ? b->ops->set_attached(b, attached) : 0;
}

static inline void net_backend_free(struct net_backend *b)
{
	if (b)
		b->ops->free(b);
}
