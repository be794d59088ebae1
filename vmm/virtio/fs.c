/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/fs.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/external-queues.h"
#include "vmm/virtio/vhost-user.h"

/* 5.11.4 */
struct fs_space {
	char tag[VIRTIO_FS_TAG_MAX];
	le32 num_request_queues;
};
static_assert(sizeof(struct fs_space) == 40, "virtio 1.3, 5.11.4");

struct virtio_fs {
	struct virtio_device dev;
	struct vhost_user backend;
	struct external_queues queues; /* the back end's */
};

static struct virtio_fs *virtio_fs(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_fs, dev);
}

/* --- what the back end is told --- */

static struct vhost_user *backend(struct external_queues *eq)
{
	return &virtio_fs(eq->dev)->backend;
}

static int start_queue(struct external_queues *eq, struct virtio_queue *q, int call_fd,
		       struct err *err)
{
	return vhost_user_start_queue(backend(eq), q, call_fd, err);
}

static int stop_queue(struct external_queues *eq, struct virtio_queue *q, uint16_t *ret_next_avail)
{
	return vhost_user_stop_queue(backend(eq), q, ret_next_avail);
}

static void set_call(struct external_queues *eq, struct virtio_queue *q, int call_fd)
{
	(void)vhost_user_set_call(backend(eq), q, call_fd);
}

static void failed(struct external_queues *eq)
{
	virtio_device_broken(eq->dev, "the connection to its virtiofsd has ended");
}

static const struct external_queues_ops fs_queues_ops = {
	.failed_events = EPOLLRDHUP,
	.start_queue = start_queue,
	.stop_queue = stop_queue,
	.set_call = set_call,
	.failed = failed,
};

/* --- the device --- */

static int fs_activate(struct virtio_device *dev, struct err *err)
{
	struct virtio_fs *fs = virtio_fs(dev);
	int r;

	r = vhost_user_set_up(&fs->backend, dev->features, dev->mem, err);
	if (r < 0)
		return r;
	external_queues_set_up(&fs->queues, &fs_queues_ops, dev, 0, dev->n_queues, fs->backend.fd);
	r = external_queues_start(&fs->queues, err);
	if (r < 0)
		external_queues_tear_down(&fs->queues);
	return r;
}

static void fs_reset(struct virtio_device *dev)
{
	external_queues_tear_down(&virtio_fs(dev)->queues);
}

static void fs_pause(struct virtio_device *dev)
{
	external_queues_stop(&virtio_fs(dev)->queues);
}

static void fs_resume(struct virtio_device *dev)
{
	struct err err = { 0 };

	if (external_queues_start(&virtio_fs(dev)->queues, &err) < 0)
		virtio_device_broken(dev, "%s", err.msg);
}

/* A back end need not expect new memory under queues that it serves. */
static int fs_memory_grown(struct virtio_device *dev, struct err *err)
{
	struct virtio_fs *fs = virtio_fs(dev);
	bool served = fs->queues.running;
	int r;

	external_queues_stop(&fs->queues);
	r = vhost_user_set_memory(&fs->backend, dev->mem, err);
	return r >= 0 && served ? external_queues_start(&fs->queues, err) : r;
}

static void fs_vector_changed(struct virtio_device *dev, struct virtio_queue *q)
{
	external_queues_vector_changed(&virtio_fs(dev)->queues, q);
}

/* Doorbells go to the back end. */
static void fs_kick(struct virtio_device *dev _unused_, struct virtio_queue *q _unused_)
{
}

static void fs_free(struct virtio_device *dev)
{
	struct virtio_fs *fs = virtio_fs(dev);

	virtio_device_deinit(dev);
	vhost_user_deinit(&fs->backend);
	free(fs);
}

static const struct virtio_device_ops fs_ops = {
	.name = "fs",
	.device_id = VIRTIO_ID_FS,
	.pci_class = 0x01, /* mass storage, other */
	.pci_subclass = 0x80,
	.threads = VIRTIO_THREADS_SHARED,
	.activate = fs_activate,
	.kick = fs_kick,
	.reset = fs_reset,
	.pause = fs_pause,
	.resume = fs_resume,
	.vector_changed = fs_vector_changed,
	.memory_grown = fs_memory_grown,
	.free = fs_free,
};

static int check(const struct virtio_fs_params *params, struct err *err)
{
	size_t len = strlen(params->tag);

	if (len == 0 || len > VIRTIO_FS_TAG_MAX)
		return err_set(err, EINVAL, "fs '%s': the tag has %zu bytes, must have 1 to %d",
			       params->id, len, VIRTIO_FS_TAG_MAX);
	if (params->n_queues == 0 || params->n_queues > VIRTIO_FS_QUEUES_MAX)
		return err_set(err, EINVAL, "fs '%s': %u queues, must be 1 to %d", params->id,
			       params->n_queues, VIRTIO_FS_QUEUES_MAX);
	return 0;
}

static int init(struct virtio_fs *fs, const struct virtio_fs_params *params, struct err *err)
{
	uint16_t sizes[1 + VIRTIO_FS_QUEUES_MAX], n = (uint16_t)(1 + params->n_queues);
	struct fs_space space = { .num_request_queues = le32_make(params->n_queues) };
	int r;

	for (uint16_t i = 0; i < n; i++)
		sizes[i] = params->queue_size;
	r = vhost_user_init(&fs->backend, params->fd, params->id, params->patience, err);
	if (r < 0)
		return err_prefix(err, r, "fs '%s'", params->id);
	if (n > fs->backend.n_queues_max)
		return err_set(err, EINVAL, "fs '%s': its virtiofsd serves %u queues, not %u",
			       params->id, fs->backend.n_queues_max - 1, params->n_queues);
	/* Rings are ours; of the device's own features none is. */
	fs->dev.features_offered =
		fs->backend.features &
		(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
		 VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	r = virtio_device_init(&fs->dev, &fs_ops, params->id, sizes, n, err);
	if (r < 0)
		return r;
	fs->backend.id = fs->dev.id;
	memcpy(space.tag, params->tag, strlen(params->tag)); /* 5.11.4: no NUL after 36 bytes */
	memcpy(fs->dev.config, &space, sizeof(space));
	fs->dev.config_size = sizeof(space);
	return 0;
}

int virtio_fs_new(const struct virtio_fs_params *params, struct virtio_device **ret,
		  struct err *err)
{
	struct virtio_fs *fs;
	int r;

	r = check(params, err);
	if (r < 0)
		return r;
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return err_errno(err, ENOMEM, "fs '%s'", params->id);
	r = init(fs, params, err);
	if (r < 0) {
		/* The descriptor stays the caller's. */
		fs->backend.id = NULL;
		free(fs);
		return r;
	}
	*ret = &fs->dev;
	return 0;
}
