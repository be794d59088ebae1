/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `rtc` becomes virtio-rtc
 */
#include "vmm/virtio/rtc.h"

#include "vmm/config/device-list.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_rtc(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct virtio_rtc_params params = { .id = device->id };
	struct virtio_device *dev = NULL;
	int r = virtio_rtc_new(&params, &dev, err);

	return r < 0 ? r : vm_plug_virtio(vm, &vm_rtc_kind, device, dev, err);
}

const struct vm_device_kind vm_rtc_kind = { .key = "rtc", .create = create_rtc };
