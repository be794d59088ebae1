#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel boots to a shell on every size of machine, reboots and turns off."""
# timeout: 1200
import re
import time

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
GIB = 1 << 30


@tap.test("boots to a shell", cases=[
    ("1 vCPU, 512 MiB", 1, 512 * MIB),
    ("2 vCPUs, 512 MiB", 2, 512 * MIB),
    ("4 vCPUs, 512 MiB", 4, 512 * MIB),
    ("2 vCPUs, 3328 MiB, memory on both sides of the hole", 2, 3328 * MIB),
    ("1 vCPU, 4 GiB", 1, 4 * GIB),
])
def test_boot(t, vcpus, memory):
    if guest.host_available() < memory * 5 // 4:
        tap.skip(f"this host has only {guest.host_available() // MIB} MiB to give")
    with guest.Machine("boot", guest.config(vcpus, memory)) as vm:
        console = vm.boot()
        t.equal(vm.get("State"), "running")
        t.equal(console.check("nproc"), str(vcpus))
        kib = int(re.search(r"MemTotal:\s+(\d+)", console.check("cat /proc/meminfo")).group(1))
        t.true(kib << 10 > memory * 9 // 10, f"the guest sees {kib} KiB of {memory >> 10}")
        ram = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM$", console.check("cat /proc/iomem"),
                         re.M)
        above = [r for r in ram if int(r[0], 16) >= 4 * GIB]
        t.equal(bool(above), memory > 3 * GIB, f"memory above 4 GiB in {ram}")
        t.equal(guest.complaints(console), [], "dmesg")


def huge_pages():
    """(all, free) huge pages of 2 MiB of this host."""
    with open("/proc/meminfo") as f:
        text = f.read()
    return tuple(int(re.search(rf"{name}:\s+(\d+)", text).group(1))
                 for name in ("HugePages_Total", "HugePages_Free"))


def set_huge_pages(n):
    with open("/proc/sys/vm/nr_hugepages", "w") as f:
        f.write(str(n))


@tap.test("boots on memory", cases=[
    ("of huge pages", {"hugepages": True}),
    ("of huge pages, shared, prefaulted", {"hugepages": True, "shared": True, "prefault": True}),
    ("shared, prefaulted", {"shared": True, "prefault": True}),
])
def test_memory_kinds(t, kind):
    size, page = 512 * MIB, 2 * MIB
    wanted = size // page if kind.get("hugepages") else 0
    set_huge_pages(wanted + 8)
    t.cleanup(set_huge_pages, 0)
    if huge_pages()[0] < wanted:
        tap.skip(f"this host has only {huge_pages()[0]} huge pages in one piece")
    config = guest.config()
    config["memory"] = {"size": size, **kind}
    with guest.Machine("kinds", config) as vm:
        console = vm.boot()
        used = huge_pages()[0] - huge_pages()[1]
        if kind.get("hugepages"):
            # without prefault they are taken as the guest touches them, but are reserved
            t.true(used == wanted if kind.get("prefault") else 8 < used <= wanted,
                   f"{used} of {wanted} huge pages in use")
        else:
            t.equal(used, 0, "huge pages in use")
        t.equal(console.check("nproc"), "1")
    end = time.monotonic() + 10
    while wanted and huge_pages()[0] != huge_pages()[1] and time.monotonic() < end:
        time.sleep(0.1)
    t.equal(huge_pages()[0], huge_pages()[1], "huge pages free after the machine ended")


@tap.test("boots an uncompressed ELF kernel")
def test_elf(t):
    with guest.Machine("elf", guest.config(kernel="vmlinux")) as vm:
        console = vm.boot()
        with open(f"{guest.FILES}/version") as f:
            t.equal(console.check("uname -r"), f.read())
        t.equal(guest.complaints(console), [], "dmesg")


@tap.test("boots a bzImage that unpacks itself")
def test_bzimage(t):
    config = guest.config()
    config["payload"]["boot_protocol"] = "BzImage"
    with guest.Machine("bzimage", config) as vm:
        console = vm.boot()
        # the decompressor moved it: not where a PVH entry leaves it
        text = console.check("grep ' _text$' /proc/kallsyms")
        t.true(not text.startswith("ffffffff81000000"), text)
        t.equal(guest.complaints(console), [], "dmesg")


@tap.test("a reboot by the guest keeps the worker")
def test_reboot(t):
    with guest.Machine("reboot", guest.config()) as vm:
        console = vm.boot()
        pid = vm.get("MainPID")
        t.true(pid > 0, "the machine has a MainPID")
        console.check("touch /tmp/before")
        for _ in range(2):
            console.send("reboot -f\n")
            console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
            t.equal(console.run("test -e /tmp/before")[1], 1, "status of 'test -e' for a file of before")
            t.equal(vm.get("MainPID"), pid, "MainPID")
            t.equal(vm.get("State"), "running")


@tap.test("the power button ends in stopped by guest-shutdown")
def test_power_button(t):
    with bus.Signals() as signals, guest.Machine("button", guest.config()) as vm:
        vm.boot()
        unit = vm.get("Unit")
        vm.shutdown()
        t.equal(vm.get("State"), "stopped")
        t.equal(vm.get("LastExitReason"), "guest-shutdown")
        edge = signals.wait(lambda s: s.member == "StateChanged" and s.data[1] == "stopped", 5,
                            "StateChanged to stopped")
        t.equal(edge.path, vm.path)
        t.match(unit, r"^brume-vm-button\.service$")


@tap.test("a power-off by the guest ends in stopped by guest-shutdown")
def test_power_off(t):
    with guest.Machine("poweroff", guest.config()) as vm:
        vm.boot().send("poweroff -f\n")
        vm.wait_state("stopped")
        t.equal(vm.get("LastExitReason"), "guest-shutdown")


@tap.test("a machine starts again after it stopped")
def test_again(t):
    with guest.Machine("again", guest.config()) as vm:
        vm.boot().send("poweroff -f\n")
        vm.wait_state("stopped")
        vm.console.close()
        t.equal(vm.boot().check("echo back"), "back")


@tap.test("a paused machine stands still and goes on")
def test_pause(t):
    with guest.Machine("pause", guest.config(2)) as vm:
        console = vm.boot()
        bus.must(bus.vm("pause", "Pause", bus.options()))
        t.equal(vm.get("State"), "paused")
        console.send("echo awake-$((40 + 2))\n")
        try:
            console.wait("awake-42", 3)
            raise AssertionError("a paused guest answered")
        except guestconsole.ConsoleError:
            pass
        bus.must(bus.vm("pause", "Resume", bus.options()))
        console.wait("awake-42", 30)
        t.equal(vm.get("State"), "running")


@tap.test("a Debian root disk boots to its systemd")
def test_debian(t):
    with guest.Machine("debian", guest.debian()) as vm:
        console = vm.boot(300)
        t.equal(console.check("cat /proc/1/comm"), "systemd")
        t.match(console.check("lsblk -no NAME,MOUNTPOINTS"), r"vda\s+/")
        t.equal(console.check("systemctl --failed --plain --no-legend", 90), "")
        vm.shutdown(120)
        t.equal(vm.get("LastExitReason"), "guest-shutdown")


tap.main()
