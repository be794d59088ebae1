/* SPDX-License-Identifier: Apache-2.0 */
/*
 * org.brume.vm1.Manager: what it calls, and what it is told to signal
 *
 * Main loop.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-bus.h>

struct job;
struct machine;
struct service;

int manager_bus_register(struct service *service);
/* For its introspection: nothing behind it. */
int manager_bus_add_vtable(sd_bus *bus, const char *path);

/* properties: enum manager_property */
void manager_bus_changed(struct service *service, uint32_t properties);
void manager_bus_vm_new(struct service *service, struct machine *vm);
void manager_bus_vm_removed(struct service *service, struct machine *vm);
void manager_bus_job_new(struct service *service, struct job *job);
void manager_bus_job_removed(struct service *service, struct job *job);
