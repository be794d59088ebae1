/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's fw_cfg (docs/specs/fw_cfg): keys, the directory, DMA requests and the
 * loader's commands
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"

enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00,
	FW_CFG_ID = 0x01,
	FW_CFG_KERNEL_SIZE = 0x08,
	FW_CFG_INITRD_SIZE = 0x0b,
	FW_CFG_KERNEL_DATA = 0x11,
	FW_CFG_INITRD_DATA = 0x12,
	FW_CFG_CMDLINE_SIZE = 0x14,
	FW_CFG_CMDLINE_DATA = 0x15,
	FW_CFG_SETUP_SIZE = 0x17,
	FW_CFG_SETUP_DATA = 0x18,
	FW_CFG_FILE_DIR = 0x19,
	FW_CFG_FILE_FIRST = 0x20,
};

#define FW_CFG_ID_TRADITIONAL (1U << 0)
#define FW_CFG_ID_DMA         (1U << 1)

#define FW_CFG_NAME_SIZE 56 /* with the NUL */

typedef struct {
	uint16_t raw;
} be16;
typedef struct {
	uint64_t raw;
} be64;

struct fw_cfg_file {
	be32 size;
	be16 key;
	uint8_t reserved[2];
	char name[FW_CFG_NAME_SIZE];
};
static_assert(sizeof(struct fw_cfg_file) == 64, "fw_cfg: file directory");

enum fw_cfg_dma_control {
	FW_CFG_DMA_ERROR = 1 << 0,
	FW_CFG_DMA_READ = 1 << 1,
	FW_CFG_DMA_SKIP = 1 << 2,
	FW_CFG_DMA_SELECT = 1 << 3, /* the key is in the upper half */
	FW_CFG_DMA_WRITE = 1 << 4,
};

struct fw_cfg_dma {
	be32 control;
	be32 length;
	be64 address;
};
static_assert(sizeof(struct fw_cfg_dma) == 16, "fw_cfg: DMA interface");

struct fw_cfg_e820 { /* etc/e820 */
	le64 gpa, size;
	le32 type;
} __attribute__((packed));
static_assert(sizeof(struct fw_cfg_e820) == 20, "etc/e820");

enum fw_cfg_loader_command {
	FW_CFG_ALLOCATE = 1,
	FW_CFG_ADD_POINTER = 2,
	FW_CFG_ADD_CHECKSUM = 3,
};

enum fw_cfg_loader_zone {
	FW_CFG_ZONE_HIGH = 1,
	FW_CFG_ZONE_FSEG = 2,
};

/* QEMU hw/acpi/bios-linker-loader.c: the interface is documented there only. */
struct fw_cfg_loader {
	le32 command;
	char file[FW_CFG_NAME_SIZE]; /* the one allocated, pointed from, or summed */
	union {
		struct {
			le32 align;
			uint8_t zone;
		} allocate;
		struct {
			char target[FW_CFG_NAME_SIZE];
			le32 offset;
			uint8_t size;
		} pointer;
		struct {
			le32 offset, start, length;
		} checksum;
		char pad[68];
	};
};
static_assert(sizeof(struct fw_cfg_loader) == 128, "table-loader: entry");
