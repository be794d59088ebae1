/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE 256
#define CHUNK      4096U
#define MEM_MAJOR  1 /* Linux, admin-guide/devices.txt: /dev/urandom and the like */

struct virtio_rng {
	struct virtio_device dev;
	int fd; /* I/O thread while active */
	_Atomic uint64_t bytes;
	struct virtio_counter counters[2];
};

static struct virtio_rng *virtio_rng(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_rng, dev);
}

/* Fills buf: 0 or -errno. */
static int get_bytes(struct virtio_rng *rng, uint8_t *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = rng->fd >= 0 ? read(rng->fd, buf, len) : getrandom(buf, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 && rng->fd >= 0) {
			log_warning("rng '%s': its source %s%s: the kernel's takes over",
				    rng->dev.id, n < 0 ? "failed: " : "has ended",
				    n < 0 ? strerrordesc_np(errno) : "");
			close(TAKE_FD(rng->fd));
			continue;
		}
		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Its source may take its time, so a thread of its own serves it. */
static bool is_slow(const struct virtio_rng *rng)
{
	return rng->dev.ops->threads == VIRTIO_THREADS_PER_QUEUE;
}

/* One request: 1, 0 none, -errno. */
static int fill_request(struct virtio_queue *q, void *data)
{
	struct virtio_rng *rng = data;
	struct virtq_chain chain;
	uint8_t buf[CHUNK];
	uint32_t len, at = 0;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	if (chain.writable_len == 0)
		return -EBADMSG;
	len = (uint32_t)MIN(chain.writable_len, (uint64_t)(is_slow(rng) ? VIRTIO_RNG_SLOW_MAX
									: VIRTIO_RNG_REQUEST_MAX));
	while (at < len) {
		uint32_t n = MIN(len - at, CHUNK);

		r = get_bytes(rng, buf, n);
		if (r >= 0)
			r = virtq_chain_write(q, &chain, at, buf, n);
		if (r < 0)
			return r;
		at += n;
	}
	explicit_bzero(buf, sizeof(buf));
	atomic_fetch_add_explicit(&rng->bytes, len, memory_order_relaxed);
	virtio_queue_push(q, chain.head, len);
	return 1;
}

static void rng_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	struct virtio_rng *rng = virtio_rng(dev);
	/* Control waits for one slow read at most (pause, reset). */
	int r = virtio_queue_serve_some(q, is_slow(rng) ? 1 : VIRTQ_SERVE_BUDGET, fill_request,
					rng);

	if (r < 0)
		virtio_device_broken(dev, "%s",
				     r == -EBADMSG ? "malformed request"
						   : "the kernel gives no random bytes");
}

static int rng_activate(struct virtio_device *dev _unused_, struct err *err _unused_)
{
	return 0;
}

static void rng_reset(struct virtio_device *dev _unused_)
{
	/* Requests are answered as they are taken: nothing is ever in flight. */
}

static const struct virtio_counter *rng_counters(struct virtio_device *dev)
{
	return virtio_rng(dev)->counters;
}

static void rng_free(struct virtio_device *dev)
{
	struct virtio_rng *rng = virtio_rng(dev);

	virtio_device_deinit(dev);
	if (rng->fd >= 0)
		close(rng->fd);
	free(rng);
}

/* Two that differ in who serves them; pci_class: none that fits. */
#define RNG_OPS(threads_)                                                                          \
	{                                                                                          \
		.name = "rng", .device_id = VIRTIO_ID_RNG, .pci_class = 0x00,                      \
		.pci_subclass = 0xff, .threads = (threads_), .activate = rng_activate,             \
		.kick = rng_kick, .reset = rng_reset, .counters = rng_counters, .free = rng_free   \
	}

static const struct virtio_device_ops rng_ops = RNG_OPS(VIRTIO_THREADS_SHARED);
static const struct virtio_device_ops slow_rng_ops = RNG_OPS(VIRTIO_THREADS_PER_QUEUE);

/* The kernel's own generator never waits on a host that has booted; anything else may. */
static int check_source(const struct virtio_rng_params *params,
			const struct virtio_device_ops **ret_ops, struct err *err)
{
	struct stat st;

	*ret_ops = &rng_ops;
	if (params->fd < 0)
		return 0;
	if (fstat(params->fd, &st) < 0)
		return err_errno(err, errno, "rng '%s': cannot inspect its source", params->id);
	/* The daemon opens no others; one of them could block for ever. */
	if (!S_ISCHR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_set(
			err, EINVAL,
			"rng '%s': its source is neither a character device nor a regular file",
			params->id);
	if (!S_ISCHR(st.st_mode) || major(st.st_rdev) != MEM_MAJOR)
		*ret_ops = &slow_rng_ops;
	return 0;
}

int virtio_rng_new(const struct virtio_rng_params *params, struct virtio_device **ret,
		   struct err *err)
{
	static const uint16_t sizes[] = { QUEUE_SIZE };
	const struct virtio_device_ops *ops;
	struct virtio_rng *rng;
	int r;

	r = check_source(params, &ops, err);
	if (r < 0)
		return r;
	rng = calloc(1, sizeof(*rng));
	if (!rng)
		return err_errno(err, ENOMEM, "rng '%s'", params->id);
	rng->dev.features_offered = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				    VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				    VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	r = virtio_device_init(&rng->dev, ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(rng);
		return r;
	}
	rng->fd = params->fd;
	rng->counters[0] = (struct virtio_counter){ "bytes", &rng->bytes };
	*ret = &rng->dev;
	return 0;
}
