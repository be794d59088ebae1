/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/pvpanic.h"

#include <string.h>

#define VENDOR    0x1b36
#define DEVICE    0x0011
#define SUBSYSTEM 0x1100
#define EVENTS    (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED)
#define BAR_SIZE  4096 /* the register is its first byte; BARs are whole pages here */

static void pvpanic_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct pvpanic *pvpanic = container_of(dev, struct pvpanic, region);

	if (!pci_is_decoding(&pvpanic->pci)) {
		memset(data, 0xff, len);
		return;
	}
	memset(data, 0, len);
	if (off == 0)
		*(uint8_t *)data = EVENTS;
}

static void pvpanic_write(struct bus_device *dev, uint64_t off, const void *data,
			  uint32_t len _unused_)
{
	struct pvpanic *pvpanic = container_of(dev, struct pvpanic, region);
	uint8_t events = *(const uint8_t *)data & EVENTS;

	if (off != 0 || !events || !pci_is_decoding(&pvpanic->pci))
		return;
	/* relaxed: the mailbox's lock orders it before the take it causes */
	atomic_fetch_or_explicit(&pvpanic->events, events, memory_order_relaxed);
	pvpanic->notify(pvpanic->data);
}

static const struct bus_ops region_ops = {
	.name = "pvpanic",
	.read = pvpanic_read,
	.write = pvpanic_write,
};

static const struct pci_device_ops pci_ops = { 0 };

void pvpanic_init(struct pvpanic *pvpanic, const char *id, void (*notify)(void *data), void *data)
{
	const struct pci_header header = {
		.vendor = VENDOR,
		.device = DEVICE,
		.subsystem_vendor = 0x1af4,
		.subsystem = SUBSYSTEM,
		.class = 0x08, /* system peripheral, other */
		.subclass = 0x80,
		.revision = 1,
	};

	*pvpanic = (struct pvpanic){ .region.ops = &region_ops, .notify = notify, .data = data };
	pci_device_init(&pvpanic->pci, &pci_ops, id, &header);
	pci_add_bar(&pvpanic->pci, 0, BAR_SIZE, BAR_SIZE, false, &pvpanic->region);
}

void pvpanic_deinit(struct pvpanic *pvpanic)
{
	pci_device_deinit(&pvpanic->pci);
}

uint8_t pvpanic_take(struct pvpanic *pvpanic)
{
	return atomic_exchange_explicit(&pvpanic->events, 0, memory_order_relaxed);
}
