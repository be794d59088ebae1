#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
AddDevice and RemoveDevice on the bus: who may, what is told, what is free again afterwards, what a killed
daemon makes of it.

The guest here never lets go of anything, so a removal ends by its deadline, by force or by Cancel; guests
that answer are in the linux rig (test-hotplug.py).
"""
# timeout: 300
import fcntl
import json
import os
import signal
import struct
import subprocess
import time

import bus
import fdbus
import polkitrules
import service
import tap
import tiny

DEVICE = f"{bus.NAME}.Device"
DENIED = f"{bus.ERRORS}.AccessDenied"
AUTH = f"{bus.ERRORS}.InteractiveAuthorizationRequired"
BUSY, TIMEOUT = f"{bus.NAME}.Busy", f"{bus.NAME}.GuestTimeout"
NO, NO_FDS = bus.options(), "@a{sh} {}"
WHENEVER = 0                            # TimeoutUSec: the guest may take its time


def device(name, identity):
    return f"{bus.vm_path(name)}/device/{bus.encode(identity)}"


def image(t, path):
    t.cleanup(os.unlink, tiny.image(path))
    return path


def add(name, kind, identity, user=None, persist=False, **config):
    return bus.vm(name, "AddDevice", bus.text(kind), bus.text(identity), bus.options(**config), NO_FDS,
                  bus.options(Persist=persist), user=user)


def remove(name, identity, user=None, **options):
    return bus.vm(name, "RemoveDevice", bus.text(identity), bus.options(**options), user=user)


def take(name, identity, **options):
    """Surely, and waits for it."""
    return bus.must(remove(name, identity, Force=True, TimeoutUSec=1000, Wait=True, **options))


def config(name, which):
    return json.loads(bus.busctl(bus.vm_path(name), bus.VM, "GetConfig", "s", which)[1][0])


def ids(name):
    return [row[0] for row in bus.busctl(bus.vm_path(name), bus.VM, "ListDevices")[1][0]]


def jobs():
    return [row[6] for row in bus.busctl(bus.ROOT, bus.MANAGER, "ListJobs")[1][0]]


def is_locked(path):
    with open(path, "r+b") as f:
        try:
            fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
        except (BlockingIOError, PermissionError):
            return True
    return False


def restart_required(t, name):
    """It is true exactly when the two configurations differ."""
    differ = config(name, "boot") != config(name, "next")
    t.equal(bus.vm_get(name, "RestartRequired"), differ)
    return differ


@tap.test("a device that comes and goes is told, and was announced before")
def test_signals(t):
    path, data = image(t, "/srv/plug.raw"), device("hp-a", "data")
    with tiny.Machine("hp-a") as vm, bus.Signals() as signals:
        vm.start()
        t.equal(bus.must(add("hp-a", "disk", "data", path=path)).paths(), [data])
        signals.wait(lambda s: s.member == "DeviceAdded" and s.data == ["data", data], 5)
        names = [s.member for s in signals.seen if data in s.data]
        t.equal(names, ["InterfacesAdded", "DeviceAdded"])
        t.equal([bus.get(data, DEVICE, p) for p in ("HotPlugged", "Persistent", "Removable", "State")],
                [True, False, True, "present"])
        job = bus.must(remove("hp-a", "data", TimeoutUSec=WHENEVER)).paths()[0]
        signals.wait(lambda s: s.path == data and s.member == "PropertiesChanged" and "State" in s.data[1], 5)
        t.equal(bus.get(data, DEVICE, "State"), "ejecting")
        bus.must(bus.call(job, f"{bus.JOB}.Cancel", NO))
        t.equal(bus.get(data, DEVICE, "State"), "present")
        t.equal(bus.get(job, bus.JOB, "State"), "canceled")
        take("hp-a", "data")
        signals.wait(lambda s: s.member == "DeviceRemoved" and s.data == ["data", data], 5)
        signals.wait(lambda s: s.member == "InterfacesRemoved" and s.data[0] == data, 5)
        t.true("data" not in ids("hp-a"), "it is still listed")
        # those of the machine come and go with it
        before = len([s for s in signals.seen if s.member in ("DeviceAdded", "DeviceRemoved")])
        vm.must("Terminate")
        vm.start()
        t.equal(len([s for s in signals.seen if s.member in ("DeviceAdded", "DeviceRemoved")]), before)


@tap.test("what a removed device had of the host is free")
def test_resources(t):
    path = image(t, "/srv/plug.raw")
    with tiny.Machine("hp-b") as vm, tiny.Machine("hp-c", tiny.config(disks=[{"path": path}])) as other:
        vm.start()
        worker, before = service.fds(vm.pid), service.traces()
        bus.must(add("hp-b", "disk", "data", path=path))
        t.true(is_locked(path), "its image is not locked")
        t.true(not other.call("Start", bus.options(Wait=True)).ok, "two machines have one image")
        if os.path.exists("/dev/net/tun"):
            bus.must(add("hp-b", "net", "lan"))
            t.true(bus.get(device("hp-b", "lan"), f"{DEVICE}.Net", "HostInterface") in service.interfaces(), "its tap")
            take("hp-b", "lan")
        take("hp-b", "data")
        t.equal(is_locked(path), False)
        t.eventually(lambda: service.fds(vm.pid) == worker, "the worker's descriptors are as they were", 5)
        service.expect_traces(t, before)
        other.start()


@tap.test("a device that fails to come leaves nothing")
def test_fails(t):
    with tiny.Machine("hp-d") as vm:
        vm.start()
        worker, before, was = service.fds(vm.pid), service.traces(), config("hp-d", "next")
        listed = ids("hp-d")
        path = image(t, "/srv/plug.raw")
        for wrong in ({"path": "/srv/none.raw"}, {"path": path, "pci_device_id": ("byte", 0)},
                      {"path": path, "image_type": "qcow2"}):
            reply = add("hp-d", "disk", "data", persist=True, **wrong)
            t.true(not reply.ok and reply.error != "local", f"{wrong}: {reply.error} {reply.text}")
        t.equal((ids("hp-d"), config("hp-d", "next"), is_locked(path)), (listed, was, False))
        t.eventually(lambda: service.fds(vm.pid) == worker, "the worker's descriptors are as they were", 5)
        service.expect_traces(t, before)


@tap.test("a restart is required exactly while the configurations differ")
def test_restart_required(t):
    path = image(t, "/srv/plug.raw")
    with tiny.Machine("hp-e") as vm:
        vm.start()
        t.equal(restart_required(t, "hp-e"), False)
        bus.must(add("hp-e", "disk", "data", path=path))
        t.equal(restart_required(t, "hp-e"), True)
        take("hp-e", "data")
        t.equal(restart_required(t, "hp-e"), False)
        bus.must(add("hp-e", "disk", "data", persist=True, path=path))
        t.equal(restart_required(t, "hp-e"), False)
        take("hp-e", "data")
        t.equal(restart_required(t, "hp-e"), True)
        bus.must(add("hp-e", "disk", "data", path=path))
        t.equal(restart_required(t, "hp-e"), False)
        take("hp-e", "data", Persist=True)
        t.equal(restart_required(t, "hp-e"), False)


@tap.test("of a machine that is stopped the definition is changed")
def test_cold(t):
    path = image(t, "/srv/plug.raw")
    with tiny.Machine("hp-f") as vm:
        bus.must(add("hp-f", "disk", "data", path=path))
        t.equal([d["id"] for d in config("hp-f", "next")["disks"]], ["data"])
        vm.start()
        t.equal(bus.get(device("hp-f", "data"), DEVICE, "HotPlugged"), False)
        vm.must("Terminate")
        bus.must(remove("hp-f", "data", Wait=True))
        t.true(not config("hp-f", "next").get("disks"), "it is still defined")
        t.equal(remove("hp-f", "data").error, f"{bus.NAME}.NoSuchDevice")


@tap.test("one change at a time, and the second client is told what is going on")
def test_busy(t):
    path = image(t, "/srv/plug.raw")
    with tiny.Machine("hp-g", tiny.config(disks=[{"path": path, "id": "data"}])) as vm:
        vm.start()
        job = bus.must(remove("hp-g", "data", TimeoutUSec=WHENEVER)).paths()[0]
        sentence = f"VM 'hp-g' is busy with job {job.rsplit('/', 1)[1]} (remove-device)"
        for reply in (remove("hp-g", "data"), add("hp-g", "disk", "x", path="/srv/none.raw"),
                      bus.vm("hp-g", "ResizeVCPUs", "1", NO)):
            t.equal((reply.error, reply.text), (BUSY, sentence))
        bus.must(bus.call(job, f"{bus.JOB}.Cancel", NO))
        t.equal(remove("hp-g", "data", Wait=True, TimeoutUSec=100000).error, TIMEOUT)
        t.equal(bus.get(device("hp-g", "data"), DEVICE, "State"), "present")
        take("hp-g", "data")


@tap.test("a removal that the daemon was killed in goes on under its number")
def test_killed(t):
    path = image(t, "/srv/plug.raw")
    with tiny.Machine("hp-h") as vm:
        vm.start()
        bus.must(add("hp-h", "disk", "data", path=path))
        job = bus.must(remove("hp-h", "data", TimeoutUSec=WHENEVER)).paths()[0]
        service.kill()
        t.eventually(lambda: vm.get("CurrentJob") == job, "the job is there again", 5)
        t.equal((jobs(), bus.get(device("hp-h", "data"), DEVICE, "State")), ([job], "ejecting"))
        t.equal(bus.get(device("hp-h", "data"), DEVICE, "HotPlugged"), True)
        bus.must(bus.call(job, f"{bus.JOB}.Cancel", NO))
        t.equal((vm.get("CurrentJob"), bus.get(device("hp-h", "data"), DEVICE, "State")), ("/", "present"))
        # the deadline passes while there is no daemon: then force is used at once
        bus.must(remove("hp-h", "data", TimeoutUSec=300000, Force=True))
        service.kill()
        t.eventually(lambda: "data" not in ids("hp-h"), "it is taken", 5)
        t.eventually(lambda: vm.get("CurrentJob") == "/", "the job is over", 5)
        t.equal((is_locked(path), restart_required(t, "hp-h"), vm.state), (False, False, "running"))


@tap.test("a device that the daemon was killed with as it came is there with all it has, or not at all")
def test_killed_adding(t):
    if not os.path.exists("/dev/net/tun"):
        tap.skip("no /dev/net/tun")
    with tiny.Machine("hp-j") as vm:
        vm.start()
        before, worker, old = service.interfaces(), vm.pid, service.pid()
        os.kill(worker, signal.SIGSTOP)
        client = subprocess.Popen(["busctl", "call", bus.NAME, vm.path, bus.VM, "AddDevice", "ssa{sv}a{sh}a{sv}", "net",
                                   "lan", "0", "0", "0"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        t.eventually(lambda: service.interfaces() != before, "its tap is there", 5)
        time.sleep(0.2)                 # the worker has it in its socket by now
        service.systemctl("reset-failed", service.UNIT)
        os.kill(old, signal.SIGKILL)
        os.kill(worker, signal.SIGCONT)
        service.wait_next(old)
        t.true(client.wait(10) != 0, "nobody answered, and it was told that it is there")
        came = "lan" in ids("hp-j")
        tap.diag(f"it {'came' if came else 'did not come'}")
        t.equal(restart_required(t, "hp-j"), came)
        if came:
            interface = bus.get(device("hp-j", "lan"), f"{DEVICE}.Net", "HostInterface")
            t.equal(sorted([*before, interface]), service.interfaces())
            take("hp-j", "lan")
        t.eventually(lambda: service.interfaces() == before, "its tap is gone", 5)
        bus.must(add("hp-j", "net", "lan"))


@tap.test("others must authenticate, an owner may, and files of the host are another question")
def test_polkit(t):
    path = image(t, "/srv/plug.raw")
    polkitrules.install(t, """
        if (subject.user == "alice" && (id == "create-vms" || (id == "use-host-resources" && !vm_device())))
            return polkit.Result.YES;
        function vm_device() { return verb == "add a device to"; }
        if (subject.user == "bob")
            return id == "modify-vms" && action.lookup("device") == "data" && vm == "hp-i"
                   ? polkit.Result.YES : polkit.Result.NO;
    """)
    with tiny.Machine("hp-i", tiny.config(disks=[{"path": path, "id": "data"}]), user="alice") as vm:
        vm.start()
        own = os.open(image(t, "/srv/plug-own.raw"), os.O_RDWR | os.O_CLOEXEC)
        t.cleanup(os.close, own)
        given = {"path": {"fd": "own"}}
        before = ids("hp-i")
        for user, error in (("mallory", AUTH), ("bob", DENIED)):
            t.equal(fdbus.add_device("hp-i", "disk", "own", given, {"own": own}, user=user).error, error, user)
        for user in ("alice", "mallory"):
            reply = add("hp-i", "disk", "x", path="/srv/plug-own.raw", user=user)
            t.equal(reply.error, AUTH, f"{user}: {reply.text}")
        t.equal(remove("hp-i", "data", user="mallory").error, AUTH)
        t.equal(bus.call(device("hp-i", "data"), f"{DEVICE}.Remove", NO, user="mallory").error, AUTH)
        t.equal((ids("hp-i"), vm.get("CurrentJob")), (before, "/"))
        # a descriptor of their own needs no more than the machine to be theirs
        bus.must(fdbus.add_device("hp-i", "disk", "own", given, {"own": own}, user="alice"))
        bus.must(remove("hp-i", "own", user="alice", Force=True, TimeoutUSec=1000, Wait=True))
        t.equal(remove("hp-i", "__rng", user="bob").ok, False)
        bus.must(remove("hp-i", "data", user="bob", Force=True, TimeoutUSec=1000, Wait=True))
        t.equal("data" in ids("hp-i"), False)


tap.main()
