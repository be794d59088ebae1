/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that came with CreateVM or AddDevice
 *
 * The caller opened them with its own rights, so using them asks no permission
 * beyond making a VM.  A configuration refers to one by its name, {"fd": NAME}
 * in place of a path or interface; each is for one key.  They are the VM's as
 * long as it exists and die with it: a VM that has any is transient, and a
 * restarted daemon has none.  A running guest does not notice, its worker holds
 * duplicates.
 *
 * Main loop; a set that was duplicated belongs to its own thread.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stdbool.h>
#include <stddef.h>

struct err;
struct vm_config;

#define GIVEN_FDS_MAX 16 /* what dbus-daemon lets through in one message */

struct given_fds {
	struct given_fd {
		char *name;
		int fd;
	} items[GIVEN_FDS_MAX];
	size_t n;
};

void given_fds_deinit(struct given_fds *fds);
/* Keeps a duplicate. */
int given_fds_add(struct given_fds *fds, const char *name, int fd, struct err *err);
int given_fds_dup(const struct given_fds *fds, struct given_fds *ret, struct err *err);
/* -ENOENT without a sentence. */
int given_fds_find(const struct given_fds *fds, const char *name);

/*
 * Each reference of the configuration is to a descriptor of the set that suits
 * its key, and no two are to the same one.  With `all`, none is left over.
 * pointer: only those of one device, "/disks/2"; NULL: of all the configuration.
 */
int given_fds_check(const struct given_fds *fds, const struct vm_config *config,
		    const char *pointer, bool all, struct err *err);
