#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""PCI segments, memory zones and NUMA nodes, as a stock guest sees them."""
# timeout: 500
import os
import re

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
DIR = "/var/tmp"


def files(t, *names, size=8 * MIB):
    paths = []
    for name in names:
        path = guest.sparse_file(f"{DIR}/topology-{name}", size)
        t.cleanup(guest.unlink, path)
        paths.append(path)
    return paths


def two_nodes(disks, zone_file):
    """Two nodes with a zone and a PCI segment each; the second zone is a file of the host's."""
    c = guest.config(3, memory=0, disks=disks, numa=[
        {"guest_numa_id": 0, "cpus": [0, 2], "memory_zones": ["near"], "pci_segments": [0],
         "distances": [{"destination": 1, "distance": 31}]},
        {"guest_numa_id": 1, "cpus": [1], "memory_zones": ["far"], "pci_segments": [1]}])
    c["memory"] = {"size": 0, "zones": [
        {"id": "near", "size": 320 * MIB, "host_numa_node": 0},
        {"id": "far", "size": 256 * MIB, "file": zone_file, "shared": True}]}
    c["platform"] = {"num_pci_segments": 3}
    c["pci_segments"] = [{"pci_segment": 1, "mmio32_aperture_weight": 4,
                          "mmio64_aperture_weight": 2}]
    return c


def complaints(console):
    """
    Kernel messages of level warning or worse about our platform, picked in the guest: a long log
    takes minutes over an emulated serial port.
    """
    about = "ACPI|NUMA|SRAT|SLIT|VIOT|iommu|pci|PCI|virtio|MSI|irq"
    return console.run(f"dmesg -r | grep -E '^<[0-4]>' | grep -E '{about}'")[0].splitlines()


@tap.test("three segments, two zones and two nodes")
def test_two_nodes(t):
    one, two, three, zone = files(t, "one", "two", "three", "zone")
    with open(two, "r+b") as f:
        f.write(b"on segment 1, slot 0")
    disks = [{"path": one}, {"path": two, "pci_segment": 1, "pci_device_id": 0},
             {"path": three, "pci_segment": 2, "pci_device_id": 31, "num_queues": 2}]
    with guest.Machine("nodes", two_nodes(disks, zone)) as vm:
        console = vm.boot()
        devices = console.check("ls /sys/bus/pci/devices").split()
        t.true({"0000:00:00.0", "0001:00:00.0", "0002:00:1f.0"} <= set(devices), f"{devices}")
        t.equal(len([d for d in devices if d.startswith("0001:")]), 1, "devices of segment 1")
        for name, place in (("vdb", "0001:00:00.0"), ("vdc", "0002:00:1f.0")):
            t.true(place in console.check(f"readlink -f /sys/block/{name}"), f"{name} is at {place}")
        t.equal(console.check("dd if=/dev/vdb bs=20 count=1 2>/dev/null"), "on segment 1, slot 0")
        console.check("dd if=/dev/urandom of=/dev/vdc bs=1M count=4 conv=fsync")

        node = "/sys/devices/system/node"
        t.equal(console.check(f"cat {node}/online"), "0-1")
        t.equal(console.check(f"cat {node}/node0/cpulist"), "0,2")
        t.equal(console.check(f"cat {node}/node1/cpulist"), "1")
        t.equal(console.check(f"cat {node}/node0/distance").split(), ["10", "31"])
        t.equal(console.check(f"cat {node}/node1/distance").split(), ["31", "10"])
        for n, size in ((0, 320), (1, 256)):
            total = re.search(r"MemTotal:\s+(\d+) kB", console.check(f"cat {node}/node{n}/meminfo"))
            mib = int(total.group(1)) / 1024
            t.true(size - 96 <= mib <= size, f"node {n} has {mib:.0f} MiB of {size}")
        t.equal(console.check("cat /sys/bus/pci/devices/0001:00:00.0/numa_node"), "1")
        t.equal(console.check("cat /sys/bus/pci/devices/0000:00:00.0/numa_node"), "0")
        t.equal(complaints(console), [], "dmesg")
        t.equal(vm.get("Memory"), 576 * MIB, "Memory")

        # what the guest writes to its second node is in the file
        t.equal(os.path.getsize(zone), 256 * MIB, "the zone's file has grown")
        console.check("mkdir -p /tmp/far && mount -t tmpfs -o mpol=bind:1 tmpfs /tmp/far")
        console.check("for i in $(seq 2000); do echo the-mark-of-the-second-zone; done > /tmp/far/x")
        with open(zone, "rb") as f:
            t.true(any(b"the-mark-of-the-second-zone" in f.read(16 * MIB) for _ in range(16)),
                   "the guest's text is in the zone's file")

        # a reset keeps the file, and the machine comes up with it
        bus.must(bus.vm("nodes", "Reset", bus.options()))
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(console.check(f"cat {node}/online"), "0-1")


@tap.test("what comes while the guest runs belongs to its node")
def test_late(t):
    disk, = files(t, "late")
    # a node with nothing in it is none to Linux: one processor of each is there
    c = guest.config(2, numa=[{"guest_numa_id": 0, "cpus": [0, 2], "pci_segments": [0]},
                              {"guest_numa_id": 1, "cpus": [1, 3], "pci_segments": [1]}])
    c["cpus"]["max_vcpus"] = 4
    c["memory"]["hotplug_size"] = 512 * MIB
    c["platform"] = {"num_pci_segments": 2}
    node = "/sys/devices/system/node"
    cpus = "/sys/devices/system/cpu"
    with guest.Machine("late", c) as vm:
        console = vm.boot()
        bus.must(bus.vm("late", "AddDevice", "'disk'", "'late'", bus.options(path=disk, pci_segment=("uint32", 1)),
                        "@a{sh} {}", bus.options()))
        console.check("for i in $(seq 300); do test -b /dev/vda && exit 0; sleep 0.2; done; exit 1", 90)
        place = console.check("readlink -f /sys/block/vda").split("/virtio")[0].rsplit("/", 1)[1]
        t.true(place.startswith("0001:"), f"the disk is at {place}")
        t.equal(console.check(f"cat /sys/bus/pci/devices/{place}/numa_node"), "1")
        console.check(f"( while sleep 0.3; do for f in {cpus}/cpu[1-9]*/online; do "
                      "test \"$(cat $f)\" = 0 && echo 1 > $f; done; done ) >/dev/null 2>&1 &")
        bus.must(bus.vm("late", "ResizeVCPUs", "4", bus.options(Wait=True), timeout=90))
        console.check("for i in $(seq 50); do [ $(nproc) = 4 ] && exit 0; sleep 0.2; done; exit 1", 30)
        t.equal(console.check(f"cat {node}/node0/cpulist"), "0,2")
        t.equal(console.check(f"cat {node}/node1/cpulist"), "1,3")
        console.check("echo online > /sys/devices/system/memory/auto_online_blocks")
        size = vm.get("Memory")
        bus.must(bus.vm("late", "ResizeMemory", str(size + 256 * MIB), bus.options(Wait=True), timeout=90))
        t.equal(vm.get("Memory"), size + 256 * MIB)
        console.check(f"for i in $(seq 50); do [ $(awk '/MemTotal/ {{print $4}}' {node}/node0/meminfo) -gt "
                      f"{(size >> 10) + 131072} ] && exit 0; sleep 0.2; done; cat {node}/node*/meminfo; exit 1", 30)
        t.equal(complaints(console), [], "dmesg")


@tap.test("more than one segment of disks")
def test_many(t):
    path, = files(t, "many", size=MIB)
    disks = [{"path": path, "readonly": True, "pci_segment": 1 + i // 32} for i in range(40)]
    with guest.Machine("many", guest.config(disks=disks, platform={"num_pci_segments": 3})) as vm:
        console = vm.boot()
        t.equal(console.check("ls /sys/block | grep -c ^vd"), "40")
        t.equal(console.check("ls -d /sys/bus/pci/devices/0001:* | wc -l").strip(), "32")
        t.equal(complaints(console), [], "dmesg")


tap.main()
