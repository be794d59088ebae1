/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.VirtualMachine, one object a machine
 *
 * Main loop.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

struct machine;
struct machine_device;
struct service;

int vm_bus_register(struct service *service);
/* For its introspection: nothing behind it. */
int vm_bus_add_vtable(sd_bus *bus, const char *path);

/* properties: enum machine_property */
void vm_bus_changed(struct service *service, struct machine *vm, uint32_t properties);
void vm_bus_state_changed(struct service *service, struct machine *vm, const char *from,
			  const char *to, const char *reason);
void vm_bus_event(struct service *service, struct machine *vm, const char *source, const char *name,
		  GVariant *details);
/* signal: "DeviceAdded", "DeviceRemoved" */
void vm_bus_device(struct service *service, struct machine_device *dev, const char *signal);
