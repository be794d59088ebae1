/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters of qcow2 images: read, never written
 *
 * The last cluster that was expanded is kept, as guests read in smaller pieces
 * than it has.  A place that held compressed data never holds other compressed
 * data while the image is open, so an entry is all that names its contents.
 *
 * The decompressors and buffers are made when the first such cluster is read:
 * most images have none.  One lock, held while one cluster is read and expanded.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

struct qcow2_inflater {
	pthread_mutex_t lock;
	bool ready;
	z_stream zlib;
	ZSTD_DCtx *zstd;
	uint64_t entry; /* whose contents are in out, 0 = nobody's */
	uint8_t *in, *out;
	size_t in_size, out_size;
};

struct qcow2_inflater *qcow2_inflater_new(void)
{
	struct qcow2_inflater *z = calloc(1, sizeof(*z));

	if (z)
		pthread_mutex_init(&z->lock, NULL);
	return z;
}

void qcow2_inflater_free(struct qcow2_inflater *z)
{
	if (!z)
		return;
	if (z->ready)
		inflateEnd(&z->zlib);
	ZSTD_freeDCtx(z->zstd);
	qcow2_pages_free(z->in, z->in_size);
	qcow2_pages_free(z->out, z->out_size);
	pthread_mutex_destroy(&z->lock);
	free(z);
}

void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_off, uint64_t *ret_len)
{
	uint32_t x = 62 - (q->cluster_bits - 8);
	uint64_t off = entry & ((1ULL << x) - 1);
	uint64_t sectors = (entry & ((1ULL << 62) - 1)) >> x;

	*ret_off = off;
	*ret_len = (sectors + 1) * 512 - (off & 511);
}

static int make_ready(struct qcow2_inflater *z, const struct qcow2 *q)
{
	if (!z->in) {
		/* The longest that an entry can state, and alignment at both ends. */
		z->in_size = (size_t)(2 * q->cluster + 2 * FILE_IO_BLOCK);
		z->in = qcow2_pages_new(z->in_size);
	}
	if (!z->out) {
		z->out_size = (size_t)q->cluster;
		z->out = qcow2_pages_new(z->out_size);
	}
	if (!z->in || !z->out)
		return -ENOMEM;
	if (q->compression == QCOW2_COMPRESSION_ZSTD) {
		if (!z->zstd)
			z->zstd = ZSTD_createDCtx();
		return z->zstd ? 0 : -ENOMEM;
	}
	/* Raw deflate; 15: whatever window it was made with. */
	if (!z->ready && inflateInit2(&z->zlib, -15) != Z_OK)
		return -ENOMEM;
	z->ready = true;
	return 0;
}

static int expand_zlib(struct qcow2_inflater *z, const uint8_t *in, size_t n)
{
	if (inflateReset(&z->zlib) != Z_OK)
		return -EIO;
	z->zlib.next_in = (Bytef *)(uintptr_t)in;
	z->zlib.avail_in = (uInt)n;
	z->zlib.next_out = z->out;
	z->zlib.avail_out = (uInt)z->out_size;
	inflate(&z->zlib, Z_FINISH);
	return z->zlib.avail_out == 0 ? 0 : -EIO;
}

static int expand_zstd(struct qcow2_inflater *z, const uint8_t *in, size_t n)
{
	ZSTD_inBuffer from = { in, n, 0 };
	ZSTD_outBuffer to = { z->out, z->out_size, 0 };

	ZSTD_DCtx_reset(z->zstd, ZSTD_reset_session_only);
	while (to.pos < to.size) {
		size_t in_before = from.pos, out_before = to.pos;
		size_t r = ZSTD_decompressStream(z->zstd, &to, &from);

		if (ZSTD_isError(r) || (from.pos == in_before && to.pos == out_before))
			return -EIO;
	}
	return 0;
}

static int expand(struct qcow2 *q, struct qcow2_inflater *z, uint64_t entry)
{
	uint64_t off, len, start, end;
	size_t n = 0;
	int r;

	r = make_ready(z, q);
	if (r < 0)
		return r;
	qcow2_packed_range(q, entry, &off, &len);
	start = align_down(off, q->base.off_align);
	end = align_up(off + len, q->base.off_align);
	if (off < q->cluster)
		return -EIO; /* in the header */
	z->entry = 0;
	while (n < end - start) {
		ssize_t got =
			pread(q->io.fd, z->in + n, (size_t)(end - start) - n, (off_t)(start + n));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		if ((size_t)got & (q->base.off_align - 1))
			break;
	}
	/* The file may end within the last sector. */
	if (n <= off - start)
		return -EIO;
	n = MIN(n - (size_t)(off - start), (size_t)len);
	if (q->compression == QCOW2_COMPRESSION_ZSTD)
		r = expand_zstd(z, z->in + (off - start), n);
	else
		r = expand_zlib(z, z->in + (off - start), n);
	if (r >= 0)
		z->entry = entry;
	return r;
}

int qcow2_inflate(struct qcow2 *q, uint64_t entry, uint64_t from, uint64_t len,
		  const struct iovec *iov, unsigned int n_iov)
{
	struct qcow2_inflater *z = q->inflater;
	int r = 0;

	pthread_mutex_lock(&z->lock);
	if (z->entry != entry)
		r = expand(q, z, entry);
	for (unsigned int i = 0; r >= 0 && len > 0 && i < n_iov; i++) {
		size_t here = MIN((size_t)len, iov[i].iov_len);

		memcpy(iov[i].iov_base, z->out + from, here);
		from += here;
		len -= here;
	}
	pthread_mutex_unlock(&z->lock);
	return r;
}
