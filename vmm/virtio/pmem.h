/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pmem (virtio 1.3, 5.19): a file of the host as memory of the guest
 *
 * The guest maps the file's pages themselves (DAX); the device only tells where
 * they are and serves one request, flush, which is an fsync of the file.  That may
 * take seconds, so it has a thread of its own.  The memory is guest_mem's, where
 * other devices find it too; what is in it outlives a reboot.  It goes with the
 * device: who takes that out has asked the guest, or has parked its vCPUs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct guest_mem;
struct virtio_device;

/* Linux adds such memory in sub-sections of this size. */
#define VIRTIO_PMEM_ALIGN (2ULL << 20)

struct virtio_pmem_params {
	const char *id;
	int fd;        /* regular file, open for writing too unless writes are discarded */
	uint64_t size; /* bytes, 0 = the file's; multiple of VIRTIO_PMEM_ALIGN, not above it */
	bool discard_writes; /* they never reach the file, and flushes have nothing to do */
	struct guest_mem *mem;
	uint64_t gpa; /* where it goes: outside RAM and every window, aligned */
};

/* What a device of this file and size (0 = all) takes of the guest's addresses. */
int virtio_pmem_size(int fd, uint64_t size, uint64_t *ret, struct err *err);

/* Control thread. Takes params->fd over on success. */
int virtio_pmem_new(const struct virtio_pmem_params *params, struct virtio_device **ret,
		    struct err *err);
