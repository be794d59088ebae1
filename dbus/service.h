/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon on a bus: Manager, VirtualMachine and Job objects
 *
 * Registers the three interfaces (manager-bus.c, vm-bus.c, job-bus.c) below
 * /org/brume/vm1 together with an ObjectManager, and observes the manager to
 * send their signals.  Works on any sd_bus: the system bus, a user bus, or one
 * end of a socket pair in a test.  Main loop.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

struct err;
struct job;
struct machine;
struct manager;
struct polkit;

struct service {
	sd_bus *bus;
	struct manager *manager;
	struct polkit *polkit;
	GHashTable *user_names; /* uid -> login name: asked once, NSS may be slow */
};

/* ask_polkit false: only root, or ourselves on a user bus, may do anything. */
int service_new(sd_bus *bus, struct manager *manager, bool ask_polkit, struct service **ret,
		struct err *err);
void service_free(struct service *service);

/* Login name, or the number when there is none. */
const char *service_user_name(struct service *service, uid_t uid);

struct polkit_request;
/* polkit_check() for a VM (NULL: one that is to be made): fills in its details. */
_must_check_ int service_check(struct service *service, sd_bus_message *call,
			       const struct machine *vm, struct polkit_request *request,
			       struct err *err);

/* Standard XML of an interface as the vtables have it; names for "list". */
int service_print_introspection(const char *interface, FILE *out, struct err *err);

/* The interfaces. data is the service. */
int manager_bus_register(struct service *service);
int manager_bus_add_vtable(sd_bus *bus, const char *path);
void manager_bus_changed(struct service *service, uint32_t properties);
void manager_bus_vm_new(struct service *service, struct machine *vm);
void manager_bus_vm_removed(struct service *service, struct machine *vm);
void manager_bus_job_new(struct service *service, struct job *job);
void manager_bus_job_removed(struct service *service, struct job *job);

int vm_bus_register(struct service *service);
int vm_bus_add_vtable(sd_bus *bus, const char *path);
void vm_bus_changed(struct service *service, struct machine *vm, uint32_t properties);
void vm_bus_state_changed(struct service *service, struct machine *vm, const char *from,
			  const char *to, const char *reason);
void vm_bus_event(struct service *service, struct machine *vm, const char *source, const char *name,
		  GVariant *details);

int log_control_bus_register(struct service *service);

int job_bus_register(struct service *service);
int job_bus_add_vtable(sd_bus *bus, const char *path);
void job_bus_changed(struct service *service, struct job *job, uint32_t properties);
/* "o" path now, or, with wait, the same or the job's error when it ends. */
/* 1: canceling. 0: being authorised, as polkit_check(). */
int job_bus_cancel(struct service *service, sd_bus_message *m, struct job *job, struct err *err);
int job_bus_reply(sd_bus_message *call, struct job *job, bool wait);
