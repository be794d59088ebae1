/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/debug-port.h"

#include <glib.h>
#include <string.h>
#include <sys/mman.h>

static void on_code(void *data)
{
	__atomic_add_fetch((unsigned int *)data, 1, __ATOMIC_RELAXED);
}

static void put(struct debug_port *port, uint8_t code)
{
	port->region.ops->write(&port->region, 0, &code, 1);
}

static void test_first_write_counts(void)
{
	unsigned int n = 0;
	struct debug_port port;
	uint64_t start = (uint64_t)g_get_monotonic_time() - 1000, usec = 0, second = 0;
	uint8_t code = 0;

	debug_port_init(&port, start, on_code, &n);
	g_assert_false(debug_port_take(&port, &code, &usec));
	put(&port, 0x41);
	put(&port, 0x40);
	put(&port, 0x41);
	put(&port, 0x00);
	g_assert_cmpuint(n, ==, 3);
	g_assert_true(debug_port_take(&port, &code, &usec));
	g_assert_cmphex(code, ==, 0x00);
	g_assert_true(debug_port_take(&port, &code, &second));
	g_assert_cmphex(code, ==, 0x40);
	g_assert_cmpuint(second, >=, 1000);
	g_assert_cmpuint(second, <=, usec);
	g_assert_cmpuint(usec, <, 60 * 1000000);
	g_assert_true(debug_port_take(&port, &code, &usec));
	g_assert_cmphex(code, ==, 0x41);
	g_assert_false(debug_port_take(&port, &code, &usec));
	put(&port, 0xff);
	g_assert_true(debug_port_take(&port, &code, &usec));
	g_assert_cmphex(code, ==, 0xff);
}

static gpointer write_all(gpointer data)
{
	for (unsigned int i = 0; i < 256; i++)
		put(data, (uint8_t)i);
	return NULL;
}

static void test_threads(void)
{
	unsigned int n = 0, taken = 0;
	struct debug_port port;
	GThread *threads[3];
	uint64_t usec;
	uint8_t code;

	debug_port_init(&port, 0, on_code, &n);
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		threads[i] = g_thread_new("vcpu", write_all, &port);
	while (taken < 256)
		if (debug_port_take(&port, &code, &usec))
			taken++;
	for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
		g_thread_join(threads[i]);
	g_assert_cmpuint(n, ==, 256);
	g_assert_false(debug_port_take(&port, &code, &usec));
}

static void test_console(void)
{
	int fd = memfd_create("debug", MFD_CLOEXEC);
	struct debug_console dev;
	struct chardev chardev;
	struct loop loop;
	char buf[8] = "";
	uint8_t v = 0;

	g_assert_cmpint(loop_start(&loop, "io", NULL, NULL), ==, 0);
	g_assert_cmpint(chardev_init(&chardev, "debug", CONSOLE_MODE_FILE, fd, &loop, NULL), ==, 0);
	debug_console_init(&dev, &chardev);
	dev.region.ops->read(&dev.region, 0, &v, 1);
	g_assert_cmphex(v, ==, 0xe9);
	dev.region.ops->write(&dev.region, 0, "o", 1);
	dev.region.ops->write(&dev.region, 0, "k", 1);
	g_assert_cmpint(pread(fd, buf, sizeof(buf), 0), ==, 2);
	g_assert_cmpstr(buf, ==, "ok");
	chardev_deinit(&chardev);
	loop_stop(&loop);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/devices/debug-port/first-write-counts", test_first_write_counts);
	g_test_add_func("/devices/debug-port/threads", test_threads);
	g_test_add_func("/devices/debug-port/console", test_console);
	return g_test_run();
}
