#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Memory that comes while a stock Debian kernel runs: by ACPI, used, refused, and there after a reboot.
"""
# timeout: 500
import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
NAME = "grow"
DISK = "/var/tmp/grow.raw"


def wait_for(console, test, seconds=60):
    console.check(f"for i in $(seq {seconds * 5}); do {test} && exit 0; sleep 0.2; done; exit 1", seconds + 30)


def grow(mib, timeout=120, **options):
    return bus.vm(NAME, "ResizeMemory", str(mib * MIB),
                  bus.options(TimeoutUSec=timeout * 1000000, Wait=True, **options), timeout=timeout + 30)


def sizes(vm):
    return tuple(vm.get(p) // MIB for p in ("Memory", "MemoryTarget", "MemoryMax"))


def total(console):
    """MiB that the guest's kernel has."""
    return int(console.check("awk '/^MemTotal/ {print $2}' /proc/meminfo")) >> 10


@tap.test("memory comes, is used, and is there after a reboot")
def test_memory(t):
    guest.sparse_file(DISK, 64 * MIB)
    t.cleanup(guest.unlink, DISK)
    config = guest.config(2)
    config["memory"]["hotplug_size"] = 2048 * MIB
    config["disks"] = [{"path": DISK, "id": "data"}]
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        first = total(console)
        t.equal(sizes(vm), (512, 512, 2560), "Memory, MemoryTarget, MemoryMax")
        console.check("echo online > /sys/devices/system/memory/auto_online_blocks")
        bus.must(grow(768))
        t.equal(sizes(vm), (768, 768, 2560))
        wait_for(console, f"test $(awk '/^MemTotal/ {{print $2}}' /proc/meminfo) -gt {(first + 240) << 10}")
        bus.must(grow(1024))
        t.equal(sizes(vm), (1024, 1024, 2560))
        wait_for(console, f"test $(awk '/^MemTotal/ {{print $2}}' /proc/meminfo) -gt {(first + 500) << 10}")
        t.equal(vm.get("RestartRequired"), True)
        # more than there was at first, read from a disk by DMA
        console.check("dd if=/dev/urandom of=/dev/vda bs=1M count=32 conv=fsync 2>/dev/null", 120)
        console.check("mkdir -p /tmp/big && mount -t tmpfs -o size=900M none /tmp/big")
        console.check("for i in $(seq 18); do dd if=/dev/vda of=/tmp/big/$i bs=1M count=32 iflag=direct "
                      "2>/dev/null || exit 1; done", 300)
        console.check("for i in 2 7 12 18; do cmp /tmp/big/1 /tmp/big/$i || exit 1; done", 300)
        console.check("umount /tmp/big")
        r = grow(640)
        t.equal((r.ok, r.error), (False, "org.freedesktop.DBus.Error.InvalidArgs"), r.text)
        t.match(r.text, "cannot have 671088640 while it runs")
        r = grow(1025)
        t.match(r.text, "must be a multiple of 134217728")
        r = grow(4096)
        t.match(r.text, r"must be at most 2684354560 \(/memory/hotplug_size\)")
        for n in range(6):
            bus.must(grow(1024 + 128 * (n + 1)))
        t.equal(sizes(vm), (1792, 1792, 2560), "with eight DIMMs")
        r = grow(1920)
        t.equal(r.ok, False, "a ninth DIMM")
        t.match(r.text, "all 8 memory slots are in use")
        t.equal(guest.complaints(console, "ACPI|memory|hotplug"), [], "dmesg")
        console.send("reboot -f\n")
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(total(console) > first + 1150, True, f"{total(console)} MiB after a reboot, {first} at first")
        t.equal(sizes(vm), (1792, 1792, 2560), "after a reboot")
        console.check("echo online > /sys/devices/system/memory/auto_online_blocks")
        bus.must(grow(1920, Persist=True))
        t.equal(sizes(vm), (1920, 1920, 2560), "slots are free again")
        t.equal(vm.get("RestartRequired"), False)
        t.equal(guest.complaints(console, "ACPI|memory|hotplug"), [], "dmesg")


tap.main()
