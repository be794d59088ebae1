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
#include <sys/types.h>
#include <systemd/sd-bus.h>

struct err;
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
