/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the vhost-user protocol (QEMU documentation, "Vhost-user Protocol",
 * "Message specification"), in the host's byte order
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
};

#define VHOST_USER_VERSION    0x1U
#define VHOST_USER_REPLY      0x4U
#define VHOST_USER_NEED_REPLY 0x8U

/* Feature bits: one of the virtio numbers is borrowed, the others have numbers of their own. */
#define VHOST_USER_F_PROTOCOL_FEATURES  30
#define VHOST_USER_PROTOCOL_F_MQ        0
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3

#define VHOST_USER_VRING_NO_FD 0x100U /* in SET_VRING_KICK and _CALL */

#define VHOST_USER_REGIONS_MAX 8U
struct vhost_user_region {
	uint64_t gpa, size, user_addr, mmap_off;
};
struct vhost_user_memory {
	uint32_t n, padding;
	struct vhost_user_region regions[VHOST_USER_REGIONS_MAX];
};
struct vhost_user_vring_state {
	uint32_t index, num;
};
struct vhost_user_vring_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log; /* user addresses */
};

struct vhost_user_header {
	uint32_t request, flags, size;
};
static_assert(sizeof(struct vhost_user_header) == 12, "vhost-user, Header");
union vhost_user_payload {
	uint64_t u64;
	struct vhost_user_vring_state state;
	struct vhost_user_vring_addr addr;
	struct vhost_user_memory memory;
};
static_assert(sizeof(struct vhost_user_memory) == 8 + 8 * 32, "vhost-user, Memory regions");
static_assert(sizeof(struct vhost_user_vring_addr) == 40, "vhost-user, vring address");
