/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/memory-hotplug.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/hotplug-aml.h"
#include "vmm/acpi/tables.h"
#include "vmm/acpi/topology.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"

#define REG_BASE_LOW  0x00
#define REG_BASE_HIGH 0x04
#define REG_LEN_LOW   0x08
#define REG_LEN_HIGH  0x0c
#define REG_NODE      0x10
#define REG_FLAGS     0x14
/* the same, written */
#define REG_SELECT     0x00
#define REG_OST_EVENT  0x04
#define REG_OST_STATUS 0x08

#define READABLE (MEMORY_HOTPLUG_PRESENT | MEMORY_HOTPLUG_INSERTED)

static int validate(const void *state, struct err *err)
{
	const struct memory_hotplug_state *st = state;

	if (st->selected >= MEMORY_HOTPLUG_SLOTS)
		return err_set(err, EBADMSG, "memory-hotplug: slot %u, there are %d", st->selected,
			       MEMORY_HOTPLUG_SLOTS);
	for (size_t i = 0; i < MEMORY_HOTPLUG_SLOTS; i++)
		if (st->flags[i] & ~READABLE)
			return err_set(err, EBADMSG,
				       "memory-hotplug: flags 0x%x of slot %zu, unknown bits",
				       st->flags[i], i);
	return 0;
}

#define F(kind, member) STATE_##kind(struct memory_hotplug_state, member)
static const struct state_field fields[] = { F(BYTES, gpa),   F(BYTES, size),   F(BYTES, node),
					     F(BYTES, flags), F(U32, selected), F(U32, ost_event) };
#undef F

const struct state_desc memory_hotplug_state_desc = {
	.name = "memory-hotplug",
	.version = 1,
	STATE_LAYOUT(struct memory_hotplug_state, fields),
	.validate = validate,
};

static uint32_t read_register(const struct memory_hotplug_state *st, uint64_t off)
{
	uint32_t slot = st->selected;

	switch (off) {
	case REG_BASE_LOW:
		return (uint32_t)st->gpa[slot];
	case REG_BASE_HIGH:
		return (uint32_t)(st->gpa[slot] >> 32);
	case REG_LEN_LOW:
		return (uint32_t)st->size[slot];
	case REG_LEN_HIGH:
		return (uint32_t)(st->size[slot] >> 32);
	case REG_NODE:
		return st->node[slot];
	case REG_FLAGS:
		return st->flags[slot];
	default:
		return 0;
	}
}

static void hotplug_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct memory_hotplug *h = container_of(dev, struct memory_hotplug, mmio);
	uint32_t value;

	memset(data, 0, len);
	if (len != sizeof(value))
		return;
	pthread_mutex_lock(&h->lock);
	value = read_register(&h->st, off);
	pthread_mutex_unlock(&h->lock);
	bytes_put_le(data, sizeof(value), value);
}

static void hotplug_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct memory_hotplug *h = container_of(dev, struct memory_hotplug, mmio);
	uint32_t value, selected, event;

	if (len != sizeof(value))
		return;
	value = (uint32_t)bytes_get_le(data, sizeof(value));
	pthread_mutex_lock(&h->lock);
	if (off == REG_SELECT && value < MEMORY_HOTPLUG_SLOTS)
		h->st.selected = value;
	else if (off == REG_OST_EVENT)
		h->st.ost_event = value;
	else if (off == REG_FLAGS)
		h->st.flags[h->st.selected] &= (uint8_t) ~(value & MEMORY_HOTPLUG_INSERTED);
	selected = h->st.selected;
	event = h->st.ost_event;
	pthread_mutex_unlock(&h->lock);

	if (off == REG_OST_STATUS)
		h->ops->status(h->data, selected, event, value);
}

static const struct bus_ops hotplug_bus_ops = { "memory-hotplug", hotplug_read, hotplug_write };

void memory_hotplug_init(struct memory_hotplug *h, struct ged *ged,
			 const struct memory_hotplug_ops *ops, void *data)
{
	*h = (struct memory_hotplug){
		.mmio.ops = &hotplug_bus_ops, .ged = ged, .ops = ops, .data = data
	};
	pthread_mutex_init(&h->lock, NULL);
}

void memory_hotplug_deinit(struct memory_hotplug *h)
{
	if (h->ged)
		pthread_mutex_destroy(&h->lock);
	h->ged = NULL;
}

void memory_hotplug_reset(struct memory_hotplug *h)
{
	pthread_mutex_lock(&h->lock);
	h->st = (struct memory_hotplug_state){ 0 };
	pthread_mutex_unlock(&h->lock);
}

void memory_hotplug_insert(struct memory_hotplug *h, uint32_t slot, uint64_t gpa, uint64_t size,
			   uint32_t node)
{
	pthread_mutex_lock(&h->lock);
	h->st.gpa[slot] = gpa;
	h->st.size[slot] = size;
	h->st.node[slot] = node;
	h->st.flags[slot] = READABLE;
	pthread_mutex_unlock(&h->lock);
	ged_raise(h->ged, GED_MEMORY);
}

/* --- DSDT ------------------------------------------------------------------ */

static_assert(MEMORY_HOTPLUG_SLOTS <= HOTPLUG_UNITS_MAX, "every slot has a name");

static const struct hotplug_units slots = {
	.letter = 'M',
	.n = MEMORY_HOTPLUG_SLOTS,
	.notify = "MTFY",
	.lock = "MLCK",
	.select = "MSEL",
	.flags = "MHFL",
	.ost_event = "MEVT",
	.ost_status = "MSTS",
};

static const struct hotplug_news news[] = { { MEMORY_HOTPLUG_INSERTED, HOTPLUG_DEVICE_CHECK } };

static void store_path(struct aml *a, const char *from, const char *to)
{
	aml_op(a, AML_STORE);
	aml_path(a, from);
	aml_path(a, to);
}

static void emit_registers(struct aml *a, uint64_t gpa)
{
	hotplug_aml_controller(a, "Memory hotplug controller", "MLCK", "MHPR", gpa,
			       MEMORY_HOTPLUG_SIZE);
	aml_open_field(a, "MHPR", AML_ACCESS_DWORD);
	aml_field_member(a, "MHBA", 64);
	aml_field_member(a, "MHLN", 64);
	aml_field_member(a, "MHPX", 32);
	aml_field_member(a, "MHFL", 32);
	aml_close(a);
	aml_open_field(a, "MHPR", AML_ACCESS_DWORD);
	aml_field_member(a, "MSEL", 32);
	aml_field_member(a, "MEVT", 32);
	aml_field_member(a, "MSTS", 32);
	aml_close(a);
}

static void name_field(struct aml *a, uint64_t offset, const char *name)
{
	aml_op(a, AML_QWORD_FIELD);
	aml_path(a, "MR64");
	aml_integer(a, offset);
	aml_path(a, name);
}

/* MCRS (slot): its _CRS */
static void emit_resources(struct aml *a)
{
	struct aml res = { 0 };

	hotplug_aml_open(a, &slots, "MCRS", 1);
	aml_name(a, "MR64");
	aml_res_ram64(&res, 0, MEMORY_HOTPLUG_UNIT); /* the numbers follow */
	aml_res_buffer(a, &res);
	name_field(a, AML_RES64_MIN, "MMIN");
	name_field(a, AML_RES64_MAX, "MMAX");
	name_field(a, AML_RES64_LEN, "MLEN");
	store_path(a, "MHBA", "MMIN");
	store_path(a, "MHLN", "MLEN");
	aml_release(a, slots.lock);
	aml_op(a, AML_ADD);
	aml_path(a, "MMIN");
	aml_path(a, "MLEN");
	aml_local(a, 0);
	aml_op(a, AML_SUBTRACT);
	aml_local(a, 0);
	aml_integer(a, 1);
	aml_path(a, "MMAX");
	aml_op(a, AML_RETURN);
	aml_path(a, "MR64");
	aml_close(a);
}

/* MPXM (slot): its _PXM */
static void emit_node(struct aml *a)
{
	hotplug_aml_open(a, &slots, "MPXM", 1);
	aml_op(a, AML_STORE);
	aml_path(a, "MHPX");
	aml_local(a, 0);
	aml_release(a, slots.lock);
	aml_op(a, AML_RETURN);
	aml_local(a, 0);
	aml_close(a);
}

static void emit_slot(struct aml *a, uint32_t slot, bool with_node)
{
	char name[5];

	aml_open_device(a, hotplug_aml_unit(&slots, slot, name));
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C80");
	aml_name_integer(a, "_UID", slot);
	hotplug_aml_forward(a, "_STA", 0, "MSTA", slot);
	hotplug_aml_forward(a, "_CRS", 0, "MCRS", slot);
	if (with_node)
		hotplug_aml_forward(a, "_PXM", 0, "MPXM", slot);
	hotplug_aml_forward(a, "_OST", 3, "MOST", slot);
	aml_close(a);
}

static void emit(struct aml *a, const struct acpi_params *params)
{
	aml_open_device(a, "MHPC");
	emit_registers(a, params->windows->platform_start + LAYOUT_PLATFORM_MEMORY_HOTPLUG);
	hotplug_aml_status(a, &slots, "MSTA", MEMORY_HOTPLUG_PRESENT);
	emit_resources(a);
	emit_node(a);
	hotplug_aml_answer(a, &slots, "MOST");
	hotplug_aml_notify(a, &slots);
	hotplug_aml_scan(a, &slots, "MSCN", news, ARRAY_SIZE(news));
	for (uint32_t i = 0; i < MEMORY_HOTPLUG_SLOTS; i++)
		emit_slot(a, i, params->topology->numa);
	aml_close(a);
}

static void on_event(struct aml *a)
{
	aml_path(a, "\\_SB_.MHPC.MSCN");
}

/* Room for memory is set aside when the machine is built, or never. */
static bool present(const struct acpi_params *params)
{
	return params->windows->hotplug_size > 0;
}

const struct acpi_part acpi_part_memory_hotplug = {
	.name = "memory-hotplug",
	.emit = emit,
	.ged_bit = GED_MEMORY,
	.on_event = on_event,
	.present = present,
};
