/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"

#define WIRE_MAX     (NET_FRAME_MAX - NET_HEADER_SIZE) /* of a frame on the wire */
#define IN_SIZE      (192U << 10)                      /* some frames of the largest kind */
#define BATCH_BYTES  (128U << 10)
#define BATCH_FRAMES 128U
/* A batch is sent when the next frame would go beyond BATCH_BYTES. */
#define OUT_SIZE (BATCH_BYTES + NET_STREAM_PREFIX)

static_assert(WIRE_MAX <= BATCH_BYTES, "any frame is a batch");

struct net_stream {
	struct net_backend base;
	uint8_t *in; /* IN_SIZE; received and not yet handed out: in_first .. in_end */
	size_t in_first, in_end;
	struct iovec *batch; /* IOV_MAX: frames taken since the last flush, with their prefixes */
	size_t n_batch, batch_bytes;
	be32 prefixes[BATCH_FRAMES];
	unsigned int n_frames;
	uint8_t *out; /* OUT_SIZE; what the socket did not take: out_first .. out_end */
	size_t out_first, out_end;
};

static struct net_stream *stream_of(const struct net_backend *b)
{
	return container_of(b, struct net_stream, base);
}

int net_stream_parse(const uint8_t *buf, size_t len, uint32_t *ret_len)
{
	be32 prefix;
	uint32_t n;

	if (len < NET_STREAM_PREFIX)
		return 0;
	memcpy(&prefix, buf, sizeof(prefix));
	n = be32_get(prefix);
	if (n == 0 || n > WIRE_MAX)
		return -EPROTO;
	if (len - NET_STREAM_PREFIX < n)
		return 0;
	*ret_len = n;
	return 1;
}

/* More of the stream: 0 or -errno. */
static int fill(struct net_stream *s)
{
	ssize_t n;

	if (s->in_first > 0) {
		memmove(s->in, s->in + s->in_first, s->in_end - s->in_first);
		s->in_end -= s->in_first;
		s->in_first = 0;
	}
	do {
		n = read(s->base.fd, s->in + s->in_end, IN_SIZE - s->in_end);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (n == 0)
		return -EPIPE;
	s->in_end += (size_t)n;
	return 0;
}

/* Copies to byte off of iov, what fits: the number of bytes. */
static size_t copy_to_iov(const struct iovec *iov, int n_iov, size_t off, const uint8_t *from,
			  size_t len)
{
	size_t done = 0;

	for (int i = 0; i < n_iov && done < len; i++) {
		size_t here;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		here = MIN(iov[i].iov_len - off, len - done);
		memcpy((uint8_t *)iov[i].iov_base + off, from + done, here);
		done += here;
		off = 0;
	}
	return done;
}

static ssize_t stream_receive(struct net_backend *b, const struct iovec *iov, int n_iov)
{
	static const uint8_t header[NET_HEADER_SIZE];
	struct net_stream *s = stream_of(b);
	const uint8_t *frame;
	uint32_t len = 0;
	int r;

	while ((r = net_stream_parse(s->in + s->in_first, s->in_end - s->in_first, &len)) == 0) {
		r = fill(s);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	frame = s->in + s->in_first + NET_STREAM_PREFIX;
	s->in_first += NET_STREAM_PREFIX + len;
	if (copy_to_iov(iov, n_iov, 0, header, sizeof(header)) < sizeof(header) ||
	    copy_to_iov(iov, n_iov, sizeof(header), frame, len) < len)
		return -EMSGSIZE;
	return (ssize_t)(NET_HEADER_SIZE + len);
}

static bool stream_has_frames(const struct net_backend *b)
{
	const struct net_stream *s = stream_of(b);
	uint32_t len;

	return net_stream_parse(s->in + s->in_first, s->in_end - s->in_first, &len) != 0;
}

static ssize_t socket_send(int fd, struct iovec *iov, size_t n_iov)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n_iov };
	ssize_t n;

	do {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	return errno == ECONNRESET ? -EPIPE : -errno;
}

/* What did not leave, beginning at byte off of the batch. */
static void keep_rest(struct net_stream *s, size_t off)
{
	s->out_first = s->out_end = 0;
	for (size_t i = 0; i < s->n_batch; i++) {
		const struct iovec *iov = &s->batch[i];

		if (off >= iov->iov_len) {
			off -= iov->iov_len;
			continue;
		}
		memcpy(s->out + s->out_end, (uint8_t *)iov->iov_base + off, iov->iov_len - off);
		s->out_end += iov->iov_len - off;
		off = 0;
	}
}

static int send_kept(struct net_stream *s)
{
	while (s->out_first < s->out_end) {
		struct iovec iov = { s->out + s->out_first, s->out_end - s->out_first };
		ssize_t n = socket_send(s->base.fd, &iov, 1);

		if (n < 0)
			return (int)n;
		s->out_first += (size_t)n;
	}
	return 0;
}

static int stream_flush(struct net_backend *b)
{
	struct net_stream *s = stream_of(b);
	size_t bytes = s->batch_bytes;
	ssize_t n;
	int r;

	r = send_kept(s);
	if (r < 0 || s->n_batch == 0)
		return r;
	n = socket_send(b->fd, s->batch, s->n_batch);
	if (n == -EAGAIN || (n >= 0 && (size_t)n < bytes))
		keep_rest(s, n < 0 ? 0 : (size_t)n);
	s->n_batch = s->batch_bytes = s->n_frames = 0;
	if (n < 0)
		return (int)n;
	return (size_t)n < bytes ? -EAGAIN : 0;
}

/* Frames without their virtio header, which this wire has no place for. */
static size_t gather(struct net_stream *s, const struct iovec *iov, int n_iov)
{
	size_t skip = NET_HEADER_SIZE, bytes = 0;

	for (int i = 0; i < n_iov; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		s->batch[s->n_batch++] =
			(struct iovec){ (uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip };
		bytes += iov[i].iov_len - skip;
		skip = 0;
	}
	return bytes;
}

static int stream_send(struct net_backend *b, const struct iovec *iov, int n_iov)
{
	struct net_stream *s = stream_of(b);
	struct iovec *prefix;
	size_t len = 0;
	int r;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	if (len <= NET_HEADER_SIZE || len - NET_HEADER_SIZE > WIRE_MAX || n_iov >= IOV_MAX)
		return -EMSGSIZE;
	len -= NET_HEADER_SIZE;
	if (s->n_frames == BATCH_FRAMES || s->batch_bytes + len > BATCH_BYTES ||
	    s->n_batch + (size_t)n_iov + 1 > IOV_MAX || s->out_first < s->out_end) {
		r = stream_flush(b);
		if (r < 0)
			return r;
	}
	prefix = &s->batch[s->n_batch++];
	*prefix = (struct iovec){ &s->prefixes[s->n_frames], NET_STREAM_PREFIX };
	s->prefixes[s->n_frames++] = be32_make((uint32_t)len);
	s->batch_bytes += NET_STREAM_PREFIX + gather(s, iov, n_iov);
	return 0;
}

static void stream_free(struct net_backend *b)
{
	struct net_stream *s = stream_of(b);

	if (b->fd >= 0)
		close(b->fd);
	free(s->in);
	free(s->out);
	free(s->batch);
	free(s);
}

static const struct net_backend_ops stream_ops = {
	.name = "stream",
	.receive = stream_receive,
	.send = stream_send,
	.flush = stream_flush,
	.has_frames = stream_has_frames,
	.free = stream_free,
};

int net_stream_new(int fd, struct net_backend **ret, struct err *err)
{
	socklen_t size = sizeof(int);
	struct net_stream *s;
	int type = 0, r;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return err_errno(err, errno, "the network descriptor is not a socket");
	if (type != SOCK_STREAM)
		return err_set(err, EINVAL, "the network socket is not a SOCK_STREAM");
	r = fd_set_nonblock(fd, true);
	if (r < 0)
		return err_errno(err, -r, "cannot make the network socket non-blocking");
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(err, ENOMEM, "cannot keep a network socket");
	s->base = (struct net_backend){ &stream_ops, -EBADF, false };
	s->in = malloc(IN_SIZE);
	s->out = malloc(OUT_SIZE);
	s->batch = calloc(IOV_MAX, sizeof(*s->batch));
	if (!s->in || !s->out || !s->batch) {
		stream_free(&s->base);
		return err_errno(err, ENOMEM, "cannot keep a network socket");
	}
	s->base.fd = fd;
	*ret = &s->base;
	return 0;
}
