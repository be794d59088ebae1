/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything of the host that a VM uses, opened and locked
 *
 * resources_open() turns each path and interface name of a definition into a
 * descriptor under its JSON pointer, which is how the worker asks for it; what the
 * definition names by descriptor (given-fds.h) is duplicated.  Disk
 * images carry an open-file-description lock (write for a writable disk, read
 * for a readonly one) that travels with the descriptor: it holds as long as the
 * worker lives and is gone when the worker is, with no help from the daemon.
 *
 * An open can hang (NFS, FUSE, a failing device), so this runs on a helper
 * thread (task.h) and touches nothing but its arguments.
 */
#pragma once

#include "daemon/console-paths.h"
#include "daemon/created-files.h"
#include "vmm/base/cleanup.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct companion;
struct err;
struct given_fds;
struct image_users;
struct resource;
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
	struct companion *companions; /* to be run beside the worker, n_companions of them */
	size_t n_companions;
	struct created_files created;
	struct console_paths console_paths;
};

/*
 * Is a descriptor from elsewhere good for this key?  Its type, and that it was
 * opened for what will be done with it (not O_PATH).  Does not wait.
 */
int resource_check_fd(const struct resource *res, int fd, struct err *err);

/*
 * fds: what references of the configuration mean.  users: who else has images, NULL: nobody.
 * kvm_device: "/dev/kvm".  owner: whose VM it is.
 * On failure everything opened so far is closed again, and what was created for it is gone.
 */
int resources_open(const struct vm_config *config, const struct given_fds *fds,
		   const struct image_users *users, const char *kvm_device, uid_t owner,
		   struct resource_set *ret, struct err *err);
/* The same for one device of the configuration; pointer: its own, "/disks/2". */
int resources_open_device(const struct vm_config *config, const char *pointer,
			  const struct given_fds *fds, const struct image_users *users, uid_t owner,
			  struct resource_set *ret, struct err *err);
void resource_set_deinit(struct resource_set *set);
/* Is it one of the device at this pointer? */
bool resource_is_of(const struct resource *res, const char *pointer);

/*
 * A worker knows pointers, not paths: makes "/payload/kernel: '/srv/vmlinuz': <reason>"
 * of its "/payload/kernel: <reason>".  Other texts stay as they are.
 */
void resources_name_paths(const struct vm_config *config, struct err *err);
