/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go while the machine runs
 *
 * Plugging in is the machine's own doing: the device stands in its slot, whole, before
 * the guest is told to look.  Taking out needs the guest: it is asked, and the device stays
 * in use until the guest has ejected it (_EJ0), which may be never.
 *
 *   PLUGGED -- vm_ask_removal() --> ASKED -- the guest ejects, or a reset --> gone
 *      |                            |    -- _OST says no --> REFUSED, in use as before
 *      +------- vm_take_out() ------+----> gone; a husk, while the guest uses it
 *
 * The one who was asked and has not answered may still eject later, also after
 * vm_forget_removal(): it has then let go of the device already, so it is taken out
 * all the same.  A guest that ejects what it was not asked for is not heard: the
 * device stays, and works again after the guest has looked for it (a rescan).
 *
 * When a device is gone, everything of it is: slot, BARs, doorbells, routes, locks and
 * descriptors; its element has left vm->config, and those behind it have moved up.
 * vm->listener.device_removed tells.  The ejecting vCPU stands until then, so the guest
 * never meets a half-removed device.
 *
 * Of one that was taken from a guest which uses it all is gone that is the host's: image,
 * tap, descriptors, limits, id and element.  Slot, BAR, doorbells and interrupts stay with a
 * husk (vmm/virtio/husk.h), which answers the guest's driver with errors until the guest
 * ejects it, which it is asked to do, or is reset.
 *
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct message;
struct vm;
struct vm_config;
struct vm_device;

/*
 * config: vm->config with one more element, `index` of list `key` (vm_config_with_device()),
 * whose descriptors are among vm->resources by the pointers of that element.  config is
 * taken over.  On failure the machine is as it was, and what the device has not taken of
 * the descriptors is still there.
 */
int vm_add_device(struct vm *vm, struct vm_config *config, const char *key, size_t index,
		  struct vm_device **ret, struct err *err);
/*
 * Each: FAULT_NO_SUCH_DEVICE; FAULT_UNSUPPORTED for a device that has to stay.
 * Asking again is a new question.
 */
int vm_ask_removal(struct vm *vm, const char *id, struct err *err);
int vm_take_out(struct vm *vm, const char *id, struct err *err);
/*
 * A guest that boots does not hear that it is to look at what came or is to go: told again.
 * True: it has not looked so far.
 */
bool vm_remind_guest(struct vm *vm);
/* Nobody waits for it any more; nothing when it was not asked for. */
int vm_forget_removal(struct vm *vm, const char *id, struct err *err);

/* --- for vm.c --- */

extern const struct pci_hotplug_ops vm_pci_hotplug_ops; /* data: the struct vm */
/* vCPUs parked. What the guest has ejected leaves. */
void vm_serve_ejects(struct vm *vm);
/* The machine ends. */
void vm_drop_husks(struct vm *vm);
/* vCPUs parked, devices reset: what was asked for leaves, and all husks. */
void vm_finish_removals(struct vm *vm);
/* Of vm->refused_message. */
void vm_serve_refusals(struct message *message);
