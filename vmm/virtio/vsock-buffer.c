/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vsock-buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/base/math.h"

#define ENDS_SIZE (VSOCK_BUFFER_SIZE / 8)

void vsock_buffer_clear(struct vsock_buffer *b)
{
	free(b->data);
	free(b->ends);
	*b = (struct vsock_buffer){ 0 };
}

static uint32_t place(const struct vsock_buffer *b, uint32_t at)
{
	return (b->head + at) % VSOCK_BUFFER_SIZE;
}

static int allocate(struct vsock_buffer *b, bool messages)
{
	if (!b->data)
		b->data = malloc(VSOCK_BUFFER_SIZE);
	if (messages && !b->ends)
		b->ends = calloc(1, ENDS_SIZE);
	if (b->data && (!messages || b->ends))
		return 0;
	if (b->len == 0)
		vsock_buffer_clear(b);
	return -ENOMEM;
}

static void append(struct vsock_buffer *b, const uint8_t *from, size_t len)
{
	uint32_t at = place(b, b->len);
	size_t first = MIN(len, (size_t)(VSOCK_BUFFER_SIZE - at));

	memcpy(b->data + at, from, first);
	memcpy(b->data, from + first, len - first);
	b->len += (uint32_t)len;
}

/* What is there ends a message: known already for an empty one that follows another. */
static void mark_end(struct vsock_buffer *b)
{
	uint32_t last = place(b, b->len - 1);

	if (b->ends[last / 8] & 1U << last % 8)
		return;
	b->ends[last / 8] = (uint8_t)(b->ends[last / 8] | 1U << last % 8);
	b->n_ends++;
}

int vsock_buffer_put(struct vsock_buffer *b, const struct iovec *iov, size_t n_iov, size_t skip,
		     bool messages, bool end)
{
	size_t len = 0;
	int r;

	for (size_t i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	if (len <= skip) {
		/* The fragments that came before are a message now. */
		if (messages && end && b->len > 0)
			mark_end(b);
		return 0;
	}
	if (len - skip > VSOCK_BUFFER_SIZE - b->len)
		return -ENOBUFS;
	r = allocate(b, messages);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_iov; i++) {
		size_t off = MIN(skip, iov[i].iov_len);

		append(b, (const uint8_t *)iov[i].iov_base + off, iov[i].iov_len - off);
		skip -= off;
	}
	if (messages && end)
		mark_end(b);
	return 0;
}

/* Of the message at the head; 0: its end is not there yet. */
static uint32_t message_length(const struct vsock_buffer *b)
{
	for (uint32_t i = 0; b->n_ends > 0 && i < b->len; i++) {
		uint32_t at = place(b, i);

		if (b->ends[at / 8] & 1U << at % 8)
			return i + 1;
	}
	return 0;
}

static void take(struct vsock_buffer *b, uint32_t n)
{
	if (b->ends) {
		uint32_t last = place(b, n - 1);

		b->ends[last / 8] = (uint8_t)(b->ends[last / 8] & ~(1U << last % 8));
		b->n_ends--;
	}
	b->head = place(b, n);
	b->len -= n;
	if (b->len == 0)
		vsock_buffer_clear(b);
}

ssize_t vsock_buffer_send(struct vsock_buffer *b, int fd)
{
	uint32_t len = b->ends ? message_length(b) : b->len;
	struct iovec iov[2];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 1 };
	uint32_t first;
	ssize_t n;

	if (len == 0)
		return 0;
	first = MIN(len, VSOCK_BUFFER_SIZE - b->head);
	iov[0] = (struct iovec){ b->data + b->head, first };
	if (len > first)
		iov[msg.msg_iovlen++] = (struct iovec){ b->data, len - first };
	do {
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take(b, (uint32_t)n); /* a message goes as a whole or not at all */
	return n;
}
