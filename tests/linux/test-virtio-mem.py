#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Memory that comes and goes while a stock Debian kernel runs: by virtio-mem, in one piece and in zones. The
host has back what the guest gives back; a guest that needs it keeps it, and is said to.
"""
# timeout: 600
import os

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
NAME = "blocks"
# movable: where the kernel keeps things of its own it never gives a block back
ONLINE = ("echo online_movable > /sys/devices/system/memory/auto_online_blocks; "
          "for s in /sys/devices/system/memory/memory*/state; do grep -q offline $s && echo online_movable > $s; done; true")


def wait_for(console, test, seconds=60):
    console.check(f"for i in $(seq {seconds * 5}); do {test} && exit 0; sleep 0.2; done; exit 1", seconds + 30)


def resize(mib, timeout=60, **options):
    return bus.vm(NAME, "ResizeMemory", str(mib * MIB),
                  bus.options(TimeoutUSec=timeout * 1000000, Wait=True, **options), timeout=timeout + 30)


def resize_zone(zone, mib, timeout=60, **options):
    return bus.vm(NAME, "ResizeMemoryZone", bus.text(zone), str(mib * MIB),
                  bus.options(TimeoutUSec=timeout * 1000000, Wait=True, **options), timeout=timeout + 30)


def sizes(vm):
    return tuple(vm.get(p) // MIB for p in ("Memory", "MemoryTarget", "MemoryMax"))


def total(console):
    """MiB that the guest's kernel has."""
    return int(console.check("awk '/^MemTotal/ {print $2}' /proc/meminfo")) >> 10


def resident(vm):
    """MiB of the worker, RAM and all."""
    with open(f"/proc/{vm.get('MainPID')}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // MIB


@tap.test("up, down, as far as the guest goes, and there after a reboot")
def test_blocks(t):
    config = guest.config(2)
    config["memory"].update(hotplug_method="VirtioMem", hotplug_size=2048 * MIB, hotplugged_size=128 * MIB)
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        # what came before this was said is there, and off line
        console.check(ONLINE)
        wait_for(console, "test -d /sys/bus/virtio/drivers/virtio_mem/virtio*")
        wait_for(console, f"[ $(awk '/^MemTotal/ {{print $2}}' /proc/meminfo) -gt {560 << 10} ]")
        t.equal(sizes(vm), (640, 640, 2560), "Memory, MemoryTarget, MemoryMax: what it was started with")
        first = total(console)
        bus.must(resize(1536))
        t.equal(sizes(vm), (1536, 1536, 2560))
        wait_for(console, f"[ $(awk '/^MemTotal/ {{print $2}}' /proc/meminfo) -gt {(first + 800) << 10} ]")
        t.equal(vm.get("RestartRequired"), True)
        console.check("mkdir -p /tmp/big && mount -t tmpfs -o size=1200M none /tmp/big")
        console.check("for i in $(seq 16); do dd if=/dev/zero of=/tmp/big/$i bs=1M count=36 2>/dev/null || exit 1; done",
                      300)
        used = resident(vm)
        t.true(used > 576, f"the worker has {used} MiB")
        # too little time: it keeps what it has then, and the job says how much
        r = bus.vm(NAME, "ResizeMemory", str(512 * MIB), bus.options(TimeoutUSec=50000, Wait=True))
        t.equal((r.ok, r.error), (False, f"{bus.NAME}.GuestTimeout"), r.text)
        t.match(r.text, r"has \d+ bytes of memory, not the 536870912 that were asked for: it did not get there in time")
        for _ in range(50):
            kept, target, _ = sizes(vm)
            if target == kept:
                break
            console.check("sleep 0.2")
        t.true(512 < kept <= 1536 and target == kept, f"{kept} MiB, {target} to be had")
        console.check("umount /tmp/big")
        bus.must(resize(512, timeout=120))
        t.equal(sizes(vm), (512, 512, 2560))
        t.equal(vm.get("RestartRequired"), True, "it was started with 640")
        left = resident(vm)
        t.true(left < used - 384, f"the host has its memory back: {used} MiB, then {left}")
        bus.must(resize(640))
        t.equal(vm.get("RestartRequired"), False)
        r = resize(448)
        t.match(r.text, "cannot have 469762048 bytes of memory (.*) while it runs, must be at least the 536870912")
        t.match(resize(641).text, "which must be a multiple of 2097152")
        t.match(resize(2562).text, "must be at most 2684354560")
        bus.must(resize(1024, Persist=True))
        console.send("reboot -f\n")
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        wait_for(console, "test -d /sys/bus/virtio/drivers/virtio_mem/virtio*")
        console.check(ONLINE)
        for _ in range(100):
            if sizes(vm) == (1024, 1024, 2560):
                break
            console.check("sleep 0.2")
        t.equal(sizes(vm), (1024, 1024, 2560), "after a reboot")
        text = bus.must(bus.vm(NAME, "GetConfig", "'next'")).text
        t.match(text, r'"hotplugged_size": ?536870912')
        t.equal(guest.complaints(console, "ACPI|memory|hotplug|virtio"), [], "dmesg")


@tap.test("two zones, each with a node and a size of its own")
def test_zones(t):
    config = guest.config(2, memory=0, numa=[
        {"guest_numa_id": 0, "cpus": [0], "memory_zones": ["near"]},
        {"guest_numa_id": 1, "cpus": [1], "memory_zones": ["far"]}])
    config["memory"] = {"size": 0, "hotplug_method": "VirtioMem", "zones": [
        {"id": "near", "size": 384 * MIB, "hotplug_size": 512 * MIB},
        {"id": "far", "size": 128 * MIB, "hotplug_size": 1024 * MIB}]}
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        console.check(ONLINE)
        t.equal(sizes(vm), (512, 512, 2048))
        bus.must(resize_zone("far", 640))
        t.equal(sizes(vm), (1024, 1024, 2048))
        node = "/sys/devices/system/node/node1/meminfo"
        wait_for(console, f"[ $(awk '/MemTotal/ {{print $4}}' {node}) -gt {540 << 10} ]")
        bus.must(resize_zone("near", 512))
        t.equal(sizes(vm), (1152, 1152, 2048))
        bus.must(resize_zone("far", 128, timeout=120))
        t.equal(sizes(vm), (640, 640, 2048))
        t.match(resize_zone("nowhere", 128).text, "has no memory zone 'nowhere', must be one of /memory/zones")
        t.match(resize_zone("far", 64).text, "must be at least the 134217728 that it was started with")
        t.match(resize(1024).text, "ResizeMemoryZone changes one")
        t.match(bus.must(bus.vm(NAME, "GetConfig", "'boot'")).text, r'"hotplugged_size": ?134217728')
        t.equal(guest.complaints(console, "ACPI|memory|hotplug|virtio|NUMA|SRAT"), [], "dmesg")


tap.main()
