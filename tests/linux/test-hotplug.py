#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Devices that come and go under a stock Debian kernel: added and removed on the bus while the guest
uses them, refused, and there again after a reboot.
"""
# timeout: 1200
import os

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
DIR = "/var/tmp"
NAME = "plug"


def image(t, name, size=32 * MIB):
    path = f"{DIR}/{name}"
    guest.sparse_file(path, size)
    t.cleanup(guest.unlink, path)
    return path


def add(type_, id_, **config):
    return bus.vm(NAME, "AddDevice", bus.text(type_), bus.text(id_), bus.options(**config), "@a{sh} {}",
                  bus.options())


def remove(id_, timeout=60, **options):
    return bus.vm(NAME, "RemoveDevice", bus.text(id_),
                  bus.options(TimeoutUSec=timeout * 1000000, Wait=True, **options), timeout=timeout + 30)


def descriptors(vm):
    """What the worker holds: descriptors and threads."""
    pid = vm.get("MainPID")
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def wait_for(console, test, seconds=60):
    console.check(f"for i in $(seq {seconds * 5}); do {test} && exit 0; sleep 0.2; done; exit 1", seconds + 30)


def use(console, device):
    """A pattern written to a disk, and read from the disk itself."""
    console.check(f"dd if=/dev/urandom of=/tmp/pattern bs=64k count=8 2>/dev/null; "
                  f"dd if=/tmp/pattern of=/dev/{device} bs=64k conv=fsync 2>/dev/null; "
                  f"echo 3 > /proc/sys/vm/drop_caches; cmp -n 524288 /tmp/pattern /dev/{device}", 120)


@tap.test("a disk and a network come, work and go")
def test_plug(t):
    disk, tap_name = image(t, "plug.raw"), "plugtap0"
    with bus.Signals() as signals, guest.Machine(NAME, guest.config(2)) as vm:
        console = vm.boot()
        slots = console.check("ls /sys/bus/pci/devices")
        t.equal(console.run("ls -d /sys/block/vda")[1] != 0, True, "the guest has no disk")
        before = descriptors(vm)
        for round_ in range(3):
            t.match(bus.must(add("disk", "data", path=disk)).text, r"/device/data")
            wait_for(console, "test -b /dev/vda")
            use(console, "vda")
            device = f"{vm.path}/device/data"
            t.equal(bus.get(device, f"{bus.NAME}.Device", "HotPlugged"), True)
            t.equal(bus.get(device, f"{bus.NAME}.Device", "Removable"), True)
            t.equal(bus.get(device, f"{bus.NAME}.Device", "Persistent"), False)
            t.equal(vm.get("RestartRequired"), True)
            bus.must(remove("data"))
            t.equal(console.check("ls /sys/bus/pci/devices"), slots, "slots in use")
            t.equal(descriptors(vm), before, "descriptors and threads of the worker")
            t.equal(vm.get("RestartRequired"), False)
        # persistent memory, twice: the second is where the first was
        for letter in "ab":
            memory = image(t, f"plug-{letter}.pmem", 16 * MIB)
            with open(memory, "r+b") as f:
                f.write(letter.encode() * 4096)
            bus.must(add("pmem", "memory", file=memory))
            wait_for(console, "test -b /dev/pmem0")
            t.equal(console.check("head -c 1 /dev/pmem0"), letter)
            use(console, "pmem0")
            bus.must(remove("memory"))
            t.equal(console.run("ls -d /sys/block/pmem0")[1] != 0, True, "the persistent memory is gone")
            t.equal(descriptors(vm), before, "descriptors and threads of the worker")
            with open(memory, "rb") as f:
                t.equal(f.read(1) != letter.encode(), True, "what the guest wrote is in the file")
        bus.must(add("net", "lan", tap=tap_name, mac="52:54:00:11:22:33"))
        wait_for(console, "test -e /sys/class/net/eth0")
        t.equal(console.check("cat /sys/class/net/eth0/address"), "52:54:00:11:22:33")
        bus.must(remove("lan"))
        t.equal(console.run("ls /sys/class/net/eth0")[1] != 0, True, "the network is gone in the guest")
        t.equal(os.path.exists(f"/sys/class/net/{tap_name}"), False, "and the interface of the host")
        t.equal(descriptors(vm), before, "descriptors and threads of the worker")
        t.equal(guest.complaints(console), [], "dmesg")


@tap.test("what was plugged in is there after a reboot, and for a new daemon")
def test_keep(t):
    disk = image(t, "keep.raw")
    with guest.Machine(NAME, guest.config(1)) as vm:
        console = vm.boot()
        bus.must(add("disk", "data", path=disk))
        wait_for(console, "test -b /dev/vda")
        console.check("touch /tmp/before")
        console.send("reboot -f\n")
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(console.run("test -e /tmp/before")[1], 1, "status of 'test -e' for a file of before")
        wait_for(console, "test -b /dev/vda")
        use(console, "vda")
        # asked while it boots, when nobody in it listens yet
        bus.must(bus.vm(NAME, "Reset", bus.options()))
        bus.must(remove("data", timeout=90))
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(console.run("ls -d /sys/block/vda")[1] != 0, True, "the disk is gone")
        t.equal(guest.complaints(console), [], "dmesg")


def force(id_):
    """The guest is asked, and has no time to answer."""
    return bus.vm(NAME, "RemoveDevice", bus.text(id_), bus.options(Force=True, TimeoutUSec=1000, Wait=True), timeout=60)


@tap.test("what is taken by force is free at once, and the guest that uses it gets over it")
def test_force(t):
    path, shared, tap_name = image(t, "force.raw"), f"{DIR}/force-shared", "forcetap0"
    os.makedirs(shared, exist_ok=True)
    t.cleanup(os.rmdir, shared)
    t.cleanup(guest.unlink, f"{shared}/file")
    config = guest.config(2)
    config["memory"]["shared"] = True
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        before, slots = descriptors(vm), console.check("ls /sys/bus/pci/devices")

        def is_over():
            """Nothing is left, and what comes next comes and goes."""
            t.eventually(lambda: descriptors(vm) == before, "what the worker had of it is gone", 60)
            t.equal(console.check("ls /sys/bus/pci/devices"), slots, "slots in use")

        bus.must(add("disk", "data", path=path))
        wait_for(console, "test -b /dev/vda")
        use(console, "vda")
        # it writes all the time
        console.check("(while dd if=/tmp/pattern of=/dev/vda bs=64k conv=fsync; do :; done) >/dev/null 2>&1 &")
        bus.must(force("data"))
        # the image, and the name
        bus.must(add("disk", "data", path=path))
        wait_for(console, "! test -e /sys/block/vda || ! test -e /sys/block/vdb")
        wait_for(console, "test -n \"$(ls /sys/block | grep vd)\"")
        use(console, console.check("ls /sys/block | grep vd"))
        bus.must(remove("data"))
        is_over()

        bus.must(add("net", "lan", tap=tap_name))
        wait_for(console, "test -e /sys/class/net/eth0")
        console.check("ip link set eth0 up && ip address add 192.0.2.2/24 dev eth0 && "
                      "(ping -c 1000 192.0.2.3 >/dev/null 2>&1 &)")
        bus.must(force("lan"))
        t.equal(os.path.exists(f"/sys/class/net/{tap_name}"), False, "the interface of the host")
        wait_for(console, "! test -e /sys/class/net/eth0")
        is_over()

        bus.must(add("fs", "files", tag="files", source=shared))
        wait_for(console, "mkdir -p /mnt && mount -t virtiofs files /mnt 2>/dev/null")
        console.check("echo there > /mnt/file && (while cat /mnt/file && cp /mnt/file /mnt/file.2; do :; done "
                      ">/dev/null 2>&1 &)")
        t.cleanup(guest.unlink, f"{shared}/file.2")
        bus.must(force("files"))
        wait_for(console, "! cat /mnt/file 2>/dev/null")
        console.check("umount -l /mnt")
        is_over()

        bus.must(add("vsock", "", cid=7, socket="/run/force-vsock"))
        wait_for(console, "test -e /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*")
        bus.must(force("__vsock"))
        is_over()


def resize(n, timeout=60, **options):
    return bus.vm(NAME, "ResizeVCPUs", str(n), bus.options(TimeoutUSec=timeout * 1000000, Wait=True, **options),
                  timeout=timeout + 30)


def bring_up(console):
    """What an administrator's udev rule does: new processors go on line as they come."""
    console.check("( while sleep 0.3; do for f in /sys/devices/system/cpu/cpu[1-9]*/online; do "
                  "test \"$(cat $f)\" = 0 && echo 1 > $f; done; done ) >/dev/null 2>&1 &")


@tap.test("processors come and go")
def test_vcpus(t):
    config = guest.config(1)
    config["cpus"]["max_vcpus"] = 4
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        before = descriptors(vm)
        t.equal(console.check("nproc"), "1")
        # nobody brings it up: it is offered, and taken back
        r = resize(2, timeout=3)
        t.equal((r.ok, r.error), (False, f"{bus.NAME}.GuestTimeout"), r.text)
        t.match(r.text, "has 1 vCPUs, not the 2 that were asked for")
        t.equal((vm.get("VCPUs"), vm.get("VCPUsTarget"), vm.get("VCPUsMax")), (1, 1, 4))
        bring_up(console)
        bus.must(resize(4))
        # the last of them runs, and is on its way into the scheduler
        wait_for(console, "[ $(nproc) = 4 ]", 10)
        t.equal((vm.get("VCPUs"), vm.get("VCPUsTarget")), (4, 4))
        t.equal(vm.get("RestartRequired"), True)
        console.check("for i in 0 1 2 3; do taskset -c $i true || exit 1; done")
        bus.must(resize(2))
        t.equal(console.check("nproc"), "2")
        t.equal(descriptors(vm)[1], before[1] + 1, "threads of the worker")
        console.send("reboot -f\n")
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(console.check("nproc"), "2", "processors after a reboot")
        bus.must(resize(1))
        t.equal(descriptors(vm)[1], before[1], "threads of the worker")
        t.equal(vm.get("RestartRequired"), False)
        t.equal(guest.complaints(console, "ACPI|smpboot|APIC|hotplug"), [], "dmesg")


@tap.test("64 disks over several segments, 64 processors")
def test_many(t):
    n = 64
    config = guest.config(1, memory=1 << 30, platform={"num_pci_segments": 3})
    config["cpus"]["max_vcpus"] = n
    paths = [image(t, f"many{i}.raw", MIB) for i in range(n)]
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        for i, path in enumerate(paths):
            bus.must(add("disk", f"d{i}", path=path, pci_segment=i % 3))
        count = "ls /sys/block | grep -c '^vd'"
        wait_for(console, f"[ $({count}) = {n} ]", 120)
        console.check("for d in /dev/vd*; do dd if=/dev/zero of=$d bs=4k count=1 conv=fsync 2>/tmp/why || { cat /tmp/why; exit 1; }; done", 300)
        bring_up(console)
        bus.must(resize(n, timeout=400))
        wait_for(console, f"[ $(nproc) = {n} ]", 10)
        bus.must(resize(1, timeout=400))
        # some: each takes its time, and the others of a machine come and go above
        for i in range(0, n, 8):
            bus.must(remove(f"d{i}", timeout=120))
        t.equal(console.run(count, 120)[0], str(n - n // 8), "disks in the guest")
        t.equal(guest.complaints(console, r"ACPI|\bpci|PCI|virtio|smpboot|APIC"), [], "dmesg")


tap.main()
