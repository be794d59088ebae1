/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DSDT's frame, and the small devices that have no controller
 */
#include "vmm/acpi/aml.h"
#include "vmm/acpi/tables.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/devices/fw-cfg.h"

static const struct acpi_part *const parts[] = {
	&acpi_part_pci,
	&acpi_part_pci_hotplug,
	&acpi_part_cpu_hotplug,
	&acpi_part_memory_hotplug,
	&acpi_part_serial,
	&acpi_part_rtc,
	&acpi_part_power_button,
	&acpi_part_vmgenid,
	&acpi_part_fw_cfg,
	&acpi_part_ged, /* last: its event method refers to the others */
	NULL,
};

const struct acpi_part *const *acpi_parts(void)
{
	return parts;
}

static bool serial_present(const struct acpi_params *params)
{
	return params->serial;
}

static void serial_emit(struct aml *a, const struct acpi_params *params _unused_)
{
	struct aml res = { 0 };

	aml_open_device(a, "COM1");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name_integer(a, "_UID", 0);
	aml_name(a, "_DDN");
	aml_string(a, "COM1");
	aml_res_io(&res, PORT_SERIAL, 8);
	aml_res_irq_edge(&res, LAYOUT_SERIAL_GSI);
	aml_name_crs(a, &res);
	aml_close(a);
}

const struct acpi_part acpi_part_serial = {
	.name = "serial",
	.emit = serial_emit,
	.present = serial_present,
};

/* Without an interrupt: the CMOS clock's alarm is not wired. */
static void rtc_emit(struct aml *a, const struct acpi_params *params _unused_)
{
	struct aml res = { 0 };

	aml_open_device(a, "RTC0");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0B00");
	aml_res_io(&res, PORT_RTC, 2);
	aml_name_crs(a, &res);
	aml_close(a);
}

const struct acpi_part acpi_part_rtc = { .name = "rtc", .emit = rtc_emit };

static bool fw_cfg_present(const struct acpi_params *params)
{
	return params->fw_cfg;
}

static void fw_cfg_emit(struct aml *a, const struct acpi_params *params _unused_)
{
	struct aml res = { 0 };

	aml_open_device(a, "FWCF");
	aml_name(a, "_HID");
	aml_string(a, "QEMU0002");
	aml_name_integer(a, "_STA", 0x0b); /* there, decoding, working; not for the user's eyes */
	aml_res_io(&res, PORT_FW_CFG, FW_CFG_PORTS);
	aml_name_crs(a, &res);
	aml_close(a);
}

const struct acpi_part acpi_part_fw_cfg = {
	.name = "fw-cfg",
	.emit = fw_cfg_emit,
	.present = fw_cfg_present,
};

void acpi_emit_dsdt(struct aml *a, const struct acpi_params *params)
{
	static const uint8_t s5[] = { 5, 5, 0,
				      0 }; /* SLP_TYP for both registers; OpenBSD wants four */

	aml_open_scope(a, "\\_SB_");
	for (const struct acpi_part *const *p = parts; *p; p++)
		if (!(*p)->present || (*p)->present(params))
			(*p)->emit(a, params);
	aml_close(a);

	aml_name(a, "\\_S5_");
	aml_open_package(a, sizeof(s5));
	for (size_t i = 0; i < sizeof(s5); i++)
		aml_integer(a, s5[i]);
	aml_close(a);
}
