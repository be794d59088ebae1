/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `console` becomes virtio-console
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_console(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct virtio_console_params params = {
		.id = device->id,
		.chardev = &vm->platform.console_chardev,
	};
	struct virtio_device *dev = NULL;
	int r = virtio_console_new(&params, &dev, err);

	return r < 0 ? r : vm_plug_virtio(vm, &vm_console_kind, device, dev, err);
}

static int set_console_size(struct vm_device *dev, uint16_t columns, uint16_t rows,
			    struct err *err _unused_)
{
	virtio_console_resize(dev->vp->dev, columns, rows);
	return 0;
}

const struct vm_device_kind vm_console_kind = {
	.key = "console",
	.create = create_console,
	.set_console_size = set_console_size,
};
