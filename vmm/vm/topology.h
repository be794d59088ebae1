/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory zones, PCI segments and nodes of a machine, from its configuration
 *
 * Control thread, while the machine is built; ACPI on every reset too.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct vm;

/* RAM, in zones or not, and the windows for devices around it. */
int vm_create_memory(struct vm *vm, struct err *err);
/* vm->segments, which share vm->windows by weight. */
int vm_create_segments(struct vm *vm, struct err *err);
void vm_free_segments(struct vm *vm);
/* Devices are in their slots. */
int vm_build_acpi(struct vm *vm, uint64_t *ret_rsdp_gpa, struct err *err);
