/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the host that belong to a machine
 *
 * A RESOURCE_LISTEN of a definition is bound and listened on when the machine
 * starts (open-listen.c), for its owner alone, and removed when its worker has
 * gone.  What is left of a crash is taken for a new socket; one that somebody
 * listens on is never touched.
 *
 * Names are found as path-open.h does it; a socket is bound and connected to
 * through the directory that was found, so nobody can put another in between.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

struct created_files;
struct err;
struct vm_config;

/* Of vsock.socket: behind its name, for SOCK_SEQPACKET. */
#define LISTEN_SEQPACKET_SUFFIX "_seqpacket"

/* Helper threads: they may wait. */

/* The new socket and, in created, its name; type of socket(2). Faults name the path. */
int listen_at(uid_t owner, const char *path, int type, struct created_files *created, int *ret_fd,
	      struct err *err);
/*
 * Connects for a guest of this owner: a non-blocking socket or -errno.  For another user than
 * the daemon's the socket has to be theirs: who listens sees the daemon as its peer.
 */
int listen_connect(uid_t owner, const char *path, int type);

/* Main loop: takes the sockets of a machine that has ended away, on a helper thread. */
void listen_remove_later(const struct vm_config *config, uid_t owner, sd_event *event,
			 const char *vm_name);
