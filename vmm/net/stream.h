/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames over a stream socket: what passt(1) and QEMU's `-netdev stream` speak
 *
 * Each frame follows its length, 32 bits big endian, without a virtio header.
 * The peer is another program: what it sends is checked, and a length that
 * cannot be right ends the connection, as there is no way to find the next one.
 *
 * Both directions are batched.  What one read(2) brings is handed out frame by
 * frame from a buffer; frames to be sent are gathered by reference and go with
 * one sendmsg(2) in flush().  What the socket does not take is copied then, and
 * until it has left no other frame is taken.
 */
#pragma once

#include <stddef.h>

#include "vmm/net/backend.h"

struct err;

/*
 * The first frame of what was received: 1 and its length, it begins at
 * buf + NET_STREAM_PREFIX; 0 when it is not there as a whole; -EPROTO.
 */
#define NET_STREAM_PREFIX 4
int net_stream_parse(const uint8_t *buf, size_t len, uint32_t *ret_len);

/* Control thread. fd is a connected stream socket, taken over on success. */
int net_stream_new(int fd, struct net_backend **ret, struct err *err);
