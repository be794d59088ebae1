/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPU threads: running, parking, stopping
 *
 * All vCPUs of a machine are parked and released together.  A parked vCPU
 * stands outside the hypervisor and touches nothing, so the control thread may
 * change anything.  While the control thread waits for vCPUs to park it drains
 * the mailbox, because a vCPU may be waiting there.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/thread.h"
#include "vmm/hypervisor/hypervisor.h"

struct bus;
struct cpu_affinity;
struct err;
struct mailbox;
struct vcpu_set;

struct vcpu {
	struct vcpu_set *set;
	uint32_t index;
	struct hv_vcpu *hv; /* NULL: it was never there */
	struct thread thread;
	bool present; /* control: it is of the machine now, and has a thread once that runs */
	bool parked;  /* set->lock */
	bool leave;   /* set->lock: its thread is to end */
	bool waiting; /* own thread: came later, and nobody has started it yet */
	atomic_bool
		stand; /* own thread: asked for something that ends this run; release clears it */
};

struct vcpu_set {
	struct vcpu *vcpus;
	uint32_t n; /* that there can be */
	struct bus *pio, *mmio;
	struct mailbox *mailbox;
	int parked_fd;        /* eventfd: a vCPU has parked */
	pthread_mutex_t lock; /* n_parked, parked; leaf */
	pthread_cond_t released;
	uint32_t n_parked;
	atomic_bool hold; /* written under lock; read without by vCPUs between runs */
	bool stop;
	/* vCPU thread: the guest did something only the machine can answer. */
	void (*on_exit)(struct vcpu *vcpu, const struct hv_exit *exit, void *data);
	/* The same: one that came later runs now. Optional. */
	void (*on_started)(struct vcpu *vcpu, void *data);
	void *data;
};

/* What a vCPU's thread begins with. */
struct vcpu_start {
	int (*enter)(enum thread_role role, struct err *err);
	const struct cpu_affinity *affinity;
	size_t n_affinity;
};

/* Control thread, from here on. */
int vcpu_set_init(struct vcpu_set *set, uint32_t n, struct bus *pio, struct bus *mmio,
		  struct mailbox *mailbox, struct err *err);
/*
 * Threads of those that are present, whose hypervisor objects exist; they start held, and
 * start does not wait for them: settle does, before the first release.
 */
int vcpu_set_start(struct vcpu_set *set, const struct vcpu_start *start, struct err *err);
int vcpu_set_settle(struct vcpu_set *set, struct err *err);
/*
 * One more, while the others run or stand: it has its hypervisor object, in the state of a
 * processor that waits to be started.  It is present if this succeeds.
 */
int vcpu_set_add(struct vcpu_set *set, uint32_t index, const struct vcpu_start *start,
		 struct err *err);
/* All parked: ends its thread. Its hypervisor object stays, for when it comes again. */
void vcpu_set_remove(struct vcpu_set *set, uint32_t index);
/* Parks all, and returns when none is inside the hypervisor or a device. */
void vcpu_set_park(struct vcpu_set *set);
void vcpu_set_release(struct vcpu_set *set);
/* Ends the threads and frees the vCPUs. */
void vcpu_set_deinit(struct vcpu_set *set);

/* vCPU thread, inside an access: do not run the guest again before a park and release. */
void vcpu_stand(void);
