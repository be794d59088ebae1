/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/api/control-internal.h"

#include <stdio.h>

#include "vmm/pci/segment.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"

int control_open_list(sd_bus_message *m, const char *name, const char *element)
{
	char type[32];
	int r;

	snprintf(type, sizeof(type), "a%s", element);
	r = sd_bus_message_open_container(m, 'e', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", name);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', type);
	return r < 0 ? r : sd_bus_message_open_container(m, 'a', element);
}

int control_close_list(sd_bus_message *m)
{
	int r = 0;

	for (int depth = 0; r >= 0 && depth < 3; depth++)
		r = sd_bus_message_close_container(m);
	return r;
}

static int append_counters(sd_bus_message *reply, struct virtio_device *dev)
{
	const struct virtio_counter *counter;
	int r;

	if (!dev->ops->counters)
		return 0;
	r = sd_bus_message_open_container(reply, 'e', "sa{st}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "s", dev->id);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{st}");
	if (r < 0)
		return r;
	for (counter = dev->ops->counters(dev); counter->name; counter++) {
		/* relaxed: a figure, not a synchronisation */
		r = sd_bus_message_append(reply, "{st}", counter->name,
					  atomic_load_explicit(counter->value,
							       memory_order_relaxed));
		if (r < 0)
			return r;
	}
	r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

int control_on_get_counters(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct control *c = data;
	int r;

	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sa{st}}");
	for (size_t i = 0; r >= 0 && c->vm && i < c->vm->n_devices; i++)
		if (c->vm->devices[i]->vp)
			r = append_counters(reply, c->vm->devices[i]->vp->dev);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static const char *driver_state(const struct vm_device *dev)
{
	if (!dev->vp)
		return "ok"; /* nobody tells */
	return virtio_device_is_broken(dev->vp->dev) ? "broken"
	       : dev->vp->dev->active                ? "ok"
						     : "inactive";
}

static int append_devices(sd_bus_message *reply, const struct vm *vm)
{
	char bdf[16];
	int r = control_open_list(reply, "devices", "(ssss)");

	for (size_t i = 0; r >= 0 && vm && i < vm->n_devices; i++) {
		const struct vm_device *dev = vm->devices[i];

		pci_format_bdf(dev->pci, bdf);
		r = sd_bus_message_append(reply, "(ssss)", dev->id, dev->type, bdf,
					  driver_state(dev));
	}
	return r < 0 ? r : control_close_list(reply);
}

/* Ids of those that came while the machine ran. */
static int append_hotplugged(sd_bus_message *reply, const struct vm *vm)
{
	int r = control_open_list(reply, "hotplugged", "s");

	for (size_t i = 0; r >= 0 && vm && i < vm->n_devices; i++)
		if (vm->devices[i]->hotplugged)
			r = sd_bus_message_append(reply, "s", vm->devices[i]->id);
	return r < 0 ? r : control_close_list(reply);
}

static int append_consoles(sd_bus_message *reply, const char *const *consoles)
{
	int r = control_open_list(reply, "consoles", "s");

	for (size_t i = 0; r >= 0 && consoles[i]; i++)
		r = sd_bus_message_append(reply, "s", consoles[i]);
	return r < 0 ? r : control_close_list(reply);
}

int control_on_query(sd_bus_message *m, void *data, sd_bus_error *ret_error _unused_)
{
	_cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	struct control *c = data;
	const char *consoles[PLATFORM_CONSOLES_MAX + 1] = { NULL };
	int r;

	if (c->vm)
		platform_list_consoles(&c->vm->platform, consoles);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}", "state", "s",
					  vm_state_to_string(c->vm ? c->vm->state
								   : VM_STATE_CREATED),
					  "boots", "u", c->vm ? c->vm->boots : 0);
	if (r >= 0 && c->vm)
		r = control_append_sizes(reply, c->vm);
	if (r >= 0)
		r = append_consoles(reply, consoles);
	if (r >= 0)
		r = append_devices(reply, c->vm);
	if (r >= 0)
		r = append_hotplugged(reply, c->vm);
	if (r >= 0)
		r = control_append_values(reply, c->vm);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}
