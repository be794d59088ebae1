/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `disks` becomes virtio-blk
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/block/block.h"
#include "vmm/block/detect.h"
#include "vmm/config/device-list.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/transport-pci.h"
#include "vmm/vm/devices.h"
#include "vmm/vm/limits.h"
#include "vmm/vm/vm.h"

/* What block.h calls the configuration's types; NULL where nothing was said, which is raw. */
static const char *const stated[IMAGE_TYPE_N_] = {
	[IMAGE_TYPE_RAW] = "raw",
	[IMAGE_TYPE_QCOW2] = "qcow2",
	[IMAGE_TYPE_VHD] = "vhd",
	[IMAGE_TYPE_VHDX] = "vhdx",
};

static int find_format(enum image_type type, int fd, const struct block_format_ops **ret,
		       struct err *err)
{
	const char *name = stated[type];

	*ret = block_format_by_name(name ?: "raw");
	if (!*ret)
		return err_fault(err, FAULT_UNSUPPORTED, EOPNOTSUPP,
				 "image_type %s is not supported yet", image_type_to_string(type));
	return block_check_stated(fd, name, err);
}

static void close_backing(struct block_backing *backing, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		close(backing[i].fd);
}

/* File i of the chain, as the daemon names it: "/disks/0/path/backing/1/qcow2"; 1, or 0 none. */
static int dup_backing(struct vm *vm, const char *path, unsigned int i, struct block_backing *ret,
		       struct err *err)
{
	static const char *const formats[] = { "raw", "qcow2" };
	char name[128];

	for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
		snprintf(name, sizeof(name), "%s/backing/%u/%s", path, i, formats[f]);
		if (resources_get(&vm->resources, name, NULL) < 0)
			continue;
		ret->format = block_format_by_name(formats[f]);
		ret->fd = resources_take(&vm->resources, name, err);
		return ret->fd < 0 ? ret->fd : 1;
	}
	return 0;
}

/* Number of files behind the image, or -errno. */
static int dup_chain(struct vm *vm, const char *path, struct block_backing *ret, struct err *err)
{
	unsigned int n = 0;
	int r = 1;

	static_assert(VM_DISK_FILES_MAX == BLOCK_FILES_MAX, "the daemon opens as many as fit");
	while (n < BLOCK_FILES_MAX - 1 && (r = dup_backing(vm, path, n + 1, &ret[n], err)) > 0)
		n++;
	if (r < 0) {
		close_backing(ret, n);
		return r;
	}
	return (int)n;
}

static int new_disk(struct vm *vm, const struct disk_config *disk, struct virtio_blk_params *params,
		    struct virtio_device **ret, struct err *err)
{
	struct virtio_blk_affinity affinity[VM_DISK_QUEUES_MAX];
	struct block_backing backing[BLOCK_FILES_MAX];
	int n, r;

	assert(disk->n_queue_affinity <= ARRAY_SIZE(affinity));
	for (size_t i = 0; i < disk->n_queue_affinity; i++)
		affinity[i] = (struct virtio_blk_affinity){
			.queue = disk->queue_affinity[i].queue_index,
			.host_cpus = disk->queue_affinity[i].host_cpus,
			.n_host_cpus = disk->queue_affinity[i].n_host_cpus,
		};
	params->affinity = affinity;
	params->n_affinity = disk->n_queue_affinity;
	r = find_format(disk->image_type, params->fd, &params->format, err);
	if (r >= 0)
		r = vm_limits_of_disk(vm, (size_t)(disk - vm->config->disks), &params->limiter,
				      err);
	if (r < 0)
		return r;
	n = dup_chain(vm, disk->path, backing, err);
	if (n < 0)
		return n;
	params->backing = backing;
	params->n_backing = (unsigned int)n;
	r = virtio_blk_new(params, ret, err);
	if (r < 0)
		close_backing(backing, (unsigned int)n);
	return r;
}

static int create_disk(struct vm *vm, const struct config_device *device, struct err *err)
{
	const struct disk_config *disk = &vm->config->disks[device->index];
	struct virtio_blk_params params = {
		.id = device->id,
		.readonly = disk->readonly,
		.direct = disk->direct,
		.keep_allocated = !disk->sparse,
		.without_engines = (disk->disable_io_uring ? BLOCK_WITHOUT_URING : 0) |
				   (disk->disable_aio ? BLOCK_WITHOUT_AIO : 0),
		.serial = disk->serial,
		.n_queues = disk->num_queues,
		.queue_size = disk->queue_size,
	};
	struct virtio_device *dev = NULL;
	int r;

	params.fd = resources_take(&vm->resources, disk->path, err);
	if (params.fd < 0)
		return err_prefix(err, params.fd, "disk '%s'", device->id);
	r = new_disk(vm, disk, &params, &dev, err);
	if (r < 0) {
		close(params.fd);
		return resources_blame(err_prefix(err, r, "%s", disk->path), err);
	}
	return vm_plug_virtio(vm, &vm_disk_kind, device, dev, err);
}

static bool is_paused(const struct vm_device *dev)
{
	return dev->vm->state == VM_STATE_PAUSED;
}

static int resize_disk(struct vm_device *dev, uint64_t bytes, struct err *err)
{
	return virtio_blk_resize(dev->vp->dev, bytes, is_paused(dev), err);
}

static int replace_disk(struct vm_device *dev, const char *pointer, const char *type,
			struct err *err)
{
	struct disk_config *disk = &dev->vm->config->disks[dev->index];
	struct block_backing backing[BLOCK_FILES_MAX];
	struct virtio_blk_medium medium = { .backing = backing };
	enum image_type image_type = IMAGE_TYPE_UNKNOWN;
	int r;

	if (type[0] && image_type_from_string(type, &image_type) < 0)
		return err_fault(err, FAULT_BAD_ARGUMENT, EINVAL, "'%s' is no type of an image",
				 type);
	medium.fd = resources_take(&dev->vm->resources, pointer, err);
	if (medium.fd < 0)
		return err_prefix(err, medium.fd, "disk '%s'", dev->id);
	r = find_format(image_type, medium.fd, &medium.format, err);
	if (r >= 0)
		r = dup_chain(dev->vm, pointer, backing, err);
	if (r < 0) {
		close(medium.fd);
	} else {
		medium.n_backing = (unsigned int)r;
		r = virtio_blk_replace(dev->vp->dev, &medium, is_paused(dev), err);
	}
	if (r < 0)
		return resources_blame(err_prefix(err, r, "%s", pointer), err);
	disk->image_type = image_type;
	return 0;
}

static size_t disk_values(struct vm_device *dev, struct vm_device_value ret[VM_DEVICE_VALUES_MAX])
{
	struct virtio_device *blk = dev->vp->dev;
	const char *engine = virtio_blk_engine(blk);
	uint64_t sectors;

	/* 5.2.4: the capacity is what config space begins with. */
	pthread_mutex_lock(&blk->lock);
	sectors = bytes_get_le(blk->config, 8);
	pthread_mutex_unlock(&blk->lock);
	ret[0] = (struct vm_device_value){ "size", VM_VALUE_U64, .u = sectors * BLOCK_SECTOR };
	ret[1] = (struct vm_device_value){ "images", VM_VALUE_U64, .u = virtio_blk_n_images(blk) };
	if (!engine)
		return 2;
	ret[2] = (struct vm_device_value){ "engine", VM_VALUE_STRING, .s = engine };
	return 3;
}

const struct vm_device_kind vm_disk_kind = {
	.key = "disks",
	.create = create_disk,
	.resize_disk = resize_disk,
	.replace_disk = replace_disk,
	.values = disk_values,
};
