/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `pvpanic` becomes the panic device; what the guest says is an event of "guest"
 */
#include <errno.h>
#include <stdlib.h>

#include "vmm/base/err.h"
#include "vmm/config/device-list.h"
#include "vmm/devices/pvpanic.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/vm.h"

struct panic_device {
	struct pvpanic pvpanic;
	struct message message;
	struct vm *vm;
};

/* vCPU thread */
static void on_notify(void *data)
{
	struct panic_device *device = data;

	mailbox_post(&device->vm->mailbox, &device->message);
}

static void tell(struct message *message)
{
	struct panic_device *device = container_of(message, struct panic_device, message);
	struct vm *vm = device->vm;
	uint8_t events = pvpanic_take(&device->pvpanic);

	if (events & PVPANIC_CRASH_LOADED)
		vm->listener.event("guest", "crash-loaded", device->pvpanic.pci.id,
				   vm->listener.data);
	if (events & PVPANIC_PANICKED)
		vm->listener.event("guest", "panic", device->pvpanic.pci.id, vm->listener.data);
}

static void free_pvpanic(struct vm_device *dev)
{
	struct panic_device *device = dev->data;

	pvpanic_deinit(&device->pvpanic);
	free(device);
}

static int create_pvpanic(struct vm *vm, const struct config_device *config, struct err *err)
{
	struct panic_device *device = calloc(1, sizeof(*device));
	int r;

	if (!device)
		return err_set(err, ENOMEM, "out of memory for device '%s'", config->id);
	device->vm = vm;
	device->message.fn = tell;
	pvpanic_init(&device->pvpanic, config->id, on_notify, device);
	r = vm_plug_pci(vm, &vm_pvpanic_kind, config, "pvpanic", &device->pvpanic.pci, device,
			free_pvpanic, err);
	if (r < 0) {
		pvpanic_deinit(&device->pvpanic);
		free(device);
	}
	return r;
}

const struct vm_device_kind vm_pvpanic_kind = { .key = "pvpanic", .create = create_pvpanic };
