/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiny guest: scenarios that drive the virtual machine monitor from inside
 *
 * The kernel command line chooses: `test=NAME[,NAME...] [key=value...]`. Numbers are decimal or
 * 0x-hexadecimal. Output goes to port 0xe9 and to COM1 (see report.h):
 *  - `ok NAME - text`
 *  - `not ok NAME - text (expected 0xX got 0xY)`
 *  - `# information`
 *  - `# skip NAME reason`: the machine lacks what the scenario needs
 *  - `done PASSED FAILED`: last line; then code 0x41 on port 0x80, then S5
 *
 * Code 0x40 on port 0x80 is the first thing done after entry. Unless said otherwise a scenario ends
 * by S5 (0x34 to port 0x600). An exception is one `not ok NAME - exception ...` line, `done`, S5.
 * Common arguments: `then=hlt|reset|triple` replaces the S5 after `done`; `out=e9|com1` leaves out
 * the other port; `ecam=ADDRESS` overrides the MCFG.
 *
 * Machine:
 *  - hello: prints the command line, hypervisor signature and time source
 *  - memmap: prints the PVH memory map as `# memmap ADDRESS SIZE TYPE`
 *  - mem-high: touches pages all over RAM below and above 4 GiB. size=MIB (expected sum, optional)
 *  - acpi: checksums, FADT, MADT, MCFG. cpus=N, max=N (optional)
 *  - reset-kbd: prints `boot N`; the first boot leaves a marker in RAM (7 MiB) and CMOS (0x50) and
 *    resets through port 0x64, the second says which marker survived and powers off. times=N (1).
 *    When no marker survives it resets for ever: count the `boot` lines
 *  - reset-acpi: the same through port 0x600
 *  - triple-fault: `done`, then faults
 *  - poweroff: `done`, then S5
 *  - hlt-forever: `done`, then CLI; HLT
 *  - spin-forever: `done`, then an endless loop with interrupts off
 *  - nmi: prints `# LINT1 VALUE` and `# waiting`, waits for an NMI. ms=N (10000), lint1=1
 *    (programs LINT1 first)
 *  - power-button: programs IOAPIC pin gsi=N, prints `# waiting`, expects bit 3 in the GED byte at
 *    addr=ADDRESS. ms=N (10000), bit=N (3)
 *  - serial-echo: interrupt-driven through the IOAPIC: prints `# waiting`, echoes what COM1
 *    receives (there only, also with out=e9) until `q`. ms=N (10000) of silence is a failure
 *  - exception: a #UD on purpose: one `not ok` line about vector 6 is what is right
 *
 * Time:
 *  - count: prints `# tick N` at each timer tick. hz=N (10), count=N (0 = for ever)
 *  - ticks: the same, silent: the low byte of N to port 0x80
 *  - pmtimer: PM timer monotonic and in step with the TSC
 *  - gap: `# gap N ns` for each window: the longest time the processor was away. ms=N (200),
 *    windows=N (0 = for ever)
 *  - rtc: CMOS time is plausible BCD, and moves on
 *
 * Processors:
 *  - smp: starts every other processor of the MADT, each answers IPIs. cpus=N (expected,
 *    optional), rounds=N (8)
 *
 * PCI:
 *  - pci-enum: walks ECAM and 0xcf8 and compares, sizes all BARs, checks capability lists; prints
 *    `# device SLOT.F VENDOR:DEVICE class C revision R` and each BAR
 *  - activate: brings every virtio device to DRIVER_OK with all of its queues, prints
 *    `# active TYPE NTH` and leaves it so: what an idle driver's device costs the host
 *  - bar-move: moves the BAR of a virtio-blk (else rng) device and back, the device works each
 *    time. to=ADDRESS (optional)
 *  - msix-mask: masked vector, PBA, unmask, function mask, change while masked, flips under load,
 *    all on virtio-blk. count=N (32), depth=N (8)
 *
 * Devices (nth=N picks the device of that type, default 0):
 *  - blk-rw: capacity, read, write, read back, flush, GET_ID (`# serial TEXT`). sectors=N
 *    (expected capacity, optional), pattern=N (1: seed of what is written and left there), at=N
 *    (8: sector), n=N (8: sectors)
 *  - blk-read: expects what blk-rw with the same pattern=, at=, n= wrote
 *  - blk-ro: VIRTIO_BLK_F_RO offered, writes fail, reads work
 *  - blk-oob: past the end, across the end, wrapping sector: IOERR
 *  - blk-mq: all queues at once, one vector each. queues=N (expected num_queues, optional)
 *  - pmem: the host's bytes in the memory, ours in the file; flush, and malformed requests
 *  - blk-ranges: discard and write zeroes, and every way to ask for them wrongly
 *  - blk-indirect: indirect descriptors
 *  - blk-eventidx: used_event and avail_event
 *  - blk-load: count=N (64) reads with depth=N (16, at most 32) of them in flight, interrupt-driven
 *  - net-loop: sends frames (EtherType 0x88b5) and expects each back. count=N (16)
 *  - net-arp: asks who has ip=ADDRESS until there are count=N (1; 0 = for ever) answers, prints
 *    `# link up` or `down` when that changes, and `# answered` once. tries=N (100)
 *  - net-ctrl: control queue: MQ pairs, unknown class
 *  - rng: fills buffers. len=N (64), count=N (4)
 *  - console: text=TEXT (hello-console) to virtio-console; with echo=1 it then prints `# waiting`,
 *    wants a line of input and prints it as `# input TEXT`
 *  - balloon: inflates, deflates and reports pages, which are empty afterwards
 *  - balloon-bad: page numbers that are not RAM
 *  - virtio-rtc: prints `# rtc SECONDS`
 *  - pvpanic: event=N (1: the byte written), then 3 flood=N (0) times
 *  - watchdog: prints `# watchdog is new`, arms it with count=N (10) and feeds it for 1.5 s, then
 *    prints `# starving` and waits; after a reset `# watchdog has expired`. port=N (0x620)
 *  - fw-cfg: prints `# NAME SIZE TEXT` of file=NAME (opt/test); DMA, good and bad
 *  - vsock: connects to port=N (80) of the host, which echoes; with refused=1 nobody may be there
 *  - vsock-echo: prints `# listening` and echoes for count=N (1) connections of the host
 *  - hotplug-pci: rounds=N (1): prints `# waiting ROUND`, uses the disk that is plugged in, prints
 *    `# plugged ROUND`, and ejects it when asked to. addr=ADDRESS of the controller, in all four
 *  - hotplug-refuse: the same, but says no when asked for the first time (`# refused`)
 *  - hotplug-force: uses a disk that is taken away while it does (`# plugged`, `# lost`), then
 *    another one (`# well`), which it loses too (`# lost both`)
 *  - hotplug-rude: ejects what it was not asked for and writes rubbish to the registers. seed=N
 *    (1), count=N (512)
 *  - hotplug-cpu: starts processor 1, keeps it when asked for it first, gives it back; twice.
 *    addr=ADDRESS of the controller, as in all that follow
 *  - hotplug-cpu-rude: gives back what nobody wants and writes rubbish; `# was rude`, then gives
 *    processor 1 back. seed=N (1), count=N (1024)
 *  - hotplug-memory: takes the memory of slot 0, refuses that of slot 1, takes it then
 *  - hotplug-memory-rude: takes slot 0, writes rubbish. seed=N (1), count=N (1024)
 *  - vsock-misuse: connections of the host to port 1024, which say `ping`, one after the other,
 *    each misused in another way and ended by RST
 *  - vmgenid: prints `# generation HEX`, then with overwrite=1 writes over its page
 *
 * Malformed drivers (dev=blk|net|rng|console|rtc|vsock|balloon|report|pmem|iommu|all, default all;
 * report is the balloon's other queue, iommu wants the rng behind it; victims=N: how many of them
 * there are to be). Each case wants a completion
 * that reports no success, or DEVICE_NEEDS_RESET (`# CASE on DEV: ...` says which), and then that
 * the device works after a reset. lenient=1 wants only the last (peers that let devices reach
 * outside RAM; bar-move then takes any value from where nothing answers).
 *  - bad-loop, bad-next, bad-index: descriptor loops, next and head outside the table
 *  - bad-addr, bad-len: wild addresses, lengths that wrap, cross the end of RAM, add up to more
 *    than 4 GiB
 *  - bad-avail-jump: avail index ahead by more than the ring
 *  - bad-indirect-nested, bad-indirect-size: indirect tables: nested, looping, of odd or huge
 *    length, outside RAM, not negotiated
 *  - bad-rw-order: readable after writable
 *  - bad-queue-addr, bad-queue-size: ring addresses and sizes before enabling
 *  - bad-notify: doorbells of other queues, odd widths, before DRIVER_OK. seed=N (1)
 *  - bad-config: odd-sized, unaligned, out-of-range accesses all over the BAR. seed=N (1)
 *  - bad-status: random status sequences, features never offered, no VERSION_1. seed=N (1),
 *    count=N (64)
 *  - bad-header: blk and net headers: short, missing status, unknown type, overflowing sector.
 *    first=N (0) leaves out the cases before number N
 *  - bad-request: vsock, balloon, pmem, iommu and rtc: requests that are well-formed and wrong,
 *    each with the answer that the specification has for it
 *  - bad-noise: no virtio: fw_cfg and its DMA, watchdog, pvpanic: accesses of every width at every
 *    place. seed=N (1). The watchdog's action is to let the guest live
 *  - bad-storm: random rings and, unless registers=0, registers. seed=N (1), count=N (64)
 *  - bad-race: prints `# racing`; then one processor cycles the devices, one moves BARs and masks,
 *    the others (from the fourth: again in that order) flood. Two processors at least. seed=N (1),
 *    ms=N (1000)
 *
 * Measured from outside between codes 0x42 and 0x43 on port 0x80 (tests/bench):
 *  - bench-blk: count=N (1000) requests of size=BYTES (4096, a multiple of that), depth=N (1) in
 *    flight, at random or with seq=1 in order; write=1 writes
 *  - bench-net-tx: sends count=N (1000) frames of size=BYTES (64) as fast as they are taken
 *  - bench-net-rx: takes count=N (1000) frames; the first, before 0x42, is not counted
 */
#include <stddef.h>

#include "tests/kvm/guest/cpu.h"
#include "tests/kvm/guest/io.h"
#include "tests/kvm/guest/platform.h"
#include "tests/kvm/guest/report.h"
#include "tests/kvm/guest/scenario.h"

static const struct scenario *const groups[] = {
	machine_scenarios, time_scenarios,  pci_scenarios,     msix_scenarios,   smp_scenarios,
	blk_scenarios,     net_scenarios,   stream_scenarios,  ring_scenarios,   register_scenarios,
	header_scenarios,  storm_scenarios, race_scenarios,    bench_scenarios,  small_scenarios,
	pmem_scenarios,    vsock_scenarios, hotplug_scenarios, misuse_scenarios, noise_scenarios,
};

_Noreturn void guest_main(const struct hvm_start_info *hvm);

static const struct scenario *find(const char *name)
{
	for (unsigned int i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		for (const struct scenario *s = groups[i]; s->name; s++)
			if (string_equal(s->name, name))
				return s;
	return NULL;
}

static void run_named(const char *name)
{
	const struct scenario *scenario = find(name);

	report_scenario(name);
	if (!scenario) {
		check(false, "there is no such scenario");
		return;
	}
	scenario->run();
}

static _Noreturn void finish(void)
{
	char then[16] = "";

	report_done();
	arg_get("then", then, sizeof(then));
	if (string_equal(then, "triple"))
		triple_fault();
	if (string_equal(then, "reset"))
		outb(PORT_I8042_COMMAND, 0xfe);
	while (string_equal(then, "hlt") || string_equal(then, "reset"))
		__asm__ volatile("cli; hlt");
	power_off();
}

void guest_main(const struct hvm_start_info *hvm)
{
	char tests[512] = "hello";

	platform_init(hvm);
	report_init();
	report_scenario("boot");
	cpu_init();
	if (hvm->magic != HVM_START_MAGIC)
		check_eq(hvm->magic, HVM_START_MAGIC, "hvm_start_info magic");
	arg_get("test", tests, sizeof(tests));
	for (char *name = tests; *name;) {
		char *end = name;

		while (*end && *end != ',')
			end++;
		if (*end)
			*end++ = '\0';
		run_named(name);
		name = end;
	}
	finish();
}
