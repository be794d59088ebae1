/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X on the recording hypervisor: table, pending bits, masks, and the order
 * in which irqfds and routes change hands
 */
#include "vmm/pci/msix.h"

#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/pci/pci.h"

#define PINS 24U
#define N    10
#define ADDR 0xfee00000U

struct fixture {
	struct fake_hv *hv;
	struct irq_table irqs;
	struct pci_device pci;
	struct msix msix;
};

static void config_written(struct pci_device *pci, uint32_t off, uint32_t len)
{
	msix_config_written(&container_of(pci, struct fixture, pci)->msix, off, len);
}

static const struct pci_device_ops ops = { .config_written = config_written };

static void setup(struct fixture *f)
{
	const struct pci_header header = { .vendor = 0x1af4, .device = 1 };
	struct err err = { 0 };

	*f = (struct fixture){ .hv = fake_hv_new() };
	pci_device_init(&f->pci, &ops, "dev", &header);
	if (irq_table_init(&f->irqs, fake_hv_vm(f->hv), PINS, &err) < 0 ||
	    msix_init(&f->msix, &f->pci, &f->irqs, N, 2, 0x1000, 0x2000, &err) < 0)
		g_error("%s", err.msg);
}

static void teardown(struct fixture *f)
{
	msix_deinit(&f->msix);
	g_assert_cmpstr(fake_hv_violation(f->hv), ==, NULL);
	g_assert_cmpuint(fake_hv_n_attached(f->hv), ==, 0);
	g_assert_cmpuint(fake_hv_n_routes(f->hv), ==, 0);
	irq_table_deinit(&f->irqs);
	pci_device_deinit(&f->pci);
	fake_hv_free(f->hv);
}

static void expect(struct fixture *f, const char *log)
{
	g_assert_cmpstr(fake_hv_log(f->hv), ==, log);
	fake_hv_log_clear(f->hv);
}

static void control(struct fixture *f, uint16_t flags)
{
	pci_config_write(&f->pci, f->msix.cap + PCI_MSIX_FLAGS, 2, flags);
}

static void put(struct fixture *f, uint32_t off, uint32_t len, uint64_t value)
{
	uint8_t raw[8];

	bytes_put_le(raw, len, value);
	msix_table_write(&f->msix, off, raw, len);
}

static uint64_t get(struct fixture *f, uint32_t off, uint32_t len)
{
	uint8_t raw[8];

	msix_table_read(&f->msix, off, raw, len);
	return bytes_get_le(raw, len);
}

static uint64_t pba(struct fixture *f, uint32_t off, uint32_t len)
{
	uint8_t raw[8];

	msix_pba_read(&f->msix, off, raw, len);
	return bytes_get_le(raw, len);
}

/* Vector i to ADDR:data, unmasked; what a driver writes. */
static void program(struct fixture *f, uint32_t i, uint32_t data)
{
	put(f, 16 * i, 4, ADDR);
	put(f, 16 * i + 4, 4, 0);
	put(f, 16 * i + 8, 4, data);
	put(f, 16 * i + 12, 4, 0);
}

static void test_capability(void)
{
	struct fixture f;
	uint32_t at;

	setup(&f);
	at = f.msix.cap;
	g_assert_cmphex(pci_config_read(&f.pci, at, 1), ==, PCI_CAP_ID_MSIX);
	g_assert_cmphex(pci_config_read(&f.pci, at + 2, 2), ==, N - 1);
	g_assert_cmphex(pci_config_read(&f.pci, at + 4, 4), ==, 0x1000 | 2);
	g_assert_cmphex(pci_config_read(&f.pci, at + 8, 4), ==, 0x2000 | 2);
	control(&f, 0xffff); /* the size is read-only */
	g_assert_cmphex(pci_config_read(&f.pci, at + 2, 2), ==, 0xc000 | (N - 1));
	teardown(&f);
}

static void test_table(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmphex(get(&f, 12, 4), ==, 1); /* masked after reset */
	put(&f, 0, 8, 0x123456789abcdef0);
	put(&f, 8, 8, 0xffffffff00000041);
	g_assert_cmphex(get(&f, 0, 8), ==, 0x123456789abcdef0);
	g_assert_cmphex(get(&f, 4, 4), ==, 0x12345678);
	g_assert_cmphex(get(&f, 8, 4), ==, 0x41);
	g_assert_cmphex(get(&f, 12, 4), ==, 1); /* reserved bits of control read zero */
	/* 6.8.2: only aligned doublewords and quadwords */
	put(&f, 0, 1, 0);
	put(&f, 8, 2, 0);
	put(&f, 2, 4, 0);
	put(&f, 4, 8, 0);
	g_assert_cmphex(get(&f, 0, 8), ==, 0x123456789abcdef0);
	g_assert_cmphex(get(&f, 16 * N, 4), ==, UINT32_MAX);
	put(&f, 16 * N, 4, 0); /* no such vector */
	teardown(&f);
}

static void test_order(void)
{
	struct fixture f;

	setup(&f);
	program(&f, 0, 0x41);
	expect(&f, ""); /* MSI-X is off */
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	expect(&f, "routes 24=0xfee00000:0x41\nirqfd attach gsi=24\n");
	/* mask: out of the irqfd list; unmask without a change: back in */
	put(&f, 12, 4, 1);
	expect(&f, "irqfd detach gsi=24\n");
	put(&f, 12, 4, 0);
	expect(&f, "irqfd attach gsi=24\n");
	/* mask, change, unmask: route before irqfd */
	put(&f, 12, 4, 1);
	put(&f, 8, 4, 0x42);
	expect(&f, "irqfd detach gsi=24\n");
	put(&f, 12, 4, 0);
	expect(&f, "routes 24=0xfee00000:0x42\nirqfd attach gsi=24\n");
	/* change without a mask (undefined, and drivers do it): the route is never missing */
	put(&f, 8, 4, 0x43);
	expect(&f, "routes 24=0xfee00000:0x43\n");
	program(&f, 1, 0x51);
	fake_hv_log_clear(f.hv);
	/* function mask and enable bit act on all, in the same order */
	control(&f, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	expect(&f, "irqfd detach gsi=24\nirqfd detach gsi=25\n");
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	expect(&f, "irqfd attach gsi=24\nirqfd attach gsi=25\n");
	control(&f, 0);
	expect(&f, "irqfd detach gsi=24\nirqfd detach gsi=25\n");
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	fake_hv_log_clear(f.hv);
	/* device reset */
	msix_reset(&f.msix);
	expect(&f, "irqfd detach gsi=24\nirqfd detach gsi=25\n");
	g_assert_cmphex(get(&f, 0, 4), ==, 0);
	g_assert_cmphex(get(&f, 12, 4), ==, 1);
	/* the driver starts anew */
	control(&f, 0);
	program(&f, 0, 0x44);
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	expect(&f, "routes 24=0xfee00000:0x44 25=0xfee00000:0x51\nirqfd attach gsi=24\n");
	/* removal: each leaves the irqfd list, then the table */
	msix_deinit(&f.msix);
	expect(&f, "irqfd detach gsi=24\nroutes 25=0xfee00000:0x51\nroutes\n");
	teardown(&f);
}

static void test_pending(void)
{
	struct fixture f;

	setup(&f);
	program(&f, 0, 0x41);
	program(&f, 9, 0x49);
	control(&f, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	msix_raise(&f.msix, 0);
	msix_raise(&f.msix, 9);
	msix_raise(&f.msix, N); /* nobody */
	msix_raise(&f.msix, 0xffff);
	g_assert_cmphex(pba(&f, 0, 8), ==, 0x201);
	g_assert_cmphex(pba(&f, 1, 1), ==, 2);
	g_assert_cmphex(pba(&f, 8, 8), ==, 0);
	g_assert_cmpuint(fake_hv_delivered(f.hv), ==, 0);
	put(&f, 16 * 9 + 12, 4, 1);
	control(&f, PCI_MSIX_FLAGS_ENABLE); /* unmasked: what is pending is sent */
	g_assert_cmpuint(fake_hv_delivered(f.hv), ==, 1);
	g_assert_cmphex(pba(&f, 0, 8), ==, 0x200);
	put(&f, 16 * 9 + 12, 4, 0);
	g_assert_cmpuint(fake_hv_delivered(f.hv), ==, 2);
	g_assert_cmphex(pba(&f, 0, 8), ==, 0);
	/* what is pending at a reset is forgotten */
	put(&f, 12, 4, 1);
	msix_raise(&f.msix, 0);
	msix_reset(&f.msix);
	g_assert_cmphex(pba(&f, 0, 8), ==, 0);
	teardown(&f);
}

static void test_host_refuses(void)
{
	struct fixture f;

	setup(&f);
	control(&f, PCI_MSIX_FLAGS_ENABLE);
	fake_hv_fail(f.hv, "routes", 1, ENOMEM);
	program(&f, 0, 0x41);
	g_assert_cmpuint(fake_hv_n_attached(f.hv), ==, 0);
	g_assert_cmphex(get(&f, 12, 4), ==, 0); /* the register says what was written */
	put(&f, 12, 4, 1);
	put(&f, 12, 4, 0); /* another try */
	g_assert_cmpuint(fake_hv_n_attached(f.hv), ==, 1);
	fake_hv_fail(f.hv, "irqfd-detach", 1, EIO);
	put(&f, 12, 4, 1);
	g_assert_cmpuint(fake_hv_n_attached(f.hv), ==, 1);
	g_assert_cmpuint(fake_hv_n_routes(f.hv), ==, 1);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/pci/msix/capability", test_capability);
	g_test_add_func("/pci/msix/table", test_table);
	g_test_add_func("/pci/msix/order", test_order);
	g_test_add_func("/pci/msix/pending", test_pending);
	g_test_add_func("/pci/msix/host-refuses", test_host_refuses);
	return g_test_run();
}
