/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pci modern transport and split virtqueues, driver side
 */
#include "tests/kvm/guest/virtio.h"

#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"

#define VIRTIO_VENDOR      0x1af4
#define VIRTIO_DEVICE_BASE 0x1040
#define CAP_CFG_TYPE       3
#define CAP_BAR            4
#define CAP_OFFSET         8
#define CAP_LENGTH         12
#define CAP_NOTIFY_MULT    16
#define VECTORS_MAX        12
#define FREE_LIST_END      0xffff

bool virtio_map(struct virtio_device *dev)
{
	uint8_t cap = 0;

	for (unsigned int i = 0; i < REGION_N_; i++)
		dev->region[i] = 0;
	while ((cap = pci_capability(dev->pci, PCI_CAP_VENDOR, cap))) {
		uint8_t type = (uint8_t)pci_read(dev->pci, cap + CAP_CFG_TYPE, 1);
		uint8_t bar = (uint8_t)pci_read(dev->pci, cap + CAP_BAR, 1);
		uint64_t base;

		/* the first capability of a type is the preferred one */
		if (type < 1 || type > REGION_N_ || bar > 5 || dev->region[type - 1])
			continue;
		base = pci_bar_map(dev->pci, bar);
		if (!base)
			continue;
		dev->region[type - 1] = base + pci_read(dev->pci, cap + CAP_OFFSET, 4);
		dev->region_len[type - 1] = pci_read(dev->pci, cap + CAP_LENGTH, 4);
		if (type - 1 == REGION_NOTIFY)
			dev->notify_multiplier = pci_read(dev->pci, cap + CAP_NOTIFY_MULT, 4);
	}
	dev->have_msix = pci_msix_enable(dev->pci);
	return dev->region[REGION_COMMON] && dev->region[REGION_NOTIFY] && dev->region[REGION_ISR];
}

bool virtio_find(enum virtio_type type, unsigned int nth, struct virtio_device *ret)
{
	struct virtio_device dev = {
		.pci = pci_find(VIRTIO_VENDOR, (uint16_t)(VIRTIO_DEVICE_BASE + type), nth),
		.vector = VECTOR_DEVICE + 1,
	};

	if (!dev.pci || !virtio_map(&dev))
		return false;
	dev.n_queues = mmio_read16(dev.region[REGION_COMMON] + COMMON_NUM_QUEUES);
	*ret = dev;
	return true;
}

uint8_t virtio_status(const struct virtio_device *dev)
{
	return mmio_read8(dev->region[REGION_COMMON] + COMMON_STATUS);
}

static bool is_reset(void *arg)
{
	return virtio_status(arg) == 0;
}

bool virtio_reset(struct virtio_device *dev)
{
	mmio_write8(dev->region[REGION_COMMON] + COMMON_STATUS, 0);
	return wait_until(is_reset, dev, 2000);
}

bool virtio_negotiate(struct virtio_device *dev, uint64_t wanted)
{
	uint64_t common = dev->region[REGION_COMMON];

	if (!virtio_reset(dev))
		return false;
	mmio_write8(common + COMMON_STATUS, VIRTIO_ACKNOWLEDGE);
	mmio_write8(common + COMMON_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	mmio_write32(common + COMMON_DEVICE_FEATURE_SELECT, 0);
	dev->offered = mmio_read32(common + COMMON_DEVICE_FEATURE);
	mmio_write32(common + COMMON_DEVICE_FEATURE_SELECT, 1);
	dev->offered |= (uint64_t)mmio_read32(common + COMMON_DEVICE_FEATURE) << 32;
	/* behind an IOMMU, which bypasses it until it is told otherwise, it wants to hear that */
	dev->features = dev->offered & (wanted | VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM);
	mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 0);
	mmio_write32(common + COMMON_DRIVER_FEATURE, (uint32_t)dev->features);
	mmio_write32(common + COMMON_DRIVER_FEATURE_SELECT, 1);
	mmio_write32(common + COMMON_DRIVER_FEATURE, (uint32_t)(dev->features >> 32));
	mmio_write8(common + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
	if (dev->have_msix) {
		pci_msix_set(dev->pci, 0, (uint8_t)(dev->vector - 1));
		pci_msix_mask(dev->pci, 0, false);
		mmio_write16(common + COMMON_CONFIG_VECTOR, 0);
	}
	return virtio_status(dev) & VIRTIO_FEATURES_OK;
}

void virtio_driver_ok(struct virtio_device *dev)
{
	mmio_write8(dev->region[REGION_COMMON] + COMMON_STATUS,
		    VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

void virtqueue_prepare(struct virtqueue *vq, uint16_t index, uint16_t size)
{
	if (!vq->desc) {
		vq->desc = alloc_pages(1);
		vq->avail = alloc_pages(1);
		vq->used = alloc_pages(1);
	}
	if (size > VIRTQUEUE_SIZE_MAX)
		size = VIRTQUEUE_SIZE_MAX;
	vq->index = index;
	vq->size = size;
	vq->last_used = 0;
	vq->free_head = 0;
	vq->n_free = size;
	for (uint16_t i = 0; i < size; i++)
		vq->desc[i].next = i + 1 < size ? (uint16_t)(i + 1) : FREE_LIST_END;
	/* two more bytes each for the event index behind the ring */
	memset((void *)vq->avail, 0, 4 + 2U * size + 2);
	memset((void *)vq->used, 0, 4 + 8U * size + 2);
}

static void write_address(uint64_t reg, const volatile void *address)
{
	mmio_write32(reg, (uint32_t)(uint64_t)address);
	mmio_write32(reg + 4, (uint32_t)((uint64_t)address >> 32));
}

void virtqueue_write_addresses(struct virtio_device *dev, const struct virtqueue *vq)
{
	uint64_t common = dev->region[REGION_COMMON];

	write_address(common + COMMON_QUEUE_DESC, vq->desc);
	write_address(common + COMMON_QUEUE_AVAIL, vq->avail);
	write_address(common + COMMON_QUEUE_USED, vq->used);
}

bool virtqueue_setup(struct virtio_device *dev, struct virtqueue *vq, uint16_t index, uint16_t size)
{
	uint64_t common = dev->region[REGION_COMMON];
	uint16_t max;

	mmio_write16(common + COMMON_QUEUE_SELECT, index);
	max = mmio_read16(common + COMMON_QUEUE_SIZE);
	if (!max)
		return false;
	virtqueue_prepare(vq, index, size && size < max ? size : max);
	mmio_write16(common + COMMON_QUEUE_SIZE, vq->size);
	virtqueue_write_addresses(dev, vq);
	vq->notify =
		dev->region[REGION_NOTIFY] +
		(uint64_t)mmio_read16(common + COMMON_QUEUE_NOTIFY_OFF) * dev->notify_multiplier;
	if (dev->have_msix && index < VECTORS_MAX) {
		pci_msix_set(dev->pci, (uint16_t)(index + 1), (uint8_t)(dev->vector + index));
		pci_msix_mask(dev->pci, (uint16_t)(index + 1), false);
		mmio_write16(common + COMMON_QUEUE_VECTOR, (uint16_t)(index + 1));
		/* 4.1.5.1.2.2: a device without room for the mapping answers NO_VECTOR */
		if (mmio_read16(common + COMMON_QUEUE_VECTOR) != index + 1)
			return false;
	}
	mmio_write16(common + COMMON_QUEUE_ENABLE, 1);
	return true;
}

int virtqueue_add(struct virtqueue *vq, const struct segment *segments, unsigned int n)
{
	uint16_t head = vq->free_head, i = head;

	if (n == 0 || n > vq->n_free)
		return -1;
	for (unsigned int k = 0; k < n; k++) {
		struct virtq_desc *desc = &vq->desc[i];

		desc->addr = (uint64_t)segments[k].buffer;
		desc->len = segments[k].len;
		desc->flags = (uint16_t)((segments[k].write ? VIRTQ_WRITE : 0) |
					 (k + 1 < n ? VIRTQ_NEXT : 0));
		i = desc->next;
	}
	vq->free_head = i;
	vq->n_free = (uint16_t)(vq->n_free - n);
	virtqueue_publish(vq, head);
	return head;
}

void virtqueue_publish(struct virtqueue *vq, uint16_t head)
{
	uint16_t idx = vq->avail->idx;

	vq->avail->ring[idx & (vq->size - 1)] = head;
	compiler_barrier();
	vq->avail->idx = (uint16_t)(idx + 1);
	compiler_barrier();
}

void virtqueue_kick(const struct virtqueue *vq)
{
	mmio_write16(vq->notify, vq->index);
}

bool virtqueue_has_used(const struct virtqueue *vq)
{
	return vq->used->idx != vq->last_used;
}

bool virtqueue_take(struct virtqueue *vq, struct virtq_used_elem *ret)
{
	uint16_t i;

	if (!virtqueue_has_used(vq))
		return false;
	compiler_barrier();
	ret->id = vq->used->ring[vq->last_used & (vq->size - 1)].id;
	ret->len = vq->used->ring[vq->last_used & (vq->size - 1)].len;
	vq->last_used++;
	if (ret->id >= vq->size)
		return true;
	vq->n_free++;
	for (i = (uint16_t)ret->id; vq->desc[i].flags & VIRTQ_NEXT; i = vq->desc[i].next)
		vq->n_free++;
	vq->desc[i].next = vq->free_head;
	vq->free_head = (uint16_t)ret->id;
	return true;
}

struct wait_args {
	struct virtio_device *dev;
	struct virtqueue *vq;
};

static bool used_or_broken(void *arg)
{
	const struct wait_args *wait = arg;

	return virtqueue_has_used(wait->vq) || (virtio_status(wait->dev) & VIRTIO_NEEDS_RESET);
}

enum virtio_outcome virtio_wait(struct virtio_device *dev, struct virtqueue *vq, uint32_t ms)
{
	struct wait_args wait = { dev, vq };

	wait_until(used_or_broken, &wait, ms);
	if (virtqueue_has_used(vq))
		return OUTCOME_USED;
	return virtio_status(dev) & VIRTIO_NEEDS_RESET ? OUTCOME_NEEDS_RESET : OUTCOME_NOTHING;
}

uint32_t virtio_interrupts(const struct virtio_device *dev, uint16_t index)
{
	return irq_count[dev->vector + index];
}
