/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio split queue (virtio 1.3, 2.7)
 *
 * Set up by the control thread while the device is inactive, then owned by the
 * I/O thread that serves it until the device is reset or parked: a transfer,
 * not sharing.  Devices never see rings: virtio_queue_pop() copies every
 * descriptor once, checks it, and yields {gpa, len} lists.  Of a device behind an
 * IOMMU (dev->iova) all addresses that the driver gives are translated there, and
 * what is one buffer to the driver may be several.
 *
 * A guest mistake is -EBADMSG; the device then calls virtio_device_broken().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/base/loop.h"
#include "vmm/base/state.h"
#include "vmm/virtio/virtio-abi.h"

struct err;
struct guest_mem;
struct virtio_device;

/* What the driver programmed and how far the device has come: the saved state. */
struct virtio_queue_state {
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t size;           /* entries, power of two */
	uint16_t vector;         /* MSI-X vector, or VIRTIO_NO_VECTOR */
	uint16_t next_avail;     /* next entry of the available ring to take */
	uint16_t next_used;      /* next entry of the used ring to fill */
	uint16_t signalled_used; /* used index at the last interrupt (event index) */
	bool enabled;
	bool signalled_valid;
	uint8_t pad[4];
};
extern const struct state_desc virtio_queue_state_desc;

#define VIRTIO_NO_VECTOR 0xffff

struct virtq_buf {
	uint64_t gpa;
	uint32_t len;
};

/* One request.  bufs is the queue's scratch space: valid until the next pop. */
struct virtq_chain {
	uint16_t head;
	uint16_t n_readable;                 /* bufs[0 .. n_readable) the device may read */
	uint16_t n_writable;                 /* the next n_writable ones it may write */
	uint64_t readable_len, writable_len; /* bytes, sums */
	const struct virtq_buf *bufs;
};

struct virtio_queue {
	struct virtio_device *dev;
	uint16_t index;
	uint16_t size_max;
	struct virtio_queue_state st;

	/* valid while active */
	struct virtq_desc *desc;
	uint16_t *avail;        /* flags, idx, ring..., used_event: little endian in memory */
	uint16_t *used;         /* flags, idx, elements..., avail_event */
	struct virtq_buf *bufs; /* bufs_max entries: st.size, and more behind an IOMMU */
	uint32_t bufs_max;
	bool event_idx, indirect;
	bool used_dirty; /* pushed since the last notify */

	int kick_fd;       /* eventfd, signalled by the guest's doorbell */
	struct loop *loop; /* the I/O thread that serves it */
	/*
	 * Somebody else serves it (vhost), from ops->activate to ops->reset: its doorbell
	 * is not watched here.
	 */
	bool external;
	struct loop_source kick_source;
};

/* Control thread, device inactive. Size and addresses are checked by virtio_queue_start. */
int virtio_queue_init(struct virtio_queue *q, struct virtio_device *dev, uint16_t index,
		      uint16_t size_max, struct err *err);
void virtio_queue_deinit(struct virtio_queue *q);
void virtio_queue_reset(struct virtio_queue *q);
/* Checks what the driver programmed and maps the rings: 0, or -EBADMSG with a sentence. */
int virtio_queue_start(struct virtio_queue *q, struct guest_mem *mem, uint64_t features,
		       struct err *err);
void virtio_queue_stop(struct virtio_queue *q);

/*
 * Control thread: whoever served an external queue has stopped, and next_avail is the
 * next entry of the available ring that it would have taken.
 */
void virtio_queue_take_back(struct virtio_queue *q, uint16_t next_avail);

/* The queue's I/O thread. */

/* 1 and a chain, 0 empty, -EBADMSG malformed. */
_must_check_ int virtio_queue_pop(struct virtio_queue *q, struct virtq_chain *ret);
/* Gives the request popped last back, as if it had not been popped (no room, no frame). */
void virtio_queue_unpop(struct virtio_queue *q);
/* Returns a request with n_written bytes in its writable part. */
void virtio_queue_push(struct virtio_queue *q, uint16_t head, uint32_t n_written);
/* Makes what was pushed visible and interrupts the driver if it asked for that. */
void virtio_queue_notify(struct virtio_queue *q);
/* Asks for no doorbells / for one at the next request; the latter true = there is one already. */
void virtio_queue_kicks_off(struct virtio_queue *q);
_must_check_ bool virtio_queue_kicks_on(struct virtio_queue *q);
/* True when the driver has made nothing available. */
bool virtio_queue_empty(const struct virtio_queue *q);

/* Requests that virtio_queue_serve() answers before other devices of the thread get a turn. */
#define VIRTQ_SERVE_BUDGET 64U
/*
 * For devices that answer each request at once.  Calls take, which pops and pushes
 * one (1, or 0 there is none, or -errno), until the driver rests, without doorbells
 * meanwhile, and notifies.  When the budget is used up it rings the doorbell itself.
 * 0, or take's -errno: the device is to be broken.
 */
_must_check_ int virtio_queue_serve(struct virtio_queue *q,
				    int (*take)(struct virtio_queue *q, void *data), void *data);
/* The same for requests that take long: budget of them, until control may have the thread. */
_must_check_ int virtio_queue_serve_some(struct virtio_queue *q, unsigned int budget,
					 int (*take)(struct virtio_queue *q, void *data),
					 void *data);

/*
 * Copies len bytes at byte off of the readable (writable) part: 0, or
 * -EBADMSG when the part is shorter or outside RAM.
 */
_must_check_ int virtq_chain_read(const struct virtio_queue *q, const struct virtq_chain *chain,
				  uint64_t off, void *buf, size_t len);
_must_check_ int virtq_chain_write(const struct virtio_queue *q, const struct virtq_chain *chain,
				   uint64_t off, const void *buf, size_t len);
/*
 * iovecs for [off, off+len) of the readable or writable part, appended at
 * iov[*n]; -EBADMSG outside the part or RAM, -ENOBUFS beyond max.
 */
_must_check_ int virtq_chain_iov(const struct virtio_queue *q, const struct virtq_chain *chain,
				 bool writable, uint64_t off, uint64_t len, struct iovec *iov,
				 size_t max, size_t *n);
/* Guest-physical address of byte off of the writable part, for a status byte. */
_must_check_ int virtq_chain_gpa(const struct virtq_chain *chain, bool writable, uint64_t off,
				 uint64_t *ret_gpa);
