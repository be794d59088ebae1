#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Disks that change under a stock Debian kernel: larger and smaller, and with another image, while the
guest reads and writes them. Afterwards the host finds in the images what the guest wrote.
"""
# timeout: 600
import os
import subprocess

import bus
import guest
import tap

MIB = 1 << 20
DIR = "/var/tmp"
DISK = f"{bus.NAME}.Device.Disk"


def host(*argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def image(t, name, size=32 * MIB, byte=None):
    path = f"{DIR}/{name}"
    guest.sparse_file(path, size)
    t.cleanup(guest.unlink, path)
    if byte is not None:
        with open(path, "r+b") as f:
            f.write(byte * MIB)
    return path


def device(vm, identity):
    return f"{vm.path}/device/{bus.encode(identity)}"


def resize(vm, identity, size):
    return bus.call(device(vm, identity), f"{DISK}.Resize", str(size), bus.options(Wait=True))


def replace(vm, identity, **source):
    return bus.call(device(vm, identity), f"{DISK}.Replace", bus.options(**source), bus.options())


def sectors(console, name):
    return int(console.check(f"cat /sys/block/{name}/size"))


def grown(t, vm, console, identity, name, size):
    """The guest sees it before anybody has to ask."""
    bus.must(resize(vm, identity, size))
    console.check(f"for i in $(seq 100); do test $(cat /sys/block/{name}/size) = {size // 512} && exit 0; sleep 0.1; "
                  "done; exit 1")
    t.equal(bus.get(device(vm, identity), DISK, "Size"), size)


def at_work(console, name):
    """Writes to the first 8 MiB of a disk and reads them back, until it is told to stop; no error may come."""
    console.check(f"rm -f /tmp/{name}.bad /tmp/{name}.stop; (i=0; while ! test -e /tmp/{name}.stop; do "
                  f"dd if=/tmp/data of=/dev/{name} bs=64k count=16 seek=$((i % 8 * 16)) oflag=direct 2>/dev/null && "
                  f"dd if=/dev/{name} bs=64k count=16 skip=$((i % 8 * 16)) iflag=direct 2>/dev/null | cmp - /tmp/data || "
                  f"echo $i >> /tmp/{name}.bad; i=$((i + 1)); done; echo $i > /tmp/{name}.done) >/dev/null 2>&1 &")


def rest(t, console, name):
    console.check(f"touch /tmp/{name}.stop; for i in $(seq 300); do test -e /tmp/{name}.done && exit 0; sleep 0.2; done; "
                  "exit 1", 90)
    t.equal(console.run(f"cat /tmp/{name}.bad")[1] != 0, True, f"no request of {name} failed")
    t.true(int(console.check(f"cat /tmp/{name}.done")) > 0, f"{name} was at work")


@tap.test("disks become larger and smaller while the guest uses them")
def test_resize(t):
    raw, qcow2 = image(t, "change.raw"), f"{DIR}/change.qcow2"
    host("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "32M")
    t.cleanup(guest.unlink, qcow2)
    disks = [{"path": raw, "id": "raw"}, {"path": qcow2, "id": "qcow2", "image_type": "Qcow2"}]
    with guest.Machine("change", guest.config(disks=disks)) as vm:
        console = vm.boot()
        console.check("dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null")
        t.equal((sectors(console, "vda"), sectors(console, "vdb")), (32 * MIB // 512, 32 * MIB // 512))
        for name in ("vda", "vdb"):
            at_work(console, name)
        for size in (64, 96):
            grown(t, vm, console, "raw", "vda", size * MIB)
            grown(t, vm, console, "qcow2", "vdb", size * MIB)
            # what is new is there
            for name in ("vda", "vdb"):
                console.check(f"dd if=/tmp/data of=/dev/{name} bs=1M count=1 seek={size - 1} conv=fsync 2>/dev/null && "
                              f"dd if=/dev/{name} bs=1M count=1 skip={size - 1} iflag=direct 2>/dev/null | cmp - /tmp/data",
                              120)
        grown(t, vm, console, "raw", "vda", 48 * MIB)
        t.equal(os.stat(raw).st_size, 48 * MIB)
        t.match(resize(vm, "qcow2", 48 * MIB).text, r"its image is qcow2, which can only grow$")
        t.true(console.run("dd if=/dev/vda of=/dev/null bs=1M count=1 skip=60 iflag=direct 2>&1")[1] != 0 or
               console.check("dd if=/dev/vda bs=1M count=1 skip=60 iflag=direct 2>/dev/null | wc -c") == "0",
               "nothing is behind the new end")
        # a machine that stands
        bus.must(bus.vm("change", "Pause", bus.options()))
        bus.must(resize(vm, "raw", 80 * MIB))
        bus.must(bus.vm("change", "Resume", bus.options()))
        console.check(f"for i in $(seq 100); do test $(cat /sys/block/vda/size) = {80 * MIB // 512} && exit 0; sleep 0.1; "
                      "done; exit 1")
        for name in ("vda", "vdb"):
            rest(t, console, name)
        t.match(console.check("dmesg"), r"\[vda\] new size: .*|vda: detected capacity change from")
        t.equal(guest.complaints(console, r"virtio|vd[ab]|I/O error"), [])
        t.equal(vm.get("RestartRequired"), False)
        console.check("sync")
        inside = console.check("sha256sum < /dev/vdb", 120).split()[0]
        vm.shutdown()
    t.equal(os.stat(raw).st_size, 80 * MIB)
    t.match(host("qemu-img", "check", qcow2), "No errors were found|leaked clusters")
    copy = image(t, "change.copy", 0)
    host("qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, copy)
    t.equal(host("sha256sum", copy).split()[0], inside, "the qcow2 image is what the guest saw")


@tap.test("another medium, while the guest reads the old one")
def test_replace(t):
    first, second = image(t, "medium-a.raw", byte=b"a"), image(t, "medium-b.raw", 48 * MIB, b"b")
    third, base = f"{DIR}/medium-c.qcow2", image(t, "medium-base.raw", 40 * MIB, b"c")
    host("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", third)
    t.cleanup(guest.unlink, third)
    with guest.Machine("medium", guest.config(disks=[{"path": first, "id": "d"}])) as vm:
        console = vm.boot()

        def first_byte():
            return console.check("dd if=/dev/vda bs=4k count=1 iflag=direct 2>/dev/null | head -c 1")

        def wait_size(size):
            console.check(f"for i in $(seq 100); do test $(cat /sys/block/vda/size) = {size // 512} && exit 0; "
                          "sleep 0.1; done; exit 1")

        t.equal(first_byte(), "a")
        console.check("(while ! test -e /tmp/stop; do dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct || "
                      "echo bad >> /tmp/bad; done; touch /tmp/done) >/dev/null 2>&1 &")
        before = len(os.listdir(f"/proc/{vm.get('MainPID')}/fd"))
        for _ in range(3):
            bus.must(replace(vm, "d", Path=second))
            wait_size(48 * MIB)
            t.equal(first_byte(), "b")
            bus.must(replace(vm, "d", Path=first))
            wait_size(32 * MIB)
            t.equal(first_byte(), "a")
        t.equal(len(os.listdir(f"/proc/{vm.get('MainPID')}/fd")), before, "descriptors of the worker")
        # one that does not open leaves the old one at work
        t.match(replace(vm, "d", Path=third).text, r"medium-c\.qcow2")
        t.match(replace(vm, "d", Path=third, Format="qcow2").text, r"backing")
        t.equal(first_byte(), "a")
        bus.must(replace(vm, "d", Path=third, Format="qcow2", BackingFiles=True))
        wait_size(40 * MIB)
        t.equal(first_byte(), "c")
        t.equal(bus.get(device(vm, "d"), DISK, "Format"), "qcow2")
        console.check("dd if=/dev/zero of=/dev/vda bs=64k count=4 seek=16 conv=fsync 2>/dev/null")
        console.check("touch /tmp/stop; for i in $(seq 100); do test -e /tmp/done && exit 0; sleep 0.2; done; exit 1", 60)
        t.equal(console.run("cat /tmp/bad")[1] != 0, True, "no read failed")
        t.equal(bus.get(device(vm, "d"), DISK, "Path"), third)
        vm.shutdown()
    host("qemu-img", "check", third)
    t.equal(os.stat(base).st_size, 40 * MIB)
    with open(base, "rb") as f:
        t.equal(f.read(MIB), b"c" * MIB, "what lies behind the new medium")


tap.main()
