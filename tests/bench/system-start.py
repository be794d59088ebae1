#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Start on the system bus to the guest's first instruction, with the worker's full sandbox.

    tests/rig/system --bench --build DIR system-start.py       (tests/bench/run --system)

In turns with it libvirt-dbus and QEMU with the same guest, 128 MiB, one vCPU and KVM: the microvm to
the guest's first port write, as ours; q35 to the first word of its firmware on the debug console,
because this KVM emulates what a PC's firmware does instruction by instruction. Then what systemd takes
for a unit: alone, with a dynamic user, and with the properties of a worker's unit that make new
namespaces.
"""
# timeout: 600
import os
import pathlib
import shutil
import subprocess
import time

import bus
import figures
import tap
import tiny

BENCH = "/brume/guest/bench-start-bus"
NAMESPACES = ["DynamicUser=yes", "PrivateNetwork=yes", "PrivateIPC=yes", "PrivateUsers=yes",
              "ProtectProc=invisible", "ProcSubset=pid", "PrivateTmp=yes", "ProtectSystem=strict",
              "ProtectHome=yes", "PrivateDevices=no", "NoNewPrivileges=yes"]

# peer: machine, port that speaks first
DOMAINS = {"libvirt-dbus-microvm": ("microvm", "0x80"),
           "libvirt-dbus-q35-firmware": ("q35", "0x402")}
PLACE = pathlib.Path("/run/bench")      # QEMU's user must get there
DOMAIN = """\
<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>bench-{machine}</name>
  <memory unit="MiB">128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="x86_64" machine="{machine}">hvm</type>
    <kernel>{place}/tiny.elf</kernel>
    <cmdline>{cmdline}</cmdline>
  </os>
  <devices>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>
  </devices>
  <qemu:commandline>
    <qemu:arg value="-chardev"/>
    <qemu:arg value="file,id=first,path={place}/first"/>
    <qemu:arg value="-device"/>
    <qemu:arg value="isa-debugcon,iobase={port},chardev=first"/>
  </qemu:commandline>
</domain>
"""


def peers():
    """bench-start-bus's arguments for them."""
    if not shutil.which("libvirt-dbus"):
        raise AssertionError("libvirt-dbus is not in this root: the rig needs --bench")
    PLACE.mkdir()
    os.mkfifo(PLACE / "first")
    os.chmod(PLACE / "first", 0o666)
    shutil.copy(tiny.KERNEL, PLACE)     # libvirt changes the owner
    arguments = [PLACE / "first"]
    for peer, (machine, port) in DOMAINS.items():
        file = PLACE / f"{machine}.xml"
        file.write_text(DOMAIN.format(machine=machine, port=port, place=PLACE, cmdline=tiny.DEAF))
        arguments.append(f"{peer}={file}")
    return arguments


@tap.test("Start on the bus, beside libvirt-dbus")
def test_start(t):
    arguments = peers()
    with tiny.Machine("bench", tiny.config(tiny.DEAF, memory=128 << 20)):
        r = subprocess.run([BENCH, bus.vm_path("bench").rsplit("/", 1)[1], *arguments],
                           capture_output=True, text=True, timeout=500, check=False)
        tap.diag(r.stdout.strip())
        t.equal(r.returncode, 0, r.stderr.strip())


@tap.test("a unit of systemd alone")
def test_unit(t):
    del t
    for name, properties in (("systemd-run", []), ("systemd-run-dynamic-user", NAMESPACES[:1]),
                             ("systemd-run-namespaces", NAMESPACES)):
        values = []
        for _ in range(figures.RUNS):
            start = time.monotonic()
            subprocess.run(["systemd-run", "--quiet", "--wait", *(f"--property={p}" for p in properties),
                            "/bin/true"], check=True, capture_output=True)
            values.append((time.monotonic() - start) * 1e3)
        figures.samples("start-bus", name, "ms", values)


tap.main()
