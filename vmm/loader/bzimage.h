/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage: setup header, plain boot, and where its payload is
 *
 * Linux Documentation/arch/x86/boot.rst, protocols 2.06 to 2.15 and later.  The
 * file is a boot sector, setup_sects sectors of real-mode code that we never
 * run, and the protected-mode part, entered at its first byte in 32-bit mode.
 * Inside of that, [payload_off, +payload_size) is the compressed kernel, an ELF
 * image; its last four bytes are its size when unpacked.
 *
 * Control thread.
 */
#pragma once

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct x86_memmap;

struct bzimage {
	struct setup_header header;         /* as in the file, cut to its length */
	uint64_t code_off, code_size;       /* protected-mode part, in the file */
	uint64_t payload_off, payload_size; /* in the file; size 0 = not told */
	uint64_t cmdline_max;               /* bytes */
};

/* 1: it is one, *ret is filled.  0: no bzImage.  -errno: it is one, but a wrong one. */
int bzimage_probe(int fd, uint64_t size, struct bzimage *ret, struct err *err);

/* Loads the protected-mode part; *ret_end_gpa: what the kernel needs while it starts, exclusive. */
int bzimage_load(int fd, const struct bzimage *image, struct guest_mem *mem,
		 const struct x86_memmap *memmap, uint64_t *ret_end_gpa, struct err *err);
