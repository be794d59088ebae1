/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/smbios.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "build-config.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/smbios-abi.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"

#define TABLE_GPA         (LAYOUT_SMBIOS + 0x20) /* behind the entry point, aligned */
#define TABLE_MAX         (LAYOUT_HIGH_RAM - TABLE_GPA)
#define STRINGS_MAX       255 /* a string number is a byte */
#define STRINGS_FIXED_MAX 8
#define BIOS_DATE         "01/01/2026" /* 7.1: mm/dd/yyyy */

/* One structure under construction: the strings that follow it. */
struct strings {
	const char *list[STRINGS_FIXED_MAX];
	uint8_t n;
};

/* The number of a string, 0 for none. */
static uint8_t string_add(struct strings *s, const char *text)
{
	if (!text || !*text)
		return 0;
	s->list[s->n++] = text;
	return s->n;
}

/* A string set ends with an empty string; with no strings at all there are two zeros (6.1.3). */
static void structure_end(struct aml *out, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		aml_bytes(out, list[i], strlen(list[i]) + 1);
	aml_bytes(out, "\0", n ? 1 : 2);
}

static struct smbios_header header_make(enum smbios_type type, size_t length, uint16_t *handle)
{
	return (struct smbios_header){
		.type = (uint8_t)type,
		.length = (uint8_t)length,
		.handle = le16_make((*handle)++),
	};
}

static void add_bios(struct aml *out, uint16_t *handle)
{
	struct strings s = { 0 };
	struct smbios_bios bios = {
		.header = header_make(SMBIOS_BIOS, sizeof(bios), handle),
		.vendor = string_add(&s, "Brume"),
		.version = string_add(&s, BRUME_VERSION),
		.release_date = string_add(&s, BIOS_DATE),
		.characteristics = le64_make(SMBIOS_BIOS_PCI),
		.ext2 = SMBIOS_BIOS_EXT2_VM,
		.release_major = 0xff,
		.release_minor = 0xff, /* not told */
		.ec_major = 0xff,
		.ec_minor = 0xff,
	};

	aml_bytes(out, &bios, sizeof(bios));
	structure_end(out, s.list, s.n);
}

/* "aabbccdd-eeff-gghh-iijj-kkllmmnnoopp" as dd cc bb aa ff ee hh gg ii jj ... (7.2.1). */
static int uuid_parse(const char *text, uint8_t ret[static 16])
{
	static const uint8_t order[16] = {
		6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34
	};

	if (strlen(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' ||
	    text[23] != '-')
		return -EINVAL;
	for (size_t i = 0; i < 16; i++) {
		int high = g_ascii_xdigit_value(text[order[i]]);
		int low = g_ascii_xdigit_value(text[order[i] + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int add_system(struct aml *out, const struct platform_config *p, uint16_t *handle,
		      struct err *err)
{
	struct strings s = { 0 };
	struct smbios_system system = {
		.header = header_make(SMBIOS_SYSTEM, sizeof(system), handle),
		.wake_up = SMBIOS_WAKE_UP_POWER_SWITCH,
	};

	system.manufacturer = string_add(&s, p->manufacturer ? p->manufacturer : "Brume");
	system.product = string_add(&s, p->product_name ? p->product_name : "brume");
	system.version = string_add(&s, p->version);
	system.serial = string_add(&s, p->serial_number);
	system.sku = string_add(&s, p->sku_number);
	system.family = string_add(&s, p->family);
	/* no UUID: all zeros, "not present and cannot be set" would be all ones */
	if (p->uuid && uuid_parse(p->uuid, system.uuid) < 0)
		return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
				 "/platform/uuid: '%s' is not of the form "
				 "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
				 p->uuid);
	aml_bytes(out, &system, sizeof(system));
	structure_end(out, s.list, s.n);
	return 0;
}

static void add_chassis(struct aml *out, const struct platform_config *p, uint16_t *handle)
{
	struct strings s = { 0 };
	struct smbios_chassis chassis = {
		.header = header_make(SMBIOS_CHASSIS, sizeof(chassis), handle),
		.manufacturer = string_add(&s, p->manufacturer ? p->manufacturer : "Brume"),
		.type = SMBIOS_CHASSIS_OTHER,
		.boot_state = SMBIOS_CHASSIS_UNKNOWN,
		.power_state = SMBIOS_CHASSIS_UNKNOWN,
		.thermal_state = SMBIOS_CHASSIS_UNKNOWN,
		.security = SMBIOS_CHASSIS_UNKNOWN,
	};

	chassis.asset_tag = string_add(&s, p->chassis_asset_tag);
	aml_bytes(out, &chassis, sizeof(chassis));
	structure_end(out, s.list, s.n);
}

static int add_oem_strings(struct aml *out, char *const *list, uint16_t *handle, struct err *err)
{
	struct smbios_oem_strings oem = {
		.header = header_make(SMBIOS_OEM_STRINGS, sizeof(oem), handle),
	};
	size_t n = 0;

	for (; list[n]; n++) {
		/* an empty string would end the set, and the numbers of the others would be wrong
		 */
		if (!*list[n])
			return err_fault(err, FAULT_BAD_CONFIG, EINVAL,
					 "/platform/oem_strings/%zu: empty", n);
	}
	if (n > STRINGS_MAX)
		return err_fault(err, FAULT_BAD_CONFIG, E2BIG,
				 "/platform/oem_strings: %zu strings, more than %d", n,
				 STRINGS_MAX);
	oem.count = (uint8_t)n;
	aml_bytes(out, &oem, sizeof(oem));
	structure_end(out, (const char *const *)list, n);
	return 0;
}

static void add_end(struct aml *out, uint16_t *handle)
{
	const struct smbios_header end = header_make(SMBIOS_END, sizeof(end), handle);

	aml_bytes(out, &end, sizeof(end));
	structure_end(out, NULL, 0);
}

int smbios_build(struct guest_mem *mem, const struct platform_config *platform, struct err *err)
{
	struct smbios_entry entry = {
		.anchor = { '_', 'S', 'M', '3', '_' },
		.length = sizeof(entry),
		.major = 3,
		.minor = 2,
		.revision = 1,
		.table_gpa = le64_make(TABLE_GPA),
	};
	_cleanup_(aml_deinit) struct aml out = { 0 };
	const uint8_t *bytes = (const uint8_t *)&entry;
	uint16_t handle = 0;
	uint8_t sum = 0;
	int r;

	add_bios(&out, &handle);
	r = add_system(&out, platform, &handle, err);
	if (r < 0)
		return r;
	if (platform->chassis_asset_tag && *platform->chassis_asset_tag)
		add_chassis(&out, platform, &handle);
	if (platform->oem_strings && platform->oem_strings[0]) {
		r = add_oem_strings(&out, platform->oem_strings, &handle, err);
		if (r < 0)
			return r;
	}
	add_end(&out, &handle);
	if (aml_finish(&out) < 0)
		return err_errno(err, ENOMEM, "SMBIOS");
	if (out.len > TABLE_MAX)
		return err_fault(
			err, FAULT_BAD_CONFIG, E2BIG,
			"/platform: its strings need %zu bytes of SMBIOS tables, more than "
			"%llu",
			out.len, TABLE_MAX);

	entry.max_size = le32_make((uint32_t)out.len);
	for (size_t i = 0; i < sizeof(entry); i++)
		sum = (uint8_t)(sum + bytes[i]);
	entry.checksum = (uint8_t)-sum;
	r = guest_write(mem, TABLE_GPA, out.data, out.len);
	if (r >= 0)
		r = guest_write(mem, LAYOUT_SMBIOS, &entry, sizeof(entry));
	if (r < 0)
		return err_set(err, -r, "SMBIOS: no guest memory at 0x%llx", LAYOUT_SMBIOS);
	return 0;
}
