# SPDX-License-Identifier: Apache-2.0
"""
Virtual machines for the linux rig's tests: made, started, looked at, and surely gone afterwards.

    with guest.Machine("boot-1", guest.config(vcpus=2)) as vm:
        console = vm.boot()
        console.check("uname -r")

Files come from /srv/guest (tests/rig/guest_assets.py). Times are for guests of an emulated host.
"""

import os
import re
import time

import bus
import guestconsole

FILES = "/srv/guest"
BOOT_SECONDS = 120


def config(vcpus=1, memory=512 << 20, kernel="vmlinuz", cmdline="", **more):
    """A machine with our initramfs and its shell on the serial console."""
    return {
        "cpus": {"boot_vcpus": vcpus},
        "memory": {"size": memory},
        "payload": {"kernel": f"{FILES}/{kernel}", "initramfs": f"{FILES}/guest-initramfs",
                    "cmdline": f"console=ttyS0 quiet mitigations=off {cmdline}".strip()},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        **more,
    }


def debian(vcpus=2, memory=512 << 20, disk=f"{FILES}/guest-root.img", **more):
    """A machine that boots the Debian root disk with its systemd."""
    c = config(vcpus, memory, **more)
    c["payload"] = {"kernel": f"{FILES}/vmlinuz", "initramfs": f"{FILES}/guest-root.initrd",
                    "cmdline": "console=ttyS0 quiet mitigations=off net.ifnames=0 root=/dev/vda"}
    c["disks"] = [{"path": disk}, *more.get("disks", [])]
    return c


class Machine:
    def __init__(self, name, configuration):
        self.name = name
        self.path = bus.vm_path(name)
        self.config = configuration
        self.console = None

    def __enter__(self):
        bus.must(bus.create(self.name, self.config))
        return self

    def __exit__(self, *_):
        if self.console is not None:
            self.console.close()
        bus.remove(self.name)

    def start(self, show=None):
        """Starts the machine; its console from the first line on, see guestconsole for `show`."""
        bus.must(bus.vm(self.name, "Start", bus.options(Wait=True)))
        self.console = guestconsole.open_vm(self.name, show=show)
        return self.console

    def boot(self, timeout=BOOT_SECONDS):
        """Starts the machine; its console, ready for commands."""
        self.start().wait_ready(timeout)
        return self.console

    def get(self, prop):
        return bus.vm_get(self.name, prop)

    def wait_state(self, state, timeout=60):
        end = time.monotonic() + timeout
        while (now := self.get("State")) != state:
            if time.monotonic() > end:
                raise AssertionError(f"'{self.name}' is '{now}', not '{state}', after {timeout} s")
            time.sleep(0.1)

    def shutdown(self, timeout=90):
        """By the power button; returns when the guest has turned itself off."""
        bus.must(bus.vm(self.name, "Shutdown",
                        bus.options(TimeoutUSec=timeout * 1000000, Wait=True), timeout=timeout + 30))


def complaints(console, about=r"ACPI|\bpci|PCI|virtio|virtblk|virtio_|MSI|irq\b|IOAPIC|APIC"):
    """
    Kernel messages of level warning or worse that are about our platform. The initramfs prints the
    log raw, with levels; level 4 is warning.
    """
    lines = []
    for line in console.check("dmesg -r").splitlines():
        m = re.match(r"<(\d+)>(.*)", line)
        if m and int(m.group(1)) % 8 <= 4 and re.search(about, m.group(2)):
            lines.append(m.group(2))
    return lines


def host_available():
    """Bytes of memory this host can still give."""
    with open("/proc/meminfo") as f:
        return int(re.search(r"MemAvailable:\s+(\d+)", f.read()).group(1)) << 10


def sparse_file(path, size):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def unlink(path):
    if os.path.exists(path):
        os.unlink(path)
