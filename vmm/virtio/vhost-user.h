/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end: another process serves a device's queues
 *
 * It is told over a UNIX socket where guest memory and the rings are, gets the
 * doorbells and gives the interrupts as eventfds, and sees all of guest memory.
 * What it says is foreign input; what it does to guest memory is its own and the
 * guest's business.  Guest memory has to be of files that it can map
 * (memory.shared or memory.hugepages).
 *
 * Calls wait for answers, on the control thread: each for as long as struct
 * vhost_user_patience says, however many messages it sends.  A back end that has failed
 * once, by silence or by answers that are none, is asked nothing more (-EIO), and its
 * connection is shut down: it lets go of guest memory, or is no vhost-user back end, and
 * whoever watches fd sees a hang-up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct guest_mem;
struct virtio_device;
struct virtio_queue;

/* Milliseconds that a call waits at most. */
struct vhost_user_patience {
	int greet; /* it may just have been started */
	int ask;
	int stop; /* what the guest asked of it before is finished */
};
#define VHOST_USER_PATIENCE ((struct vhost_user_patience){ 2000, 1000, 5000 })

struct vhost_user {
	int fd;
	const char *id; /* of the device, for messages; its owner's */
	struct vhost_user_patience patience;
	int64_t deadline;  /* of the call that is under way, on the monotonic clock */
	uint64_t features; /* what the back end can, without the protocol's own bit */
	uint64_t protocol; /* protocol features in use */
	uint16_t n_queues_max;
	bool has_protocol;
	bool dead;
};

/* Takes fd over on success: greets the back end and learns what it can. patience NULL: as above. */
int vhost_user_init(struct vhost_user *vu, int fd, const char *id,
		    const struct vhost_user_patience *patience, struct err *err);
/* Of a zeroed one it is harmless. */
void vhost_user_deinit(struct vhost_user *vu);

/* Where guest memory is; again, when there is more of it, with the queues stopped. */
int vhost_user_set_memory(struct vhost_user *vu, const struct guest_mem *mem, struct err *err);
/* Activation: what was negotiated, and where memory is. */
int vhost_user_set_up(struct vhost_user *vu, uint64_t features, const struct guest_mem *mem,
		      struct err *err);
/*
 * Hands a queue that is set up over; call_fd -EBADF: the driver wants no interrupts.  It
 * serves what is available already when the doorbell rings.
 */
int vhost_user_start_queue(struct vhost_user *vu, struct virtio_queue *q, int call_fd,
			   struct err *err);
/* Takes it back: after that the back end does not touch its ring. */
int vhost_user_stop_queue(struct vhost_user *vu, struct virtio_queue *q, uint16_t *ret_next_avail);
int vhost_user_set_call(struct vhost_user *vu, const struct virtio_queue *q, int call_fd);
