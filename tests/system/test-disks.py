#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Resize and Replace of a running machine's disks on the bus: what may, what says no, who may ask.

What a guest sees of it has a test in the linux rig.
"""
import fcntl
import os
import struct

import bus
import fdbus
import polkitrules
import service
import tap
import tiny

DISK = f"{bus.NAME}.Device.Disk"
DENIED = f"{bus.ERRORS}.AccessDenied"
INVALID = "org.freedesktop.DBus.Error.InvalidArgs"
UNSUPPORTED = "org.freedesktop.DBus.Error.NotSupported"
NO = bus.options()
WAIT = bus.options(Wait=True)
MIB = 1 << 20


def device(name, identity):
    return f"{bus.vm_path(name)}/device/{bus.encode(identity)}"


def image(t, name):
    path = tiny.image(f"/srv/{name}")
    t.cleanup(os.unlink, path)
    return path


def resize(name, identity, size, user=None, options=WAIT):
    return bus.call(device(name, identity), f"{DISK}.Resize", str(size), options, user=user)


def replace(name, identity, user=None, persist=False, **source):
    return bus.call(device(name, identity), f"{DISK}.Replace", bus.options(**source),
                    bus.options(Persist=persist), user=user)


def is_locked(path):
    """Has somebody else locked it against writers?"""
    with open(path, "r+b") as f:
        try:
            fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
        except (BlockingIOError, PermissionError):
            return True
    return False


@tap.test("a raw disk becomes larger and smaller, and says so")
def test_resize(t):
    path, other = image(t, "size.raw"), image(t, "size-ro.raw")
    config = tiny.config(disks=[{"path": path, "id": "d0"}, {"path": other, "id": "ro", "readonly": True}])
    with tiny.Machine("size", config) as vm, bus.Signals() as signals:
        vm.start()
        for size in [4 * MIB, MIB + 512, 2 * MIB]:
            t.match(bus.must(resize("size", "d0", size)).text, r"/job/\d+")
            t.equal(os.stat(path).st_size, size)
            signals.wait(lambda s: s.member == "PropertiesChanged" and s.path == device("size", "d0"), 5)
            t.equal(bus.get(device("size", "d0"), DISK, "Size"), size)
        vm.must("Pause")
        bus.must(resize("size", "d0", 8 * MIB))
        t.equal(bus.get(device("size", "d0"), DISK, "Size"), 8 * MIB)
        vm.must("Resume")
        t.equal(vm.get("RestartRequired"), False)
        for identity, size, error, text in [
                ("d0", 0, INVALID, r"^disk 'd0' of VM 'size' cannot have 0 bytes, must be a multiple of 512"),
                ("d0", 513, INVALID, r"cannot have 513 bytes, must be a multiple of 512"),
                ("d0", (1 << 64) - 512, INVALID, r"less than 8 EiB$"),
                ("ro", MIB, f"{bus.NAME}.InvalidState", r"^disk 'ro' of VM 'size' is read-only")]:
            reply = resize("size", identity, size)
            t.equal(reply.error, error)
            t.match(reply.text, text)
        t.equal(os.stat(path).st_size, 8 * MIB)
        t.equal(bus.get(device("size", "d0"), DISK, "Size"), 8 * MIB)


@tap.test("another image takes the place of a disk's, with its lock")
def test_replace(t):
    first, second, third = [image(t, f"medium-{n}.raw") for n in range(3)]
    os.truncate(second, 3 * MIB)
    with open(third, "r+b") as f:
        f.write(b"QFI\xfb" + bytes(508))
    with tiny.Machine("medium", tiny.config(disks=[{"path": first, "id": "d0"}])) as vm:
        vm.start()
        t.equal((is_locked(first), is_locked(second)), (True, False))
        bus.must(replace("medium", "d0", Path=second))
        t.equal((is_locked(first), is_locked(second)), (False, True))
        t.equal(bus.get(device("medium", "d0"), DISK, "Path"), second)
        t.equal(bus.get(device("medium", "d0"), DISK, "Size"), 3 * MIB)
        t.equal(vm.get("RestartRequired"), True)

        # a bad one leaves the old one where it is
        for source, error, text in [
                ({"Path": third}, f"{bus.NAME}.InvalidConfig", r"^/disks/0/path: '/srv/medium-2\.raw': .*qcow2"),
                ({"Path": "/srv/nothing"}, "org.freedesktop.DBus.Error.FileNotFound", r"No such file"),
                ({"Path": "/srv"}, f"{bus.NAME}.ResourceUnavailable", r"'/srv' is a directory"),
                ({"Path": second}, f"{bus.NAME}.ResourceUnavailable",
                 r"^'/srv/medium-1\.raw' is the image of disk 'd0' of VM 'medium' already$"),
                ({}, INVALID, r"^the source has no image, must have either Path or FD$")]:
            reply = replace("medium", "d0", **source)
            t.equal(reply.error, error, reply.text)
            t.match(reply.text, text)
        t.equal((is_locked(second), is_locked(third)), (True, False))
        t.equal(bus.get(device("medium", "d0"), DISK, "Path"), second)

        # the daemon and the machine's next worker know it
        service.kill()
        t.eventually(lambda: bus.get(device("medium", "d0"), DISK, "Path") == second, "the image")
        bus.must(replace("medium", "d0", Path=third, Format="raw", persist=True))
        t.equal(vm.get("RestartRequired"), False)
        vm.must("Reset")
        t.equal(bus.get(device("medium", "d0"), DISK, "Path"), third)
        vm.must("Terminate")
        vm.start()
        t.equal(bus.get(device("medium", "d0"), DISK, "Path"), third)
        t.equal((is_locked(first), is_locked(second), is_locked(third)), (False, False, True))


@tap.test("who may change disks")
def test_polkit(t):
    polkitrules.install(t, """
        if (action.id == "org.brume.vm1.modify-vms")
            return subject.user == "alice" && action.lookup("device") == "d0" &&
                   action.lookup("device-type") == "disk"
                   ? polkit.Result.YES : polkit.Result.NO;
        if (action.id == "org.brume.vm1.use-host-resources")
            return subject.user == "bob" && action.lookup("path") == "/srv/who-2.raw"
                   ? polkit.Result.YES : polkit.Result.NO;
    """)
    first, second, third = [image(t, f"who-{n}.raw") for n in range(3)]
    config = tiny.config(disks=[{"path": first, "id": "d0"}, {"path": second, "id": "d1"}])
    with tiny.Machine("who", config) as vm:
        vm.start()
        bus.must(resize("who", "d0", 2 * MIB, user="alice"))
        t.equal(resize("who", "d1", 2 * MIB, user="alice").error, DENIED)
        t.equal(resize("who", "d0", 2 * MIB, user="mallory").error, DENIED)
        # a path is a resource of the host, a descriptor is the caller's own
        t.equal(replace("who", "d0", Path=third, user="alice").error, DENIED)
        bus.must(replace("who", "d0", Path=third, user="bob"))
        t.equal(bus.get(device("who", "d0"), DISK, "Path"), third)
        with open(first, "r+b") as f:
            t.equal(fdbus.replace_disk("who", "d0", f.fileno(), user="mallory").error, DENIED)
            bus.must(fdbus.replace_disk("who", "d0", f.fileno(), user="alice"))
        t.equal(bus.get(device("who", "d0"), DISK, "Path"), "")
        t.equal((is_locked(first), is_locked(third)), (True, False))


tap.main()
