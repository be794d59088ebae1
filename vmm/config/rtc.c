/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `rtc`: a clock for guests that have a driver for virtio's
 */
#include "vmm/config/check.h"
#include "vmm/config/tables.h"

static const struct config_field rtc_fields[] = {
	CONFIG_PCI_SINGLE(struct rtc_config),
};
const struct config_table rtc_table = {
	.name = "Clock",
	.doc = "A virtio clock, which tells UTC as the host has it to a guest whose kernel has a "
	       "driver (Linux 6.16 or later); any guest has the CMOS clock as well.",
	.fields = rtc_fields,
	.n_fields = ARRAY_SIZE(rtc_fields),
	.size = sizeof(struct rtc_config),
};
