/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH start info: what RBX points to at a PVH entry
 *
 * Layout of Xen's xen/include/public/arch-x86/hvm/start_info.h (version 1);
 * memory map types are those of E820.
 */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "vmm/base/bytes.h"

#define PVH_START_MAGIC 0x336ec578u /* "xEn3" with the top bit set */

struct pvh_start_info {
	le32 magic;
	le32 version;
	le32 flags; /* SIF_xxx, none for a guest like ours */
	le32 nr_modules;
	le64 modlist_paddr;
	le64 cmdline_paddr; /* zero-terminated */
	le64 rsdp_paddr;
	le64 memmap_paddr; /* from version 1 on */
	le32 memmap_entries;
	le32 reserved;
};
static_assert(sizeof(struct pvh_start_info) == 56, "hvm_start_info, version 1");
static_assert(offsetof(struct pvh_start_info, reserved) == 52, "hvm_start_info, version 1");

struct pvh_module {
	le64 paddr;
	le64 size;
	le64 cmdline_paddr;
	le64 reserved;
};
static_assert(sizeof(struct pvh_module) == 32, "hvm_modlist_entry");

struct pvh_memmap_entry {
	le64 addr;
	le64 size;
	le32 type;
	le32 reserved;
};
static_assert(sizeof(struct pvh_memmap_entry) == 24, "hvm_memmap_table_entry");
static_assert(offsetof(struct pvh_memmap_entry, reserved) == 20, "hvm_memmap_table_entry");
