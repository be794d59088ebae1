#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
CreateVM with descriptors in place of paths: a machine starts from them, with no more
permission than to make one, and what is wrong with a descriptor is told by its name.
"""
# timeout: 300
import fcntl
import json
import os
import struct
import subprocess

import bus
import fdbus
import polkitrules
import service
import tap
import tiny

NO = bus.options()
INVALID = f"{bus.NAME}.InvalidConfig"
ARGS = f"{bus.ERRORS}.InvalidArgs"
DENIED = f"{bus.ERRORS}.AccessDenied"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x400454ca, 2, 0x1000, 0x4000, 0x100
MANY = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE


def opened(t, path, flags, mode=0o600):
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    t.cleanup(os.close, fd)
    return fd


def kernel(t):
    return opened(t, tiny.KERNEL, os.O_RDONLY)


def config(cmdline=tiny.DEAF, **more):
    return {**tiny.config(**more), "payload": {"kernel": {"fd": "kernel"}, "cmdline": cmdline}}


def tap_fd(t, name, flags=IFF_TAP | IFF_NO_PI | IFF_VNET_HDR):
    fd = opened(t, "/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


def make(t, name, document, fds, **options):
    t.cleanup(bus.remove, name)
    bus.must(fdbus.create(name, document, fds, Persistent=False, **options))


def start(name):
    bus.must(bus.vm(name, "Start", bus.options(Wait=True)))


@tap.test("a machine starts from descriptors alone, and is gone when it ends")
def test_start(t):
    before = service.traces()
    t.cleanup(service.expect_traces, t, before, 12)
    output, image = "/srv/fds.out", tiny.image("/srv/fds.img")
    t.cleanup(os.unlink, image)
    fds = {
        "kernel": kernel(t),
        "out": opened(t, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        "disk": opened(t, image, os.O_RDWR),
        "tap": tap_fd(t, "fdtap0"),
    }
    t.cleanup(os.unlink, output)
    # nothing that the daemon could open by its name
    os.rename(image, image + ".moved")
    t.cleanup(os.rename, image + ".moved", image)
    document = config(tiny.ENDS, serial={"mode": "File", "file": {"fd": "out"}},
                      disks=[{"path": {"fd": "disk"}}], net=[{"tap": {"fd": "tap"}}])
    make(t, "fds", document, fds)
    shown = bus.must(bus.vm("fds", "GetConfig", '"next"')).text
    t.true('"kernel":{"fd":"kernel"}' in shown and '"tap":{"fd":"tap"}' in shown, shown)
    start("fds")
    t.eventually(lambda: not bus.exists("fds"), "the machine is gone", 20)
    with open(output, encoding="utf-8", errors="replace") as f:
        t.true(f.read() != "", "the guest printed nothing")


def queues(pid, interface):
    """How many of a process's descriptors are of this tap."""
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with open(f"/proc/{pid}/fdinfo/{fd}") as f:
            n += f"iff:\t{interface}\n" in f.read()
    return n


def many(**more):
    return config(vcpus=2, net=[{"fds": [{"fd": "q0"}, {"fd": "q1"}], **more}])


@tap.test("a network with a descriptor for each pair of its queues")
def test_many(t):
    make(t, "fds", many(), {"kernel": kernel(t), "q1": tap_fd(t, "fdmany", MANY), "q0": tap_fd(t, "fdmany", MANY)})
    shown = bus.must(bus.vm("fds", "GetConfig", '"next"')).text
    t.true('"fds":[{"fd":"q0"},{"fd":"q1"}]' in shown, shown)
    start("fds")
    t.equal(queues(bus.vm_get("fds", "MainPID"), "fdmany"), 2)
    reply = fdbus.add_device("fds", "net", "more", {"fds": [{"fd": "q0"}]}, {})
    t.equal((reply.error, reply.text), (INVALID, "/net/1/fds/0: there is no descriptor 'q0', must be one that "
                                                 "came with AddDevice"))


@tap.test("a device that comes while the machine runs has them too")
def test_add(t):
    make(t, "fds", config(vcpus=2), {"kernel": kernel(t)})
    start("fds")
    worker = bus.vm_get("fds", "MainPID")
    fds = {"a": tap_fd(t, "fdadd", MANY), "b": tap_fd(t, "fdadd", MANY)}
    lan = {"fds": [{"fd": "a"}, {"fd": "b"}]}
    reply = fdbus.add_device("fds", "net", "lan", lan, {**fds, "c": tap_fd(t, "fdadd", MANY)})
    t.equal((reply.error, reply.text), (ARGS, 'descriptor \'c\' is not used, the configuration must refer to it '
                                              'with {"fd": "c"}'))
    reply = fdbus.add_device("fds", "net", "lan", lan, {"a": fds["a"], "b": os.dup(fds["a"])})
    t.equal(reply.error, INVALID, reply.text)
    t.match(reply.text, "/net/0/fds/1: descriptor 'b': a duplicate of another that is given")
    t.equal(queues(worker, "fdadd"), 0)
    bus.must(fdbus.add_device("fds", "net", "lan", lan, fds))
    t.equal(queues(worker, "fdadd"), 2)


@tap.test("brumectl hands over its own that the definition names by their numbers")
def test_brumectl(t):
    fds = [tap_fd(t, "fdctl", MANY), tap_fd(t, "fdctl", MANY)]
    t.cleanup(bus.remove, "fds")
    argv = ["brumectl", "create", "fds", "--transient", "--cpus", "boot=2", "--memory", "size=32M", "--kernel",
            tiny.KERNEL, "--cmdline", tiny.DEAF, "--net", f"fd=[{fds[0]},{fds[1]}]"]
    r = subprocess.run(argv, pass_fds=fds, capture_output=True, text=True, check=False)
    t.equal((r.returncode, r.stderr), (0, ""))
    start("fds")
    t.equal(queues(bus.vm_get("fds", "MainPID"), "fdctl"), 2)


@tap.test("it can be reset: the worker reads the kernel again")
def test_reset(t):
    make(t, "fds", config(), {"kernel": kernel(t)})
    start("fds")
    bus.must(bus.vm("fds", "Reset", NO))
    t.eventually(lambda: bus.vm_get("fds", "State") == "running", "it runs again", 20)


@tap.test("a restart of the daemon leaves a running machine alone, and has no descriptors for others")
def test_restart(t):
    make(t, "fds", config(), {"kernel": kernel(t)})
    make(t, "waiting", config(), {"kernel": kernel(t)})
    start("fds")
    worker = bus.vm_get("fds", "MainPID")
    service.systemctl("restart", service.UNIT)
    service.wait_up()
    t.equal((bus.vm_get("fds", "State"), bus.vm_get("fds", "MainPID")), ("running", worker))
    t.true(not bus.exists("waiting"), "a machine that never ran was kept")
    reply = bus.vm("fds", "SetConfig", bus.text(json.dumps(config())), NO)
    t.equal((reply.error, reply.text), (INVALID, "/payload/kernel: there is no descriptor 'kernel', "
                                                 "must be one that came with CreateVM"))
    bus.must(bus.vm("fds", "Terminate", NO))
    t.eventually(lambda: not bus.exists("fds"), "the machine is gone", 10)


@tap.test("who may make machines may use descriptors; paths need more")
def test_polkit(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && (id == "create-vms" || id == "manage-vms"))
            return polkit.Result.YES;
        return polkit.Result.NO;''')
    t.cleanup(bus.remove, "fds")
    reply = bus.create("fds", tiny.config(), user="alice", Persistent=False)
    t.equal(reply.error, DENIED)
    t.match(reply.text, r"use-host-resources")
    half = config(rng={"src": "/dev/random"})
    reply = fdbus.create("fds", half, {"kernel": kernel(t)}, user="alice", Persistent=False)
    t.equal(reply.error, DENIED)
    bus.must(fdbus.create("fds", config(), {"kernel": kernel(t)}, user="alice", Persistent=False))
    bus.must(bus.vm("fds", "Start", bus.options(Wait=True), user="alice"))
    t.equal(fdbus.create("more", config(), {"kernel": kernel(t)}, user="bob", Persistent=False).error, DENIED)


def disk(**more):
    return config(disks=[{"path": {"fd": "disk"}, **more}])


def net(**more):
    return config(net=[{"tap": {"fd": "tap"}, **more}])


# configuration, descriptors besides "kernel" as functions of the test, error, text
BAD = [
    ("no descriptor", disk(), lambda t: {}, INVALID,
     r"^/disks/0/path: there is no descriptor 'disk', must be one that came with CreateVM$"),
    ("one left over", config(), lambda t: {"disk": kernel(t)}, ARGS,
     r"^descriptor 'disk' is not used, the configuration must refer to it with \{\"fd\": \"disk\"\}$"),
    ("one for two keys", config(disks=[{"path": {"fd": "kernel"}, "readonly": True}]), lambda t: {}, INVALID,
     r"^/disks/0/path: descriptor 'kernel' is /payload/kernel's already, must be another$"),
    ("O_PATH", disk(), lambda t: {"disk": opened(t, tiny.KERNEL, os.O_PATH)}, INVALID,
     r"^/disks/0/path: descriptor 'disk' was opened with O_PATH"),
    ("not writable", disk(), lambda t: {"disk": kernel(t)}, INVALID,
     r"^/disks/0/path: descriptor 'disk' is open for reading only, must be for reading and writing$"),
    ("a directory", disk(readonly=True), lambda t: {"disk": opened(t, "/srv", os.O_RDONLY)}, INVALID,
     r"^/disks/0/path: descriptor 'disk' is a directory, must be a regular file or block device$"),
    ("no tap", net(), lambda t: {"tap": kernel(t)}, INVALID, r"^/net/0/tap: descriptor 'tap' is open for reading"),
    ("an address for it", net(ip="192.0.2.1", mask="255.255.255.0"), lambda t: {"tap": tap_fd(t, "fdtap1")},
     INVALID, r"^/net/0/ip: has no effect with a descriptor"),
    ("one too few", many(), lambda t: {"q0": tap_fd(t, "fdtap3", MANY)}, INVALID,
     r"^/net/0/fds/1: there is no descriptor 'q1', must be one that came with CreateVM$"),
    ("of another number than its queues", many(num_queues=2), lambda t: {}, INVALID,
     r"^/net/0/num_queues: 2 is not two for each of the 2 descriptors of /net/0/fds, must be 4$"),
    ("no taps", many(), lambda t: {"q0": kernel(t), "q1": kernel(t)}, INVALID,
     r"^/net/0/fds/0: descriptor 'q0' is open for reading"),
    ("another object", config(rng={"src": {"path": "/dev/random"}}), lambda t: {}, INVALID,
     r'^/rng/src: must be a string or \{"fd": NAME\}, is another object$'),
]


@tap.test("CreateVM refuses descriptors that are", cases=BAD)
def test_bad(t, document, more, error, text):
    reply = fdbus.create("bad", document, {"kernel": kernel(t), **more(t)}, Persistent=False)
    t.true(not reply.ok, "it was accepted")
    t.equal(reply.error, error, reply.text)
    t.match(reply.text, text)
    t.true(not bus.exists("bad"), "a machine was made")


@tap.test("a machine that is kept cannot keep descriptors")
def test_persistent(t):
    reply = fdbus.create("bad", config(), {"kernel": kernel(t)})
    t.equal((reply.error, reply.text),
            (ARGS, "descriptor 'kernel': a persistent VM cannot keep it, name a path or set option "
                   "'Persistent' to false"))


@tap.test("a tap that was opened for another protocol is refused when the machine starts")
def test_tap(t):
    make(t, "fds", net(), {"kernel": kernel(t), "tap": tap_fd(t, "fdtap2", IFF_TAP)})
    reply = bus.vm("fds", "Start", bus.options(Wait=True))
    t.equal(reply.error, INVALID, reply.text)
    t.match(reply.text, r"^/net/0/tap: descriptor 'tap': attached to 'fdtap2' without IFF_NO_PI and IFF_VNET_HDR")


# the two queues of many(), and what is wrong with them
WRONG = [
    ("one queue twice", lambda t: [tap_fd(t, "fdtap4", MANY)] * 2,
     r"^/net/0/fds/1: descriptor 'q1': a duplicate of another that is given"),
    ("two taps", lambda t: [tap_fd(t, "fdtap5", MANY), tap_fd(t, "fdtap6", MANY)],
     r"^/net/0/fds/1: descriptor 'q1': attached to 'fdtap6', must be to 'fdtap5' like the first of /net/0/fds$"),
    ("one that has but one queue", lambda t: [tap_fd(t, "fdtap7"), tap_fd(t, "fdtap8", MANY)],
     r"^/net/0/fds/0: descriptor 'q0': attached to 'fdtap7' without IFF_MULTI_QUEUE"),
]


@tap.test("queues that are none of one tap are refused when the machine starts", cases=WRONG)
def test_queues(t, opened_as, text):
    first, second = opened_as(t)
    make(t, "fds", many(), {"kernel": kernel(t), "q0": first, "q1": second})
    reply = bus.vm("fds", "Start", bus.options(Wait=True))
    t.equal(reply.error, INVALID, reply.text)
    t.match(reply.text, text)


@tap.test("an image in use by another machine")
def test_lock(t):
    path = tiny.image("/srv/fds.img")
    t.cleanup(os.unlink, path)
    with tiny.Machine("owner", tiny.config(disks=[{"path": path}])) as owner:
        owner.start()
        make(t, "fds", disk(), {"kernel": kernel(t), "disk": opened(t, path, os.O_RDWR)})
        reply = bus.vm("fds", "Start", bus.options(Wait=True))
        t.equal(reply.error, f"{bus.NAME}.ResourceUnavailable", reply.text)
        t.match(reply.text, r"image descriptor 'disk' is in use by VM 'owner'")
        # as every transient one that could not be started
        t.eventually(lambda: not bus.exists("fds"), "the machine is gone", 10)


@tap.test("one descriptor of an image for two machines")
def test_lock_twice(t):
    path = tiny.image("/srv/fds.img")
    t.cleanup(os.unlink, path)
    fds = {"kernel": kernel(t), "disk": opened(t, path, os.O_RDWR)}
    make(t, "fds", disk(), fds)
    make(t, "more", disk(), fds)
    start("fds")
    reply = bus.vm("more", "Start", bus.options(Wait=True))
    t.equal(reply.error, f"{bus.NAME}.ResourceUnavailable", reply.text)
    t.match(reply.text, r"image descriptor 'disk' is in use by VM 'fds'")


tap.main()
