/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMBIOS 3.2 tables (DMTF DSP0134): who made this machine
 *
 * The 64-bit entry point at LAYOUT_SMBIOS, where guests scan for it, and the
 * structures behind it: BIOS, system, chassis (with an asset tag only), OEM
 * strings (if any), end.
 *
 * Control thread, before any vCPU runs (also on every reset).
 */
#pragma once

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct platform_config;

int smbios_build(struct guest_mem *mem, const struct platform_config *platform, struct err *err);
