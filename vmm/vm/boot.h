/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an empty machine to one whose vCPUs can run: tables, payload, registers.
 * The same for the first boot and every reboot.  Control thread, vCPUs parked.
 */
#pragma once

struct err;
struct vm;

int vm_load(struct vm *vm, struct err *err);
