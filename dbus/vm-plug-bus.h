/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go: AddDevice and RemoveDevice of the VM, Remove of the Device; and
 * how much of a machine the guest has: ResizeVCPUs, and the properties of it
 *
 * Main loop.
 */
#pragma once

#include <systemd/sd-bus.h>

/* userdata: the struct machine */
int vm_plug_bus_add(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_plug_bus_remove(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_plug_bus_resize_vcpus(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_plug_bus_resize_memory(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_plug_bus_resize_memory_zone(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* VCPUs, VCPUsTarget, Memory, MemoryTarget, MemoryMax */
int vm_plug_bus_get_sizes(sd_bus *bus, const char *path, const char *interface,
			  const char *property, sd_bus_message *reply, void *userdata,
			  sd_bus_error *error);
/* userdata: the struct machine_device */
int vm_plug_bus_remove_device(sd_bus_message *m, void *userdata, sd_bus_error *error);
