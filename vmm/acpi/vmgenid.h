/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VM generation ID (Microsoft, "Virtual Machine Generation ID"): 16 random bytes
 * in the guest's memory that change when the guest may be one of several, so that
 * it makes its secrets and random numbers anew
 *
 * A machine has a new one each time it is started, and keeps it over resets.  A
 * restored machine gets a new one and is told: vmgenid_renew().  The bytes are at
 * LAYOUT_VMGENID, in memory that the guest's map does not list as RAM; the ACPI
 * device that names the place is acpi_part_vmgenid.
 *
 * Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/state.h"

struct err;
struct ged;
struct guest_mem;

struct vmgenid_state {
	uint8_t guid[16];
};
extern const struct state_desc vmgenid_state_desc;

struct vmgenid {
	struct vmgenid_state st;
};

int vmgenid_init(struct vmgenid *gen, struct err *err);
/* Puts it where the guest looks; at each start and reset. */
int vmgenid_place(const struct vmgenid *gen, struct guest_mem *mem, struct err *err);
/* A new one, and the guest is told: after a restore, vCPUs parked. */
int vmgenid_renew(struct vmgenid *gen, struct guest_mem *mem, struct ged *ged, struct err *err);
