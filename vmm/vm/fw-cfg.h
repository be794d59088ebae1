/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the machine's fw_cfg device offers: payload.fw_cfg_config
 *
 * Control thread, at each start and reset, after the ACPI tables were built.
 */
#pragma once

#include <stdint.h>

struct err;
struct vm;

/* Nothing to do without payload.fw_cfg_config. */
int vm_fill_fw_cfg(struct vm *vm, uint64_t rsdp_gpa, struct err *err);
