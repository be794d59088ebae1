/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `disks` becomes virtio-blk
 */
#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/blk.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_disk(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct disk_config *disk = &vm->config->disks[device->index];
	struct virtio_blk_params params = {
		.id = device->id,
		.readonly = disk->readonly,
		.direct = disk->direct,
		.serial = disk->serial,
		.n_queues = disk->num_queues,
		.queue_size = disk->queue_size,
	};
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_dup(&vm->resources, disk->path, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "disk '%s'", device->id);
	r = virtio_blk_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", disk->path), err);
	}
	return vm_plug_virtio(vm, &vm_disk_kind, device, dev, err);
}

const struct vm_device_kind vm_disk_kind = { .key = "disks", .create = create_disk };
