/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking a bzImage's payload on the host
 *
 * LZ4 (the legacy frame), zstd, xz, gzip and no compression, streamed from the
 * file into an elf_stream, so most output is produced in guest RAM without a
 * copy.  Peak memory: the compressed piece being read, the decompressor's
 * window, 64 KiB of scratch (LZ4: two buffers of 8 MiB, its block size).
 *
 * Input is hostile: output never exceeds the size the payload announces, which
 * in turn must fit into guest RAM; decompressor memory is limited.
 *
 * Control thread.
 */
#pragma once

#include <stdint.h>

#include "vmm/base/cleanup.h"

struct elf_image;
struct elf_target;
struct err;

enum unpack_format {
	UNPACK_NONE, /* an ELF image as it is */
	UNPACK_GZIP,
	UNPACK_XZ,
	UNPACK_LZ4,
	UNPACK_ZSTD,
	UNPACK_OTHER, /* bzip2, LZMA, LZO or unknown: not unpacked here */
	UNPACK_N_,
};

const char *unpack_format_to_string(enum unpack_format format);

/* The payload is size bytes at off of fd. */
int unpack_probe(int fd, uint64_t off, uint64_t size, enum unpack_format *ret, struct err *err);
/* format: what unpack_probe() said, not UNPACK_OTHER. */
int unpack_elf(int fd, uint64_t off, uint64_t size, enum unpack_format format,
	       const struct elf_target *target, struct elf_image *ret, struct err *err);
