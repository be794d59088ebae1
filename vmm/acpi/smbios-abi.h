/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout of SMBIOS structures: DSP0134 3.2
 *
 * String members are numbers, from 1, of the zero-terminated strings that
 * follow the structure; 0 = none.  The specification packs them.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/bytes.h"

#define SMBIOS_PACKED __attribute__((packed))

struct smbios_entry {   /* 5.2.2 */
	char anchor[5]; /* "_SM3_" */
	uint8_t checksum, length, major, minor, docrev, revision, reserved;
	le32 max_size;
	le64 table_gpa;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_entry) == 24, "5.2.2");

enum smbios_type {
	SMBIOS_BIOS = 0,
	SMBIOS_SYSTEM = 1,
	SMBIOS_CHASSIS = 3,
	SMBIOS_OEM_STRINGS = 11,
	SMBIOS_END = 127,
};

struct smbios_header { /* 6.1.2 */
	uint8_t type, length;
	le16 handle;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_header) == 4, "6.1.2");

#define SMBIOS_BIOS_PCI     (1u << 7)
#define SMBIOS_BIOS_EXT2_VM (1u << 4)

struct smbios_bios { /* 7.1 */
	struct smbios_header header;
	uint8_t vendor, version;
	le16 start_segment;
	uint8_t release_date, rom_size;
	le64 characteristics;
	uint8_t ext1, ext2, release_major, release_minor, ec_major, ec_minor;
	le16 extended_rom_size;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_bios) == 0x1a, "7.1");

#define SMBIOS_WAKE_UP_POWER_SWITCH 6

struct smbios_system { /* 7.2 */
	struct smbios_header header;
	uint8_t manufacturer, product, version, serial;
	uint8_t uuid[16]; /* first three fields little-endian: 7.2.1 */
	uint8_t wake_up, sku, family;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_system) == 0x1b, "7.2");

#define SMBIOS_CHASSIS_OTHER   1
#define SMBIOS_CHASSIS_UNKNOWN 2 /* state, security */

struct smbios_chassis { /* 7.4 */
	struct smbios_header header;
	uint8_t manufacturer, type, version, serial, asset_tag;
	uint8_t boot_state, power_state, thermal_state, security;
	le32 oem;
	uint8_t height, n_power_cords, n_elements, element_size, sku;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_chassis) == 0x16, "7.4, no contained elements");

struct smbios_oem_strings { /* 7.12 */
	struct smbios_header header;
	uint8_t count;
} SMBIOS_PACKED;
static_assert(sizeof(struct smbios_oem_strings) == 5, "7.12");
