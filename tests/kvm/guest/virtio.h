/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-pci modern transport and split virtqueues, driver side (virtio 1.3, 4.1 and 2.7)
 *
 * Two layers on purpose: virtqueue_add() and virtio_wait_used() are a well-behaved driver; the ring
 * pages and register addresses are public so that a scenario can do anything a driver must not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pci_device;

enum virtio_type {
	VIRTIO_NET = 1,
	VIRTIO_BLK = 2,
	VIRTIO_CONSOLE = 3,
	VIRTIO_RNG = 4,
	VIRTIO_BALLOON = 5,
	VIRTIO_RTC = 17,
	VIRTIO_VSOCK = 19,
	VIRTIO_IOMMU = 23,
	VIRTIO_PMEM = 27,
};

#define VIRTIO_BALLOON_STATS_VQ  (1ULL << 1)
#define VIRTIO_BALLOON_REPORTING (1ULL << 5)

#define VIRTIO_F_INDIRECT_DESC   (1ULL << 28)
#define VIRTIO_F_EVENT_IDX       (1ULL << 29)
#define VIRTIO_F_VERSION_1       (1ULL << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ULL << 33)

#define VIRTIO_ACKNOWLEDGE 1
#define VIRTIO_DRIVER      2
#define VIRTIO_DRIVER_OK   4
#define VIRTIO_FEATURES_OK 8
#define VIRTIO_NEEDS_RESET 0x40
#define VIRTIO_FAILED      0x80
#define VIRTIO_NO_VECTOR   0xffff

/* virtio_pci_common_cfg */
enum virtio_common {
	COMMON_DEVICE_FEATURE_SELECT = 0x00,
	COMMON_DEVICE_FEATURE = 0x04,
	COMMON_DRIVER_FEATURE_SELECT = 0x08,
	COMMON_DRIVER_FEATURE = 0x0c,
	COMMON_CONFIG_VECTOR = 0x10,
	COMMON_NUM_QUEUES = 0x12,
	COMMON_STATUS = 0x14,
	COMMON_GENERATION = 0x15,
	COMMON_QUEUE_SELECT = 0x16,
	COMMON_QUEUE_SIZE = 0x18,
	COMMON_QUEUE_VECTOR = 0x1a,
	COMMON_QUEUE_ENABLE = 0x1c,
	COMMON_QUEUE_NOTIFY_OFF = 0x1e,
	COMMON_QUEUE_DESC = 0x20,
	COMMON_QUEUE_AVAIL = 0x28,
	COMMON_QUEUE_USED = 0x30,
};

enum virtio_region {
	REGION_COMMON,
	REGION_NOTIFY,
	REGION_ISR,
	REGION_CONFIG,
	REGION_N_,
};

#define VIRTQ_NEXT     1
#define VIRTQ_WRITE    2
#define VIRTQ_INDIRECT 4

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct virtq_used_elem {
	uint32_t id, len;
};

struct virtq_avail {
	uint16_t flags, idx;
	uint16_t ring[];
};

struct virtq_used {
	uint16_t flags, idx;
	struct virtq_used_elem ring[];
};

#define VIRTQUEUE_SIZE_MAX 256

struct virtqueue {
	uint16_t index, size;
	uint16_t last_used, free_head, n_free;
	uint64_t notify; /* address of the doorbell */
	struct virtq_desc *desc;
	volatile struct virtq_avail *avail;
	volatile struct virtq_used *used;
};

struct virtio_device {
	struct pci_device *pci;
	uint64_t region[REGION_N_];
	uint32_t region_len[REGION_N_];
	uint32_t notify_multiplier;
	uint64_t offered, features;
	uint16_t n_queues;
	bool have_msix;
	uint8_t vector; /* of queue 0; configuration changes arrive at vector - 1 */
};

struct segment {
	const void *buffer;
	uint32_t len;
	bool write; /* the device writes it */
};

/* finds the @nth device of @type and maps its regions; false = not there */
bool virtio_find(enum virtio_type type, unsigned int nth, struct virtio_device *ret);
/* 4.1.4: the regions, again after the BAR moved */
bool virtio_map(struct virtio_device *dev);

uint8_t virtio_status(const struct virtio_device *dev);
/* writes 0 and waits until it reads back; false = never did */
bool virtio_reset(struct virtio_device *dev);
/* 3.1.1 up to FEATURES_OK, with VERSION_1, ACCESS_PLATFORM and what of @wanted is offered */
bool virtio_negotiate(struct virtio_device *dev, uint64_t wanted);
void virtio_driver_ok(struct virtio_device *dev);

/* empty ring of at most @size entries, enabled, interrupting at vector + index */
bool virtqueue_setup(struct virtio_device *dev, struct virtqueue *vq, uint16_t index,
		     uint16_t size);
/* ring memory and fields only: no register is touched */
void virtqueue_prepare(struct virtqueue *vq, uint16_t index, uint16_t size);
void virtqueue_write_addresses(struct virtio_device *dev, const struct virtqueue *vq);

/* a chain of @n segments, made available but not announced; returns its head or -1 when full */
int virtqueue_add(struct virtqueue *vq, const struct segment *segments, unsigned int n);
/* puts @head into the next avail entry and publishes it */
void virtqueue_publish(struct virtqueue *vq, uint16_t head);
void virtqueue_kick(const struct virtqueue *vq);
bool virtqueue_has_used(const struct virtqueue *vq);
/* takes one used element and frees its chain; false = there is none */
bool virtqueue_take(struct virtqueue *vq, struct virtq_used_elem *ret);

enum virtio_outcome {
	OUTCOME_USED,
	OUTCOME_NEEDS_RESET,
	OUTCOME_NOTHING,
};

/* waits for a used element or for DEVICE_NEEDS_RESET */
enum virtio_outcome virtio_wait(struct virtio_device *dev, struct virtqueue *vq, uint32_t ms);

/* interrupts of queue @index so far */
uint32_t virtio_interrupts(const struct virtio_device *dev, uint16_t index);
