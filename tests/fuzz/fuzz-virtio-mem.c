/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of a virtio-mem driver's requests: {u8 op, 24 bytes} each, a request or something that
 * the machine does; what is counted as plugged is what the blocks say, and no more than was wanted
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_mem.h>
#include <stdint.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/mem.h"

#define GPA    (4 * GIB)
#define BLOCK  VIRTIO_MEM_BLOCK_MIN
#define BLOCKS 24U
#define STEP   (1U + VIRTIO_MEM_REQUEST_SIZE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest_mem mem;

static void ignore(void *data)
{
	(void)data;
}

static void set_up(void)
{
	static const struct guest_mem_params ram = { .size = 1 * MIB };
	static const struct guest_zone_params region = { .pointer = "/memory",
							 .size = BLOCKS * BLOCK,
							 .file_fd = -EBADF,
							 .host_node = -1,
							 .blocks = true };
	int r = guest_mem_init(&mem, NULL, &ram, NULL);

	assert(r == 0);
	r = guest_mem_add_ram(&mem, GPA, &region, NULL);
	assert(r == 0);
}

/* Numbers near the region, so that requests meet. */
static void tame(uint8_t *req)
{
	bytes_put_le(req, 2, req[0] & 3);
	bytes_put_le(req + 8, 8, GPA + (uint64_t)(req[8] % (BLOCKS + 2)) * BLOCK);
	bytes_put_le(req + 16, 2, req[16] % (BLOCKS + 2));
}

static uint64_t count_blocks(struct virtio_device *dev)
{
	const struct virtio_mem_state *st = dev->ops->state_ptr(dev);
	uint64_t n = 0;

	for (size_t i = 0; i < sizeof(st->blocks); i++)
		n += (uint64_t)__builtin_popcount(st->blocks[i]);
	return n;
}

static void request(struct virtio_device *dev, const uint8_t *data)
{
	uint8_t req[VIRTIO_MEM_REQUEST_SIZE], resp[VIRTIO_MEM_RESPONSE_SIZE];
	struct virtio_mem_figures before, after;

	memcpy(req, data + 1, sizeof(req));
	if (data[0] & 2)
		tame(req);
	virtio_mem_get(dev, &before);
	virtio_mem_answer(dev, req, resp);
	virtio_mem_get(dev, &after);
	assert(bytes_get_le(resp, 2) <= VIRTIO_MEM_RESP_ERROR);
	assert(after.plugged <= MAX(before.plugged, after.requested));
	if (bytes_get_le(resp, 2) != VIRTIO_MEM_RESP_ACK)
		assert(after.plugged == before.plugged);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct virtio_mem_params params = {
		.id = "mem",
		.gpa = GPA,
		.size = BLOCKS * BLOCK,
		.block = BLOCK,
		.requested = BLOCKS / 2 * BLOCK,
		.node = -1,
		.changed = ignore,
	};
	struct virtio_mem_figures figures;
	struct virtio_device *dev = NULL;
	int r;

	if (!mem.n_regions)
		set_up();
	r = virtio_mem_new(&params, &dev, NULL);
	assert(r == 0);
	dev->mem = &mem;
	for (unsigned int i = 0; i < 64 && size >= STEP; i++, data += STEP, size -= STEP) {
		if (data[0] % 16 == 15)
			virtio_mem_forget(dev);
		else
			request(dev, data);
		virtio_mem_get(dev, &figures);
		assert(figures.plugged == count_blocks(dev) * BLOCK);
	}
	dev->ops->free(dev);
	return 0;
}
