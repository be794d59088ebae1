#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
How long a guest waits for what is plugged in, and a client for what is taken out.

    tests/rig/linux --bench --build DIR linux-hotplug.py        (tests/bench/run --linux)

The same stock kernel under the installed service and under QEMU's pc machine, which has ACPI hotplug on
the bus itself as ours does; one after the other, each in one boot, by the bus and by QMP:

    hotplug-DEVICE-visible    from the request until a loop in the guest sees it and says so on its console
    hotplug-DEVICE-removed    from the request until the machine says that nothing of it is left

Memory, 1 GiB in a DIMM, only comes. Both clients stay connected: one to QMP's socket, one to the bus.
The emulated host has one processor, and the loop in the guest takes its share of it from whoever works
for the request; our bus and service are two processes more than QEMU.
"""
# timeout: 1400
import json
import os
import shutil
import socket
import time

import dbus

import bus
import figures
import guest
import guestconsole
import tap

RUNS = 10
GIB = 1 << 30
DIMMS = 3
DIR = "/var/tmp"
QMP = "/run/bench-qmp"
NAME = "hotplugbench"
ONLINE = "/sys/devices/system/cpu/cpu1/online"
# a busy loop of the shell: what it adds is the same for both
SEEN = {
    "disk": "while ! [ -b /dev/vda ]; do :; done",
    "net": "while ! [ -e /sys/class/net/eth0 ]; do :; done",
    "cpu": f"while ! echo 1 > {ONLINE}; do :; done 2>/dev/null",
    # the first line of it is MemTotal
    "memory": "while read key size unit < /proc/meminfo; [ $size -lt WANTED ]; do :; done",
}


class Brume:
    peer = "brume"

    def __enter__(self):
        config = guest.config(1)
        config["cpus"]["max_vcpus"] = 2
        config["memory"]["hotplug_size"] = DIMMS * GIB
        self.machine = guest.Machine(NAME, config)
        self.machine.__enter__()
        self.console = self.machine.boot()
        self.size = self.machine.get("MemoryTarget")
        self.bus = dbus.SystemBus()
        return self

    def __exit__(self, *args):
        self.bus.close()
        self.machine.__exit__(*args)

    def call(self, method, signature, *args):
        self.bus.call_blocking(bus.NAME, bus.vm_path(NAME), bus.VM, method, signature, args, timeout=120)

    def add(self, what):
        if what == "cpu":
            self.call("ResizeVCPUs", "ua{sv}", 2, {})
        elif what == "memory":
            self.size += GIB
            self.call("ResizeMemory", "ta{sv}", self.size, {})
        else:
            config = {"path": f"{DIR}/bench.raw"} if what == "disk" else {"tap": "benchtap0"}
            self.call("AddDevice", "ssa{sv}a{sh}a{sv}", what, what, config, {}, {})

    def remove(self, what):
        if what == "cpu":
            self.call("ResizeVCPUs", "ua{sv}", 1, {"Wait": True})
        else:
            self.call("RemoveDevice", "sa{sv}", what, {"Wait": True})

    def settle(self, what):
        """A job that has not ended keeps the next one out."""
        while what in ("cpu", "memory") and self.machine.get("CurrentJob") != "/":
            time.sleep(0.05)


class Qemu:
    peer = "qemu"

    def __enter__(self):
        self.console = guestconsole.GuestConsole([
            "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-m", f"512,slots={DIMMS},maxmem={DIMMS + 1}G", "-smp", "1,maxcpus=2,sockets=2", "-nodefaults",
            "-no-user-config", "-display", "none", "-serial", "stdio", "-qmp", f"unix:{QMP},server,nowait",
            "-cpu", "host", "-kernel", f"{guest.FILES}/vmlinuz", "-initrd", f"{guest.FILES}/guest-initramfs",
            "-append", "console=ttyS0 quiet mitigations=off"])
        self.dimms = 0
        self.console.wait_ready(guest.BOOT_SECONDS)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(QMP)
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.command("qmp_capabilities")
        return self

    def __exit__(self, *_):
        self.command("quit")
        self.socket.close()
        self.console.close()

    def read(self, done):
        while True:
            message = json.loads(self.stream.readline())
            if "error" in message:
                raise AssertionError(message["error"]["desc"])
            if done(message):
                return

    def command(self, name, **arguments):
        self.stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.stream.flush()
        self.read(lambda m: "return" in m)

    def add(self, what):
        if what == "cpu":
            self.command("device_add", driver="host-x86_64-cpu", id="cpu", **{"socket-id": 1, "core-id": 0, "thread-id": 0})
        elif what == "memory":
            self.dimms += 1
            self.command("object-add", **{"qom-type": "memory-backend-ram", "id": f"m{self.dimms}", "size": GIB})
            self.command("device_add", driver="pc-dimm", id=f"dimm{self.dimms}", memdev=f"m{self.dimms}")
        elif what == "disk":
            self.command("blockdev-add", driver="raw", **{"node-name": "d", "file": {
                "driver": "file", "filename": f"{DIR}/bench.raw", "aio": "io_uring"}})
            self.command("device_add", driver="virtio-blk-pci", id="disk", drive="d", **{"disable-legacy": "on"})
        else:
            self.command("netdev_add", type="tap", id="n", ifname="benchtap1", script="no", downscript="no")
            self.command("device_add", driver="virtio-net-pci", id="net", netdev="n", romfile="",
                         **{"disable-legacy": "on"})

    def remove(self, what):
        self.command("device_del", id=what)
        self.read(lambda m: m.get("event") == "DEVICE_DELETED" and m["data"].get("device") == what)
        if what == "disk":
            self.command("blockdev-del", **{"node-name": "d"})
        elif what == "net":
            self.command("netdev_del", id="n")

    def settle(self, what):
        pass


def come(peer, what, seen=None):
    """Milliseconds until it is seen."""
    console = peer.console
    console.send(f"({seen or SEEN[what]}) 2>/dev/null; printf 'S%s-%s\\n' EEN {what}\n")
    time.sleep(0.3)
    start = time.monotonic()
    peer.add(what)
    console.wait(rf"SEEN-{what}\n", 60, f"{what} to be seen")
    ms = 1000 * (time.monotonic() - start)
    peer.settle(what)
    return ms


def go(peer, what):
    """Milliseconds until it is gone."""
    start = time.monotonic()
    peer.remove(what)
    return 1000 * (time.monotonic() - start)


def memory(peer):
    console, samples = peer.console, []
    console.check("echo online > /sys/devices/system/memory/auto_online_blocks")
    for _ in range(DIMMS):
        total = int(console.check("awk '/^MemTotal/ {print $2}' /proc/meminfo"))
        wanted = total + (GIB >> 10) * 9 // 10
        samples.append(come(peer, "memory", SEEN["memory"].replace("WANTED", str(wanted))))
    return samples


@tap.test("request to visible and to removed, beside QEMU's pc machine")
def test_hotplug(t):
    if not shutil.which("qemu-system-x86_64"):
        raise AssertionError("QEMU is not on this host: the rig needs --bench")
    t.cleanup(guest.unlink, guest.sparse_file(f"{DIR}/bench.raw", 16 << 20))
    for peer_class in (Brume, Qemu):
        with peer_class() as peer:
            for what in ("disk", "net", "cpu"):
                rounds = [(come(peer, what), go(peer, what)) for _ in range(RUNS)]
                figures.samples(f"hotplug-{what}-visible", peer.peer, "ms", [seen for seen, _ in rounds])
                figures.samples(f"hotplug-{what}-removed", peer.peer, "ms", [gone for _, gone in rounds])
            figures.samples("hotplug-memory-visible", peer.peer, "ms", memory(peer))
    if os.path.exists(QMP):
        os.unlink(QMP)


tap.main()
