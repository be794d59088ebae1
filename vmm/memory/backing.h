/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host puts behind a piece of guest RAM
 *
 * Anonymous memory, a memory file, huge pages or a file of the caller's, bound to
 * a node of the host, reserved and touched as a zone asks for.  Knows no guest
 * and no hypervisor.  Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_region;
struct guest_zone_params;

#define GUEST_HOST_NODES_MAX 1024 /* of the kernel: CONFIG_NODES_SHIFT is at most 10 */

/*
 * Maps region->size bytes of the zone, which begin off bytes into it.  What was made
 * when this fails goes with guest_region_unmap().
 */
int guest_region_map(struct guest_region *region, const struct guest_zone_params *p, uint64_t off,
		     struct err *err);
void guest_region_unmap(struct guest_region *region);
/*
 * Maps the file's first region->size bytes, at an address that huge pages can be at, or where
 * the region is mapped already.  flags: of mmap().
 */
int guest_region_map_file(struct guest_region *region, int fd, int flags, struct err *err);
/* What was mapped is let go of; zeros are there instead, and what is written takes memory. */
void guest_region_map_nothing(const struct guest_region *region);
