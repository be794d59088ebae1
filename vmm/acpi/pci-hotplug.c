/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/pci-hotplug.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
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
#include "vmm/base/math.h"

#define REG_INSERTED   0x00
#define REG_TO_EMPTY   0x04
#define REG_EJECT      0x08
#define REG_SEGMENT    0x0c
#define REG_OST_SLOT   0x10
#define REG_OST_EVENT  0x14
#define REG_OST_STATUS 0x18

static int validate(const void *state, struct err *err)
{
	const struct pci_hotplug_state *st = state;

	if (st->segment >= VM_PCI_SEGMENTS_MAX)
		return err_set(err, EBADMSG, "pci-hotplug: segment %u, there are at most %d",
			       st->segment, VM_PCI_SEGMENTS_MAX);
	return 0;
}

#define F(kind, member) STATE_##kind(struct pci_hotplug_state, member)
static const struct state_field fields[] = {
	F(ARRAY_U32, inserted), F(ARRAY_U32, to_empty), F(U32, segment),
	F(U32, ost_slot),       F(U32, ost_event),
};
#undef F

const struct state_desc pci_hotplug_state_desc = {
	.name = "pci-hotplug",
	.version = 1,
	STATE_LAYOUT(struct pci_hotplug_state, fields),
	.validate = validate,
};

/* lock held */
static uint32_t take(uint32_t *bits)
{
	uint32_t taken = *bits;

	*bits = 0;
	return taken;
}

static void hotplug_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct pci_hotplug *h = container_of(dev, struct pci_hotplug, mmio);
	uint32_t value = 0;

	memset(data, 0, len);
	if (len != sizeof(value))
		return;
	pthread_mutex_lock(&h->lock);
	switch (off) {
	case REG_INSERTED:
		value = take(&h->st.inserted[h->st.segment]);
		break;
	case REG_TO_EMPTY:
		value = take(&h->st.to_empty[h->st.segment]);
		break;
	case REG_SEGMENT:
		value = h->st.segment;
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&h->lock);
	bytes_put_le(data, sizeof(value), value);
}

static void hotplug_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct pci_hotplug *h = container_of(dev, struct pci_hotplug, mmio);
	uint32_t value, ejected = 0;
	struct pci_hotplug_state st;

	if (len != sizeof(value))
		return;
	value = (uint32_t)bytes_get_le(data, sizeof(value));
	pthread_mutex_lock(&h->lock);
	switch (off) {
	case REG_EJECT:
		ejected = value;
		break;
	case REG_SEGMENT:
		if (value < h->n_segments)
			h->st.segment = value;
		break;
	case REG_OST_SLOT:
		h->st.ost_slot = value;
		break;
	case REG_OST_EVENT:
		h->st.ost_event = value;
		break;
	default:
		break;
	}
	st = h->st;
	pthread_mutex_unlock(&h->lock);

	for (uint8_t slot = 0; slot < PCI_HOTPLUG_SLOTS; slot++)
		if (ejected & (1U << slot))
			h->ops->ejected(h->data, (uint16_t)st.segment, slot);
	if (off == REG_OST_STATUS && st.ost_slot < PCI_HOTPLUG_SLOTS)
		h->ops->status(h->data, (uint16_t)st.segment, (uint8_t)st.ost_slot, st.ost_event,
			       value);
}

static const struct bus_ops hotplug_bus_ops = { "pci-hotplug", hotplug_read, hotplug_write };

void pci_hotplug_init(struct pci_hotplug *h, struct ged *ged, uint32_t n_segments,
		      const struct pci_hotplug_ops *ops, void *data)
{
	*h = (struct pci_hotplug){
		.mmio.ops = &hotplug_bus_ops,
		.ged = ged,
		.n_segments = n_segments,
		.ops = ops,
		.data = data,
	};
	pthread_mutex_init(&h->lock, NULL);
}

void pci_hotplug_deinit(struct pci_hotplug *h)
{
	if (h->ged)
		pthread_mutex_destroy(&h->lock);
	h->ged = NULL;
}

void pci_hotplug_reset(struct pci_hotplug *h)
{
	pthread_mutex_lock(&h->lock);
	h->st = (struct pci_hotplug_state){ 0 };
	pthread_mutex_unlock(&h->lock);
}

void pci_hotplug_insert(struct pci_hotplug *h, uint16_t segment, uint8_t slot)
{
	pthread_mutex_lock(&h->lock);
	h->st.inserted[segment] |= 1U << slot;
	pthread_mutex_unlock(&h->lock);
	ged_raise(h->ged, GED_PCI);
}

void pci_hotplug_ask(struct pci_hotplug *h, uint16_t segment, uint8_t slot)
{
	pthread_mutex_lock(&h->lock);
	h->st.to_empty[segment] |= 1U << slot;
	pthread_mutex_unlock(&h->lock);
	ged_raise(h->ged, GED_PCI);
}

void pci_hotplug_forget(struct pci_hotplug *h, uint16_t segment, uint8_t slot)
{
	pthread_mutex_lock(&h->lock);
	h->st.inserted[segment] &= ~(1U << slot);
	h->st.to_empty[segment] &= ~(1U << slot);
	pthread_mutex_unlock(&h->lock);
}

/* --- DSDT ------------------------------------------------------------------ */

/*
 * Device (Snnn): _SUN is unique in the machine, because guests name slots by it.  There is
 * no _STA: the slot is there, what is in it tells its configuration space.
 */
static void emit_slot(struct aml *a, uint32_t segment, uint32_t slot, bool with_ost)
{
	char name[5];

	snprintf(name, sizeof(name), "S%03u", slot);
	aml_open_device(a, name);
	aml_name_integer(a, "_SUN", segment * PCI_HOTPLUG_SLOTS + slot);
	aml_name_integer(a, "_ADR", (uint64_t)slot << 16);

	aml_open_method(a, "_EJ0", 1, true);
	aml_path(a, "PCEJ");
	aml_path(a, "_SUN");
	aml_close(a);
	if (with_ost) {
		aml_open_method(a, "_OST", 3, true);
		aml_path(a, "PCOS");
		aml_path(a, "_SUN");
		aml_arg(a, 0);
		aml_arg(a, 1);
		aml_close(a);
	}
	aml_close(a);
}

/* DVNT (slots, code): notifies the slots whose bits are set. */
static void emit_notify(struct aml *a, uint32_t first)
{
	aml_open_method(a, "DVNT", 2, true);
	for (uint32_t slot = first; slot < PCI_HOTPLUG_SLOTS; slot++) {
		char name[5];

		snprintf(name, sizeof(name), "S%03u", slot);
		aml_open_if(a);
		aml_op(a, AML_AND);
		aml_arg(a, 0);
		aml_integer(a, 1U << slot);
		aml_op(a, AML_NULL);
		aml_op(a, AML_NOTIFY);
		aml_path(a, name);
		aml_arg(a, 1);
		aml_close(a);
	}
	aml_close(a);
}

/* PCNT (): what happened to the slots of this segment. */
static void emit_count(struct aml *a, uint32_t segment)
{
	static const struct {
		const char *method;
		unsigned int code;
	} news[] = { { "PCUP", HOTPLUG_DEVICE_CHECK }, { "PCDN", HOTPLUG_EJECT_REQUEST } };

	aml_open_method(a, "PCNT", 0, true);
	for (size_t i = 0; i < ARRAY_SIZE(news); i++) {
		aml_path(a, "DVNT");
		aml_path(a, news[i].method);
		aml_integer(a, segment);
		aml_integer(a, news[i].code);
	}
	aml_close(a);
}

void acpi_emit_pci_slots(struct aml *a, uint32_t segment, bool with_ost)
{
	uint32_t first = segment == 0; /* slot 0 of segment 0 is the host bridge's own */

	for (uint32_t slot = first; slot < PCI_HOTPLUG_SLOTS; slot++)
		emit_slot(a, segment, slot, with_ost);
	emit_notify(a, first);
	emit_count(a, segment);
}

/* The lock is held then, and the segment of local 0 chosen. */
static void choose_segment(struct aml *a)
{
	aml_acquire(a, "\\_SB_.PHPR.BLCK");
	aml_op(a, AML_STORE);
	aml_local(a, 0);
	aml_path(a, "\\_SB_.PHPR.PSEG");
}

/* PCUP (segment), PCDN (segment): one of its registers, which is empty then. */
static void emit_take(struct aml *a, const char *name, const char *reg)
{
	aml_open_method(a, name, 1, true);
	aml_op(a, AML_STORE);
	aml_arg(a, 0);
	aml_local(a, 0);
	choose_segment(a);
	aml_op(a, AML_STORE);
	aml_path(a, reg);
	aml_local(a, 1);
	aml_release(a, "\\_SB_.PHPR.BLCK");
	aml_op(a, AML_RETURN);
	aml_local(a, 1);
	aml_close(a);
}

/* Opens a method whose first argument is a _SUN: local 1 is the slot. */
static void open_slot_method(struct aml *a, const char *name, unsigned int n_args)
{
	static_assert(PCI_HOTPLUG_SLOTS == 1 << 5, "five bits of _SUN are the slot");
	aml_open_method(a, name, n_args, true);
	aml_op(a, AML_SHIFT_RIGHT);
	aml_arg(a, 0);
	aml_integer(a, 5);
	aml_local(a, 0);
	aml_op(a, AML_AND);
	aml_arg(a, 0);
	aml_integer(a, PCI_HOTPLUG_SLOTS - 1);
	aml_local(a, 1);
	choose_segment(a);
}

static void close_slot_method(struct aml *a)
{
	aml_release(a, "\\_SB_.PHPR.BLCK");
	aml_close(a);
}

static void emit_controller(struct aml *a, const struct acpi_params *params)
{
	uint64_t gpa = params->windows->platform_start + LAYOUT_PLATFORM_PCI_HOTPLUG;
	static const char *const registers[] = { "PCIU", "PCID", "B0EJ", "PSEG",
						 "PSLT", "PEVT", "PSTA" };

	aml_open_device(a, "PHPR");
	hotplug_aml_controller(a, "PCI hotplug controller", "BLCK", "PCST", gpa, PCI_HOTPLUG_SIZE);
	aml_open_field(a, "PCST", AML_ACCESS_DWORD);
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		aml_field_member(a, registers[i], 32);
	aml_close(a);
	aml_close(a);

	/* Where every slot of every segment finds them by their short names. */
	emit_take(a, "PCUP", "\\_SB_.PHPR.PCIU");
	emit_take(a, "PCDN", "\\_SB_.PHPR.PCID");

	open_slot_method(a, "PCEJ", 1);
	aml_op(a, AML_SHIFT_LEFT);
	aml_integer(a, 1);
	aml_local(a, 1);
	aml_path(a, "\\_SB_.PHPR.B0EJ");
	close_slot_method(a);

	open_slot_method(a, "PCOS", 3);
	aml_op(a, AML_STORE);
	aml_local(a, 1);
	aml_path(a, "\\_SB_.PHPR.PSLT");
	aml_store_arg(a, 1, "\\_SB_.PHPR.PEVT");
	aml_store_arg(a, 2, "\\_SB_.PHPR.PSTA");
	close_slot_method(a);

	aml_open_method(a, "PSCN", 0, true);
	for (uint32_t i = 0; i < MIN(params->topology->n_segments, PCI_HOTPLUG_SEGMENTS); i++) {
		char path[sizeof("\\_SB_.PC00.PCNT")];

		snprintf(path, sizeof(path), "\\_SB_.PC%02X.PCNT", i & 0xff);
		aml_path(a, path);
	}
	aml_close(a);
}

static void on_event(struct aml *a)
{
	aml_path(a, "\\_SB_.PSCN");
}

const struct acpi_part acpi_part_pci_hotplug = {
	.name = "pci-hotplug",
	.emit = emit_controller,
	.ged_bit = GED_PCI,
	.on_event = on_event,
};
