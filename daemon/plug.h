/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AddDevice: a device for a machine, while it runs or before
 *
 * For a machine that runs: its resources are opened like those of a start, on a
 * helper thread, its companions are run, and the worker plugs it in; then it is
 * part of the configuration that the machine runs with.  The state file has it
 * before the worker does, so that a daemon which comes after this one can ask what
 * became of it (link.c, take_answer).
 *
 * One at a time of each machine: meanwhile the machine is busy (machine_check_idle()).
 *
 * Main loop.
 */
#pragma once

#include "daemon/given-fds.h"
#include "vmm/config/value.h"
#include <glib.h>
#include <stdbool.h>

struct err;
struct machine;
struct plug;
struct vm_config;

struct plug_params {
	const char *key;   /* of the configuration: "disks" */
	GVariant *element; /* a{sv}, with its id if one is wanted */
	bool persist; /* of the next boots too; a machine that does not run knows nothing else */
	struct given_fds fds; /* what references of the element mean; taken over, also on failure */
};

/* id: of the new device; NULL when err is set. */
typedef void (*machine_added_fn)(void *data, const char *id, const struct err *err);

/*
 * Without effect: would it be allowed, as far as the configuration tells?  *ret: the
 * configuration with it, and where it is there.
 */
int machine_check_add_device(const struct machine *vm, const struct plug_params *params,
			     struct vm_config **ret, char pointer[static CONFIG_POINTER_MAX],
			     struct err *err);
/* fn is called once, unless an error is returned; possibly before this returns. */
int machine_add_device(struct machine *vm, struct plug_params *params, machine_added_fn fn,
		       void *data, struct err *err);

/* The configuration it will be, as text: for the state file. NULL: nothing is being added. */
const char *machine_plug_config(const struct machine *vm);
/* The host interfaces that it will have, for the same; g_strfreev() them. */
char **machine_plug_taps(const struct machine *vm);
/* What the machine is busy with: the id of the device. */
const char *plug_id(const struct plug *plug);
/* devices: of Query, a(ssss).  An addition whose answer was lost is done, or came to nothing. */
void machine_review_plug(struct machine *vm, GVariant *devices);
/* The service ends: what is under way is the next one's to review. */
void machine_leave_plug(struct machine *vm);
/* The worker is gone: ends what is under way, with an error. */
void machine_abort_plug(struct machine *vm);
