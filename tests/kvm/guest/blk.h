/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk driver: one request at a time, or many (virtio 1.3, 5.2)
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/kvm/guest/virtio.h"

#define BLK_F_RO           (1ULL << 5)
#define BLK_F_FLUSH        (1ULL << 9)
#define BLK_F_MQ           (1ULL << 12)
#define BLK_F_DISCARD      (1ULL << 13)
#define BLK_F_WRITE_ZEROES (1ULL << 14)
#define BLK_T_IN           0
#define BLK_T_OUT          1 /* also a bit of every type whose data the device reads */
#define BLK_T_FLUSH        4
#define BLK_T_GET_ID       8
#define BLK_T_DISCARD      11
#define BLK_T_WRITE_ZEROES 13
#define BLK_S_OK           0
#define BLK_S_IOERR        1
#define BLK_S_UNSUPP       2
#define BLK_SECTOR         512
#define BLK_QUEUES         8
#define BLK_SLOTS          32
#define BLK_CFG_CAPACITY   0
#define BLK_CFG_NUM_QUEUES 34
#define BLK_STATUS_UNSET   0xee

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* memory of one request, never moved while the device may look at it */
struct blk_slot {
	struct blk_header header;
	volatile uint8_t status;
	uint8_t *data;
	int head; /* of its chain, -1 = idle */
};

struct blk {
	struct virtio_device dev;
	struct virtqueue queue[BLK_QUEUES];
	uint16_t n_queues;
	struct blk_slot slot[BLK_SLOTS];
	uint64_t capacity;
};

/* finds device nth=, negotiates @features, one queue or all of them; false = skipped or failed,
 * and said so */
bool blk_open(struct blk *blk, uint64_t features, bool all_queues);
/* from reset to DRIVER_OK */
bool blk_start(struct blk *blk, uint64_t features, bool all_queues);

/* one request of up to a page on @queue, waited for; the status byte, or -1 and it said why.
 * @data NULL: none */
int blk_request(struct blk *blk, unsigned int queue, uint32_t type, uint64_t sector, void *data,
		uint32_t len);

/* starts a request on @slot without kick; false when the ring is full */
bool blk_submit(struct blk *blk, unsigned int queue, unsigned int slot, uint32_t type,
		uint64_t sector, uint32_t len);
/* takes what is used on @queue; returns how many, *ret_bad counts statuses other than OK */
unsigned int blk_reap(struct blk *blk, unsigned int queue, unsigned int *ret_bad);
