/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's side of a virtio device, for unit tests
 *
 * struct mock_driver stands for guest and transport: fake guest RAM, feature
 * negotiation, the shared loop, interrupts as eventfds.  struct mock_queue is
 * one virtqueue in that RAM, with the careful driver's calls (add, kick, wait)
 * and the raw ones that a malicious driver makes (set_desc, publish).
 *
 * The test's main thread is control thread and guest at once.  Failures of the
 * fixture itself end the test.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/loop.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/virtio/device.h"

struct mock_driver;

struct mock_queue {
	struct mock_driver *driver;
	struct virtio_queue *q;
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	uint16_t next_desc; /* of add: descriptors are used round robin */
	uint16_t avail_idx;
	uint16_t seen_used; /* taken by wait */
	int irq_fd;
};

struct mock_driver {
	struct guest_mem mem;
	uint64_t alloc_gpa; /* next free byte of RAM */
	struct loop shared_loop;
	struct virtio_device *dev;
	struct mock_queue *queues;
	int config_fd; /* config interrupts */
};

struct mock_buf {
	uint64_t gpa;
	uint32_t len;
	bool writable;
};

/* Takes dev over. ram: bytes. */
void mock_driver_init(struct mock_driver *d, struct virtio_device *dev, uint64_t ram);
void mock_driver_deinit(struct mock_driver *d);
/* Accepts these of the offered features, sets all queues up, activates. */
void mock_driver_start(struct mock_driver *d, uint64_t features);
/* As above, with the result of activation. */
int mock_driver_try_start(struct mock_driver *d, uint64_t features, struct err *err);
void mock_driver_reset(struct mock_driver *d);

/* Guest RAM: zeroed, never freed. */
uint64_t mock_alloc(struct mock_driver *d, size_t len, size_t align);
uint64_t mock_put(struct mock_driver *d, const void *data, size_t len);
void mock_read(struct mock_driver *d, uint64_t gpa, void *buf, size_t len);
uint8_t mock_read_u8(struct mock_driver *d, uint64_t gpa);

/* Makes one chain available; returns its head. No doorbell. */
uint16_t mock_queue_add(struct mock_queue *mq, const struct mock_buf *bufs, size_t n);
/* The same through an indirect table. */
uint16_t mock_queue_add_indirect(struct mock_queue *mq, const struct mock_buf *bufs, size_t n);
void mock_queue_kick(struct mock_queue *mq);
/* The next element of the used ring; waits up to 10 s, then ends the test. */
uint16_t mock_queue_wait(struct mock_queue *mq, uint32_t *ret_len);
/* True when the device has returned nothing that wait did not take. */
bool mock_queue_idle(struct mock_queue *mq);
/* add + kick + wait; returns the length from the used ring. */
uint32_t mock_queue_do(struct mock_queue *mq, const struct mock_buf *bufs, size_t n);

void mock_queue_set_desc(struct mock_queue *mq, uint16_t i, uint64_t gpa, uint32_t len,
			 uint16_t flags, uint16_t next);
void mock_queue_publish(struct mock_queue *mq, uint16_t head);
void mock_queue_set_avail_idx(struct mock_queue *mq, uint16_t idx);
/* Event index: the device interrupts when it moves past idx. */
void mock_queue_set_used_event(struct mock_queue *mq, uint16_t idx);

/* Waits until the device has broken (up to 10 s, then ends the test). */
void mock_driver_wait_broken(struct mock_driver *d);
/* A value of dev->ops->counters by name. */
uint64_t mock_driver_counter(struct mock_driver *d, const char *name);
/* Waits until a counter has at least this value. */
void mock_driver_wait_counter(struct mock_driver *d, const char *name, uint64_t at_least);

/* The conformance test every device passes: resets, activations, pauses, state table. */
void mock_driver_conformance(struct mock_driver *d, uint64_t features);
