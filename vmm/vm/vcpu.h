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
	struct hv_vcpu *hv;
	struct thread thread;
	bool parked; /* set->lock */
	atomic_bool
		stand; /* own thread: asked for something that ends this run; release clears it */
};

struct vcpu_set {
	struct vcpu *vcpus;
	uint32_t n;
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
	void *data;
};

/*
 * Control thread. The vCPUs' hypervisor objects exist; threads start held, and
 * start does not wait for them: settle does, before the first release.
 */
int vcpu_set_init(struct vcpu_set *set, uint32_t n, struct bus *pio, struct bus *mmio,
		  struct mailbox *mailbox, struct err *err);
int vcpu_set_start(struct vcpu_set *set, int (*enter)(enum thread_role role, struct err *err),
		   const struct cpu_affinity *affinity, size_t n_affinity, struct err *err);
int vcpu_set_settle(struct vcpu_set *set, struct err *err);
/* Parks all, and returns when none is inside the hypervisor or a device. */
void vcpu_set_park(struct vcpu_set *set);
void vcpu_set_release(struct vcpu_set *set);
/* Ends the threads and frees the vCPUs. */
void vcpu_set_deinit(struct vcpu_set *set);

/* vCPU thread, inside an access: do not run the guest again before a park and release. */
void vcpu_stand(void);
