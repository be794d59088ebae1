/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the hotplug controllers' registers: {u8 op, u8 offset, u32 value} each, an access
 * of the guest to one of the three, or something that the machine does meanwhile
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "vmm/acpi/cpu-hotplug.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/memory-hotplug.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/base/bytes.h"
#include "vmm/base/math.h"
#include "vmm/bus/irq.h"

#define SEGMENTS 3U
#define CPUS     5U
#define STEP     6U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void set_line(struct irq_line *line, bool level)
{
	(void)line;
	(void)level;
}

static void on_pci_ejected(void *data, uint16_t segment, uint8_t slot)
{
	(void)data;
	assert(segment < SEGMENTS && slot < PCI_HOTPLUG_SLOTS);
}

static void on_pci_status(void *data, uint16_t segment, uint8_t slot, uint32_t event,
			  uint32_t status)
{
	(void)event;
	(void)status;
	on_pci_ejected(data, segment, slot);
}

static void on_cpu_ejected(void *data, uint32_t cpu)
{
	(void)data;
	assert(cpu < CPUS);
}

static void on_cpu_status(void *data, uint32_t cpu, uint32_t event, uint32_t status)
{
	(void)event;
	(void)status;
	on_cpu_ejected(data, cpu);
}

static void on_memory_status(void *data, uint32_t slot, uint32_t event, uint32_t status)
{
	(void)data;
	(void)event;
	(void)status;
	assert(slot < MEMORY_HOTPLUG_SLOTS);
}

static const struct pci_hotplug_ops pci_ops = { on_pci_ejected, on_pci_status };
static const struct cpu_hotplug_ops cpu_ops = { on_cpu_ejected, on_cpu_status };
static const struct memory_hotplug_ops memory_ops = { on_memory_status };

static struct pci_hotplug pci;
static struct cpu_hotplug cpus;
static struct memory_hotplug memory;

/* Any width at any offset that the bus would let through. */
static void access_register(struct bus_device *dev, uint64_t window, uint8_t op, const uint8_t *p)
{
	uint32_t len = 1U << (op >> 4 & 3);
	uint64_t off = p[0] % window;
	uint8_t buf[8] = { 0 };

	if (off + len > window)
		return;
	memcpy(buf, p + 1, 4);
	if (op & 0x40)
		dev->ops->write(dev, off, buf, len);
	else
		dev->ops->read(dev, off, buf, len);
}

static void act(uint8_t op, uint32_t value)
{
	uint16_t segment = (uint16_t)(value % SEGMENTS);
	uint8_t slot = (uint8_t)(value >> 8) % PCI_HOTPLUG_SLOTS;
	uint32_t cpu = value % CPUS, dimm = value % MEMORY_HOTPLUG_SLOTS;

	switch (op >> 4 & 7) {
	case 0:
		pci_hotplug_insert(&pci, segment, slot);
		break;
	case 1:
		pci_hotplug_ask(&pci, segment, slot);
		break;
	case 2:
		pci_hotplug_forget(&pci, segment, slot);
		break;
	case 3:
		cpu_hotplug_insert(&cpus, cpu);
		break;
	case 4:
		cpu_hotplug_ask(&cpus, cpu);
		break;
	case 5:
		memory_hotplug_insert(&memory, dimm, 4 * GIB + dimm * MEMORY_HOTPLUG_UNIT,
				      MEMORY_HOTPLUG_UNIT, 0);
		break;
	case 6:
		pci_hotplug_reset(&pci);
		cpu_hotplug_reset(&cpus);
		break;
	default:
		memory_hotplug_reset(&memory);
	}
}

/* What would be saved now could be loaded. */
static void check_states(void)
{
	assert(pci_hotplug_state_desc.validate(&pci.st, NULL) == 0);
	assert(cpu_hotplug_state_desc.validate(&cpus.st, NULL) == 0);
	assert(memory_hotplug_state_desc.validate(&memory.st, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct irq_line line = { .set = set_line };
	struct ged ged;

	ged_init(&ged, &line);
	pci_hotplug_init(&pci, &ged, SEGMENTS, &pci_ops, NULL);
	cpu_hotplug_init(&cpus, &ged, CPUS, &cpu_ops, NULL);
	memory_hotplug_init(&memory, &ged, &memory_ops, NULL);
	for (unsigned int i = 0; i < 256 && size >= STEP; i++, data += STEP, size -= STEP) {
		uint8_t op = data[0];

		if (op % 4 == 0)
			access_register(&pci.mmio, PCI_HOTPLUG_SIZE, op, data + 1);
		else if (op % 4 == 1)
			access_register(&cpus.mmio, CPU_HOTPLUG_SIZE, op, data + 1);
		else if (op % 4 == 2)
			access_register(&memory.mmio, MEMORY_HOTPLUG_SIZE, op, data + 1);
		else
			act(op, (uint32_t)bytes_get_le(data + 2, 4));
	}
	check_states();
	memory_hotplug_deinit(&memory);
	cpu_hotplug_deinit(&cpus);
	pci_hotplug_deinit(&pci);
	ged_deinit(&ged);
	return 0;
}
