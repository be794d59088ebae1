#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may do what: real users, real polkit, rules an administrator would write."""
import json
import os
import pwd
import re

import bus
import polkitrules
import service
import tap
import tiny

DENIED = f"{bus.ERRORS}.AccessDenied"
AUTH = f"{bus.ERRORS}.InteractiveAuthorizationRequired"
NO = bus.options()
CONFIG = bus.text(json.dumps(tiny.config()))

# method, arguments, state it needs, action polkit is asked about, verb
GUARDED = [
    ("Start", (NO,), "stopped", "manage-vms", "start"),
    ("Shutdown", (NO,), "running", "manage-vms", "shut down"),
    ("Reboot", (NO,), "running", "manage-vms", "reboot"),
    ("Reset", (NO,), "running", "manage-vms", "reset"),
    ("Terminate", (NO,), "running", "manage-vms", "terminate"),
    ("Pause", (NO,), "running", "manage-vms", "pause"),
    ("Resume", (NO,), "paused", "manage-vms", "resume"),
    ("PowerButton", (NO,), "running", "manage-vms", "press the power button of"),
    ("InjectNMI", (NO,), "running", "manage-vms", "inject an NMI into"),
    ("SetAutostart", ("true", NO), "stopped", "manage-vms", "change the autostart of"),
    ("SetDescription", ('"x"', NO), "stopped", "manage-vms", "describe"),
    ("OpenConsole", ('""', NO), "running", "open-console", "open a console of"),
    ("GetConfig", ('"next"',), "stopped", "inspect-vms", "read the configuration of"),
    ("Describe", (), "stopped", "inspect-vms", "inspect"),
    ("SetConfig", (CONFIG, NO), "stopped", "use-host-resources", "change the configuration of"),
    ("SetResourceProperties", ("false", "[('CPUWeight', <uint64 5>)]", NO), "running",
     "use-host-resources", "set resource properties of"),
    ("Delete", (NO,), "stopped", "create-vms", "delete"),
]
CASES = [(row[0], *row) for row in GUARDED]


def bring_to(vm, state):
    if state != "stopped":
        vm.start(Paused=state == "paused")


def unchanged(t, vm, state, before):
    t.equal((vm.state, service.units()), (state, before), "a refused call did something")


@tap.test("without rules and without an agent a user is told that authentication is needed", CASES)
def test_challenge(t, method, args, state, action, verb):
    with tiny.Machine("guarded") as vm:
        bring_to(vm, state)
        before = service.units()
        for interactive in (False, True):
            reply = bus.vm("guarded", method, *args, user="alice", interactive=interactive)
            t.equal((reply.error, reply.text), (AUTH, f"cannot {verb} virtual machine 'guarded': "
                                                "interactive authentication required "
                                                f"(action org.brume.vm1.{action})"))
        unchanged(t, vm, state, before)


@tap.test("a rule that says no refuses", CASES)
def test_refused(t, method, args, state, action, verb):
    polkitrules.install(t, '''if (subject.user == "mallory") return polkit.Result.NO;''')
    with tiny.Machine("guarded") as vm:
        bring_to(vm, state)
        before = service.units()
        reply = bus.vm("guarded", method, *args, user="mallory", interactive=True)
        t.equal((reply.error, reply.text), (DENIED, f"cannot {verb} virtual machine 'guarded': access "
                                            f"denied (action org.brume.vm1.{action})"))
        unchanged(t, vm, state, before)


@tap.test("a rule for exactly this action and verb allows", CASES)
def test_allowed(t, method, args, state, action, verb):
    polkitrules.install(t, f'''
        if (subject.user == "alice" && id == "{action}" && verb == "{verb}" && vm == "guarded" &&
            owner == "root")
            return polkit.Result.YES;
        return polkit.Result.NO;''')
    with tiny.Machine("guarded") as vm:
        bring_to(vm, state)
        bus.must(bus.vm("guarded", method, *args, user="alice"))
        if method == "Delete":
            return
        reply = bus.vm("guarded", "SetDescription" if method != "SetDescription" else "SetAutostart",
                       '"y"' if method != "SetDescription" else "true", NO, user="alice")
        t.equal(reply.error, DENIED, "the rule allowed something else, too")


@tap.test("anybody may look things up", cases=[
    ("ListVMs", "ListVMs"), ("GetVM", "GetVM", '"open"'), ("Describe of the host", "Describe"),
    ("ListJobs", "ListJobs"), ("GetAllCounters", "GetAllCounters", NO),
    ("ValidateConfig", "ValidateConfig", CONFIG, NO),
])
def test_open(t, method, *args):
    with tiny.Machine("open"):
        bus.must(bus.manager(method, *args, user="mallory"))


@tap.test("properties are readable by anybody and hold no secret")
def test_properties(t):
    config = tiny.config(tiny.DEAF + " password=hunter2")
    with tiny.Machine("secret", config) as vm:
        vm.start()
        reply = bus.must(bus.call(bus.ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects",
                                  user="mallory"))
        t.match(reply.text, "'secret'")
        t.no_match(reply.text, "hunter2")
        out = service.systemctl("show", vm.unit) + service.systemctl("cat", vm.unit)
        t.no_match(out, "hunter2", "the unit")
        with open(f"/proc/{vm.pid}/cmdline") as f:
            t.no_match(f.read(), "hunter2", "the worker's command line")


@tap.test("busctl as a user ends with the sentence and a failure")
def test_busctl(t):
    with tiny.Machine("guarded") as vm:
        status, _, error = bus.busctl(vm.path, bus.VM, "Start", "a{sv}", 0, user="alice")
        t.equal(status, 1)
        t.match(error, "cannot start virtual machine 'guarded': interactive authentication required")


@tap.test("a user may create what a rule allows, and owns it")
def test_create(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && id == "use-host-resources" && verb == "create" &&
            vm == "alices" && action.lookup("path") == "/brume/guest/tiny.elf" &&
            action.lookup("memory") == "33554432" && action.lookup("vcpus") == "1")
            return polkit.Result.YES;''')
    t.equal(bus.create("others", tiny.config(), user="alice").error, AUTH, "another name")
    more = tiny.config(disks=[{"path": "/etc/shadow"}])
    t.equal(bus.create("alices", more, user="alice").error, AUTH, "another path as well")
    t.equal(bus.create("alices", tiny.config(memory=64 << 20), user="alice").error, AUTH, "memory")
    t.equal(bus.create("alices", tiny.config(), user="bob").error, AUTH, "another user")
    bus.must(bus.create("alices", tiny.config(), user="alice"))
    t.cleanup(bus.remove, "alices")
    t.equal(bus.vm_get("alices", "Owner"), pwd.getpwnam("alice").pw_uid)


@tap.test("use-host-resources implies create-vms, not the other way round")
def test_imply(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && id == "create-vms") return polkit.Result.YES;''')
    t.equal(bus.create("x", tiny.config(), user="alice").error, AUTH)


OWNER_MAY = {"manage-vms", "open-console", "inspect-vms"}


@tap.test("the owner needs no rule, except to reach into the host and to delete", CASES)
def test_owner(t, method, args, state, action, verb):
    polkitrules.install(t, '''
        if (subject.user == "alice" && verb == "create") return polkit.Result.YES;''')
    with tiny.Machine("hers", tiny.config(), user="alice") as vm:
        bring_to(vm, state)
        reply = bus.vm("hers", method, *args, user="bob")
        t.equal(reply.error, AUTH, "somebody else")
        reply = bus.vm("hers", method, *args, user="alice")
        if action in OWNER_MAY:
            bus.must(reply)
        else:
            t.equal(reply.error, AUTH)


@tap.test("a rule that allows one VM by name allows no other")
def test_one_vm(t):
    polkitrules.install(t, '''
        if (subject.user == "bob" && id == "manage-vms" && vm == "web1")
            return polkit.Result.YES;''')
    with tiny.Machine("web1") as web1, tiny.Machine("web10") as web10:
        bus.must(bus.vm("web1", "Start", bus.options(Wait=True), user="bob"))
        reply = bus.vm("web10", "Start", bus.options(Wait=True), user="bob")
        t.equal(reply.error, AUTH)
        t.equal((web1.state, web10.state), ("running", "stopped"))
        bus.must(bus.vm("web1", "Terminate", NO, user="bob"))
        t.equal(bus.vm("web1", "GetConfig", '"next"', user="bob").error, AUTH, "another action")
        # by owner, or by group and a name's beginning


@tap.test("a job belongs to who started it, and is cancelled by who may manage its VM")
def test_jobs(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && id == "manage-vms") return polkit.Result.YES;''')
    with tiny.Machine("jobs") as vm:
        vm.start()
        job = bus.must(vm.call("Shutdown", user="alice")).paths()[0]
        t.equal(bus.get(job, bus.JOB, "Owner"), pwd.getpwnam("alice").pw_uid)
        number = job.rsplit("/", 1)[1]
        t.equal(bus.manager("CancelJob", number, user="bob").error, AUTH)
        t.equal(bus.call(job, f"{bus.JOB}.Cancel", NO, user="bob").error, AUTH)
        bus.must(bus.call(job, f"{bus.JOB}.Cancel", NO, user="alice"))
        t.equal(vm.state, "running")


@tap.test("a call that cannot work is refused before anybody is asked", cases=[
    ("wrong state", "Pause", (NO,), "InvalidState"),
    ("unknown option", "Start", (bus.options(Fast=True),), "InvalidArgs"),
    ("bad configuration", "SetConfig", ('"{}"', NO), "InvalidConfig"),
])
def test_before_asking(t, method, args, error):
    with tiny.Machine("early") as vm:
        reply = bus.vm("early", method, *args, user="mallory")
        t.true(reply.error.endswith("." + error), f"{reply.error}: {reply.text}")
        t.equal(vm.state, "stopped")


@tap.test("without polkit only root may do things, and says so")
def test_no_polkit(t):
    service.systemctl("mask", "--runtime", "--now", "polkit.service")
    t.cleanup(service.systemctl, "unmask", "--runtime", "polkit.service")
    with tiny.Machine("alone") as vm:
        reply = bus.vm("alone", "Start", NO, user="alice")
        t.equal((reply.error, reply.text), (DENIED, "cannot start virtual machine 'alone': access denied: "
                                            "polkit is not available, so only root may do this (action "
                                            "org.brume.vm1.manage-vms)"))
        vm.start()


@tap.test("somebody who hangs up while polkit is asked leaves nothing in the daemon")
def test_hang_up(t):
    before = service.fds()
    with tiny.Machine("hang") as vm:
        thaw = polkitrules.freeze(t)
        for _ in range(3):
            reply = bus.vm("hang", "Start", NO, user="alice", timeout=1)
            t.true(not reply.ok and reply.error in ("local", f"{bus.ERRORS}.Timeout",
                                                    f"{bus.ERRORS}.NoReply"), f"{reply}")
        thaw()
        t.equal(bus.vm("hang", "Start", NO, user="alice").error, AUTH)
        t.equal(vm.state, "stopped", "an abandoned call was carried out")
    t.eventually(lambda: service.fds() == before, f"descriptors {before}", 5)


@tap.test("callers that leave with their answer do not keep the daemon busy")
def test_leaving(t):
    # Its name may be gone from the bus before the daemon has forgotten the question.
    polkitrules.install(t, '''if (subject.user == "alice") return polkit.Result.YES;''')
    with tiny.Machine("leaving"):
        for n in range(60):
            bus.must(bus.vm("leaving", "SetDescription", f'"{n}"', NO, user="alice", timeout=10))
        before = cpu_ticks()
        t.equal(bus.vm_get("leaving", "Description"), "59")
        t.true(cpu_ticks() - before < 20, "the daemon spins")


def cpu_ticks():
    with open(f"/proc/{service.pid()}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@tap.test("one caller's questions are limited, others get through")
def test_limit(t):
    path = "/tmp/flood.py"
    with open(path, "w") as f:
        f.write(FLOOD)
    os.chmod(path, 0o644)
    t.cleanup(os.unlink, path)
    with tiny.Machine("flood"):
        polkitrules.freeze(t)
        errors = flood(path)
        t.true(any("too many calls wait" in e for e in errors), f"{errors[:3]} of {len(errors)}")
        # root asks nobody
        bus.must(bus.vm("flood", "SetDescription", '"x"', NO))


# One connection, many calls: the standard library speaks no D-Bus, its wire format is simple enough.
FLOOD = r'''
import os, re, socket, struct, sys
NAME, PATH, IFACE = "org.brume.vm1", sys.argv[1], "org.brume.vm1.VirtualMachine"
s = socket.socket(socket.AF_UNIX)
s.connect("/run/dbus/system_bus_socket")
s.settimeout(8)
s.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
assert s.recv(100).startswith(b"OK")
s.sendall(b"BEGIN\r\n")
def pad(b, n): return b + b"\0" * (-len(b) % n)
def text(v): return struct.pack("<I", len(v)) + v.encode() + b"\0"
def call(serial, dest, path, iface, member, signature, body):
    fields = b""
    for code, kind, value in ((1, "o", path), (2, "s", iface), (3, "s", member), (6, "s", dest)):
        fields = pad(fields, 8) + bytes([code, 1]) + kind.encode() + b"\0" + text(value)
    if signature:
        fields = pad(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = b"l\1\0\1" + struct.pack("<II", len(body), serial) + struct.pack("<I", len(fields)) + fields
    s.sendall(pad(head, 8) + body)
call(1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", b"")
for serial in range(2, 42):
    call(serial, NAME, PATH, IFACE, "Start", "a{sv}", struct.pack("<II", 0, 0))
data = b""
try:
    while data.count(b"too many calls") < 5:
        got = s.recv(65536)
        if not got:
            break
        data += got
except socket.timeout:
    pass
for m in re.findall(rb"too many calls wait[ -~]*|cannot [ -~]*", data):
    print(m.decode())
'''


def flood(path):
    import subprocess
    r = subprocess.run(["runuser", "-u", "alice", "--", "python3", path, bus.vm_path("flood")],
                       capture_output=True, text=True, timeout=60, check=False)
    if r.returncode != 0:
        raise AssertionError(r.stderr)
    return [line for line in r.stdout.splitlines() if re.search(r"\w", line)]


tap.main()
