/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration with one device more, or one less
 *
 * While a machine runs its configuration follows what is plugged in and out, so
 * that a reboot, a snapshot or a new daemon finds the machine as it is.  Each change
 * makes a new configuration, checked as a whole: what is refused leaves the old one
 * as it was.
 *
 * Any thread.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

struct err;
struct vm_config;

/* How many the list of this key has; 0 of what is no list. */
size_t vm_config_count_devices(const struct vm_config *config, const char *key);
/*
 * Of what vm_config_serialise() returned: this element of the list, or the object; an empty
 * dictionary where there is none ("pvpanic": true).  A new reference.
 */
GVariant *vm_config_element(GVariant *all, const char *key, size_t index);
/*
 * In the worker the names of resources are pointers (vm_config_strip_resources()): the element
 * (a{sv}) with those of element `index`, which others of its list may not have.  A new reference.
 */
GVariant *vm_config_place_element(const char *key, GVariant *element, size_t index);
/*
 * config with `element` (a{sv}, as in the list or object `key` of a definition) at the end of
 * its list; *ret_index: where it is, or would be.  A device without an id gets one.  What is wrong
 * is told with the pointer it would have ("/disks/2/path").
 */
int vm_config_with_device(const struct vm_config *config, const char *key, GVariant *element,
			  struct vm_config **ret, size_t *ret_index, struct err *err);
/* config with these keys (a{sv}) of element `index` of list `key` in place of those it has. */
int vm_config_with_keys(const struct vm_config *config, const char *key, size_t index,
			GVariant *keys, struct vm_config **ret, struct err *err);
/* config without element `index` of list `key`, or without its object. */
int vm_config_without_device(const struct vm_config *config, const char *key, size_t index,
			     struct vm_config **ret, struct err *err);
