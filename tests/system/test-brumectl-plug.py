#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
brumectl device, cpu and memory: what comes and goes while a machine runs, and how waiting for it looks.

The guest here never answers, so what needs its help ends by --timeout, --force or Ctrl-C; those that do
answer are in the linux rig (test-hotplug.py).
"""
import fcntl
import json
import os
import struct
import subprocess
import time

import bus
import tap
import terminal
import tiny

QUIET = "--no-ask-password"
TUNSETIFF, TAP_FLAGS = 0x400454ca, 2 | 0x1000 | 0x4000 | 0x100  # TAP, NO_PI, VNET_HDR, MULTI_QUEUE


def machine(t, **more):
    config = tiny.config(**more)
    config["cpus"]["max_vcpus"] = 4
    config["memory"]["hotplug_size"] = 256 << 20
    t.cleanup(os.unlink, tiny.image("/srv/plug.raw"))
    return tiny.Machine("plug", config)


def rows():
    return {row["id"]: row for row in json.loads(bus.must_ctl("--json", "device", "list", "plug"))}


def add(*words):
    return bus.must_ctl("device", "add", "plug", *words).rstrip("\n")


def definition():
    return json.loads(bus.must_ctl("config", "plug", "--next"))


def amounts(what):
    shown = json.loads(bus.must_ctl(what, "plug", "--json"))
    return shown["actual"], shown["target"], shown["maximum"]


def refused(t, got, status, text):
    t.equal(got[0], status, got[2] or got[1])
    t.equal(got[1], "")
    t.match(got[2], text)


def running_jobs():
    return [row for row in json.loads(bus.must_ctl("jobs", "--json")) if row["state"] == "running"]


# --- devices ---------------------------------------------------------------------

@tap.test("a disk comes, stays when the guest does not answer, and goes by force")
def test_disk(t):
    with machine(t) as vm:
        vm.start()
        t.equal(add("disk", "path=/srv/plug.raw,id=data"), "data")
        row = rows()["data"]
        t.match(row["bdf"], r"^0000:00:[0-9a-f]{2}\.0$")
        t.equal({k: row[k] for k in ("type", "removable", "persistent", "hotplugged", "state")},
                {"type": "disk", "removable": True, "persistent": False, "hotplugged": True, "state": "present"})
        t.match(bus.must_ctl("device", "list", "plug"),
                r"^ID +TYPE +ADDRESS +REMOVABLE +STATE\n(.*\n)*data +disk +0000:00:\S+ +yes +present\n")
        t.equal(bus.must_ctl("devices", "plug"), bus.must_ctl("device", "list", "plug"))
        refused(t, bus.ctl("device", "remove", "plug", "data", "--timeout=300ms"), 6,
                r"the guest of VM 'plug' did not let go of device 'data' in time; it has it still\n"
                r"hint: it can be tried again, or with --force ")
        t.equal(rows()["data"]["state"], "present")
        t.equal(bus.ctl("device", "remove", "plug", "data", "--timeout=300ms", "--force"), (0, "", ""))
        t.true("data" not in rows(), "it is still there")
        t.equal("disks" in definition(), False)


@tap.test("without an id one is chosen and printed; relative paths are those of the caller")
def test_id(t):
    with machine(t) as vm:
        vm.start()
        r = subprocess.run(["brumectl", "--json", "device", "add", "plug", "disk", "path=plug.raw"], cwd="/srv",
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        t.equal((r.returncode, r.stderr), (0, ""))
        shown = json.loads(r.stdout)
        t.equal(shown, {"vm": "plug", "device": "_disk0", "path": f"{bus.vm_path('plug')}/device/_5fdisk0"})
        t.equal(bus.get(shown["path"], f"{bus.NAME}.Device.Disk", "Path"), "/srv/plug.raw")


@tap.test("--persist changes the definition too")
def test_persist(t):
    with machine(t) as vm:
        vm.start()
        bus.must_ctl("device", "add", "--persist", "plug", "disk", "path=/srv/plug.raw,id=data")
        t.equal(definition()["disks"][0]["id"], "data")
        t.equal(rows()["data"]["persistent"], True)
        bus.must_ctl("device", "remove", "plug", "data", "--persist", "--force", "--timeout=100ms")
        t.true(not definition().get("disks"), "it is still defined")


@tap.test("of a machine that does not run they change the definition")
def test_stopped(t):
    with machine(t):
        t.equal(add("disk", "path=/srv/plug.raw"), "_disk0")
        t.equal(definition()["disks"][0]["path"], "/srv/plug.raw")
        t.equal(bus.ctl("device", "list", "plug"), (0, "", "'plug' has no devices: it does not run.\n"))
        t.equal(bus.ctl("device", "remove", "plug", "_disk0"), (0, "", ""))
        t.true(not definition().get("disks"), "it is still defined")
        refused(t, bus.ctl("device", "remove", "plug", "_disk0"), 3, "the definition of VM 'plug' has no device '_disk0'")
        bus.must_ctl("cpu", "plug", "3")
        bus.must_ctl("memory", "plug", "160M")
        t.equal((amounts("cpu"), amounts("memory")), ((3, 3, 4), (160 << 20, 160 << 20, 288 << 20)))
        t.equal(bus.must_ctl("memory", "plug"),
                "          Actual: 160M\n          Target: 160M\n         Maximum: 288M\n")


@tap.test("a network takes descriptors of brumectl's")
def test_descriptors(t):
    if not os.path.exists("/dev/net/tun"):
        tap.skip("there is no /dev/net/tun")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    t.cleanup(os.close, fd)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"plugctl", TAP_FLAGS))
    with machine(t) as vm:
        vm.start()
        argv = ["brumectl", "device", "add", "plug", "net", f"fd=[{fd}],id=lan"]
        r = subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, check=False)
        t.equal((r.returncode, r.stdout, r.stderr), (0, "lan\n", ""))
        t.equal(rows()["lan"]["type"], "net")
        r = subprocess.run([*argv, "--persist"], pass_fds=[fd], capture_output=True, text=True, check=False)
        t.equal(r.returncode, 1)
        t.match(r.stderr, "VM 'plug': a descriptor is there for a machine that runs")


@tap.test("a disk gets another size and another image")
def test_image(t):
    t.cleanup(os.unlink, tiny.image("/srv/plug-2.raw", 2 << 20))
    with machine(t) as vm:
        vm.start()
        bus.must_ctl("device", "add", "--persist", "plug", "disk", "path=/srv/plug.raw,id=data")
        size = lambda: bus.get(f"{bus.vm_path('plug')}/device/data", f"{bus.NAME}.Device.Disk", "Size")
        path = lambda: bus.get(f"{bus.vm_path('plug')}/device/data", f"{bus.NAME}.Device.Disk", "Path")
        t.equal(bus.ctl("device", "resize", "plug", "data", "3M"), (0, "", ""))
        t.equal((size(), os.stat("/srv/plug.raw").st_size), (3 << 20, 3 << 20))
        shown = json.loads(bus.must_ctl("--json", "device", "resize", "plug", "data", "1M"))
        t.equal((shown["result"], size()), ("done", 1 << 20))
        t.equal(bus.ctl("device", "replace", "plug", "data", "path=/srv/plug-2.raw,image_type=raw"), (0, "", ""))
        t.equal((path(), size()), ("/srv/plug-2.raw", 2 << 20))
        t.equal(definition()["disks"][0]["path"], "/srv/plug.raw")
        bus.must_ctl("device", "replace", "plug", "data", "path=/srv/plug.raw")
        bus.must_ctl("device", "replace", "plug", "data", "--persist", "path=/srv/plug-2.raw")
        t.equal(definition()["disks"][0]["path"], "/srv/plug-2.raw")
        with open("/srv/plug.raw", "r+b") as image:
            r = subprocess.run(["brumectl", "device", "replace", "plug", "data", f"fd={image.fileno()}"],
                               pass_fds=[image.fileno()], capture_output=True, text=True, check=False)
        t.equal((r.returncode, r.stdout, r.stderr, size()), (0, "", "", 1 << 20))
        refused(t, bus.ctl("device", "resize", "plug", "__rng", "1M"), 2, "device '__rng' of 'plug' is a rng, which has no image")
        refused(t, bus.ctl("device", "replace", "plug", "data", "path=/srv/none"), 1, "/srv/none")


@tap.test("what is refused is one sentence", cases=[
    ("no such machine", ["device", "add", "none", "disk", "path=/x"], 3, "no virtual machine 'none'"),
    ("no such file", ["device", "add", "plug", "disk", "path=/srv/none"], 1, r"\(/disks/0/path\): .*/srv/none"),
    ("a reserved id", ["device", "add", "plug", "net", "id=__rng"], 2, "net: id: '__rng' is reserved"),
    ("no slot", ["device", "add", "plug", "disk", "path=/srv/plug.raw,pci_device_id=99"], 2, "disk: pci_device_id: 99 "),
    ("no segment", ["device", "add", "plug", "disk", "path=/srv/plug.raw,pci_segment=1"], 1, "/disks/0/pci_segment: 1 "),
    ("no kind", ["device", "add", "plug", "rng", "src=/dev/zero"], 2,
     "'rng' is no kind of device that can be added, must be disk, net, fs, pmem or vsock"),
    ("no such device", ["device", "remove", "plug", "none"], 3, "'none'"),
    ("one that stays", ["device", "remove", "plug", "__rng"], 1, r"device '__rng' \(rng\) cannot be removed while"),
    ("no vCPU", ["cpu", "plug", "0"], 1, r"VM 'plug' cannot have 0 vCPUs, must be 1 to 4 \(/cpus/max_vcpus\)"),
    ("more vCPUs than there may be", ["cpu", "plug", "5"], 1, r"cannot have 5 vCPUs, must be 1 to 4"),
    ("less memory", ["memory", "plug", "16M"], 1, "cannot have 16777216 while it runs"),
    ("more memory than there may be", ["memory", "plug", "4G"], 1, r"must be at most 301989888 \(/memory/hotplug_size\)"),
])
def test_wrong(t, words, status, text):
    with machine(t) as vm:
        vm.start()
        before = rows(), amounts("cpu"), amounts("memory"), definition()
        refused(t, bus.ctl(QUIET, *words), status, "^brumectl: .*" + text)
        t.equal((rows(), amounts("cpu"), amounts("memory"), definition()), before)


@tap.test("other users may look, not change")
def test_polkit(t):
    with machine(t) as vm:
        vm.start()
        for words in (["device", "add", "plug", "disk", "path=/srv/plug.raw"], ["device", "remove", "plug", "x"],
                      ["cpu", "plug", "2"], ["memory", "plug", "160M"]):
            status, out, err = bus.ctl(QUIET, *words, user="alice")
            t.true(status in (3, 4) and not out, f"{words}: exit status {status}, {err}")
        for words in (["device", "list", "plug"], ["cpu", "plug"], ["memory", "plug"]):
            t.equal(bus.ctl(QUIET, *words, user="alice")[0], 0)


# --- vCPUs and memory ------------------------------------------------------------

@tap.test("a guest that does not take what it is given: what it has is told", cases=[
    ("vCPUs", "cpu", "2", (1, 4), r"has 1 vCPUs, not the 2 that were asked for: .*\nhint: 'brumectl cpu plug' "),
    ("memory", "memory", "160M", (160 << 20, 288 << 20),
     r"has 33554432 bytes of memory, not the 167772160 that .*\nhint: 'brumectl memory plug' "),
])
def test_resize(t, what, wanted, after, text):
    with machine(t) as vm:
        vm.start()
        refused(t, bus.ctl(what, "plug", wanted, "--timeout=300ms"), 6, text)
        t.eventually(lambda: amounts(what)[1:] == after, f"it shows {amounts(what)}, not {after}")


@tap.test("memory in zones is resized by the zone")
def test_zone(t):
    config = tiny.config()
    config["memory"] = {"size": 0, "hotplug_method": "VirtioMem",
                        "zones": [{"id": "near", "size": 32 << 20},
                                  {"id": "far", "size": 32 << 20, "hotplug_size": 128 << 20}]}
    with tiny.Machine("plug", config) as vm:
        bus.must_ctl("memory", "plug", "48M", "--zone", "far")
        t.equal([z.get("hotplugged_size", 0) for z in definition()["memory"]["zones"]], [0, 16 << 20])
        bus.must_ctl("memory", "plug", "32M", "--zone", "far")
        vm.start()
        refused(t, bus.ctl("memory", "plug", "64M", "--zone=far", "--timeout=300ms"), 6,
                r"bytes of memory, not the \d+ that were asked for: .*\nhint: 'brumectl memory plug' ")
        refused(t, bus.ctl("memory", "plug", "64M", "--zone=none"), 1, "VM 'plug' has no memory zone 'none'")
        refused(t, bus.ctl("memory", "plug", "64M"), 1, "the memory of VM 'plug' is in zones")


# --- waiting -----------------------------------------------------------------------

@tap.test("on a terminal a line tells how far it is, and Ctrl-C cancels", cases=[
    ("a removal", ["device", "remove", "plug", "data"], "removing data: waiting for the guest",
     "the removal of device 'data' was canceled"),
    ("vCPUs", ["cpu", "plug", "2"], "resizing to 2 vCPUs: waiting for the guest", "the job was canceled"),
    ("memory", ["memory", "plug", "160M"], "resizing to 160M: waiting for the guest", "the job was canceled"),
])
def test_terminal(t, words, line, text):
    with machine(t) as vm:
        vm.start()
        add("disk", "path=/srv/plug.raw,id=data")
        with terminal.Terminal("brumectl", *words) as term:
            term.expect(rf"\r\x1b\[Kplug: {line} 1s")
            term.expect(rf"\r\x1b\[Kplug: {line} 2s")
            term.send("\x03")
            term.expect("canceling; Ctrl-C again leaves it to itself")
            t.equal(term.wait(), 1)
            t.match(term.seen, f"brumectl: .*{text}")
        t.equal((running_jobs(), rows()["data"]["state"]), ([], "present"))


@tap.test("without one there is one line, and SIGINT does the same")
def test_pipe(t):
    with machine(t) as vm:
        vm.start()
        add("disk", "path=/srv/plug.raw,id=data")
        child = subprocess.Popen(["brumectl", "device", "remove", "plug", "data"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        t.cleanup(child.kill)
        t.eventually(lambda: rows()["data"]["state"] == "ejecting", "it has begun")
        refused(t, bus.ctl("device", "remove", "plug", "data"), 1, r"remove-device.*\nhint: 'brumectl jobs'")
        time.sleep(2.5)
        status, out, err = terminal.interrupt(child)
        t.equal((status, out), (1, ""))
        t.match(err, r"^plug: removing data: waiting for the guest\nplug: removing data: canceling; .*\n"
                     r"brumectl: the removal of device 'data' was canceled; .*\n$")
        t.equal(running_jobs(), [])


@tap.test("--no-wait: the job is there to be looked at and canceled")
def test_no_wait(t):
    with machine(t) as vm:
        vm.start()
        shown = json.loads(bus.must_ctl("--json", "cpu", "plug", "2", "--no-wait"))
        t.equal((shown["vm"], shown["result"]), ("plug", "running"))
        t.match(bus.must_ctl("jobs"), rf"(?m)^{shown['job']} +plug +resize-vcpus +running +- +waiting for the guest$")
        t.eventually(lambda: amounts("cpu") == (1, 2, 4), "the worker knows of it")
        bus.must_ctl("cancel", str(shown["job"]))
        t.equal(running_jobs(), [])


tap.main()
