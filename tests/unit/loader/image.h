/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel images for the loader's tests: a small PVH ELF and bzImages around it
 */
#pragma once

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/arch/x86/memory-map.h"
#include "vmm/loader/unpack.h"
#include "vmm/memory/guest-memory.h"

#define IMAGE_ENTRY 0x200010u
#define IMAGE_TEXT  0x200000u
#define IMAGE_DATA  0x300000u
#define IMAGE_BSS   0x3000u

/* The file's layout: headers, one text and one data segment, the note inside of text. */
struct image {
	Elf64_Ehdr ehdr;
	Elf64_Phdr text, data, note;
	struct {
		Elf64_Nhdr nhdr;
		char name[4];
		uint32_t entry;
	} pvh;
	uint8_t text_bytes[0x11000];
	uint8_t data_bytes[0x5000];
};

struct image *image_new(void); /* g_free */
/* An anonymous file with these bytes. */
int image_fd(const void *data, size_t len);

/* A bzImage whose payload is the packed image; offset of fields as in boot.rst. */
uint8_t *image_bzimage(const void *payload, size_t payload_len, size_t *ret_len);
/* Packs, with the unpacked size behind it; g_free. */
uint8_t *image_pack(enum unpack_format format, const void *data, size_t len, size_t *ret_len);

/* RAM of mib MiB filled with 0xa5 where a loader must clear. */
void image_ram(struct guest_mem *mem, struct x86_memmap *map, uint64_t mib);
/* Asserts that image is in guest memory as it should. */
void image_check(struct guest_mem *mem, const struct image *image);
