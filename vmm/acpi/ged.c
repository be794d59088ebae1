/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi/ged.h"

#include <errno.h>
#include <string.h>

#include "vmm/acpi/aml.h"
#include "vmm/acpi/tables.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/bus/irq.h"

#define EVENTS_ALL            (GED_CPU | GED_MEMORY | GED_PCI | GED_POWER_BUTTON | GED_GENERATION)
#define NOTIFY_BUTTON_PRESSED 0x80 /* ACPI 6.5, table 5.170 */

static int ged_validate(const void *state, struct err *err)
{
	const struct ged_state *st = state;

	if (st->pending & ~EVENTS_ALL)
		return err_set(err, EBADMSG, "ged: pending events 0x%x, unknown bits", st->pending);
	return 0;
}

#define F(kind, member) STATE_##kind(struct ged_state, member)
static const struct state_field ged_fields[] = { F(U8, pending) };
#undef F

const struct state_desc ged_state_desc = {
	.name = "ged",
	.version = 1,
	STATE_LAYOUT(struct ged_state, ged_fields),
	.validate = ged_validate,
};

static void ged_read(struct bus_device *dev, uint64_t off _unused_, void *data, uint32_t len)
{
	struct ged *ged = container_of(dev, struct ged, mmio);

	/* The range is one byte, so len is 1; anything beyond reads zero all the same. */
	memset(data, 0, len);
	pthread_mutex_lock(&ged->lock);
	*(uint8_t *)data = ged->st.pending;
	ged->st.pending = 0;
	pthread_mutex_unlock(&ged->lock);
}

static void ged_write(struct bus_device *dev _unused_, uint64_t off _unused_,
		      const void *data _unused_, uint32_t len _unused_)
{
	/* read-only register */
}

static const struct bus_ops ged_ops = { .name = "ged", .read = ged_read, .write = ged_write };

void ged_init(struct ged *ged, struct irq_line *line)
{
	*ged = (struct ged){ .mmio.ops = &ged_ops, .line = line };
	pthread_mutex_init(&ged->lock, NULL);
}

void ged_deinit(struct ged *ged)
{
	pthread_mutex_destroy(&ged->lock);
}

void ged_reset(struct ged *ged)
{
	pthread_mutex_lock(&ged->lock);
	ged->st = (struct ged_state){ 0 };
	pthread_mutex_unlock(&ged->lock);
}

bool ged_remind(struct ged *ged)
{
	bool pending;

	pthread_mutex_lock(&ged->lock);
	pending = ged->st.pending;
	if (pending)
		irq_line_pulse(ged->line);
	pthread_mutex_unlock(&ged->lock);
	return pending;
}

void ged_raise(struct ged *ged, enum ged_event event)
{
	pthread_mutex_lock(&ged->lock);
	ged->st.pending |= (uint8_t)event;
	irq_line_pulse(ged->line);
	pthread_mutex_unlock(&ged->lock);
}

/* The register, and the method that reads it once and handles every bit. */
static void emit_controller(struct aml *a, const struct acpi_params *params)
{
	uint64_t gpa = params->windows->platform_start + LAYOUT_PLATFORM_GED;
	struct aml res = { 0 };

	aml_open_device(a, "GEC_");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A06");
	aml_name(a, "_UID");
	aml_string(a, "GED controller");
	aml_res_mem64(&res, gpa, GED_MMIO_SIZE);
	aml_name_crs(a, &res);
	aml_region(a, "GDST", AML_SYSTEM_MEMORY, gpa, GED_MMIO_SIZE);
	aml_open_field(a, "GDST", AML_ACCESS_BYTE);
	aml_field_member(a, "GDAT", 8);
	aml_close(a);

	aml_open_method(a, "ESCN", 0, true);
	aml_op(a, AML_STORE);
	aml_path(a, "GDAT");
	aml_local(a, 0);
	for (const struct acpi_part *const *p = acpi_parts(); *p; p++) {
		if (!(*p)->ged_bit || ((*p)->present && !(*p)->present(params)))
			continue;
		aml_open_if(a);
		aml_op(a, AML_AND);
		aml_local(a, 0);
		aml_integer(a, (*p)->ged_bit);
		aml_op(a, AML_NULL);
		(*p)->on_event(a);
		aml_close(a);
	}
	aml_close(a);
	aml_close(a);
}

static void ged_emit(struct aml *a, const struct acpi_params *params)
{
	struct aml res = { 0 };

	emit_controller(a, params);

	aml_open_device(a, "GED_");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name_integer(a, "_UID", 0);
	aml_res_irq_edge(&res, LAYOUT_GED_GSI);
	aml_name_crs(a, &res);
	aml_open_method(a, "_EVT", 1, true);
	aml_path(a, "\\_SB_.GEC_.ESCN");
	aml_close(a);
	aml_close(a);
}

const struct acpi_part acpi_part_ged = { .name = "ged", .emit = ged_emit };

static void power_button_emit(struct aml *a, const struct acpi_params *params _unused_)
{
	aml_open_device(a, "PWRB");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C0C");
	aml_name_integer(a, "_UID", 0);
	aml_close(a);
}

static void power_button_on_event(struct aml *a)
{
	aml_op(a, AML_NOTIFY);
	aml_path(a, "\\_SB_.PWRB");
	aml_integer(a, NOTIFY_BUTTON_PRESSED);
}

const struct acpi_part acpi_part_power_button = {
	.name = "power-button",
	.emit = power_button_emit,
	.ged_bit = GED_POWER_BUTTON,
	.on_event = power_button_on_event,
};
