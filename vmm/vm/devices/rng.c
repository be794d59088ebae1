/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `rng` becomes virtio-rng
 */
#include <errno.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/rng.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_rng(struct vm *vm, const struct config_device *device, struct err *err)
{
	struct virtio_rng_params params = { .id = device->id };
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_take(&vm->resources, vm->config->rng.src, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "rng");
	r = virtio_rng_new(&params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", vm->config->rng.src), err);
	}
	return vm_plug_virtio(vm, &vm_rng_kind, device, dev, err);
}

const struct vm_device_kind vm_rng_kind = { .key = "rng", .create = create_rng };
