/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "CPUQuota=50%" as systemctl set-property and systemd-run write it
 *
 * Names and values as in unit files become the names and types of the bus.
 * Ranges are the service's to judge.
 */
#pragma once

#include <glib.h>

/*
 * Several of them to an a(sv): of one name the last counts, limits of devices are
 * collected.  EXIT_USAGE after complaining.
 */
int properties_parse(const char *const *words, size_t n, GVariant **ret);

/* "  CPUQuota=PERCENT%" and so on, a line each. */
void properties_print_help(void);
