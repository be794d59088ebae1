/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/hotplug.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi/pci-hotplug.h"
#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/config/device-list.h"
#include "vmm/config/edit.h"
#include "vmm/config/tables.h"
#include "vmm/pci/segment.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/limits.h"
#include "vmm/vm/vm.h"

/* --- the guest's side: vCPU threads ----------------------------------------- */

static void on_ejected(void *data, uint16_t segment, uint8_t slot)
{
	struct vm *vm = data;

	/* release: the request below is seen with its bit; pairs with the exchange in serve */
	atomic_fetch_or_explicit(&vm->ejected[segment], 1U << slot, memory_order_release);
	vm_request_ejects(vm);
}

static void on_status(void *data, uint16_t segment, uint8_t slot, uint32_t event, uint32_t status)
{
	struct vm *vm = data;

	if (event != ACPI_OST_EJECT_REQUEST || !acpi_ost_is_refusal(status))
		return;
	atomic_fetch_or_explicit(&vm->refused[segment], 1U << slot, memory_order_release);
	mailbox_post(&vm->mailbox, &vm->refused_message);
}

const struct pci_hotplug_ops vm_pci_hotplug_ops = { on_ejected, on_status };

/* --- the machine's ------------------------------------------------------------ */

static bool is_at(const struct vm_device *dev, uint16_t segment, uint8_t slot)
{
	return dev->pci->segment->number == segment && dev->pci->slot == slot;
}

static struct vm_device *device_at(struct vm *vm, uint16_t segment, uint8_t slot)
{
	for (size_t i = 0; i < vm->n_devices; i++)
		if (is_at(vm->devices[i], segment, slot))
			return vm->devices[i];
	return NULL;
}

static struct vm_device *husk_at(struct vm *vm, uint16_t segment, uint8_t slot)
{
	struct vm_device *husk;

	LIST_FOREACH(husk, &vm->husks, link)
		if (is_at(husk, segment, slot))
			return husk;
	return NULL;
}

/* The contents change places, so that who has the pointer sees the new ones. */
static void swap_config(struct vm *vm, struct vm_config *other)
{
	struct vm_config old = *vm->config;

	*vm->config = *other;
	*other = old;
	/* What is plugged in has its descriptors: names that moved up name nothing. */
	vm_config_strip_resources(vm->config);
}

static void drop_element(struct vm *vm, const struct vm_device *dev)
{
	struct vm_config *without = NULL;
	struct err err = { 0 };

	if (vm_config_without_device(vm->config, dev->kind->key, dev->index, &without, &err) < 0) {
		/* A rule that wants the device: the next boot says so, if it still does. */
		log_warning("device '%s' stays in the configuration: %s", dev->id, err.msg);
		return;
	}
	swap_config(vm, without);
	vm_config_free(without);
	for (size_t i = 0; i < vm->n_devices; i++)
		if (vm->devices[i]->kind == dev->kind && vm->devices[i]->index > dev->index)
			vm->devices[i]->index--;
}

static void unlist(struct vm *vm, struct vm_device *dev)
{
	size_t i = 0;

	while (vm->devices[i] != dev)
		i++;
	vm->n_devices--;
	memmove(&vm->devices[i], &vm->devices[i + 1],
		(vm->n_devices - i) * sizeof(struct vm_device *));
}

/* What of it is in the slot; vCPUs parked. */
static void empty_slot(struct vm *vm, struct vm_device *dev)
{
	if (dev->vp)
		virtio_device_reset(dev->vp->dev);
	pci_hotplug_forget(&vm->platform.pci_hotplug, dev->pci->segment->number, dev->pci->slot);
	if (dev->iommu)
		vm_iommu_remove(vm, dev);
	pci_segment_remove(dev->pci->segment, dev->pci);
	dev->free(dev);
}

/* What of it is elsewhere; nobody uses its rate limits any more. */
static void strike_off(struct vm *vm, struct vm_device *dev)
{
	mailbox_withdraw(&vm->mailbox, &dev->values_changed);
	unlist(vm, dev);
	drop_element(vm, dev);
	vm_limits_remove(vm, dev->id);
	vm->listener.device_removed(dev->id, vm->listener.data);
}

/* vCPUs parked. */
static void take_out(struct vm *vm, struct vm_device *dev)
{
	log_info("device '%s' is taken out", dev->id);
	empty_slot(vm, dev);
	strike_off(vm, dev);
	free(dev);
}

static void drop_husk(struct vm *vm, struct vm_device *husk)
{
	log_info("nothing is left of device '%s'", husk->id);
	list_remove(&husk->link);
	empty_slot(vm, husk);
	free(husk);
}

void vm_drop_husks(struct vm *vm)
{
	while (!list_empty(&vm->husks))
		drop_husk(vm, container_of(vm->husks.next, struct vm_device, link));
}

/* vCPUs parked. All of it goes but what its driver in the guest would miss. */
static int leave_husk(struct vm *vm, struct vm_device *dev, struct err *err)
{
	int r = virtio_pci_make_husk(dev->vp, err);

	if (r < 0)
		return r;
	log_info("device '%s' is taken from the guest, which has still to let go of it", dev->id);
	strike_off(vm, dev);
	list_append(&vm->husks, &dev->link);
	return 0;
}

void vm_serve_ejects(struct vm *vm)
{
	for (uint16_t segment = 0; segment < vm->n_segments; segment++) {
		/* acquire: pairs with on_ejected */
		uint32_t slots =
			atomic_exchange_explicit(&vm->ejected[segment], 0, memory_order_acquire);

		for (uint8_t slot = 0; slots; slot++, slots >>= 1) {
			struct vm_device *dev = slots & 1 ? device_at(vm, segment, slot) : NULL;
			struct vm_device *husk = slots & 1 ? husk_at(vm, segment, slot) : NULL;

			if (husk)
				drop_husk(vm, husk);
			else if (dev && dev->removal != VM_REMOVAL_NONE)
				take_out(vm, dev);
			else if (dev)
				log_guest(
					"the guest ejects device '%s', which it was not asked for",
					dev->id);
		}
	}
}

void vm_finish_removals(struct vm *vm)
{
	vm_drop_husks(vm);
	for (size_t i = vm->n_devices; i-- > 0;)
		if (vm->devices[i]->removal == VM_REMOVAL_ASKED)
			take_out(vm, vm->devices[i]);
		else
			vm->devices[i]->removal = VM_REMOVAL_NONE;
}

void vm_serve_refusals(struct message *message)
{
	struct vm *vm = container_of(message, struct vm, refused_message);

	for (uint16_t segment = 0; segment < vm->n_segments; segment++) {
		uint32_t slots =
			atomic_exchange_explicit(&vm->refused[segment], 0, memory_order_acquire);

		for (uint8_t slot = 0; slots; slot++, slots >>= 1) {
			struct vm_device *dev = slots & 1 ? device_at(vm, segment, slot) : NULL;

			if (!dev || dev->removal != VM_REMOVAL_ASKED)
				continue;
			dev->removal = VM_REMOVAL_FORGOTTEN;
			vm->listener.removal_refused(dev->id, vm->listener.data);
		}
	}
}

/* --- what clients ask ----------------------------------------------------------- */

/* vm->config lists it by now. */
static int create(struct vm *vm, const char *key, size_t index, struct err *err)
{
	struct config_device device;

	if (!config_device_is_removable(key) || !config_device_at(vm->config, key, index, &device))
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "/%s: cannot be added while the machine runs", key);
	if (device.pci->pci_segment >= PCI_HOTPLUG_SEGMENTS)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/%s/%zu/pci_segment: %u cannot be added to while the machine "
				 "runs, must be less than %u",
				 key, index, device.pci->pci_segment, PCI_HOTPLUG_SEGMENTS);
	/* Which slots are behind the IOMMU is in a table that the guest has read (VIOT). */
	if (device.pci->iommu && !vm_config_is_iommu_segment(vm->config, device.pci->pci_segment))
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/%s/%zu/iommu: cannot be added while the machine runs, but on a "
				 "segment of /platform/iommu_segments",
				 key, index);
	return vm_device_create(vm, &device, err);
}

int vm_add_device(struct vm *vm, struct vm_config *config, const char *key, size_t index,
		  struct vm_device **ret, struct err *err)
{
	struct vm_device *dev;
	int r;

	assert_on_control();
	if (!vm_is_alive(vm)) {
		r = err_fault(err, FAULT_WRONG_STATE, EPROTO,
			      "cannot add a device: the machine is %s",
			      vm_state_to_string(vm->state));
	} else {
		swap_config(vm, config);
		r = create(vm, key, index, err);
		if (r < 0)
			swap_config(vm, config);
	}
	vm_config_free(config);
	if (r < 0)
		return r;
	dev = vm->devices[vm->n_devices - 1];
	dev->hotplugged = true;
	log_info("device '%s' is plugged in", dev->id);
	pci_hotplug_insert(&vm->platform.pci_hotplug, dev->pci->segment->number, dev->pci->slot);
	*ret = dev;
	return 0;
}

static int find_removable(struct vm *vm, const char *id, struct vm_device **ret, struct err *err)
{
	struct vm_device *dev;

	assert_on_control();
	if (!vm_is_alive(vm))
		return err_fault(err, FAULT_WRONG_STATE, EPROTO,
				 "cannot take a device out: the machine is %s",
				 vm_state_to_string(vm->state));
	dev = vm_device_find(vm, id);
	if (!dev)
		return err_fault(err, FAULT_NO_SUCH_DEVICE, ENXIO, "there is no device '%s'", id);
	if (!config_device_is_removable(dev->kind->key))
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "device '%s' (%s) cannot be taken out while the machine runs", id,
				 dev->type);
	if (dev->pci->segment->number >= PCI_HOTPLUG_SEGMENTS)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "device '%s' cannot be taken out while the machine runs: it is on "
				 "PCI segment %u, not below %u",
				 id, dev->pci->segment->number, PCI_HOTPLUG_SEGMENTS);
	*ret = dev;
	return 0;
}

int vm_ask_removal(struct vm *vm, const char *id, struct err *err)
{
	struct vm_device *dev;
	int r = find_removable(vm, id, &dev, err);

	if (r < 0)
		return r;
	dev->removal = VM_REMOVAL_ASKED;
	pci_hotplug_ask(&vm->platform.pci_hotplug, dev->pci->segment->number, dev->pci->slot);
	return 0;
}

int vm_forget_removal(struct vm *vm, const char *id, struct err *err)
{
	struct vm_device *dev;
	int r = find_removable(vm, id, &dev, err);

	if (r < 0)
		return r;
	if (dev->removal == VM_REMOVAL_ASKED)
		dev->removal = VM_REMOVAL_FORGOTTEN;
	pci_hotplug_forget(&vm->platform.pci_hotplug, dev->pci->segment->number, dev->pci->slot);
	return 0;
}

int vm_take_out(struct vm *vm, const char *id, struct err *err)
{
	struct vm_device *dev;
	int r = find_removable(vm, id, &dev, err);

	if (r < 0)
		return r;
	vm_park(vm);
	if (dev->vp && pci_is_decoding(dev->pci)) {
		r = leave_husk(vm, dev, err);
		if (r >= 0)
			pci_hotplug_ask(&vm->platform.pci_hotplug, dev->pci->segment->number,
					dev->pci->slot);
	} else {
		/* Nobody in the guest has begun to use it: it is to find an empty slot. */
		uint16_t segment = dev->pci->segment->number;
		uint8_t slot = dev->pci->slot;

		take_out(vm, dev);
		pci_hotplug_insert(&vm->platform.pci_hotplug, segment, slot);
	}
	vm_unpark(vm);
	return r;
}

bool vm_remind_guest(struct vm *vm)
{
	assert_on_control();
	return vm_is_alive(vm) && ged_remind(&vm->platform.ged);
}
