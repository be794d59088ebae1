/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from the configuration that a machine is booted with
 *
 * Pure functions.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

struct err;
struct mac_addr;
struct net_config;
struct vm_config;

/*
 * What the worker gets to see of JSON text, a{sv}: no host resources any more
 * (they come as descriptors), but the identity that the definition left open.
 */
GVariant *boot_config_for_worker(const char *text, const char *uuid, struct err *err);
/* The address that the worker is told for a network: its own, or the one it gets from us. */
void boot_config_mac(const struct net_config *net, const char *uuid, struct mac_addr *ret);
/* The same for all networks without one. */
void boot_config_choose_macs(struct vm_config *config, const char *uuid);
/* How many threads the worker may need. */
uint64_t boot_config_count_tasks(const struct vm_config *config);
