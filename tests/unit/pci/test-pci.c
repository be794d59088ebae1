/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration space, BARs and segments, by ECAM and by ports
 */
#include "vmm/pci/segment.h"

#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/err.h"
#include "vmm/base/mailbox.h"

#define ECAM   0xe8000000UL
#define LOW    0xc0000000UL
#define HIGH   0x1000000000UL
#define WINDOW 0x100000UL /* bytes of each */

struct card {
	struct pci_device pci;
	struct bus_device regions[2];
	unsigned int mapped, unmapped, resets;
};

struct fixture {
	struct bus mmio, pio;
	struct mailbox box;
	struct pci_segment seg;
	struct card a, b;
};

static void region_read(struct bus_device *dev G_GNUC_UNUSED, uint64_t off, void *data,
			uint32_t len)
{
	bytes_put_le(data, len, 0xa0 + off);
}

static void region_write(struct bus_device *dev G_GNUC_UNUSED, uint64_t off G_GNUC_UNUSED,
			 const void *data G_GNUC_UNUSED, uint32_t len G_GNUC_UNUSED)
{
}

static const struct bus_ops region_ops = { "card", region_read, region_write };

static void on_mapped(struct pci_device *pci, unsigned int bar G_GNUC_UNUSED)
{
	container_of(pci, struct card, pci)->mapped++;
}

static void on_unmapping(struct pci_device *pci, unsigned int bar G_GNUC_UNUSED)
{
	container_of(pci, struct card, pci)->unmapped++;
}

static void on_reset(struct pci_device *pci)
{
	container_of(pci, struct card, pci)->resets++;
}

static const struct pci_device_ops card_ops = {
	.bar_mapped = on_mapped,
	.bar_unmapping = on_unmapping,
	.reset = on_reset,
};

static void card_init(struct card *c, const char *id)
{
	const struct pci_header header = { .vendor = 0x1af4,
					   .device = 0x1055,
					   .class = 2,
					   .subclass = 1,
					   .prog_if = 3,
					   .revision = 9,
					   .subsystem_vendor = 0x1234,
					   .subsystem = 0x5678 };

	*c = (struct card){ .regions = { { .ops = &region_ops }, { .ops = &region_ops } } };
	pci_device_init(&c->pci, &card_ops, id, &header);
}

static void setup(struct fixture *f)
{
	struct err err = { 0 };

	*f = (struct fixture){ 0 };
	bus_init(&f->mmio, 0);
	bus_init(&f->pio, 65536);
	if (mailbox_init(&f->box, &err) < 0 ||
	    pci_segment_init(&f->seg, 0, &f->mmio, &f->pio, &f->box, ECAM,
			     (struct pci_window){ LOW, WINDOW },
			     (struct pci_window){ HIGH, WINDOW }, &err) < 0)
		g_error("%s", err.msg);
	card_init(&f->a, "a");
	card_init(&f->b, "b");
}

static void teardown(struct fixture *f)
{
	if (f->a.pci.segment)
		pci_segment_remove(&f->seg, &f->a.pci);
	if (f->b.pci.segment)
		pci_segment_remove(&f->seg, &f->b.pci);
	g_assert_cmpuint(f->mmio.n_devices, ==, 1); /* ECAM: nothing is left behind */
	pci_segment_deinit(&f->seg);
	pci_device_deinit(&f->a.pci);
	pci_device_deinit(&f->b.pci);
	mailbox_deinit(&f->box);
	bus_deinit(&f->mmio);
	bus_deinit(&f->pio);
}

static void add(struct fixture *f, struct card *c, int slot)
{
	struct err err = { 0 };

	if (pci_segment_add(&f->seg, &c->pci, slot, &err) < 0)
		g_error("%s", err.msg);
}

static uint64_t ecam(struct fixture *f, uint32_t slot, uint32_t off, uint32_t len)
{
	uint8_t raw[8];

	bus_read(&f->mmio, ECAM + (slot << 15) + off, raw, len);
	return bytes_get_le(raw, len);
}

static void ecam_put(struct fixture *f, uint32_t slot, uint32_t off, uint32_t len, uint64_t v)
{
	uint8_t raw[8];

	bytes_put_le(raw, len, v);
	bus_write(&f->mmio, ECAM + (slot << 15) + off, raw, len);
}

static uint64_t port(struct fixture *f, uint16_t at, uint32_t len)
{
	uint8_t raw[4];

	bus_read(&f->pio, at, raw, len);
	return bytes_get_le(raw, len);
}

static void port_put(struct fixture *f, uint16_t at, uint32_t len, uint32_t v)
{
	uint8_t raw[4];

	bytes_put_le(raw, len, v);
	bus_write(&f->pio, at, raw, len);
}

static void test_header(void)
{
	struct fixture f;

	setup(&f);
	add(&f, &f.a, 3);
	g_assert_cmphex(ecam(&f, 3, 0, 4), ==, 0x10551af4);
	g_assert_cmphex(ecam(&f, 3, 8, 4), ==, 0x02010309);
	g_assert_cmphex(ecam(&f, 3, PCI_SUBSYSTEM_VENDOR_ID, 4), ==, 0x56781234);
	/* masks */
	ecam_put(&f, 3, 0, 4, 0);
	ecam_put(&f, 3, PCI_COMMAND, 4, 0xffffffff);
	g_assert_cmphex(ecam(&f, 3, 0, 4), ==, 0x10551af4);
	g_assert_cmphex(ecam(&f, 3, PCI_COMMAND, 2), ==, 0x0407);
	g_assert_cmphex(ecam(&f, 3, PCI_STATUS, 2), ==, 0);
	g_assert_true(pci_is_decoding(&f.a.pci));
	ecam_put(&f, 3, PCI_INTERRUPT_LINE, 1, 0x55);
	g_assert_cmphex(ecam(&f, 3, PCI_INTERRUPT_LINE, 2), ==, 0x55);
	ecam_put(&f, 3, PCI_BASE_ADDRESS_0, 4, 0xffffffff); /* it has no BAR */
	g_assert_cmphex(ecam(&f, 3, PCI_BASE_ADDRESS_0, 4), ==, 0);
	g_assert_cmphex(ecam(&f, 3, 256, 4), ==, 0); /* no extended capabilities */
	teardown(&f);
}

static void test_capabilities(void)
{
	const uint8_t body[] = { 0, 0, 1, 2, 3 };
	struct fixture f;

	setup(&f);
	g_assert_cmphex(pci_add_capability(&f.a.pci, 9, body, 5), ==, 0x40);
	g_assert_cmphex(pci_add_capability(&f.a.pci, 0x11, body, 5), ==, 0x48); /* aligned to 4 */
	pci_set_writable(&f.a.pci, 0x4a, 0x80, 1);
	add(&f, &f.a, 1);
	g_assert_cmphex(ecam(&f, 1, PCI_STATUS, 2), ==, PCI_STATUS_CAP_LIST);
	g_assert_cmphex(ecam(&f, 1, PCI_CAPABILITY_LIST, 1), ==, 0x40);
	g_assert_cmphex(ecam(&f, 1, 0x40, 4), ==, 0x02014809);
	g_assert_cmphex(ecam(&f, 1, 0x48, 4), ==, 0x02010011);
	ecam_put(&f, 1, 0x48, 4, 0xffffffff);
	g_assert_cmphex(ecam(&f, 1, 0x48, 4), ==, 0x02810011);
	teardown(&f);
}

static void test_ports(void)
{
	struct fixture f;

	setup(&f);
	add(&f, &f.a, 4);
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, UINT32_MAX); /* not enabled */
	port_put(&f, 0xcf8, 4, 0x80000000 | 4 << 11 | 8);
	g_assert_cmphex(port(&f, 0xcf8, 4), ==, 0x80000000 | 4 << 11 | 8);
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, ecam(&f, 4, 8, 4));
	for (uint16_t i = 0; i < 4; i++)
		g_assert_cmphex(port(&f, (uint16_t)(0xcfc + i), 1), ==, ecam(&f, 4, 8U + i, 1));
	g_assert_cmphex(port(&f, 0xcfe, 2), ==, ecam(&f, 4, 10, 2));
	port_put(&f, 0xcf8, 1, 0); /* only whole doublewords are the address */
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, ecam(&f, 4, 8, 4));
	port_put(&f, 0xcf8, 4, 0x80000000 | 4 << 11 | PCI_INTERRUPT_LINE);
	port_put(&f, 0xcfc, 1, 0x77);
	g_assert_cmphex(ecam(&f, 4, PCI_INTERRUPT_LINE, 1), ==, 0x77);
	port_put(&f, 0xcf8, 4, 0x80000000 | 4 << 11 | 1 << 8); /* function 1 */
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, UINT32_MAX);
	port_put(&f, 0xcf8, 4, 0x80000000 | 1 << 16 | 4 << 11); /* bus 1 */
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, UINT32_MAX);
	port_put(&f, 0xcf8, 4, 0x80000000);
	g_assert_cmphex(port(&f, 0xcfc, 4), ==, 0x0d578086); /* the bridge */
	pci_segment_reset(&f.seg);
	g_assert_cmphex(port(&f, 0xcf8, 4), ==, 0);
	g_assert_cmphex(ecam(&f, 7, 0, 4), ==, UINT32_MAX); /* nobody */
	g_assert_cmphex(ecam(&f, 4, 1, 8), ==, ecam(&f, 4, 1, 4) | ecam(&f, 4, 5, 4) << 32);
	teardown(&f);
}

static uint64_t bar0(struct fixture *f, uint32_t slot)
{
	return ecam(f, slot, PCI_BASE_ADDRESS_0, 8) & ~0xfUL;
}

static void test_bar_sizing(void)
{
	struct fixture f;

	setup(&f);
	pci_add_bar(&f.a.pci, 0, 0x10000, 0, true, &f.a.regions[0]);
	pci_add_bar(&f.a.pci, 2, 0x2000, 0x8000, false, &f.a.regions[1]);
	add(&f, &f.a, 1);
	/* Its own BARs do not overlap either. */
	g_assert_cmphex(ecam(&f, 1, PCI_BASE_ADDRESS_0, 8), ==, LOW | 4);
	g_assert_cmphex(ecam(&f, 1, PCI_BASE_ADDRESS_2, 4), ==, LOW + 0x10000);
	g_assert_cmpuint(f.a.mapped, ==, 2);
	/* sizing with decoding off, as drivers do: nothing moves */
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 8, UINT64_MAX);
	g_assert_cmphex(ecam(&f, 1, PCI_BASE_ADDRESS_0, 8), ==, 0xffffffffffff0004);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_2, 4, UINT32_MAX);
	g_assert_cmphex(ecam(&f, 1, PCI_BASE_ADDRESS_2, 4), ==, 0xffffe000);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, LOW);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 8, HIGH);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_2, 4, LOW + 0x10000);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, HIGH); /* moved when decoding came on */
	teardown(&f);
}

static void test_bar_move(void)
{
	uint8_t raw[1];
	struct fixture f;

	setup(&f);
	pci_add_bar(&f.a.pci, 0, 0x10000, 0, true, &f.a.regions[0]);
	pci_add_bar(&f.b.pci, 0, 0x10000, 0, true, &f.b.regions[0]);
	add(&f, &f.a, 1);
	add(&f, &f.b, 2);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(bar0(&f, 2), ==, LOW + 0x10000);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, LOW + 0x80000);
	g_assert_cmphex(bar0(&f, 1), ==, LOW + 0x80000);
	g_assert_cmpuint(f.a.unmapped, ==, 1);
	g_assert_cmpuint(f.a.mapped, ==, 2);
	bus_read(&f.mmio, LOW + 0x80003, raw, 1);
	g_assert_cmphex(raw[0], ==, 0xa3);
	bus_read(&f.mmio, LOW, raw, 1);
	g_assert_cmphex(raw[0], ==, 0xff);
	/* refused moves: the register says where the BAR still is */
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, LOW + 0x10000); /* b is there */
	g_assert_cmphex(bar0(&f, 1), ==, LOW + 0x80000);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, 0); /* outside the windows: RAM */
	g_assert_cmphex(bar0(&f, 1), ==, LOW + 0x80000);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, LOW + WINDOW);
	g_assert_cmphex(bar0(&f, 1), ==, LOW + 0x80000);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, LOW + 0x80000);
	g_assert_cmpuint(f.a.mapped - f.a.unmapped, ==, 1); /* doorbells are back every time */
	/* reset restores registers, addresses, decoding */
	ecam_put(&f, 1, PCI_INTERRUPT_LINE, 1, 9);
	pci_segment_reset(&f.seg);
	g_assert_cmpuint(f.a.resets, ==, 1);
	g_assert_cmphex(bar0(&f, 1), ==, LOW);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, LOW);
	g_assert_cmphex(ecam(&f, 1, PCI_COMMAND, 2), ==, 0);
	g_assert_cmphex(ecam(&f, 1, PCI_INTERRUPT_LINE, 1), ==, 0);
	g_assert_false(pci_is_decoding(&f.a.pci));
	teardown(&f);
}

/* Two BARs that changed places: the first one's home is taken until the second has left it. */
static void test_reset_after_swap(void)
{
	const uint64_t home_a = LOW, home_b = LOW + 0x10000, elsewhere = LOW + 0x80000;
	struct fixture f;
	uint8_t raw[1];

	setup(&f);
	pci_add_bar(&f.a.pci, 0, 0x10000, 0, true, &f.a.regions[0]);
	pci_add_bar(&f.b.pci, 0, 0x10000, 0, true, &f.b.regions[0]);
	add(&f, &f.a, 1);
	add(&f, &f.b, 2);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ecam_put(&f, 2, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, elsewhere);
	ecam_put(&f, 2, PCI_BASE_ADDRESS_0, 4, home_a);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, home_b);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, home_b);
	g_assert_cmphex(f.b.pci.bars[0].addr, ==, home_a);
	pci_segment_reset(&f.seg);
	g_assert_cmphex(f.a.pci.bars[0].addr, ==, home_a);
	g_assert_cmphex(f.b.pci.bars[0].addr, ==, home_b);
	g_assert_cmphex(f.a.regions[0].base, ==, home_a);
	g_assert_cmphex(f.b.regions[0].base, ==, home_b);
	g_assert_cmphex(bar0(&f, 1), ==, home_a);
	g_assert_cmphex(bar0(&f, 2), ==, home_b);
	g_assert_cmpuint(f.a.mapped - f.a.unmapped, ==, 1);
	g_assert_cmpuint(f.b.mapped - f.b.unmapped, ==, 1);
	bus_read(&f.mmio, home_b + 5, raw, 1);
	g_assert_cmphex(raw[0], ==, 0xa5);
	/* and a second reset moves nothing */
	pci_segment_reset(&f.seg);
	g_assert_cmpuint(f.a.unmapped, ==, 3);
	teardown(&f);
}

/* Registers written while decoding is off: the BARs change places when it comes on. */
static void test_swap_own_bars(void)
{
	const uint64_t first = LOW, second = LOW + 0x10000, taken = LOW + 0x20000;
	struct fixture f;

	setup(&f);
	pci_add_bar(&f.a.pci, 0, 0x10000, 0, true, &f.a.regions[0]);
	pci_add_bar(&f.a.pci, 2, 0x10000, 0, false, &f.a.regions[1]);
	pci_add_bar(&f.b.pci, 0, 0x10000, 0, true, &f.b.regions[0]);
	add(&f, &f.a, 1);
	add(&f, &f.b, 2);
	g_assert_cmphex(f.b.pci.bars[0].addr, ==, taken);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, second);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_2, 4, first);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(f.a.regions[0].base, ==, second);
	g_assert_cmphex(f.a.regions[1].base, ==, first);
	/* One of them finds its place taken: both stay, and the registers say so. */
	ecam_put(&f, 1, PCI_COMMAND, 2, 0);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, first);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_2, 4, taken);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(f.a.regions[0].base, ==, second);
	g_assert_cmphex(f.a.regions[1].base, ==, first);
	g_assert_cmphex(bar0(&f, 1), ==, second);
	g_assert_cmphex(ecam(&f, 1, PCI_BASE_ADDRESS_2, 4), ==, first);
	g_assert_cmpuint(f.a.mapped - f.a.unmapped, ==, 2);
	/* One is outside the windows: that is no reason for the other one to stay. */
	ecam_put(&f, 1, PCI_COMMAND, 2, 0);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_0, 4, 0xffff0000);
	ecam_put(&f, 1, PCI_BASE_ADDRESS_2, 4, LOW + 0x40000);
	ecam_put(&f, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(bar0(&f, 1), ==, second);
	g_assert_cmphex(f.a.regions[1].base, ==, LOW + 0x40000);
	teardown(&f);
}

static void test_slots(void)
{
	struct err err = { 0 };
	struct fixture f;
	char bdf[16];

	setup(&f);
	add(&f, &f.a, 7);
	pci_format_bdf(&f.a.pci, bdf);
	g_assert_cmpstr(bdf, ==, "0000:00:07.0");
	g_assert_cmpint(pci_segment_add(&f.seg, &f.b.pci, 7, &err), ==, -EBUSY);
	g_assert_cmpstr(err.msg, ==, "device 'b': PCI slot 7 is taken by 'a'");
	err = (struct err){ 0 };
	g_assert_cmpint(pci_segment_add(&f.seg, &f.b.pci, 32, &err), ==, -EINVAL);
	g_assert_cmpstr(err.msg, ==, "device 'b': PCI slot 32 must be 0 to 31");
	add(&f, &f.b, -1);
	g_assert_cmpuint(f.b.pci.slot, ==, 1);
	teardown(&f);
}

static void test_no_room(void)
{
	struct err err = { 0 };
	struct fixture f;

	setup(&f);
	pci_add_bar(&f.a.pci, 0, WINDOW, 0, true, &f.a.regions[0]);
	add(&f, &f.a, 1);
	pci_add_bar(&f.b.pci, 0, 0x1000, 0, true, &f.b.regions[0]);
	pci_add_bar(&f.b.pci, 2, 0x1000, 0, false, &f.b.regions[1]);
	g_assert_cmpint(pci_segment_add(&f.seg, &f.b.pci, -1, &err), ==, -ENOSPC);
	g_assert_cmpstr(err.msg, ==, "device 'b': no room for BAR 2 of 4096 bytes");
	g_assert_null(f.b.pci.segment);
	g_assert_cmpuint(f.b.mapped, ==, 1); /* BAR 0 went above 4 GiB, and back */
	g_assert_cmpuint(f.b.unmapped, ==, 1);
	g_assert_cmpuint(f.mmio.n_devices, ==, 2);
	teardown(&f);
}

/* A segment beside the first: no bridge, no ports, slot 0 for anybody. */
static void test_other_segment(void)
{
	struct pci_segment other;
	struct err err = { 0 };
	struct fixture f;
	uint8_t raw[4];
	char bdf[16];

	setup(&f);
	g_assert_cmpint(pci_segment_init(&other, 1, &f.mmio, &f.pio, &f.box, ECAM + PCI_ECAM_BYTES,
					 (struct pci_window){ LOW + WINDOW, WINDOW },
					 (struct pci_window){ 0, 0 }, &err),
			==, 0);
	pci_add_bar(&f.a.pci, 0, 0x1000, 0, true, &f.a.regions[0]);
	g_assert_cmpint(pci_segment_add(&other, &f.a.pci, -1, &err), ==, 0);
	g_assert_cmpuint(f.a.pci.slot, ==, 0);
	g_assert_cmphex(f.a.regions[0].base, ==, LOW + WINDOW);
	pci_format_bdf(&f.a.pci, bdf);
	g_assert_cmpstr(bdf, ==, "0001:00:00.0");
	bus_read(&f.mmio, ECAM + PCI_ECAM_BYTES, raw, 4);
	g_assert_cmphex(bytes_get_le(raw, 4), ==, 0x10551af4);
	/* the first one has its bridge there, and knows nothing of the other */
	g_assert_cmphex(ecam(&f, 0, 0, 4), ==, 0x0d578086);
	pci_segment_remove(&other, &f.a.pci);
	pci_segment_deinit(&other);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/pci/config/header", test_header);
	g_test_add_func("/pci/config/capabilities", test_capabilities);
	g_test_add_func("/pci/segment/ports", test_ports);
	g_test_add_func("/pci/bar/sizing", test_bar_sizing);
	g_test_add_func("/pci/bar/move", test_bar_move);
	g_test_add_func("/pci/bar/reset-after-swap", test_reset_after_swap);
	g_test_add_func("/pci/bar/swap-own-bars", test_swap_own_bars);
	g_test_add_func("/pci/segment/slots", test_slots);
	g_test_add_func("/pci/segment/no-room", test_no_room);
	g_test_add_func("/pci/segment/other", test_other_segment);
	return g_test_run();
}
