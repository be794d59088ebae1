/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/loader/pvh.h"

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/loader/initramfs.h"
#include "vmm/loader/pvh-abi.h"
#include "vmm/memory/guest-memory.h"

static_assert(LAYOUT_PVH_START_INFO + sizeof(struct pvh_start_info) <= LAYOUT_PVH_MODLIST,
	      "start info and module list overlap");
static_assert(LAYOUT_PVH_MODLIST + sizeof(struct pvh_module) <= LAYOUT_PVH_MEMMAP,
	      "module list and memory map overlap");

int pvh_write_start_info(struct guest_mem *mem, const struct x86_memmap *memmap,
			 const struct initramfs *initramfs, uint64_t rsdp_gpa, struct err *err)
{
	struct pvh_memmap_entry entries[X86_MEMMAP_MAX] = { 0 };
	struct pvh_start_info info = {
		.magic = le32_make(PVH_START_MAGIC),
		.version = le32_make(1),
		.cmdline_paddr = le64_make(LAYOUT_CMDLINE),
		.rsdp_paddr = le64_make(rsdp_gpa),
		.memmap_paddr = le64_make(LAYOUT_PVH_MEMMAP),
		.memmap_entries = le32_make((uint32_t)memmap->n),
	};
	int r = 0;

	for (size_t i = 0; i < memmap->n; i++)
		entries[i] = (struct pvh_memmap_entry){
			.addr = le64_make(memmap->entries[i].gpa),
			.size = le64_make(memmap->entries[i].size),
			.type = le32_make(memmap->entries[i].type),
		};
	if (initramfs->size) {
		const struct pvh_module module = {
			.paddr = le64_make(initramfs->gpa),
			.size = le64_make(initramfs->size),
		};

		info.nr_modules = le32_make(1);
		info.modlist_paddr = le64_make(LAYOUT_PVH_MODLIST);
		r = guest_write(mem, LAYOUT_PVH_MODLIST, &module, sizeof(module));
	}
	if (r >= 0)
		r = guest_write(mem, LAYOUT_PVH_MEMMAP, entries, memmap->n * sizeof(entries[0]));
	if (r >= 0)
		r = guest_write(mem, LAYOUT_PVH_START_INFO, &info, sizeof(info));
	if (r < 0)
		return err_set(err, -r, "no guest memory for the boot information at 0x%llx",
			       LAYOUT_PVH_START_INFO);
	return 0;
}
