/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of virtio-net's control commands: {le64 features, u8 pairs, command}
 */
#include <assert.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/virtio-abi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_net_ctrl ctrl = { 0 };
	uint64_t features;
	uint16_t n_pairs;
	uint8_t *copy;
	int r;

	if (size < 9 || size - 9 > VIRTIO_NET_CTRL_MAX)
		return 0;
	features = bytes_get_le(data, 8);
	n_pairs = (uint16_t)(1 + data[8] % VIRTIO_NET_PAIRS_MAX);
	data += 9;
	size -= 9;
	/* of the exact size, so that a sanitizer sees a byte too many */
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	r = virtio_net_ctrl_parse(features, n_pairs, copy, size, size, 1, &ctrl);
	assert(r == (size < 2 ? -EBADMSG : 0));
	if (ctrl.kind == VIRTIO_NET_CTRL_PAIRS)
		assert(ctrl.value >= 1 && ctrl.value <= n_pairs &&
		       (features & VIRTIO_FEATURE(VIRTIO_NET_F_MQ)));
	if (ctrl.kind == VIRTIO_NET_CTRL_OFFLOADS)
		assert(!(ctrl.value & ~features));
	free(copy);
	return 0;
}
