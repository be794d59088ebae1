/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a definition reach into the host?
 *
 * A VM without any path, interface, slice or resource property is made with
 * create-vms; anything that root would open for the caller, or that takes from
 * other users of the host, needs use-host-resources, with the things themselves as
 * details for the administrator's rules.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

struct vm_config;

struct host_resource_details {
	char memory[24], vcpus[12];
	const char *list[16]; /* key, value, ..., NULL: polkit_request.extra */
	/* One a line: no path, name or address holds a control character. */
	char paths[2048];
	char interfaces[512];
	char addresses[512];
	char properties[512]; /* their names */
};

/*
 * pointer: of one device, "/disks/2", or NULL: everything.  slice may be NULL, and properties, a
 * set of resource-properties.h. Pointers in ret point into ret and slice.
 */
bool host_resource_details(const struct vm_config *config, const char *pointer, const char *slice,
			   GVariant *properties, struct host_resource_details *ret);
