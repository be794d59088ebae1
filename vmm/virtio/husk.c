/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/husk.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cleanup.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"

#define PMEM_EIO 1U /* 5.19.7: struct virtio_pmem_resp.ret */

struct husk {
	struct virtio_device dev;
	struct virtio_device_ops ops; /* with name and ids of the device it stands in for */
	/* Writes the answer to one request and says how long it is: 0 and more, or -EBADMSG. */
	int (*answer)(struct virtio_queue *q, const struct virtq_chain *chain);
};

static struct husk *husk_of(struct virtio_device *dev)
{
	return container_of(dev, struct husk, dev);
}

/* --- answers ---------------------------------------------------------------------- */

static int answer_blk(struct virtio_queue *q, const struct virtq_chain *chain)
{
	const uint8_t status = VIRTIO_BLK_S_IOERR;

	/* The status is the last byte, wherever the driver put it. */
	if (chain->writable_len == 0)
		return -EBADMSG;
	return virtq_chain_write(q, chain, chain->writable_len - 1, &status, 1) < 0 ? -EBADMSG : 1;
}

static int answer_pmem(struct virtio_queue *q, const struct virtq_chain *chain)
{
	uint8_t resp[4];

	bytes_put_le(resp, sizeof(resp), PMEM_EIO);
	return virtq_chain_write(q, chain, 0, resp, sizeof(resp)) < 0 ? -EBADMSG
								      : (int)sizeof(resp);
}

static int answer_fs(struct virtio_queue *q, const struct virtq_chain *chain)
{
	struct fuse_in_header in;
	struct fuse_out_header out = { .len = sizeof(out), .error = -ENOTCONN };

	if (chain->writable_len == 0)
		return 0; /* FORGET wants no answer */
	if (virtq_chain_read(q, chain, 0, &in, sizeof(in)) < 0)
		return -EBADMSG;
	out.unique = in.unique;
	return virtq_chain_write(q, chain, 0, &out, sizeof(out)) < 0 ? -EBADMSG : (int)sizeof(out);
}

/* Only of the control queue: frames have none. */
static int answer_net(struct virtio_queue *q, const struct virtq_chain *chain)
{
	const uint8_t ack = VIRTIO_NET_ERR;

	if (chain->writable_len == 0)
		return 0;
	return virtq_chain_write(q, chain, 0, &ack, 1) < 0 ? -EBADMSG : 1;
}

static int answer_vsock(struct virtio_queue *q _unused_, const struct virtq_chain *chain _unused_)
{
	return 0;
}

/* Buffers of such a queue wait for what the device has to say: they stay where they are. */
static bool is_for_input(const struct virtio_queue *q)
{
	const struct virtio_device *dev = q->dev;

	if (dev->ops->device_id == VIRTIO_ID_VSOCK)
		return q->index != 1; /* 5.10.2: rx, tx, event */
	if (dev->ops->device_id != VIRTIO_ID_NET)
		return false;
	/* 5.1.2: pairs of receive and transmit, and the control queue behind them */
	if (q->index == (virtio_has_feature(dev, VIRTIO_NET_F_MQ) ? dev->n_queues - 1 : 2))
		return !virtio_has_feature(dev, VIRTIO_NET_F_CTRL_VQ);
	return q->index % 2 == 0;
}

/* --- device ops --------------------------------------------------------------------- */

static int take(struct virtio_queue *q, void *data)
{
	struct husk *husk = data;
	struct virtq_chain chain;
	int r = virtio_queue_pop(q, &chain);

	if (r <= 0)
		return r;
	r = husk->answer(q, &chain);
	if (r < 0)
		return r;
	virtio_queue_push(q, chain.head, (uint32_t)r);
	return 1;
}

static void husk_kick(struct virtio_device *dev, struct virtio_queue *q)
{
	if (!is_for_input(q) && virtio_queue_serve(q, take, husk_of(dev)) < 0)
		virtio_device_broken(dev, "queue %u: malformed request", q->index);
}

static int husk_activate(struct virtio_device *dev _unused_, struct err *err _unused_)
{
	return 0;
}

static void husk_reset(struct virtio_device *dev _unused_)
{
	/* Requests are answered as they are taken: nothing is ever in flight. */
}

static void husk_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
	free(husk_of(dev));
}

static const struct {
	uint16_t device_id;
	int (*answer)(struct virtio_queue *q, const struct virtq_chain *chain);
} kinds[] = {
	{ VIRTIO_ID_BLOCK, answer_blk },   { VIRTIO_ID_NET, answer_net },
	{ VIRTIO_ID_PMEM, answer_pmem },   { VIRTIO_ID_FS, answer_fs },
	{ VIRTIO_ID_VSOCK, answer_vsock },
};

int virtio_husk_new(struct virtio_device *dev, struct virtio_device **ret, struct err *err)
{
	_cleanup_free_ uint16_t *sizes = calloc(dev->n_queues, sizeof(*sizes));
	struct husk *husk = calloc(1, sizeof(*husk));
	int r;

	if (!sizes || !husk) {
		free(husk);
		return err_set(err, ENOMEM, "device '%s': out of memory", dev->id);
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].device_id == dev->ops->device_id)
			husk->answer = kinds[i].answer;
	assert(husk->answer);
	husk->ops = (struct virtio_device_ops){
		.name = dev->ops->name,
		.device_id = dev->ops->device_id,
		.pci_class = dev->ops->pci_class,
		.pci_subclass = dev->ops->pci_subclass,
		.threads = VIRTIO_THREADS_SHARED,
		.activate = husk_activate,
		.kick = husk_kick,
		.reset = husk_reset,
		.free = husk_free,
	};
	for (uint16_t i = 0; i < dev->n_queues; i++)
		sizes[i] = dev->queues[i].size_max;
	r = virtio_device_init(&husk->dev, &husk->ops, dev->id, sizes, dev->n_queues, err);
	if (r < 0) {
		free(husk);
		return r;
	}
	husk->dev.mem = dev->mem;
	husk->dev.iova = dev->iova;
	husk->dev.shared_loop = dev->shared_loop;
	husk->dev.thread_enter = dev->thread_enter;
	husk->dev.features_offered = dev->features_offered;
	husk->dev.config_size = dev->config_size;
	/* The device's threads may still change it. */
	pthread_mutex_lock(&dev->lock);
	husk->dev.config_generation = dev->config_generation;
	memcpy(husk->dev.config, dev->config, sizeof(dev->config));
	pthread_mutex_unlock(&dev->lock);
	*ret = &husk->dev;
	return 0;
}

void virtio_husk_take_queues(struct virtio_device *husk, const struct virtio_device *dev)
{
	husk->features = dev->features;
	for (uint16_t i = 0; i < husk->n_queues; i++)
		husk->queues[i].st = dev->queues[i].st;
}
