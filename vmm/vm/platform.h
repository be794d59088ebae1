/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: everything that is not a PCI device
 *
 * IOAPIC, serial port, debug ports, CMOS clock, what is left of the keyboard
 * controller, ACPI's event device, sleep and timer ports - and the tables that
 * describe them.  Which devices there are and where is in platform.c, in one
 * table.  Control thread.
 */
#pragma once

#include "vmm/acpi/cpu-hotplug.h"
#include "vmm/acpi/ged.h"
#include "vmm/acpi/memory-hotplug.h"
#include "vmm/acpi/pci-hotplug.h"
#include "vmm/acpi/pm.h"
#include "vmm/acpi/vmgenid.h"
#include "vmm/devices/chardev.h"
#include "vmm/devices/debug-port.h"
#include "vmm/devices/fw-cfg.h"
#include "vmm/devices/i8042.h"
#include "vmm/devices/ioapic.h"
#include "vmm/devices/rtc.h"
#include "vmm/devices/serial.h"
#include "vmm/devices/watchdog.h"

struct err;
struct guest_mem;
struct irq_table;
struct resources;
struct vm_config;
struct acpi_topology;
struct x86_windows;

#define PLATFORM_CONSOLES_MAX 3

struct platform_params {
	struct bus *pio, *mmio;
	struct guest_mem *mem;
	struct irq_table *irqs;
	struct loop *loop; /* for console clients */
	const struct vm_config *config;
	struct resources *resources; /* devices take theirs */
	const struct x86_windows *windows;
	machine_request_fn request;     /* vCPU threads */
	void (*debug_code)(void *data); /* vCPU threads: debug_port_take() has something */
	void (*watchdog)(void *data);   /* shared or control thread: so has watchdog_take() */
	const struct pci_hotplug_ops *pci_hotplug;
	const struct cpu_hotplug_ops *cpu_hotplug;
	const struct memory_hotplug_ops *memory_hotplug;
	void *data;
};

struct platform {
	const struct vm_config *config;
	const struct x86_windows *windows;
	struct bus *pio, *mmio;
	struct ioapic ioapic;
	struct chardev serial_chardev, console_chardev, debug_chardev;
	struct serial serial;
	struct debug_port debug_port;
	struct debug_console debug_console;
	struct rtc rtc;
	struct i8042 i8042;
	struct ged ged;
	struct pci_hotplug pci_hotplug;
	struct cpu_hotplug cpu_hotplug;       /* present if there can be more than one */
	struct memory_hotplug memory_hotplug; /* present if there is room for more */
	struct pm pm;
	struct vmgenid vmgenid;
	struct watchdog watchdog; /* if configured */
	struct fw_cfg fw_cfg;     /* if configured */
};

int platform_init(struct platform *p, const struct platform_params *params, struct err *err);
void platform_deinit(struct platform *p);
/* Power-on state; vCPUs parked. */
void platform_reset(struct platform *p);
/* The machine's own clocks stop with it; vCPUs parked. */
void platform_pause(struct platform *p);
void platform_resume(struct platform *p);
/* cpus_present: of each of max_vcpus */
int platform_build_acpi(struct platform *p, struct guest_mem *mem, const bool *cpus_present,
			const struct acpi_topology *topology, uint64_t *ret_rsdp_gpa,
			struct err *err);
void platform_power_button(struct platform *p);

/* name "" = the first one there is. */
int platform_open_console(struct platform *p, const char *name, bool force, bool readonly,
			  int *ret_fd, struct err *err);
/* NULL-terminated; the first is the default. */
void platform_list_consoles(const struct platform *p,
			    const char *ret[static PLATFORM_CONSOLES_MAX + 1]);
