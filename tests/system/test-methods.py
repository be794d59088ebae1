#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every method, property and signal of the service, as root and with busctl, as scripts call them."""
import json
import os
import re
import time

import bus
import service
import tap
import tiny

PROPERTIES = f"{bus.ERRORS.removesuffix('.Error')}.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
NO_OPTIONS = ("a{sv}", "0")

# Types as org.brume.vm1(5) has them; the values are what a first look at a fresh object gives.
MANAGER_PROPERTIES = {
    "Version": "s", "Scope": "s", "HostArchitecture": "s", "Features": "as", "DeviceTypes": "as",
    "MaxVCPUs": "u", "DefaultSlice": "s", "KVMAvailable": "b", "NVMs": "u", "NRunning": "u",
}
VM_PROPERTIES = {
    "Name": "s", "UUID": "s", "Owner": "u", "Description": "s", "Persistent": "b", "Autostart": "b",
    "State": "s", "StateReason": "s", "StateTimestamp": "t", "CurrentJob": "o", "Features": "as",
    "RestartRequired": "b", "VCPUs": "u", "VCPUsTarget": "u", "VCPUsMax": "u", "Memory": "t",
    "MemoryTarget": "t", "MemoryMax": "t", "Consoles": "as", "ConsolePaths": "a{ss}",
    "Balloon": "t", "BalloonTarget": "t", "VSockCID": "u", "RateLimitGroups": "a{sa{st}}",
    "Unit": "s", "MainPID": "u", "InvocationID": "s", "MachineName": "s", "LastExitReason": "s",
    "LastExitStatus": "i",
}
JOB_PROPERTIES = {
    "Id": "u", "Kind": "s", "VM": "o", "Owner": "u", "StartTimestamp": "t", "State": "s",
    "Phase": "s", "Progress": "d", "Cancelable": "b", "ErrorName": "s", "ErrorMessage": "s",
}

called = set()


def manager(method, signature="", *args, **kwargs):
    """Values of a Manager method's reply; it has to succeed."""
    return must(bus.ROOT, bus.MANAGER, method, signature, *args, **kwargs)


def on(vm, method, signature="", *args, **kwargs):
    return must(vm.path, bus.VM, method, signature, *args, **kwargs)


def must(path, interface, method, signature, *args, **kwargs):
    called.add(f"{interface}.{method}")
    status, values, error = bus.busctl(path, interface, method, signature, *args, **kwargs)
    if status != 0:
        raise AssertionError(f"{method}: {error}")
    return values


def all_properties(path, interface):
    """Name -> (type, value), of GetAll."""
    values = must(path, PROPERTIES, "GetAll", "s", interface)[0]
    return {name: (v["type"], v["data"]) for name, v in values.items()}


def output(path):
    with open(path, errors="replace") as f:
        return f.read()


def with_output(cmdline, path, **more):
    return tiny.config(cmdline, serial={"mode": "File", "file": path}, **more)


# --- properties ------------------------------------------------------------------

@tap.test("the manager's properties have their types and sensible values")
def test_manager_properties(t):
    got = all_properties(bus.ROOT, bus.MANAGER)
    t.equal({name: kind for name, (kind, _) in got.items()}, MANAGER_PROPERTIES)
    value = {name: v for name, (_, v) in got.items()}
    t.match(value["Version"], r"^\d+\.\d+")
    t.equal(value["Scope"], "system")
    t.equal(value["HostArchitecture"], os.uname().machine)
    t.equal(value["DefaultSlice"], "machine.slice")
    t.true("sandbox=systemd" in value["Features"], f"Features {value['Features']}")
    t.true({"disk", "net", "fs", "pmem", "vsock", "balloon"} <= set(value["DeviceTypes"]), value["DeviceTypes"])
    t.true(1 <= value["MaxVCPUs"] <= 1024, f"MaxVCPUs {value['MaxVCPUs']}")
    t.equal(value["KVMAvailable"], os.path.exists("/dev/kvm"))
    t.equal((value["NVMs"], value["NRunning"]), (0, 0))


@tap.test("a VM's properties have their types, and their values while it is defined and runs")
def test_vm_properties(t):
    with tiny.Machine("props", tiny.config(tiny.DEAF, vcpus=2, memory=48 << 20),
                      Description="of a test") as vm:
        got = all_properties(vm.path, bus.VM)
        t.equal({name: kind for name, (kind, _) in got.items()}, VM_PROPERTIES)
        value = {name: v for name, (_, v) in got.items()}
        t.match(value["UUID"], r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        t.true(abs(value["StateTimestamp"] / 1e6 - time.time()) < 60, "StateTimestamp is no time")
        expected = {"Name": "props", "Owner": 0, "Description": "of a test", "Persistent": True,
                    "Autostart": False, "State": "stopped", "CurrentJob": "/",
                    "RestartRequired": False, "VCPUs": 2, "VCPUsMax": 2, "Memory": 48 << 20,
                    "Consoles": ["serial"], "MainPID": 0, "InvocationID": "", "MachineName": "",
                    "LastExitReason": "", "LastExitStatus": 0}
        t.equal({name: value[name] for name in expected}, expected, "defined")
        vm.start()
        value = {name: v for name, (_, v) in all_properties(vm.path, bus.VM).items()}
        t.equal((value["State"], value["Unit"]), ("running", vm.unit))
        unit = service.show(vm.unit, "MainPID", "InvocationID")
        t.equal((str(value["MainPID"]), value["InvocationID"]), (unit["MainPID"], unit["InvocationID"]))
        manager_now = all_properties(bus.ROOT, bus.MANAGER)
        t.equal((manager_now["NVMs"][1], manager_now["NRunning"][1]), (1, 1))
        vm.must("Terminate")
        value = {name: v for name, (_, v) in all_properties(vm.path, bus.VM).items()}
        # the invocation stays: it finds the journal of the run that is over
        t.equal((value["State"], value["MainPID"], value["InvocationID"], value["LastExitReason"]),
                ("stopped", 0, unit["InvocationID"], "terminated"))


@tap.test("no property can be set, not even by root", cases=[
    ("the manager's", bus.ROOT, bus.MANAGER, '"Version"', "<'x'>"),
    ("a VM's", bus.vm_path("ro"), bus.VM, '"Description"', "<'x'>"),
])
def test_set(t, path, interface, name, value):
    with tiny.Machine("ro"):
        reply = bus.call(path, f"{PROPERTIES}.Set", f'"{interface}"', name, value)
        t.true(not reply.ok, "Properties.Set succeeded")
        t.true(reply.error in (f"{bus.ERRORS}.AccessDenied", f"{bus.ERRORS}.PropertyReadOnly"),
               f"{reply.error}: {reply.text}")


@tap.test("GetManagedObjects has the VM and its job with all their properties")
def test_managed_objects(t):
    with tiny.Machine("managed") as vm:
        job = on(vm, "Start", "a{sv}", 1, "Wait", "b", "true")[0]
        objects = must(bus.ROOT, OBJECT_MANAGER, "GetManagedObjects", "")[0]
        t.equal(sorted(objects[vm.path][bus.VM]), sorted(VM_PROPERTIES))
        t.equal(objects[vm.path][bus.VM]["State"]["data"], "running")
        t.equal(sorted(objects[job][bus.JOB]), sorted(JOB_PROPERTIES))
    objects = must(bus.ROOT, OBJECT_MANAGER, "GetManagedObjects", "")[0]
    t.true(vm.path not in objects, "the VM is among the objects after Delete")


# --- the manager's methods -------------------------------------------------------

@tap.test("CreateVM, ListVMs, GetVM, GetVMByUUID, GetVMByPID")
def test_lookups(t):
    path = manager("CreateVM", "ssa{sh}a{sv}", "look-up.1", json.dumps(tiny.config()), 0, 2,
                   "Description", "s", "x", "Persistent", "b", "true")[0]
    t.cleanup(bus.remove, "look-up.1")
    t.equal(path, "/org/brume/vm1/vm/look_2dup_2e1")
    uuid = bus.vm_get("look-up.1", "UUID")
    t.equal(manager("ListVMs")[0], [["look-up.1", uuid, "stopped", 0, path]])
    t.equal(manager("GetVM", "s", "look-up.1")[0], path)
    t.equal(manager("GetVMByUUID", "s", uuid)[0], path)
    t.equal(manager("GetVMByUUID", "s", uuid.replace("-", "").upper())[0], path, "another spelling")
    must(path, bus.VM, "Start", "a{sv}", 1, "Wait", "b", "true")
    t.equal(manager("GetVMByPID", "u", bus.vm_get("look-up.1", "MainPID"))[0], path)


@tap.test("the configuration's UUID is the VM's")
def test_uuid(t):
    uuid = "12345678-9abc-def0-1234-56789abcdef0"
    with tiny.Machine("uuid", tiny.config(platform={"uuid": uuid})) as vm:
        t.equal(vm.get("UUID"), uuid)
        reply = bus.create("uuid2", tiny.config(platform={"uuid": uuid}))
        t.equal((reply.error, reply.text), (f"{bus.NAME}.VMExists",
                                            f"UUID {uuid} belongs to VM 'uuid' already"))


@tap.test("ValidateConfig reports nothing, an error with its pointer, or a warning")
def test_validate(t):
    good = tiny.config()
    t.equal(manager("ValidateConfig", "sa{sv}", json.dumps(good), 0)[0], [])
    bad = dict(good, memory={"size": "much"})
    found = manager("ValidateConfig", "sa{sv}", json.dumps(bad), 0)[0]
    t.equal([f[:2] for f in found], [["error", "/memory/size"]])
    t.match(found[0][2], "must be")
    found = manager("ValidateConfig", "sa{sv}", "{", 0)[0]
    t.equal([f[0] for f in found], ["error"])
    limit = bus.get(bus.ROOT, bus.MANAGER, "MaxVCPUs")
    if limit < 1024:
        many = tiny.config(vcpus=limit + 1)
        found = manager("ValidateConfig", "sa{sv}", json.dumps(many), 0)[0]
        t.equal([f[:2] for f in found], [["warning", "/cpus/max_vcpus"]])
        t.match(found[0][2], str(limit))


@tap.test("Describe of the manager is JSON about host and daemon")
def test_describe_manager(t):
    d = json.loads(manager("Describe")[0])
    t.equal(sorted(d), ["daemon", "host"])
    t.equal((d["daemon"]["scope"], d["daemon"]["workers"]), ("system", "systemd"))


@tap.test("jobs: ListJobs, GetJob, properties, GetAllCounters")
def test_jobs(t):
    with tiny.Machine("jobs", tiny.config(tiny.DEAF, disks=[{"path": tiny.image("/srv/jobs.img"),
                                                            "id": "d"}])) as vm:
        t.cleanup(os.unlink, "/srv/jobs.img")
        vm.start()
        job = on(vm, "Shutdown", *NO_OPTIONS)[0]
        number = int(job.rsplit("/", 1)[1])
        t.equal(manager("GetJob", "u", number)[0], job)
        listed = {row[0]: row for row in manager("ListJobs")[0]}
        t.equal([listed[number][i] for i in (1, 2, 5, 6)], ["shutdown", "running", vm.path, job])
        got = all_properties(job, bus.JOB)
        t.equal({name: kind for name, (kind, _) in got.items()}, JOB_PROPERTIES)
        t.equal((got["Id"][1], got["Kind"][1], got["VM"][1], got["Owner"][1], got["State"][1],
                 got["Cancelable"][1]), (number, "shutdown", vm.path, 0, "running", True))
        t.equal(vm.get("CurrentJob"), job)
        counters = manager("GetAllCounters", *NO_OPTIONS)[0]
        t.equal(list(counters), [vm.path])
        t.true("d" in counters[vm.path], f"counters of {list(counters[vm.path])}")
        must(job, bus.JOB, "Cancel", *NO_OPTIONS)
        t.equal(bus.get(job, bus.JOB, "State"), "canceled")
        t.equal(bus.get(job, bus.JOB, "ErrorName"), f"{bus.NAME}.JobCanceled")
        t.equal((vm.state, vm.get("CurrentJob")), ("running", "/"))


@tap.test("CancelJob ends a shutdown that the guest ignores, and the waiting call is told")
def test_cancel(t):
    with tiny.Machine("cancel") as vm, bus.Signals() as signals:
        vm.start()
        job = on(vm, "Shutdown", *NO_OPTIONS)[0]
        manager("CancelJob", "u", int(job.rsplit("/", 1)[1]))
        removed = signals.wait(lambda s: s.member == "JobRemoved" and s.data[1] == job, 5)
        t.equal(removed.data[3:5], ["canceled", f"{bus.NAME}.JobCanceled"])
        t.match(removed.data[5], "shutdown was canceled")
        again = bus.manager("CancelJob", job.rsplit("/", 1)[1])
        t.equal(again.error, f"{bus.NAME}.InvalidState")
        t.match(again.text, r"^job \d+ is over already$")


# --- the VM's methods ------------------------------------------------------------

@tap.test("Start without Wait returns a job that ends as done; Paused starts paused")
def test_start(t):
    with tiny.Machine("start") as vm, bus.Signals() as signals:
        job = on(vm, "Start", "a{sv}", 1, "Paused", "b", "true")[0]
        t.match(job, r"^/org/brume/vm1/job/\d+$")
        removed = signals.wait(lambda s: s.member == "JobRemoved" and s.data[1] == job, 20)
        t.equal(removed.data[2:], [vm.path, "done", "", ""])
        t.equal(vm.state, "paused")
        t.equal((bus.get(job, bus.JOB, "State"), bus.get(job, bus.JOB, "Progress")), ("done", 1))


@tap.test("Pause stops the guest and Resume lets it go on")
def test_pause(t):
    path = "/srv/pause.out"
    with tiny.Machine("pause", with_output("test=count hz=50", path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        t.eventually(lambda: "# tick 3\n" in output(path), "ticks of the guest")
        on(vm, "Pause", *NO_OPTIONS)
        t.equal(vm.state, "paused")
        before = output(path)
        time.sleep(0.5)
        t.equal(output(path), before, "a paused guest prints")
        reply = vm.call("Pause")
        t.equal((reply.error, reply.text),
                (f"{bus.NAME}.InvalidState", "cannot pause VM 'pause': it is paused"))
        on(vm, "Resume", *NO_OPTIONS)
        t.equal(vm.state, "running")
        t.eventually(lambda: len(output(path)) > len(before), "ticks after Resume")


@tap.test("Reset starts the guest anew in the same worker")
def test_reset(t):
    path = "/srv/reset.out"
    with tiny.Machine("reset", with_output("test=count hz=20", path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        pid = vm.pid
        t.eventually(lambda: "# tick 5\n" in output(path), "ticks of the guest")
        on(vm, "Reset", *NO_OPTIONS)
        t.eventually(lambda: output(path).count("# tick 1\n") == 2, "the first tick again")
        t.equal((vm.state, vm.pid), ("running", pid))


@tap.test("InjectNMI arrives in the guest")
def test_nmi(t):
    path = "/srv/nmi.out"
    with tiny.Machine("nmi", with_output("test=nmi lint1=1", path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        t.eventually(lambda: "# waiting" in output(path), "the guest waits")
        on(vm, "InjectNMI", *NO_OPTIONS)
        vm.wait_state("stopped")
        t.match(output(path), "ok nmi - NMI arrived")
        t.equal((vm.get("LastExitReason"), vm.get("LastExitStatus")), ("guest-shutdown", 0))


def power_button_guest():
    """
    The button's register is one byte at the start of the last MiB but 64 KiB of the guest-physical
    addresses (docs: memory map), whose width is the host's, at most 46.
    """
    with open("/proc/cpuinfo") as f:
        bits = min(int(re.search(r"address sizes\s*: (\d+) bits physical", f.read()).group(1)), 46)
    return f"test=power-button gsi=5 addr={(1 << bits) - 0x10000 - 0x100000:#x}"


@tap.test("PowerButton presses the button, and the guest's shutdown stops the VM")
def test_power_button(t):
    path = "/srv/button.out"
    with tiny.Machine("button", with_output(power_button_guest(), path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        t.eventually(lambda: "# waiting" in output(path), "the guest waits")
        on(vm, "PowerButton", *NO_OPTIONS)
        vm.wait_state("stopped")
        t.match(output(path), r"ok power-button - bit 3 set")
        t.equal(vm.get("LastExitReason"), "guest-shutdown")


@tap.test("Shutdown with Wait returns when the guest is off")
def test_shutdown(t):
    path = "/srv/shutdown.out"
    with tiny.Machine("shutdown", with_output(power_button_guest(), path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        t.eventually(lambda: "# waiting" in output(path), "the guest waits")
        with bus.Signals() as signals:
            on(vm, "Shutdown", "a{sv}", 2, "Wait", "b", "true", "TimeoutUSec", "t", 20000000)
            t.equal(vm.state, "stopped")
            signals.wait(lambda s: s.member == "JobRemoved" and s.data[3] == "done", 2)
            t.equal(signals.states(vm.path), [("running", "shutting-down", "request"),
                                              ("shutting-down", "stopped", "guest-shutdown")])


@tap.test("Shutdown of a guest that ignores it: GuestTimeout, or with Force an end")
def test_shutdown_timeout(t):
    with tiny.Machine("ignores") as vm:
        vm.start()
        reply = vm.call("Shutdown", bus.options(Wait=True, TimeoutUSec=300000))
        t.equal((reply.error, reply.text), (f"{bus.NAME}.GuestTimeout", "the guest of VM 'ignores' "
                                            "did not react to the power button in time"))
        t.equal(vm.state, "running")
        on(vm, "Shutdown", "a{sv}", 3, "Wait", "b", "true", "TimeoutUSec", "t", 300000, "Force", "b",
           "true")
        t.equal(vm.state, "stopped")


@tap.test("Reboot restarts a cooperative guest in the same worker; Force resets another")
def test_reboot(t):
    path = "/srv/reboot.out"
    with tiny.Machine("reboot", with_output("test=count hz=20 count=30", path)) as vm:
        t.cleanup(os.unlink, path)
        vm.start()
        pid = vm.pid
        # it turns itself off after 30 ticks; asked to reboot before, that becomes a restart
        on(vm, "Reboot", "a{sv}", 1, "Wait", "b", "true")
        t.equal((vm.state, vm.pid), ("running", pid))
        t.eventually(lambda: output(path).count("# tick 1\n") == 2, "the second boot")
    with tiny.Machine("stubborn") as vm:
        vm.start()
        pid = vm.pid
        on(vm, "Reboot", "a{sv}", 3, "Wait", "b", "true", "TimeoutUSec", "t", 300000, "Force", "b",
           "true")
        t.equal((vm.state, vm.pid), ("running", pid))


@tap.test("Terminate ends running, paused and shutting-down machines", cases=[
    ("running", "running"), ("paused", "paused"), ("shutting-down", "shutting-down"),
])
def test_terminate(t, state):
    with tiny.Machine("term") as vm:
        vm.start(Paused=state == "paused")
        if state == "shutting-down":
            vm.must("Shutdown")
        t.equal(vm.state, state)
        on(vm, "Terminate", *NO_OPTIONS)
        t.equal((vm.state, vm.get("LastExitReason"), vm.get("MainPID")), ("stopped", "terminated", 0))


@tap.test("OpenConsole hands out a descriptor of the guest's serial line")
def test_console(t):
    with tiny.Machine("console", tiny.config(tiny.ECHO)) as vm:
        vm.start()
        called.add(f"{bus.VM}.OpenConsole")
        # busctl 252 cannot show a descriptor that ends with its connection; gdbus prints it
        reply = vm.must("OpenConsole", '""', bus.options(Force=True))
        t.match(reply.text, r"^\(handle 0, ''\)$")
        reply = vm.call("OpenConsole", '"hvc7"', bus.options())
        t.equal((reply.error, reply.text), (f"{bus.NAME}.NoSuchConsole", "VM 'console' has no console "
                                            "'hvc7' to open, only 'serial'"))


@tap.test("GetConfig, SetConfig and RestartRequired")
def test_config(t):
    with tiny.Machine("config", tiny.config(tiny.DEAF, vcpus=1)) as vm:
        reply = vm.call("GetConfig", '"boot"')
        t.equal(reply.error, f"{bus.NAME}.InvalidState")
        vm.start()
        t.equal(json.loads(on(vm, "GetConfig", "s", "boot")[0])["cpus"]["boot_vcpus"], 1)
        on(vm, "SetConfig", "sa{sv}", json.dumps(tiny.config(tiny.DEAF, vcpus=2)), 0)
        t.equal((vm.get("RestartRequired"), vm.get("VCPUs")), (True, 1))
        t.equal(json.loads(on(vm, "GetConfig", "s", "boot")[0])["cpus"]["boot_vcpus"], 1)
        t.equal(json.loads(on(vm, "GetConfig", "s", "next")[0])["cpus"]["boot_vcpus"], 2)
        vm.must("Terminate")
        vm.start()
        t.equal((vm.get("RestartRequired"), vm.get("VCPUs")), (False, 2))
        on(vm, "SetConfig", "sa{sv}", json.dumps(tiny.config(tiny.DEAF, vcpus=2)), 0)
        t.equal(vm.get("RestartRequired"), False, "the same definition again")


@tap.test("SetAutostart and SetDescription change property and definition")
def test_set_methods(t):
    with tiny.Machine("sets") as vm:
        on(vm, "SetAutostart", "ba{sv}", "true", 0)
        on(vm, "SetDescription", "sa{sv}", "schön & \"quoted\"\nlines", 0)
        t.equal((vm.get("Autostart"), vm.get("Description")), (True, "schön & \"quoted\"\nlines"))
        with open(f"{service.STATE}/sets.json") as f:
            kept = json.load(f)
        t.equal((kept["autostart"], kept["description"]), (True, "schön & \"quoted\"\nlines"))
        on(vm, "SetAutostart", "ba{sv}", "false", 0)
        t.equal(vm.get("Autostart"), False)


@tap.test("SetResourceProperties changes definition and unit (more in test-properties.py)")
def test_resource_properties(t):
    with tiny.Machine("weighed") as vm:
        vm.start()
        on(vm, "SetResourceProperties", "ba(sv)a{sv}", "false", 2, "CPUWeight", "t", 50,
           "AllowedCPUs", "ay", 1, 1, 0)
        t.equal(service.show(vm.unit, "CPUWeight", "AllowedCPUs"), {"CPUWeight": "50", "AllowedCPUs": "0"})
        t.equal(json.loads(on(vm, "Describe")[0])["resource-properties"],
                {"CPUWeight": 50, "AllowedCPUs": "0"})


@tap.test("Describe and GetCounters of a VM")
def test_describe(t):
    image = tiny.image("/srv/describe.img")
    with tiny.Machine("describe", tiny.config(tiny.DEAF, disks=[{"path": image, "id": "d0"}])) as vm:
        t.cleanup(os.unlink, image)
        d = json.loads(on(vm, "Describe")[0])
        t.equal((d["name"], d["state"], "devices" in d), ("describe", "stopped", False))
        reply = vm.call("GetCounters")
        t.equal((reply.error, reply.text), (f"{bus.NAME}.InvalidState",
                                            "cannot read counters of VM 'describe': it is stopped"))
        vm.start()
        d = json.loads(on(vm, "Describe")[0])
        t.equal((d["state"], d["unit"], d["pid"]), ("running", vm.unit, vm.pid))
        t.true(any(x["id"] == "d0" and re.match(r"0000:00:[0-9a-f]{2}\.0$", x["bdf"])
                   for x in d["devices"]), f"devices {d['devices']}")
        counters = on(vm, "GetCounters", *NO_OPTIONS)[0]
        t.true(counters["d0"] and all(v == 0 for v in counters["d0"].values()),
               f"counters of a disk nobody used: {counters['d0']}")


@tap.test("Delete removes the definition, and only of a machine that is stopped")
def test_delete(t):
    with tiny.Machine("delete") as vm:
        vm.start()
        reply = vm.call("Delete")
        t.equal((reply.error, reply.text),
                (f"{bus.NAME}.InvalidState", "cannot delete VM 'delete': it is running"))
        vm.must("Terminate")
        kept = f"{service.STATE}/state/delete"  # no machine of this version makes it
        os.makedirs(f"{kept}/below")
        with open(f"{kept}/below/vars", "w") as f:
            f.write("x")
        on(vm, "Delete", "a{sv}", 1, "RemoveState", "b", "true")
        t.true(not bus.exists("delete"), "it is still listed")
        t.true(not os.path.exists(f"{service.STATE}/delete.json"), "its definition is still there")
        t.true(not os.path.exists(kept), "what it kept is still there")
        reply = vm.call("Start")
        t.equal(reply.error, f"{bus.ERRORS}.UnknownObject")


# --- order, and one job at a time ------------------------------------------------

def order(t, signals, *steps):
    """The signals that the predicates find come in this order."""
    at = -1
    for what, predicate in steps:
        found = [i for i, s in enumerate(signals.seen) if predicate(s)]
        t.true(found, f"{what}: not among {[s.member for s in signals.seen]}")
        t.true(found[0] > at, f"{what} comes too early: {[s.member for s in signals.seen]}")
        at = found[0]


def changed(path, name, value):
    return lambda s: (s.member == "PropertiesChanged" and s.path == path and
                      s.data[1].get(name, {}).get("data") == value)


@tap.test("signals of a machine's life come in order, the job's object goes after a while")
def test_signal_order(t):
    with bus.Signals() as signals:
        with tiny.Machine("order") as vm:
            job = on(vm, "Start", "a{sv}", 1, "Wait", "b", "true")[0]
            vm.must("Terminate")
        signals.wait(lambda s: s.member == "VMRemoved", 5)
        order(t, signals,
              ("InterfacesAdded of the VM", lambda s: s.member == "InterfacesAdded" and
               s.data[0] == vm.path and bus.VM in s.data[1]),
              ("VMNew", lambda s: s.member == "VMNew" and s.data == ["order", vm.path]),
              ("NVMs", changed(bus.ROOT, "NVMs", 1)),
              ("InterfacesAdded of the job", lambda s: s.member == "InterfacesAdded" and
               s.data[0] == job and bus.JOB in s.data[1]),
              ("JobNew", lambda s: s.member == "JobNew" and s.data[1:] == [job, vm.path, "start"]),
              ("StateChanged to starting", lambda s: s.member == "StateChanged" and
               s.data == ["stopped", "starting", "request"]),
              ("CurrentJob", changed(vm.path, "CurrentJob", job)),
              ("StateChanged to running", lambda s: s.member == "StateChanged" and
               s.data == ["starting", "running", "started"]),
              ("State running", changed(vm.path, "State", "running")),
              ("JobRemoved", lambda s: s.member == "JobRemoved" and s.data[1:4] == [job, vm.path, "done"]),
              ("StateChanged to stopped", lambda s: s.member == "StateChanged" and
               s.data == ["running", "stopped", "terminated"]),
              ("State stopped", changed(vm.path, "State", "stopped")),
              ("InterfacesRemoved of the VM", lambda s: s.member == "InterfacesRemoved" and
               s.data[0] == vm.path and bus.VM in s.data[1]),
              ("VMRemoved", lambda s: s.member == "VMRemoved" and s.data == ["order", vm.path]))
        t.true(any(changed(vm.path, "CurrentJob", "/")(s) for s in signals.seen), "CurrentJob not reset")
        settled = [i for i, s in enumerate(signals.seen) if changed(vm.path, "CurrentJob", "/")(s)][0]
        removed = [i for i, s in enumerate(signals.seen) if s.member == "JobRemoved"][0]
        t.true(settled < removed, "the job ended before its VM's properties changed")
        # kept 10 s after the end
        signals.wait(lambda s: s.member == "InterfacesRemoved" and s.data[0] == job, 15,
                     "the job's object is removed")
        reply = bus.manager("GetJob", job.rsplit("/", 1)[1])
        t.equal(reply.error, f"{bus.NAME}.NoSuchJob")


@tap.test("one exclusive job: what conflicts gets Busy with its number, the rest works")
def test_busy(t):
    with tiny.Machine("busy") as vm:
        vm.start()
        job = vm.must("Shutdown").paths()[0]
        number = job.rsplit("/", 1)[1]
        for method in ("Shutdown", "Reboot"):
            reply = vm.call(method)
            t.equal((reply.error, reply.text), (f"{bus.NAME}.Busy", f"VM 'busy' is busy with job "
                                                f"{number} (shutdown)"), method)
        reply = vm.call("SetConfig", bus.text(json.dumps(tiny.config())), bus.options())
        t.equal(reply.error, f"{bus.NAME}.Busy", "SetConfig")
        for method in ("PowerButton", "GetCounters"):
            vm.must(method)
        bus.must(bus.vm("busy", "Describe"))
        vm.must("OpenConsole", '""', bus.options(Force=True))
        vm.must("Terminate")
        t.equal(bus.get(job, bus.JOB, "State"), "canceled")
        t.equal(vm.state, "stopped")


@tap.test("a start is exclusive, and Terminate cancels it")
def test_start_busy(t):
    with tiny.Machine("slow") as vm, bus.Signals() as signals:
        vm.must("Start")
        reply = vm.call("Start")
        t.true(reply.error in (f"{bus.NAME}.Busy", f"{bus.NAME}.InvalidState"), f"{reply}")
        vm.must("Terminate")
        signals.wait(lambda s: s.member == "JobRemoved", 5)
        t.equal(vm.state, "stopped")


@tap.test("the log level can be set as for systemd's own services")
def test_log_level(t):
    t.equal(service.systemctl("service-log-level", service.UNIT), "info")
    service.systemctl("service-log-level", service.UNIT, "debug")
    t.cleanup(service.systemctl, "service-log-level", service.UNIT, "info")
    t.equal(service.systemctl("service-log-level", service.UNIT), "debug")


@tap.test("a console's size is for a virtio console")
def test_console_size(t):
    with tiny.Machine("size", tiny.config(tiny.DEAF, console={"mode": "Tty"})) as vm:
        vm.start()
        t.equal(on(vm, "SetConsoleSize", "sqqa{sv}", "console", 132, 43, 0), [])
        reply = vm.call("SetConsoleSize", '"serial"', "uint16 80", "uint16 25", "@a{sv} {}")
        t.true(not reply.ok and "serial" in reply.text, f"{reply.error}: {reply.text}")


# These need devices: test-devices.py, test-hotplug.py, test-brumectl-plug.py and the linux rig.
OF_DEVICES = {"ListDevices", "GetDevice", "ConnectVSock", "SetBalloon", "SetRateLimitGroup", "AddDevice",
              "RemoveDevice", "ResizeVCPUs", "ResizeMemory", "ResizeMemoryZone"}


@tap.test("all methods of the three interfaces were called by the tests above")
def test_all_called(t):
    with tiny.Machine("all") as vm:
        job = on(vm, "Start", "a{sv}", 1, "Wait", "b", "true")[0]
        for path, interface in ((bus.ROOT, bus.MANAGER), (vm.path, bus.VM), (job, bus.JOB)):
            xml = bus.busctl(path, "org.freedesktop.DBus.Introspectable", "Introspect")[1][0]
            part = re.search(rf'<interface name="{re.escape(interface)}">(.*?)</interface>', xml, re.S)
            for method in re.findall(r'<method name="(\w+)"', part.group(1)):
                if method not in OF_DEVICES:
                    t.true(f"{interface}.{method}" in called, f"{interface}.{method} was not called")


tap.main()
