#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-fs: a directory of the host, mounted and written from both sides."""
# timeout: 500
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile

import bus
import guest
import tap

MIB = 1 << 20
UNIT = "brume-virtiofsd-virtiofs:_fs0.service"


def directory(t):
    path = tempfile.mkdtemp(prefix="virtiofs-", dir="/var/tmp")
    t.cleanup(shutil.rmtree, path, True)
    return path


def config(fs, **more):
    c = guest.config(fs=fs, **more)
    c["memory"]["shared"] = True
    return c


def devices(name):
    """What Describe says of them."""
    status, values, text = bus.busctl(bus.vm_path(name), bus.VM, "Describe")
    if status != 0:
        raise AssertionError(text)
    return json.loads(values[0])["devices"]


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


@tap.test("mounted, written from both sides, over pause and reboot")
def test_source(t):
    path = directory(t)
    with open(f"{path}/from-host", "w", encoding="ascii") as f:
        f.write("hello from the host\n")
    with guest.Machine("virtiofs", config([{"tag": "shared", "source": path}], vcpus=2)) as vm:
        console = vm.boot()
        console.check("mkdir -p /mnt && mount -t virtiofs shared /mnt")
        t.equal(console.check("cat /mnt/from-host").strip(), "hello from the host")
        console.check("dd if=/dev/urandom of=/mnt/from-guest bs=1M count=16 conv=fsync")
        t.equal(sha256(f"{path}/from-guest"), console.check("sha256sum /mnt/from-guest").split()[0],
                "16 MiB that the guest wrote")
        console.check("mkdir /mnt/d && chown 1234:4321 /mnt/d && chmod 750 /mnt/d && ln -s d /mnt/l")
        st = os.stat(f"{path}/d")
        t.equal((st.st_uid, st.st_gid, st.st_mode & 0o777), (1234, 4321, 0o750), "owner and mode")
        t.equal(os.readlink(f"{path}/l"), "d", "a link")
        content = os.urandom(3 * MIB)
        with open(f"{path}/later", "wb") as f:
            f.write(content)
        t.equal(console.check("sha256sum /mnt/later").split()[0], hashlib.sha256(content).hexdigest(),
                "what the host wrote meanwhile")
        t.true(console.run("ls /mnt/..; ls /mnt/../var/tmp | grep -q virtiofs-")[1] != 0,
                "nothing above the directory")

        # docs/threat-model.md: whatever root may do to files, a guest's root does to these
        console.check("cp /bin/busybox /mnt/suid && chown 0:0 /mnt/suid && chmod 4755 /mnt/suid")
        console.check("mknod /mnt/null c 1 3 && mkfifo /mnt/fifo && ln /mnt/later /mnt/hard")
        t.equal(os.stat(f"{path}/suid").st_mode & 0o7777, 0o4755, "a set-user-ID program")
        t.equal((os.stat(f"{path}/null").st_mode & 0o170000, os.stat(f"{path}/null").st_rdev), (0o020000, 0x103),
                "a device")
        t.equal((os.stat(f"{path}/fifo").st_mode & 0o170000, os.stat(f"{path}/hard").st_nlink), (0o010000, 2))
        allowed = subprocess.run(["systemctl", "show", "-P", "SystemCallFilter", UNIT], capture_output=True,
                                 text=True, check=True).stdout.split()
        t.equal({"openat", "mknodat", "fchownat", "chroot"} - set(allowed), set(), "system calls it needs")
        t.equal({"ptrace", "bpf", "mount", "init_module", "open_by_handle_at", "reboot"} & set(allowed), set(),
                "system calls it has no business with")

        bus.must(bus.vm("virtiofs", "Pause", bus.options()))
        bus.must(bus.vm("virtiofs", "Resume", bus.options()))
        console.check("echo again > /mnt/again && sync")
        with open(f"{path}/again", encoding="ascii") as f:
            t.equal(f.read(), "again\n", "after a pause")
        t.equal(guest.complaints(console, r"virtio|virtiofs|fuse|FUSE"), [], "complaints of the kernel")
        t.equal([d["type"] for d in devices("virtiofs") if d["id"] == "_fs0"], ["fs"], "on the bus")
        t.equal(bus.get(f"{vm.path}/device/{bus.encode('_fs0')}", f"{bus.NAME}.Device.FileSystem", "Source"),
                path, "its Source")
        unit = subprocess.run(["systemctl", "list-units", "--plain", "--no-legend", "brume-virtiofsd-*"],
                              capture_output=True, text=True, check=True).stdout
        t.true(UNIT in unit, f"a unit of its own: {unit!r}")
        vm.shutdown()
    unit = subprocess.run(["systemctl", "list-units", "--plain", "--no-legend", "brume-virtiofsd-*"],
                          capture_output=True, text=True, check=True).stdout
    t.equal(unit, "", "units left behind")


@tap.test("a virtiofsd at a socket; its death breaks the device and not the machine")
def test_socket(t):
    path, socket = directory(t), "/var/tmp/virtiofsd.socket"
    t.cleanup(guest.unlink, socket)
    server = subprocess.Popen(["/usr/lib/qemu/virtiofsd", "-f", f"--socket-path={socket}", "-o",
                               f"source={path}"], stdin=subprocess.DEVNULL)
    t.cleanup(server.wait)
    t.cleanup(server.kill)
    t.eventually(lambda: os.path.exists(socket), "the socket")
    with guest.Machine("virtiofs-2", config([{"tag": "s", "socket": socket}])) as vm:
        console = vm.boot()
        console.check("mkdir -p /mnt && mount -t virtiofs s /mnt && echo there > /mnt/file")
        with open(f"{path}/file", encoding="ascii") as f:
            t.equal(f.read(), "there\n")
        with bus.Signals() as signals:
            server.kill()
            server.wait()
            t.eventually(lambda: any(d["id"] == "_fs0" and d["state"] == "broken" for d in devices("virtiofs-2")),
                         "a broken device")
            signals.wait(lambda s: s.member == "Event" and list(s.data[:2]) == ["virtio-device", "broken"], 20)
        t.equal(console.check("echo alive").strip(), "alive")
        # not shut down: what is mounted there holds the guest's sync up


@tap.test("what is wrong is told")
def test_wrong(t):
    path = directory(t)
    reply = bus.create("virtiofs-3", guest.config(fs=[{"tag": "x", "source": path}]))
    t.equal(reply.error, "org.brume.vm1.InvalidConfig")
    t.true("/memory/shared must be true" in reply.text, reply.text)
    with guest.Machine("virtiofs-4", config([{"tag": "x", "source": f"{path}/missing"}])):
        reply = bus.vm("virtiofs-4", "Start", bus.options(Wait=True))
        t.true(re.search(r"cannot open directory '.*/missing'", reply.text) is not None, f"{reply.error}: {reply.text}")
    with guest.Machine("virtiofs-5", config([{"tag": "x", "socket": f"{path}/missing"}])):
        reply = bus.vm("virtiofs-5", "Start", bus.options(Wait=True))
        t.true("no virtiofsd answers at" in reply.text, f"{reply.error}: {reply.text}")


tap.main()
