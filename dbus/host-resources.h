/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a definition reach into the host?  DBUS.md 3.8
 *
 * A VM without any path, interface or slice is made with create-vms; anything
 * that root would open for the caller needs use-host-resources, with the things
 * themselves as details for the administrator's rules.
 */
#pragma once

#include <stdbool.h>

struct vm_config;

struct host_resource_details {
	char memory[24], vcpus[12];
	const char *list[14]; /* key, value, ..., NULL: polkit_request.extra */
	/* One a line: no path, name or address holds a control character. */
	char paths[2048];
	char interfaces[512];
	char addresses[512];
};

/* slice may be NULL. Pointers in ret point into ret and slice. */
bool host_resource_details(const struct vm_config *config, const char *slice,
			   struct host_resource_details *ret);
