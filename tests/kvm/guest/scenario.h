/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario tables: one array per file, listed in main.c, each ended by a row without a name
 */
#pragma once

struct scenario {
	const char *name;
	void (*run)(void);
};

extern const struct scenario machine_scenarios[];
extern const struct scenario time_scenarios[];
extern const struct scenario pci_scenarios[];
extern const struct scenario msix_scenarios[];
extern const struct scenario smp_scenarios[];
extern const struct scenario blk_scenarios[];
extern const struct scenario net_scenarios[];
extern const struct scenario pmem_scenarios[];
extern const struct scenario stream_scenarios[];
extern const struct scenario small_scenarios[];
extern const struct scenario vsock_scenarios[];
extern const struct scenario ring_scenarios[];
extern const struct scenario register_scenarios[];
extern const struct scenario header_scenarios[];
extern const struct scenario misuse_scenarios[];
extern const struct scenario noise_scenarios[];
extern const struct scenario storm_scenarios[];
extern const struct scenario race_scenarios[];
extern const struct scenario bench_scenarios[];
extern const struct scenario hotplug_scenarios[];
