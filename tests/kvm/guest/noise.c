/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenario of register noise on what is no virtio device: fw_cfg and its DMA, the watchdog, the
 * panic device, the page of the generation ID
 *
 * Accesses of every width at every offset, and DMA requests from and to where there is no RAM. What
 * there is works afterwards.
 */
#include <stddef.h>

#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

#define FW_CFG        0x510
#define FW_CFG_DATA   0x511
#define FW_CFG_DMA    0x514
#define FW_CFG_PORTS  12
#define WATCHDOG      0x620
#define WATCHDOG_SIZE 16
#define COUNT_LONG    1000 /* in tenths of a second */
#define UNTOUCHED     0xeeeeeeeeU
#define HOLE          0xe8000000ULL
#define WILD_HIGH     (1ULL << 45)

/* one access to a port, or to one of the @n - 1 behind it */
static void noise_at(struct random *r, uint16_t port, uint32_t n)
{
	uint16_t at = (uint16_t)(port + random_below(r, n));

	switch (random_below(r, 6)) {
	case 0:
		outb(at, (uint8_t)random_next(r));
		break;
	case 1:
		outw(at, (uint16_t)random_next(r));
		break;
	case 2:
		outl(at, random_next(r));
		break;
	case 3:
		inb(at);
		break;
	case 4:
		inw(at);
		break;
	default:
		inl(at);
		break;
	}
}

/* fw_cfg */

struct dma {
	uint32_t control, length;
	uint64_t address;
};

static volatile struct dma *dma;

static bool has_fw_cfg(void)
{
	outw(FW_CFG, 0);
	return inb(FW_CFG_DATA) == 'Q' && inb(FW_CFG_DATA) == 'E';
}

static void start_at(uint64_t at)
{
	outl(FW_CFG_DMA, __builtin_bswap32((uint32_t)(at >> 32)));
	outl(FW_CFG_DMA + 4, __builtin_bswap32((uint32_t)at));
}

/* what the device writes into `control`, or UNTOUCHED */
static uint32_t request(uint32_t control, uint32_t length, uint64_t address)
{
	dma->control = __builtin_bswap32(control);
	dma->length = __builtin_bswap32(length);
	dma->address = __builtin_bswap64(address);
	start_at((uint64_t)dma);
	return __builtin_bswap32(dma->control);
}

#define SELECT(key) ((uint32_t)(key) << 16 | 8)
#define READ        2
#define SKIP        4
#define WRITE       16

static void fw_cfg_dma(uint8_t *page)
{
	const struct {
		const char *name;
		uint32_t control, length;
		uint64_t address;
		uint32_t want;
	} cases[] = {
		{ "an unknown key is zeros", SELECT(0x3fff) | READ, 16, (uint64_t)page, 0 },
		{ "4 GiB less a byte", SELECT(0) | READ, ~0U, (uint64_t)page, 1 },
		{ "to the end of the address space", SELECT(0) | READ, 16, ~15ULL, 1 },
		{ "around the end of the address space", SELECT(0) | READ, 32, ~15ULL, 1 },
		{ "to the hole", SELECT(0) | READ, 16, HOLE, 1 },
		{ "to 32 TiB", SELECT(0) | READ, 16, WILD_HIGH, 1 },
		{ "across the end of RAM", SELECT(0) | READ, 16, platform_ram_end() - 8, 1 },
		{ "nothing, to nowhere", SELECT(0) | READ, 0, (uint64_t)page, 0 },
		{ "a write", SELECT(0) | WRITE, 16, (uint64_t)page, 1 },
		{ "skipping 4 GiB", SELECT(0) | SKIP, ~0U, 0, 0 },
		{ "and again", SKIP, ~0U, 0, 0 },
		{ "reading there", READ, 16, (uint64_t)page, 0 },
		{ "no command", 0, 16, (uint64_t)page, 0 },
		{ "all commands: a read", ~0U, 16, (uint64_t)page, 0 },
		{ "unknown bits", 0xffe0, 16, (uint64_t)page, 0 },
		{ "over itself", SELECT(0) | READ, 64, (uint64_t)dma, 0 },
	};
	static const uint64_t places[] = { HOLE, WILD_HIGH, ~15ULL, ~7ULL, ~0ULL };

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(page, 0xee, 16);
		check_eq(request(cases[i].control, cases[i].length, cases[i].address),
			 cases[i].want, "fw_cfg DMA: %s", cases[i].name);
	}
	/* where the request itself cannot be read, or not all of it */
	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		start_at(places[i]);
	start_at(platform_ram_end() - 8);
	start_at((uint64_t)dma + 1);
	outl(FW_CFG_DMA + 4, 0xffffffff); /* the low half alone */
	memset(page, 0xee, 16);
	check(request(SELECT(0) | READ, 4, (uint64_t)page) == 0 && memcmp(page, "QEMU", 4) == 0 &&
		      page[4] == 0xee,
	      "fw_cfg DMA works after it");
}

static void fw_cfg_noise(struct random *r)
{
	uint8_t *page = alloc_pages(1);

	if (!has_fw_cfg()) {
		info("no fw_cfg");
		return;
	}
	dma = alloc_pages(1);
	fw_cfg_dma(page);
	outw(FW_CFG, 0x1234);
	check_eq(inb(FW_CFG_DATA), 0, "fw_cfg: an unknown key is zero");
	/* the DMA register gets addresses that no request is at: behind 4 GiB, RAM ends before */
	for (unsigned int i = 0; i < 2000; i++) {
		outl(FW_CFG_DMA, __builtin_bswap32(0x2000));
		noise_at(r, FW_CFG, i % 2 ? 4 : FW_CFG_PORTS);
	}
	/* across the end of the ports */
	for (uint16_t at = FW_CFG + FW_CFG_PORTS - 3; at < FW_CFG + FW_CFG_PORTS; at++) {
		inl(at);
		outl(at, 0xffffffff);
	}
	check(has_fw_cfg(), "fw_cfg works after noise");
}

/* watchdog: its action is to be one that the guest survives */

static void watchdog_noise(struct random *r)
{
	if (!acpi_find("WDAT")) {
		info("no watchdog");
		return;
	}
	for (unsigned int i = 0; i < 2000; i++)
		noise_at(r, WATCHDOG, WATCHDOG_SIZE);
	for (uint16_t at = WATCHDOG + WATCHDOG_SIZE - 3; at < WATCHDOG + WATCHDOG_SIZE; at++) {
		inl(at);
		outl(at, 0xffffffff);
	}
	outl(WATCHDOG, 0);
	check_eq(inl(WATCHDOG), 0, "watchdog stands after noise");
	outl(WATCHDOG + 4, 0);
	check(inl(WATCHDOG + 4) > 0, "a count of 0 is none");
	outl(WATCHDOG + 4, 0xffffffff);
	check(inl(WATCHDOG + 4) < 0xffffffff, "nor is one of 13 years");
	outl(WATCHDOG + 4, COUNT_LONG);
	outl(WATCHDOG, 1);
	check(inl(WATCHDOG) == 1 && inl(WATCHDOG + 4) == COUNT_LONG, "it can be armed");
	check(inl(WATCHDOG + 8) > COUNT_LONG / 2, "and counts from there");
	outl(WATCHDOG, 0);
}

/* panic device */

static void pvpanic_noise(struct random *r)
{
	struct pci_device *pci = pci_find(0x1b36, 0x0011, 0);
	struct pci_bar bar;

	if (!pci) {
		info("no pvpanic");
		return;
	}
	bar.address = pci_bar_map(pci, 0);
	bar = pci_bar_probe(pci, 0);
	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t at = bar.address + random_below(r, i % 2 ? 16 : (uint32_t)bar.size - 8);

		mmio_read8(at);
		mmio_read16(at);
		mmio_read32(at);
		mmio_read64(at);
		/* no event in the first byte: one is one too many for the host's log */
		mmio_write64(at, (uint64_t)random_next(r) << 8);
		mmio_write32(at, random_next(r) << 8);
		mmio_write16(at, (uint16_t)(random_next(r) << 8));
	}
	for (unsigned int i = 1; i < 8; i++) {
		mmio_read64(bar.address + bar.size - i);
		mmio_write64(bar.address + bar.size - i, ~0ULL);
	}
	check_eq(mmio_read8(bar.address), 3, "pvpanic works after noise");
	/* configuration space, all of it, and back */
	for (uint16_t off = 0x40; off < 0x100; off += 4)
		pci_write(pci, off, 4, random_next(r));
	pci_write(pci, PCI_COMMAND, 2, 0);
	check_eq(mmio_read8(bar.address), 0xff, "pvpanic does not decode");
	pci_write(pci, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	check_eq(mmio_read8(bar.address), 3, "pvpanic decodes again");
}

static void run_bad_noise(void)
{
	struct random r = random_seed(arg_u64("seed", 1));

	pci_scan();
	fw_cfg_noise(&r);
	watchdog_noise(&r);
	pvpanic_noise(&r);
}

const struct scenario noise_scenarios[] = {
	{ "bad-noise", run_bad_noise },
	{ 0 },
};
