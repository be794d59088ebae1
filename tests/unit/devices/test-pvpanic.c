/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic's register
 */
#include "vmm/devices/pvpanic.h"

#include <glib.h>
#include <linux/pci_regs.h>
#include <string.h>

static unsigned int told;

static void on_notify(void *data)
{
	unsigned int *count = data;

	(*count)++;
}

static uint8_t get(struct pvpanic *p, uint64_t off)
{
	uint8_t v;

	p->region.ops->read(&p->region, off, &v, 1);
	return v;
}

static void put(struct pvpanic *p, uint64_t off, uint64_t value, uint32_t len)
{
	p->region.ops->write(&p->region, off, &value, len);
}

static void test_register(void)
{
	struct pvpanic p;

	told = 0;
	pvpanic_init(&p, "__pvpanic", on_notify, &told);
	g_assert_cmphex(pci_config_get(&p.pci, PCI_VENDOR_ID, 4), ==, 0x00111b36);
	/* without memory decoding nobody answers */
	g_assert_cmphex(get(&p, 0), ==, 0xff);
	put(&p, 0, 1, 1);
	g_assert_cmpuint(told, ==, 0);
	atomic_store(&p.pci.decoding, true);
	g_assert_cmphex(get(&p, 0), ==, 3);
	g_assert_cmphex(get(&p, 1), ==, 0);
	put(&p, 0, 1, 1);
	put(&p, 0, 2, 2);
	put(&p, 0, 0xfc, 1); /* no event that is known */
	put(&p, 8, 1, 1);
	g_assert_cmpuint(told, ==, 2);
	g_assert_cmphex(pvpanic_take(&p), ==, PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
	g_assert_cmphex(pvpanic_take(&p), ==, 0);
	pvpanic_deinit(&p);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/pvpanic/register", test_register);
	return g_test_run();
}
