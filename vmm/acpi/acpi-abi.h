/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of the ACPI tables that are not AML: ACPI 6.5, chapter 5.2
 *
 * Multi-byte fields of these tables are naturally aligned or not as history
 * had it, hence packed.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"

#define ACPI_PACKED __attribute__((packed))

struct acpi_rsdp {         /* 5.2.5.3 */
	char signature[8]; /* "RSD PTR " */
	uint8_t checksum;  /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	le32 rsdt_address;
	le32 length;
	le64 xsdt_address;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_rsdp) == 36, "5.2.5.3");
static_assert(offsetof(struct acpi_rsdp, extended_checksum) == 32, "5.2.5.3");

struct acpi_header { /* 5.2.6 */
	char signature[4];
	le32 length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	le32 oem_revision;
	char creator_id[4];
	le32 creator_revision;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_header) == 36, "5.2.6");

enum acpi_gas_space {
	ACPI_GAS_MEMORY = 0,
	ACPI_GAS_IO = 1,
};

struct acpi_gas { /* 5.2.3.2 */
	uint8_t space_id, bit_width, bit_offset;
	uint8_t access_size; /* 1 byte, 2 word, 3 dword, 4 qword */
	le64 address;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_gas) == 12, "5.2.3.2");

#define ACPI_FADT_WBINVD        (1u << 0)
#define ACPI_FADT_PWR_BUTTON    (1u << 4) /* no fixed-feature button: PWRB is a device */
#define ACPI_FADT_SLP_BUTTON    (1u << 5)
#define ACPI_FADT_TMR_VAL_EXT   (1u << 8)
#define ACPI_FADT_RESET_REG_SUP (1u << 10)
#define ACPI_FADT_HW_REDUCED    (1u << 20)

#define ACPI_BOOT_VGA_ABSENT (1u << 2)
#define ACPI_BOOT_NO_ASPM    (1u << 4)

struct acpi_fadt { /* 5.2.9 */
	struct acpi_header header;
	le32 firmware_ctrl, dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	le16 sci_int;
	le32 smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	le32 pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
	le32 gpe0_blk, gpe1_blk;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	uint8_t gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
	le16 p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
	le16 iapc_boot_arch;
	uint8_t reserved1;
	le32 flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	le16 arm_boot_arch;
	uint8_t minor_version;
	le64 x_firmware_ctrl, x_dsdt;
	struct acpi_gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk,
		x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
	struct acpi_gas sleep_control_reg, sleep_status_reg;
	char hypervisor_vendor[8];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_fadt) == 276, "5.2.9, revision 6");
static_assert(offsetof(struct acpi_fadt, flags) == 112, "5.2.9");
static_assert(offsetof(struct acpi_fadt, hypervisor_vendor) == 268, "5.2.9");

struct acpi_madt { /* 5.2.12 */
	struct acpi_header header;
	le32 local_apic_address;
	le32 flags; /* bit 0: there are 8259s too */
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt) == 44, "5.2.12");

enum acpi_madt_type {
	ACPI_MADT_IOAPIC = 1,
	ACPI_MADT_INT_OVERRIDE = 2,
	ACPI_MADT_X2APIC = 9,
};

#define ACPI_MADT_ENABLED        (1u << 0)
#define ACPI_MADT_ONLINE_CAPABLE (1u << 1)

struct acpi_madt_ioapic { /* 5.2.12.3 */
	uint8_t type, length, id, reserved;
	le32 address, gsi_base;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_ioapic) == 12, "5.2.12.3");

struct acpi_madt_int_override { /* 5.2.12.5 */
	uint8_t type, length, bus, source;
	le32 gsi;
	le16 flags; /* 0: as the bus, for ISA edge and active high */
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_int_override) == 10, "5.2.12.5");

struct acpi_madt_x2apic { /* 5.2.12.12 */
	uint8_t type, length;
	le16 reserved;
	le32 apic_id, flags, uid;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_madt_x2apic) == 16, "5.2.12.12");

struct acpi_mcfg { /* PCI Firmware Specification 3.2, 4.1.2 */
	struct acpi_header header;
	le64 reserved;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_mcfg) == 44, "PCI FW 4.1.2");

struct acpi_mcfg_segment {
	le64 base;
	le16 segment;
	uint8_t bus_start, bus_end;
	le32 reserved;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_mcfg_segment) == 16, "PCI FW 4.1.2");

#define ACPI_SRAT_ENABLED       (1u << 0)
#define ACPI_SRAT_HOT_PLUGGABLE (1u << 1)

enum acpi_srat_type {
	ACPI_SRAT_MEMORY = 1,
	ACPI_SRAT_X2APIC = 2,
};

struct acpi_srat_header { /* 5.2.16, after the table's header */
	le32 revision;
	uint8_t reserved[8];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_srat_header) == 12, "5.2.16");

struct acpi_srat_memory { /* 5.2.16.2 */
	uint8_t type, length;
	le32 domain;
	le16 reserved1;
	le64 base, size;
	le32 reserved2;
	le32 flags;
	le64 reserved3;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_srat_memory) == 40, "5.2.16.2");

struct acpi_srat_x2apic { /* 5.2.16.3 */
	uint8_t type, length;
	le16 reserved1;
	le32 domain, apic_id, flags, clock_domain, reserved2;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_srat_x2apic) == 24, "5.2.16.3");

struct acpi_viot_header { /* 5.2.33, after the table's header */
	le16 node_count, node_offset;
	uint8_t reserved[8];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_viot_header) == 12, "5.2.33");

enum acpi_viot_type {
	ACPI_VIOT_PCI_RANGE = 1,
	ACPI_VIOT_VIRTIO_PCI = 3,
};

struct acpi_viot_pci_range {
	uint8_t type, reserved1;
	le16 length;
	le32 endpoint_start;
	le16 segment_start, segment_end, bdf_start, bdf_end;
	le16 output_node;
	uint8_t reserved2[6];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_viot_pci_range) == 24, "5.2.33");

struct acpi_viot_virtio_iommu {
	uint8_t type, reserved1;
	le16 length;
	le16 segment, bdf;
	uint8_t reserved2[8];
} ACPI_PACKED;
static_assert(sizeof(struct acpi_viot_virtio_iommu) == 16, "5.2.33");

#define ACPI_WDAT_ENABLED (1u << 0)

/* Microsoft, "Hardware Watchdog Timers Design Specification", 4.1 */
struct acpi_wdat {
	struct acpi_header header;
	le32 header_length; /* of what follows, up to the entries */
	le16 pci_segment;
	uint8_t pci_bus, pci_device, pci_function;
	uint8_t reserved0[3];
	le32 timer_period; /* milliseconds */
	le32 max_count, min_count;
	uint8_t flags;
	uint8_t reserved1[3];
	le32 entries;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_wdat) == 68, "WDAT 4.1");

struct acpi_wdat_entry {
	uint8_t action, instruction;
	le16 reserved;
	struct acpi_gas region;
	le32 value, mask;
} ACPI_PACKED;
static_assert(sizeof(struct acpi_wdat_entry) == 24, "WDAT 4.2");
