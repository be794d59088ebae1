/* SPDX-License-Identifier: Apache-2.0 */
/*
 * victims: devices that malformed-driver scenarios attack
 *
 * A victim knows one well-formed request of its device as a chain of descriptors 0..n-1, how to
 * tell that the request succeeded, and how to see that the device still works after a reset. A case
 * starts from the well-formed chain, breaks one thing and says what happened.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/kvm/guest/virtio.h"

#define VICTIM_QUEUE_SIZE 16

struct victim;

struct victim_type {
	const char *name;
	enum virtio_type device;
	uint16_t queue;       /* the one attacked */
	uint16_t other_queue; /* set up beside it so that the device is complete; 0xffff = none */
	void (*build)(struct victim *v);
	/* a completion that claims success */
	bool (*succeeded)(const struct victim *v, uint32_t used_len);
	uint64_t features; /* always wanted */
	bool frees;        /* takes page numbers: random ones could be the guest's own code */
};

struct victim {
	const struct victim_type *type;
	struct virtio_device dev;
	struct virtqueue vq, other;
	uint8_t *page;    /* request memory: header at 0, data at 1024, status at 3072 */
	uint16_t n, data; /* length of the chain, its payload descriptor */
};

#define VICTIM_DATA   1024
#define VICTIM_STATUS 3072

/* runs @attack on every device dev= names that is there */
void victim_each(void (*attack)(struct victim *v));

/* the IOMMU's name for the entropy source, which is to be behind it */
uint32_t victim_endpoint(void);

/* reset, negotiate, other queue; the attacked queue is left to the caller */
bool victim_negotiate(struct victim *v, uint64_t features);
/* from reset to DRIVER_OK with an empty ring; the chain is in descriptors 0..n-1, not available */
bool victim_start(struct victim *v, uint64_t features);
/* a full cycle from reset: one good request */
bool victim_works(struct victim *v);

/* doorbell, wait, verdict on @name: error or NEEDS_RESET, then good again after a reset */
void victim_settle(struct victim *v, const char *name);
/* only the second half: whatever happened, a reset makes it work */
void victim_recovers(struct victim *v, const char *name);
