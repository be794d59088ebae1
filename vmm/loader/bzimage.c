/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/bzimage.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/loader/file.h"

#define HEADER_OFF        0x1f1
#define HEADER_MAGIC      0x53726448u /* "HdrS" */
#define BOOT_SECTOR_MAGIC 0xaa55
#define SECTOR            512
/* The header ends where the jump at 0x200 goes: its operand counts from 0x202. */
#define JUMP_BASE         0x202
#define VERSION_MIN       0x0206 /* cmdline_size */
#define VERSION_PAYLOAD   0x0208 /* payload_offset, payload_length */
#define VERSION_INIT_SIZE 0x020a /* pref_address, init_size */

int bzimage_probe(int fd, uint64_t size, struct bzimage *ret, struct err *err)
{
	uint8_t head[0x290] = { 0 };
	struct bzimage image = { 0 };
	struct setup_header *h = &image.header;
	size_t header_end;
	uint64_t setup;
	int r;

	if (size < sizeof(head))
		return 0;
	r = fd_pread_all(fd, head, sizeof(head), 0);
	if (r < 0)
		return err_errno(err, -r, "cannot read the setup header");
	memcpy(h, head + HEADER_OFF, sizeof(*h));
	if (h->boot_flag != BOOT_SECTOR_MAGIC || h->header != HEADER_MAGIC)
		return 0;
	if (h->version < VERSION_MIN)
		return err_set(err, ENOEXEC, "boot protocol %u.%02u is older than 2.06",
			       h->version >> 8, h->version & 0xffu);
	if (!(h->loadflags & LOADED_HIGH))
		return err_set(err, ENOEXEC,
			       "a zImage (loadflags 0x%02x): only bzImage is supported",
			       h->loadflags);

	/* What is behind the header's end is code, not fields of a newer protocol. */
	header_end = JUMP_BASE + (size_t)(h->jump >> 8);
	if (header_end < HEADER_OFF + offsetof(struct setup_header, hardware_subarch))
		return err_set(err, ENOEXEC,
			       "the setup header ends at byte 0x%zx, too early for "
			       "protocol %u.%02u",
			       header_end, h->version >> 8, h->version & 0xffu);
	if (header_end < HEADER_OFF + sizeof(*h))
		memset((uint8_t *)h + (header_end - HEADER_OFF), 0,
		       HEADER_OFF + sizeof(*h) - header_end);

	setup = ((h->setup_sects ? h->setup_sects : 4ULL) + 1) * SECTOR;
	if (setup >= size)
		return err_set(err, ENOEXEC, "cut off: %u setup sectors, but only %llu bytes",
			       h->setup_sects, (unsigned long long)size);
	image.code_off = setup;
	image.code_size = size - setup;
	/* syssize counts 16-byte units; a file that is shorter lost its end. */
	if ((uint64_t)h->syssize * 16 > align_up(image.code_size, 16))
		return err_set(err, ENOEXEC, "cut off: %llu bytes of code announced, %llu there",
			       (unsigned long long)h->syssize * 16,
			       (unsigned long long)image.code_size);
	if (h->version >= VERSION_PAYLOAD && h->payload_length) {
		if (!range_fits(h->payload_offset, h->payload_length, image.code_size))
			return err_set(
				err, ENOEXEC,
				"the payload (bytes %u + %u) reaches past the end of the code "
				"(%llu)",
				h->payload_offset, h->payload_length,
				(unsigned long long)image.code_size);
		image.payload_off = setup + h->payload_offset;
		image.payload_size = h->payload_length;
	}
	image.cmdline_max = h->cmdline_size ? h->cmdline_size : 255;
	*ret = image;
	return 1;
}

int bzimage_load(int fd, const struct bzimage *image, struct guest_mem *mem,
		 const struct x86_memmap *memmap, uint64_t *ret_end_gpa, struct err *err)
{
	const struct setup_header *h = &image->header;
	uint64_t start = LAYOUT_HIGH_RAM, need = image->code_size, end;
	int r;

	/*
	 * The kernel unpacks itself to pref_address, or to where it was loaded if
	 * that is higher, and needs init_size bytes from there (boot.rst, "init_size").
	 */
	if (h->version >= VERSION_INIT_SIZE) {
		start = MAX(start, (uint64_t)h->pref_address);
		need = MAX(need, (uint64_t)h->init_size);
	}
	if (__builtin_add_overflow(start, need, &end) || end > memmap_payload_end(memmap) ||
	    image->code_size > memmap_payload_end(memmap) - LAYOUT_HIGH_RAM)
		return err_set(err, ENOSPC,
			       "the kernel needs %llu MiB at 0x%llx to start, the machine has %llu "
			       "MiB of memory",
			       (unsigned long long)(align_up(need, MIB) / MIB),
			       (unsigned long long)start,
			       (unsigned long long)memmap_ram_mib(memmap));
	r = file_read_guest(fd, image->code_off, mem, LAYOUT_HIGH_RAM, image->code_size, err);
	if (r < 0)
		return r;
	*ret_end_gpa = MAX(end, LAYOUT_HIGH_RAM + image->code_size);
	return 0;
}
