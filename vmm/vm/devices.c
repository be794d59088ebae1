/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/devices.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/virtio/iova.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/hotplug.h"
#include "vmm/vm/limits.h"
#include "vmm/vm/vm.h"

static const struct vm_device_kind *const kinds[] = {
	&vm_iommu_kind, &vm_console_kind, &vm_disk_kind,    &vm_net_kind,
	&vm_fs_kind,    &vm_pmem_kind,    &vm_rng_kind,     &vm_balloon_kind,
	&vm_vsock_kind, &vm_rtc_kind,     &vm_pvpanic_kind,
};

static const struct vm_device_kind *kind_of(const struct config_device *device)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i]->key, device->key) == 0)
			return kinds[i];
	assert(false); /* the configuration knows a kind that the machine does not */
	return NULL;
}

static void on_activated(struct virtio_pci *vp, bool active, void *data)
{
	struct vm *vm = data;

	vm->listener.device_changed(vp->dev->id, active, vm->listener.data);
	/* Some values are of a device that is in use. */
	virtio_device_values_changed(vp->dev);
}

static void tell_values(struct message *message)
{
	struct vm_device *dev = container_of(message, struct vm_device, values_changed);

	if (dev->vm->listener.values_changed)
		dev->vm->listener.values_changed(dev, dev->vm->listener.data);
}

/* Any thread. */
static void on_values_changed(void *data)
{
	struct vm_device *dev = data;

	mailbox_post(&dev->vm->mailbox, &dev->values_changed);
}

void vm_device_values_changed(struct vm_device *dev)
{
	on_values_changed(dev);
}

static int plug(struct vm *vm, const struct config_device *device, struct vm_device *made,
		struct err *err)
{
	struct vm_device *dev = calloc(1, sizeof(*dev));
	int slot = device->pci->has_pci_device_id ? device->pci->pci_device_id : -1;
	int r;

	if (!dev)
		return err_set(err, ENOMEM, "out of memory for device '%s'", device->id);
	if (device->pci->pci_segment >= vm->n_segments)
		r = err_fault(err, FAULT_BAD_CONFIG, EINVAL,
			      "device '%s': there is no PCI segment %u", device->id,
			      device->pci->pci_segment);
	else
		r = pci_segment_add(&vm->segments[device->pci->pci_segment], made->pci, slot, err);
	if (r < 0) {
		free(dev);
		return r;
	}
	*dev = *made;
	dev->vm = vm;
	dev->values_changed.fn = tell_values;
	dev->index = device->index;
	dev->iommu = device->pci->iommu;
	snprintf(dev->id, sizeof(dev->id), "%s", device->id);
	if (dev->vp) {
		dev->vp->dev->values_changed_data = dev;
		dev->vp->dev->values_changed = on_values_changed;
	}
	if (dev->iommu) {
		r = vm_iommu_add(vm, dev, err);
		if (r < 0) {
			pci_segment_remove(dev->pci->segment, dev->pci);
			free(dev);
			return r;
		}
	}
	vm->devices[vm->n_devices++] = dev; /* there is room: vm_devices_create() */
	return 0;
}

static void free_virtio(struct vm_device *dev)
{
	virtio_pci_free(dev->vp);
}

int vm_plug_virtio(struct vm *vm, const struct vm_device_kind *kind,
		   const struct config_device *device, struct virtio_device *virtio,
		   struct err *err)
{
	struct vm_device made = { .kind = kind, .type = virtio->ops->name, .free = free_virtio };
	int r;

	virtio->mem = &vm->mem;
	virtio->shared_loop = &vm->shared_loop;
	virtio->thread_enter = sandbox_enter;
	r = virtio_pci_new(virtio, vm->hv, &vm->irqs, &vm->mailbox, &made.vp, err);
	if (r < 0)
		return r;
	made.vp->activated = on_activated;
	made.vp->activated_data = vm;
	made.pci = &made.vp->pci;
	r = plug(vm, device, &made, err);
	if (r < 0)
		virtio_pci_free(made.vp);
	return r;
}

int vm_plug_pci(struct vm *vm, const struct vm_device_kind *kind,
		const struct config_device *device, const char *type, struct pci_device *pci,
		void *data, void (*free)(struct vm_device *dev), struct err *err)
{
	struct vm_device made = {
		.kind = kind, .type = type, .pci = pci, .data = data, .free = free
	};

	return plug(vm, device, &made, err);
}

struct vm_device *vm_device_find(struct vm *vm, const char *id)
{
	for (size_t i = 0; i < vm->n_devices; i++)
		if (strcmp(vm->devices[i]->id, id) == 0)
			return vm->devices[i];
	return NULL;
}

int vm_device_create(struct vm *vm, const struct config_device *device, struct err *err)
{
	return kind_of(device)->create(vm, device, err);
}

int vm_devices_create(struct vm *vm, struct err *err)
{
	struct config_device devices[CONFIG_DEVICES_MAX];
	size_t n = config_devices(vm->config, devices);
	int r = 0;

	/* More can come while the machine runs. */
	vm->devices = calloc(CONFIG_DEVICES_MAX + vm->memory.n_regions, sizeof(struct vm_device *));
	if (!vm->devices)
		return err_set(err, ENOMEM, "out of memory for the devices");
	r = vm_limits_init(vm, err);
	if (r >= 0)
		r = vm_iommu_init(vm, err);
	/* Those with a slot of their own first, so that no other takes it. */
	for (int with_slot = 1; with_slot >= 0; with_slot--) {
		for (size_t i = 0; r >= 0 && i < n; i++)
			if (devices[i].pci->has_pci_device_id == with_slot)
				r = vm_device_create(vm, &devices[i], err);
	}
	return r < 0 ? r : vm_mem_create(vm, err);
}

void vm_devices_free(struct vm *vm)
{
	vm_drop_husks(vm);
	while (vm->n_devices > 0) {
		struct vm_device *dev = vm->devices[--vm->n_devices];

		pci_segment_remove(dev->pci->segment, dev->pci);
		dev->free(dev);
		free(dev);
	}
	free(vm->devices);
	vm->devices = NULL;
	free(vm->memory.regions);
	vm->memory.regions = NULL;
	vm->memory.n_regions = 0;
	iova_unit_free(vm->iommu);
	vm->iommu = NULL;
}
