/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading qcow2 images and their backing chain
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/math.h"
#include "vmm/block/qcow2/internal.h"

/* The backing image answers; its files come behind ours. */
static int map_backing(struct qcow2 *q, const struct block_access *access, struct block_extent *ret)
{
	struct block_access sub = *access;
	int r;

	if (!q->backing || access->off >= q->backing->size) {
		*ret = (struct block_extent){ .kind = BLOCK_EXTENT_ZERO, .len = access->len };
		return 0;
	}
	sub.len = MIN(sub.len, q->backing->size - sub.off);
	r = q->backing->ops->map(q->backing, &sub, ret);
	if (r >= 0)
		ret->file++;
	return r;
}

/* What `access` means where the image itself says p. */
static int map_place(struct qcow2 *q, const struct qcow2_place *p,
		     const struct block_access *access, struct block_extent *ret)
{
	struct block_access sub = *access;

	*ret = (struct block_extent){ .kind = BLOCK_EXTENT_ZERO, .len = p->len };
	switch (p->kind) {
	case QCOW2_UNALLOCATED:
		sub.len = p->len;
		return map_backing(q, &sub, ret);
	case QCOW2_ZEROES:
		return 0;
	case QCOW2_DATA:
		/* Behind the end of the file everything is zero. */
		if (p->host < atomic_load_explicit(&q->file_size, memory_order_relaxed)) {
			ret->kind = BLOCK_EXTENT_HOST;
			ret->off = p->host;
		}
		return 0;
	case QCOW2_PACKED:
		ret->kind = BLOCK_EXTENT_DONE;
		return qcow2_inflate(q, p->entry, access->off & (q->cluster - 1), p->len,
				     access->iov, access->n_iov);
	}
	return -EIO;
}

int qcow2_map_read(struct qcow2 *q, const struct block_access *access, struct block_extent *ret)
{
	struct qcow2_place p;
	int r;

	r = qcow2_lookup(q, access->off, access->len, &p);
	return r < 0 ? r : map_place(q, &p, access, ret);
}

static int read_host(int fd, uint64_t off, uint64_t len, uint8_t *buf)
{
	while (len > 0) {
		ssize_t n = pread(fd, buf, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			memset(buf, 0, len);
			return 0;
		}
		buf += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int qcow2_read_locked(struct qcow2 *q, uint64_t off, uint64_t len, uint8_t *buf)
{
	/* Behind the disk's end there is the rest of its last cluster. */
	uint64_t inside = off < q->base.size ? MIN(len, q->base.size - off) : 0;

	memset(buf + inside, 0, len - inside);
	len = inside;
	while (len > 0) {
		struct iovec iov = { buf, len };
		const struct block_access access = {
			.op = BLOCK_OP_READ, .off = off, .len = len, .iov = &iov, .n_iov = 1
		};
		struct block_extent ext = { 0 };
		struct qcow2_place p;
		int r;

		r = qcow2_lookup_locked(q, off, len, &p);
		if (r >= 0)
			r = map_place(q, &p, &access, &ext);
		if (r >= 0 && ext.kind == BLOCK_EXTENT_HOST)
			r = read_host(q->base.files[ext.file], ext.off, ext.len, buf);
		if (r < 0)
			return r;
		if (ext.kind == BLOCK_EXTENT_ZERO)
			memset(buf, 0, ext.len);
		buf += ext.len;
		off += ext.len;
		len -= ext.len;
	}
	return 0;
}

/* Asked with memory, because what is compressed is expanded into it. */
int qcow2_backing_is_zero(struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *ret_len)
{
	struct iovec iov = { q->copy, q->cluster };
	uint64_t done = 0;

	while (done < len) {
		const struct block_access access = { .op = BLOCK_OP_READ,
						     .off = off + done,
						     .len = MIN(len - done, q->cluster),
						     .iov = &iov,
						     .n_iov = 1 };
		struct block_extent ext = { 0 };
		int r = map_backing(q, &access, &ext);

		if (r < 0)
			return r;
		if (ext.kind != BLOCK_EXTENT_ZERO)
			break;
		done += ext.len;
	}
	*ret_len = done;
	return done > 0;
}
