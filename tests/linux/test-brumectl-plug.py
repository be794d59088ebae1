#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
README's "Change a running machine" with a stock Debian guest: brumectl returns when the guest is done.
"""
# timeout: 400
import json

import bus
import guest
import tap

MIB = 1 << 20
NAME = "changed"
DISK = "/var/tmp/changed.raw"


def wait_for(console, test, seconds=60):
    console.check(f"for i in $(seq {seconds * 5}); do {test} && exit 0; sleep 0.2; done; exit 1", seconds + 30)


def amounts(what):
    shown = json.loads(bus.must_ctl("--json", what, NAME))
    return shown["actual"], shown["target"], shown["maximum"]


def by_itself(console):
    """What an administrator's udev rules do: what comes goes on line."""
    console.check("echo online > /sys/devices/system/memory/auto_online_blocks; "
                  "( while sleep 0.3; do for f in /sys/devices/system/cpu/cpu[1-9]*/online; do "
                  "test \"$(cat $f)\" = 0 && echo 1 > $f; done; done ) >/dev/null 2>&1 &")


@tap.test("a disk, processors and memory, with brumectl")
def test_change(t):
    guest.sparse_file(DISK, 32 * MIB)
    t.cleanup(guest.unlink, DISK)
    config = guest.config(1)
    config["cpus"]["max_vcpus"] = 4
    config["memory"]["hotplug_size"] = 1024 * MIB
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        by_itself(console)
        t.equal(bus.must_ctl("device", "add", NAME, "disk", f"path={DISK},serial=by-hand"), "_disk0\n")
        wait_for(console, "test -b /dev/vda")
        t.equal(console.check("cat /sys/block/vda/serial"), "by-hand")
        t.match(bus.must_ctl("device", "list", NAME), r"(?m)^_disk0 +disk +0000:00:\S+ +yes +present$")
        t.equal(bus.ctl("device", "remove", NAME, "_disk0")[:2], (0, ""))
        t.equal(console.run("ls -d /sys/block/vda")[1] != 0, True, "the disk is gone in the guest")
        t.true("_disk0" not in bus.must_ctl("device", "list", NAME), "the disk is gone on the bus")

        t.equal(bus.ctl("cpu", NAME, "4")[:2], (0, ""))
        wait_for(console, "[ $(nproc) = 4 ]", 10)
        t.equal(amounts("cpu"), (4, 4, 4))
        t.equal(bus.ctl("cpu", NAME, "1")[:2], (0, ""))
        t.equal((console.check("nproc"), amounts("cpu")), ("1", (1, 1, 4)))

        t.equal(bus.ctl("memory", NAME, "1G", "--persist")[:2], (0, ""))
        t.equal(amounts("memory"), (1024 * MIB, 1024 * MIB, 1536 * MIB))
        wait_for(console, "test $(awk '/^MemTotal/ {print $2}' /proc/meminfo) -gt 900000")
        t.equal(json.loads(bus.must_ctl("config", NAME, "--next"))["memory"]["size"], 1024 * MIB)
        t.equal(vm.get("RestartRequired"), False)
        t.equal(guest.complaints(console, r"ACPI|\bpci|PCI|virtio|memory|smpboot|APIC"), [], "dmesg")


tap.main()
