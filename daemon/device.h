/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices of a running machine
 *
 * They exist from the moment its worker has a guest until the worker is gone:
 * made from the configuration the machine was booted with and what the worker
 * says of them (its address, its values: vmm/api/protocol.h), kept here because
 * a getter of the bus never asks a worker: it would wait for it.  A worker may be in
 * hostile hands: of what it says only what a device can have is taken.
 *
 * What is asked of one is a call to the worker; a rate limit is kept in the
 * configuration of the running machine when the worker has taken it.
 *
 * Main loop.
 */
#pragma once

#include "daemon/machine.h"
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct rate_limit_config;
struct resource_set;
struct vm_config;

struct machine_device {
	struct machine *vm;
	char *id;
	const char *key;  /* of the configuration: "disks" */
	size_t index;     /* in its list */
	const char *type; /* "disk": for the bus */
	char bdf[16];     /* "" = not known yet */
	char *host_interface;
	int host_ifindex;
	GVariant *config; /* its element of the configuration, a{sv} */
	GVariant *values; /* a{sv}, by the worker's names */
	bool hotplugged;  /* came while the machine ran */
	bool ejecting;    /* the guest has been asked to let go of it */
};

/* What a change of a device is about. */
enum machine_device_property {
	MACHINE_DEVICE_VALUES = 1 << 0,
	MACHINE_DEVICE_LIMIT = 1 << 1,
	MACHINE_DEVICE_DEFINITION = 1 << 2, /* machine_device_is_persistent() */
	MACHINE_DEVICE_EJECTING = 1 << 3,
	MACHINE_DEVICE_CONFIG = 1 << 4, /* keys that can change while it runs */
};

/* answer: of Query or Start. Makes the devices, or takes over what is new of them. */
void machine_devices_take(struct machine *vm, GVariant *answer);
/*
 * The worker has plugged one in: boot is what the machine runs with now, taken over, and the
 * device is at `index` of `key` there.  Its interface of the host is among the resources.
 */
void machine_devices_plugged(struct machine *vm, struct vm_config *boot, const char *key,
			     size_t index, const struct resource_set *resources, const char *bdf,
			     GVariant *values);
/* The worker has let one go; nothing when there is none of this id. */
void machine_device_gone(struct machine *vm, const char *id);
void machine_device_set_ejecting(struct machine_device *dev, bool ejecting);
/* Its element of vm->boot is not what it was. */
void machine_device_refresh(struct machine_device *dev);
/* The worker is gone. */
void machine_devices_clear(struct machine *vm);
/* vm->next is another. */
void machine_devices_redefined(struct machine *vm);
/* The next boot has it too. */
bool machine_device_is_persistent(const struct machine_device *dev);
/* The key of the configuration for a type of the bus ("disk": "disks"); NULL: there is none. */
const char *machine_device_key(const char *type);
/* A DeviceChanged of the worker. */
void machine_device_told(struct machine *vm, const char *id, GVariant *values);
/* NULL: there is none now. */
struct machine_device *machine_find_device(const struct machine *vm, const char *id);
/* The same, with a sentence. */
struct machine_device *machine_get_device(const struct machine *vm, const char *id,
					  struct err *err);
/* The first of this type, NULL: there is none. */
struct machine_device *machine_device_of_type(const struct machine *vm, const char *type);
/* 0: the device has none, or the worker has not said it. */
uint64_t machine_device_u64(const struct machine_device *dev, const char *value);

/* --- what clients ask; see request.h for how they are answered --- */

int machine_check_device_request(const struct machine *vm, const char *verb, struct err *err);
int machine_set_link(struct machine_device *dev, bool up, machine_done_fn fn, void *data,
		     struct err *err);
/* direction: "" of a disk; "rx", "tx" or "both" */
int machine_set_rate_limit(struct machine_device *dev, const char *direction,
			   const struct rate_limit_config *limit, machine_done_fn fn, void *data,
			   struct err *err);
int machine_check_rate_limit_group(const struct machine *vm, const char *group, struct err *err);
int machine_set_rate_limit_group(struct machine *vm, const char *group,
				 const struct rate_limit_config *limit, machine_done_fn fn,
				 void *data, struct err *err);
int machine_check_balloon(const struct machine *vm, uint64_t bytes, struct err *err);
int machine_set_balloon(struct machine *vm, uint64_t bytes, machine_done_fn fn, void *data,
			struct err *err);
int machine_check_vsock(const struct machine *vm, struct err *err);
/* Reply of the worker: h. */
int machine_connect_vsock(struct machine *vm, uint32_t port, machine_done_fn fn, void *data,
			  struct err *err);
int machine_set_console_size(struct machine *vm, const char *console, uint16_t columns,
			     uint16_t rows, machine_done_fn fn, void *data, struct err *err);
