/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport as a driver sees it, on the recording hypervisor
 *
 * The device behind it is a toy of two queues on the shared thread; the test's
 * main thread is vCPU and control thread at once.
 */
#include "vmm/virtio/transport-pci.h"

#include <errno.h>
#include <glib.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <poll.h>
#include <string.h>

#include "tests/lib/fake-hypervisor.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/mailbox.h"
#include "vmm/memory/guest-memory.h"
#include "vmm/pci/segment.h"

#define ECAM    0xe8000000UL
#define WINDOW  0xc0000000UL
#define OFFERED (VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) | 1)

#define ACK VIRTIO_STATUS_ACKNOWLEDGE
#define DRV VIRTIO_STATUS_DRIVER
#define FOK VIRTIO_STATUS_FEATURES_OK
#define DOK VIRTIO_STATUS_DRIVER_OK

struct toy {
	struct virtio_device dev;
	bool refuse;
	unsigned int activations, resets, config_writes;
	int kicked_fd;
};

struct fixture {
	struct fake_hv *hv;
	struct guest_mem mem;
	struct loop loop;
	struct mailbox box;
	struct bus mmio, pio;
	struct irq_table irqs;
	struct pci_segment seg;
	struct toy toy;
	struct virtio_pci *vp;
	unsigned int told_active, told_inactive;
};

static struct toy *to_toy(struct virtio_device *dev)
{
	return container_of(dev, struct toy, dev);
}

static int toy_activate(struct virtio_device *dev, struct err *err)
{
	if (to_toy(dev)->refuse)
		return err_set(err, EIO, "the toy is out of order");
	to_toy(dev)->activations++;
	return 0;
}

static void toy_kick(struct virtio_device *dev, struct virtio_queue *q G_GNUC_UNUSED)
{
	eventfd_signal(to_toy(dev)->kicked_fd);
}

static void toy_config_write(struct virtio_device *dev, uint32_t off, const void *buf, uint32_t len)
{
	to_toy(dev)->config_writes++;
	memcpy(dev->config + off, buf, len);
}

static void toy_reset(struct virtio_device *dev)
{
	to_toy(dev)->resets++;
}

static void toy_free(struct virtio_device *dev)
{
	virtio_device_deinit(dev);
}

static const struct virtio_device_ops toy_ops = {
	.name = "toy",
	.device_id = 42,
	.pci_class = 0xff,
	.activate = toy_activate,
	.kick = toy_kick,
	.config_write = toy_config_write,
	.reset = toy_reset,
	.free = toy_free,
};

static void on_activated(struct virtio_pci *vp G_GNUC_UNUSED, bool active, void *data)
{
	struct fixture *f = data;

	if (active)
		f->told_active++;
	else
		f->told_inactive++;
}

static void check(int r, const struct err *err)
{
	if (r < 0)
		g_error("%s", err->msg);
}

static void setup(struct fixture *f)
{
	const struct guest_mem_params params = { .size = 1 << 20,
						 .hole_start = 3UL << 30,
						 .hole_end = 4UL << 30 };
	const uint16_t sizes[] = { 16, 8 };
	struct err err = { 0 };

	*f = (struct fixture){ .hv = fake_hv_new() };
	check(guest_mem_init(&f->mem, NULL, &params, &err), &err);
	check(loop_start(&f->loop, "shared", NULL, &err), &err);
	check(mailbox_init(&f->box, &err), &err);
	bus_init(&f->mmio, 0);
	bus_init(&f->pio, 65536);
	check(irq_table_init(&f->irqs, fake_hv_vm(f->hv), 24, &err), &err);
	check(pci_segment_init(&f->seg, 0, &f->mmio, &f->pio, &f->box, ECAM,
			       (struct pci_window){ WINDOW, 64 << 20 },
			       (struct pci_window){ 1UL << 36, 64 << 20 }, &err),
	      &err);
	f->toy.kicked_fd = eventfd_new();
	f->toy.dev.features_offered = OFFERED;
	check(virtio_device_init(&f->toy.dev, &toy_ops, "toy0", sizes, 2, &err), &err);
	f->toy.dev.mem = &f->mem;
	f->toy.dev.shared_loop = &f->loop;
	f->toy.dev.config_size = 12;
	memcpy(f->toy.dev.config, "configspace", 12);
	check(virtio_pci_new(&f->toy.dev, fake_hv_vm(f->hv), &f->irqs, &f->box, &f->vp, &err),
	      &err);
	f->vp->activated = on_activated;
	f->vp->activated_data = f;
	check(pci_segment_add(&f->seg, &f->vp->pci, 5, &err), &err);
	pci_config_write(&f->vp->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void teardown(struct fixture *f)
{
	pci_segment_remove(&f->seg, &f->vp->pci);
	virtio_pci_free(f->vp);
	g_assert_cmpstr(fake_hv_violation(f->hv), ==, NULL);
	g_assert_cmpuint(fake_hv_n_attached(f->hv), ==, 0);
	g_assert_cmpuint(fake_hv_n_routes(f->hv), ==, 0);
	pci_segment_deinit(&f->seg);
	irq_table_deinit(&f->irqs);
	bus_deinit(&f->mmio);
	bus_deinit(&f->pio);
	mailbox_deinit(&f->box);
	loop_stop(&f->loop);
	guest_mem_deinit(&f->mem);
	close(f->toy.kicked_fd);
	fake_hv_free(f->hv);
}

static uint64_t rd(struct fixture *f, uint64_t off, uint32_t len)
{
	uint8_t raw[8] = { 0 };

	bus_read(&f->mmio, f->vp->pci.bars[0].addr + off, raw, len);
	return bytes_get_le(raw, len);
}

static void wr(struct fixture *f, uint64_t off, uint32_t len, uint64_t value)
{
	uint8_t raw[8];

	bytes_put_le(raw, len, value);
	bus_write(&f->mmio, f->vp->pci.bars[0].addr + off, raw, len);
}

static void set_status(struct fixture *f, uint8_t status)
{
	wr(f, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static uint8_t status(struct fixture *f)
{
	return (uint8_t)rd(f, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void accept_features(struct fixture *f, uint64_t features)
{
	for (uint32_t half = 0; half < 2; half++) {
		wr(f, VIRTIO_PCI_COMMON_GFSELECT, 4, half);
		wr(f, VIRTIO_PCI_COMMON_GF, 4, features >> (32 * half) & UINT32_MAX);
	}
}

static void enable_queue(struct fixture *f, uint16_t q)
{
	wr(f, VIRTIO_PCI_COMMON_Q_SELECT, 2, q);
	wr(f, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	wr(f, VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x1000 + 0x3000UL * q);
	wr(f, VIRTIO_PCI_COMMON_Q_AVAILLO, 8, 0x2000 + 0x3000UL * q);
	wr(f, VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x3000 + 0x3000UL * q);
	wr(f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void drive(struct fixture *f)
{
	set_status(f, 0);
	set_status(f, ACK);
	set_status(f, ACK | DRV);
	accept_features(f, OFFERED);
	set_status(f, ACK | DRV | FOK);
	g_assert_cmphex(status(f), ==, ACK | DRV | FOK);
	enable_queue(f, 0);
	enable_queue(f, 1);
	set_status(f, ACK | DRV | FOK | DOK);
}

static bool was_kicked(struct fixture *f)
{
	struct pollfd p = { .fd = f->toy.kicked_fd, .events = POLLIN };

	return poll(&p, 1, 10000) == 1 && eventfd_take(f->toy.kicked_fd);
}

static void test_features(void)
{
	static const struct {
		const char *name;
		uint64_t features;
		bool ok;
	} cases[] = {
		{ "none", 0, false },
		{ "without VERSION_1", 1, false },
		{ "one that was not offered", OFFERED | 2, false },
		{ "all", OFFERED, true },
		{ "some", VIRTIO_FEATURE(VIRTIO_F_VERSION_1), true },
		{ "reserved high bit", VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | 1ULL << 63, false },
	};
	struct fixture f;

	setup(&f);
	for (uint32_t half = 0; half < 3; half++) {
		wr(&f, VIRTIO_PCI_COMMON_DFSELECT, 4, half);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_DF, 4), ==,
				half < 2 ? OFFERED >> (32 * half) & UINT32_MAX : 0);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_test_message("%s", cases[i].name);
		set_status(&f, 0);
		set_status(&f, ACK | DRV);
		accept_features(&f, cases[i].features);
		set_status(&f, ACK | DRV | FOK);
		g_assert_cmphex(status(&f), ==, ACK | DRV | (cases[i].ok ? FOK : 0));
		/* 3.1.1: locked once accepted, open to another try otherwise */
		accept_features(&f, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
		set_status(&f, ACK | DRV | FOK);
		g_assert_cmphex(status(&f), ==, ACK | DRV | FOK);
		g_assert_cmphex(f.toy.dev.features, ==,
				cases[i].ok ? cases[i].features
					    : VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	}
	wr(&f, VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
	wr(&f, VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_GF, 4), ==, 0);
	teardown(&f);
}

static void test_status(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmphex(status(&f), ==, 0);
	set_status(&f, ACK | DRV);
	set_status(&f, ACK); /* 2.1.1: no bit is cleared but by a reset */
	g_assert_cmphex(status(&f), ==, ACK | DRV);
	set_status(&f, ACK | DRV | DOK); /* 3.1.1: not without FEATURES_OK */
	g_assert_cmphex(status(&f), ==, ACK | DRV);
	g_assert_cmpuint(f.toy.activations, ==, 0);
	set_status(&f, ACK | DRV | VIRTIO_STATUS_NEEDS_RESET); /* the device's own bit */
	g_assert_cmphex(status(&f), ==, ACK | DRV);
	wr(&f, VIRTIO_PCI_COMMON_STATUS, 2, 0); /* 4.1.3.1: not its width */
	g_assert_cmphex(status(&f), ==, ACK | DRV);
	set_status(&f, ACK | DRV | VIRTIO_STATUS_FAILED);
	g_assert_cmphex(status(&f), ==, ACK | DRV | VIRTIO_STATUS_FAILED);
	set_status(&f, 0);
	g_assert_cmphex(status(&f), ==, 0);
	g_assert_cmpuint(f.told_inactive, ==, 0); /* it never was active */

	drive(&f);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK);
	g_assert_cmpuint(f.toy.activations, ==, 1);
	set_status(&f, ACK | DRV | FOK | DOK); /* again changes nothing */
	g_assert_cmpuint(f.toy.activations, ==, 1);
	g_assert_cmpuint(f.told_active, ==, 1);
	teardown(&f);
}

/* The device is gone, and its driver finds the registers, doorbells and vectors as they were. */
static void test_husk(void)
{
	struct virtio_device_ops ops = toy_ops;
	struct err err = { 0 };
	struct fixture f;
	unsigned int attached;

	ops.device_id = VIRTIO_ID_VSOCK;
	setup(&f);
	f.toy.dev.ops = &ops;
	drive(&f);
	wr(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	wr(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	attached = fake_hv_n_attached(f.hv);
	check(virtio_pci_make_husk(f.vp, &err), &err);
	g_assert_null(f.toy.dev.queues); /* freed */
	g_assert_cmpuint(f.toy.resets, ==, 1);
	g_assert_cmpuint(fake_hv_n_attached(f.hv), ==, attached);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, 2);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 4), ==, 0x4000);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_DEVICE, 4), ==, 0x666e6f63); /* "conf" */
	g_assert_true(f.vp->dev->active);
	wr(&f, VIRTIO_PCI_NOTIFY + 4, 2, 1);
	set_status(&f, 0);
	g_assert_cmphex(status(&f), ==, 0);
	g_assert_false(f.vp->dev->active);
	/* A second activation is the husk's as well; the daemon is told of neither. */
	drive(&f);
	g_assert_true(f.vp->dev->active);
	g_assert_cmpuint(f.toy.activations, ==, 1);
	g_assert_cmpuint(f.told_active, ==, 1);
	g_assert_cmpuint(f.told_inactive, ==, 0);
	teardown(&f);

	/* One that was broken stays so. */
	setup(&f);
	f.toy.dev.ops = &ops;
	drive(&f);
	virtio_device_broken(&f.toy.dev, "a test");
	check(virtio_pci_make_husk(f.vp, &err), &err);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK | VIRTIO_STATUS_NEEDS_RESET);
	g_assert_false(f.vp->dev->active);
	set_status(&f, 0);
	g_assert_cmphex(status(&f), ==, 0);
	teardown(&f);
}

/* Wherever a driver gave up, writing 0 takes everything back. */
static void test_reset_in_each_status(void)
{
	static const uint8_t states[] = {
		0,
		ACK,
		ACK | DRV,
		ACK | DRV | VIRTIO_STATUS_FAILED,
		ACK | DRV | FOK,
		ACK | DRV | FOK | VIRTIO_STATUS_FAILED,
		ACK | DRV | FOK | DOK,
		ACK | DRV | FOK | DOK | VIRTIO_STATUS_FAILED,
	};
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
		bool broken = i % 2;

		g_test_message("status 0x%02x", states[i]);
		accept_features(&f, OFFERED);
		wr(&f, VIRTIO_PCI_COMMON_MSIX, 2, 1);
		enable_queue(&f, 0);
		wr(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
		set_status(&f, states[i]);
		if (broken)
			virtio_device_broken(&f.toy.dev, "a test");
		g_assert_cmphex(status(&f), ==,
				states[i] | (broken ? VIRTIO_STATUS_NEEDS_RESET : 0));
		set_status(&f, 0);
		g_assert_cmphex(status(&f), ==, 0);
		g_assert_false(f.toy.dev.active);
		g_assert_cmphex(f.toy.dev.features, ==, 0);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_GFSELECT, 4), ==, 0);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_GF, 4), ==, 0);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_MSIX, 2), ==, VIRTIO_NO_VECTOR);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, VIRTIO_NO_VECTOR);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
		g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==, 0);
	}
	drive(&f);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK);
	teardown(&f);
}

static void test_queue_registers(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_NUMQ, 2), ==, 2);
	wr(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 8);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_NOFF, 2), ==, 1);
	for (uint16_t bad = 0; bad < 64; bad = bad == 0 ? 3 : bad == 3 ? 16 : 64) {
		wr(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2, bad);
		g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 8);
	}
	wr(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
	/* halves, in either order, and both at once */
	wr(&f, VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x11);
	wr(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x22000000);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==, 0x1122000000);
	wr(&f, VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x3344000000);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_USEDHI, 4), ==, 0x33);
	wr(&f, VIRTIO_PCI_COMMON_Q_AVAILLO, 2, 0xffff); /* not a width of the field */
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_AVAILLO, 8), ==, 0);
	wr(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	wr(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	/* 4.1.4.3.2: locked from now on */
	wr(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	wr(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	wr(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 1);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 4);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==, 0x1122000000);
	/* a queue that does not exist */
	wr(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	wr(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	wr(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 0);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	/* a reset opens them again */
	set_status(&f, 0);
	wr(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2), ==, 0);
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_Q_SIZE, 2), ==, 8);
	teardown(&f);
}

static void test_vectors(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_MSIX, 2), ==, VIRTIO_NO_VECTOR);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, VIRTIO_NO_VECTOR);
	wr(&f, VIRTIO_PCI_COMMON_MSIX, 2, 2);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_MSIX, 2), ==, 2);
	wr(&f, VIRTIO_PCI_COMMON_MSIX, 2, 3); /* two queues and one for configuration */
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_MSIX, 2), ==, VIRTIO_NO_VECTOR);
	wr(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, 1);
	wr(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2, 0xfffe);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_MSIX, 2), ==, VIRTIO_NO_VECTOR);
	teardown(&f);
}

static void test_isr(void)
{
	struct fixture f;

	setup(&f);
	drive(&f);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_ISR_STATUS, 1), ==, 0);
	f.toy.dev.transport->queue_interrupt(f.vp, &f.toy.dev.queues[0]);
	virtio_device_config_changed(&f.toy.dev);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_ISR_STATUS, 1), ==, 3);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_ISR_STATUS, 1), ==, 0); /* 4.1.4.5.1: a read clears */
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_CFGGENERATION, 1), ==, 1);
	f.toy.dev.transport->queue_interrupt(f.vp, &f.toy.dev.queues[0]);
	set_status(&f, 0);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_ISR_STATUS, 1), ==, 0);
	teardown(&f);
}

static void test_device_config(void)
{
	struct fixture f;

	setup(&f);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_DEVICE, 4), ==, 0x666e6f63); /* "conf" */
	g_assert_cmphex(rd(&f, VIRTIO_PCI_DEVICE + 8, 8), ==, 0);      /* past the end */
	wr(&f, VIRTIO_PCI_DEVICE + 11, 1, 'X');
	wr(&f, VIRTIO_PCI_DEVICE + 11, 2, 0);
	wr(&f, VIRTIO_PCI_DEVICE + 12, 1, 0);
	g_assert_cmpuint(f.toy.config_writes, ==, 1);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_DEVICE + 11, 1), ==, 'X');
	teardown(&f);
}

static void test_decode_off(void)
{
	struct fixture f;

	setup(&f);
	set_status(&f, ACK);
	pci_config_write(&f.vp->pci, PCI_COMMAND, 2, 0);
	g_assert_cmphex(status(&f), ==, 0xff);
	set_status(&f, ACK | DRV);
	pci_config_write(&f.vp->pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	g_assert_cmphex(status(&f), ==, ACK);
	teardown(&f);
}

static void test_cfg_window(void)
{
	struct pci_device *pci;
	uint32_t cap, data;
	struct fixture f;

	setup(&f);
	pci = &f.vp->pci;
	cap = f.vp->cfg_cap;
	data = cap + 16;
	pci_config_write(pci, PCI_COMMAND, 2, 0); /* what it is for: the BAR is out of reach */
	pci_config_write(pci, cap + 4, 4, 2);     /* bar, id: read-only */
	g_assert_cmphex(pci_config_read(pci, cap + 4, 1), ==, 0);
	pci_config_write(pci, cap + 8, 4, VIRTIO_PCI_COMMON_STATUS);
	pci_config_write(pci, cap + 12, 4, 1);
	pci_config_write(pci, data, 1, ACK | DRV);
	g_assert_cmphex(pci_config_read(pci, data, 1), ==, ACK | DRV);
	pci_config_write(pci, cap + 8, 4, VIRTIO_PCI_COMMON_NUMQ);
	pci_config_write(pci, cap + 12, 4, 2);
	g_assert_cmphex(pci_config_read(pci, data, 2), ==, 2);
	g_assert_cmphex(pci_config_read(pci, data, 4), ==, 0); /* not the width it was set to */
	static const struct {
		uint32_t off, len;
	} bad[] = { { 1, 4 },
		    { 0, 3 },
		    { 0, 0 },
		    { 0, 8 },
		    { VIRTIO_PCI_BAR_SIZE, 4 },
		    { UINT32_MAX, 1 },
		    { UINT32_MAX - 3, 4 } };
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		pci_config_write(pci, cap + 8, 4, bad[i].off);
		pci_config_write(pci, cap + 12, 4, bad[i].len);
		pci_config_write(pci, data, 4, UINT32_MAX);
		g_assert_cmphex(pci_config_read(pci, data, 4), ==, 0);
	}
	teardown(&f);
}

static void test_notify(void)
{
	struct fixture f;

	setup(&f);
	drive(&f);
	g_assert_true(was_kicked(&f)); /* activation looks once */
	while (eventfd_take(f.toy.kicked_fd))
		;
	wr(&f, VIRTIO_PCI_NOTIFY + VIRTIO_PCI_NOTIFY_MULTIPLIER, 2, 1);
	g_assert_true(was_kicked(&f));
	wr(&f, VIRTIO_PCI_NOTIFY + 2 * VIRTIO_PCI_NOTIFY_MULTIPLIER, 2, 2); /* no such queue */
	teardown(&f);
}

static void test_doorbells_follow_the_bar(void)
{
	struct fixture f;

	setup(&f);
	fake_hv_log_clear(f.hv);
	pci_config_write(&f.vp->pci, PCI_BASE_ADDRESS_0, 4, WINDOW + (32 << 20));
	g_assert_cmpstr(fake_hv_log(f.hv), ==,
			"ioeventfd detach mmio 0xc0006000 len=0\n"
			"ioeventfd detach mmio 0xc0006004 len=0\n"
			"ioeventfd attach mmio 0xc2006000 len=0\n"
			"ioeventfd attach mmio 0xc2006004 len=0\n");
	g_assert_cmpuint(rd(&f, VIRTIO_PCI_COMMON_NUMQ, 2), ==, 2);
	teardown(&f);
}

static void test_activation_fails(void)
{
	struct fixture f;

	setup(&f);
	f.toy.refuse = true;
	drive(&f);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK | VIRTIO_STATUS_NEEDS_RESET);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_ISR_STATUS, 1), ==, 2);
	g_assert_false(f.toy.dev.active);
	g_assert_null(f.toy.dev.queues[0].desc);
	f.toy.refuse = false;
	drive(&f);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK);
	g_assert_true(f.toy.dev.active);

	/* The rings are not where RAM is. */
	set_status(&f, 0);
	set_status(&f, ACK | DRV);
	accept_features(&f, OFFERED);
	set_status(&f, ACK | DRV | FOK);
	wr(&f, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	wr(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8, 1UL << 40);
	wr(&f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	set_status(&f, ACK | DRV | FOK | DOK);
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK | VIRTIO_STATUS_NEEDS_RESET);
	teardown(&f);
}

static void test_reset_while_active(void)
{
	struct fixture f;

	setup(&f);
	drive(&f);
	virtio_device_broken(&f.toy.dev, "a test");
	g_assert_cmphex(status(&f), ==, ACK | DRV | FOK | DOK | VIRTIO_STATUS_NEEDS_RESET);
	set_status(&f, 0);
	g_assert_cmphex(status(&f), ==, 0);
	g_assert_cmpuint(f.toy.resets, ==, 1);
	g_assert_cmpuint(f.told_inactive, ==, 1);
	g_assert_cmphex(rd(&f, VIRTIO_PCI_COMMON_Q_DESCLO, 8), ==, 0);
	drive(&f);
	g_assert_cmpuint(f.toy.activations, ==, 2);
	pci_device_reset(&f.vp->pci); /* the machine's */
	g_assert_false(f.toy.dev.active);
	g_assert_false(pci_is_decoding(&f.vp->pci));
	teardown(&f);
}

static void vcpu_sets_driver_ok(void *data)
{
	struct fixture *f = data;

	set_status(f, ACK | DRV | FOK | DOK);
}

/* Two vCPUs: one has asked for a reset, then the other's DRIVER_OK arrives. */
static void test_activation_overtaken_by_reset(void)
{
	struct thread t = { .name = "vcpu0", .role = THREAD_ROLE_VCPU, .run = vcpu_sets_driver_ok };
	struct pollfd p;
	struct fixture f;

	setup(&f);
	set_status(&f, ACK | DRV);
	accept_features(&f, OFFERED);
	set_status(&f, ACK | DRV | FOK);
	t.data = &f;
	g_assert_cmpint(thread_start(&t, NULL), ==, 0);
	p = (struct pollfd){ .fd = f.box.fd, .events = POLLIN };
	g_assert_cmpint(poll(&p, 1, 10000), ==, 1); /* it waits for its activation */
	set_status(&f, 0);
	mailbox_drain(&f.box);
	thread_join(&t);
	g_assert_cmphex(status(&f), ==, 0);
	g_assert_false(f.toy.dev.active);
	g_assert_cmpuint(f.toy.activations, ==, 0);
	drive(&f);
	g_assert_true(f.toy.dev.active);
	g_assert_nonnull(f.toy.dev.queues[0].loop);
	teardown(&f);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/virtio/transport-pci/features", test_features);
	g_test_add_func("/virtio/transport-pci/status", test_status);
	g_test_add_func("/virtio/transport-pci/husk", test_husk);
	g_test_add_func("/virtio/transport-pci/reset-in-each-status", test_reset_in_each_status);
	g_test_add_func("/virtio/transport-pci/queue-registers", test_queue_registers);
	g_test_add_func("/virtio/transport-pci/vectors", test_vectors);
	g_test_add_func("/virtio/transport-pci/isr", test_isr);
	g_test_add_func("/virtio/transport-pci/device-config", test_device_config);
	g_test_add_func("/virtio/transport-pci/decode-off", test_decode_off);
	g_test_add_func("/virtio/transport-pci/cfg-window", test_cfg_window);
	g_test_add_func("/virtio/transport-pci/notify", test_notify);
	g_test_add_func("/virtio/transport-pci/doorbells-follow-the-bar",
			test_doorbells_follow_the_bar);
	g_test_add_func("/virtio/transport-pci/activation-fails", test_activation_fails);
	g_test_add_func("/virtio/transport-pci/reset-while-active", test_reset_while_active);
	g_test_add_func("/virtio/transport-pci/activation-overtaken-by-reset",
			test_activation_overtaken_by_reset);
	return g_test_run();
}
