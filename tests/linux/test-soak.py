#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Hotplug under stress: hundreds of random additions, removals, resizes, pauses and reboots of a stock
Debian that reads and writes a disk and a network all the time. Afterwards nothing was lost, the guest's
log is clean and the worker holds what it held before. BRUME_SOAK_SEED repeats a run.
"""
# timeout: 1200
import os
import random
import re
import time

import bus
import guest
import guestconsole
import tap

MIB = 1 << 20
DIR = "/var/tmp"
NAME = "soak"
OPERATIONS = 300
DISKS, NETS, VCPUS = 3, 2, 4
HOST, INSIDE = "192.168.252.1", "192.168.252.2"
CPUS = "/sys/devices/system/cpu"

# On the guest's side: what it does all the time, until /tmp/stop is there; failures go to /tmp/failed.
LOADS = {
    "disk": "dd if=/tmp/pattern of=/dev/vda bs=64k conv=fsync || echo write >> /tmp/failed; "
            "echo 3 > /proc/sys/vm/drop_caches; "
            "cmp -s -n 524288 /tmp/pattern /dev/vda || echo compare >> /tmp/failed",
    "net": f"ping -c 1 -W 20 {HOST} || echo ping >> /tmp/failed",
    "cpu": f"for f in {CPUS}/cpu[1-9]*/online; do test \"$(cat $f)\" = 0 && echo 1 > $f; done; usleep 200000",
}


class Soak:
    def __init__(self, t, vm, console, seed):
        self.t, self.vm, self.console = t, vm, console
        self.random = random.Random(seed)
        self.disks, self.nets, self.vcpus = set(), set(), 1
        self.done = {}
        self.last = None

    def must(self, what, method, *args):
        r = bus.vm(NAME, method, *args, timeout=150)
        if not r.ok:
            raise AssertionError(f"operation {sum(self.done.values())}, {what}: {r.error}: {r.text}; "
                                 f"before it: {self.last}")
        self.last = what

    def add(self, type_, id_, **config):
        self.must(f"add {id_}", "AddDevice", bus.text(type_), bus.text(id_), bus.options(**config),
                  "@a{sh} {}", bus.options())

    def remove(self, id_):
        self.must(f"remove {id_}", "RemoveDevice", bus.text(id_),
                  bus.options(TimeoutUSec=120 * 1000000, Wait=True))

    def disk(self):
        id_ = self.random.randrange(DISKS)
        if id_ in self.disks:
            self.remove(f"disk{id_}")
            self.disks.discard(id_)
        else:
            self.add("disk", f"disk{id_}", path=f"{DIR}/soak{id_}.raw")
            self.disks.add(id_)

    def net(self):
        id_ = self.random.randrange(NETS)
        if id_ in self.nets:
            self.remove(f"net{id_}")
            self.nets.discard(id_)
        else:
            self.add("net", f"net{id_}", tap=f"soak{id_}")
            self.nets.add(id_)

    def resize(self):
        self.vcpus = self.random.randrange(VCPUS) + 1
        self.must(f"{self.vcpus} vCPUs", "ResizeVCPUs", self.vcpus,
                  bus.options(TimeoutUSec=120 * 1000000, Wait=True))

    def pause(self):
        self.must("pause", "Pause", bus.options())
        time.sleep(self.random.random() / 4)
        self.must("resume", "Resume", bus.options())

    def reboot(self):
        """As an administrator would, or by the reset button; the load goes with the guest."""
        self.settle()
        if self.random.random() < 0.5:
            self.console.send("reboot -f\n")
        else:
            self.must("reset", "Reset", bus.options())
        self.console.wait(rf"\n{guestconsole.READY}\s", guest.BOOT_SECONDS, "the guest to come back")
        self.last = "reboot"
        self.t.equal(self.console.check("nproc"), str(self.vcpus), "processors after a reboot")
        self.load()

    def load(self):
        self.console.check("dd if=/dev/urandom of=/tmp/pattern bs=64k count=8 2>/dev/null")
        for what, command in LOADS.items():
            self.console.check(f"( while [ ! -e /tmp/stop ]; do {command}; echo >> /tmp/{what}-rounds; done; "
                               f"touch /tmp/{what}-ended ) > /dev/null 2>&1 &")

    def settle(self):
        """The load stops; it must have run, and never failed."""
        self.console.check("touch /tmp/stop; for i in $(seq 300); do "
                           "[ -e /tmp/disk-ended -a -e /tmp/net-ended -a -e /tmp/cpu-ended ] && exit 0; "
                           "usleep 200000; done; exit 1", 120)
        self.t.equal(self.console.check("cat /tmp/failed 2>/dev/null || true"), "", "what failed in the guest")
        for what in LOADS:
            self.t.true(int(self.console.check(f"wc -l < /tmp/{what}-rounds")) > 0, f"{what}: nothing was done")

    def run(self):
        choices = ([self.disk] * 36 + [self.net] * 22 + [self.resize] * 22 + [self.pause] * 18 + [self.reboot] * 2)
        for _ in range(OPERATIONS):
            operation = self.random.choice(choices)
            operation()
            self.done[operation.__name__] = self.done.get(operation.__name__, 0) + 1

    def undo(self):
        for id_ in sorted(self.disks):
            self.remove(f"disk{id_}")
        for id_ in sorted(self.nets):
            self.remove(f"net{id_}")
        self.disks.clear()
        self.nets.clear()
        self.vcpus = 1
        self.must("1 vCPU", "ResizeVCPUs", 1, bus.options(Wait=True))


def holds(vm):
    """Of the worker: descriptors, threads, and KiB that are its own (of mappings that cannot be RAM)."""
    pid, own, size = vm.get("MainPID"), 0, 0
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            if m := re.match(r"Size: +(\d+) kB", line):
                size = int(m.group(1))
            elif (m := re.match(r"Private_Dirty: +(\d+) kB", line)) and size < 64 * 1024:
                own += int(m.group(1))
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), own


@tap.test(f"{OPERATIONS} operations under load")
def test_soak(t):
    seed = int(os.environ.get("BRUME_SOAK_SEED", str(random.SystemRandom().randrange(1 << 31))))
    print(f"# seed {seed}", flush=True)
    for i in range(DISKS):
        t.cleanup(guest.unlink, guest.sparse_file(f"{DIR}/soak{i}.raw", 16 * MIB))
    disk = guest.sparse_file(f"{DIR}/soak.raw", 32 * MIB)
    t.cleanup(guest.unlink, disk)
    config = guest.config(1, cmdline=f"brume.ip={INSIDE}/24", disks=[{"path": disk}],
                          net=[{"tap": "soak", "ip": HOST, "mask": "255.255.255.0"}])
    config["cpus"]["max_vcpus"] = VCPUS
    with guest.Machine(NAME, config) as vm:
        console = vm.boot()
        soak = Soak(t, vm, console, seed)
        # What the first of each kind costs once is not a leak: arenas, pages of stacks, and KVM's vCPUs, which
        # it can make but not unmake.
        soak.load()
        soak.disk()
        soak.net()
        soak.must("all vCPUs", "ResizeVCPUs", VCPUS, bus.options(Wait=True))
        soak.undo()
        before = holds(vm)
        started = time.monotonic()
        soak.run()
        soak.undo()
        soak.settle()
        after = holds(vm)
        print(f"# {soak.done} in {time.monotonic() - started:.0f} s; descriptors, threads, KiB: {before}, then {after}",
              flush=True)
        t.equal(after[:2], before[:2], "descriptors and threads of the worker")
        t.true(after[2] < before[2] + 1024, f"{before[2]} KiB before, {after[2]} KiB after")
        t.equal((vm.get("RestartRequired"), vm.get("VCPUs")), (False, 1), "RestartRequired, VCPUs")
        t.equal(guest.complaints(console, r"ACPI|\bpci|PCI|virtio|virtblk|I/O error|smpboot|APIC|hung|stall"), [], "dmesg")


tap.main()
