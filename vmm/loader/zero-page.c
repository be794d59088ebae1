/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/zero-page.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <stddef.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/loader/bzimage.h"
#include "vmm/loader/initramfs.h"
#include "vmm/memory/guest-memory.h"

#define VID_MODE_NORMAL     0xffff /* boot.rst, "Special Command Line Options" */
#define LOADER_TYPE_UNKNOWN 0xff

static_assert(sizeof(struct boot_params) == 4096, "zero-page.rst");
static_assert(offsetof(struct boot_params, hdr) == 0x1f1, "zero-page.rst");
static_assert(offsetof(struct boot_params, e820_table) == 0x2d0, "zero-page.rst");
static_assert(X86_MEMMAP_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "e820 table");

int zero_page_write(struct guest_mem *mem, const struct bzimage *image,
		    const struct x86_memmap *memmap, const struct initramfs *initramfs,
		    uint64_t rsdp_gpa, struct err *err)
{
	struct boot_params bp = { 0 };
	int r;

	bp.hdr = image->header;
	bp.hdr.type_of_loader = LOADER_TYPE_UNKNOWN;
	bp.hdr.vid_mode = VID_MODE_NORMAL;
	bp.hdr.code32_start = LAYOUT_HIGH_RAM;
	bp.hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	bp.hdr.setup_data = 0;
	bp.hdr.ramdisk_image = (uint32_t)initramfs->gpa; /* low RAM ends below 4 GiB */
	bp.hdr.ramdisk_size = (uint32_t)initramfs->size;
	bp.acpi_rsdp_addr = rsdp_gpa; /* protocol 2.14; before that the kernel scans for it */

	for (size_t i = 0; i < memmap->n; i++)
		bp.e820_table[i] = (struct boot_e820_entry){
			.addr = memmap->entries[i].gpa,
			.size = memmap->entries[i].size,
			.type = memmap->entries[i].type,
		};
	bp.e820_entries = (uint8_t)memmap->n;

	r = guest_write(mem, LAYOUT_ZERO_PAGE, &bp, sizeof(bp));
	if (r < 0)
		return err_set(err, -r, "no guest memory for the zero page at 0x%llx",
			       LAYOUT_ZERO_PAGE);
	return 0;
}
