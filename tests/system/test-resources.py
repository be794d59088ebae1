#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a machine gets of the host through its unit, and when machines come and go by themselves."""
import os
import subprocess

import bus
import service
import tap
import tiny


def drop_in(t, unit, section, *lines):
    folder = f"/etc/systemd/system/{unit}.d"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/50-test.conf"
    with open(path, "w") as f:
        f.write(f"[{section}]\n" + "\n".join(lines) + "\n")

    def remove():
        os.unlink(path)
        os.rmdir(folder)
        service.systemctl("daemon-reload")

    t.cleanup(remove)
    service.systemctl("daemon-reload")


def group(vm):
    """The control group of the worker, as the kernel has it."""
    with open(f"/proc/{vm.pid}/cgroup") as f:
        return f.read().strip().split("::")[1]


@tap.test("the unit says what it is and is bounded by the machine's size", cases=[
    ("small", 1, 32 << 20), ("larger", 4, 128 << 20),
])
def test_unit(t, vcpus, memory):
    with tiny.Machine("unit", tiny.config(tiny.DEAF, vcpus=vcpus, memory=memory)) as vm:
        vm.start()
        got = service.show(vm.unit, "Description", "Slice", "Type", "Transient", "TasksMax",
                           "LimitMEMLOCK", "LimitNOFILE", "LimitCORE", "OOMPolicy", "KillMode",
                           "WatchdogUSec", "TimeoutStopUSec", "CollectMode", "Restart", "DynamicUser",
                           "CPUAccounting", "MemoryAccounting", "ManagedOOMPreference")
        t.equal(got, {
            "Description": "Virtual machine unit", "Slice": "machine.slice", "Type": "notify",
            "Transient": "yes", "TasksMax": str(64 + 4096 + vcpus),
            "LimitMEMLOCK": str(memory + (64 << 20)), "LimitNOFILE": "65536", "LimitCORE": "0",
            "OOMPolicy": "stop", "KillMode": "mixed", "WatchdogUSec": "30s",
            "TimeoutStopUSec": "1min 30s", "CollectMode": "inactive", "Restart": "no",
            "DynamicUser": "yes", "CPUAccounting": "yes", "MemoryAccounting": "yes",
            "ManagedOOMPreference": "avoid"})
        t.true(group(vm).endswith(f"/machine.slice/{vm.unit}"), group(vm))
        order = service.show(vm.unit, "After", "Before", "Requires", "BindsTo", "PartOf")
        t.true("brumed.service" in order["After"] and "machines.target" in order["Before"], str(order))
        for name in ("Requires", "BindsTo", "PartOf"):
            t.true("brumed" not in order.get(name, ""), f"{name}: the VM would end with the daemon")


@tap.test("the journal has the worker's messages under the VM's name")
def test_journal(t):
    with tiny.Machine("logged") as vm:
        vm.start()

        def lines():
            return subprocess.run(["journalctl", "-q", "--no-pager", "-o", "cat", "BRUME_VM=logged"],
                                  capture_output=True, text=True, check=True).stdout
        t.eventually(lambda: "running" in lines(), "a message of the worker", 5)


@tap.test("a slice of one's own bounds its machines together")
def test_slice(t):
    drop_in(t, "machine-web.slice", "Slice", "MemoryMax=512M", "CPUWeight=50", "TasksMax=500")
    with tiny.Machine("web1", Slice="machine-web.slice") as one, \
            tiny.Machine("web2", Slice="machine-web.slice") as two:
        one.start()
        two.start()
        for vm in (one, two):
            t.equal(service.show(vm.unit, "Slice"), {"Slice": "machine-web.slice"})
            t.true("/machine.slice/machine-web.slice/" in group(vm), group(vm))
        t.equal(service.show("machine-web.slice", "MemoryMax", "CPUWeight", "TasksMax"),
                {"MemoryMax": str(512 << 20), "CPUWeight": "50", "TasksMax": "500"})
        service.kill()
        one.must("Terminate")
        one.start()
        t.equal(service.show(one.unit, "Slice"), {"Slice": "machine-web.slice"}, "after a restart")


@tap.test("an administrator's drop-in for all workers counts")
def test_drop_in(t):
    drop_in(t, "brume-vm-.service", "Service", "MemoryMax=300M", "CPUWeight=20", "Nice=5")
    with tiny.Machine("bounded") as vm:
        vm.start()
        t.equal(service.show(vm.unit, "MemoryMax", "CPUWeight", "Nice"),
                {"MemoryMax": str(300 << 20), "CPUWeight": "20", "Nice": "5"})
        limit = f"/sys/fs/cgroup{group(vm)}/memory.max"
        if os.path.exists(limit):
            with open(limit) as f:
                t.equal(f.read().strip(), str(300 << 20), "the kernel's limit")
        else:
            tap.diag("no memory controller in this container: only systemd's property was checked")


@tap.test("systemctl set-property works on a running machine and lasts to its end")
def test_set_property(t):
    with tiny.Machine("tuned") as vm:
        vm.start()
        service.systemctl("set-property", "--runtime", vm.unit, "CPUWeight=33")
        t.equal(service.show(vm.unit, "CPUWeight"), {"CPUWeight": "33"})
        vm.must("Terminate")
        vm.start()
        t.equal(service.show(vm.unit, "CPUWeight"), {"CPUWeight": "[not set]"})


@tap.test("a machine runs out of its memory limit: oom-kill")
def test_oom(t):
    drop_in(t, "brume-vm-.service", "Service", "MemoryMax=24M", "MemorySwapMax=0")
    with tiny.Machine("fat", tiny.config("test=mem-high", memory=256 << 20)) as vm:
        if not os.path.exists("/sys/fs/cgroup/memory.stat") and "memory" not in open(
                "/sys/fs/cgroup/cgroup.controllers").read().split():
            tap.skip("no memory controller in this container")
        vm.call("Start", bus.options(Wait=True))
        t.eventually(lambda: vm.state in tiny.ENDED, "the end")
        tap.diag(f"{vm.state} {vm.get('LastExitReason')}")


@tap.test("a transient machine vanishes when it ends", cases=[
    ("terminated", "terminate"), ("powered off", "off"), ("start failed", "fail"),
])
def test_transient(t, how):
    before = service.tree(service.STATE)
    config = tiny.config("test=count hz=20 count=5" if how == "off" else tiny.DEAF)
    if how == "fail":
        config["payload"]["kernel"] = "/srv/none"
    with tiny.Machine("fleeting", config, Persistent=False) as vm, bus.Signals() as signals:
        t.equal((vm.get("Persistent"), service.tree(service.STATE)), (False, before))
        reply = vm.call("Start", bus.options(Wait=True))
        t.equal(reply.ok, how != "fail", reply.text)
        if how == "terminate":
            vm.must("Terminate")
        signals.wait(lambda s: s.member == "VMRemoved" and s.data == ["fleeting", vm.path], 10)
        t.true(not bus.exists("fleeting"), "it is still listed")
        t.eventually(lambda: service.units() == [], "the unit is gone", 5)


@tap.test("a transient machine cannot be started with the host")
def test_transient_autostart(t):
    with tiny.Machine("never", Persistent=False) as vm:
        reply = vm.call("SetAutostart", "true", bus.options())
        t.equal((reply.error, reply.text), (f"{bus.NAME}.InvalidState", "VM 'never' is transient and "
                                            "cannot be started with the host"))


def boot():
    """What a boot of the host is to the daemon: everything in /run is new."""
    service.systemctl("stop", service.UNIT)
    if os.path.exists(f"{service.RUN}/autostart"):
        os.unlink(f"{service.RUN}/autostart")
    service.systemctl("start", service.UNIT)
    service.wait_up()


@tap.test("Autostart starts with the host, not with a mere restart of the daemon")
def test_autostart(t):
    with tiny.Machine("auto", Autostart=True) as auto, tiny.Machine("manual") as manual:
        t.equal((auto.state, manual.state), ("stopped", "stopped"), "creating starts nothing")
        service.restart()
        t.equal((auto.state, manual.state), ("stopped", "stopped"), "a restart starts nothing")
        boot()
        auto.wait_state("running")
        t.equal(manual.state, "stopped")
        pid = auto.pid
        service.kill()
        t.equal((auto.state, auto.pid), ("running", pid))
        auto.must("Terminate")
        service.kill()
        t.equal(auto.state, "stopped", "what an administrator has stopped stays stopped")


@tap.test("one machine that cannot start does not keep the others from starting with the host")
def test_autostart_failure(t):
    broken = tiny.config()
    broken["payload"]["kernel"] = "/srv/none"
    with tiny.Machine("broken", broken, Autostart=True) as bad, \
            tiny.Machine("good", Autostart=True) as good:
        boot()
        good.wait_state("running")
        bad.wait_state("failed")


tap.main()
