/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tap interfaces for the network devices of a VM
 *
 * tap_open() attaches to an existing tap or creates one, one descriptor a
 * queue pair, and brings its address, MTU and link to what the definition
 * says, touching only what differs.  A tap made here is not persistent: the
 * kernel removes it with the last descriptor, that is when the worker is gone,
 * however it went and whether or not a daemon is alive to see it.  So there is
 * nothing to remember and nothing that can be left behind.
 *
 * A macvtap is attached to by its own device; its address becomes the guest's.
 *
 * Helper thread: every call here may wait for the kernel's network lock.
 */
#pragma once

#include "vmm/base/cleanup.h"
#include <net/if.h>
#include <stddef.h>

struct err;
struct net_config;

struct tap {
	char name[IFNAMSIZ];
	int *fds; /* one a queue pair */
	size_t n_fds;
};

/* The interface is net->tap, or a new "brume<N>" when that is NULL. */
int tap_open(const struct net_config *net, struct tap *ret, struct err *err);
void tap_close(struct tap *tap);
/*
 * The interface of a descriptor that somebody else opened, which must be a tap
 * with the headers that a virtio device wants; one_of: how many queues it has with
 * the others that were given for the same device.
 */
int tap_inspect(int fd, size_t one_of, char ret_name[static IFNAMSIZ], struct err *err);
