/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixed addresses of the platform, and what the boot protocol told us
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORT_I8042_DATA    0x60
#define PORT_I8042_COMMAND 0x64
#define PORT_CMOS_INDEX    0x70
#define PORT_CMOS_DATA     0x71
#define PORT_CODE          0x80
#define PORT_DEBUG_CONSOLE 0xe9
#define COM1               0x3f8
#define UART_IER           1
#define UART_IIR           2
#define UART_MCR           4
#define UART_LSR           5
#define PORT_ACPI_RESET    0x600
#define PORT_PM_TIMER      0x608

#define CODE_DONE 0x41

#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* hvm_start_info, version 1 */
struct hvm_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct hvm_memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type;
	uint32_t reserved;
};

#define HVM_START_MAGIC     0x336ec578
#define HVM_MEMMAP_TYPE_RAM 1

extern const struct hvm_start_info *start_info;

/* address right behind RAM, the highest of all regions */
uint64_t platform_ram_end(void);

/* identity-maps [address, address + len) on top of the 8 GiB that always are */
void map_range(uint64_t address, uint64_t len);

/* pages for rings, buffers and stacks; contents undefined, never returned */
void *alloc_pages(unsigned int n);

/* command line: `key=value` words */
bool arg_get(const char *key, char *ret, size_t size);
uint64_t arg_u64(const char *key, uint64_t fallback);

void platform_init(const struct hvm_start_info *info);

/* S5 by whatever the platform understands; does not return */
_Noreturn void power_off(void);
_Noreturn void triple_fault(void);

bool string_equal(const char *a, const char *b);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
