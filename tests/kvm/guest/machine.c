/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of the machine itself: memory, tables, resets, interrupt sources
 */
#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define FADT_FLAGS         112
#define FADT_HW_REDUCED    (1U << 20)
#define FADT_RESET_SUPPORT (1U << 10)
#define CPUS_MAX           64
#define TOUCHES            16
#define IMAGE_AND_FIRMWARE MIB(8) /* below: our image, firmware's leftovers, low tables */
#define CMOS_MARKER        0x50
#define MARKER_MAGIC       0x626f6f74
#define UART_IER_RX        1
#define UART_LSR_DATA      1
#define UART_IIR_NONE      1
#define UART_MCR_OUT2      8
#define IOAPIC_PINS        24
#define MSR_X2APIC_LINT1   0x836
#define LVT_NMI            0x400

/* far behind image and arena, so that no loader clears it: what the previous boot left */
static volatile uint32_t *const marker_ram = (volatile uint32_t *)MIB(7);

static void run_hello(void)
{
	const char *cmdline = (const char *)start_info->cmdline_paddr;
	struct cpuid c = cpuid(0x40000000, 0);
	uint32_t signature[4] = { c.ebx, c.ecx, c.edx, 0 };

	info("command line: %s", cmdline ? cmdline : "");
	info("hypervisor '%s' leaves to 0x%x, apic id %u, time from %s", (const char *)signature,
	     c.eax, apic_id(), time_source());
	check(true, "hello");
}

static const struct hvm_memmap_entry *memmap(void)
{
	return (const void *)start_info->memmap_paddr;
}

static void run_memmap(void)
{
	uint64_t end = 0;
	bool sorted = true;

	if (!check(start_info->memmap_entries > 0, "memory map present"))
		return;
	for (uint32_t i = 0; i < start_info->memmap_entries; i++) {
		const struct hvm_memmap_entry *entry = &memmap()[i];

		info("memmap %016lx %016lx %u", entry->addr, entry->size, entry->type);
		sorted = sorted && entry->addr >= end && entry->addr + entry->size > entry->addr;
		end = entry->addr + entry->size;
	}
	check(sorted, "entries sorted, not overlapping, not empty");
}

/* the address of touch @k of @entry, spread evenly, last page included; 0 = leave it alone */
static uint64_t touch_address(const struct hvm_memmap_entry *entry, unsigned int k)
{
	uint64_t pages = entry->size >> 12;
	uint64_t address;

	if (entry->type != HVM_MEMMAP_TYPE_RAM || !pages)
		return 0;
	address = entry->addr + (((pages - 1) * k / (TOUCHES - 1)) << 12);
	return address < IMAGE_AND_FIRMWARE ? 0 : address;
}

static void run_mem_high(void)
{
	uint64_t expected = arg_u64("size", 0), low = 0, high = 0;
	unsigned int touched = 0, bad = 0;

	for (uint32_t i = 0; i < start_info->memmap_entries; i++) {
		const struct hvm_memmap_entry *entry = &memmap()[i];

		if (entry->type != HVM_MEMMAP_TYPE_RAM)
			continue;
		*(entry->addr < GIB(4) ? &low : &high) += entry->size;
		for (unsigned int k = 0; k < TOUCHES; k++) {
			uint64_t address = touch_address(entry, k);

			if (!address)
				continue;
			map_range(address, 4096);
			*(volatile uint64_t *)address = address ^ 0x5a5a5a5a5a5a5a5a;
			touched++;
		}
	}
	for (uint32_t i = 0; i < start_info->memmap_entries; i++)
		for (unsigned int k = 0; k < TOUCHES; k++) {
			uint64_t address = touch_address(&memmap()[i], k);

			if (address &&
			    *(volatile uint64_t *)address != (address ^ 0x5a5a5a5a5a5a5a5a))
				bad++;
		}
	info("RAM below 4 GiB %lu KiB, above %lu KiB, %u pages touched", low >> 10, high >> 10,
	     touched);
	check_eq(bad, 0, "every page keeps its own value");
	/* up to 1 MiB may be missing below 1 MiB */
	if (expected)
		check_eq((low + high + MIB(1) - 1) >> 20, expected, "MiB of RAM in the map");
}

static void check_table(const struct acpi_header *table)
{
	char name[5] = "";

	memcpy(name, table->signature, 4);
	check_eq(acpi_sum(table, table->length), 0, "checksum of %s, %u bytes, revision %u", name,
		 table->length, table->revision);
}

static void check_madt(void)
{
	struct acpi_cpu cpus[CPUS_MAX];
	unsigned int n = acpi_cpus(cpus, CPUS_MAX), enabled = 0;
	uint64_t expected = arg_u64("cpus", 0), max = arg_u64("max", 0);
	bool bsp = false;

	for (unsigned int i = 0; i < n && i < CPUS_MAX; i++) {
		enabled += cpus[i].flags & ACPI_MADT_ENABLED;
		bsp = bsp || cpus[i].apic_id == apic_id();
	}
	check(bsp, "MADT lists the processor this runs on");
	if (expected)
		check_eq(enabled, expected, "MADT enabled processors");
	if (max)
		check_eq(n, max, "MADT processors");
}

static void run_acpi(void)
{
	const uint8_t *rsdp = acpi_rsdp();
	const struct acpi_header *fadt;
	uint32_t flags;

	if (!check(rsdp && memcmp(rsdp, "RSD PTR ", 8) == 0, "RSDP found"))
		return;
	check_eq(acpi_sum(rsdp, 20), 0, "RSDP checksum");
	if (rsdp[15] >= 2)
		check_eq(acpi_sum(rsdp, 36), 0, "RSDP extended checksum");
	for (unsigned int i = 0; acpi_table(i); i++)
		check_table(acpi_table(i));
	if (check(acpi_dsdt(), "DSDT found"))
		check_table(acpi_dsdt());
	fadt = acpi_find("FACP");
	if (check(fadt && fadt->length >= 244, "FADT found")) {
		memcpy(&flags, (const uint8_t *)fadt + FADT_FLAGS, sizeof(flags));
		check(flags & FADT_HW_REDUCED || arg_u64("lenient", 0),
		      "FADT says hardware-reduced");
		check(flags & FADT_RESET_SUPPORT, "FADT has a reset register");
	}
	if (check(acpi_find("APIC"), "MADT found"))
		check_madt();
	info("MCFG ECAM 0x%lx", acpi_ecam());
}

/* which boot this is, as far as a marker survived */
static uint32_t boot_number(const char **ret_from)
{
	uint8_t cmos = cmos_read(CMOS_MARKER);

	*ret_from = "none";
	if (marker_ram[0] == MARKER_MAGIC) {
		*ret_from = "RAM";
		return marker_ram[1] + 1;
	}
	if (cmos > 0xa0 && cmos < 0xb0) {
		*ret_from = "CMOS";
		return (uint32_t)(cmos - 0xa0) + 1;
	}
	return 1;
}

static void reset_by(uint16_t port, uint8_t value)
{
	uint32_t times = (uint32_t)arg_u64("times", 1);
	const char *from;
	uint32_t boot = boot_number(&from);

	print("boot %u\n", boot);
	if (boot > times) {
		marker_ram[0] = 0;
		cmos_write(CMOS_MARKER, 0);
		check(true, "came back %u times, marker from %s", times, from);
		return;
	}
	marker_ram[0] = MARKER_MAGIC;
	marker_ram[1] = boot;
	cmos_write(CMOS_MARKER, (uint8_t)(0xa0 + boot));
	outb(port, value);
	sleep_ms(1000);
	check(false, "write of 0x%x to port 0x%x did not reset", value, port);
}

static void run_reset_kbd(void)
{
	reset_by(PORT_I8042_COMMAND, 0xfe);
}

static void run_reset_acpi(void)
{
	reset_by(PORT_ACPI_RESET, 1);
}

static void run_triple_fault(void)
{
	check(true, "about to fault");
	report_done();
	triple_fault();
}

static void run_poweroff(void)
{
	check(true, "about to power off");
}

static void run_hlt_forever(void)
{
	check(true, "about to halt");
	report_done();
	for (;;)
		__asm__ volatile("cli; hlt");
}

static void run_spin_forever(void)
{
	check(true, "about to spin");
	report_done();
	for (;;)
		__asm__ volatile("pause");
}

static void run_exception(void)
{
	info("the next line is the report of an invalid opcode");
	__asm__ volatile("ud2");
}

static bool vector_arrived(void *arg)
{
	return irq_count[*(const uint32_t *)arg] > 0;
}

static void run_nmi(void)
{
	uint32_t vector = VECTOR_NMI;

	/* the monitor is to have set LINT1 up like firmware does; lint1=1 does it for those that do
	 * not */
	if (arg_u64("lint1", 0))
		wrmsr(MSR_X2APIC_LINT1, LVT_NMI);
	info("LINT1 0x%lx", rdmsr(MSR_X2APIC_LINT1));
	info("waiting");
	check(wait_until(vector_arrived, &vector, (uint32_t)arg_u64("ms", 10000)), "NMI arrived");
}

static void run_power_button(void)
{
	uint64_t gsi = arg_u64("gsi", ~0ULL), address = arg_u64("addr", 0);
	uint64_t bit = arg_u64("bit", 3);
	uint32_t vector = VECTOR_GED;
	uint8_t pending;

	if (gsi >= IOAPIC_PINS || !address) {
		skip("needs gsi= and addr=");
		return;
	}
	map_range(address, 1);
	ioapic_route((uint32_t)gsi, VECTOR_GED, false, false);
	info("waiting");
	if (!check(wait_until(vector_arrived, &vector, (uint32_t)arg_u64("ms", 10000)),
		   "GED interrupt on GSI %lu", gsi))
		return;
	pending = mmio_read8(address);
	check(pending >> bit & 1, "bit %lu set in GED byte 0x%x", bit, pending);
	check_eq(mmio_read8(address), 0, "GED byte clears when read");
}

/* filled by the handler, drained by run_serial_echo() with interrupts off */
static uint8_t received[256];
static uint32_t n_received;

static void com1_interrupt(void)
{
	while (!(inb(COM1 + UART_IIR) & UART_IIR_NONE)) {
		while (inb(COM1 + UART_LSR) & UART_LSR_DATA) {
			uint8_t byte = inb(COM1);

			if (n_received < sizeof(received))
				received[n_received++] = byte;
		}
	}
}

static bool has_received(void *arg)
{
	(void)arg;
	return n_received > 0;
}

static void run_serial_echo(void)
{
	struct acpi_ioapic_pin pin = acpi_isa_pin(4);
	uint32_t ms = (uint32_t)arg_u64("ms", 10000), total = 0;
	bool quit = false;

	if (inb(COM1 + UART_LSR) == 0xff) {
		skip("no UART at 0x3f8");
		return;
	}
	irq_handler[VECTOR_COM1] = com1_interrupt;
	ioapic_route(pin.gsi, VECTOR_COM1, pin.level, pin.active_low);
	outb(COM1 + UART_MCR, UART_MCR_OUT2 | 3);
	outb(COM1 + UART_IER, UART_IER_RX);
	info("waiting");
	while (!quit && wait_until(has_received, NULL, ms)) {
		for (uint32_t i = 0; i < n_received; i++) {
			quit = quit || received[i] == 'q';
			com1_put((char)received[i]);
		}
		total += n_received;
		n_received = 0;
	}
	outb(COM1 + UART_IER, 0);
	com1_put('\n');
	check(quit, "echoed %u bytes, %u interrupts", total, irq_count[VECTOR_COM1]);
}

const struct scenario machine_scenarios[] = {
	{ "hello", run_hello },
	{ "memmap", run_memmap },
	{ "mem-high", run_mem_high },
	{ "acpi", run_acpi },
	{ "reset-kbd", run_reset_kbd },
	{ "reset-acpi", run_reset_acpi },
	{ "triple-fault", run_triple_fault },
	{ "poweroff", run_poweroff },
	{ "hlt-forever", run_hlt_forever },
	{ "spin-forever", run_spin_forever },
	{ "exception", run_exception },
	{ "nmi", run_nmi },
	{ "power-button", run_power_button },
	{ "serial-echo", run_serial_echo },
	{ 0 },
};
