/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/pmem.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pmem.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/log.h"
#include "vmm/base/math.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

#define QUEUE_SIZE 64

/* 5.19.6: struct virtio_pmem_resp.ret */
#define RESP_OK  0U
#define RESP_EIO 1U

enum {
	COUNTER_FLUSH_OPS,
	COUNTER_ERRORS,
	COUNTER_N_,
};

struct virtio_pmem {
	struct virtio_device dev;
	int fd; /* I/O thread while active */
	bool discard_writes;
	struct guest_mem *mem;
	uint64_t gpa;
	_Atomic uint64_t values[COUNTER_N_]; /* relaxed, sums only */
	struct virtio_counter counters[COUNTER_N_ + 1];
};

static struct virtio_pmem *virtio_pmem(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_pmem, dev);
}

static void count(struct virtio_pmem *pmem, unsigned int counter)
{
	atomic_fetch_add_explicit(&pmem->values[counter], 1, memory_order_relaxed);
}

/* fsync writes back what the guest dirtied through its mapping, and the host's file metadata. */
static uint32_t flush(struct virtio_pmem *pmem)
{
	if (!pmem->discard_writes && fsync(pmem->fd) < 0) {
		log_guest("pmem '%s': flush failed: %s", pmem->dev.id, strerrordesc_np(errno));
		count(pmem, COUNTER_ERRORS);
		return RESP_EIO;
	}
	count(pmem, COUNTER_FLUSH_OPS);
	return RESP_OK;
}

/* One request: 1, 0 none, -EBADMSG. */
static int take(struct virtio_queue *q, void *data)
{
	struct virtio_pmem *pmem = data;
	struct virtio_pmem_req req = { 0 };
	uint8_t resp[sizeof(struct virtio_pmem_resp)];
	struct virtq_chain chain;
	uint32_t status;
	int r;

	r = virtio_queue_pop(q, &chain);
	if (r <= 0)
		return r;
	if (virtq_chain_read(q, &chain, 0, &req, sizeof(req)) < 0 ||
	    chain.writable_len < sizeof(resp))
		return -EBADMSG;
	if (bytes_get_le((const uint8_t *)&req.type, 4) == VIRTIO_PMEM_REQ_TYPE_FLUSH) {
		status = flush(pmem);
	} else {
		count(pmem, COUNTER_ERRORS);
		status = RESP_EIO;
	}
	bytes_put_le(resp, sizeof(resp), status);
	if (virtq_chain_write(q, &chain, 0, resp, sizeof(resp)) < 0)
		return -EBADMSG;
	virtio_queue_push(q, chain.head, sizeof(resp));
	return 1;
}

static void pmem_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	/* An fsync takes as long as it likes; control waits for one at most (pause, reset). */
	if (virtio_queue_serve_some(q, 1, take, virtio_pmem(dev)) < 0)
		virtio_device_broken(dev, "malformed request");
}

static int pmem_activate(struct virtio_device *dev _unused_, struct err *err _unused_)
{
	return 0;
}

static void pmem_reset(struct virtio_device *dev _unused_)
{
	/* Requests are answered as they are taken: nothing is ever in flight. */
}

static const struct virtio_counter *pmem_counters(struct virtio_device *dev)
{
	return virtio_pmem(dev)->counters;
}

static void pmem_free(struct virtio_device *dev)
{
	struct virtio_pmem *pmem = virtio_pmem(dev);

	virtio_device_deinit(dev);
	guest_mem_remove_device(pmem->mem, pmem->gpa);
	close(pmem->fd);
	free(pmem);
}

static const struct virtio_device_ops pmem_ops = {
	.name = "pmem",
	.device_id = VIRTIO_ID_PMEM,
	.pci_class = 0x05, /* memory */
	.pci_subclass = 0x80,
	.threads = VIRTIO_THREADS_PER_QUEUE,
	.activate = pmem_activate,
	.kick = pmem_kick,
	.reset = pmem_reset,
	.counters = pmem_counters,
	.free = pmem_free,
};

int virtio_pmem_size(int fd, uint64_t size, uint64_t *ret, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot inspect the file");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "is not a regular file");
	/* A page behind the end of the file would be a bus error. */
	if (size > (uint64_t)st.st_size)
		return err_set(err, EINVAL, "the file has %llu bytes, less than size, %llu",
			       (unsigned long long)st.st_size, (unsigned long long)size);
	if (!size)
		size = (uint64_t)st.st_size;
	if (size == 0 || size % VIRTIO_PMEM_ALIGN)
		return err_set(err, EINVAL,
			       "the file has %llu bytes, must have a multiple of 2 MiB, or give "
			       "size",
			       (unsigned long long)size);
	*ret = size;
	return 0;
}

static int map(struct virtio_pmem *pmem, const struct virtio_pmem_params *params, uint64_t size,
	       struct err *err)
{
	int flags = params->discard_writes ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
	int r = guest_mem_add_device(params->mem, params->gpa, size, params->fd, flags, err);

	if (r < 0)
		return r;
	/* 5.19.4 */
	pmem->dev.config_size = sizeof(struct virtio_pmem_config);
	bytes_put_le(pmem->dev.config, 8, params->gpa);
	bytes_put_le(pmem->dev.config + 8, 8, size);
	return 0;
}

int virtio_pmem_new(const struct virtio_pmem_params *params, struct virtio_device **ret,
		    struct err *err)
{
	static const char *const names[COUNTER_N_] = { "flush_ops", "errors" };
	static const uint16_t sizes[] = { QUEUE_SIZE };
	struct virtio_pmem *pmem;
	uint64_t size;
	int r;

	r = virtio_pmem_size(params->fd, params->size, &size, err);
	if (r < 0)
		return r;
	pmem = calloc(1, sizeof(*pmem));
	if (!pmem)
		return err_errno(err, ENOMEM, "pmem '%s'", params->id);
	pmem->dev.features_offered = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
				     VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
				     VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);
	r = virtio_device_init(&pmem->dev, &pmem_ops, params->id, sizes, ARRAY_SIZE(sizes), err);
	if (r < 0) {
		free(pmem);
		return r;
	}
	r = map(pmem, params, size, err);
	if (r < 0) {
		virtio_device_deinit(&pmem->dev);
		free(pmem);
		return r;
	}
	pmem->fd = params->fd;
	pmem->mem = params->mem;
	pmem->gpa = params->gpa;
	pmem->discard_writes = params->discard_writes;
	for (unsigned int i = 0; i < COUNTER_N_; i++)
		pmem->counters[i] = (struct virtio_counter){ names[i], &pmem->values[i] };
	*ret = &pmem->dev;
	return 0;
}
