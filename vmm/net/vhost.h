/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues that the kernel serves: one descriptor of /dev/vhost-net
 *
 * The kernel gets the rings' addresses, a doorbell and an interrupt for each
 * queue, and the tap; then it moves frames between guest memory and tap in a
 * thread of its own, and this process sees none.  It knows the rings by the
 * addresses they have in this process (kernel: include/uapi/linux/vhost.h).
 *
 * A descriptor has two queues: 0 receives, 1 sends.  It belongs to the process
 * that took it first; the daemon only opens it.
 *
 * Control thread: no other role's filter knows these ioctls.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct guest_mem;

enum vhost_net_queue {
	VHOST_NET_RX,
	VHOST_NET_TX,
	VHOST_NET_QUEUES_N_,
};

struct vhost {
	int fd;
	/* ioctl(2), or a test's: 0 and more, or -errno */
	int (*call)(int fd, unsigned long request, void *arg);
};

/* Bits of VIRTIO_F_* and VIRTIO_NET_F_* that are the rings', which the kernel has to know. */
#define VHOST_NET_RING_FEATURES                                                                    \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |                            \
	 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_NET_F_MRG_RXBUF)

struct vhost_queue {
	uint16_t size, next_avail;
	void *desc, *avail, *used;
	int kick_fd, call_fd, err_fd; /* call_fd: -EBADF for no interrupts */
};

/*
 * fd is taken over on success.  call NULL: ioctl(2).  ret_features: those of
 * VHOST_NET_RING_FEATURES that the kernel has.
 */
int vhost_init(struct vhost *v, int fd, int (*call)(int fd, unsigned long request, void *arg),
	       uint64_t *ret_features, struct err *err);
void vhost_deinit(struct vhost *v);

/* Where guest memory is; again, when there is more of it, while queues are served. */
int vhost_set_memory(struct vhost *v, const struct guest_mem *mem, struct err *err);
/* What the driver accepted, and where guest memory is; before queues are set up. */
int vhost_set_guest(struct vhost *v, uint64_t features, const struct guest_mem *mem,
		    struct err *err);
int vhost_set_queue(struct vhost *v, unsigned int i, const struct vhost_queue *q, struct err *err);
/* Another interrupt while it runs: 0 or -errno. */
int vhost_set_call(struct vhost *v, unsigned int i, int call_fd);
/* The queue is served from here on; tap_fd -EBADF: no longer, when this returns. 0 or -errno. */
int vhost_set_backend(struct vhost *v, unsigned int i, int tap_fd);
/* Of a queue that is not served: the next entry of the available ring. 0 or -errno. */
int vhost_get_base(struct vhost *v, unsigned int i, uint16_t *ret);
