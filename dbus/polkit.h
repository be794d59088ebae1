/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this caller do that?
 *
 * A handler validates its arguments, then calls polkit_check():
 *
 *   r = polkit_check(call, &req, polkit, &err);
 *   if (r < 0)
 *           return bus_reply_err(call, &err);
 *   if (r == 0)
 *           return 1;       (being asked; the same call is dispatched again)
 *
 * The first time, the question goes to polkitd without waiting and the call is
 * kept.  When the answer is there the very same message is put back into the
 * bus' queue and the handler runs again from the start: everything may have
 * changed during a password prompt, so it looks its objects up anew, and a
 * question that is no longer the one that was answered is refused (-ESTALE).
 *
 * Without asking: the trusted uid (0 on the system bus, our own on a user bus),
 * and the owner of a VM where the request says so.  A caller that leaves the
 * bus takes its question along.
 *
 * Main loop only; the bus must be attached to its sd-event.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

struct err;
struct polkit;

#define POLKIT_ACTION_INSPECT_VMS        "org.brume.vm1.inspect-vms"
#define POLKIT_ACTION_CREATE_VMS         "org.brume.vm1.create-vms"
#define POLKIT_ACTION_MANAGE_VMS         "org.brume.vm1.manage-vms"
#define POLKIT_ACTION_MODIFY_VMS         "org.brume.vm1.modify-vms"
#define POLKIT_ACTION_USE_HOST_RESOURCES "org.brume.vm1.use-host-resources"
#define POLKIT_ACTION_OPEN_CONSOLE       "org.brume.vm1.open-console"
#define POLKIT_ACTION_SNAPSHOT_VMS       "org.brume.vm1.snapshot-vms"
#define POLKIT_ACTION_MIGRATE_VMS        "org.brume.vm1.migrate-vms"
#define POLKIT_ACTION_DUMP_VMS           "org.brume.vm1.dump-vms"

struct polkit_request {
	const char *action;     /* one of the above */
	const char *vm, *uuid;  /* details; NULL = left out */
	const char *owner_name; /* login name of the VM's owner; NULL = left out */
	uid_t owner;
	bool owner_shortcut;      /* `owner` needs no permission (never with use-host-resources) */
	const char *verb;         /* "start": for the prompt, the rules and our refusal */
	const char *const *extra; /* further details: key, value, ..., NULL; or NULL */
};

/*
 * trusted: the uid that passes unasked.  ask: false refuses everybody else
 * without polkit, which is what a user bus wants.
 */
int polkit_new(sd_bus *bus, uid_t trusted, bool ask, struct polkit **ret);
void polkit_free(struct polkit *p);
DEFINE_CLEANUP(struct polkit, polkit_free);

/* 1: go on.  0: being asked, return 1 and wait to be called again.  <0: refused, see err. */
_must_check_ int polkit_check(sd_bus_message *call, const struct polkit_request *req,
			      struct polkit *p, struct err *err);

/* The caller's effective uid as the bus knows it: 0 or -errno. */
int polkit_caller_uid(sd_bus_message *call, uid_t *ret, struct err *err);
