/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order in which routes and irqfds change (vmm/bus/irq.h), asserted on the
 * recording fake, for every step and with every step failing.
 */
#include "vmm/bus/irq.h"

#include <glib.h>
#include <string.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/err.h"

#define PINS 24

static const struct hv_msi msi_a = { 0xfee00000, 0x41 };
static const struct hv_msi msi_b = { 0xfee01000, 0x52 };

struct fixture {
	struct fake_hv *fake;
	struct irq_table table;
	struct irq_vector v;
};

static void set_up(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct err err = { 0 };

	f->fake = fake_hv_new();
	g_assert_cmpint(irq_table_init(&f->table, fake_hv_vm(f->fake), PINS, &err), ==, 0);
	g_assert_cmpint(irq_vector_init(&f->v, &f->table, &err), ==, 0);
	g_assert_cmpstr(fake_hv_log(f->fake), ==, "");
}

static void tear_down(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	irq_vector_deinit(&f->v);
	g_assert_null(fake_hv_violation(f->fake));
	g_assert_cmpuint(fake_hv_n_attached(f->fake), ==, 0);
	irq_table_deinit(&f->table);
	fake_hv_free(f->fake);
}

static void assert_log(struct fixture *f, const char *expected)
{
	g_assert_cmpstr(fake_hv_log(f->fake), ==, expected);
	fake_hv_log_clear(f->fake);
	g_assert_null(fake_hv_violation(f->fake));
}

static void unmask(struct fixture *f)
{
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	fake_hv_log_clear(f->fake);
}

static void test_unmask(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "routes 24=0xfee00000:0x41\nirqfd attach gsi=24\n");
	g_assert_false(f->v.masked);
	/* The same again changes nothing. */
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "");
}

static void test_mask(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, 0);
	assert_log(f, "irqfd detach gsi=24\n");
	g_assert_true(f->v.masked);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, 0);
	assert_log(f, "");
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "irqfd attach gsi=24\n");
}

static void test_change_while_masked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, 0);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_b, true), ==, 0);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_b, false), ==, 0);
	assert_log(f, "irqfd detach gsi=24\nroutes 24=0xfee01000:0x52\nirqfd attach gsi=24\n");
}

static void test_change_while_unmasked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_b, false), ==, 0);
	assert_log(f, "routes 24=0xfee01000:0x52\n");
}

/* What msix_reset() does: mask, then drop what is pending. */
static void test_device_reset(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	static const struct hv_msi none = { 0 };

	unmask(f);
	g_assert_cmpint(irq_vector_update(&f->v, &none, true), ==, 0);
	irq_vector_raise(&f->v);
	irq_vector_clear(&f->v);
	assert_log(f, "irqfd detach gsi=24\n");
	g_assert_cmpint(irq_vector_update(&f->v, &msi_b, false), ==, 0);
	assert_log(f, "routes 24=0xfee01000:0x52\nirqfd attach gsi=24\n");
	fake_hv_poll(f->fake);
	g_assert_cmpuint(fake_hv_delivered(f->fake), ==, 0);
}

static void test_removal(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct irq_vector other;

	unmask(f);
	g_assert_cmpint(irq_vector_init(&other, &f->table, NULL), ==, 0);
	g_assert_cmpint(irq_vector_update(&other, &msi_b, false), ==, 0);
	fake_hv_log_clear(f->fake);
	irq_vector_deinit(&f->v);
	assert_log(f, "irqfd detach gsi=24\nroutes 25=0xfee01000:0x52\n");
	irq_vector_deinit(&other);
	assert_log(f, "irqfd detach gsi=25\nroutes\n");
	irq_vector_deinit(&other); /* twice is harmless */
	assert_log(f, "");
	/* The GSI can be had again. */
	g_assert_cmpint(irq_vector_init(&f->v, &f->table, NULL), ==, 0);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	g_assert_cmpuint(f->v.gsi, ==, 24);
}

static void test_removal_while_masked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, 0);
	irq_vector_deinit(&f->v);
	assert_log(f, "irqfd detach gsi=24\nroutes\n");
}

static void test_never_unmasked(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, 0);
	irq_vector_deinit(&f->v);
	assert_log(f, "");
}

static void test_unmask_route_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	fake_hv_fail(f->fake, "routes", 1, ENOMEM);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, -ENOMEM);
	assert_log(f, "routes fails\n");
	g_assert_true(f->v.masked);
	g_assert_cmpuint(f->v.gsi, ==, 0);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "routes 24=0xfee00000:0x41\nirqfd attach gsi=24\n");
}

static void test_unmask_attach_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	fake_hv_fail(f->fake, "irqfd-attach", 1, EMFILE);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, -EMFILE);
	g_assert_true(f->v.masked);
	g_assert_cmpuint(fake_hv_n_attached(f->fake), ==, 0);
	fake_hv_log_clear(f->fake);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "irqfd attach gsi=24\n");
}

static void test_mask_detach_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	fake_hv_fail(f->fake, "irqfd-detach", 1, EIO);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, true), ==, -EIO);
	assert_log(f, "irqfd-detach fails\n");
	g_assert_false(f->v.masked); /* true: it is still attached */
	g_assert_cmpuint(fake_hv_n_routes(f->fake), ==, 1);
}

static void test_change_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	unmask(f);
	fake_hv_fail(f->fake, "routes", 1, ENOMEM);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_b, false), ==, -ENOMEM);
	assert_log(f, "routes fails\n");
	/* Back to what the hypervisor has: the old one needs no call. */
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "");
}

static void test_removal_detach_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct irq_vector other;

	unmask(f);
	fake_hv_fail(f->fake, "irqfd-detach", 1, EIO);
	irq_vector_deinit(&f->v);
	assert_log(f, "irqfd-detach fails\n"); /* the route stays with what may be attached */
	g_assert_cmpint(irq_vector_init(&other, &f->table, NULL), ==, 0);
	g_assert_cmpint(irq_vector_update(&other, &msi_b, false), ==, 0);
	g_assert_cmpuint(other.gsi, ==, 25);
	irq_vector_deinit(&other);
	g_assert_null(fake_hv_violation(f->fake));
	/* A kernel would have noticed the closed eventfd by now. */
	fake_hv_forget_gsi(f->fake, 24);
}

static void test_removal_route_fails(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct irq_vector other;

	unmask(f);
	fake_hv_fail(f->fake, "routes", 1, ENOMEM);
	irq_vector_deinit(&f->v);
	assert_log(f, "irqfd detach gsi=24\nroutes fails\n");
	/* The stale route is nobody's; its GSI is not given out again. */
	g_assert_cmpint(irq_vector_init(&other, &f->table, NULL), ==, 0);
	g_assert_cmpint(irq_vector_update(&other, &msi_b, false), ==, 0);
	g_assert_cmpuint(other.gsi, ==, 25);
	irq_vector_deinit(&other);
}

static void test_pending(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	irq_vector_raise(&f->v);
	irq_vector_raise(&f->v);
	g_assert_true(irq_vector_pending(&f->v));
	irq_vector_clear(&f->v);
	g_assert_false(irq_vector_pending(&f->v));
	irq_vector_raise(&f->v);
	g_assert_cmpint(irq_vector_update(&f->v, &msi_a, false), ==, 0);
	assert_log(f, "routes 24=0xfee00000:0x41\nirqfd attach gsi=24\n"
		      "deliver gsi=24 0xfee00000:0x41\n");
	g_assert_false(irq_vector_pending(&f->v));
	g_assert_cmpuint(fake_hv_delivered(f->fake), ==, 1);
	irq_vector_raise(&f->v);
	g_assert_false(irq_vector_pending(&f->v)); /* attached: the hypervisor's */
}

static void test_pins(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	g_assert_cmpint(irq_table_set_pin(&f->table, 4, &msi_b), ==, 0);
	unmask(f);
	g_assert_cmpint(irq_table_set_pin(&f->table, 4, &msi_b), ==, 0);
	assert_log(f, "");
	g_assert_cmpint(irq_table_set_pin(&f->table, 4, &msi_a), ==, 0);
	assert_log(f, "routes 4=0xfee00000:0x41 24=0xfee00000:0x41\n");
	g_assert_cmpint(irq_table_set_pin(&f->table, 4, NULL), ==, 0);
	assert_log(f, "routes 24=0xfee00000:0x41\n");
	g_assert_cmpint(irq_table_set_pin(&f->table, 4, NULL), ==, 0);
	assert_log(f, "");
	g_assert_cmpint(irq_table_set_pin(&f->table, PINS, &msi_a), ==, -EINVAL);
}

static void test_all_gsis_used(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	size_t n = f->table.n_gsis;
	g_autofree struct irq_vector *vs = g_new0(struct irq_vector, n + 1);

	for (size_t i = 0; i <= n; i++)
		g_assert_cmpint(irq_vector_init(&vs[i], &f->table, NULL), ==, 0);
	for (size_t i = 0; i < n; i++)
		g_assert_cmpint(irq_vector_update(&vs[i], &msi_a, false), ==, 0);
	g_assert_cmpint(irq_vector_update(&vs[n], &msi_a, false), ==, -ENOSPC);
	g_assert_true(vs[n].masked);
	for (size_t i = 0; i <= n; i++)
		irq_vector_deinit(&vs[i]);
	g_assert_cmpuint(fake_hv_n_routes(f->fake), ==, 0);
}

static void test_no_room(void)
{
	struct fake_hv *fake = fake_hv_new();
	struct irq_table table;
	struct err err = { 0 };

	fake_hv_vm(fake)->caps.gsi_routes = PINS;
	g_assert_cmpint(irq_table_init(&table, fake_hv_vm(fake), PINS, &err), ==, -ENOSPC);
	g_assert_cmpstr(err.msg, ==,
			"the host has 24 interrupt routes, 24 are the IOAPIC's: none is left for "
			"devices");
	irq_table_deinit(&table);
	fake_hv_free(fake);
}

/* Several vCPUs at their devices' vectors, and the IOAPIC's pins, at once. */
#define THREADS 4
#define ROUNDS  500

struct worker {
	struct irq_table *table;
	unsigned int n;
};

static gpointer work(gpointer data)
{
	struct worker *w = data;
	struct irq_vector v;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		const struct hv_msi *msi = i % 2 ? &msi_a : &msi_b;

		g_assert_cmpint(irq_vector_init(&v, w->table, NULL), ==, 0);
		g_assert_cmpint(irq_vector_update(&v, msi, false), ==, 0);
		irq_vector_raise(&v);
		g_assert_cmpint(irq_table_set_pin(w->table, w->n, i % 3 ? msi : NULL), ==, 0);
		g_assert_cmpint(irq_vector_update(&v, msi, i % 5 == 0), ==, 0);
		irq_vector_pending(&v);
		irq_vector_deinit(&v);
	}
	return NULL;
}

static void test_threads(struct fixture *f, gconstpointer data G_GNUC_UNUSED)
{
	struct worker workers[THREADS];
	GThread *threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .table = &f->table, .n = i };
		threads[i] = g_thread_new("vcpu", work, &workers[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		g_thread_join(threads[i]);
	g_assert_null(fake_hv_violation(f->fake));
	g_assert_cmpuint(fake_hv_n_attached(f->fake), ==, 0);
}

#define ADD(path, fn) g_test_add(path, struct fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("/bus/irq/order/unmask", test_unmask);
	ADD("/bus/irq/order/mask", test_mask);
	ADD("/bus/irq/order/change-while-masked", test_change_while_masked);
	ADD("/bus/irq/order/change-while-unmasked", test_change_while_unmasked);
	ADD("/bus/irq/order/device-reset", test_device_reset);
	ADD("/bus/irq/order/removal", test_removal);
	ADD("/bus/irq/order/removal-while-masked", test_removal_while_masked);
	ADD("/bus/irq/order/never-unmasked", test_never_unmasked);
	ADD("/bus/irq/failure/unmask-route", test_unmask_route_fails);
	ADD("/bus/irq/failure/unmask-attach", test_unmask_attach_fails);
	ADD("/bus/irq/failure/mask-detach", test_mask_detach_fails);
	ADD("/bus/irq/failure/change", test_change_fails);
	ADD("/bus/irq/failure/removal-detach", test_removal_detach_fails);
	ADD("/bus/irq/failure/removal-route", test_removal_route_fails);
	ADD("/bus/irq/pending", test_pending);
	ADD("/bus/irq/pins", test_pins);
	ADD("/bus/irq/all-gsis-used", test_all_gsis_used);
	g_test_add_func("/bus/irq/no-room", test_no_room);
	ADD("/bus/irq/threads", test_threads);
	return g_test_run();
}
