/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is common to all virtio devices (virtio 1.3, 2)
 *
 * A device is a `const struct virtio_device_ops` and a struct that embeds
 * struct virtio_device.  The transport (transport-pci.c) holds the device and
 * drives it: features, status, activation, reset; the device knows no
 * transport.  Life of a device, all on the control thread:
 *
 *   xxx_new() -> virtio_device_init() ... activate -> [pause -> resume]* ->
 *   reset -> activate -> ... -> free
 *
 * Between activate and reset its queues belong to I/O threads, chosen by
 * ops->threads.  Every op below runs on the control thread with the device's
 * queues parked or stopped, except kick().
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/loop.h"
#include "vmm/base/state.h"
#include "vmm/virtio/queue.h"

struct err;
struct guest_mem;
struct virtio_device;

enum virtio_threads {
	VIRTIO_THREADS_SHARED,    /* the one thread of all low-rate devices */
	VIRTIO_THREADS_PER_QUEUE, /* virtio-blk */
	VIRTIO_THREADS_PER_PAIR,  /* virtio-net: queues 2n and 2n+1; a last odd one is shared */
};

struct virtio_counter {
	const char *name;        /* "read_bytes" */
	_Atomic uint64_t *value; /* written with relaxed order by its owner thread */
};

struct virtio_device_ops {
	const char *name;   /* "blk": config, log, snapshot, D-Bus */
	uint16_t device_id; /* virtio 1.3, 5 */
	uint8_t pci_class, pci_subclass;
	enum virtio_threads threads;
	const struct state_desc *state; /* of the device's own state; NULL = none */
	/* Queues are started, nothing is served yet. Register sources with loop_call/loop_add. */
	int (*activate)(struct virtio_device *dev, struct err *err);
	/* The queue's I/O thread: the driver made requests available. */
	void (*kick)(struct virtio_device *dev, struct virtio_queue *q);
	/* vCPU thread, dev->lock held: the driver wrote config space; optional. */
	void (*config_write)(struct virtio_device *dev, uint32_t off, const void *buf,
			     uint32_t len);
	/* Finish or abandon what is in flight; after it no I/O touches guest memory. */
	void (*reset)(struct virtio_device *dev);
	/* Optional: finish what is in flight (threads still run), and start again. */
	void (*pause)(struct virtio_device *dev);
	void (*resume)(struct virtio_device *dev);
	/* Optional, active device: queue_call_fd() of q has another answer now. */
	void (*vector_changed)(struct virtio_device *dev, struct virtio_queue *q);
	/* Optional, active device: there is more RAM, who serves its queues is to know. */
	int (*memory_grown)(struct virtio_device *dev, struct err *err);
	void *(*state_ptr)(struct virtio_device *dev); /* struct that ops->state describes */
	/*
	 * Optional: n_tables more tables of state; the device paused or inactive.  load comes
	 * after the struct above has been assigned, puts that in force too, and checks all
	 * before it changes anything.
	 */
	size_t n_tables;
	int (*save_tables)(struct virtio_device *dev, struct state_table *ret, struct err *err);
	int (*load_tables)(struct virtio_device *dev, const struct state_table *tables,
			   struct err *err);
	/* NULL-name-terminated; optional */
	const struct virtio_counter *(*counters)(struct virtio_device *dev);
	void (*free)(struct virtio_device *dev);
};

/* How a device reaches its transport; set by the transport. */
struct virtio_transport_ops {
	void (*queue_interrupt)(void *transport, struct virtio_queue *q); /* I/O thread */
	void (*config_interrupt)(void *transport);                        /* any thread */
	/*
	 * Control thread: an eventfd that interrupts for q when it is signalled, or
	 * -EBADF when the driver wants no interrupt; it stays the transport's.  For queues
	 * that somebody else serves; ops->vector_changed tells when it is another.
	 */
	int (*queue_call_fd)(void *transport, struct virtio_queue *q);
};

#define VIRTIO_CONFIG_MAX 256

struct virtio_device {
	const struct virtio_device_ops *ops;
	char id[64]; /* the configuration's id */
	struct guest_mem *mem;
	struct iova_endpoint *iova; /* what the driver's addresses mean; NULL: guest-physical */
	struct loop *shared_loop;
	int (*thread_enter)(enum thread_role role, struct err *err);

	const struct virtio_transport_ops *transport;
	void *transport_data;

	/*
	 * Registers.  Owner: the vCPU that holds lock; while the device is
	 * active config may be changed by the device under lock too.
	 */
	pthread_mutex_t lock;
	uint64_t features_offered, features; /* features: what the driver acked */
	uint8_t status;
	uint8_t config_generation;
	uint8_t config[VIRTIO_CONFIG_MAX]; /* the device's config struct, little endian */
	uint32_t config_size;

	/* Set by who plugs it in: a value, which is no counter, changed (vmm/vm/devices.h). */
	void (*values_changed)(void *data);
	void *values_changed_data;

	struct virtio_queue *queues;
	uint16_t n_queues;
	struct loop *loops; /* own I/O threads, n_loops of them, while active */
	uint16_t n_loops;
	bool active;
	atomic_bool broken;      /* set on any thread, cleared by reset */
	atomic_bool broken_news; /* set with it, cleared by who tells the world */
};

/* Control thread. queue_sizes: n_queues entries. The device is owned by its creator until free. */
int virtio_device_init(struct virtio_device *dev, const struct virtio_device_ops *ops,
		       const char *id, const uint16_t *queue_sizes, uint16_t n_queues,
		       struct err *err);
void virtio_device_deinit(struct virtio_device *dev);

/* Transport, control thread. A failed activate leaves the device inactive and broken. */
int virtio_device_activate(struct virtio_device *dev, struct err *err);
void virtio_device_reset(struct virtio_device *dev);
/* What of a reset is the device's: it serves its queues no more, what the driver wrote stays. */
void virtio_device_stop(struct virtio_device *dev);
void virtio_device_pause(struct virtio_device *dev);
void virtio_device_resume(struct virtio_device *dev);
/* dev->mem has a region more; vCPUs and its threads may run. What cannot use it breaks. */
void virtio_device_grow_memory(struct virtio_device *dev);

static inline bool virtio_has_feature(const struct virtio_device *dev, unsigned int bit)
{
	return dev->features & (1ULL << bit);
}

/* Any thread: NEEDS_RESET, config interrupt, queues stop being served, one log line. */
void virtio_device_broken(struct virtio_device *dev, const char *fmt, ...) _printf_(2, 3);
static inline bool virtio_device_is_broken(const struct virtio_device *dev)
{
	/* pairs with the release in virtio_device_broken and reset */
	return atomic_load_explicit(&dev->broken, memory_order_acquire);
}
/* Control thread: true once for each time that it broke; values_changed() has told then. */
static inline bool virtio_device_take_broken_news(struct virtio_device *dev)
{
	return atomic_exchange_explicit(&dev->broken_news, false, memory_order_acq_rel);
}
/* Any thread: one of the device's values changed; allocates nothing, takes a leaf lock. */
static inline void virtio_device_values_changed(struct virtio_device *dev)
{
	if (dev->values_changed)
		dev->values_changed(dev->values_changed_data);
}
/* Any thread: dev->config was changed under dev->lock; bumps the generation and interrupts. */
void virtio_device_config_changed(struct virtio_device *dev);
