/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `balloon` becomes virtio-balloon
 */
#include <errno.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

static int create_balloon(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct balloon_config *balloon = &vm->config->balloon;
	const struct virtio_balloon_params params = {
		.id = device->id,
		.size = balloon->size,
		.deflate_on_oom = balloon->deflate_on_oom,
		.free_page_reporting = balloon->free_page_reporting,
		.statistics_interval = balloon->statistics_interval,
	};
	struct virtio_device *dev = NULL;
	int r = virtio_balloon_new(&params, &dev, err);

	return r < 0 ? r : vm_plug_virtio(vm, &vm_balloon_kind, device, dev, err);
}

static int set_balloon(struct vm_device *dev, uint64_t bytes, struct err *err)
{
	uint64_t memory = memory_config_size(&dev->vm->config->memory);

	if (bytes % 4096)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL,
				 "balloon '%s': %llu bytes are not whole pages, must be a multiple "
				 "of 4096",
				 dev->id, (unsigned long long)bytes);
	if (bytes >= memory)
		return err_fault(
			err, FAULT_BAD_ARGUMENT, EINVAL,
			"balloon '%s': %llu bytes are all of the machine's memory, must be "
			"less than %llu",
			dev->id, (unsigned long long)bytes, (unsigned long long)memory);
	virtio_balloon_set_target(dev->vp->dev, bytes);
	return 0;
}

static size_t balloon_values(struct vm_device *dev,
			     struct vm_device_value ret[static VM_DEVICE_VALUES_MAX])
{
	struct virtio_balloon_figures figures;
	size_t n = 0;

	virtio_balloon_get(dev->vp->dev, &figures);
	ret[n++] = (struct vm_device_value){ "target", VM_VALUE_U64, .u = figures.target };
	ret[n++] = (struct vm_device_value){ "actual", VM_VALUE_U64, .u = figures.actual };
	if (figures.stats_known)
		ret[n++] = (struct vm_device_value){ "statistics.timestamp", VM_VALUE_U64,
						     .u = figures.stats_usec };
	for (size_t i = 0; i < VIRTIO_BALLOON_STATISTICS; i++) {
		if (figures.stats_known & 1U << i)
			ret[n++] = (struct vm_device_value){ virtio_balloon_statistic_names[i],
							     VM_VALUE_U64, .u = figures.stats[i] };
	}
	return n;
}

const struct vm_device_kind vm_balloon_kind = {
	.key = "balloon",
	.create = create_balloon,
	.set_balloon = set_balloon,
	.values = balloon_values,
};
