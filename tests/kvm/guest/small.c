/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of the small devices: balloon, clock, panic device, watchdog, fw_cfg, generation ID
 */
#include <stddef.h>

#include "tests/kvm/guest/acpi.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"
#include "tests/kvm/guest/virtio.h"

#define SMALL_MS   5000
#define QUEUE_SIZE 16
#define PAGE       4096U

static bool request(struct virtio_device *dev, struct virtqueue *vq, const struct segment *segments,
		    unsigned int n, struct virtq_used_elem *used)
{
	if (virtqueue_add(vq, segments, n) < 0)
		return false;
	virtqueue_kick(vq);
	return virtio_wait(dev, vq, SMALL_MS) == OUTCOME_USED && virtqueue_take(vq, used);
}

/* balloon */

#define BALLOON_PAGES 256

static bool balloon_start(struct virtio_device *dev, struct virtqueue *inflate,
			  struct virtqueue *deflate, struct virtqueue *report)
{
	if (!virtio_negotiate(dev, VIRTIO_BALLOON_REPORTING) ||
	    !virtqueue_setup(dev, inflate, 0, QUEUE_SIZE) ||
	    !virtqueue_setup(dev, deflate, 1, QUEUE_SIZE))
		return false;
	/* as Linux counts: the queue behind those that there are */
	if (dev->features & VIRTIO_BALLOON_REPORTING &&
	    !virtqueue_setup(dev, report, 2, QUEUE_SIZE))
		return false;
	virtio_driver_ok(dev);
	return true;
}

static unsigned int count_bytes(const uint8_t *bytes, uint32_t len, uint8_t value)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < len; i += 512)
		n += bytes[i] == value;
	return n;
}

static void run_balloon(void)
{
	static struct virtqueue inflate, deflate, report;
	static uint32_t pfns[BALLOON_PAGES];
	uint8_t *pages = alloc_pages(BALLOON_PAGES);
	const struct segment list = { pfns, sizeof(pfns), false };
	const struct segment all = { pages, BALLOON_PAGES * PAGE, true };
	struct virtq_used_elem used;
	struct virtio_device dev;

	if (!virtio_find(VIRTIO_BALLOON, 0, &dev)) {
		skip("no virtio-balloon device");
		return;
	}
	if (!check(balloon_start(&dev, &inflate, &deflate, &report), "set up"))
		return;
	info("balloon wants %u pages", mmio_read32(dev.region[REGION_CONFIG]));
	mmio_write32(dev.region[REGION_CONFIG] + 4, BALLOON_PAGES);
	check_eq(mmio_read32(dev.region[REGION_CONFIG] + 4), BALLOON_PAGES,
		 "actual is ours to say");
	mmio_write32(dev.region[REGION_CONFIG], 1);
	check(mmio_read32(dev.region[REGION_CONFIG]) != 1, "the target is not");
	for (uint32_t i = 0; i < BALLOON_PAGES; i++)
		pfns[i] = (uint32_t)(((uint64_t)pages / PAGE) + (i ^ 1));
	memset(pages, 0xaa, BALLOON_PAGES * PAGE);
	check(request(&dev, &inflate, &list, 1, &used), "inflates");
	check_eq(count_bytes(pages, BALLOON_PAGES * PAGE, 0), BALLOON_PAGES * PAGE / 512,
		 "given pages are empty when they are touched again");
	check(request(&dev, &deflate, &list, 1, &used), "deflates");
	mmio_write32(dev.region[REGION_CONFIG] + 4, 0);
	if (!(dev.features & VIRTIO_BALLOON_REPORTING))
		return;
	memset(pages, 0xbb, BALLOON_PAGES * PAGE);
	check(request(&dev, &report, &all, 1, &used), "reports");
	check_eq(count_bytes(pages, BALLOON_PAGES * PAGE, 0), BALLOON_PAGES * PAGE / 512,
		 "reported pages are empty");
}

/* page numbers that are not RAM; then it must work again after a reset */
static void run_balloon_bad(void)
{
	static const struct {
		const char *name;
		uint32_t pfn, len;
	} cases[] = {
		{ "a page behind RAM", 0, 4 },
		{ "the last page there could be", 0xffffffff, 4 },
		{ "a page in the hole", 0xe8000, 4 },
		{ "half a number", 1, 2 },
		{ "no number", 1, 0 },
	};
	static struct virtqueue inflate, deflate, report;
	static uint32_t pfn;
	struct virtq_used_elem used;
	struct virtio_device dev;

	if (!virtio_find(VIRTIO_BALLOON, 0, &dev)) {
		skip("no virtio-balloon device");
		return;
	}
	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct segment bad = { &pfn, cases[i].len, false };

		if (!check(balloon_start(&dev, &inflate, &deflate, &report), "set up"))
			return;
		pfn = cases[i].pfn ? cases[i].pfn : (uint32_t)(platform_ram_end() / PAGE);
		virtqueue_add(&inflate, &bad, 1);
		virtqueue_kick(&inflate);
		check_eq(virtio_wait(&dev, &inflate, SMALL_MS), OUTCOME_NEEDS_RESET, "%s",
			 cases[i].name);
	}
	pfn = (uint32_t)((uint64_t)alloc_pages(1) / PAGE);
	check(balloon_start(&dev, &inflate, &deflate, &report) &&
		      request(&dev, &inflate, &(struct segment){ &pfn, 4, false }, 1, &used),
	      "works after a reset");
}

/* clock */

struct rtc_message {
	uint16_t type, pad[3];
	uint16_t clock, pad2[3];
};

struct rtc_answer {
	uint8_t status, pad[7];
	union {
		uint64_t reading;
		uint16_t clocks;
		uint8_t type;
	};
};

static uint32_t rtc_ask(struct virtio_device *dev, struct virtqueue *vq, uint16_t type,
			uint16_t clock, struct rtc_answer *answer)
{
	static struct rtc_message message;
	struct virtq_used_elem used = { 0 };
	const struct segment segments[] = { { &message, sizeof(message), false },
					    { answer, sizeof(*answer), true } };

	message = (struct rtc_message){ .type = type, .clock = clock };
	memset(answer, 0xff, sizeof(*answer));
	return request(dev, vq, segments, 2, &used) ? used.len : 0;
}

static void run_virtio_rtc(void)
{
	static struct virtqueue vq;
	static struct rtc_answer answer;
	struct virtio_device dev;
	uint64_t first;

	if (!virtio_find(VIRTIO_RTC, 0, &dev)) {
		skip("no virtio-rtc device");
		return;
	}
	if (!check(virtio_negotiate(&dev, 0) && virtqueue_setup(&dev, &vq, 0, QUEUE_SIZE),
		   "set up"))
		return;
	virtio_driver_ok(&dev);
	check_eq(rtc_ask(&dev, &vq, 0x1000, 0, &answer), 16, "CFG is answered");
	check(answer.status == 0 && answer.clocks == 1, "one clock");
	check_eq(rtc_ask(&dev, &vq, 0x1001, 0, &answer), 16, "CLOCK_CAP is answered");
	check(answer.status == 0 && answer.type == 4, "UTC, maybe smeared");
	check_eq(rtc_ask(&dev, &vq, 1, 0, &answer), 16, "READ is answered");
	first = answer.reading;
	check(answer.status == 0 && first / 1000000000 > 1700000000, "after 2023");
	info("rtc %lu", first / 1000000000);
	sleep_ms(20);
	rtc_ask(&dev, &vq, 1, 0, &answer);
	check(answer.status == 0 && answer.reading - first > 10000000 &&
		      answer.reading - first < 20000000000,
	      "and goes on");
	rtc_ask(&dev, &vq, 1, 1, &answer);
	check_eq(answer.status, 3, "there is no second one");
	rtc_ask(&dev, &vq, 0x4711, 0, &answer);
	check_eq(answer.status, 2, "unknown requests are refused");
}

/* panic device */

static void run_pvpanic(void)
{
	struct pci_device *pci;
	uint64_t at;

	pci_scan();
	pci = pci_find(0x1b36, 0x0011, 0);
	if (!pci) {
		skip("no pvpanic device");
		return;
	}
	at = pci_bar_map(pci, 0);
	check_eq(mmio_read8(at), 3, "knows panic and crash-loaded");
	for (unsigned int off = 1; off < 64; off++) {
		mmio_read64(at + off);
		mmio_write32(at + off, 0xffffffff);
	}
	mmio_write8(at, 0xf0); /* no event */
	mmio_write8(at, (uint8_t)arg_u64("event", 1));
	for (uint64_t i = arg_u64("flood", 0); i; i--)
		mmio_write8(at, 3);
	check_eq(mmio_read8(at), 3, "goes on");
}

/* watchdog */

#define WATCHDOG_CONTROL (arg_u64("port", 0x620))
#define WATCHDOG_COUNT   (WATCHDOG_CONTROL + 4)
#define WATCHDOG_FEED    (WATCHDOG_CONTROL + 8)
#define WATCHDOG_STATUS  (WATCHDOG_CONTROL + 12)

static void run_watchdog(void)
{
	const struct acpi_header *wdat = acpi_find("WDAT");

	if (!check(wdat && acpi_sum(wdat, wdat->length) == 0, "there is a WDAT"))
		return;
	info("watchdog %s", inl((uint16_t)WATCHDOG_STATUS) & 1 ? "has expired" : "is new");
	if (inl((uint16_t)WATCHDOG_STATUS) & 1) {
		outl((uint16_t)WATCHDOG_STATUS, 1);
		check_eq(inl((uint16_t)WATCHDOG_STATUS) & 1, 0, "its status is cleared");
		return;
	}
	outl((uint16_t)WATCHDOG_COUNT, (uint32_t)arg_u64("count", 10));
	outl((uint16_t)WATCHDOG_CONTROL, 1);
	check_eq(inl((uint16_t)WATCHDOG_CONTROL) & 1, 1, "it runs");
	for (unsigned int i = 0; i < 3; i++) {
		sleep_ms(500);
		outl((uint16_t)WATCHDOG_FEED, 1);
	}
	check_eq(inl((uint16_t)WATCHDOG_STATUS) & 1, 0, "fed it does not expire");
	outb((uint16_t)WATCHDOG_CONTROL, 0); /* no access the table describes */
	info("starving");
	sleep_ms(4000);
	/* only with an action that lets the guest live */
	check_eq(inl((uint16_t)WATCHDOG_STATUS) & 1, 1, "it expires");
	check_eq(inl((uint16_t)WATCHDOG_CONTROL) & 1, 0, "and stands");
}

/* fw_cfg */

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA     0x511
#define FW_CFG_DMA      0x514

struct fw_cfg_dma {
	uint32_t control, length;
	uint64_t address;
};

static void fw_cfg_read(uint16_t key, void *to, uint32_t len)
{
	outw(FW_CFG_SELECTOR, key);
	for (uint32_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = inb(FW_CFG_DATA);
}

static uint32_t fw_cfg_dma(uint64_t at, uint32_t control, uint32_t len, uint64_t address)
{
	static volatile struct fw_cfg_dma dma __attribute__((aligned(16)));

	dma.control = __builtin_bswap32(control);
	dma.length = __builtin_bswap32(len);
	dma.address = __builtin_bswap64(address);
	at = at ? at : (uint64_t)&dma;
	outl(FW_CFG_DMA, __builtin_bswap32((uint32_t)(at >> 32)));
	outl(FW_CFG_DMA + 4, __builtin_bswap32((uint32_t)at));
	return __builtin_bswap32(dma.control);
}

/* the key of a file, or 0 */
static uint16_t fw_cfg_find(const char *name, uint32_t *ret_size)
{
	static uint8_t dir[64 * 64 + 4];
	uint32_t n;

	fw_cfg_read(0x19, dir, sizeof(dir));
	n = __builtin_bswap32(*(uint32_t *)(void *)dir);
	for (uint32_t i = 0; i < n && i < 64; i++) {
		const uint8_t *file = dir + 4 + 64 * i;

		if (!string_equal((const char *)file + 8, name))
			continue;
		*ret_size = __builtin_bswap32(*(const uint32_t *)(const void *)file);
		return (uint16_t)(file[4] << 8 | file[5]);
	}
	return 0;
}

static void run_fw_cfg(void)
{
	static char text[4096];
	char signature[4], name[64] = "opt/test";
	uint32_t size = 0;
	uint16_t key;

	fw_cfg_read(0, signature, 4);
	if (!check(memcmp(signature, "QEMU", 4) == 0, "signature"))
		return;
	arg_get("file", name, sizeof(name));
	key = fw_cfg_find(name, &size);
	if (!check(key >= 0x20 && size < sizeof(text), "file %s", name))
		return;
	fw_cfg_read(key, text, size);
	text[size] = '\0';
	info("%s %u %s", name, size, text);
	memset(text, 0xff, sizeof(text));
	check_eq(fw_cfg_dma(0, (uint32_t)key << 16 | 0xa, sizeof(text), (uint64_t)text), 0,
		 "DMA works");
	check(text[0] != 0 && text[size] == 0 && text[sizeof(text) - 1] == 0, "and ends in zeros");
	check(fw_cfg_find("etc/e820", &size) && size >= 20, "etc/e820");
	check(fw_cfg_find("etc/table-loader", &size) && size % 128 == 0, "etc/table-loader");
	fw_cfg_read(0x14, &size, 4);
	fw_cfg_read(0x15, text, size < sizeof(text) ? size : 0);
	check(memcmp(text, "test=", 5) == 0 || size > 5, "the command line");
	/* requests that mean nothing good */
	check_eq(fw_cfg_dma(0, 0xa, 4096, platform_ram_end() - 1), 1, "DMA across the end of RAM");
	check_eq(fw_cfg_dma(0, 0xa, 0xffffffff, 0x100000), 1, "DMA longer than RAM");
	check_eq(fw_cfg_dma(0, 0xa, 16, ~7ULL), 1, "DMA that wraps");
	check_eq(fw_cfg_dma(0, 0x10, 16, (uint64_t)text), 1, "nothing is written to");
	fw_cfg_dma(1ULL << 45, 0xa, 16, (uint64_t)text);
	fw_cfg_dma(platform_ram_end() - 8, 0xa, 16, (uint64_t)text);
	fw_cfg_read(0, signature, 4);
	check(memcmp(signature, "QEMU", 4) == 0, "works on");
}

/* generation ID */

/* NameOp "ADDR" Package(2) of a word or dword, and zero */
static uint64_t find_generation(const struct acpi_header *dsdt)
{
	const uint8_t *p = (const uint8_t *)dsdt;

	for (uint32_t i = 36; i + 16 < dsdt->length; i++) {
		uint32_t low;

		if (p[i] != 0x08 || memcmp(p + i + 1, "ADDR", 4) != 0 || p[i + 5] != 0x12 ||
		    p[i + 7] != 2 || p[i + 8] != 0x0c)
			continue;
		memcpy(&low, p + i + 9, sizeof(low));
		return low;
	}
	return 0;
}

static void run_vmgenid(void)
{
	const struct acpi_header *dsdt = acpi_dsdt();
	uint64_t at = dsdt ? find_generation(dsdt) : 0;
	const uint32_t *guid = (const void *)at;

	if (!check(at && at % 4096 == 0, "its place, 0x%lx", at))
		return;
	map_range(at, 16);
	check(guid[0] | guid[1] | guid[2] | guid[3], "it is something");
	info("generation %08x%08x%08x%08x", guid[0], guid[1], guid[2], guid[3]);
	/* it is RAM like any other: what is written there is for the next reset to undo */
	if (arg_u64("overwrite", 0))
		memset((void *)at, 0xff, 4096);
}

const struct scenario small_scenarios[] = {
	{ "balloon", run_balloon },       { "balloon-bad", run_balloon_bad },
	{ "virtio-rtc", run_virtio_rtc }, { "pvpanic", run_pvpanic },
	{ "watchdog", run_watchdog },     { "fw-cfg", run_fw_cfg },
	{ "vmgenid", run_vmgenid },       { 0 },
};
