#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
TCP streams between a stock guest and its host, and what those who carry them need for it.

    tests/rig/linux --bench --build DIR linux-net.py        (tests/bench/run --linux)

The same kernel and iperf3 in four guests, which take turns: the installed service with a tap of its
own and with vhost, QEMU's pc machine with a tap and with vhost. One vCPU, one pair of queues, all
offloads. Each stream lasts some seconds.

    net-stream-send, net-stream-receive            MiB a second, from the guest and to it
    net-stream-send-cpu, net-stream-receive-cpu    processor seconds a GiB: the threads of the worker or of QEMU
                                                   but its vCPU's, and the kernel's vhost thread
    net-stream-send-vcpu, net-stream-receive-vcpu  the vCPU's, the guest's own work included
    net-stream-send-exits, net-stream-receive-exits
                                                   how often a MiB takes the vCPU out of the guest
    net-stream-send-interrupts, net-stream-receive-interrupts
                                                   that KVM gave it for a MiB, those of its timer included

Processor time is the scheduler's (/proc/PID/task/TID/schedstat). Not in it is what softirqs do in
others' time, and the host's end of the connection.
"""
# timeout: 1400
import glob
import json
import os
import shutil
import subprocess

import bus
import figures
import guest
import guestconsole
import guestprogram
import tap

RUNS = 5
SECONDS = 5
GIB, MIB = 1 << 30, 1 << 20
MASK = "255.255.255.0"
MEMORY = 256 << 20
DIRECTIONS = (("send", []), ("receive", ["-R"]))
FIGURES = (("", "MiB/s"), ("-cpu", "s/GiB"), ("-vcpu", "s/GiB"), ("-exits", "1/MiB"), ("-interrupts", "1/MiB"))


def run(*argv):
    subprocess.run(argv, check=True)


def processor_time(pid):
    """Seconds of its vCPU, and of its other threads and the kernel's vhost threads for it."""
    vcpu = other = 0
    threads = [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]
    for tid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{tid}/comm") as f:
                if f.read().strip() == f"vhost-{pid}":
                    threads.append(f"/proc/{tid}")
        except FileNotFoundError:
            pass
    for thread in threads:
        with open(f"{thread}/comm") as name, open(f"{thread}/schedstat") as stat:
            seconds = int(stat.read().split()[0]) / 1e9
            if name.read().strip() in ("vcpu0", "CPU 0/KVM"):
                vcpu += seconds
            else:
                other += seconds
    return vcpu, other


def events(pid):
    """Exits and interrupts of its machine, by KVM's own count."""
    result = []
    for name in ("exits", "irq_injections"):
        total = 0
        for path in glob.glob(f"/sys/kernel/debug/kvm/{pid}-*/{name}"):
            with open(path) as f:
                total += int(f.read())
        result.append(total)
    return result


def counts(pid):
    """Everything that a stream adds to."""
    vcpu, other = processor_time(pid)
    return [other, vcpu, *events(pid)]


class Peer:
    """A guest at .2 of a network of its own, its host at .1."""

    def __init__(self, number, vhost):
        self.vhost = vhost
        self.tap, self.host, self.inside = f"bench{number}", f"192.168.{200 + number}.1", f"192.168.{200 + number}.2"
        self.cmdline = f"brume.ip={self.inside}/24"

    @property
    def name(self):
        return self.kind + ("-vhost" if self.vhost else "")


class Brume(Peer):
    kind = "brume"

    def __enter__(self):
        net = {"tap": self.tap, "ip": self.host, "mask": MASK, "vhost": self.vhost}
        self.machine = guest.Machine(self.tap, guest.config(1, MEMORY, cmdline=self.cmdline, net=[net]))
        self.machine.__enter__()
        self.console = self.machine.boot()
        self.pid = self.machine.get("MainPID")
        return self

    def __exit__(self, *args):
        self.machine.__exit__(*args)


class Qemu(Peer):
    kind = "qemu"

    def __enter__(self):
        run("ip", "tuntap", "add", "dev", self.tap, "mode", "tap", "vnet_hdr")
        run("ip", "address", "add", f"{self.host}/24", "dev", self.tap)
        run("ip", "link", "set", self.tap, "up")
        vhost = "on" if self.vhost else "off"
        self.console = guestconsole.GuestConsole([
            "qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-m", str(MEMORY // MIB), "-smp", "1",
            "-name", "bench,debug-threads=on", "-nodefaults", "-no-user-config", "-display", "none", "-serial",
            "stdio", "-kernel", f"{guest.FILES}/vmlinuz", "-initrd", f"{guest.FILES}/guest-initramfs", "-append",
            f"console=ttyS0 quiet mitigations=off {self.cmdline}", "-netdev",
            f"tap,id=n,ifname={self.tap},script=no,downscript=no,vhost={vhost}", "-device",
            "virtio-net-pci,netdev=n,romfile=,disable-legacy=on"])
        self.console.wait_ready(guest.BOOT_SECONDS)
        self.pid = self.console.pid
        return self

    def __exit__(self, *_):
        self.console.close()
        run("ip", "link", "delete", self.tap)


def stream(peer, options):
    """MiB a second; processor seconds a GiB of the carriers and of the vCPU, exits and interrupts a MiB."""
    server = subprocess.Popen(["iperf3", "-s", "-1", "-J", "-B", peer.host], stdout=subprocess.PIPE, text=True)
    try:
        before = counts(peer.pid)
        peer.console.check(f"for i in 1 2 3 4 5; do {peer.iperf} -c {peer.host} -t {SECONDS} {' '.join(options)} "
                           "> /tmp/iperf && exit 0; sleep 1; done; cat /tmp/iperf; exit 1", SECONDS + 60)
        after = counts(peer.pid)
        report = json.loads(server.communicate(timeout=30)[0])
    finally:
        server.kill()
    total = report["end"]["sum_sent" if options else "sum_received"]
    per = (GIB, GIB, MIB, MIB)
    return [total["bits_per_second"] / 8 / MIB,
            *((b - a) / (total["bytes"] / unit) for a, b, unit in zip(before, after, per))]


def measure(peers):
    for direction, options in DIRECTIONS:
        results = {peer.name: [] for peer in peers}
        for _ in range(RUNS):
            for peer in peers:
                results[peer.name].append(stream(peer, options))
        for name, rounds in results.items():
            for (what, unit), values in zip(FIGURES, zip(*rounds)):
                figures.samples(f"net-stream-{direction}{what}", name, unit, values)


@tap.test("TCP streams, beside QEMU with and without vhost")
def test_streams(t):
    for program in ("qemu-system-x86_64", "iperf3"):
        if not shutil.which(program):
            raise AssertionError(f"{program} is not on this host: the rig needs --bench")
    run("modprobe", "vhost_net")
    with Brume(0, False) as a, Brume(1, True) as b, Qemu(2, False) as c, Qemu(3, True) as d:
        if not os.path.isdir("/sys/kernel/debug/kvm"):
            run("mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug")
        for peer in (a, b, c, d):
            peer.iperf = guestprogram.give(peer.console, "/usr/bin/iperf3", peer.host)
        measure((a, b, c, d))


tap.main()
