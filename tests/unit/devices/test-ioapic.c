/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/ioapic.h"

#include <glib.h>
#include <string.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/err.h"

#define MASKED  0x10000U
#define LEVEL   0x8000U
#define IRR     0x4000U
#define LOGICAL 0x800U

struct fixture {
	struct fake_hv *fake;
	struct irq_table irqs;
	struct ioapic ioapic;
};

static void set_up(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	f->fake = fake_hv_new();
	g_assert_cmpint(irq_table_init(&f->irqs, fake_hv_vm(f->fake), IOAPIC_PINS, NULL), ==, 0);
	ioapic_init(&f->ioapic, &f->irqs);
}

static void tear_down(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	ioapic_deinit(&f->ioapic);
	irq_table_deinit(&f->irqs);
	fake_hv_free(f->fake);
}

static uint32_t get(struct fixture *f, uint8_t index)
{
	uint32_t value = index;

	f->ioapic.region.ops->write(&f->ioapic.region, 0x00, &value, 4);
	f->ioapic.region.ops->read(&f->ioapic.region, 0x10, &value, 4);
	return value;
}

static void put(struct fixture *f, uint8_t index, uint32_t value)
{
	uint32_t i = index;

	f->ioapic.region.ops->write(&f->ioapic.region, 0x00, &i, 4);
	f->ioapic.region.ops->write(&f->ioapic.region, 0x10, &value, 4);
}

static uint32_t rte(struct fixture *f, uint32_t pin)
{
	return get(f, (uint8_t)(0x10 + 2 * pin));
}

static void set_rte(struct fixture *f, uint32_t pin, uint32_t low)
{
	put(f, (uint8_t)(0x10 + 2 * pin), low);
}

static void line(struct fixture *f, uint32_t pin, bool level)
{
	irq_line_set(ioapic_line(&f->ioapic, pin), level);
}

static void assert_log(struct fixture *f, const char *expected)
{
	g_assert_cmpstr(fake_hv_log(f->fake), ==, expected);
	fake_hv_log_clear(f->fake);
}

static void test_registers(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	uint32_t value = 0;
	uint64_t wide = 0;

	g_assert_cmphex(get(f, 1), ==, 0x00170011);
	put(f, 1, 0xffffffff);
	g_assert_cmphex(get(f, 1), ==, 0x00170011);
	put(f, 0, 0xffffffff);
	g_assert_cmphex(get(f, 0), ==, 0x0f000000);
	g_assert_cmphex(get(f, 2), ==, 0x0f000000);
	put(f, 0, 0);
	for (uint8_t i = 0; i < IOAPIC_PINS; i++)
		g_assert_cmphex(rte(f, i), ==, MASKED);
	g_assert_cmphex(get(f, 0x10 + 2 * IOAPIC_PINS), ==, 0);
	g_assert_cmphex(get(f, 0xff), ==, 0);
	put(f, 0xff, 0xffffffff);
	/* Read-only and reserved bits of an entry. */
	set_rte(f, 3, 0xffffffff);
	g_assert_cmphex(rte(f, 3), ==, 0x0001afff);
	put(f, 0x10 + 7, 0xffffffff);
	g_assert_cmphex(get(f, 0x10 + 7), ==, 0xffff0000);
	/* The index reads back; other offsets are nothing. */
	f->ioapic.region.ops->read(&f->ioapic.region, 0x00, &value, 4);
	g_assert_cmphex(value, ==, 0x17);
	f->ioapic.region.ops->read(&f->ioapic.region, 0x04, &value, 4);
	g_assert_cmphex(value, ==, 0);
	f->ioapic.region.ops->read(&f->ioapic.region, 0x10, &wide, 8);
	g_assert_cmphex(wide, ==, 0xffff0000);
}

static void test_edge(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	put(f, 0x10 + 2 * 4 + 1, 2U << 24);
	set_rte(f, 4, 0x34);
	assert_log(f, "");
	line(f, 4, true);
	assert_log(f, "msi 0xfee02000:0x4034\n");
	line(f, 4, true); /* no edge */
	line(f, 4, false);
	assert_log(f, "");
	irq_line_pulse(ioapic_line(&f->ioapic, 4));
	assert_log(f, "msi 0xfee02000:0x4034\n");
	g_assert_cmphex(rte(f, 4), ==, 0x34);
	/* Lowest priority, logical destination. */
	set_rte(f, 4, 0x35 | 0x100 | LOGICAL);
	irq_line_pulse(ioapic_line(&f->ioapic, 4));
	assert_log(f, "msi 0xfee0200c:0x4135\n");
}

static void test_edge_masked_is_lost(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	line(f, 4, true);
	set_rte(f, 4, 0x34);
	assert_log(f, "");
	line(f, 4, false);
	line(f, 4, true);
	assert_log(f, "msi 0xfee00000:0x4034\n");
}

static void test_level(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	assert_log(f, "routes 9=0xfee00000:0xc051\n");
	line(f, 9, true);
	assert_log(f, "msi 0xfee00000:0xc051\n");
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL | IRR);
	line(f, 9, true);
	assert_log(f, "");
	/* Still asserted at the end: again. */
	ioapic_eoi(&f->ioapic, 0x51);
	assert_log(f, "msi 0xfee00000:0xc051\n");
	line(f, 9, false);
	ioapic_eoi(&f->ioapic, 0x50);
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL | IRR);
	ioapic_eoi(&f->ioapic, 0x51);
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL);
	assert_log(f, "");
}

static void test_level_masked_stays_pending(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL | MASKED);
	line(f, 9, true);
	assert_log(f, "");
	set_rte(f, 9, 0x51 | LEVEL);
	assert_log(f, "routes 9=0xfee00000:0xc051\nmsi 0xfee00000:0xc051\n");
	line(f, 9, false);
	ioapic_eoi(&f->ioapic, 0x51);
	/* Asserted and gone while masked: nothing happened. */
	set_rte(f, 9, 0x51 | LEVEL | MASKED);
	line(f, 9, true);
	line(f, 9, false);
	set_rte(f, 9, 0x51 | LEVEL);
	assert_log(f, "");
}

/* Linux masks a level pin in its handler, ends the interrupt, and unmasks. */
static void test_eoi_while_masked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	line(f, 9, true);
	fake_hv_log_clear(f->fake);
	set_rte(f, 9, 0x51 | LEVEL | MASKED);
	assert_log(f, ""); /* the route stays, for the end to be reported */
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL | MASKED | IRR);
	ioapic_eoi(&f->ioapic, 0x51);
	assert_log(f, "");
	set_rte(f, 9, 0x51 | LEVEL);
	assert_log(f, "msi 0xfee00000:0xc051\n");
}

/* Linux for versions without EOI register: to edge and back ends the interrupt. */
static void test_edge_clears_remote_irr(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	line(f, 9, true);
	line(f, 9, false);
	fake_hv_log_clear(f->fake);
	set_rte(f, 9, 0x51 | MASKED);
	assert_log(f, "routes\n");
	set_rte(f, 9, 0x51 | LEVEL);
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL);
}

static void test_new_destination(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	fake_hv_log_clear(f->fake);
	put(f, 0x10 + 2 * 9 + 1, 3U << 24);
	assert_log(f, "routes 9=0xfee03000:0xc051\n");
	/* Ids above 255: seven more bits. */
	put(f, 0x10 + 2 * 9 + 1, 3U << 24 | 5U << 17);
	assert_log(f, "routes 9=0xfee030a0:0xc051\n");
}

static void test_nobody_takes_it(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	fake_hv_fail(f->fake, "msi", 1, EPERM);
	line(f, 9, true);
	g_assert_cmphex(rte(f, 9), ==, 0x51 | LEVEL);
	fake_hv_log_clear(f->fake);
	line(f, 9, true);
	assert_log(f, "msi 0xfee00000:0xc051\n");
}

static void test_route_refused(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	fake_hv_fail(f->fake, "routes", 1, ENOMEM);
	set_rte(f, 9, 0x51 | LEVEL);
	line(f, 9, true);
	assert_log(f, "routes fails\nmsi 0xfee00000:0xc051\n");
}

static void test_reset(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	set_rte(f, 9, 0x51 | LEVEL);
	line(f, 9, true);
	put(f, 0, 0x05000000);
	fake_hv_log_clear(f->fake);
	ioapic_reset(&f->ioapic);
	assert_log(f, "routes\n");
	g_assert_cmphex(rte(f, 9), ==, MASKED);
	g_assert_cmphex(get(f, 0), ==, 0);
	ioapic_reset(&f->ioapic);
	assert_log(f, "");
	/* The device still holds its line. */
	set_rte(f, 9, 0x61 | LEVEL);
	assert_log(f, "routes 9=0xfee00000:0xc061\nmsi 0xfee00000:0xc061\n");
}

static void test_restore(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct ioapic_state saved;

	set_rte(f, 9, 0x51 | LEVEL);
	line(f, 9, true);
	set_rte(f, 9, 0x51 | LEVEL | MASKED);
	set_rte(f, 10, 0x52 | LEVEL);
	set_rte(f, 4, 0x34);
	saved = f->ioapic.st;
	ioapic_reset(&f->ioapic);
	fake_hv_log_clear(f->fake);
	g_assert_cmpint(ioapic_state_desc.validate(&saved, NULL), ==, 0);
	f->ioapic.st = saved;
	ioapic_restore(&f->ioapic);
	assert_log(f, "routes 9=0xfee00000:0xc051\n"
		      "routes 9=0xfee00000:0xc051 10=0xfee00000:0xc052\n");
	ioapic_eoi(&f->ioapic, 0x51);
	set_rte(f, 9, 0x51 | LEVEL);
	assert_log(f, "msi 0xfee00000:0xc051\n");
}

static void test_state(void)
{
	struct err err = { 0 };
	struct ioapic_state st = { 0 };

	g_assert_true(state_desc_tiles(&ioapic_state_desc, &err));
	g_assert_cmpint(ioapic_state_desc.validate(&st, &err), ==, 0);
	st.redirection[3] = 0x20000;
	g_assert_cmpint(ioapic_state_desc.validate(&st, &err), ==, -EBADMSG);
	g_assert_cmpstr(err.msg, ==, "ioapic: entry 3 has reserved bits: 0x20000");
	err_clear(&err);
	st.redirection[3] = IRR;
	g_assert_cmpint(ioapic_state_desc.validate(&st, &err), ==, -EBADMSG);
	err_clear(&err);
	st.redirection[3] = 0;
	st.levels = 1U << 24;
	g_assert_cmpint(ioapic_state_desc.validate(&st, &err), ==, -EBADMSG);
	err_clear(&err);
	st.levels = 0;
	st.id = 16;
	g_assert_cmpint(ioapic_state_desc.validate(&st, &err), ==, -EBADMSG);
}

/* Devices on their lines while vCPUs program and end interrupts. */
static gpointer toggle(gpointer data)
{
	for (int i = 0; i < 2000; i++)
		irq_line_set(data, i % 2);
	return NULL;
}

static void test_threads(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	GThread *a = g_thread_new("a", toggle, ioapic_line(&f->ioapic, 9));
	GThread *b = g_thread_new("b", toggle, ioapic_line(&f->ioapic, 10));

	for (int i = 0; i < 500; i++) {
		set_rte(f, 9, 0x51 | LEVEL | (i % 2 ? MASKED : 0));
		set_rte(f, 10, 0x52);
		ioapic_eoi(&f->ioapic, 0x51);
		fake_hv_log_clear(f->fake);
	}
	g_thread_join(a);
	g_thread_join(b);
}

#define ADD(path, fn) g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/devices/ioapic/registers", test_registers);
	ADD("/devices/ioapic/edge", test_edge);
	ADD("/devices/ioapic/edge-masked-is-lost", test_edge_masked_is_lost);
	ADD("/devices/ioapic/level", test_level);
	ADD("/devices/ioapic/level-masked-stays-pending", test_level_masked_stays_pending);
	ADD("/devices/ioapic/eoi-while-masked", test_eoi_while_masked);
	ADD("/devices/ioapic/edge-clears-remote-irr", test_edge_clears_remote_irr);
	ADD("/devices/ioapic/new-destination", test_new_destination);
	ADD("/devices/ioapic/nobody-takes-it", test_nobody_takes_it);
	ADD("/devices/ioapic/route-refused", test_route_refused);
	ADD("/devices/ioapic/reset", test_reset);
	ADD("/devices/ioapic/restore", test_restore);
	ADD("/devices/ioapic/threads", test_threads);
	g_test_add_func("/devices/ioapic/state", test_state);
	return g_test_run();
}
