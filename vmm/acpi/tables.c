/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/tables.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/pm.h"
#include "vmm/acpi/topology.h"
#include "vmm/acpi/wdat.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/memory/guest-memory.h"

#define OEM_ID           "BRUME "
#define OEM_TABLE_ID     "BRUMEVM "
#define CREATOR_ID       "BRUM"
#define ALIGNMENT        16
#define XSDT_ENTRIES_MAX 7

/* Where the next table goes, between LAYOUT_RSDP and LAYOUT_VMGENID. */
struct writer {
	struct guest_mem *mem;
	uint64_t next_gpa;
	struct err *err;
};

static uint8_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

/* The length is set when the table is complete. */
static struct acpi_header header_make(const char *signature, uint8_t revision)
{
	struct acpi_header h = {
		.revision = revision,
		.oem_revision = le32_make(1),
		.creator_revision = le32_make(1),
	};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator_id, CREATOR_ID, sizeof(h.creator_id));
	return h;
}

/* Completes length and checksum of the table at data and places it. */
static int place(struct writer *w, void *data, size_t len, uint64_t *ret_gpa)
{
	struct acpi_header *h = data;
	int r;

	if (!range_fits(w->next_gpa, len, LAYOUT_VMGENID))
		return err_set(w->err, ENOSPC,
			       "ACPI: table %.4s of %zu bytes does not fit below 0x%llx",
			       h->signature, len, LAYOUT_VMGENID);
	h->length = le32_make((uint32_t)len);
	h->checksum = 0;
	h->checksum = checksum(data, len);
	r = guest_write(w->mem, w->next_gpa, data, len);
	if (r < 0)
		return err_set(w->err, -r, "ACPI: no guest memory at 0x%llx",
			       (unsigned long long)w->next_gpa);
	*ret_gpa = w->next_gpa;
	w->next_gpa = align_up(w->next_gpa + len, ALIGNMENT);
	return 0;
}

static int place_aml(struct writer *w, struct aml *a, uint64_t *ret_gpa)
{
	if (aml_finish(a) < 0)
		return err_errno(w->err, ENOMEM, "ACPI");
	return place(w, a->data, a->len, ret_gpa);
}

static int build_dsdt(struct writer *w, const struct acpi_params *params, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("DSDT", 6); /* 2 or more: 64-bit integers */
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &h, sizeof(h));
	acpi_emit_dsdt(&a, params);
	return place_aml(w, &a, ret_gpa);
}

static struct acpi_gas io_register(uint16_t port, uint8_t bytes)
{
	return (struct acpi_gas){
		.space_id = ACPI_GAS_IO,
		.bit_width = (uint8_t)(bytes * 8),
		.access_size = bytes == 4 ? 3 : 1,
		.address = le64_make(port),
	};
}

static int build_fadt(struct writer *w, uint64_t dsdt_gpa, uint64_t *ret_gpa)
{
	struct acpi_fadt fadt = {
		.header = header_make("FACP", 6),
		.minor_version = 3,
		/* No 8042, no VGA; the CMOS clock is there. No PCIe ports, so no ASPM. */
		.iapc_boot_arch = le16_make(ACPI_BOOT_VGA_ABSENT | ACPI_BOOT_NO_ASPM),
		.flags = le32_make(ACPI_FADT_WBINVD | ACPI_FADT_PWR_BUTTON | ACPI_FADT_SLP_BUTTON |
				   ACPI_FADT_TMR_VAL_EXT | ACPI_FADT_RESET_REG_SUP |
				   ACPI_FADT_HW_REDUCED),
		.reset_reg = io_register(PORT_ACPI_RESET, 1),
		.reset_value = PM_RESET_VALUE,
		.pm_tmr_len = PM_TIMER_SIZE,
		.x_pm_tmr_blk = io_register(PORT_PM_TIMER, PM_TIMER_SIZE),
		.x_dsdt = le64_make(dsdt_gpa),
		.sleep_control_reg = io_register(PORT_ACPI_RESET, 1),
		.sleep_status_reg = io_register(PORT_ACPI_RESET, 1),
		.hypervisor_vendor = { 'B', 'R', 'U', 'M', 'E' },
	};

	return place(w, &fadt, sizeof(fadt), ret_gpa);
}

/*
 * Every vCPU there may ever be, in the order of their indexes; x2APIC entries
 * even for ids below 255, so that one kind covers any number.
 */
static int build_madt(struct writer *w, const struct acpi_params *params, uint64_t *ret_gpa)
{
	const struct cpus_config *cpus = params->cpus;
	const struct acpi_madt madt = {
		.header = header_make("APIC", 5),
		.local_apic_address = le32_make(LAYOUT_LAPIC),
	};
	const struct acpi_madt_ioapic ioapic = {
		.type = ACPI_MADT_IOAPIC,
		.length = sizeof(ioapic),
		.address = le32_make(LAYOUT_IOAPIC),
	};
	const struct acpi_madt_int_override serial = {
		.type = ACPI_MADT_INT_OVERRIDE,
		.length = sizeof(serial),
		.source = LAYOUT_SERIAL_GSI,
		.gsi = le32_make(LAYOUT_SERIAL_GSI),
	};
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &madt, sizeof(madt));
	for (uint32_t i = 0; i < cpus->max_vcpus; i++) {
		bool present =
			params->cpus_present ? params->cpus_present[i] : i < cpus->boot_vcpus;
		const struct acpi_madt_x2apic cpu = {
			.type = ACPI_MADT_X2APIC,
			.length = sizeof(cpu),
			.apic_id = le32_make(x86_apic_id(cpus, i)),
			/* online capable must be clear where enabled is set */
			.flags = le32_make(present ? ACPI_MADT_ENABLED : ACPI_MADT_ONLINE_CAPABLE),
			.uid = le32_make(i),
		};

		aml_bytes(&a, &cpu, sizeof(cpu));
	}
	aml_bytes(&a, &ioapic, sizeof(ioapic));
	aml_bytes(&a, &serial, sizeof(serial));
	return place_aml(w, &a, ret_gpa);
}

static int build_mcfg(struct writer *w, uint32_t n_segments, uint64_t *ret_gpa)
{
	const struct acpi_mcfg mcfg = { .header = header_make("MCFG", 1) };
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &mcfg, sizeof(mcfg));
	for (uint32_t i = 0; i < n_segments; i++) {
		const struct acpi_mcfg_segment segment = {
			.base = le64_make(LAYOUT_ECAM_START + i * MIB),
			.segment = le16_make((uint16_t)i),
		};

		aml_bytes(&a, &segment, sizeof(segment));
	}
	return place_aml(w, &a, ret_gpa);
}

static int build_wdat(struct writer *w, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("WDAT", 1);
	_cleanup_(aml_deinit) struct aml a = { 0 };

	acpi_emit_wdat(&a, &h);
	return place_aml(w, &a, ret_gpa);
}

static int build_srat(struct writer *w, const struct acpi_topology *t, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("SRAT", 3);
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &h, sizeof(h));
	acpi_emit_srat(&a, t, w->mem);
	return place_aml(w, &a, ret_gpa);
}

static int build_slit(struct writer *w, const struct acpi_topology *t, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("SLIT", 1);
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &h, sizeof(h));
	acpi_emit_slit(&a, t->numa);
	return place_aml(w, &a, ret_gpa);
}

static int build_viot(struct writer *w, const struct acpi_topology *t, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("VIOT", 0);
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &h, sizeof(h));
	acpi_emit_viot(&a, t->iommu);
	return place_aml(w, &a, ret_gpa);
}

static int build_xsdt(struct writer *w, const uint64_t *tables, size_t n, uint64_t *ret_gpa)
{
	const struct acpi_header h = header_make("XSDT", 1);
	_cleanup_(aml_deinit) struct aml a = { 0 };

	aml_bytes(&a, &h, sizeof(h));
	for (size_t i = 0; i < n; i++) {
		le64 gpa = le64_make(tables[i]);

		aml_bytes(&a, &gpa, sizeof(gpa));
	}
	return place_aml(w, &a, ret_gpa);
}

static int write_rsdp(struct writer *w, uint64_t xsdt_gpa)
{
	struct acpi_rsdp rsdp = {
		.signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' },
		.revision = 2,
		.length = le32_make(sizeof(rsdp)),
		.xsdt_address = le64_make(xsdt_gpa),
	};
	int r;

	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum(&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	r = guest_write(w->mem, LAYOUT_RSDP, &rsdp, sizeof(rsdp));
	if (r < 0)
		return err_set(w->err, -r, "ACPI: no guest memory at 0x%llx", LAYOUT_RSDP);
	return 0;
}

int acpi_build(struct guest_mem *mem, const struct acpi_params *params, uint64_t *ret_rsdp,
	       struct err *err)
{
	struct writer w = {
		.mem = mem,
		.next_gpa = align_up(LAYOUT_RSDP + sizeof(struct acpi_rsdp), ALIGNMENT),
		.err = err,
	};
	uint64_t dsdt = 0, xsdt = 0, tables[XSDT_ENTRIES_MAX] = { 0 };
	size_t n = 0;
	int r;

	r = build_dsdt(&w, params, &dsdt);
	if (r >= 0)
		r = build_fadt(&w, dsdt, &tables[n++]);
	if (r >= 0)
		r = build_madt(&w, params, &tables[n++]);
	if (r >= 0)
		r = build_mcfg(&w, params->topology->n_segments, &tables[n++]);
	if (r >= 0 && params->topology->numa)
		r = build_srat(&w, params->topology, &tables[n++]);
	if (r >= 0 && params->topology->numa)
		r = build_slit(&w, params->topology, &tables[n++]);
	if (r >= 0 && params->topology->iommu)
		r = build_viot(&w, params->topology, &tables[n++]);
	if (r >= 0 && params->watchdog)
		r = build_wdat(&w, &tables[n++]);
	if (r >= 0)
		r = build_xsdt(&w, tables, n, &xsdt);
	if (r >= 0)
		r = write_rsdp(&w, xsdt);
	if (r < 0)
		return r;
	*ret_rsdp = LAYOUT_RSDP;
	return 0;
}
