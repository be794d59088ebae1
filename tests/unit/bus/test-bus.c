/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/bus.h"

#include <glib.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"

/* A device that answers with its number and offset, and remembers the last write. */
struct probe {
	struct bus_device dev;
	uint8_t number;
	uint64_t written_off, written;
	uint32_t written_len;
	unsigned int n_writes;
};

static void probe_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct probe *p = container_of(dev, struct probe, dev);

	bytes_put_le(data, len, p->number * 0x10ULL + off);
}

static void probe_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len)
{
	struct probe *p = container_of(dev, struct probe, dev);

	p->written_off = off;
	p->written = bytes_get_le(data, len);
	p->written_len = len;
	p->n_writes++;
}

static const struct bus_ops ops_a = { "a", probe_read, probe_write };
static const struct bus_ops ops_b = { "b", probe_read, probe_write };

static void test_dispatch(void)
{
	struct probe a = { .dev.ops = &ops_a, .number = 1 }, b = { .dev.ops = &ops_b, .number = 2 };
	struct bus bus;
	uint32_t v = 0;

	bus_init(&bus, 0x10000);
	/* An empty bus. */
	bus_read(&bus, 0x70, &v, 4);
	g_assert_cmphex(v, ==, 0xffffffff);
	g_assert_cmpint(bus_add(&bus, &b.dev, 0x3f8, 8, NULL), ==, 0);
	g_assert_cmpint(bus_add(&bus, &a.dev, 0x70, 2, NULL), ==, 0);
	g_assert_cmpuint(a.dev.base, ==, 0x70);

	v = 0;
	bus_read(&bus, 0x71, &v, 1);
	g_assert_cmphex(v, ==, 0x11);
	v = 0;
	bus_read(&bus, 0x3fc, &v, 4);
	g_assert_cmphex(v, ==, 0x24);
	v = 0x34333231;
	bus_write(&bus, 0x3f8, &v, 2);
	g_assert_cmpuint(b.written_off, ==, 0);
	g_assert_cmphex(b.written, ==, 0x3231);
	g_assert_cmpuint(b.written_len, ==, 2);

	/* Nobody there, below, between and above. */
	for (uint64_t at = 0x6f; at < 0x10000; at = at * 3) {
		v = 0;
		bus_read(&bus, at, &v, 1);
		g_assert_cmphex(v, ==, 0xff);
	}
	v = 0;
	bus_read(&bus, 0x72, &v, 1);
	g_assert_cmphex(v, ==, 0xff);
	/* Across the end of a device: not its access. */
	v = 0;
	bus_read(&bus, 0x71, &v, 2);
	g_assert_cmphex(v, ==, 0xffff);
	b.n_writes = 0;
	bus_write(&bus, 0x3fe, &v, 4);
	g_assert_cmpuint(b.n_writes, ==, 0);
	bus_deinit(&bus);
}

static void test_odd_lengths(void)
{
	struct probe a = { .dev.ops = &ops_a, .number = 1 };
	struct bus bus;
	uint8_t v[12] = { 0 };

	bus_init(&bus, 0);
	g_assert_cmpint(bus_add(&bus, &a.dev, 0x1000, 3, NULL), ==, 0);
	bus_read(&bus, 0x1000, v, 3);
	g_assert_cmpmem(v, 4, "\x10\x11\x12\x00", 4);
	bus_read(&bus, 0x1001, v, 12);
	g_assert_cmpmem(v, 12, "\x11\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	bus_write(&bus, 0x1000, v, 3);
	g_assert_cmpuint(a.n_writes, ==, 3);
	g_assert_cmpuint(a.written_len, ==, 1);
	bus_deinit(&bus);
}

static void test_overlap(void)
{
	struct probe a = { .dev.ops = &ops_a }, b = { .dev.ops = &ops_b };
	static const struct {
		uint64_t base, len;
		int r;
	} cases[] = {
		{ 0x100, 8, -EBUSY },    { 0xf9, 8, -EBUSY },   { 0x107, 1, -EBUSY },
		{ 0x0, 0x1000, -EBUSY }, { 0x103, 2, -EBUSY },  { 0xf8, 8, 0 },
		{ 0x108, 8, 0 },         { 0xfff8, 8, 0 },      { 0xfff8, 9, -EINVAL },
		{ 0x10000, 1, -EINVAL }, { 0x200, 0, -EINVAL }, { UINT64_MAX, 2, -EINVAL },
	};
	struct bus bus;

	bus_init(&bus, 0x10000);
	g_assert_cmpint(bus_add(&bus, &a.dev, 0x100, 8, NULL), ==, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		struct err err = { 0 };

		g_assert_cmpint(bus_add(&bus, &b.dev, cases[i].base, cases[i].len, &err), ==,
				cases[i].r);
		g_assert_cmpint(err.code, ==, -cases[i].r);
		if (i == 0)
			g_assert_cmpstr(err.msg, ==,
					"'b' cannot be at 0x100 to 0x107: "
					"'a' is at 0x100 to 0x107");
		if (cases[i].r == 0)
			bus_remove(&bus, &b.dev);
	}
	bus_deinit(&bus);
}

static void test_whole_address_space(void)
{
	struct probe a = { .dev.ops = &ops_a, .number = 1 };
	struct bus bus;
	uint8_t v = 0;

	bus_init(&bus, 0);
	g_assert_cmpint(bus_add(&bus, &a.dev, UINT64_MAX - 3, 4, NULL), ==, 0);
	bus_read(&bus, UINT64_MAX, &v, 1);
	g_assert_cmphex(v, ==, 0x13);
	bus_read(&bus, UINT64_MAX - 4, &v, 1);
	g_assert_cmphex(v, ==, 0xff);
	bus_deinit(&bus);
}

/* A device that moves leaves and comes again. */
static void move(struct bus *bus, struct probe *p, uint64_t base)
{
	uint64_t len = p->dev.len;

	bus_remove(bus, &p->dev);
	g_assert_cmpint(bus_add(bus, &p->dev, base, len, NULL), ==, 0);
}

static void test_move(void)
{
	struct probe a = { .dev.ops = &ops_a, .number = 1 }, b = { .dev.ops = &ops_b, .number = 2 };
	struct bus bus;
	uint8_t v = 0;

	bus_init(&bus, 0);
	g_assert_cmpint(bus_add(&bus, &a.dev, 0x1000, 0x1000, NULL), ==, 0);
	g_assert_cmpint(bus_add(&bus, &b.dev, 0x4000, 0x1000, NULL), ==, 0);
	/* Over its own old place. */
	move(&bus, &a, 0x1800);
	/* Past the other one. */
	move(&bus, &a, 0x8000);
	bus_read(&bus, 0x8001, &v, 1);
	g_assert_cmphex(v, ==, 0x11);
	bus_read(&bus, 0x1800, &v, 1);
	g_assert_cmphex(v, ==, 0xff);
	bus_read(&bus, 0x4003, &v, 1);
	g_assert_cmphex(v, ==, 0x23);
	bus_remove(&bus, &a.dev);
	bus_remove(&bus, &a.dev); /* twice is harmless */
	bus_read(&bus, 0x8002, &v, 1);
	g_assert_cmphex(v, ==, 0xff);
	bus_deinit(&bus);
}

static void test_many(void)
{
	static struct probe devs[200];
	struct bus bus;

	bus_init(&bus, 0);
	/* In an order that is neither up nor down. */
	for (unsigned int i = 0; i < G_N_ELEMENTS(devs); i++) {
		unsigned int at = i * 77 % G_N_ELEMENTS(devs);

		devs[at] = (struct probe){ .dev.ops = &ops_a, .number = (uint8_t)at };
		g_assert_cmpint(bus_add(&bus, &devs[at].dev, at * 0x20, 0x10, NULL), ==, 0);
	}
	for (unsigned int i = 0; i < G_N_ELEMENTS(devs); i++) {
		uint16_t v = 0;

		bus_read(&bus, i * 0x20 + 5, &v, 2);
		g_assert_cmphex(v, ==, i * 0x10 + 5);
		bus_read(&bus, i * 0x20 + 0x10, &v, 2);
		g_assert_cmphex(v, ==, 0xffff);
	}
	for (unsigned int i = 0; i < G_N_ELEMENTS(devs); i += 2)
		bus_remove(&bus, &devs[i].dev);
	g_assert_cmpuint(bus.n_devices, ==, G_N_ELEMENTS(devs) / 2);
	bus_deinit(&bus);
}

/* vCPUs read while control moves a device: each read sees it, or nothing. */
static gpointer reader(gpointer data)
{
	struct bus *bus = data;

	for (unsigned int i = 0; i < 20000; i++) {
		uint8_t v = 0;

		bus_read(bus, 0x1007, &v, 1);
		g_assert_true(v == 0xff || v == 0x17);
	}
	return NULL;
}

static void test_move_while_read(void)
{
	struct probe a = { .dev.ops = &ops_a, .number = 1 };
	GThread *threads[2];
	struct bus bus;

	bus_init(&bus, 0);
	g_assert_cmpint(bus_add(&bus, &a.dev, 0x1000, 0x100, NULL), ==, 0);
	for (unsigned int i = 0; i < 2; i++)
		threads[i] = g_thread_new("vcpu", reader, &bus);
	for (unsigned int i = 0; i < 2000; i++)
		move(&bus, &a, i % 2 ? 0x1000 : 0x3000);
	for (unsigned int i = 0; i < 2; i++)
		g_thread_join(threads[i]);
	bus_deinit(&bus);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/bus/bus/dispatch", test_dispatch);
	g_test_add_func("/bus/bus/odd-lengths", test_odd_lengths);
	g_test_add_func("/bus/bus/overlap", test_overlap);
	g_test_add_func("/bus/bus/whole-address-space", test_whole_address_space);
	g_test_add_func("/bus/bus/move", test_move);
	g_test_add_func("/bus/bus/many", test_many);
	g_test_add_func("/bus/bus/move-while-read", test_move_while_read);
	return g_test_run();
}
