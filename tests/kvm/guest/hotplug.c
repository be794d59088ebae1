/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scenarios of hotplug: the controllers' registers, as the AML of the DSDT uses them
 */
#include "tests/kvm/guest/blk.h"
#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/pci.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/random.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

/* vmm/acpi/pci-hotplug.h */
#define PCIU      0x00
#define PCID      0x04
#define B0EJ      0x08
#define PSEG      0x0c
#define PSLT      0x10
#define PEVT      0x14
#define PSTA      0x18
#define REGISTERS 0x1c

#define OST_EJECT  3
#define OST_BUSY   0x82
#define WAIT_MS    20000
#define POLL_MS    10
#define NO_DEVICE  0xffff
#define NO_SLOT    32u
#define SECTOR_LEN 512

static uint64_t controller;

/* the lowest slot of a register's, waited for; what it tells is told once */
static unsigned int wait_slot(uint32_t reg)
{
	uint32_t slots = 0;

	for (unsigned int ms = 0; !slots && ms < WAIT_MS; ms += POLL_MS) {
		slots = mmio_read32(controller + reg);
		if (!slots)
			sleep_ms(POLL_MS);
	}
	return slots ? (unsigned int)__builtin_ctz(slots) : NO_SLOT;
}

static bool has_device(unsigned int slot)
{
	return pci_ecam_read((uint8_t)slot, 0, PCI_VENDOR, 2) != NO_DEVICE;
}

static bool reads(struct blk *blk)
{
	return blk_request(blk, 0, BLK_T_IN, 0, blk->slot[0].data, SECTOR_LEN) == BLK_S_OK;
}

static void answer(unsigned int slot, uint32_t status)
{
	mmio_write32(controller + PSLT, slot);
	mmio_write32(controller + PEVT, OST_EJECT);
	mmio_write32(controller + PSTA, status);
}

static bool open_new(struct blk *blk, unsigned int slot)
{
	pci_rescan();
	return check(has_device(slot), "slot %u has a device", slot) && blk_open(blk, 0, false) &&
	       check_eq(blk->dev.pci->slot, slot, "the disk is in the slot that was told of") &&
	       check(reads(blk), "the disk can be read");
}

static void eject(struct blk *blk, unsigned int slot)
{
	virtio_reset(&blk->dev);
	mmio_write32(controller + B0EJ, 1U << slot);
	/* the very next instruction finds it gone */
	check(!has_device(slot), "slot %u is empty", slot);
}

static bool start(void)
{
	controller = arg_u64("addr", 0);
	if (!check(controller != 0, "addr= is given"))
		return false;
	map_range(controller & ~0xfffULL, 0x1000);
	pci_scan();
	return true;
}

/* all over the registers, and behind them */
static void write_rubbish(uint32_t size)
{
	unsigned int count = (unsigned int)arg_u64("count", 1024);
	struct random r = random_seed(arg_u64("seed", 1));

	for (unsigned int i = 0; i < count; i++) {
		uint64_t at = controller + random_below(&r, size + 4);

		switch (random_below(&r, 6)) {
		case 0:
			mmio_write8(at, (uint8_t)random_next(&r));
			break;
		case 1:
			mmio_write16(at, (uint16_t)random_next(&r));
			break;
		case 2:
			mmio_read8(at);
			break;
		case 3:
			mmio_read32(at);
			break;
		default:
			mmio_write32(at, (uint32_t)random_next(&r));
			break;
		}
	}
}

/* what the flags of processor or memory slot `n` are when there is this one, waited for */
static uint32_t wait_flag(uint32_t select, uint32_t n, uint32_t reg, uint32_t flag)
{
	uint32_t flags = 0;

	for (unsigned int ms = 0; !(flags & flag) && ms < WAIT_MS; ms += POLL_MS) {
		mmio_write32(controller + select, n);
		flags = mmio_read32(controller + reg);
		if (!(flags & flag))
			sleep_ms(POLL_MS);
	}
	return flags;
}

static void run_pci(void)
{
	unsigned int rounds = (unsigned int)arg_u64("rounds", 1), slot;
	static struct blk blk;

	if (!start())
		return;
	for (unsigned int i = 0; i < rounds; i++) {
		info("waiting %u", i);
		slot = wait_slot(PCIU);
		if (!check(slot != NO_SLOT, "a slot was filled") || !open_new(&blk, slot))
			return;
		check_eq(mmio_read32(controller + PCIU), 0, "reading clears");
		info("plugged %u", i);
		if (!check_eq(wait_slot(PCID), slot, "the slot is to be emptied"))
			return;
		eject(&blk, slot);
	}
}

/* says no first, is asked again, and obeys */
static void run_refuse(void)
{
	static struct blk blk;
	unsigned int slot;

	if (!start())
		return;
	info("waiting");
	slot = wait_slot(PCIU);
	if (!check(slot != NO_SLOT, "a slot was filled") || !open_new(&blk, slot))
		return;
	info("plugged");
	if (!check_eq(wait_slot(PCID), slot, "the slot is to be emptied"))
		return;
	answer(slot, OST_BUSY);
	check(has_device(slot) && reads(&blk), "the disk works after the refusal");
	info("refused");
	if (!check_eq(wait_slot(PCID), slot, "asked again"))
		return;
	eject(&blk, slot);
	/* twice */
	mmio_write32(controller + B0EJ, 1U << slot);
}

/* loses a disk that it uses: what it asks for ends with an error, until it has let go of it */
static void run_force(void)
{
	static struct blk blk, next;
	unsigned int slot;

	if (!start())
		return;
	info("waiting");
	slot = wait_slot(PCIU);
	if (!check(slot != NO_SLOT, "a slot was filled") || !open_new(&blk, slot))
		return;
	info("plugged");
	if (!check_eq(wait_slot(PCID), slot, "the slot is to be emptied"))
		return;
	for (unsigned int i = 0; i < 3; i++)
		check_eq(blk_request(&blk, 0, BLK_T_IN, 0, blk.slot[0].data, SECTOR_LEN),
			 BLK_S_IOERR, "a read fails");
	check_eq(blk_request(&blk, 0, BLK_T_OUT, 0, blk.slot[0].data, SECTOR_LEN), BLK_S_IOERR,
		 "a write fails");
	info("lost");
	slot = wait_slot(PCIU);
	if (!check(slot != NO_SLOT && slot != blk.dev.pci->slot, "another slot is filled"))
		return;
	eject(&blk, blk.dev.pci->slot);
	if (!open_new(&next, slot))
		return;
	info("well");
	wait_slot(PCID);
	check(!reads(&next), "a read of the other one fails");
	info("lost both");
	for (;;)
		sleep_ms(POLL_MS);
}

/* lets go of what nobody wanted, then writes rubbish all over the registers */
static void run_rude(void)
{
	static struct blk blk;

	if (!start() || !blk_open(&blk, 0, false))
		return;
	mmio_write32(controller + B0EJ, UINT32_MAX);
	check(has_device(blk.dev.pci->slot) && reads(&blk), "the disk stays");
	write_rubbish(REGISTERS);
	mmio_write32(controller + PSEG, 0);
	mmio_write32(controller + PSEG, 0xffffffff);
	check_eq(mmio_read32(controller + PSEG), 0, "a segment that is not there is not chosen");
	check(has_device(blk.dev.pci->slot) && reads(&blk), "the disk still stays");
}

/* --- processors: vmm/acpi/cpu-hotplug.h --- */

#define CSEL          0x00
#define CPFL          0x04
#define CEVT          0x08
#define CSTS          0x0c
#define CPU_REGISTERS 0x10
#define CPU_PRESENT   1
#define CPU_COME      2
#define CPU_GO        4
#define CPU_EJECT     8

static bool wait_cpu(uint32_t cpu, uint32_t flag)
{
	uint32_t flags = wait_flag(CSEL, cpu, CPFL, flag);

	mmio_write32(controller + CPFL, flag);
	return check_eq(flags, CPU_PRESENT | flag, "processor %u: told of", cpu) &&
	       check_eq(mmio_read32(controller + CPFL), CPU_PRESENT, "and once");
}

static void answer_cpu(uint32_t cpu, uint32_t event, uint32_t status)
{
	mmio_write32(controller + CSEL, cpu);
	mmio_write32(controller + CEVT, event);
	mmio_write32(controller + CSTS, status);
}

static uint32_t eject_cpu(uint32_t cpu)
{
	mmio_write32(controller + CSEL, cpu);
	mmio_write32(controller + CPFL, CPU_EJECT);
	return mmio_read32(controller + CPFL);
}

/* Comes, is kept when it is asked for first, goes, and can come again. */
static void run_cpu(void)
{
	if (!start())
		return;
	for (unsigned int round = 0; round < 2; round++) {
		info("waiting %u", round);
		if (!wait_cpu(1, CPU_COME) || !check(ap_start(1), "processor 1 starts") ||
		    !wait_cpu(1, CPU_GO))
			return;
		answer_cpu(1, OST_EJECT, OST_BUSY);
		if (!wait_cpu(1, CPU_GO))
			return;
		check_eq(eject_cpu(1), 0, "the very next instruction finds it gone");
		/* twice */
		eject_cpu(1);
		answer_cpu(1, OST_EJECT, 0);
	}
}

/* Gives back what nobody wants, what is not there and itself, and writes rubbish. */
static void run_cpu_rude(void)
{
	if (!start())
		return;
	info("waiting");
	if (!wait_cpu(1, CPU_COME) || !check(ap_start(1), "processor 1 starts"))
		return;
	for (uint32_t cpu = 0; cpu < 4; cpu++)
		check_eq(eject_cpu(cpu), cpu < 2 ? CPU_PRESENT : 0, "processor %u stays as it is",
			 cpu);
	write_rubbish(CPU_REGISTERS);
	mmio_write32(controller + CSEL, 1);
	mmio_write32(controller + CSEL, 4);
	check_eq(mmio_read32(controller + CSEL), 1, "a processor that cannot be is not chosen");
	check_eq(mmio_read32(controller + CPFL), CPU_PRESENT, "processor 1 is still there");
	info("was rude");
	/* and goes when it is wanted */
	if (wait_cpu(1, CPU_GO))
		check_eq(eject_cpu(1), 0, "now it is gone");
}

/* --- memory: vmm/acpi/memory-hotplug.h --- */

#define MBASE          0x00
#define MLEN           0x08
#define MFLAGS         0x14
#define MSEL           0x00
#define MEVT           0x04
#define MSTS           0x08
#define MEMORY_SIZE    0x18
#define MEMORY_SLOTS   8
#define MEMORY_PRESENT 1
#define MEMORY_COME    2
#define OST_CHECK      1
#define OST_FAILURE    1
#define TOUCH_STEP     0x10000

static bool wait_memory(unsigned int slot)
{
	uint32_t flags = wait_flag(MSEL, slot, MFLAGS, MEMORY_COME);

	mmio_write32(controller + MFLAGS, MEMORY_COME);
	return check(flags == (MEMORY_PRESENT | MEMORY_COME), "slot %u was filled", slot) &&
	       check_eq(mmio_read32(controller + MFLAGS), MEMORY_PRESENT,
			"what has come is told once");
}

static void answer_memory(unsigned int slot, uint32_t status)
{
	mmio_write32(controller + MSEL, slot);
	mmio_write32(controller + MEVT, OST_CHECK);
	mmio_write32(controller + MSTS, status);
}

static uint64_t memory_register(uint32_t reg)
{
	return mmio_read32(controller + reg) |
	       (uint64_t)mmio_read32(controller + reg + sizeof(uint32_t)) << 32;
}

/* all of it is memory: empty, and keeps what is written */
static void touch_memory(unsigned int slot)
{
	uint64_t base, len, wrong = 0;

	mmio_write32(controller + MSEL, slot);
	base = memory_register(MBASE);
	len = memory_register(MLEN);
	info("slot %u: 0x%lx+0x%lx", slot, base, len);
	map_range(base, len);
	for (uint64_t at = base; at < base + len; at += TOUCH_STEP) {
		volatile uint64_t *p = (volatile uint64_t *)at;

		wrong += *p != 0;
		*p = at;
	}
	for (uint64_t at = base; at < base + len; at += TOUCH_STEP)
		wrong += *(volatile uint64_t *)at != at;
	check_eq(wrong, 0, "slot %u is memory", slot);
}

static void run_memory(void)
{
	if (!start())
		return;
	info("waiting");
	if (!wait_memory(0))
		return;
	touch_memory(0);
	answer_memory(0, 0);
	if (!wait_memory(1))
		return;
	answer_memory(1, OST_FAILURE);
	/* offered again */
	if (!wait_memory(1))
		return;
	touch_memory(1);
	answer_memory(1, 0);
	/* twice, and of slots that are empty */
	for (unsigned int i = 0; i < MEMORY_SLOTS; i++)
		answer_memory(i, 0);
}

/* answers what nobody asked, and writes rubbish */
static void run_memory_rude(void)
{
	if (!start())
		return;
	info("waiting");
	if (!wait_memory(0))
		return;
	touch_memory(0);
	write_rubbish(MEMORY_SIZE);
	mmio_write32(controller + MSEL, 0);
	check(memory_register(MLEN) != 0, "the memory stays");
	answer_memory(0, 0);
}

const struct scenario hotplug_scenarios[] = {
	{ "hotplug-pci", run_pci },
	{ "hotplug-refuse", run_refuse },
	{ "hotplug-force", run_force },
	{ "hotplug-rude", run_rude },
	{ "hotplug-cpu", run_cpu },
	{ "hotplug-cpu-rude", run_cpu_rude },
	{ "hotplug-memory", run_memory },
	{ "hotplug-memory-rude", run_memory_rude },
	{ 0 },
};
