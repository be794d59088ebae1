/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-mem (virtio 1.3, 5.15): memory that the guest takes and gives back by blocks
 *
 * A region of the guest's addresses, all of it mapped and none of it populated.  The
 * machine says how much of it the guest is to have (requested); the driver plugs blocks
 * in and out until it has that, or as near as it can get: what it has of a block that is
 * in use it keeps.  Memory of a block that is unplugged is the host's again.
 *
 * The driver is told not to touch blocks that are unplugged.  Nothing of the hypervisor
 * keeps it from doing so: then it has memory that is counted nowhere but by the host, up
 * to the size of the region.
 *
 * Blocks stay plugged when the driver resets the device, and go when the machine is
 * reset.  Its queue has a thread of its own, since giving much memory back takes time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct virtio_device;

/* Blocks are as large as it takes for no region to have more (memory_config_block_size()). */
#define VIRTIO_MEM_BLOCKS_MAX 32768U
#define VIRTIO_MEM_BLOCK_MIN  (2ULL << 20)

struct virtio_mem_params {
	const char *id;
	uint64_t gpa, size; /* RAM of guest_mem; multiples of the block */
	uint64_t block;     /* a power of two, VIRTIO_MEM_BLOCK_MIN at least */
	uint64_t requested; /* bytes from the start on, multiple of the block, at most size */
	int node;           /* of the guest, -1 = none */
	/* I/O thread, or control at a reset: virtio_mem_get() has changed. */
	void (*changed)(void *data);
	void *data;
};

struct virtio_mem_state {
	uint64_t requested, plugged; /* bytes */
	uint8_t blocks[VIRTIO_MEM_BLOCKS_MAX / 8];
};
extern const struct state_desc virtio_mem_state_desc;

struct virtio_mem_figures {
	uint64_t requested, plugged; /* bytes */
};

/* Control thread, but for get(), which is any thread's that does not hold dev->lock. */
int virtio_mem_new(const struct virtio_mem_params *params, struct virtio_device **ret,
		   struct err *err);
/* bytes: multiple of the block, at most the region. */
void virtio_mem_set_requested(struct virtio_device *dev, uint64_t bytes);
void virtio_mem_get(struct virtio_device *dev, struct virtio_mem_figures *ret);
/*
 * One request, as the queue's thread does it: struct virtio_mem_req, and the response to it.
 * For the fuzzer too.
 */
#define VIRTIO_MEM_REQUEST_SIZE  24U
#define VIRTIO_MEM_RESPONSE_SIZE 10U
void virtio_mem_answer(struct virtio_device *dev, const uint8_t req[VIRTIO_MEM_REQUEST_SIZE],
		       uint8_t resp[VIRTIO_MEM_RESPONSE_SIZE]);
/* The machine is reset: nothing is plugged; who calls empties the memory. */
void virtio_mem_forget(struct virtio_device *dev);
