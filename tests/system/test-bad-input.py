#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What is wrong is refused with the right error name and a sentence that says what would be right, and
leaves no trace: no VM, no unit, no file, no descriptor.
"""
# timeout: 400
import json
import os
import socket
import subprocess

import bus
import service
import tap
import tiny

NO = bus.options()
INVALID = f"{bus.NAME}.InvalidConfig"
ARGS = f"{bus.ERRORS}.InvalidArgs"
UNSUPPORTED = f"{bus.ERRORS}.NotSupported"
HOST = f"{bus.NAME}.ResourceUnavailable"
MISSING = f"{bus.ERRORS}.FileNotFound"
SIGNATURE = ("local", ARGS, f"{bus.ERRORS}.InvalidSignature", f"{bus.ERRORS}.UnknownMethod")


def unchanged(t):
    """Checks at the end of the test that the host is as it is now."""
    if not getattr(unchanged, "warm", False):
        unchanged.warm = True
        with tiny.Machine("warm") as vm:
            vm.start()
        t.eventually(lambda: service.units() == [], "the unit of the first machine is gone")
    before = service.traces()
    t.cleanup(service.expect_traces, t, before, 12)


def expect(t, reply, error, text):
    t.true(not reply.ok, f"it was accepted: {reply.text}")
    t.equal(reply.error, error, reply.text)
    t.match(reply.text, text)


# --- configurations: error, text -------------------------------------------------

def base(**more):
    return tiny.config(**more)


def cpus(**more):
    return {**base(), "cpus": more}


def memory(**more):
    return {**base(), "memory": more}


def disks(*list_):
    return base(disks=list(list_))


def nets(*list_):
    return base(net=list(list_))


def payload(**more):
    return {**base(), "payload": more}


DISK = {"path": "/srv/bad-input.img"}

CONFIGS = [
    # not a JSON object at all
    ("empty text", "", INVALID, r"JSON|empty|end"),
    ("half an object", '{"cpus": {', INVALID, r"line 1|end|column"),
    ("a comma too many", '{"cpus": {},}', INVALID, r"line 1|column|,"),
    ("single quotes", "{'cpus': {}}", INVALID, r"line 1|column"),
    ("a list", "[]", INVALID, r"must be an object"),
    ("a string", '"vm"', INVALID, r"object"),
    ("a number", "7", INVALID, r"object"),
    ("null", "null", INVALID, r"object"),
    ("text after the end", json.dumps(base()) + " x", INVALID, r"line 1|column|after"),
    ("a key twice", '{"payload": {"kernel": "/a", "kernel": "/b"}}', INVALID, r"twice|/payload|kernel"),
    ("too deep", "[" * 2000 + "]" * 2000, INVALID, r"deep|nest"),
    ("not a number", '{"memory": {"size": 1e999}, "payload": {"kernel": "/a"}}', INVALID,
     r"^/memory/size: |number|range|line 1"),
    # keys
    ("unknown section", base(cpu={}), INVALID, r"^/cpu: .*unknown.*cpus"),
    ("unknown key", cpus(boot_vcpu=1), INVALID, r"^/cpus/boot_vcpu: .*unknown.*boot_vcpus"),
    ("unknown key of a disk", disks({**DISK, "read_only": True}), INVALID,
     r"^/disks/0/read_only: .*unknown.*readonly"),
    ("a later feature: tpm", base(tpm={"socket": "/s"}), UNSUPPORTED,
     r"^/tpm: not supported yet"),
    ("a vsock's number", base(vsock={"cid": 2, "socket": "/s"}), INVALID,
     r"^/vsock/cid: 2 "),
    ("zones beside a size", memory(size=32 << 20, zones=[{"id": "a", "size": 32 << 20}]), INVALID,
     r"^/memory/"),
    ("a file of a terminal", base(serial={"mode": "Pty", "file": "/dev/pts/7"}), INVALID,
     r"^/serial/file: has no effect in mode Pty, needs mode File$"),
    ("a rate limit without a time", disks({**DISK, "rate_limiter_config": {"bandwidth": {"size": 1}}}),
     INVALID, r"^/disks/0/rate_limiter_config/bandwidth/refill_time: missing, must be given"),
    ("a rate limit group that there is not", disks({**DISK, "rate_limit_group": "g"}),
     INVALID, r"^/disks/0/rate_limit_group: there is no group 'g', must be the id of one of "),
    # types
    ("a string for a number", cpus(boot_vcpus="two"), INVALID,
     r"^/cpus/boot_vcpus: must be an integer, is the string 'two'$"),
    ("a fraction", cpus(boot_vcpus=1.5), INVALID, r"^/cpus/boot_vcpus: must be an integer, is 1\.5$"),
    ("a number for a truth value", memory(size=32 << 20, shared=1), INVALID,
     r"^/memory/shared: must be (a boolean|true or false), is 1$"),
    ("a list for a section", {**base(), "cpus": []}, INVALID, r"^/cpus: must be an object"),
    ("an object for a list", {**base(), "disks": DISK}, INVALID, r"^/disks: must be a list, is an object$"),
    ("a number for a path", disks({"path": 7}), INVALID, r"^/disks/0/path: must be a string, is 7$"),
    ("a list for a string", payload(kernel=["/a"]), INVALID, r"^/payload/kernel: must be a string, is a list$"),
    ("a string among disks", disks("a.img"), INVALID, r"^/disks/0: must be an object"),
    ("text for a size", memory(size="much"), INVALID, r"^/memory/size: .*'much'"),
    ("unknown mode", base(console={"mode": "Loud"}), INVALID,
     r"^/console/mode: 'Loud' is unknown, must be Off, Null, Tty, File, Socket or Pty$"),
    # values
    ("no vCPU", cpus(boot_vcpus=0), INVALID, r"^/cpus/boot_vcpus: 0 is out of range, must be 1 to 1024$"),
    ("minus one vCPU", cpus(boot_vcpus=-1), INVALID, r"^/cpus/boot_vcpus: -1 is out of range"),
    ("too many vCPUs", cpus(boot_vcpus=1025), INVALID, r"^/cpus/boot_vcpus: 1025 is out of range"),
    ("more vCPUs than fit", cpus(boot_vcpus=1 << 40), INVALID, r"^/cpus/boot_vcpus: 1099511627776 is out"),
    ("max below boot", cpus(boot_vcpus=4, max_vcpus=2), INVALID,
     r"^/cpus/max_vcpus: 2 is less than /cpus/boot_vcpus, must be at least 4$"),
    ("wrong topology", cpus(boot_vcpus=4, topology={"threads_per_core": 1, "cores_per_die": 3,
                                                     "dies_per_package": 1, "packages": 1}), INVALID,
     r"^/cpus/topology: 1:3:1:1 makes 3 vCPUs, must make 4"),
    ("half a topology", cpus(boot_vcpus=1, topology={"packages": 1}), INVALID,
     r"^/cpus/topology.*threads_per_core.*(missing|must be given)"),
    ("affinity of no vCPU", cpus(boot_vcpus=1, affinity=[{"vcpu": 3, "host_cpus": [0]}]), INVALID,
     r"^/cpus/affinity/0/vcpu: 3 does not exist, must be 0 to 0$"),
    ("no memory", memory(size=0), INVALID, r"^/memory/size: is 0 and there are no /memory/zones, must be at least 16777216"),
    ("odd memory", memory(size=(32 << 20) + 1), INVALID, r"^/memory/size: 33554433 is not a multiple of 1 MiB"),
    ("impossible memory", memory(size=1 << 50), INVALID, r"^/memory/size: 1125899906842624 does not fit 46"),
    ("memory of 2^64", memory(size=1 << 64), INVALID, r"integer is too large, must fit 64 bits"),
    ("page size without huge pages", memory(size=32 << 20, hugepage_size=2 << 20), INVALID,
     r"^/memory/hugepage_size: has no effect, needs /memory/hugepages$"),
    ("merged and shared", memory(size=32 << 20, mergeable=True, shared=True), INVALID,
     r"^/memory/mergeable: cannot be had with /memory/shared"),
    ("nothing to start", payload(), INVALID, r"^/payload: names nothing to start, must have 'kernel' or 'firmware'"),
    ("kernel and firmware", payload(kernel="/a", firmware="/b"), INVALID,
     r"^/payload/firmware: cannot be had with /payload/kernel"),
    ("an initramfs for a firmware", payload(firmware="/b", initramfs="/c"), INVALID,
     r"^/payload/initramfs: has no effect with a firmware"),
    ("a relative kernel", payload(kernel="vmlinuz"), INVALID, r"^/payload/kernel: 'vmlinuz' .*absolute|must (be|start)"),
    ("an empty path", disks({"path": ""}), INVALID, r"^/disks/0/path: ''"),
    ("a disk without path", disks({"id": "a"}), INVALID, r"^/disks/0.*path.*(missing|must be given)"),
    ("ids twice", disks({**DISK, "id": "a"}, {"path": "/b", "id": "a"}), INVALID,
     r"^/disks/1/id: 'a' is /disks/0's too, must be unique$"),
    ("an id of a disk and a net", base(disks=[{**DISK, "id": "a"}], net=[{"id": "a"}]), INVALID,
     r"^/net/0/id: 'a' is /disks/0's too, must be unique$"),
    ("one image twice", disks(DISK, DISK), INVALID, r"^/disks/1/path: .* is /disks/0 too, must be read-only"),
    ("one slot twice", disks({**DISK, "pci_device_id": 5}, {"path": "/b", "pci_device_id": 5}), INVALID,
     r"^/disks/1/pci_device_id: 5 is /disks/0's too, must be unique$"),
    ("slot 0", disks({**DISK, "pci_device_id": 0}), INVALID, r"^/disks/0/pci_device_id: 0 is the host bridge's on segment 0, must be 1 to 31$"),
    ("a queue size of 3", disks({**DISK, "queue_size": 3}), INVALID, r"^/disks/0/queue_size: 3 "),
    ("a queue size of 100", disks({**DISK, "queue_size": 100}), INVALID, r"^/disks/0/queue_size: 100 .*power of two"),
    ("more queues than vCPUs", disks({**DISK, "num_queues": 2}), INVALID,
     r"^/disks/0/num_queues: 2 is more than /cpus/boot_vcpus, must be at most 1"),
    ("a long serial number", disks({**DISK, "serial": "x" * 21}), INVALID, r"^/disks/0/serial: .*20"),
    ("too many disks", disks(*({"path": f"/d{n}"} for n in range(129))), INVALID,
     r"^/disks: 129 entries are too many, must be at most 128$"),
    ("a wrong MAC", nets({"mac": "52:54:00:12:34"}), INVALID,
     r"^/net/0/mac: '52:54:00:12:34' is not a MAC address, must be like 52:54:00:12:34:56$"),
    ("a multicast MAC", nets({"mac": "01:00:5e:00:00:01"}), INVALID, r"^/net/0/mac: "),
    ("odd net queues", nets({"num_queues": 3}), INVALID, r"^/net/0/num_queues: 3 is odd"),
    ("a wrong address", nets({"ip": "192.168.1.256", "mask": "255.255.255.0"}), INVALID, r"^/net/0/ip: "),
    ("one tap twice", nets({"tap": "tap0"}, {"tap": "tap0"}), INVALID, r"^/net/1/tap: .*tap0"),
    ("a long tap name", nets({"tap": "a-name-longer-than-15"}), INVALID, r"^/net/0/tap: .*15"),
    ("file mode without file", base(serial={"mode": "File"}), INVALID,
     r"^/serial/file: missing, must be given in mode File$"),
    ("a file in another mode", base(serial={"mode": "Tty", "file": "/f"}), INVALID,
     r"^/serial/file: has no effect in mode Tty, needs mode File$"),
    ("a taken port", base(debug_console={"mode": "File", "file": "/f", "iobase": 0x3f8}), INVALID,
     r"^/debug_console/iobase: 1016 \(0x3f8\) belongs to the serial port"),
    ("not a UUID", base(platform={"uuid": "hello"}), INVALID, r"^/platform/.*uuid: 'hello'"),
    ("a long command line", payload(kernel="/a", cmdline="x" * 70000), INVALID, r"^/payload/cmdline: "),
]


@tap.test("CreateVM refuses the configuration", cases=CONFIGS)
def test_config(t, config, error, text):
    unchanged(t)
    expect(t, bus.create("bad", config), error, text)
    # the same verdict, without a VM, and for a VM that exists
    document = config if isinstance(config, str) else json.dumps(config)
    reply = bus.must(bus.manager("ValidateConfig", bus.text(document), NO))
    t.true("'error'" in reply.text, f"ValidateConfig: {reply.text}")


@tap.test("ValidateConfig tells all that is wrong, in the document's order")
def test_validate(t):
    document = {**base(tpm={"socket": "a"}, disks=[{"path": "a", "queue_size": 6}]), "cpus": {"boot_vcpus": 0},
                "serail": {}}
    pointers = ["/cpus/boot_vcpus", "/tpm", "/disks/0/path", "/serail"]
    status, values, error = bus.busctl(bus.ROOT, bus.MANAGER, "ValidateConfig", "sa{sv}", json.dumps(document), 0)
    t.equal(status, 0, error)
    t.equal([(row[0], row[1]) for row in values[0]], [("error", p) for p in pointers])
    # the first one is CreateVM's, and brumectl prints a line each
    t.match(bus.create("bad", document).text, r"^/cpus/boot_vcpus: ")
    with open("/srv/all-wrong.json", "w") as f:
        json.dump(document, f)
    t.cleanup(os.unlink, "/srv/all-wrong.json")
    status, out, _ = bus.ctl("validate", "/srv/all-wrong.json")
    t.equal(status, 1)
    t.equal([line.split(": ")[:2] for line in out.splitlines()], [["error", p] for p in pointers])


@tap.test("SetConfig refuses what CreateVM refuses, and keeps the definition", cases=[CONFIGS[n] for n in (
    0, 1, 4, 13, 20, 30)])
def test_set_config(t, config, error, text):
    unchanged(t)
    with tiny.Machine("good") as vm:
        before = vm.must("GetConfig", '"next"').text
        document = config if isinstance(config, str) else json.dumps(config)
        expect(t, vm.call("SetConfig", bus.text(document), NO), error, text)
        t.equal(vm.must("GetConfig", '"next"').text, before)


@tap.test("the UUID of a VM cannot be changed")
def test_set_uuid(t):
    with tiny.Machine("good") as vm:
        other = tiny.config(platform={"uuid": "12345678-9abc-def0-1234-56789abcdef0"})
        expect(t, vm.call("SetConfig", bus.text(json.dumps(other)), NO), INVALID,
               r"^/platform/uuid: the UUID of VM 'good' is .* and cannot be changed$")


# --- names and options -----------------------------------------------------------

@tap.test("CreateVM refuses the name", cases=[
    ("empty", "", r"^the name of a VM is empty$"),
    ("a slash", "../etc", r"^VM name '\.\./etc' is not a host name"),
    ("a space", "a b", r"^VM name 'a b' is not a host name"),
    ("a leading dash", "-a", r"is not a host name"),
    ("a trailing dot", "a.", r"is not a host name"),
    ("two dots", "a..b", r"is not a host name"),
    ("not ASCII", "höst", r"is not a host name"),
    ("a newline", "a\nb", r"is not a host name"),
    ("65 characters", "a" * 65, r"has 65 bytes, at most 64 are allowed$"),
    ("100000 characters", "a" * 100000, r"^VM name 'a{40}\.\.\.' has 100000 bytes, at most 64"),
])
def test_name(t, name, text):
    unchanged(t)
    expect(t, bus.create(name, tiny.config()), ARGS, text)


@tap.test("a name of 64 characters works, from start to end")
def test_long_name(t):
    unchanged(t)
    with tiny.Machine("n" * 64) as vm:
        vm.start()
        t.equal(vm.state, "running")


@tap.test("CreateVM refuses the options", cases=[
    ("unknown key", bus.options(Persist=True), ARGS, r"^unknown option 'Persist': CreateVM knows 'Persistent'"),
    ("wrong case", bus.options(autostart=True), ARGS, r"^unknown option 'autostart'"),
    ("wrong type", bus.options(Autostart="yes"), ARGS, r"^option 'Autostart' has type 's', must be 'b'$"),
    ("number for text", bus.options(Description=7), ARGS, r"^option 'Description' has type 't', must be 's'$"),
    ("transient with Autostart", bus.options(Persistent=False, Autostart=True), ARGS,
     r"^option 'Autostart' needs a persistent VM$"),
    ("not a slice", bus.options(Slice="system.service"), ARGS, r"^option 'Slice': 'system\.service' is not a slice"),
    ("a slice with a path", bus.options(Slice="../x.slice"), ARGS, r"is not a slice"),
    ("a slice of nothing", bus.options(Slice=".slice"), ARGS, r"is not a slice"),
])
def test_create_options(t, options, error, text):
    unchanged(t)
    reply = bus.manager("CreateVM", '"bad"', bus.text(json.dumps(tiny.config())), "@a{sh} {}", options)
    expect(t, reply, error, text)


@tap.test("an option that is given twice")
def test_twice(t):
    unchanged(t)
    status, _, error = bus.busctl(bus.ROOT, bus.MANAGER, "CreateVM", "ssa{sh}a{sv}", "bad",
                                  json.dumps(tiny.config()), 0, 2, "Autostart", "b", "true",
                                  "Autostart", "b", "false")
    t.equal(status, 1)
    t.match(error, "option 'Autostart' is given twice")


OPTIONS = [
    ("Start", "Start", bus.options(Fast=True), r"^unknown option 'Fast': Start knows 'Paused', 'Wait'$"),
    ("Start, wrong type", "Start", bus.options(Wait="true"), r"^option 'Wait' has type 's', must be 'b'$"),
    ("Shutdown", "Shutdown", bus.options(Timeout=1), r"^unknown option 'Timeout': Shutdown knows 'TimeoutUSec'"),
    ("Shutdown, wrong type", "Shutdown", bus.options(TimeoutUSec=("int32", 5)),
     r"^option 'TimeoutUSec' has type 'i', must be 't'$"),
    ("Terminate", "Terminate", bus.options(Now=True), r"^unknown option 'Now': Terminate has no options$"),
    ("Pause", "Pause", bus.options(Wait=True), r"^unknown option 'Wait': Pause has no options$"),
    ("Delete", "Delete", bus.options(Force=True), r"^unknown option 'Force': Delete knows 'RemoveState'$"),
]


@tap.test("methods of a VM refuse unknown options and wrong types", cases=OPTIONS)
def test_options(t, method, options, text):
    unchanged(t)
    with tiny.Machine("opts") as vm:
        expect(t, vm.call(method, options), ARGS, text)
        t.equal(vm.state, "stopped")


@tap.test("wrong argument types do not reach the service", cases=[
    ("CreateVM with a number for the name", "ussa{sv}", ("CreateVM", 7, "{}", "x", 0)),
    ("CreateVM without options", "ss", ("CreateVM", "bad", "{}")),
    ("GetVM with a number", "u", ("GetVM", 1)),
    ("GetVM without argument", "", ("GetVM",)),
    ("GetVM with two", "ss", ("GetVM", "a", "b")),
    ("GetJob with text", "s", ("GetJob", "x")),
    ("GetVMByPID with a signed number", "i", ("GetVMByPID", 5)),
])
def test_signature(t, signature, words):
    unchanged(t)
    status, _, error = bus.busctl(bus.ROOT, bus.MANAGER, words[0], signature, *words[1:])
    t.equal(status, 1)
    t.match(error, r"Invalid arguments '.*' to call org\.brume\.vm1\.Manager\.\w+\(\), expecting '")


@tap.test("what does not exist", cases=[
    ("a VM by name", bus.ROOT, f"{bus.MANAGER}.GetVM", ('"nobody"',), "NoSuchVM", r"^there is no VM 'nobody'$"),
    ("a VM by UUID", bus.ROOT, f"{bus.MANAGER}.GetVMByUUID", ('"12345678-9abc-def0-1234-56789abcdef0"',),
     "NoSuchVM", r"^there is no VM with UUID 12345678"),
    ("a wrong UUID", bus.ROOT, f"{bus.MANAGER}.GetVMByUUID", ('"x"',), "InvalidArgs", r"^'x' is not a UUID"),
    ("a VM by PID 1", bus.ROOT, f"{bus.MANAGER}.GetVMByPID", ("1",), "NoSuchVM",
     r"^process 1 is not the worker of any VM$"),
    ("a VM by PID 0", bus.ROOT, f"{bus.MANAGER}.GetVMByPID", ("0",), "NoSuchVM", r"^process 0"),
    ("a job", bus.ROOT, f"{bus.MANAGER}.GetJob", ("4000000000",), "NoSuchJob", r"^there is no job 4000000000$"),
    ("a job to cancel", bus.ROOT, f"{bus.MANAGER}.CancelJob", ("0",), "NoSuchJob", r"^there is no job 0$"),
    ("an object", bus.vm_path("nobody"), f"{bus.VM}.Start", (NO,), "UnknownObject", r"nobody"),
    ("an object with a wild path", f"{bus.ROOT}/vm/_zz", f"{bus.VM}.Start", (NO,), "UnknownObject", r"_zz"),
    ("a method", bus.ROOT, f"{bus.MANAGER}.Explode", (), "UnknownMethod", r"Explode"),
    ("an interface", bus.ROOT, "org.brume.vm1.Nothing.Start", (), "UnknownMethod", r"Nothing"),
])
def test_missing(t, path, method, args, error, text):
    unchanged(t)
    reply = bus.call(path, method, *args)
    t.true(not reply.ok, f"it was accepted: {reply.text}")
    t.equal(reply.error.rsplit(".", 1)[1], error, reply.text)
    t.match(reply.text, text)


@tap.test("a name and a UUID can be had once")
def test_exists(t):
    with tiny.Machine("one"):
        expect(t, bus.create("one", tiny.config()), f"{bus.NAME}.VMExists", r"^VM 'one' exists already$")


# --- what the host does not have: the start fails --------------------------------

def not_a_kernel():
    with open("/srv/not-a-kernel", "w") as f:
        f.write("#!/bin/sh\n" * 1000)


def half_a_kernel():
    with open(tiny.KERNEL, "rb") as f, open("/srv/not-a-kernel", "wb") as g:
        g.write(f.read(500))


def half_a_bzimage():
    head = bytearray(4096)
    head[0x1f1] = 4                                     # setup sectors
    head[0x1fe:0x200] = b"\x55\xaa"
    head[0x200:0x202] = b"\xeb\x66"                      # over the header
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = (0x20f).to_bytes(2, "little")
    head[0x211] = 1                                     # LOADED_HIGH
    head[0x1f4:0x1f8] = (1 << 16).to_bytes(4, "little")  # paragraphs of code
    with open("/srv/not-a-kernel", "wb") as f:
        f.write(head)


def fifo():
    os.mkfifo("/srv/bad-input.img")


def listening():
    s = socket.socket(socket.AF_UNIX)
    s.bind("/srv/bad-input.img")
    s.close()


STARTS = [
    ("a kernel that does not exist", payload(kernel="/srv/none"), None, MISSING,
     r"^/payload/kernel: cannot open '/srv/none': No such file or directory$"),
    ("an initramfs that does not exist", payload(kernel=tiny.KERNEL, initramfs="/srv/none"), None, MISSING,
     r"^/payload/initramfs: cannot open '/srv/none': No such file"),
    ("a directory for a kernel", payload(kernel="/srv"), None, HOST,
     r"^/payload/kernel: '/srv' is a directory, must be a regular file$"),
    ("a device for a kernel", payload(kernel="/dev/null"), None, HOST,
     r"^/payload/kernel: '/dev/null' is a character device, must be a regular file$"),
    ("a file below a file", payload(kernel="/etc/passwd/x"), None, HOST, r"^/payload/kernel: cannot open '/etc/passwd/x': Not a directory$"),
    ("a link to itself", payload(kernel="/srv/bad-input.img"), lambda: os.symlink("bad-input.img", "/srv/bad-input.img"),
     HOST, r"^/payload/kernel: cannot open '/srv/bad-input\.img': Too many levels of symbolic links$"),
    ("a script for a kernel", payload(kernel="/srv/not-a-kernel"), not_a_kernel, INVALID,
     r"^/payload/kernel: '/srv/not-a-kernel': neither an ELF image nor a bzImage \(starts with '23 21 2f 62'\), must be a whole bzImage, or ELF image with a PVH note$"),
    ("half a kernel", payload(kernel="/srv/not-a-kernel"), half_a_kernel, INVALID,
     r"^/payload/kernel: '/srv/not-a-kernel': ELF .* reaches past the end of the image: .*, must be a whole"),
    ("a bzImage that is cut off", payload(kernel="/srv/not-a-kernel"), half_a_bzimage, INVALID,
     r"^/payload/kernel: '/srv/not-a-kernel': cut off: .*, must be a whole bzImage"),
    ("a script for a firmware", payload(firmware="/srv/not-a-kernel"), not_a_kernel, INVALID,
     r"^/payload/firmware: '/srv/not-a-kernel': neither .*, must be a firmware image with a PVH note$"),
    ("an empty initramfs", payload(kernel=tiny.KERNEL, initramfs="/srv/not-a-kernel"),
     lambda: open("/srv/not-a-kernel", "w").close(), INVALID,
     r"^/payload/initramfs: '/srv/not-a-kernel': the file is empty$"),
    ("a disk of no size", disks({"path": "/srv/not-a-kernel", "id": "d"}),
     lambda: open("/srv/not-a-kernel", "w").close(), INVALID,
     r"^/disks/0/path: '/srv/not-a-kernel': disk 'd': the image has 0 bytes, less than one block of 512"),
    ("CPUs that the host does not have", cpus(boot_vcpus=1, affinity=[{"vcpu": 0, "host_cpus": [8000]}]), None,
     INVALID, r"^/cpus/affinity/0/host_cpus: vCPU 0 cannot be bound to these CPUs"),
    ("an empty kernel", payload(kernel="/srv/not-a-kernel"), lambda: open("/srv/not-a-kernel", "w").close(), INVALID,
     r"^/payload/kernel: '/srv/not-a-kernel': a file of 0 bytes is no kernel, must be a whole bzImage, or ELF image with a PVH note$"),
    ("a disk that does not exist", disks({"path": "/srv/none", "id": "d"}), None, MISSING,
     r"^disk 'd' \(/disks/0/path\): cannot open '/srv/none' for writing: No such file"),
    ("a directory for a disk", disks({"path": "/srv", "id": "d"}), None, HOST,
     r"^disk 'd' \(/disks/0/path\): '/srv' is a directory, must be a regular file or block device$"),
    ("a FIFO for a disk", disks(DISK), fifo, HOST, r"'/srv/bad-input\.img' is a FIFO"),
    ("a socket for a disk", disks(DISK), listening, HOST, r"'/srv/bad-input\.img' is .*a socket"),
    ("a console file in no directory", base(serial={"mode": "File", "file": "/srv/none/out"}), None, MISSING,
     r"^/serial/file: cannot open '/srv/none/out' for writing: No such file"),
    ("a directory for a console file", base(serial={"mode": "File", "file": "/srv"}), None, HOST,
     r"^/serial/file: '/srv' is a directory"),
    ("an entropy source that does not exist", base(rng={"src": "/dev/none"}), None, MISSING,
     r"^/rng/src: cannot open '/dev/none'"),
    ("an interface that is no tap", nets({"tap": "lo"}), None, HOST, r"^network device '_net0' \(/net/0/tap\): .*'lo'"),
    ("more memory than the host has", memory(size=60 << 40, reserve=True), None, HOST,
     r"cannot reserve \d+ MiB of guest memory"),
    ("huge pages that nobody reserved", memory(size=32 << 20, hugepages=True), None, HOST,
     r"cannot reserve 32 MiB of 2048 KiB hugepages"),
    ("an initramfs larger than memory", payload(kernel=tiny.KERNEL, initramfs="/srv/big"),
     lambda: tiny.image("/srv/big", 64 << 20), INVALID,
     r"^/payload/initramfs: '/srv/big': 64 MiB do not fit into 32 MiB of memory beside the kernel"),
]


@tap.test("Start fails and says why", cases=STARTS)
def test_start(t, config, prepare, error, text):
    unchanged(t)
    for path in ("/srv/bad-input.img", "/srv/not-a-kernel", "/srv/big"):
        t.cleanup(lambda path=path: os.path.lexists(path) and os.unlink(path))
    if prepare is None and "disks" in config and config["disks"][0] == DISK:
        tiny.image(DISK["path"])
    if prepare:
        prepare()
    with tiny.Machine("nostart", config) as vm:
        reply = vm.call("Start", bus.options(Wait=True))
        tap.diag(f"{reply.error}: {reply.text}")
        t.true(not reply.ok, "it started")
        if error:
            t.equal(reply.error, error, reply.text)
        t.true(reply.error.startswith((bus.NAME, bus.ERRORS)), reply.error)
        t.match(reply.text, text)
        t.no_match(reply.text, r"^cannot$|errno|\(null\)")
        t.equal((vm.state, vm.get("StateReason"), vm.get("MainPID")), ("failed", "start-failed", 0))
        t.eventually(lambda: service.units() == [] and service.workers() == [], "the worker is gone", 5)
        t.equal(service.tree("/run/brume/vm"), [])
        # repaired, it starts
        vm.must("SetConfig", bus.text(json.dumps(tiny.config())), NO)
        vm.start()


@tap.test("an image that another machine uses")
def test_shared_image(t):
    unchanged(t)
    path = tiny.image("/srv/shared.img")
    t.cleanup(os.unlink, path)
    with tiny.Machine("first", disks({"path": path})) as first, \
            tiny.Machine("second", disks({"path": path})) as second:
        first.start()
        expect(t, second.call("Start", bus.options(Wait=True)), HOST,
               r"^disk '_disk0' \(/disks/0/path\): image '/srv/shared\.img' is in use by VM 'first'$")
        t.equal((first.state, second.state), ("running", "failed"))
        first.must("Terminate")
        second.start()


@tap.test("the worker itself is missing")
def test_no_worker(t):
    unchanged(t)
    with tiny.Machine("workless") as vm:
        os.rename("/usr/libexec/brume-vmm", "/usr/libexec/brume-vmm.away")
        try:
            reply = vm.call("Start", bus.options(Wait=True))
        finally:
            os.rename("/usr/libexec/brume-vmm.away", "/usr/libexec/brume-vmm")
        expect(t, reply, f"{bus.NAME}.WorkerFailed", r"workless.* result '(exit-code|resources)'")
        t.equal(vm.state, "failed")
        t.eventually(lambda: service.units() == [], "the unit is gone", 5)


@tap.test("state errors name VM, wish and state", cases=[
    ("Shutdown", "Shutdown", "cannot shut down VM 'idle': it is stopped"),
    ("Reboot", "Reboot", "cannot reboot VM 'idle': it is stopped"),
    ("Reset", "Reset", "cannot reset VM 'idle': it is stopped"),
    ("Terminate", "Terminate", "cannot terminate VM 'idle': it is stopped"),
    ("Pause", "Pause", "cannot pause VM 'idle': it is stopped"),
    ("Resume", "Resume", "cannot resume VM 'idle': it is stopped"),
    ("PowerButton", "PowerButton", "cannot press the power button of VM 'idle': it is stopped"),
    ("InjectNMI", "InjectNMI", "cannot inject an NMI into VM 'idle': it is stopped"),
])
def test_state(t, method, text):
    unchanged(t)
    with tiny.Machine("idle") as vm:
        reply = vm.call(method)
        t.equal((reply.error, reply.text), (f"{bus.NAME}.InvalidState", text))


# --- brumectl: exit status and text ----------------------------------------------

K = f"--kernel={tiny.KERNEL}"
CTL = [
    ("no command", [], 2, r"Commands:|usage"),
    ("unknown command", ["destroy", "a"], 2, r"unknown command 'destroy', see 'brumectl help'"),
    ("too few words", ["start"], 2, r"usage: brumectl start NAME"),
    ("too many words", ["start", "a", "b"], 2, r"usage: brumectl start NAME"),
    ("unknown option", ["start", "a", "--fast"], 2, r"brumectl start: unrecognized option '--fast'"),
    ("an option without value", ["create", "a", "--memory"], 2, r"option '--memory' requires an argument"),
    ("no definition", ["create", "a"], 2, r"no definition: give a JSON file"),
    ("file and options", ["create", "a", "x.json", K], 2, r"from a file or from options, not from both"),
    ("a file that does not exist", ["create", "a", "/srv/none.json"], 1, r"cannot open '/srv/none\.json': No such file"),
    ("a directory for a file", ["create", "a", "/srv"], 1, r"'/srv'.*directory"),
    ("a binary file", ["create", "a", "/usr/bin/true"], 1, r"is not a text file in UTF-8"),
    ("a large file", ["create", "a", "/usr/bin/bash"], 1, r"is larger than 524288 bytes, that is no definition"),
    ("wrong duration", ["shutdown", "a", "--timeout=soon"], 2, r"'soon' is not a duration"),
    ("host and user", ["--user", "-H", "h", "list"], 2, r"--host and --user exclude each other"),
    ("a VM that does not exist", ["start", "nobody"], 3, r"no virtual machine 'nobody'"),
    ("a job that does not exist", ["cancel", "4000000000"], 3, r"there is no job 4000000000"),
    ("a job that is no number", ["cancel", "x"], 2, r"'x'"),
    ("autostart maybe", ["autostart", "a", "maybe"], 2, r"maybe"),
    ("an unknown key", ["create", "a", K, "--cpus", "cores=4"], 2, r"cpus: cores: .*unknown.*boot"),
    ("no number", ["create", "a", K, "--cpus", "boot=many"], 2, r"cpus: boot: .*many"),
    ("a key without value", ["create", "a", K, "--cpus", "boot"], 2, r"cpus: .*boot"),
    ("a key twice", ["create", "a", K, "--cpus", "boot=1,boot=2"], 2, r"cpus: boot: .*twice"),
    ("a wrong size", ["create", "a", K, "--memory", "size=1Q"], 2, r"memory: size: .*1Q"),
    ("a size that overflows", ["create", "a", K, "--memory", "size=99999999999T"], 2, r"memory: size: .*99999999999T"),
    ("neither on nor off", ["create", "a", K, "--memory", "size=64M,shared=perhaps"], 2, r"memory: shared: .*perhaps.*on.*off"),
    ("an open quote", ["create", "a", K, "--disk", 'path="a'], 2, r"disk.*(quote|\")"),
    ("an open bracket", ["create", "a", K, "--cpus", "boot=1,affinity=[0@[1"], 2, r"cpus.*(bracket|\[)"),
    ("a wrong topology", ["create", "a", K, "--cpus", "boot=4,topology=1:2"], 2, r"cpus: topology: "),
    ("a later feature", ["create", "a", K, "--disk", "path=/a,vhost_user=on,socket=/s"], (1, 2), r"(vhost_user|socket).*not supported yet"),
    ("too little memory", ["create", "a", K, "--memory", "size=1M"], 1, r"/memory/size: 1048576 bytes are too few"),
    ("no kernel", ["create", "a", "--cpus", "boot=1"], 1, r"/payload: names nothing to start"),
    ("a wrong name", ["create", "a/b", K], 1, r"VM name 'a/b' is not a host name"),
    ("a wrong slice", ["create", "a", K, "--slice=x"], 1, r"'x' is not a slice"),
    ("a wrong MAC", ["create", "a", K, "--net", "mac=zz"], 2, r"net: mac: 'zz' is not a MAC address"),
    ("help about nothing", ["help", "teapot"], 2, r"there is no command and no option of a definition called 'teapot'"),
]


@tap.test("brumectl", cases=CTL)
def test_ctl(t, words, status, text):
    unchanged(t)
    got, out, err = bus.ctl("--no-ask-password", *words, timeout=30)
    t.true(got in (status if isinstance(status, tuple) else (status,)),
           f"exit status {got}, expected {status}: {err or out}")
    t.match(err + (out if not words else ""), text)


@tap.test("brumectl validate finds the same errors and exits with 1", cases=[
    ("options", ["validate", "--memory", "size=1M", K], r"error: /memory/size: 1048576 bytes are too few"),
    ("standard input", ["validate", "-"], r"error: "),
])
def test_ctl_validate(t, words, text):
    got, out, err = bus.ctl(*words)
    t.equal(got, 1, err)
    t.match(out, text)


@tap.test("brumectl as a user who may not: exit status 4")
def test_ctl_refused(t):
    with tiny.Machine("guarded"):
        got, _, err = bus.ctl("--no-ask-password", "start", "guarded", user="alice")
        t.equal(got, 4)
        t.match(err, "interactive authentication required")
        t.match(err, "hint: ")


@tap.test("brumectl without a bus: exit status 5")
def test_ctl_no_bus(t):
    r = subprocess.run(["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "brumectl", "list"],
                       capture_output=True, text=True, check=False)
    t.equal(r.returncode, 5, r.stderr)
    t.match(r.stderr, "cannot connect to the system bus: No such file or directory")


tap.main()
