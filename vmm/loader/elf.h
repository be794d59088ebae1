/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ELF images with a PVH entry
 *
 * An image is parsed from its header and program headers (System V ABI, chapter
 * 4 and 5), its PT_LOAD segments go to their physical addresses, and a note of
 * owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY, xen/include/public/elfnote.h)
 * in a PT_NOTE segment names the 32-bit entry point.
 *
 * Two ways in: elf_load_file() reads the segments of a file where it needs
 * them; struct elf_stream takes the image byte by byte in order, as a
 * decompressor yields it, and lets most of the bytes be produced in guest RAM
 * right away.
 *
 * Control thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/cleanup.h"

struct err;
struct guest_mem;
struct x86_memmap;

#define ELF_SEGMENTS_MAX 16
#define ELF_NOTES_MAX    2
#define ELF_NOTE_BYTES   2048  /* of one PT_NOTE segment; more is cut off */
#define ELF_HEAD_BYTES   65536 /* where a streamed image has its program headers */

struct elf_segment {
	uint64_t off, file_size; /* in the file */
	uint64_t gpa, mem_size;
};

struct elf_note {
	uint64_t off;
	uint32_t size; /* at most ELF_NOTE_BYTES */
	uint8_t bytes[ELF_NOTE_BYTES];
};

struct elf_image {
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	struct elf_note notes[ELF_NOTES_MAX];
	uint32_t n_segments, n_notes;
	uint64_t end_gpa;   /* of the highest segment, exclusive */
	uint64_t entry_gpa; /* PVH; valid after a load */
};

struct elf_target {
	struct guest_mem *mem;
	const struct x86_memmap *memmap;
	bool fresh_ram; /* loader_params */
};

/* The image starts at byte base of the file and has size bytes. */
int elf_load_file(int fd, uint64_t base, uint64_t size, const struct elf_target *target,
		  struct elf_image *ret, struct err *err);

struct elf_stream {
	struct elf_target target;
	struct elf_image image;
	uint64_t size;    /* of the whole image */
	uint64_t pos;     /* bytes taken so far */
	uint64_t last;    /* nothing from here on is needed */
	uint8_t *scratch; /* for what does not go to one place in RAM */
	size_t scratch_size;
	bool parsed, direct;
};

/* scratch_size: at least ELF_HEAD_BYTES, the largest reserve() that must succeed in one piece. */
int elf_stream_init(struct elf_stream *s, const struct elf_target *target, uint64_t size,
		    size_t scratch_size, struct err *err);
void elf_stream_deinit(struct elf_stream *s);
/*
 * Where the next bytes are to be put: between 1 and want of them, exactly want
 * when whole (then want <= scratch_size).
 */
void *elf_stream_reserve(struct elf_stream *s, size_t want, bool whole, size_t *ret_len);
/* n bytes were put there. */
int elf_stream_commit(struct elf_stream *s, size_t n, struct err *err);
/* True once the rest of the image is of no interest. */
bool elf_stream_done(const struct elf_stream *s);
/* After the last byte: the image is complete and has an entry. */
int elf_stream_finish(struct elf_stream *s, struct err *err);
