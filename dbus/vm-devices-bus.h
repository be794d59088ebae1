/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of org.brume.vm1.VirtualMachine that are about its devices
 *
 * Main loop.
 */
#pragma once

#include <systemd/sd-bus.h>

int vm_devices_bus_list(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_devices_bus_get(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_devices_bus_set_balloon(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_devices_bus_connect_vsock(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_devices_bus_set_console_size(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_devices_bus_set_rate_limit_group(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Balloon, BalloonTarget */
int vm_devices_bus_get_balloon(sd_bus *bus, const char *path, const char *interface,
			       const char *property, sd_bus_message *reply, void *userdata,
			       sd_bus_error *error);
int vm_devices_bus_get_cid(sd_bus *bus, const char *path, const char *interface,
			   const char *property, sd_bus_message *reply, void *userdata,
			   sd_bus_error *error);
int vm_devices_bus_get_rate_limit_groups(sd_bus *bus, const char *path, const char *interface,
					 const char *property, sd_bus_message *reply,
					 void *userdata, sd_bus_error *error);
