/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/i8042.h"

#include <glib.h>

static void on_request(void *data, enum machine_request request)
{
	unsigned int *n = data;

	g_assert_cmpint(request, ==, MACHINE_REQUEST_RESET);
	(*n)++;
}

static void test_ports(void)
{
	unsigned int n = 0;
	struct i8042 dev;
	uint8_t v = 0xfe, other = 0xd1;

	i8042_init(&dev, on_request, &n);
	for (uint64_t off = 0; off < I8042_PORTS; off++) {
		uint8_t got = 0xff;

		dev.region.ops->read(&dev.region, off, &got, 1);
		g_assert_cmphex(got, ==, off == 0 ? 0x20 : 0);
		if (off != 3)
			dev.region.ops->write(&dev.region, off, &v, 1);
	}
	dev.region.ops->write(&dev.region, 3, &other, 1);
	g_assert_cmpuint(n, ==, 0);
	dev.region.ops->write(&dev.region, 3, &v, 1);
	g_assert_cmpuint(n, ==, 1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/i8042/ports", test_ports);
	return g_test_run();
}
