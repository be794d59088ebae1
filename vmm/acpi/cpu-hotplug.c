/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/cpu-hotplug.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/hotplug-aml.h"
#include "vmm/acpi/tables.h"
#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/cpuid.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"

#define REG_SELECT     0x00
#define REG_FLAGS      0x04
#define REG_OST_EVENT  0x08
#define REG_OST_STATUS 0x0c

#define READABLE (CPU_HOTPLUG_PRESENT | CPU_HOTPLUG_INSERTED | CPU_HOTPLUG_ASKED)

static int validate(const void *state, struct err *err)
{
	const struct cpu_hotplug_state *st = state;

	if (st->selected >= VM_VCPUS_MAX)
		return err_set(err, EBADMSG, "cpu-hotplug: processor %u, there are at most %d",
			       st->selected, VM_VCPUS_MAX);
	for (size_t i = 0; i < VM_VCPUS_MAX; i++)
		if (st->flags[i] & ~READABLE)
			return err_set(err, EBADMSG,
				       "cpu-hotplug: flags 0x%x of processor %zu, unknown bits",
				       st->flags[i], i);
	return 0;
}

#define F(kind, member) STATE_##kind(struct cpu_hotplug_state, member)
static const struct state_field fields[] = { F(BYTES, flags), F(U32, selected), F(U32, ost_event) };
#undef F

const struct state_desc cpu_hotplug_state_desc = {
	.name = "cpu-hotplug",
	.version = 1,
	STATE_LAYOUT(struct cpu_hotplug_state, fields),
	.validate = validate,
};

static void hotplug_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct cpu_hotplug *h = container_of(dev, struct cpu_hotplug, mmio);
	uint32_t value = 0;

	memset(data, 0, len);
	if (len != sizeof(value))
		return;
	pthread_mutex_lock(&h->lock);
	if (off == REG_SELECT)
		value = h->st.selected;
	else if (off == REG_FLAGS)
		value = h->st.flags[h->st.selected];
	pthread_mutex_unlock(&h->lock);
	bytes_put_le(data, sizeof(value), value);
}

static void hotplug_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct cpu_hotplug *h = container_of(dev, struct cpu_hotplug, mmio);
	uint32_t value, selected, event;

	if (len != sizeof(value))
		return;
	value = (uint32_t)bytes_get_le(data, sizeof(value));
	pthread_mutex_lock(&h->lock);
	if (off == REG_SELECT && value < h->n)
		h->st.selected = value;
	else if (off == REG_FLAGS)
		h->st.flags[h->st.selected] &=
			(uint8_t) ~(value & (CPU_HOTPLUG_INSERTED | CPU_HOTPLUG_ASKED));
	else if (off == REG_OST_EVENT)
		h->st.ost_event = value;
	selected = h->st.selected;
	event = h->st.ost_event;
	pthread_mutex_unlock(&h->lock);

	if (off == REG_FLAGS && value & CPU_HOTPLUG_EJECT)
		h->ops->ejected(h->data, selected);
	else if (off == REG_OST_STATUS)
		h->ops->status(h->data, selected, event, value);
}

static const struct bus_ops hotplug_bus_ops = { "cpu-hotplug", hotplug_read, hotplug_write };

void cpu_hotplug_init(struct cpu_hotplug *h, struct ged *ged, uint32_t n,
		      const struct cpu_hotplug_ops *ops, void *data)
{
	*h = (struct cpu_hotplug){
		.mmio.ops = &hotplug_bus_ops, .ged = ged, .n = n, .ops = ops, .data = data
	};
	pthread_mutex_init(&h->lock, NULL);
}

void cpu_hotplug_deinit(struct cpu_hotplug *h)
{
	if (h->ged)
		pthread_mutex_destroy(&h->lock);
	h->ged = NULL;
}

void cpu_hotplug_reset(struct cpu_hotplug *h)
{
	pthread_mutex_lock(&h->lock);
	for (uint32_t i = 0; i < h->n; i++)
		h->st.flags[i] &= CPU_HOTPLUG_PRESENT;
	h->st.selected = h->st.ost_event = 0;
	pthread_mutex_unlock(&h->lock);
}

static void change(struct cpu_hotplug *h, uint32_t cpu, unsigned int clear, unsigned int set)
{
	pthread_mutex_lock(&h->lock);
	h->st.flags[cpu] = (uint8_t)((h->st.flags[cpu] & ~clear) | set);
	pthread_mutex_unlock(&h->lock);
}

void cpu_hotplug_set(struct cpu_hotplug *h, uint32_t cpu, bool present)
{
	change(h, cpu, READABLE, present ? CPU_HOTPLUG_PRESENT : 0);
}

void cpu_hotplug_insert(struct cpu_hotplug *h, uint32_t cpu)
{
	change(h, cpu, READABLE, CPU_HOTPLUG_PRESENT | CPU_HOTPLUG_INSERTED);
	ged_raise(h->ged, GED_CPU);
}

void cpu_hotplug_ask(struct cpu_hotplug *h, uint32_t cpu)
{
	change(h, cpu, CPU_HOTPLUG_INSERTED, CPU_HOTPLUG_ASKED);
	ged_raise(h->ged, GED_CPU);
}

void cpu_hotplug_forget(struct cpu_hotplug *h, uint32_t cpu)
{
	change(h, cpu, CPU_HOTPLUG_ASKED, 0);
}

/* --- DSDT ------------------------------------------------------------------ */

static struct hotplug_units processors(const struct acpi_params *params)
{
	static_assert(VM_VCPUS_MAX <= HOTPLUG_UNITS_MAX, "every processor has a name");

	return (struct hotplug_units){
		.letter = 'C',
		.n = params->cpus->max_vcpus,
		.notify = "CTFY",
		.lock = "\\_SB_.PRES.CPLK",
		.select = "\\_SB_.PRES.CSEL",
		.flags = "\\_SB_.PRES.CPFL",
		.ost_event = "\\_SB_.PRES.CEVT",
		.ost_status = "\\_SB_.PRES.CSTS",
	};
}

static const struct hotplug_news news[] = {
	{ CPU_HOTPLUG_INSERTED, HOTPLUG_DEVICE_CHECK },
	{ CPU_HOTPLUG_ASKED, HOTPLUG_EJECT_REQUEST },
};

static void emit_controller(struct aml *a, uint64_t gpa)
{
	static const char *const registers[] = { "CSEL", "CPFL", "CEVT", "CSTS" };

	aml_open_device(a, "PRES");
	hotplug_aml_controller(a, "CPU hotplug controller", "CPLK", "PRST", gpa, CPU_HOTPLUG_SIZE);
	aml_open_field(a, "PRST", AML_ACCESS_DWORD);
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		aml_field_member(a, registers[i], 32);
	aml_close(a);
	aml_close(a);
}

/* CEJ0 (processor) */
static void emit_eject(struct aml *a, const struct hotplug_units *units)
{
	hotplug_aml_open(a, units, "CEJ0", 1);
	aml_store_integer(a, CPU_HOTPLUG_EJECT, units->flags);
	hotplug_aml_close(a, units);
}

static void emit_cpu(struct aml *a, const struct acpi_params *params,
		     const struct hotplug_units *units, uint32_t cpu)
{
	const struct acpi_madt_x2apic entry = {
		.type = ACPI_MADT_X2APIC,
		.length = sizeof(entry),
		.apic_id = le32_make(x86_apic_id(params->cpus, cpu)),
		.flags = le32_make(ACPI_MADT_ENABLED),
		.uid = le32_make(cpu),
	};
	char name[5];

	aml_open_device(a, hotplug_aml_unit(units, cpu, name));
	aml_name(a, "_HID");
	aml_string(a, "ACPI0007");
	aml_name_integer(a, "_UID", cpu);
	if (params->topology->numa)
		aml_name_integer(a, "_PXM", numa_of_vcpu(params->topology->numa, cpu));
	aml_name(a, "_MAT");
	aml_buffer(a, &entry, sizeof(entry));
	hotplug_aml_forward(a, "_STA", 0, "CSTA", cpu);
	/* The first one stays: it is the one that boots. */
	if (cpu > 0)
		hotplug_aml_forward(a, "_EJ0", 1, "CEJ0", cpu);
	hotplug_aml_forward(a, "_OST", 3, "COST", cpu);
	aml_close(a);
}

static void emit(struct aml *a, const struct acpi_params *params)
{
	const struct hotplug_units units = processors(params);

	emit_controller(a, params->windows->platform_start + LAYOUT_PLATFORM_CPU_HOTPLUG);
	aml_open_device(a, "CPUS");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0010");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A05");
	hotplug_aml_status(a, &units, "CSTA", CPU_HOTPLUG_PRESENT);
	emit_eject(a, &units);
	hotplug_aml_answer(a, &units, "COST");
	hotplug_aml_notify(a, &units);
	hotplug_aml_scan(a, &units, "CSCN", news, ARRAY_SIZE(news));
	for (uint32_t i = 0; i < units.n; i++)
		emit_cpu(a, params, &units, i);
	aml_close(a);
}

static void on_event(struct aml *a)
{
	aml_path(a, "\\_SB_.CPUS.CSCN");
}

/* One processor is the one that boots: nothing to come, nothing to go. */
static bool present(const struct acpi_params *params)
{
	return params->cpus->max_vcpus > 1;
}

const struct acpi_part acpi_part_cpu_hotplug = {
	.name = "cpu-hotplug",
	.emit = emit,
	.ged_bit = GED_CPU,
	.on_event = on_event,
	.present = present,
};
