/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GED controller: pending bits, read-clear, edges, saved state
 */
#include <glib.h>

#include "vmm/acpi/ged.h"
#include "vmm/base/err.h"
#include "vmm/bus/irq.h"

struct fake_line {
	struct irq_line line;
	unsigned int n_edges;
	bool level;
};

static void fake_set(struct irq_line *line, bool level)
{
	struct fake_line *f = container_of(line, struct fake_line, line);

	if (level && !f->level)
		f->n_edges++;
	f->level = level;
}

static uint8_t read_byte(struct ged *ged)
{
	uint8_t v = 0xaa;

	ged->mmio.ops->read(&ged->mmio, 0, &v, 1);
	return v;
}

static void test_raise(void)
{
	struct fake_line line = { .line.set = fake_set };
	struct ged ged;

	ged_init(&ged, &line.line);
	g_assert_cmphex(read_byte(&ged), ==, 0);
	ged_raise(&ged, GED_POWER_BUTTON);
	ged_raise(&ged, GED_PCI);
	g_assert_cmpuint(line.n_edges, ==, 2);
	g_assert_false(line.level);
	g_assert_cmphex(read_byte(&ged), ==, GED_POWER_BUTTON | GED_PCI);
	g_assert_cmphex(read_byte(&ged), ==, 0);
	ged_deinit(&ged);
}

static void test_write_ignored(void)
{
	struct fake_line line = { .line.set = fake_set };
	struct ged ged;
	uint8_t v = 0xff;

	ged_init(&ged, &line.line);
	ged.mmio.ops->write(&ged.mmio, 0, &v, 1);
	g_assert_cmphex(read_byte(&ged), ==, 0);
	g_assert_cmpuint(line.n_edges, ==, 0);
	ged_deinit(&ged);
}

static void test_reset_remind(void)
{
	struct fake_line line = { .line.set = fake_set };
	struct ged ged;

	ged_init(&ged, &line.line);
	g_assert_false(ged_remind(&ged));
	g_assert_cmpuint(line.n_edges, ==, 0);
	ged.st.pending = GED_CPU;
	g_assert_true(ged_remind(&ged));
	g_assert_cmpuint(line.n_edges, ==, 1);
	ged_reset(&ged);
	ged_reset(&ged);
	g_assert_cmphex(read_byte(&ged), ==, 0);
	ged_deinit(&ged);
}

static void test_state(void)
{
	struct err err = { 0 };
	struct ged_state st = { .pending = 0x20 };

	g_assert_true(state_desc_tiles(&ged_state_desc, &err));
	g_assert_cmpint(ged_state_desc.validate(&st, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==, "ged: pending events 0x20, unknown bits");
	st.pending = 0x1f;
	g_assert_cmpint(ged_state_desc.validate(&st, NULL), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/ged/raise", test_raise);
	g_test_add_func("/acpi/ged/write-ignored", test_write_ignored);
	g_test_add_func("/acpi/ged/reset-remind", test_reset_remind);
	g_test_add_func("/acpi/ged/state", test_state);
	return g_test_run();
}
