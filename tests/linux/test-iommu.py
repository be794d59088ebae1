#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-iommu: a stock driver maps what disks, network and entropy source use."""
# timeout: 500
# needs: full-kernel
import glob
import hashlib
import os
import subprocess

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
DIR = "/var/tmp"
KERNEL = "/srv/full-kernel"


def mount_kernel():
    """The host's disk with that serial number, see tests/rig/full_kernel.py."""
    if os.path.ismount(KERNEL):
        return
    os.makedirs(KERNEL, exist_ok=True)
    for path in glob.glob("/sys/block/vd*/serial"):
        with open(path, encoding="ascii") as f:
            if f.read().strip() == "full-kernel":
                subprocess.run(["mount", "-t", "ext4", "-o", "ro", f"/dev/{path.split('/')[3]}",
                                KERNEL], check=True)
                return
    raise AssertionError("this host has no disk 'full-kernel'")


def config(**more):
    c = guest.config(2, **more)
    c["payload"]["kernel"] = f"{KERNEL}/vmlinuz"
    c["payload"]["initramfs"] = f"{KERNEL}/guest-initramfs"
    c["payload"]["cmdline"] += " iommu.strict=1"
    return c


def counters(name):
    return bus.must(bus.vm(name, "GetCounters", bus.options()))


def complaints(console):
    """
    Kernel messages of level warning or worse about our platform, picked in the guest: a long log
    takes minutes over an emulated serial port.
    """
    about = "ACPI|NUMA|SRAT|SLIT|VIOT|iommu|pci|PCI|virtio|MSI|irq"
    # a newer kernel than the others: it misses frequency scaling, which no guest has
    return console.run(f"dmesg -r | grep -E '^<[0-4]>' | grep -E '{about}' | grep -v amd_pstate")[0].splitlines()


@tap.test("devices behind the IOMMU do their work, the others beside them")
def test_work(t):
    mount_kernel()
    content = os.urandom(8 * MIB)
    paths = []
    for n in ("behind", "beside", "segment"):
        paths.append(guest.sparse_file(f"{DIR}/iommu-{n}", 32 * MIB))
        t.cleanup(guest.unlink, paths[-1])
    with open(paths[0], "r+b") as f:
        f.write(content)
    disks = [{"path": paths[0], "iommu": True, "num_queues": 2}, {"path": paths[1]},
             {"path": paths[2], "iommu": True, "pci_segment": 1}]
    platform = {"num_pci_segments": 2, "iommu_segments": [1], "iommu_address_width_bits": 48}
    with guest.Machine("iommu", config(disks=disks, platform=platform,
                                       rng={"src": "/dev/urandom", "iommu": True})) as vm:
        console = vm.boot(300)
        groups = console.check("ls -d /sys/kernel/iommu_groups/*/devices/*").split()
        behind = sorted(g.rsplit("/", 1)[1] for g in groups)
        t.equal(len(behind), 3, f"devices in IOMMU groups: {behind}")
        t.true(any(d.startswith("0001:") for d in behind), "one is on segment 1")
        kinds = console.check("cat /sys/kernel/iommu_groups/*/type").split()
        t.true(all(k.startswith("DMA") for k in kinds), f"domains translate: {kinds}")

        # names follow the order of probing: find disks by their places
        where = {}
        for name in ("vda", "vdb", "vdc"):
            where[console.check(f"readlink -f /sys/block/{name}").split("/virtio")[0]] = name
        segment1 = next(n for p, n in where.items() if "0001:" in p)
        one = next(n for p, n in where.items() if p.rsplit("/", 1)[1] in behind and n != segment1)
        got = console.check(f"dd if=/dev/{one} bs=1M count=8 2>/dev/null | sha256sum").split()[0]
        t.equal(got, hashlib.sha256(content).hexdigest(), "read through the IOMMU")
        console.check("dd if=/dev/urandom of=/tmp/data bs=1M count=8")
        inside = console.check("sha256sum /tmp/data").split()[0]
        console.check(f"dd if=/tmp/data of=/dev/{segment1} bs=64k conv=fsync")
        with open(paths[2], "rb") as f:
            t.equal(hashlib.sha256(f.read(8 * MIB)).hexdigest(), inside, "written through it")
        t.equal(console.check("cat /sys/class/misc/hw_random/rng_current").split(".")[0], "virtio_rng")
        t.equal(console.check("dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c").strip(), "2048")
        t.equal(complaints(console), [], "dmesg")
        text = str(counters("iommu"))
        t.true("__iommu" in text and "'maps'" in text, f"counters: {text[:600]}")

        # one that comes and goes: on a segment that the guest knows to be behind it, and on no other
        late = guest.sparse_file(f"{DIR}/iommu-late", 8 * MIB)
        t.cleanup(guest.unlink, late)
        with open(late, "r+b") as f:
            f.write(b"came late")
        add = ("AddDevice", "'disk'", "'late'")
        r = bus.vm("iommu", *add, bus.options(path=late, iommu=True), "@a{sh} {}", bus.options())
        t.match(r.text, "/disks/3/iommu: cannot be added while the machine runs, but on a segment of "
                        "/platform/iommu_segments")
        for _ in range(2):
            bus.must(bus.vm("iommu", *add, bus.options(path=late, iommu=True, pci_segment=("uint32", 1)),
                            "@a{sh} {}", bus.options()))
            console.check("for i in $(seq 300); do test -b /dev/vdd && exit 0; sleep 0.2; done; exit 1", 90)
            t.equal(console.check("dd if=/dev/vdd bs=9 count=1 iflag=fullblock 2>/dev/null"), "came late")
            t.equal(len(console.check("ls -d /sys/kernel/iommu_groups/*/devices/*").split()), 4, "in groups")
            bus.must(bus.vm("iommu", "RemoveDevice", "'late'", bus.options(Wait=True), timeout=90))
            t.equal(len(console.check("ls -d /sys/kernel/iommu_groups/*/devices/*").split()), 3, "in groups")

        # a reset of the machine begins without mappings
        bus.must(bus.vm("iommu", "Reset", bus.options()))
        console.wait(rf"\n{guestconsole.READY}\s", 300, "the guest to come back")
        got = console.check(f"dd if=/dev/{one} bs=1M count=8 2>/dev/null | sha256sum").split()[0]
        t.equal(got, hashlib.sha256(content).hexdigest(), "read after a reset")


tap.main()
