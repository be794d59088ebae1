#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
fw_cfg, watchdog, panic device, generation ID, clock and consoles on terminals of the host with the
drivers of Debian's kernel, all in one guest. 6.1 has no driver for the generation ID and the virtio clock: of these, that the guest
finds them (tests/kvm/test-small.c drives the clock).
"""
# timeout: 600
import bus
import guest
import guestconsole
import tap

TEXT = "from the definition"
FILE = "/var/tmp/fw-cfg-item"
BY_NAME = "/sys/firmware/qemu_fw_cfg/by_name"


def config(action):
    with open(FILE, "w") as f:
        f.write("from a file of the host\n" * 1000)
    c = guest.config(pvpanic=True, watchdog=True, watchdog_action=action, rtc={},
                     serial={"mode": "Pty"}, console={"mode": "Pty"})
    c["payload"]["fw_cfg_config"] = {"items": {"item_list": [
        {"name": "opt/org.brume/text", "string": TEXT},
        {"name": "opt/org.brume/file", "file": FILE}]}}
    return c


def check_fw_cfg(t, vm, console):
    t.equal(console.check(f"cat {BY_NAME}/opt/org.brume/text/raw"), TEXT)
    t.equal(console.check(f"wc -c < {BY_NAME}/opt/org.brume/file/raw").strip(), "24000")
    t.equal(console.check(f"tail -n 1 {BY_NAME}/opt/org.brume/file/raw"), "from a file of the host")
    for name in ("etc/e820", "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"):
        # a file of sysfs says nothing of its size
        size = int(console.check(f"cat {BY_NAME}/{name}/raw | wc -c"))
        t.equal(size, int(console.check(f"cat {BY_NAME}/{name}/size")), f"bytes of {name}")
        t.true(size > 0, f"{name} has {size} bytes")
    size = int(console.check(f"cat {BY_NAME}/etc/acpi/rsdp/size"))
    t.equal(size, 36, "size of the RSDP")
    t.equal(vm.get("State"), "running")


def check_found(t, console):
    t.match(console.check("cat /sys/bus/acpi/devices/BRUM0001:00/modalias"), "VMGENCTR")
    # device 17 of virtio is there, and nobody drives it
    t.match(console.check("cat /sys/bus/virtio/devices/*/device"), "0x0011")


def open_terminal(path):
    """A program that connects us with the terminal, as screen(1) does."""
    return guestconsole.GuestConsole(["sh", "-c", f"stty raw -echo; cat {path} & exec cat > {path}"])


def check_terminals(t, vm, console):
    """The guest has a shell on the virtio console; on the serial line we are twice, `console` too."""
    paths = vm.get("ConsolePaths")
    t.equal(sorted(paths), ["console", "serial"])
    numbers = "\n".join(str(n) for n in range(1, 3001))
    for again in (False, True):             # who comes again reads what was there before
        with open_terminal(paths["console"]) as hvc:
            hvc.wait(rf"{guestconsole.READY}\s", 20, "what the guest printed first")
            if again:
                hvc.wait(rf"\n{numbers}\n\nBRUME-END-2 0\n", 20, "what the one before was told")
            t.equal(hvc.check("readlink /proc/self/fd/1"), "/dev/hvc0")
            t.equal(hvc.check("seq 1 3000"), numbers)
    with open_terminal(paths["serial"]) as serial:
        serial.wait(rf"{guestconsole.READY}\s", 20, "what the guest printed first")
        t.equal(console.check("echo heard by $((1 + 1))"), "heard by 2")
        serial.wait("heard by 2", 20, "what the other client made the guest say")


def arm(console, seconds):
    """The driver again with this timeout; opened and never closed in order, it goes on by itself."""
    console.check(f"rmmod wdat_wdt; insmod /modules/wdat_wdt.ko timeout={seconds}")


@tap.test("fw_cfg, watchdog, panic")
def test_all(t):
    t.cleanup(guest.unlink, FILE)
    with bus.Signals() as signals, guest.Machine("small", config("Reset")) as vm:
        console = vm.boot()
        check_fw_cfg(t, vm, console)
        check_found(t, console)
        check_terminals(t, vm, console)
        t.equal(console.check("cat /sys/class/watchdog/watchdog0/identity"), "wdat_wdt")
        t.equal(console.check("cat /sys/class/watchdog/watchdog0/bootstatus"), "0")
        arm(console, 5)
        # fed, it leaves the guest alone; closed in order it is off
        console.check("exec 3>/dev/watchdog; for i in 1 2 3 4 5 6 7 8; do sleep 1; echo . >&3; done; "
                      "printf V >&3", 60)
        console.check("sleep 7", 60)
        t.equal(vm.get("State"), "running")
        pid = vm.get("MainPID")
        console.check("touch /tmp/before")
        console.check("echo . > /dev/watchdog")
        expired = signals.wait(lambda s: s.member == "Event" and s.data[:2] == ["watchdog", "expired"],
                               60, "Event that the watchdog has expired")
        t.equal(expired.path, vm.path)
        console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        t.equal(vm.get("MainPID"), pid, "MainPID")
        t.equal(console.run("test -e /tmp/before")[1], 1, "status of 'test -e' for a file of before")
        t.true(console.check("cat /sys/class/watchdog/watchdog0/bootstatus") != "0",
               "the guest knows why it started")
        t.equal(guest.complaints(console, "wdat|watchdog|pvpanic|fw_cfg|ACPI|virtio"), [], "dmesg")
        # last, as nothing of the guest is left
        console.check("echo 1 > /proc/sys/kernel/sysrq; echo 0 > /proc/sys/kernel/panic")
        console.send("echo c > /proc/sysrq-trigger\n")
        panicked = signals.wait(lambda s: s.member == "GuestPanicked", 60, "GuestPanicked")
        t.equal(panicked.path, vm.path)
        t.equal(vm.get("State"), "running")


tap.main()
