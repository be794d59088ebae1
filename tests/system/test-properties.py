#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Resource properties of the worker's unit: given, changed, kept, refused.

systemd's properties are looked at, and of the process what the kernel tells about it; whether a
control group enforces them depends on controllers that the container mostly lacks.
"""
import json
import os

import bus
import polkitrules
import service
import tap
import tiny

DENIED = f"{bus.ERRORS}.AccessDenied"
AUTH = f"{bus.ERRORS}.InteractiveAuthorizationRequired"
INVALID = f"{bus.ERRORS}.InvalidArgs"
MAX = 18446744073709551615

# bus property, GVariant text, what systemctl shows it as
ALL = [
    ("MemoryMin", "uint64 1048576", "MemoryMin", "1048576"),
    ("MemoryLow", "uint64 2097152", "MemoryLow", "2097152"),
    ("MemoryHigh", "uint64 536870912", "MemoryHigh", "536870912"),
    ("MemoryMax", "uint64 1073741824", "MemoryMax", "1073741824"),
    ("MemorySwapMax", "uint64 0", "MemorySwapMax", "0"),
    ("CPUWeight", "uint64 50", "CPUWeight", "50"),
    ("StartupCPUWeight", "uint64 60", "StartupCPUWeight", "60"),
    ("CPUQuotaPerSecUSec", "uint64 1500000", "CPUQuotaPerSecUSec", "1.500000s"),
    ("CPUQuotaPeriodUSec", "uint64 10000", "CPUQuotaPeriodUSec", "10ms"),
    ("AllowedCPUs", "[byte 0x03]", "AllowedCPUs", "0-1"),
    ("AllowedMemoryNodes", "[byte 0x01]", "AllowedMemoryNodes", "0"),
    ("IOWeight", "uint64 70", "IOWeight", "70"),
    ("IOReadBandwidthMax", "[('/dev/null', uint64 1000)]", "IOReadBandwidthMax", "/dev/null 1000"),
    ("IOWriteBandwidthMax", "[('/dev/null', uint64 2000)]", "IOWriteBandwidthMax", "/dev/null 2000"),
    ("IOReadIOPSMax", "[('/dev/null', uint64 30)]", "IOReadIOPSMax", "/dev/null 30"),
    ("IOWriteIOPSMax", "[('/dev/null', uint64 40)]", "IOWriteIOPSMax", "/dev/null 40"),
    ("TasksMax", "uint64 333", "TasksMax", "333"),
    ("Nice", "3", "Nice", "3"),
    ("OOMScoreAdjust", "250", "OOMScoreAdjust", "250"),
    ("TimeoutStopUSec", "uint64 45000000", "TimeoutStopUSec", "45s"),
]
AT_START = ("Nice", "OOMScoreAdjust", "TimeoutStopUSec")


def listed(*properties):
    """a(sv) of (name, GVariant text) pairs."""
    return "@a(sv) [" + ", ".join(f"({bus.text(name)}, <{value}>)" for name, value in properties) + "]"


def weight(value):
    return ("CPUWeight", f"uint64 {value}")


def create(name, properties, config=None, user=None, **more):
    """CreateVM with WorkerProperties."""
    options = bus.options(**more)
    inner = ", ".join(p for p in (options[len("@a{sv} {"):-1],
                                  f'"WorkerProperties": <{listed(*properties)}>') if p)
    return bus.manager("CreateVM", bus.text(name), bus.text(json.dumps(config or tiny.config())),
                       "@a{sh} {}", "@a{sv} {" + inner + "}", user=user)


class Machine(tiny.Machine):
    def __init__(self, name, *properties, **options):
        super().__init__(name, **options)
        self._properties = properties

    def __enter__(self):
        bus.must(create(self.name, self._properties, self._config, **self._options))
        return self


def change(vm, runtime, *properties, **kwargs):
    return bus.vm(vm.name, "SetResourceProperties", bus.text(runtime), listed(*properties),
                  bus.options(), **kwargs)


def defined(vm):
    """The properties of the definition, as Describe has them."""
    status, values, error = bus.busctl(vm.path, bus.VM, "Describe")
    if status != 0:
        raise AssertionError(error)
    return json.loads(values[0]).get("resource-properties", {})


def shown(vm, *names):
    # systemctl leaves out limits of devices when there are none
    got = {name: "" for name in names} | service.show(vm.unit, *names)
    return got[names[0]] if len(names) == 1 else got


@tap.test("what CreateVM is given is in the unit, the file, Describe and the process")
def test_create(t):
    before = service.traces()
    with Machine("given", *((name, value) for name, value, _, _ in ALL)) as vm:
        expected = {setting: text for _, _, setting, text in ALL}
        with open(f"{service.STATE}/given.json") as f:
            stored = json.load(f)["resource-properties"]
        t.equal(sorted(stored), sorted(name for name, _, _, _ in ALL))
        t.equal((stored["AllowedCPUs"], stored["IOReadIOPSMax"], stored["Nice"]),
                ("0-1", {"/dev/null": 30}, 3))
        vm.start()
        t.equal(service.show(vm.unit, *expected), expected)
        t.equal(defined(vm), stored)
        t.equal(os.getpriority(os.PRIO_PROCESS, vm.pid), 3, "nice of the process")
        with open(f"/proc/{vm.pid}/oom_score_adj") as f:
            t.equal(f.read().strip(), "250")
        service.systemctl("daemon-reload")
        t.equal(service.show(vm.unit, *expected), expected, "after systemd read its units again")
        service.kill()
        t.equal(service.show(vm.unit, *expected), expected, "after a crash of the daemon")
        t.equal(defined(vm), stored)
        vm.must("Terminate")
        vm.start()
        t.equal(service.show(vm.unit, *expected), expected, "after a stop and a start")
    service.expect_traces(t, before)


@tap.test("without them a unit has ours: tasks from the configuration, 90 s to stop")
def test_none(t):
    with tiny.Machine("plain") as vm:
        vm.start()
        t.equal(shown(vm, "TasksMax", "TimeoutStopUSec", "CPUWeight"),
                {"TasksMax": "4161", "TimeoutStopUSec": "1min 30s", "CPUWeight": "[not set]"})


@tap.test("each one that a running unit can be given is there at once, and at the next start",
          cases=[(row[0], *row) for row in ALL])
def test_change(t, name, value, setting, text):
    with tiny.Machine("live") as vm:
        vm.start()
        before = shown(vm, setting)
        reply = change(vm, True, (name, value))
        if name in AT_START:
            t.equal((reply.error, reply.text), (INVALID, f"property '{name}' belongs to the process and "
                                                "cannot be changed at run time, only for the next "
                                                "start"))
        else:
            bus.must(reply)
            t.equal(shown(vm, setting), text)
        t.equal(defined(vm), {}, "a change at run time is in the definition")
        vm.must("Terminate")
        bus.must(change(vm, False, (name, value)))
        vm.start()
        t.equal(shown(vm, setting), text, "at the next start")
        t.true(before != text, "the case shows nothing")


@tap.test("changed at run time: lives through the daemon's end, ends with the unit")
def test_runtime(t):
    with Machine("live", weight(50)) as vm:
        reply = change(vm, True, weight(60))
        t.equal((reply.error, reply.text), (f"{bus.NAME}.InvalidState", "cannot set resource properties "
                                            "at run time of VM 'live': it is stopped"))
        vm.start()
        bus.must(change(vm, True, weight(60)))
        t.equal((shown(vm, "CPUWeight"), defined(vm)), ("60", {"CPUWeight": 50}))
        service.kill()
        service.systemctl("daemon-reload")
        t.equal((shown(vm, "CPUWeight"), defined(vm)), ("60", {"CPUWeight": 50}))
        vm.must("Terminate")
        vm.start()
        t.equal(shown(vm, "CPUWeight"), "50", "after a stop and a start")


@tap.test("changed for good: in the unit now, in the definition for ever")
def test_persistent(t):
    with Machine("live", weight(50), ("IOReadIOPSMax", "[('/dev/null', uint64 5)]")) as vm:
        vm.start()
        bus.must(change(vm, False, weight(60), ("Nice", "4"),
                        ("IOReadIOPSMax", "[('/dev/zero', uint64 6)]")))
        t.equal(shown(vm, "CPUWeight", "Nice"), {"CPUWeight": "60", "Nice": "0"},
                "the niceness of a process is for the next start")
        wanted = {"CPUWeight": 60, "Nice": 4, "IOReadIOPSMax": {"/dev/null": 5, "/dev/zero": 6}}
        t.equal(defined(vm), wanted)
        service.kill()
        t.equal(defined(vm), wanted)
        vm.must("Terminate")
        service.restart()
        vm.start()
        t.equal(shown(vm, "CPUWeight", "Nice"), {"CPUWeight": "60", "Nice": "4"})
        t.equal(sorted(service.systemctl("show", vm.unit, "-p", "IOReadIOPSMax", "--value").split("\n")),
                ["/dev/null 5", "/dev/zero 6"])
        bus.must(change(vm, False, weight(MAX), ("IOReadIOPSMax", "@a(st) []")))
        t.equal((shown(vm, "CPUWeight", "IOReadIOPSMax"), defined(vm)),
                ({"CPUWeight": "[not set]", "IOReadIOPSMax": ""}, {"Nice": 4}),
                "back at what a unit has by itself")


@tap.test("a paused machine can be changed, and one that crashed")
def test_states(t):
    with tiny.Machine("live") as vm:
        vm.start(Paused=True)
        bus.must(change(vm, False, weight(33)))
        t.equal(shown(vm, "CPUWeight"), "33")
        os.kill(vm.pid, 9)
        vm.wait_state("crashed")
        bus.must(change(vm, False, weight(34)))
        vm.start()
        t.equal(shown(vm, "CPUWeight"), "34")


@tap.test("a transient machine has its own, and takes them along")
def test_transient(t):
    before = service.traces()
    with Machine("fleeting", weight(20), Persistent=False) as vm:
        vm.start()
        bus.must(change(vm, False, weight(21)))
        service.kill()
        t.equal((shown(vm, "CPUWeight"), defined(vm)), ("21", {"CPUWeight": 21}))
    service.expect_traces(t, before)


BAD = [
    ("unknown", ("ExecStart", "'/bin/sh'"), "property 'ExecStart' is not one that a VM can be given"),
    ("sandbox", ("CapabilityBoundingSet", "uint64 1"), "property 'CapabilityBoundingSet' is not one"),
    ("type", ("CPUWeight", "'50'"), "property 'CPUWeight' has type 's', must be 't'"),
    ("range", weight(10001), "property 'CPUWeight': 10001 is out of range, must be from 0 to 10000, or"),
    ("zero memory", ("MemoryMax", "uint64 0"), "property 'MemoryMax': 0 is out of range"),
    ("small quota", ("CPUQuotaPerSecUSec", "uint64 9999"), "property 'CPUQuotaPerSecUSec': 9999 is out"),
    ("empty mask", ("AllowedCPUs", "[byte 0]"), "property 'AllowedCPUs': the mask of 1 bytes has no bit"),
    ("relative path", ("IOReadIOPSMax", "[('null', uint64 1)]"), "property 'IOReadIOPSMax': 'null' is not"),
    ("a line of a unit file", ("IOReadIOPSMax", "[('/dev/null 1\\nExecStart=/bin/sh', uint64 1)]"),
     "property 'IOReadIOPSMax': '/dev/null 1?ExecStart=/bin/sh' is not usable as a path"),
    ("nice", ("Nice", "20"), "property 'Nice': 20 is out of range, must be from -20 to 19"),
]


@tap.test("a bad one is refused with a sentence and leaves nothing behind", BAD)
def test_bad(t, prop, sentence):
    before = service.traces()
    good = ("TasksMax", "uint64 500")
    reply = create("bad", [good, prop])
    t.equal((reply.error, reply.text[:len(sentence)]), (INVALID, sentence))
    service.expect_traces(t, before)
    with tiny.Machine("bad") as vm:
        vm.start()
        running = service.traces()
        for runtime in (False, True):
            reply = change(vm, runtime, good, prop)
            t.equal((reply.error, reply.text[:len(sentence)]), (INVALID, sentence))
        t.equal((shown(vm, "TasksMax"), defined(vm)), ("4161", {}))
        service.expect_traces(t, running)
    service.expect_traces(t, before)


@tap.test("ordinary users may not, owners neither; a rule may let them")
def test_polkit(t):
    polkitrules.install(t, '''
        if (subject.user == "mallory") return polkit.Result.NO;
        if (subject.user == "alice" && verb == "create") return polkit.Result.YES;
        if (subject.user == "bob" && id == "use-host-resources" && vm == "hers" && owner == "alice" &&
            verb == "set resource properties of" && action.lookup("property") == "CPUWeight")
            return polkit.Result.YES;''')
    with tiny.Machine("hers", user="alice") as vm:
        vm.start()
        said = "cannot set resource properties of virtual machine 'hers': "
        for runtime in (False, True):
            reply = change(vm, runtime, weight(50), user="alice")
            t.equal((reply.error, reply.text), (AUTH, said + "interactive authentication required (action "
                                                "org.brume.vm1.use-host-resources)"), "the owner")
            reply = change(vm, runtime, weight(50), user="mallory", interactive=True)
            t.equal((reply.error, reply.text),
                    (DENIED, said + "access denied (action org.brume.vm1.use-host-resources)"))
            reply = change(vm, runtime, weight(50), ("TasksMax", "uint64 99"), user="bob")
            t.equal(reply.error, AUTH, "more than the rule allows")
        t.equal((shown(vm, "CPUWeight"), defined(vm)), ("[not set]", {}))
        bus.must(change(vm, False, weight(50), user="bob"))
        t.equal((shown(vm, "CPUWeight"), defined(vm)), ("50", {"CPUWeight": 50}))


@tap.test("creating with them asks for more than creating, and says what for")
def test_polkit_create(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && id == "use-host-resources" && verb == "create" &&
            action.lookup("property") == "CPUWeight")
            return polkit.Result.YES;''')
    t.equal(create("hers", [weight(5), ("Nice", "1")], user="alice").error, AUTH)
    t.equal(bus.create("hers", tiny.config(), user="alice").error, AUTH, "none of them")
    bus.must(create("hers", [weight(5)], user="alice"))
    t.cleanup(bus.remove, "hers")


@tap.test("brumectl create --property and set-property")
def test_brumectl(t):
    t.cleanup(bus.remove, "cli")
    bus.must_ctl("create", "cli", "--kernel", tiny.KERNEL, "--cmdline", tiny.DEAF, "--memory", "size=32M",
                 "-p", "MemoryMax=1G", "--property=CPUQuota=50%", "-p", "TimeoutStopSec=2min")
    vm = tiny.Machine("cli")
    bus.must_ctl("start", "cli")
    t.equal(shown(vm, "MemoryMax", "CPUQuotaPerSecUSec", "TimeoutStopUSec"),
            {"MemoryMax": str(1 << 30), "CPUQuotaPerSecUSec": "500ms", "TimeoutStopUSec": "2min"})
    bus.must_ctl("set-property", "cli", "AllowedCPUs=0-1", "IOReadBandwidthMax=/dev/null 10M",
                 "CPUWeight=idle", "MemoryMax=")
    t.equal(shown(vm, "AllowedCPUs", "IOReadBandwidthMax", "CPUWeight", "MemoryMax"),
            {"AllowedCPUs": "0-1", "IOReadBandwidthMax": "/dev/null 10000000", "CPUWeight": "idle",
             "MemoryMax": "infinity"})
    bus.must_ctl("set-property", "--runtime", "cli", "CPUWeight=77")
    t.equal(shown(vm, "CPUWeight"), "77")
    t.equal(defined(vm), {"CPUQuotaPerSecUSec": 500000, "TimeoutStopUSec": 120000000, "AllowedCPUs": "0-1",
                          "IOReadBandwidthMax": {"/dev/null": 10000000}, "CPUWeight": 0})
    status, _, error = bus.ctl("set-property", "cli", "IOWeight=0")
    t.equal(status, 1)
    t.match(error, "property 'IOWeight': 0 is out of range, must be from 1 to 10000")
    status, _, error = bus.ctl("--no-ask-password", "set-property", "cli", "IOWeight=5", user="mallory")
    t.equal(status, 4, error)


@tap.test("systemd is being executed anew while it is asked: the answer comes, and is true")
def test_reexec(t):
    with tiny.Machine("live") as vm:
        vm.start()
        service.systemctl("daemon-reexec")
        bus.must(change(vm, False, weight(44)))
        t.equal(shown(vm, "CPUWeight"), "44")
        vm.must("Terminate")


tap.main()
