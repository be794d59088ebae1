/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest has sent and the host's socket has not taken yet
 *
 * A ring of at most VSOCK_BUFFER_SIZE bytes, allocated with the first byte
 * and freed when it is empty.  For SEQPACKET a bit for each byte says
 * whether a message ends with it, so however short the messages are, they
 * cost no more; a message is sent as a whole when its end is there.
 *
 * The device's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define VSOCK_BUFFER_SIZE (64U << 10)

struct vsock_buffer {
	uint8_t *data; /* NULL: empty */
	uint8_t *ends; /* messages only */
	uint32_t head, len;
	uint32_t n_ends;
};

void vsock_buffer_clear(struct vsock_buffer *b);
/*
 * Appends all bytes of iov behind the first skip: 0, -ENOBUFS beyond the size,
 * -ENOMEM.  messages: this is a SEQPACKET connection; end: a message ends here, also
 * one whose bytes have all come before.  An empty message is none.
 */
int vsock_buffer_put(struct vsock_buffer *b, const struct iovec *iov, size_t n_iov, size_t skip,
		     bool messages, bool end);
/* There is something that a socket could take. */
static inline bool vsock_buffer_is_sendable(const struct vsock_buffer *b)
{
	return b->len > 0 && (!b->ends || b->n_ends > 0);
}
/*
 * One send to the socket, of a whole message or of as much as it takes: bytes,
 * 0 there is nothing to send, -errno.
 */
ssize_t vsock_buffer_send(struct vsock_buffer *b, int fd);
