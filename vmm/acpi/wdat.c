/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WDAT: how the guest's watchdog driver reaches the registers of
 * vmm/devices/watchdog.c (Microsoft, "Hardware Watchdog Timers Design
 * Specification", 4)
 */
#include "vmm/acpi/wdat.h"
#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/devices/watchdog.h"

enum action {
	ACTION_RESET = 0x01,
	ACTION_QUERY_COUNTDOWN = 0x04,
	ACTION_QUERY_COUNT = 0x05,
	ACTION_SET_COUNT = 0x06,
	ACTION_QUERY_RUNNING = 0x08,
	ACTION_SET_RUNNING = 0x09,
	ACTION_QUERY_STOPPED = 0x0a,
	ACTION_SET_STOPPED = 0x0b,
	ACTION_QUERY_STATUS = 0x20,
	ACTION_SET_STATUS = 0x21,
};

enum instruction {
	READ_VALUE = 0,
	READ_COUNTDOWN = 1,
	WRITE_VALUE = 2,
	WRITE_COUNTDOWN = 3,
};

static const struct {
	enum action action;
	enum instruction instruction;
	uint16_t reg;
	uint32_t value, mask;
} rows[] = {
	{ ACTION_RESET, WRITE_VALUE, WATCHDOG_FEED, 1, 1 },
	{ ACTION_QUERY_COUNTDOWN, READ_COUNTDOWN, WATCHDOG_FEED, 0, WATCHDOG_COUNT_MAX },
	{ ACTION_QUERY_COUNT, READ_COUNTDOWN, WATCHDOG_COUNT, 0, WATCHDOG_COUNT_MAX },
	{ ACTION_SET_COUNT, WRITE_COUNTDOWN, WATCHDOG_COUNT, 0, WATCHDOG_COUNT_MAX },
	{ ACTION_QUERY_RUNNING, READ_VALUE, WATCHDOG_CONTROL, 1, 1 },
	{ ACTION_SET_RUNNING, WRITE_VALUE, WATCHDOG_CONTROL, 1, 1 },
	{ ACTION_QUERY_STOPPED, READ_VALUE, WATCHDOG_CONTROL, 0, 1 },
	{ ACTION_SET_STOPPED, WRITE_VALUE, WATCHDOG_CONTROL, 0, 1 },
	{ ACTION_QUERY_STATUS, READ_VALUE, WATCHDOG_STATUS, 1, 1 },
	{ ACTION_SET_STATUS, WRITE_VALUE, WATCHDOG_STATUS, 1, 1 },
};

void acpi_emit_wdat(struct aml *a, const struct acpi_header *header)
{
	const struct acpi_wdat wdat = {
		.header = *header,
		.header_length = le32_make(sizeof(wdat) - sizeof(struct acpi_header)),
		.pci_segment = le16_make(0xff), /* not a PCI device */
		.pci_bus = 0xff,
		.pci_device = 0xff,
		.pci_function = 0xff,
		.timer_period = le32_make(WATCHDOG_PERIOD_MS),
		.max_count = le32_make(WATCHDOG_COUNT_MAX),
		.min_count = le32_make(WATCHDOG_COUNT_MIN),
		.flags = ACPI_WDAT_ENABLED,
		.entries = le32_make(ARRAY_SIZE(rows)),
	};

	aml_bytes(a, &wdat, sizeof(wdat));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct acpi_wdat_entry entry = {
			.action = rows[i].action,
			.instruction = rows[i].instruction,
			.region = { .space_id = ACPI_GAS_IO,
				    .bit_width = 32,
				    .access_size = 3,
				    .address = le64_make(PORT_WATCHDOG + rows[i].reg) },
			.value = le32_make(rows[i].value),
			.mask = le32_make(rows[i].mask),
		};

		aml_bytes(a, &entry, sizeof(entry));
	}
}
