/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host can do, found out once at start
 *
 * The KVM questions are KVM_CHECK_EXTENSION on the device, which makes no VM:
 * the one place outside vmm/hypervisor that talks to KVM, because the answer is
 * needed where no worker is.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct host {
	char architecture[65], kernel_release[65];
	uint32_t n_cpus;
	uint64_t memory;
	bool kvm_available;
	uint32_t max_vcpus; /* 0 without KVM */
};

void host_probe(struct host *host, const char *kvm_device);
/* A floating a{sv} with cpu, memory, hugepages, numa, kvm. */
GVariant *host_describe(const struct host *host, const char *kvm_device);
