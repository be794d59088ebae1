/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/platform.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "vmm/acpi/tables.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/memory-map.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"
#include "vmm/base/math.h"
#include "vmm/config/vm-config.h"
#include "vmm/vm/resources.h"

/* Where everything is. */
struct place {
	struct bus_device *device;
	bool mmio;
	uint64_t base, len;
	bool present;
};

#define PLACES 14

static void list_places(struct platform *p, struct place ret[static PLACES])
{
	const struct vm_config *c = p->config;
	bool serial = c->serial.mode != CONSOLE_MODE_OFF;
	bool debug = c->debug_console.mode != CONSOLE_MODE_OFF;
	uint16_t debug_port =
		c->debug_console.iobase ? c->debug_console.iobase : PORT_DEBUG_CONSOLE;
	const struct place places[PLACES] = {
		{ &p->ioapic.region, true, LAYOUT_IOAPIC, LAYOUT_IOAPIC_SIZE, true },
		{ &p->ged.mmio, true, p->windows->platform_start + LAYOUT_PLATFORM_GED, 1, true },
		{ &p->pci_hotplug.mmio, true,
		  p->windows->platform_start + LAYOUT_PLATFORM_PCI_HOTPLUG, PCI_HOTPLUG_SIZE,
		  true },
		{ &p->cpu_hotplug.mmio, true,
		  p->windows->platform_start + LAYOUT_PLATFORM_CPU_HOTPLUG, CPU_HOTPLUG_SIZE,
		  c->cpus.max_vcpus > 1 },
		{ &p->memory_hotplug.mmio, true,
		  p->windows->platform_start + LAYOUT_PLATFORM_MEMORY_HOTPLUG, MEMORY_HOTPLUG_SIZE,
		  p->windows->hotplug_size > 0 },
		{ &p->i8042.region, false, PORT_I8042, I8042_PORTS, true },
		{ &p->rtc.region, false, PORT_RTC, RTC_PORTS, true },
		{ &p->debug_port.region, false, PORT_DEBUG, 1, true },
		{ &p->serial.region, false, PORT_SERIAL, SERIAL_PORTS, serial },
		{ &p->pm.reset, false, PORT_ACPI_RESET, 1, true },
		{ &p->pm.timer, false, PORT_PM_TIMER, 4, true },
		{ &p->debug_console.region, false, debug_port, 1, debug },
		{ &p->watchdog.region, false, PORT_WATCHDOG, WATCHDOG_SIZE, c->watchdog },
		{ &p->fw_cfg.region, false, PORT_FW_CFG, FW_CFG_PORTS, c->payload.has_fw_cfg },
	};

	memcpy(ret, places, sizeof(places));
}

static int place_all(struct platform *p, struct err *err)
{
	struct place places[PLACES];
	int r;

	list_places(p, places);
	for (size_t i = 0; i < PLACES; i++) {
		if (!places[i].present)
			continue;
		r = bus_add(places[i].mmio ? p->mmio : p->pio, places[i].device, places[i].base,
			    places[i].len, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What the daemon hands over for a console; NULL: nothing. pty: the pointer of its mode. */
static const char *console_resource(const struct console_config *config, const char *pty)
{
	switch (config->mode) {
	case CONSOLE_MODE_FILE:
		return config->file;
	case CONSOLE_MODE_SOCKET:
		return config->socket;
	case CONSOLE_MODE_PTY:
		return pty;
	case CONSOLE_MODE_OFF:
	case CONSOLE_MODE_NULL:
	case CONSOLE_MODE_TTY:
	case CONSOLE_MODE_N_:
		break;
	}
	return NULL;
}

static int open_chardev(struct chardev *c, const char *name, const struct console_config *config,
			const char *pty, const struct platform_params *params, struct err *err)
{
	const char *resource = console_resource(config, pty);
	int fd = -EBADF, r;

	if (resource) {
		fd = resources_take(params->resources, resource, err);
		if (fd < 0)
			return err_prefix(err, fd, "console '%s'", name);
		/*
		 * A terminal whose other side does not read must not hold a vCPU up, nor a
		 * client that went away again the thread.
		 */
		r = fd_set_nonblock(fd, true);
		if (r < 0) {
			close(fd);
			return err_errno(err, -r, "console '%s'", name);
		}
	}
	r = chardev_init(c, name, config->mode, fd, params->loop, err);
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

static int open_chardevs(struct platform *p, const struct platform_params *params, struct err *err)
{
	const struct vm_config *c = params->config;
	int r;

	r = open_chardev(&p->serial_chardev, "serial", &c->serial, "/serial/mode", params, err);
	if (r >= 0)
		r = open_chardev(&p->console_chardev, "console", &c->console, "/console/mode",
				 params, err);
	if (r >= 0)
		r = open_chardev(&p->debug_chardev, "debug", &c->debug_console,
				 "/debug_console/mode", params, err);
	return r;
}

/* When the process began: benchmarks measure from exec, not from main. */
static uint64_t process_start_usec(void)
{
	struct timespec mono, cpu;

	/*
	 * There is no /proc in the sandbox.  Single-threaded until here and never
	 * blocked before main, so CPU time used is nearly the age of the process.
	 */
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (uint64_t)((mono.tv_sec - cpu.tv_sec) * 1000000L +
			  (mono.tv_nsec - cpu.tv_nsec) / 1000);
}

int platform_init(struct platform *p, const struct platform_params *params, struct err *err)
{
	uint64_t ram = memory_config_size(&params->config->memory);
	int r;

	*p = (struct platform){
		.config = params->config,
		.windows = params->windows,
		.pio = params->pio,
		.mmio = params->mmio,
	};
	r = open_chardevs(p, params, err);
	if (r < 0)
		return r;
	ioapic_init(&p->ioapic, params->irqs);
	serial_init(&p->serial, ioapic_line(&p->ioapic, LAYOUT_SERIAL_GSI), &p->serial_chardev);
	debug_port_init(&p->debug_port, process_start_usec(), params->debug_code, params->data);
	debug_console_init(&p->debug_console, &p->debug_chardev);
	rtc_init(&p->rtc, x86_ram_low_end(ram), ram, params->request, params->data);
	i8042_init(&p->i8042, params->request, params->data);
	ged_init(&p->ged, ioapic_line(&p->ioapic, LAYOUT_GED_GSI));
	pci_hotplug_init(&p->pci_hotplug, &p->ged, params->config->platform.num_pci_segments,
			 params->pci_hotplug, params->data);
	cpu_hotplug_init(&p->cpu_hotplug, &p->ged, params->config->cpus.max_vcpus,
			 params->cpu_hotplug, params->data);
	memory_hotplug_init(&p->memory_hotplug, &p->ged, params->memory_hotplug, params->data);
	pm_init(&p->pm, params->request, params->data);
	if (p->config->payload.has_fw_cfg)
		fw_cfg_init(&p->fw_cfg, params->mem);
	r = vmgenid_init(&p->vmgenid, err);
	if (r >= 0 && p->config->watchdog)
		r = watchdog_init(&p->watchdog, params->loop, params->watchdog, params->data, err);
	return r < 0 ? r : place_all(p, err);
}

void platform_deinit(struct platform *p)
{
	if (!p->config)
		return;
	/* The buses go with the machine: nothing to take out of them. */
	watchdog_deinit(&p->watchdog);
	fw_cfg_deinit(&p->fw_cfg);
	if (p->pm.request) {
		pm_deinit(&p->pm);
		memory_hotplug_deinit(&p->memory_hotplug);
		cpu_hotplug_deinit(&p->cpu_hotplug);
		pci_hotplug_deinit(&p->pci_hotplug);
		ged_deinit(&p->ged);
		rtc_deinit(&p->rtc);
		serial_deinit(&p->serial);
		ioapic_deinit(&p->ioapic);
	}
	chardev_deinit(&p->debug_chardev);
	chardev_deinit(&p->console_chardev);
	chardev_deinit(&p->serial_chardev);
	p->config = NULL;
}

void platform_reset(struct platform *p)
{
	ioapic_reset(&p->ioapic);
	serial_reset(&p->serial);
	rtc_reset(&p->rtc);
	pci_hotplug_reset(&p->pci_hotplug);
	cpu_hotplug_reset(&p->cpu_hotplug);
	memory_hotplug_reset(&p->memory_hotplug);
	ged_reset(&p->ged);
	pm_reset(&p->pm);
	if (p->config->watchdog)
		watchdog_reset(&p->watchdog);
}

void platform_pause(struct platform *p)
{
	pm_pause(&p->pm);
	if (p->config->watchdog)
		watchdog_pause(&p->watchdog);
}

void platform_resume(struct platform *p)
{
	pm_resume(&p->pm);
	if (p->config->watchdog)
		watchdog_resume(&p->watchdog);
}

int platform_build_acpi(struct platform *p, struct guest_mem *mem, const bool *cpus_present,
			const struct acpi_topology *topology, uint64_t *ret_rsdp_gpa,
			struct err *err)
{
	const struct acpi_params params = {
		.cpus = &p->config->cpus,
		.cpus_present = cpus_present,
		.windows = p->windows,
		.topology = topology,
		.serial = p->config->serial.mode != CONSOLE_MODE_OFF,
		.watchdog = p->config->watchdog,
		.fw_cfg = p->config->payload.has_fw_cfg,
	};
	int r = vmgenid_place(&p->vmgenid, mem, err);

	return r < 0 ? r : acpi_build(mem, &params, ret_rsdp_gpa, err);
}

void platform_power_button(struct platform *p)
{
	ged_raise(&p->ged, GED_POWER_BUTTON);
}

/* --- consoles --- */

static size_t list_chardevs(const struct platform *p,
			    const struct chardev *ret[static PLATFORM_CONSOLES_MAX])
{
	const struct chardev *all[] = { &p->serial_chardev, &p->console_chardev,
					&p->debug_chardev };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (console_mode_can_open(all[i]->mode))
			ret[n++] = all[i];
	return n;
}

void platform_list_consoles(const struct platform *p,
			    const char *ret[static PLATFORM_CONSOLES_MAX + 1])
{
	const struct chardev *open[PLATFORM_CONSOLES_MAX];
	size_t n = list_chardevs(p, open);

	for (size_t i = 0; i < n; i++)
		ret[i] = open[i]->name;
	ret[n] = NULL;
}

int platform_open_console(struct platform *p, const char *name, bool force, bool readonly,
			  int *ret_fd, struct err *err)
{
	struct chardev *all[] = { &p->serial_chardev, &p->console_chardev, &p->debug_chardev };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (*name ? strcmp(all[i]->name, name) != 0 : !console_mode_can_open(all[i]->mode))
			continue;
		return chardev_open(all[i], force, readonly, ret_fd, err);
	}
	if (!*name)
		return err_fault(err, FAULT_NO_SUCH_CONSOLE, ENXIO,
				 "the machine has no console of mode Tty or Pty");
	return err_fault(err, FAULT_NO_SUCH_CONSOLE, ENXIO,
			 "there is no console '%s', it must be serial, console or debug", name);
}
