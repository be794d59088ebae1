/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x86-64 physical memory map, as existing firmware (rust-hypervisor-firmware,
 * CLOUDHV.fd) expects it.  All values are guest-physical addresses or bytes.
 */
#pragma once

#define LAYOUT_EBDA_POINTER   0x40eULL /* BIOS data area: segment of the EBDA */
#define LAYOUT_GDT            0x500ULL
#define LAYOUT_IDT            0x520ULL
#define LAYOUT_PVH_START_INFO 0x6000ULL
#define LAYOUT_PVH_MODLIST    0x6040ULL
#define LAYOUT_PVH_MEMMAP     0x7000ULL
#define LAYOUT_ZERO_PAGE      0x7000ULL
#define LAYOUT_BOOT_STACK     0x8ff0ULL
#define LAYOUT_CMDLINE        0x20000ULL
#define LAYOUT_CMDLINE_MAX    0x10000ULL
#define LAYOUT_EBDA_START     0xa0000ULL /* end of low RAM; RSDP and tables from here */
#define LAYOUT_RSDP           0xa0000ULL
#define LAYOUT_VMGENID        0xef000ULL /* a page of its own; ACPI tables end below */
#define LAYOUT_SMBIOS         0xf0000ULL
#define LAYOUT_HIGH_RAM       0x100000ULL
#define LAYOUT_HOLE_START     0xc0000000ULL /* 3 GiB */
#define LAYOUT_HOLE_END       0x100000000ULL
#define LAYOUT_MMIO32_START   0xc0000000ULL
#define LAYOUT_MMIO32_SIZE    0x28000000ULL /* 640 MiB */
#define LAYOUT_ECAM_START     0xe8000000ULL
#define LAYOUT_ECAM_SIZE      0x10000000ULL /* 1 MiB a segment */
#define LAYOUT_KVM_TSS        0xf8000000ULL /* 3 pages */
#define LAYOUT_KVM_IDENTITY   0xf8003000ULL
#define LAYOUT_IOAPIC         0xfec00000ULL
#define LAYOUT_IOAPIC_SIZE    0x20ULL
#define LAYOUT_LAPIC          0xfee00000ULL
/* Platform devices (GED ...) take the last MiB below 2^phys_bits - 64 KiB. */
#define LAYOUT_PLATFORM_SIZE 0x100000ULL
#define LAYOUT_PLATFORM_GAP  0x10000ULL
/* Offsets from the start of the area. */
#define LAYOUT_PLATFORM_GED            0x0ULL /* one byte */
#define LAYOUT_PLATFORM_PCI_HOTPLUG    0x1000ULL
#define LAYOUT_PLATFORM_CPU_HOTPLUG    0x2000ULL
#define LAYOUT_PLATFORM_MEMORY_HOTPLUG 0x3000ULL

#define LAYOUT_IOAPIC_PINS  24
#define LAYOUT_SERIAL_GSI   4
#define LAYOUT_GED_GSI      5
#define LAYOUT_PCI_INTX_GSI 16 /* 8 lines, round robin over slots */

#define PORT_I8042         0x61
#define PORT_RTC           0x70
#define PORT_DEBUG         0x80
#define PORT_DEBUG_CONSOLE 0xe9
#define PORT_SERIAL        0x3f8
#define PORT_FW_CFG        0x510
#define PORT_ACPI_RESET    0x600
#define PORT_PM_TIMER      0x608
#define PORT_WATCHDOG      0x620
#define PORT_PCI_CONFIG    0xcf8
