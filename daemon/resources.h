/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything of the host that a VM uses, opened and locked
 *
 * resources_open() turns each path and interface name of a definition into a
 * descriptor under its JSON pointer, which is how the worker asks for it.  Disk
 * images carry an open-file-description lock (write for a writable disk, read
 * for a readonly one) that travels with the descriptor: it holds as long as the
 * worker lives and is gone when the worker is, with no help from the daemon.
 *
 * An open can hang (NFS, FUSE, a failing device), so this runs on a helper
 * thread (task.h) and touches nothing but its arguments.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <stddef.h>

struct err;
struct vm_config;

struct resource_fd {
	char *pointer; /* "/disks/0/path", "kvm" */
	int fd;
};

struct resource_set {
	struct resource_fd *fds;
	size_t n_fds;
	char **taps; /* names of the host's interfaces, n_taps of them */
	size_t n_taps;
};

/* kvm_device: "/dev/kvm".  On failure everything opened so far is closed again. */
int resources_open(const struct vm_config *config, const char *kvm_device, struct resource_set *ret,
		   struct err *err);
void resource_set_deinit(struct resource_set *set);
