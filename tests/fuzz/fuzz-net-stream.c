/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the frames that passt sends: the input is what comes over the
 * socket; its first byte says in what pieces, its second how long buffers are
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/net/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes all frames there are: false when the stream is at its end. */
static bool take_all(struct net_backend *b, size_t room)
{
	ssize_t n;

	do {
		uint8_t *frame = malloc(room); /* of the exact size, for the sanitizer */
		struct iovec iov[] = { { frame, room / 3 }, { frame + room / 3, room - room / 3 } };

		if (!frame)
			return false;
		n = b->ops->receive(b, iov, 2);
		assert(n < 0 || (n > NET_HEADER_SIZE && (size_t)n <= room));
		for (size_t i = 0; n > 0 && i < NET_HEADER_SIZE; i++)
			assert(frame[i] == 0);
		free(frame);
	} while (n > 0 || n == -EMSGSIZE);
	assert(n == -EAGAIN || n == -EPROTO || n == -EPIPE);
	/* A stream that makes no sense stays so. */
	assert(!b->ops->has_frames(b) || n == -EPROTO);
	return n == -EAGAIN;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_backend *b = NULL;
	size_t piece, room;
	int pair[2];

	if (size < 2 || size > 65536)
		return 0;
	piece = 1 + data[0] * 16UL;
	room = 1 + data[1] * 8UL;
	data += 2;
	size -= 2;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return 0;
	if (net_stream_new(pair[0], &b, NULL) < 0) {
		close(pair[0]);
		close(pair[1]);
		return 0;
	}
	while (size > 0) {
		size_t here = MIN(piece, size);

		if (write(pair[1], data, here) != (ssize_t)here || !take_all(b, room))
			break;
		data += here;
		size -= here;
	}
	close(pair[1]);
	take_all(b, room);
	net_backend_free(b);
	return 0;
}
