#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What a running VM costs its host besides its RAM, by the kernel's own accounts.

    tests/rig/linux --bench --build DIR linux-memory.py        (tests/bench/run --linux)

A worker of the installed service and QEMU's microvm, in turns, each in a unit of its own: 128 MiB, one
vCPU, two disks, a tap and an rng that the tiny guest has brought up before it halts. From
/proc/PID/smaps as bench-memory does it, and from the unit's cgroup:

    memory-cgroup          memory.current less what is resident of the guest's RAM
    memory-cgroup-anon     of it: memory of programs, less the guest's RAM
    memory-cgroup-file     page cache; a page of a file is charged to the cgroup that needed it first, so
                           programs and libraries are in the first sample ("first") if anywhere
    memory-cgroup-kernel   page tables, stacks, KVM's and files' structures; the rest of memory.current
                           is what processors have charged in advance (64 pages each at most)
    memory-guest-ram       what is resident of the guest's RAM
"""
# timeout: 1400
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

import bus
import figures
import tap
import tiny

MEASURE = "/brume/guest/bench-memory"
CMDLINE = "test=activate then=hlt"
DONE = 0x41                             # on port 0x80, when the devices are up
PLACE = pathlib.Path("/run/bench")
KERNEL_PARTS = ("kernel_stack", "pagetables", "percpu", "vmalloc", "slab")
GOAL_KIB = 4096
TIMEOUT = 120


def measure(unit):
    """The figures of a unit with one process in KiB, after the guest has come to rest."""
    time.sleep(1)
    r = subprocess.run(["systemctl", "show", "-P", "MainPID", "-P", "ControlGroup", unit],
                       capture_output=True, text=True, check=True)
    pid, group = sorted(r.stdout.split(), key=lambda word: word.startswith("/"))
    group = pathlib.Path("/sys/fs/cgroup" + group)
    current = int((group / "memory.current").read_text()) // 1024
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    stat = {key: int(number) // 1024 for key, number in stat.items()}
    r = subprocess.run([MEASURE, "--process", pid], capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise AssertionError(f"{unit}: {r.stderr.strip()}")
    result = json.loads(r.stdout)
    ram = result.pop("ram")
    result.update({
        "memory-guest-ram": ram,
        "memory-cgroup": current - ram,
        "memory-cgroup-anon": stat["anon"] + stat["shmem"] - ram,
        "memory-cgroup-file": stat["file"] - stat["shmem"],
        "memory-cgroup-kernel": stat["kernel"],
        **{f"memory-cgroup-kernel-{key}": stat[key] for key in KERNEL_PARTS},
    })
    return result


def run_brume(vm, signals):
    start = time.monotonic()
    vm.start()
    signals.wait(lambda s: s.at > start and s.member == "Event" and s.data[1] == "debug-code" and
                 s.data[2]["code"]["data"] == DONE, TIMEOUT, "the guest's devices are up")
    result = measure(vm.unit)
    vm.must("Terminate")
    vm.wait_state("stopped")
    return result


def run_qemu(disks):
    """The same machine by QEMU, with the arguments of tests/bench/peer.h."""
    code = PLACE / "code"
    code.unlink(missing_ok=True)
    os.mkfifo(code)
    fifo = os.open(code, os.O_RDWR | os.O_NONBLOCK)
    devices = ["-netdev", "tap,id=n0,ifname=benchtap1,script=no,downscript=no",
               "-device", "virtio-net-pci,netdev=n0,romfile=", "-device", "virtio-rng-pci"]
    for n, disk in enumerate(disks):
        devices += ["-drive", f"if=none,id=d{n},format=raw,file={disk}", "-device", f"virtio-blk-pci,drive=d{n}"]
    subprocess.run(["systemd-run", "--quiet", "--unit=bench-qemu", "--property=MemoryAccounting=yes",
                    "qemu-system-x86_64", "-M", "microvm,pic=off,pit=off,rtc=off,isa-serial=off,pcie=on",
                    "-accel", "kvm", "-m", "128", "-smp", "1", "-nodefaults", "-no-user-config",
                    "-display", "none", "-chardev", f"file,id=code,path={code}",
                    "-device", "isa-debugcon,iobase=0x80,chardev=code",
                    "-kernel", tiny.KERNEL, "-append", CMDLINE, *devices], check=True, capture_output=True)
    try:
        end = time.monotonic() + TIMEOUT
        while not select.select([fifo], [], [], 0.5)[0] or DONE not in os.read(fifo, 64):
            state = subprocess.run(["systemctl", "is-active", "bench-qemu"], capture_output=True,
                                   text=True, check=False).stdout.strip()
            if state != "active" or time.monotonic() > end:
                raise AssertionError(f"QEMU's guest does not come up; its unit is {state}")
        return measure("bench-qemu.service")
    finally:
        subprocess.run(["systemctl", "kill", "--signal=KILL", "bench-qemu"], check=False, capture_output=True)
        while subprocess.run(["systemctl", "is-active", "--quiet", "bench-qemu"], check=False).returncode == 0:
            time.sleep(0.05)
        subprocess.run(["systemctl", "reset-failed", "bench-qemu"], check=False, capture_output=True)
        os.close(fifo)


@tap.test("memory besides the guest's RAM, beside QEMU's microvm")
def test_memory(t):
    if not shutil.which("qemu-system-x86_64"):
        raise AssertionError("QEMU is not on this host: the rig needs --bench")
    PLACE.mkdir()
    t.cleanup(shutil.rmtree, PLACE)
    disks = [tiny.image(f"/var/lib/bench{n}.img", 16 << 20) for n in range(4)]
    config = tiny.config(CMDLINE, memory=128 << 20, disks=[{"path": disk} for disk in disks[:2]],
                         net=[{"tap": "benchtap0"}])
    results = {"brume": [], "qemu-microvm": []}
    with tiny.Machine("bench", config) as vm, bus.Signals() as signals:
        for _ in range(figures.RUNS):
            results["brume"].append(run_brume(vm, signals))
            results["qemu-microvm"].append(run_qemu(disks[2:]))
    for peer, runs in results.items():
        for benchmark in runs[0]:
            values = [run[benchmark] for run in runs]
            more = {"first": values[0]}
            if peer == "brume" and benchmark in ("memory-rss", "memory-cgroup"):
                more["goal"] = GOAL_KIB
            figures.samples(benchmark, peer, "KiB", values, **more)


tap.main()
