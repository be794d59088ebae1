#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
CLOUDHV.fd, UEFI firmware built from Debian's edk2, comes up on every shape of machine, reads and
writes its disk, and resets and turns off the machine.

Nothing is typed: its shell runs the disk's startup.nsh (tests/data/firmware-disk) after a countdown.
The rig gives firmware next to no timer ticks (tests/rig/appliance.py), and keys wait for those.
"""
# timeout: 400
# needs: cloud
import os
import shutil

import bus
import guest
import tap

MIB = 1 << 20
GIB = 1 << 30
FILES = "/srv/cloud"
FIRMWARE = f"{FILES}/CLOUDHV.fd"
DISK = "/var/tmp/firmware.img"


def config(vcpus=1, memory=512 * MIB, firmware=FIRMWARE):
    return {
        "cpus": {"boot_vcpus": vcpus},
        "memory": {"size": memory},
        "payload": {"firmware": firmware},
        "disks": [{"path": DISK}],
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
    }


@tap.test("the firmware runs a script of its disk, resets the machine and turns it off", cases=[
    ("64 MiB", 1, 64 * MIB),
    ("2 vCPUs, memory above 4 GiB", 2, 4 * GIB),
])
def test_firmware(t, vcpus, memory):
    if guest.host_available() < memory // 4:
        tap.skip(f"this host has only {guest.host_available() // MIB} MiB to give")
    shutil.copyfile(f"{FILES}/firmware.img", DISK)
    t.cleanup(guest.unlink, DISK)
    with guest.Machine("firmware", config(vcpus, memory)) as vm:
        console = vm.start()
        console.wait(r"\nfirst start\n", guest.BOOT_SECONDS)
        pid = vm.get("MainPID")
        # the file that the first start left is there; what UEFI calls a variable would not be
        console.wait(r"\nsecond start\n", guest.BOOT_SECONDS)
        t.equal(vm.get("MainPID"), pid, "MainPID")
        console.wait(r"\n *FS0:[^\n]*\n\s+PciRoot\(0x0\)/Pci\(0x1,0x0\)", 60, "the disk")
        console.wait(r"Total Memory: *\d+", 60, "the end of the memory map")
        vm.wait_state("stopped")
        t.equal(vm.get("LastExitReason"), "guest-shutdown")
        above = "0000000100000000-" in console.transcript
        t.equal(above, memory > 3 * GIB, "memory above 4 GiB in the firmware's map")


@tap.test("half a firmware is refused with a sentence")
def test_not_firmware(t):
    half = "/var/tmp/half.fd"
    with open(half, "wb") as out, open(FIRMWARE, "rb") as whole:
        out.write(whole.read(os.path.getsize(FIRMWARE) // 2))
    t.cleanup(guest.unlink, half)
    c = config(firmware=half)
    del c["disks"]
    with guest.Machine("half", c) as vm:
        reply = bus.vm(vm.name, "Start", bus.options(Wait=True))
        t.match(reply.text, rf"/payload/firmware: '{half}': .*past the end of the image.*"
                            r"must be a firmware image with a PVH note")


tap.main()
