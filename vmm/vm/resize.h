/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs and memory that come and go while the machine runs
 *
 * What is asked for is a target; what the guest has is the actual number, which
 * follows as the guest brings in what it was offered and gives back what it was asked
 * for.  It may do that late, in part, or never.  vm->listener.sizes_changed tells of
 * every change, vm_get_sizes() what it is now; resize_refused that the guest has said
 * no.  A reset ends all that is under way as it was meant: the guest that starts then
 * finds what was asked for.
 *
 * vm->config holds what the next start of the guest finds.  Control thread.
 */
#pragma once

#include <stdint.h>

struct cpu_hotplug_ops;
struct memory_hotplug_ops;
struct err;
struct message;
struct vm;
struct x86_memmap;

struct vm_sizes {
	uint32_t vcpus, vcpus_target;
	uint64_t memory, memory_target; /* bytes; without what the balloon has */
};

void vm_get_sizes(const struct vm *vm, struct vm_sizes *ret);

/* --- cpus.c --- */

/* Made with the vCPU set, and freed before it. */
int vm_cpus_init(struct vm *vm, struct err *err);
void vm_cpus_deinit(struct vm *vm);
extern const struct cpu_hotplug_ops vm_cpu_hotplug_ops; /* data: the struct vm */
/* n: 1 to cpus.max_vcpus. A new number replaces one that has not been reached. */
int vm_set_vcpus(struct vm *vm, uint32_t n, struct err *err);

/* --- memory.c --- */

/* Once the configuration is known. */
void vm_memory_init(struct vm *vm);
extern const struct memory_hotplug_ops vm_memory_hotplug_ops; /* data: the struct vm */
/*
 * bytes: what there is already, which offers again what the guest has not taken, or more,
 * by a multiple of 128 MiB, up to /memory/hotplug_size more than the first start had.
 */
int vm_set_memory(struct vm *vm, uint64_t bytes, struct err *err);
/*
 * The same for a zone.  By virtio-mem both go up and down between what the machine began
 * with and that and the hotplug_size, by steps of memory_config_block_size().
 */
int vm_set_zone(struct vm *vm, const char *id, uint64_t bytes, struct err *err);
/* Of virtio-mem: what the guest has is what it is to have. */
void vm_keep_memory(struct vm *vm);
uint64_t vm_zone_target(const struct vm *vm, size_t zone);
/* Bytes that the guest is to have, and that it has. */
uint64_t vm_memory_target(const struct vm *vm);
uint64_t vm_memory_actual(const struct vm *vm);
/* RAM and reserved ranges as the guest finds them at its start. */
void vm_init_memmap(const struct vm *vm, struct x86_memmap *ret);

/* For vm.c. */

/* The next starts of its threads. */
struct vcpu_start vm_vcpu_start(const struct vm *vm);
/* vCPUs parked. What the guest has given back leaves. */
void vm_serve_cpu_ejects(struct vm *vm);
/* vCPUs parked: a guest starts anew. */
void vm_reset_cpus(struct vm *vm);
void vm_reset_memory(struct vm *vm);
