/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rate limits as a{st}: BandwidthSize, BandwidthOneTimeBurst, BandwidthRefillUSec,
 * OpsSize, OpsOneTimeBurst, OpsRefillUSec
 *
 * What is left out is no limit, no burst, a second.  Main loop.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <systemd/sd-bus.h>

struct err;
struct rate_limit_config;

/* Reads the a{sv} at the cursor. */
_must_check_ int rate_limit_bus_read(sd_bus_message *m, struct rate_limit_config *ret,
				     struct err *err);
/* limit NULL: none */
int rate_limit_bus_append(sd_bus_message *m, const struct rate_limit_config *limit);
