/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory hotplug controller: registers of the slots, events, answers, hostile writes
 */
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "vmm/acpi/ged.h"
#include "vmm/acpi/memory-hotplug.h"
#include "vmm/base/err.h"
#include "vmm/bus/irq.h"

struct fixture {
	struct irq_line line;
	unsigned int n_edges;
	struct ged ged;
	struct memory_hotplug hotplug;
	unsigned int n_answers;
	uint32_t slot, event, status;
};

static void fake_set(struct irq_line *line, bool level)
{
	container_of(line, struct fixture, line)->n_edges += level;
}

static void on_status(void *data, uint32_t slot, uint32_t event, uint32_t status)
{
	struct fixture *f = data;

	f->n_answers++;
	f->slot = slot;
	f->event = event;
	f->status = status;
}

static const struct memory_hotplug_ops ops = { on_status };

static void begin(struct fixture *f)
{
	*f = (struct fixture){ .line.set = fake_set };
	ged_init(&f->ged, &f->line);
	memory_hotplug_init(&f->hotplug, &f->ged, &ops, f);
}

static void end(struct fixture *f)
{
	memory_hotplug_deinit(&f->hotplug);
	ged_deinit(&f->ged);
}

static uint32_t get(struct fixture *f, uint64_t off)
{
	uint32_t value = 0xaaaaaaaa;

	f->hotplug.mmio.ops->read(&f->hotplug.mmio, off, &value, sizeof(value));
	return value;
}

static void put(struct fixture *f, uint64_t off, uint32_t value)
{
	f->hotplug.mmio.ops->write(&f->hotplug.mmio, off, &value, sizeof(value));
}

static void test_insert(void)
{
	struct fixture f;

	begin(&f);
	for (uint64_t off = 0; off < MEMORY_HOTPLUG_SIZE; off += 4)
		g_assert_cmphex(get(&f, off), ==, 0);
	memory_hotplug_insert(&f.hotplug, 3, 0x123450000000, 0x2345678000000, 7);
	g_assert_cmpuint(f.n_edges, ==, 1);
	g_assert_cmphex(f.ged.st.pending, ==, GED_MEMORY);
	g_assert_cmphex(get(&f, 0x14), ==, 0); /* of slot 0 */
	put(&f, 0, 3);
	g_assert_cmphex(get(&f, 0x00), ==, 0x50000000);
	g_assert_cmphex(get(&f, 0x04), ==, 0x1234);
	g_assert_cmphex(get(&f, 0x08), ==, 0x78000000);
	g_assert_cmphex(get(&f, 0x0c), ==, 0x23456);
	g_assert_cmphex(get(&f, 0x10), ==, 7);
	g_assert_cmphex(get(&f, 0x14), ==, 3);
	/* it stays, whatever is written */
	put(&f, 0x14, UINT32_MAX);
	g_assert_cmphex(get(&f, 0x14), ==, MEMORY_HOTPLUG_PRESENT);
	put(&f, 0x14, 0);
	g_assert_cmphex(get(&f, 0x14), ==, MEMORY_HOTPLUG_PRESENT);
	memory_hotplug_insert(&f.hotplug, 3, 0x123450000000, 0x2345678000000, 7);
	g_assert_cmphex(get(&f, 0x14), ==, 3);
	memory_hotplug_reset(&f.hotplug);
	put(&f, 0, 3);
	for (uint64_t off = 0; off < MEMORY_HOTPLUG_SIZE; off += 4)
		g_assert_cmphex(get(&f, off), ==, 0);
	end(&f);
}

static void test_answer(void)
{
	struct fixture f;

	begin(&f);
	put(&f, 0, 5);
	put(&f, 4, 1);
	g_assert_cmpuint(f.n_answers, ==, 0);
	put(&f, 8, 0x80);
	g_assert_cmpuint(f.n_answers, ==, 1);
	g_assert_cmpuint(f.slot, ==, 5);
	g_assert_cmphex(f.event, ==, 1);
	g_assert_cmphex(f.status, ==, 0x80);
	end(&f);
}

static void test_hostile(void)
{
	uint8_t bytes[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct fixture f;
	struct err err = { 0 };

	begin(&f);
	put(&f, 0, 1);
	put(&f, 0, MEMORY_HOTPLUG_SLOTS);
	put(&f, 0, UINT32_MAX);
	g_assert_cmpuint(f.hotplug.st.selected, ==, 1);
	for (uint64_t off = 0; off < MEMORY_HOTPLUG_SIZE; off++)
		for (uint32_t len = 1; len <= 8; len *= 2) {
			uint8_t got[8];

			if (len == 4)
				continue;
			f.hotplug.mmio.ops->write(&f.hotplug.mmio, off, bytes, len);
			memset(got, 0xaa, sizeof(got));
			f.hotplug.mmio.ops->read(&f.hotplug.mmio, off, got, len);
			for (uint32_t i = 0; i < len; i++)
				g_assert_cmphex(got[i], ==, 0);
		}
	g_assert_cmpuint(f.n_answers, ==, 0);
	g_assert_cmpint(memory_hotplug_state_desc.validate(&f.hotplug.st, &err), ==, 0);
	f.hotplug.st.selected = MEMORY_HOTPLUG_SLOTS;
	g_assert_cmpint(memory_hotplug_state_desc.validate(&f.hotplug.st, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==, "memory-hotplug: slot 8, there are 8");
	err_clear(&err);
	f.hotplug.st.selected = 0;
	f.hotplug.st.flags[2] = 4;
	g_assert_cmpint(memory_hotplug_state_desc.validate(&f.hotplug.st, &err), ==, -EBADMSG);
	end(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/acpi/memory-hotplug/insert", test_insert);
	g_test_add_func("/acpi/memory-hotplug/answer", test_answer);
	g_test_add_func("/acpi/memory-hotplug/hostile", test_hostile);
	return g_test_run();
}
