/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `fs` becomes virtio-fs
 */
#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/fs.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_fs(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct fs_config *fs = &vm->config->fs[device->index];
	/* Under either name it is a socket to a virtiofsd. */
	const char *name = fs->socket ?: fs->source;
	struct virtio_fs_params params = {
		.id = device->id,
		.tag = fs->tag,
		.n_queues = fs->num_queues,
		.queue_size = fs->queue_size,
	};
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_take(&vm->resources, name, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "fs '%s'", device->id);
	r = virtio_fs_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", name), err);
	}
	return vm_plug_virtio(vm, &vm_fs_kind, device, dev, err);
}

const struct vm_device_kind vm_fs_kind = { .key = "fs", .create = create_fs };
