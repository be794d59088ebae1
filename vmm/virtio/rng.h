/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng (virtio 1.3, 5.4): random bytes for the guest
 *
 * Bytes come from a source the daemon opened, or from the kernel.  A source
 * that ends (a regular file) is followed by the kernel's bytes.  No state: each
 * request stands for itself.  The kernel's own generator, and /dev/urandom, are
 * served by the shared thread, so a request gets at most VIRTIO_RNG_REQUEST_MAX
 * bytes, which the specification allows (5.4.6.2).  Any other source may be slow
 * (/dev/hwrng: some hundred bytes a second): it has a thread of its own, and a request
 * gets at most VIRTIO_RNG_SLOW_MAX, because a reset waits for the one under way.
 */
#pragma once

#include <stdint.h>

struct err;
struct virtio_device;

#define VIRTIO_RNG_REQUEST_MAX 65536U
#define VIRTIO_RNG_SLOW_MAX    64U /* what Linux asks for */

struct virtio_rng_params {
	const char *id;
	int fd; /* a character device or regular file; -EBADF = getrandom(2) */
};

/* Control thread. Takes params->fd over on success. */
int virtio_rng_new(const struct virtio_rng_params *params, struct virtio_device **ret,
		   struct err *err);
