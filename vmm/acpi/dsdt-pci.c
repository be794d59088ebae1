/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI in the DSDT: the host bridges with their windows and interrupt routing, and
 * the board device that reserves the ECAM window (PCI Firmware Specification
 * 3.2, 4.1.2: reserved by a motherboard resource, not part of the bridge)
 */
#include <assert.h>
#include <stdio.h>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/acpi/tables.h"
#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"

#define SLOTS             32
#define PINS              4
#define INTX_LINES        8
#define ECAM_SEGMENT_SIZE 0x100000u /* one bus: 32 slots, 8 functions, 4 KiB each */

/* In a machine with more a refusal goes unheard: its tables would not fit below 1 MiB. */
#define SEGMENTS_WITH_OST 32

#define DSM_UUID        "e5c937d0-3553-4d7a-9117-ea4d19c3434d" /* PCI FW 3.2, 4.6 */
#define DSM_BOOT_CONFIG 5

/*
 * _DSM (UUID, revision, function, arguments).  Function 5 answers 0: BARs are
 * where the VMM put them and should stay there (4.6.5).
 */
static void emit_dsm(struct aml *a)
{
	static const uint8_t functions[] = { 1 << 0 | 1 << DSM_BOOT_CONFIG };
	static const uint8_t none[] = { 0 };

	aml_open_method(a, "_DSM", 4, false);
	aml_open_if(a);
	aml_op(a, AML_LEQUAL);
	aml_arg(a, 0);
	aml_uuid(a, DSM_UUID);

	aml_open_if(a);
	aml_op(a, AML_LEQUAL);
	aml_arg(a, 2);
	aml_integer(a, 0);
	aml_op(a, AML_RETURN);
	aml_buffer(a, functions, sizeof(functions));
	aml_close(a);

	aml_open_if(a);
	aml_op(a, AML_LEQUAL);
	aml_arg(a, 2);
	aml_integer(a, DSM_BOOT_CONFIG);
	aml_op(a, AML_RETURN);
	aml_integer(a, 0);
	aml_close(a);

	aml_close(a);
	aml_op(a, AML_RETURN);
	aml_buffer(a, none, sizeof(none));
	aml_close(a);
}

/* Pin A of slot n on line n modulo 8, further pins on the next ones. */
static void emit_prt(struct aml *a)
{
	static_assert(SLOTS * PINS < 256, "a package counts its elements in a byte");

	aml_name(a, "_PRT");
	aml_open_package(a, SLOTS * PINS);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		for (uint32_t pin = 0; pin < PINS; pin++) {
			aml_open_package(a, 4);
			aml_integer(a, slot << 16 | 0xffff);
			aml_integer(a, pin);
			aml_integer(a, 0);
			aml_integer(a, LAYOUT_PCI_INTX_GSI + (slot + pin) % INTX_LINES);
			aml_close(a);
		}
	}
	aml_close(a);
}

static void emit_windows(struct aml *a, uint32_t segment, const struct x86_segment_windows *w)
{
	struct aml res = { 0 };

	aml_res_bus(&res, 0, 0);
	/* The ports are of segment 0: PCI Local Bus 3.0 knows no other. */
	if (segment == 0) {
		aml_res_io(&res, PORT_PCI_CONFIG, 8);
		aml_res_io_window(&res, 0, PORT_PCI_CONFIG - 1);
		aml_res_io_window(&res, PORT_PCI_CONFIG + 8, UINT16_MAX);
	}
	if (w->mmio32_size)
		aml_res_mem32_window(&res, (uint32_t)w->mmio32_start, (uint32_t)w->mmio32_size);
	if (w->mmio64_size)
		aml_res_mem64_window(&res, w->mmio64_start, w->mmio64_size);
	aml_name_crs(a, &res);
}

/* The lines of all segments are the same: one long package is enough. */
static void emit_same_prt(struct aml *a)
{
	aml_open_method(a, "_PRT", 0, false);
	aml_op(a, AML_RETURN);
	aml_path(a, "\\_SB_.PC00._PRT");
	aml_close(a);
}

static void emit_same_dsm(struct aml *a)
{
	aml_open_method(a, "_DSM", 4, false);
	aml_op(a, AML_RETURN);
	aml_path(a, "\\_SB_.PC00._DSM");
	for (unsigned int i = 0; i < 4; i++)
		aml_arg(a, i);
	aml_close(a);
}

static void emit_host_bridge(struct aml *a, uint32_t i, const struct acpi_topology *t)
{
	char name[5];

	snprintf(name, sizeof(name), "PC%02X", i & 0xff);
	aml_open_device(a, name);
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	aml_name_integer(a, "_SEG", i);
	aml_name_integer(a, "_BBN", 0);
	aml_name_integer(a, "_UID", i);
	aml_name_integer(a, "_CCA", 1);
	if (t->numa)
		aml_name_integer(a, "_PXM", t->segments[i].node);
	if (i == 0)
		emit_dsm(a);
	else
		emit_same_dsm(a);
	emit_windows(a, i, &t->segments[i].windows);
	if (i == 0)
		emit_prt(a);
	else
		emit_same_prt(a);
	if (i < PCI_HOTPLUG_SEGMENTS)
		acpi_emit_pci_slots(a, i, t->n_segments <= SEGMENTS_WITH_OST);
	aml_close(a);
}

static void emit_board(struct aml *a, uint32_t n_segments)
{
	struct aml res = { 0 };

	aml_open_device(a, "MBRD");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C02");
	aml_name_integer(a, "_UID", 0);
	aml_res_mem32_fixed(&res, LAYOUT_ECAM_START, n_segments * ECAM_SEGMENT_SIZE);
	aml_name_crs(a, &res);
	aml_close(a);
}

static void pci_emit(struct aml *a, const struct acpi_params *params)
{
	for (uint32_t i = 0; i < params->topology->n_segments; i++)
		emit_host_bridge(a, i, params->topology);
	emit_board(a, params->topology->n_segments);
}

const struct acpi_part acpi_part_pci = { .name = "pci", .emit = pci_emit };
