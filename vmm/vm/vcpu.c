/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vcpu.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/log.h"
#include "vmm/base/mailbox.h"
#include "vmm/bus/bus.h"
#include "vmm/config/vm-config.h"

/* What the configuration accepts as a host CPU's number, plus one. */
#define HOST_CPUS_MAX 8192

/* Guests wait 10 ms between INIT and SIPI, or not at all. */
#define START_LOOKS     100
#define START_LOOK_NSEC 1000000
#define NSEC_PER_SEC    1000000000

static _Thread_local struct vcpu *current;

void vcpu_stand(void)
{
	if (current)
		current->stand = true;
}

int vcpu_set_init(struct vcpu_set *set, uint32_t n, struct bus *pio, struct bus *mmio,
		  struct mailbox *mailbox, struct err *err)
{
	*set = (struct vcpu_set){ .pio = pio, .mmio = mmio, .mailbox = mailbox };
	set->parked_fd = eventfd_new();
	if (set->parked_fd < 0)
		return err_errno(err, -set->parked_fd, "cannot make an eventfd for the vCPUs");
	set->vcpus = calloc(n, sizeof(*set->vcpus));
	if (!set->vcpus) {
		close(set->parked_fd);
		set->parked_fd = -EBADF;
		return err_set(err, ENOMEM, "out of memory for %u vCPUs", n);
	}
	set->n = n;
	pthread_mutex_init(&set->lock, NULL);
	pthread_cond_init(&set->released, NULL);
	for (uint32_t i = 0; i < n; i++)
		set->vcpus[i] = (struct vcpu){ .set = set, .index = i };
	return 0;
}

/* Waits until released; false = the machine is going away. */
static bool park(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;
	bool go_on;

	pthread_mutex_lock(&set->lock);
	vcpu->parked = true;
	set->n_parked++;
	eventfd_signal(set->parked_fd);
	/* One that stands by itself waits for a hold too: only its end is a release. */
	while ((set->hold || vcpu->stand) && !set->stop && !vcpu->leave)
		pthread_cond_wait(&set->released, &set->lock);
	go_on = !set->stop && !vcpu->leave;
	vcpu->parked = false;
	set->n_parked--;
	pthread_mutex_unlock(&set->lock);
	return go_on;
}

static void dispatch(struct bus *bus, const struct hv_exit *exit)
{
	uint8_t *data = exit->data;

	for (uint32_t i = 0; i < exit->count; i++, data += exit->len) {
		if (exit->write)
			bus_write(bus, exit->addr, data, exit->len);
		else
			bus_read(bus, exit->addr, data, exit->len);
	}
}

static void handle(struct vcpu *vcpu, const struct hv_exit *exit)
{
	switch (exit->kind) {
	case HV_EXIT_PIO:
		dispatch(vcpu->set->pio, exit);
		break;
	case HV_EXIT_MMIO:
		dispatch(vcpu->set->mmio, exit);
		break;
	case HV_EXIT_INTERRUPTED:
		break;
	case HV_EXIT_IOAPIC_EOI:
	case HV_EXIT_SHUTDOWN:
	case HV_EXIT_FAILED:
	case HV_EXIT_N_:
		vcpu->set->on_exit(vcpu, exit, vcpu->set->data);
		break;
	}
}

/* A little time, or less when control wants something. */
static void wait_a_little(struct vcpu_set *set)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += START_LOOK_NSEC;
	if (until.tv_nsec >= NSEC_PER_SEC) {
		until.tv_nsec -= NSEC_PER_SEC;
		until.tv_sec++;
	}
	pthread_mutex_lock(&set->lock);
	if (!set->hold)
		pthread_cond_clockwait(&set->released, &set->lock, CLOCK_MONOTONIC, &until);
	pthread_mutex_unlock(&set->lock);
}

/*
 * A processor may run for ever without an exit, and its first instruction is none: so from INIT
 * on it is looked at, until SIPI comes, which is soon or never.  True: look again.
 */
static bool wait_for_start(struct vcpu *vcpu, unsigned int *n_looks)
{
	switch (vcpu->hv->ops->start_state(vcpu->hv)) {
	case HV_START_NONE:
		*n_looks = 0;
		return false; /* the hypervisor waits */
	case HV_START_INIT:
		if (++*n_looks > START_LOOKS)
			return false;
		wait_a_little(vcpu->set);
		return true;
	case HV_START_DONE:
		break;
	}
	vcpu->waiting = false;
	if (vcpu->set->on_started)
		vcpu->set->on_started(vcpu, vcpu->set->data);
	return false;
}

static void vcpu_run(void *data)
{
	struct vcpu *vcpu = data;
	struct vcpu_set *set = vcpu->set;
	struct hv_exit exit = { 0 };
	unsigned int n_looks = 0;
	int r;

	current = vcpu;
	for (;;) {
		/* acquire: pairs with the store in vcpu_set_park and _release */
		if ((vcpu->stand || atomic_load_explicit(&set->hold, memory_order_acquire)) &&
		    !park(vcpu))
			return;
		if (vcpu->waiting && wait_for_start(vcpu, &n_looks))
			continue;
		exit.kind = HV_EXIT_INTERRUPTED;
		r = vcpu->hv->ops->run(vcpu->hv, &exit);
		if (r < 0) {
			exit.kind = HV_EXIT_FAILED;
			snprintf(exit.text, sizeof(exit.text),
				 "the hypervisor cannot run vCPU %u: %s", vcpu->index,
				 strerror(-r));
		}
		handle(vcpu, &exit);
	}
}

static int bind_to(const struct vcpu *vcpu, const struct cpu_affinity *affinity, size_t index,
		   struct err *err)
{
	cpu_set_t *cpus = CPU_ALLOC(HOST_CPUS_MAX);
	size_t size = CPU_ALLOC_SIZE(HOST_CPUS_MAX);
	int r;

	if (!cpus)
		return err_set(err, ENOMEM, "out of memory for a set of CPUs");
	CPU_ZERO_S(size, cpus);
	for (size_t c = 0; c < affinity->n_host_cpus; c++)
		CPU_SET_S(affinity->host_cpus[c], size, cpus);
	r = pthread_setaffinity_np(vcpu->thread.handle, size, cpus);
	CPU_FREE(cpus);
	if (r != 0)
		return err_fault(err, r == EINVAL ? FAULT_BAD_CONFIG : FAULT_HOST_RESOURCE, r,
				 "/cpus/affinity/%zu/host_cpus: vCPU %u cannot be bound to these "
				 "CPUs (%s), must name at least one that the host has and the "
				 "service may use",
				 index, vcpu->index, strerror(r));
	return 0;
}

static int set_affinity(const struct vcpu *vcpu, const struct cpu_affinity *affinity, size_t n,
			struct err *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++)
		if (affinity[i].vcpu == vcpu->index)
			r = bind_to(vcpu, &affinity[i], i, err);
	return r;
}

static int spawn(struct vcpu *vcpu, const struct vcpu_start *start, struct err *err)
{
	int r;

	vcpu->leave = false;
	vcpu->stand = false;
	vcpu->thread = (struct thread){
		.role = THREAD_ROLE_VCPU, .enter = start->enter, .run = vcpu_run, .data = vcpu
	};
	snprintf(vcpu->thread.name, sizeof(vcpu->thread.name), "vcpu%u", vcpu->index);
	r = thread_spawn(&vcpu->thread, err);
	return r < 0 ? r : set_affinity(vcpu, start->affinity, start->n_affinity, err);
}

int vcpu_set_start(struct vcpu_set *set, const struct vcpu_start *start, struct err *err)
{
	int r = 0;

	atomic_store_explicit(&set->hold, true, memory_order_release);
	/* Those started are ended by vcpu_set_deinit, also when this fails. */
	for (uint32_t i = 0; r >= 0 && i < set->n; i++)
		if (set->vcpus[i].present)
			r = spawn(&set->vcpus[i], start, err);
	return r;
}

static void end_thread(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;

	pthread_mutex_lock(&set->lock);
	vcpu->leave = true;
	pthread_cond_broadcast(&set->released);
	pthread_mutex_unlock(&set->lock);
	thread_join(&vcpu->thread);
}

int vcpu_set_add(struct vcpu_set *set, uint32_t index, const struct vcpu_start *start,
		 struct err *err)
{
	struct vcpu *vcpu = &set->vcpus[index];
	bool held = set->hold;
	int r;

	assert_on_control();
	vcpu->waiting = true;
	r = spawn(vcpu, start, err);
	if (r >= 0)
		r = thread_settle(&vcpu->thread, err);
	if (r < 0 && vcpu->thread.started) {
		/* It may be in the hypervisor: out of it first, with the others. */
		vcpu_set_park(set);
		end_thread(vcpu);
		if (!held)
			vcpu_set_release(set);
	}
	vcpu->present = r >= 0;
	return r;
}

void vcpu_set_remove(struct vcpu_set *set, uint32_t index)
{
	struct vcpu *vcpu = &set->vcpus[index];

	assert_on_control();
	vcpu->present = false;
	if (vcpu->thread.started)
		end_thread(vcpu);
}

int vcpu_set_settle(struct vcpu_set *set, struct err *err)
{
	int r = 0;

	/* All of them, also behind one that failed: who parks must know which are there. */
	for (uint32_t i = 0; i < set->n; i++) {
		int one = thread_settle(&set->vcpus[i].thread, r < 0 ? NULL : err);

		if (r == 0)
			r = one;
	}
	return r;
}

static bool all_parked(struct vcpu_set *set)
{
	uint32_t started = 0;
	bool all;

	for (uint32_t i = 0; i < set->n; i++)
		started += set->vcpus[i].thread.started;
	pthread_mutex_lock(&set->lock);
	all = set->n_parked == started;
	pthread_mutex_unlock(&set->lock);
	return all;
}

void vcpu_set_park(struct vcpu_set *set)
{
	struct pollfd fds[2] = {
		{ .fd = set->parked_fd, .events = POLLIN },
		{ .fd = set->mailbox->fd, .events = POLLIN },
	};

	assert_on_control();
	pthread_mutex_lock(&set->lock);
	atomic_store_explicit(&set->hold, true, memory_order_release);
	pthread_mutex_unlock(&set->lock);
	for (uint32_t i = 0; i < set->n; i++)
		if (set->vcpus[i].thread.started)
			set->vcpus[i].hv->ops->kick(set->vcpus[i].hv);
	while (!all_parked(set)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			abort(); /* two eventfds and a valid array: only a bug can fail here */
		eventfd_take(set->parked_fd);
		mailbox_drain(set->mailbox);
	}
}

void vcpu_set_release(struct vcpu_set *set)
{
	assert_on_control();
	pthread_mutex_lock(&set->lock);
	for (uint32_t i = 0; i < set->n; i++)
		set->vcpus[i].stand = false;
	atomic_store_explicit(&set->hold, false, memory_order_release);
	pthread_cond_broadcast(&set->released);
	pthread_mutex_unlock(&set->lock);
}

void vcpu_set_deinit(struct vcpu_set *set)
{
	if (!set->vcpus)
		return;
	vcpu_set_settle(set, NULL);
	vcpu_set_park(set);
	pthread_mutex_lock(&set->lock);
	set->stop = true;
	pthread_cond_broadcast(&set->released);
	pthread_mutex_unlock(&set->lock);
	for (uint32_t i = 0; i < set->n; i++) {
		thread_join(&set->vcpus[i].thread);
		hv_vcpu_free(set->vcpus[i].hv);
	}
	free(set->vcpus);
	set->vcpus = NULL;
	close(set->parked_fd);
	pthread_cond_destroy(&set->released);
	pthread_mutex_destroy(&set->lock);
}
