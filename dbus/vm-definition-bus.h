/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a machine is defined as: the methods of the VM that read it or change it
 *
 * Main loop.
 */
#pragma once

#include <systemd/sd-bus.h>

/* userdata: the struct machine */
int vm_definition_bus_get_config(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_definition_bus_set_config(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_definition_bus_set_autostart(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_definition_bus_set_description(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_definition_bus_set_resource_properties(sd_bus_message *m, void *userdata,
					      sd_bus_error *error);
