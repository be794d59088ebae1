/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configured PCI devices: from vm_config to virtio devices on the segment.
 * Control thread.
 */
#pragma once

struct err;
struct vm;

int vm_devices_create(struct vm *vm, struct err *err);
/* vCPUs parked or gone. */
void vm_devices_free(struct vm *vm);
