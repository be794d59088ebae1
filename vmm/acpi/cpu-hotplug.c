/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/cpu-hotplug.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/acpi/acpi-abi.h"
#include "vmm/acpi/aml.h"
#include "vmm/acpi/ged.h"
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

/* ACPI 6.5, table 5.166 */
#define NOTIFY_DEVICE_CHECK  1
#define NOTIFY_EJECT_REQUEST 3
/* 6.3.7 */
#define STA_ALL 0x0f

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

static const char *cpu_name(uint32_t cpu, char buf[static 5])
{
	static_assert(VM_VCPUS_MAX <= 0x1000, "three hexadecimal digits");
	snprintf(buf, 5, "C%03X", cpu & 0xfff);
	return buf;
}

static void store_integer(struct aml *a, uint64_t value, const char *to)
{
	aml_op(a, AML_STORE);
	aml_integer(a, value);
	aml_path(a, to);
}

static void emit_controller(struct aml *a, uint64_t gpa)
{
	static const char *const registers[] = { "CSEL", "CPFL", "CEVT", "CSTS" };
	struct aml res = { 0 };

	aml_open_device(a, "PRES");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A06");
	aml_name(a, "_UID");
	aml_string(a, "CPU hotplug controller");
	aml_name_integer(a, "_STA", 0x0b); /* there, decoding, working; not for the user's eyes */
	aml_mutex(a, "CPLK");
	aml_res_mem64(&res, gpa, CPU_HOTPLUG_SIZE);
	aml_name_crs(a, &res);
	aml_region(a, "PRST", AML_SYSTEM_MEMORY, gpa, CPU_HOTPLUG_SIZE);
	aml_open_field(a, "PRST", AML_ACCESS_DWORD);
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		aml_field_member(a, registers[i], 32);
	aml_close(a);
	aml_close(a);
}

/* Opens a method whose first argument is a processor, which is chosen then; the lock is held. */
static void open_cpu_method(struct aml *a, const char *name, unsigned int n_args)
{
	aml_open_method(a, name, n_args, true);
	aml_acquire(a, "\\_SB_.PRES.CPLK");
	aml_store_arg(a, 0, "\\_SB_.PRES.CSEL");
}

/* CSTA (processor): its _STA */
static void emit_status(struct aml *a)
{
	open_cpu_method(a, "CSTA", 1);
	aml_op(a, AML_STORE);
	aml_path(a, "\\_SB_.PRES.CPFL");
	aml_local(a, 0);
	aml_release(a, "\\_SB_.PRES.CPLK");
	aml_open_if(a);
	aml_op(a, AML_AND);
	aml_local(a, 0);
	aml_integer(a, CPU_HOTPLUG_PRESENT);
	aml_op(a, AML_NULL);
	aml_op(a, AML_RETURN);
	aml_integer(a, STA_ALL);
	aml_close(a);
	aml_op(a, AML_RETURN);
	aml_integer(a, 0);
	aml_close(a);
}

/* CEJ0 (processor), COST (processor, event, status) */
static void emit_answers(struct aml *a)
{
	open_cpu_method(a, "CEJ0", 1);
	store_integer(a, CPU_HOTPLUG_EJECT, "\\_SB_.PRES.CPFL");
	aml_release(a, "\\_SB_.PRES.CPLK");
	aml_close(a);

	open_cpu_method(a, "COST", 3);
	aml_store_arg(a, 1, "\\_SB_.PRES.CEVT");
	aml_store_arg(a, 2, "\\_SB_.PRES.CSTS");
	aml_release(a, "\\_SB_.PRES.CPLK");
	aml_close(a);
}

/* CTFY (processor, code) */
static void emit_notify(struct aml *a, uint32_t n)
{
	char name[5];

	aml_open_method(a, "CTFY", 2, true);
	for (uint32_t i = 0; i < n; i++) {
		aml_open_if(a);
		aml_op(a, AML_LEQUAL);
		aml_arg(a, 0);
		aml_integer(a, i);
		aml_op(a, AML_NOTIFY);
		aml_path(a, cpu_name(i, name));
		aml_arg(a, 1);
		aml_close(a);
	}
	aml_close(a);
}

/* If the flag is set: notifies, and clears it. */
static void emit_case(struct aml *a, unsigned int flag, unsigned int code)
{
	aml_open_if(a);
	aml_op(a, AML_AND);
	aml_local(a, 1);
	aml_integer(a, flag);
	aml_op(a, AML_NULL);
	aml_path(a, "CTFY");
	aml_local(a, 0);
	aml_integer(a, code);
	store_integer(a, flag, "\\_SB_.PRES.CPFL");
	aml_close(a);
}

/* CSCN (): what happened to each processor. */
static void emit_scan(struct aml *a, uint32_t n)
{
	aml_open_method(a, "CSCN", 0, true);
	aml_acquire(a, "\\_SB_.PRES.CPLK");
	aml_op(a, AML_STORE);
	aml_integer(a, 0);
	aml_local(a, 0);
	aml_open_while(a);
	aml_op(a, AML_LLESS);
	aml_local(a, 0);
	aml_integer(a, n);
	aml_op(a, AML_STORE);
	aml_local(a, 0);
	aml_path(a, "\\_SB_.PRES.CSEL");
	aml_op(a, AML_STORE);
	aml_path(a, "\\_SB_.PRES.CPFL");
	aml_local(a, 1);
	emit_case(a, CPU_HOTPLUG_INSERTED, NOTIFY_DEVICE_CHECK);
	emit_case(a, CPU_HOTPLUG_ASKED, NOTIFY_EJECT_REQUEST);
	aml_op(a, AML_INCREMENT);
	aml_local(a, 0);
	aml_close(a);
	aml_release(a, "\\_SB_.PRES.CPLK");
	aml_close(a);
}

/* Calls `method` with the processor and, for _OST, the arguments of its own. */
static void emit_forward(struct aml *a, const char *name, unsigned int n_args, const char *method,
			 uint32_t cpu)
{
	aml_open_method(a, name, n_args, true);
	if (n_args == 0)
		aml_op(a, AML_RETURN);
	aml_path(a, method);
	aml_integer(a, cpu);
	for (unsigned int i = 0; n_args == 3 && i < 2; i++)
		aml_arg(a, i);
	aml_close(a);
}

static void emit_cpu(struct aml *a, const struct acpi_params *params, uint32_t cpu)
{
	const struct acpi_madt_x2apic entry = {
		.type = ACPI_MADT_X2APIC,
		.length = sizeof(entry),
		.apic_id = le32_make(x86_apic_id(params->cpus, cpu)),
		.flags = le32_make(ACPI_MADT_ENABLED),
		.uid = le32_make(cpu),
	};
	char name[5];

	aml_open_device(a, cpu_name(cpu, name));
	aml_name(a, "_HID");
	aml_string(a, "ACPI0007");
	aml_name_integer(a, "_UID", cpu);
	if (params->topology->numa)
		aml_name_integer(a, "_PXM", numa_of_vcpu(params->topology->numa, cpu));
	aml_name(a, "_MAT");
	aml_buffer(a, &entry, sizeof(entry));
	emit_forward(a, "_STA", 0, "CSTA", cpu);
	/* The first one stays: it is the one that boots. */
	if (cpu > 0)
		emit_forward(a, "_EJ0", 1, "CEJ0", cpu);
	emit_forward(a, "_OST", 3, "COST", cpu);
	aml_close(a);
}

static void emit(struct aml *a, const struct acpi_params *params)
{
	uint32_t n = params->cpus->max_vcpus;

	emit_controller(a, params->windows->platform_start + LAYOUT_PLATFORM_CPU_HOTPLUG);
	aml_open_device(a, "CPUS");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0010");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A05");
	emit_status(a);
	emit_answers(a);
	emit_notify(a, n);
	emit_scan(a, n);
	for (uint32_t i = 0; i < n; i++)
		emit_cpu(a, params, i);
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
