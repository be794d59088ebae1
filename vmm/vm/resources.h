/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors the daemon handed over, by the JSON pointer of the key that names
 * them ("/disks/0/path", "/net/0/tap/1") or by a fixed name ("kvm").  The
 * worker has no other way to reach the host.  Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cleanup.h"

struct err;

struct resources {
	struct resource_entry {
		char *name;
		int fd;
		bool loose;
	} * entries;
	size_t n;
};

void resources_deinit(struct resources *res);
/* Takes fd over, also when it fails. -EEXIST: the name is there already. */
int resources_add(struct resources *res, const char *name, int fd, struct err *err);
/*
 * The same for a running machine: what is said next is what it is for, a device that comes or
 * another image.  When that has been done or cannot be any more, nobody keeps the rest of it.
 */
int resources_add_loose(struct resources *res, const char *name, int fd, struct err *err);
void resources_drop_loose(struct resources *res);
/*
 * Who hands them over may count the elements of a list otherwise: all that are loose and
 * are of an element of list `key` become those of element `index`.
 */
int resources_place_loose(struct resources *res, const char *key, size_t index, struct err *err);
/* The descriptor, still owned by the table, or -ENOENT with a sentence. */
int resources_get(const struct resources *res, const char *name, struct err *err);
/* The same for a device to own: it leaves the table. */
int resources_take(struct resources *res, const char *name, struct err *err);
/* Closes all whose names begin so. */
void resources_drop(struct resources *res, const char *prefix);

/*
 * Says whose fault it is that what lies behind a descriptor cannot be used, and
 * returns r: FAULT_BAD_CONFIG when its contents are wrong, so that the definition
 * has to name something else, FAULT_HOST_RESOURCE when the host could not provide
 * it.  The text should begin with the pointer; the daemon puts the path after it.
 */
int resources_blame(int r, struct err *err);
