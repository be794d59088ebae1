/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading payload files: sizes, and bytes straight into guest RAM.  Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct x86_memmap;

/* Bytes of a regular file or block device; anything else is an error. */
int file_size(int fd, uint64_t *ret, struct err *err);
/* len bytes at off of the file to guest memory. -EIO: the file ends before that. */
int file_read_guest(int fd, uint64_t off, struct guest_mem *mem, uint64_t gpa, uint64_t len,
		    struct err *err);
/* True when [gpa, gpa + len) is inside one RAM entry. */
bool memmap_has_ram(const struct x86_memmap *map, uint64_t gpa, uint64_t len);
/* The RAM entry that begins at 1 MiB, where payloads go; its end is exclusive, 0 = there is none.
 */
uint64_t memmap_payload_end(const struct x86_memmap *map);
/* All RAM, for messages. */
uint64_t memmap_ram_mib(const struct x86_memmap *map);
