/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vCPU's CPUID instruction answers
 *
 * Starts from what the hypervisor can offer (hv_vm.cpuid) and makes it true for
 * one vCPU of this machine: its APIC id and place in the topology (Intel SDM
 * 2A, CPUID leaves 1, 4, 0bH, 1fH; AMD APM 3, appendix E.4: 8000_0008h,
 * 8000_001dh, 8000_001eh), the guest's address width, what every guest of ours
 * has (hypervisor bit, MTRR, TSC deadline timer), the host processor's name
 * and caches where the hypervisor left them out, and minus what the
 * configuration turns off.
 *
 * The worker has no /proc: the host's own values come from its CPUID
 * instruction, which needs no rights.
 *
 * APIC ids are packed bit fields of thread, core, die and package, each as wide
 * as its count needs, so they are not dense when a count is no power of two.
 *
 * Control thread; everything but host_cpuid is a pure function.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct cpus_config;
struct err;
struct hv_caps;
struct hv_vm;
struct x86_cpuid_entry;

/* Without a configured topology every vCPU is a core of one package. */
uint32_t x86_apic_id(const struct cpus_config *config, uint32_t index);
/* The highest id that any of max_vcpus has. */
uint32_t x86_max_apic_id(const struct cpus_config *config);
/* Guest-physical address bits: what the host has, at most max_phys_bits (0 = no limit). */
uint8_t x86_phys_bits(const struct hv_caps *caps, const struct cpus_config *config);

/* A new array, to be free()d. */
int x86_cpuid_make(const struct hv_vm *vm, const struct cpus_config *config, uint32_t index,
		   struct x86_cpuid_entry **ret, size_t *ret_n, struct err *err);
