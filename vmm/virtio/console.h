/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console (virtio 1.3, 5.3): one port, hvc0
 *
 * The host's side is a chardev, which must be on the device's own loop (the
 * shared one): output goes to it as it comes, its input is taken as far as the
 * driver has given buffers, and the rest waits there for the next doorbell.
 *
 * Offered: SIZE, event index, indirect descriptors.  No state: the size is the
 * host's, and nothing is ever in flight.
 */
#pragma once

#include <stdint.h>

struct chardev;
struct err;
struct virtio_device;

struct virtio_console_params {
	const char *id;
	struct chardev *chardev; /* the caller's; outlives the device */
	uint16_t cols, rows;     /* 0 = not known yet */
};

/* Control thread. */
int virtio_console_new(const struct virtio_console_params *params, struct virtio_device **ret,
		       struct err *err);
/* Control thread: the window of the client has this size. */
void virtio_console_resize(struct virtio_device *dev, uint16_t cols, uint16_t rows);
