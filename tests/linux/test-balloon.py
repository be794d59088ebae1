#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-balloon with the stock driver: the host really has the memory, and the guest has it back."""
# timeout: 600
import re
import time

import bus
import guest
import tap

MIB = 1 << 20


def rss(vm):
    """What the worker has of the host's memory, in bytes."""
    with open(f"/proc/{vm.get('MainPID')}/smaps_rollup") as f:
        return int(re.search(r"^Rss:\s+(\d+)", f.read(), re.M).group(1)) << 10


def set_balloon(vm, size):
    bus.must(bus.vm(vm.name, "SetBalloon", f"uint64 {size}", bus.options()))


def statistics(vm):
    return bus.get(f"{vm.path}/device/{bus.encode('__balloon')}", f"{bus.NAME}.Device.Balloon",
                   "Statistics")


def fill(console, mib):
    """Makes the guest use memory and give it back to itself."""
    console.check("mount -t tmpfs -o size=90% tmpfs /mnt")
    console.check(f"dd if=/dev/zero of=/mnt/file bs=1M count={mib}", 120)


@tap.test("inflate, deflate, out of memory, statistics")
def test_balloon(t):
    config = guest.config(memory=512 * MIB, balloon={"deflate_on_oom": True,
                                                     "statistics_interval": 1})
    with guest.Machine("balloon", config) as vm:
        console = vm.boot()
        fill(console, 256)
        console.check("rm /mnt/file")
        before = rss(vm)
        t.true(before > 256 * MIB, f"the worker has {before // MIB} MiB")
        set_balloon(vm, 256 * MIB)
        t.eventually(lambda: vm.get("Balloon") == 256 * MIB, "the guest to give 256 MiB", 60)
        t.equal(vm.get("BalloonTarget"), 256 * MIB)
        t.eventually(lambda: rss(vm) < before - 200 * MIB, "the worker to have 200 MiB less", 20)
        tap.diag(f"{before // MIB} MiB, with 256 MiB in the balloon {rss(vm) // MIB} MiB")
        t.eventually(lambda: statistics(vm).get("free_memory", 1 << 40) < 260 * MIB,
                     "the statistics to say so", 20)
        tap.diag(f"statistics: {statistics(vm)}")
        free = int(re.search(r"MemFree:\s+(\d+)", console.check("cat /proc/meminfo")).group(1))
        t.true(free < 260 << 10, f"the guest has {free} KiB free")

        set_balloon(vm, 0)
        t.eventually(lambda: vm.get("Balloon") == 0, "the guest to have its memory back", 60)
        fill(console, 256)
        console.check("rm /mnt/file; umount /mnt; umount /mnt")

        # more than fits: the balloon gives way before the guest kills anybody
        set_balloon(vm, 256 * MIB)
        t.eventually(lambda: vm.get("Balloon") == 256 * MIB, "the guest to give 256 MiB", 60)
        console.check("mount -t tmpfs -o size=95% tmpfs /mnt")
        console.check("dd if=/dev/zero of=/mnt/file bs=1M count=280", 120)
        t.true(vm.get("Balloon") < 256 * MIB, "the balloon gave way")
        t.equal(guest.complaints(console, "Out of memory|oom-kill"), [], "dmesg")


@tap.test("free page reporting gives back what the guest does not use")
def test_reporting(t):
    config = guest.config(memory=512 * MIB, balloon={"free_page_reporting": True})
    with guest.Machine("reporting", config) as vm:
        console = vm.boot()
        fill(console, 256)
        used = rss(vm)
        t.true(used > 256 * MIB, f"the worker has {used // MIB} MiB")
        start = time.monotonic()
        console.check("rm /mnt/file")
        t.eventually(lambda: rss(vm) < used - 200 * MIB, "the worker to have 200 MiB less", 60)
        tap.diag(f"{used // MIB} MiB, {time.monotonic() - start:.0f} s later {rss(vm) // MIB} MiB")
        counters = bus.must(bus.vm(vm.name, "GetCounters", bus.options())).text
        t.match(counters, r"'reported_bytes': (uint64 )?\d{9}")
        # and it is there again when it is wanted
        fill(console, 256)
        console.check("md5sum /mnt/file")
        t.equal(guest.complaints(console), [], "dmesg")


tap.main()
