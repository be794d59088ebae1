/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `iommu` becomes virtio-iommu, in front of the devices that ask for it
 */
#include <errno.h>

#include "vmm/acpi/topology.h"
#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/iommu.h"
#include "vmm/virtio/iova.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

int vm_iommu_init(struct vm *vm, struct err *err)
{
	if (!vm_config_has_iommu(vm->config))
		return 0;
	vm->iommu = iova_unit_new(vm->config->platform.iommu_address_width_bits);
	return vm->iommu ? 0 : err_set(err, ENOMEM, "out of memory for the IOMMU");
}

int vm_iommu_add(struct vm *vm, struct vm_device *dev, struct err *err)
{
	uint32_t id = acpi_iommu_endpoint(dev->pci->segment->number, dev->pci->slot);
	int r;

	if (!vm->iommu || !dev->vp ||
	    !config_device_knows_iommu(vm->config, dev->kind->key, dev->index))
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "device '%s' cannot be behind an IOMMU", dev->id);
	r = iova_endpoint_add(vm->iommu, id, &dev->vp->dev->iova);
	if (r < 0)
		return err_errno(err, -r, "device '%s': cannot be put behind the IOMMU", dev->id);
	dev->vp->dev->features_offered |= VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM);
	return 0;
}

void vm_iommu_remove(struct vm *vm _unused_, struct vm_device *dev)
{
	iova_endpoint_remove(TAKE_PTR(dev->vp->dev->iova));
}

void vm_iommu_reset(struct vm *vm)
{
	struct vm_device *dev = vm_device_find(vm, "__iommu");

	if (dev)
		virtio_iommu_power_on(dev->vp->dev);
}

static int create_iommu(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct virtio_iommu_params params = { .id = device->id, .unit = vm->iommu };
	struct virtio_device *dev = NULL;
	int r = virtio_iommu_new(&params, &dev, err);

	return r < 0 ? r : vm_plug_virtio(vm, &vm_iommu_kind, device, dev, err);
}

const struct vm_device_kind vm_iommu_kind = { .key = "iommu", .create = create_iommu };
