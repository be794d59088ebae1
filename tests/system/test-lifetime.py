#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Who outlives whom: the daemon killed, restarted, stopped; workers killed, hung, ended while nobody
looked; and what is left of a machine when it is deleted.
"""
# timeout: 600
import glob
import json
import os
import re
import signal
import subprocess
import time

import bus
import service
import tap
import tiny

NO = bus.options()


def identity(vm):
    """What must be the same before and after whatever happens to the daemon."""
    unit = service.show(vm.unit, "MainPID", "ActiveState", "InvocationID")
    return {
        "listed": [row for row in bus.list_vms() if row[0] == vm.name],
        "state": vm.state, "pid": vm.pid, "invocation": vm.get("InvocationID"),
        "uuid": vm.get("UUID"), "owner": vm.get("Owner"), "description": vm.get("Description"),
        "persistent": vm.get("Persistent"), "autostart": vm.get("Autostart"),
        "memory": vm.get("Memory"), "consoles": vm.get("Consoles"), "machine": vm.get("MachineName"),
        "unit": unit,
        "counted": bus.get(bus.ROOT, bus.MANAGER, "NRunning"),
    }


def counting(t, name, **more):
    """A guest that prints ticks into a file, and the file."""
    path = f"/srv/{name}.out"
    t.cleanup(lambda: os.path.exists(path) and os.unlink(path))
    return tiny.config("test=count hz=20", serial={"mode": "File", "file": path}, **more), path


def ticks(path):
    with open(path) as f:
        return f.read().count("\n")


def goes_on(t, path):
    now = ticks(path)
    t.eventually(lambda: ticks(path) > now + 3, "the guest goes on", 10)


def answers(t, vm):
    """The daemon commands the worker again."""
    vm.must("Pause")
    t.equal(vm.state, "paused")
    vm.must("Resume")
    t.equal(vm.state, "running")


WAYS = [
    ("killed", service.kill),
    ("restarted", service.restart),
    ("stopped and started", lambda: (service.systemctl("stop", service.UNIT),
                                     service.systemctl("start", service.UNIT), service.wait_up())),
    ("stopped and activated by the bus", lambda: (service.systemctl("stop", service.UNIT),
                                                  bus.must(bus.manager("ListVMs")))),
]


# --- the daemon ------------------------------------------------------------------

@tap.test("the daemon is", cases=[(f"{name}: a running machine is what it was", way)
                                  for name, way in WAYS])
def test_daemon(t, way):
    config, path = counting(t, "lives")
    with tiny.Machine("lives", config, Description="x") as vm:
        vm.start()
        t.eventually(lambda: vm.get("MachineName") == "lives" or not machined(), "registration")
        before, old = identity(vm), service.pid()
        way()
        t.true(service.pid() not in (0, old), "it is the same daemon")
        t.eventually(lambda: identity(vm) == before, f"{identity(vm)} becomes {before}", 3)
        goes_on(t, path)
        answers(t, vm)
        t.equal((vm.get("CurrentJob"), bus.busctl(bus.ROOT, bus.MANAGER, "ListJobs")[1]), ("/", [[]]))
        vm.must("Terminate")
        t.equal(vm.state, "stopped")
        t.eventually(lambda: service.units() == [], "the unit is not loaded any more", 5)


def machined():
    return os.path.exists("/usr/lib/systemd/systemd-machined")


@tap.test("a paused machine stays paused over a kill of the daemon")
def test_paused(t):
    with tiny.Machine("paused") as vm:
        vm.start(Paused=True)
        service.kill()
        t.equal(vm.state, "paused")
        vm.must("Resume")
        t.equal(vm.state, "running")


@tap.test("a transient machine lives through a kill of the daemon and vanishes at its end")
def test_transient(t):
    with tiny.Machine("passing", Persistent=False) as vm:
        vm.start()
        before = identity(vm)
        service.kill()
        t.equal(identity(vm), before)
        t.equal(before["persistent"], False)
        vm.must("Terminate")
        t.true(not bus.exists("passing"), "it is still listed")


@tap.test("a changed next configuration is still the next one after a kill of the daemon")
def test_configs(t):
    with tiny.Machine("two", tiny.config(tiny.DEAF, memory=32 << 20)) as vm:
        vm.start()
        bus.must(vm.call("SetConfig", bus.text(json.dumps(tiny.config(tiny.DEAF, memory=64 << 20))), NO))
        service.kill()
        t.equal((vm.get("RestartRequired"), vm.get("Memory")), (True, 32 << 20))
        t.match(bus.must(vm.call("GetConfig", '"next"')).text, str(64 << 20))
        t.match(bus.must(vm.call("GetConfig", '"boot"')).text, str(32 << 20))


@tap.test("a job that the daemon died in goes on under its number, and can be cancelled")
def test_job(t):
    with tiny.Machine("job") as vm:
        vm.start()
        job = vm.must("Shutdown").paths()[0]
        t.equal(vm.state, "shutting-down")
        service.kill()
        t.equal((vm.state, vm.get("CurrentJob")), ("shutting-down", job))
        t.equal([row[6] for row in bus.busctl(bus.ROOT, bus.MANAGER, "ListJobs")[1][0]], [job])
        bus.must(bus.call(job, f"{bus.JOB}.Cancel", NO))
        t.equal((vm.state, vm.get("CurrentJob")), ("running", "/"))
        vm.must("Shutdown", bus.options(Wait=True, Force=True, TimeoutUSec=200000))
        t.equal(vm.state, "stopped")


@tap.test("who waits for a job is told when the daemon goes")
def test_waiter(t):
    with tiny.Machine("waited") as vm:
        vm.start()
        child = subprocess.Popen(["gdbus", "call", "--system", f"--dest={bus.NAME}",
                                  f"--object-path={vm.path}", f"--method={bus.VM}.Shutdown",
                                  "{'Wait': <true>}"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        t.cleanup(child.kill)
        t.eventually(lambda: vm.state == "shutting-down", "the shutdown has begun")
        service.restart()
        _, error = child.communicate(timeout=10)
        t.true(child.returncode != 0, "the call succeeded")
        t.match(error, r"the daemon stops; what job \d+ does may still be completed|NoReply|disconnect")
        t.equal(vm.state, "shutting-down")


@tap.test("the daemon is killed during a Start: the machine runs, or it failed and left nothing",
          cases=[*((f"{ms} ms after the call was made", ms, False) for ms in range(0, 61, 3)),
                 *((f"{ms} ms after the call was answered", ms, True)
                   for ms in (*range(0, 31, 3), 45, 60, 80, 120))])
def test_start_cut(t, ms, wait):
    interfaces = service.interfaces()
    config = tiny.config(net=[{"tap": "tap-cut0"}] if has_tun() else [])
    with tiny.Machine("cut", config) as vm:
        old = service.pid()
        service.systemctl("reset-failed", service.UNIT)
        call = subprocess.Popen(["busctl", "--auto-start=no", "call", bus.NAME, vm.path, bus.VM, "Start",
                                 "a{sv}", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        t.cleanup(call.kill)
        if wait:
            call.wait(30)
        time.sleep(ms / 1000)
        os.kill(old, signal.SIGKILL)
        accepted = call.wait(30) == 0
        service.wait_next(old)
        # the next daemon has made up its mind before it took the name
        state, reason = vm.state, vm.get("StateReason")
        tap.diag(f"{'accepted' if accepted else 'no answer'}: {state}, {reason}")
        if state == "running":
            t.equal(reason, "daemon-restarted")
            answers(t, vm)
            vm.must("Terminate")
        elif accepted or state != "stopped":
            t.equal((state, reason, vm.get("LastExitReason")),
                    ("failed", "daemon-restarted", "daemon-restarted"))
        else:
            t.equal((reason, vm.get("LastExitReason")), ("", ""), "of a call that did not arrive")
        t.equal((vm.get("MainPID"), vm.get("CurrentJob"), service.tree("/run/brume/vm")), (0, "/", []))
        t.eventually(lambda: (service.units(), service.workers(), service.interfaces()) ==
                     ([], [], interfaces), "nothing is left", 3)
        vm.start()
        t.equal((vm.state, vm.get("StateReason")), ("running", "started"))


@tap.test("a start that systemd has not come to yet is called off by the next daemon")
def test_start_queued(t):
    # a unit that is in the way of every worker's
    drop_in(t, "[Unit]", "After=brume-test-gate.service", "Wants=brume-test-gate.service")
    with open("/run/systemd/system/brume-test-gate.service", "w") as f:
        f.write("[Service]\nType=oneshot\nExecStart=sleep 3\n")
    t.cleanup(lambda: (os.unlink("/run/systemd/system/brume-test-gate.service"),
                       service.systemctl("daemon-reload")))
    service.systemctl("daemon-reload")
    with tiny.Machine("queued") as vm:
        vm.must("Start")
        t.eventually(lambda: "brume-vm-queued.service" in service.systemctl("list-jobs"), "a queued job")
        service.kill()
        t.equal((vm.state, vm.get("StateReason")), ("failed", "daemon-restarted"))
        t.equal(service.tree("/run/brume/vm"), [])
        time.sleep(4)
        t.equal((service.units(), service.workers()), ([], []), "after the gate has opened")
        vm.start()


def in_the_way(t, seconds):
    """A unit of the name that the worker's is to have, for a while."""
    subprocess.run(["systemd-run", "--quiet", "--unit=brume-vm-next.service", "sleep", str(seconds)],
                   check=True)
    t.cleanup(service.systemctl, "stop", "brume-vm-next.service", check=False)


@tap.test("a start waits for systemd to forget the unit of the last run")
def test_unit_lingers(t):
    in_the_way(t, 2)
    with tiny.Machine("next") as vm:
        began = time.monotonic()
        vm.start()
        t.true(1 < time.monotonic() - began < 5, f"after {time.monotonic() - began} s")
        t.equal((vm.state, vm.pid), ("running", int(service.show(vm.unit, "MainPID")["MainPID"])))
        vm.must("Terminate")


@tap.test("a start whose unit's name stays taken fails, and can be called off before")
def test_unit_taken(t):
    in_the_way(t, 100)
    with tiny.Machine("next") as vm:
        reply = vm.call("Start", bus.options(Wait=True))
        t.equal(reply.error, f"{bus.NAME}.WorkerFailed")
        t.match(reply.text, "systemd does not start 'brume-vm-next.service': .*already loaded")
        t.equal((vm.state, vm.get("StateReason")), ("failed", "start-failed"))
        vm.must("Start")
        time.sleep(0.5)
        began = time.monotonic()
        vm.must("Terminate")
        t.true(time.monotonic() - began < 2, f"after {time.monotonic() - began} s")
        t.equal((vm.state, vm.get("StateReason")), ("stopped", "canceled"))
        t.equal(service.show(vm.unit, "ActiveState"), {"ActiveState": "active"}, "the one in the way")
        t.equal(service.tree("/run/brume/vm"), [])


def stranger(t):
    """Another brumed that has the name: what is left of a killed one, if it is slow to go."""
    service.systemctl("stop", service.UNIT)
    exe = service.show(service.UNIT, "ExecStart")["ExecStart"].split("path=")[1].split(" ")[0]
    child = subprocess.Popen([exe, "--state-dir=/run/stranger/state", "--runtime-dir=/run/stranger/run"],
                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.cleanup(child.wait)
    t.cleanup(child.kill)
    service.wait_up()
    return child


@tap.test("the daemon waits for a name that its predecessor has not given up yet")
def test_name(t):
    t.cleanup(service.restart)
    child = stranger(t)
    service.systemctl("start", "--no-block", service.UNIT)
    t.eventually(lambda: service.pid() != 0, "the daemon runs")
    time.sleep(1)
    t.equal(service.show(service.UNIT, "ActiveState"), {"ActiveState": "activating"})
    child.kill()
    child.wait()
    t.eventually(lambda: service.show(service.UNIT, "ActiveState", "NRestarts") ==
                 {"ActiveState": "active", "NRestarts": "0"}, "the same daemon goes on", 3)
    service.wait_up()


@tap.test("a name that stays another's is given up, with a sentence that says whose it is")
def test_name_taken(t):
    t.cleanup(service.restart)
    child = stranger(t)
    began = time.monotonic()
    t.true(subprocess.run(["systemctl", "start", service.UNIT], capture_output=True,
                          check=False).returncode != 0, "it started")
    t.true(4 < time.monotonic() - began < 15, f"after {time.monotonic() - began} s")
    log = subprocess.run(["journalctl", "-u", service.UNIT, "-n", "50", "-o", "cat"], capture_output=True,
                         text=True, check=True).stdout
    t.match(log, f"process {child.pid} has the bus name {bus.NAME} and did not give it up within "
                 "5000 ms: is it another brumed\\?")


@tap.test("machines that were to be started with the host are, though the daemon was killed midway")
def test_autostart_cut(t):
    names = [f"auto{n:02}" for n in range(12)]
    for name in names:
        t.cleanup(bus.remove, name)
        bus.must(bus.create(name, tiny.config(), Autostart=True))

    def states():
        found = {row[0]: row[2] for row in bus.list_vms()}
        return [found[name] for name in names]

    # what a boot of the host is to the daemon
    service.systemctl("stop", service.UNIT)
    os.path.exists(f"{service.RUN}/autostart") and os.unlink(f"{service.RUN}/autostart")
    service.systemctl("start", service.UNIT)
    service.wait_up()
    t.eventually(lambda: "running" in states(), "one runs", 10)
    before = states()
    service.kill()
    tap.diag(f"{before.count('running')} ran, now {states().count('running')}")
    t.true(before.count("running") < len(names), "it was too late to cut anything")
    t.eventually(lambda: states() == ["running"] * len(names), "all run", 30)
    with open(f"{service.RUN}/autostart") as f:
        t.equal(f.read(), "", "who is still to be started")
    pids = [bus.vm_get(name, "MainPID") for name in names]
    bus.must(bus.vm(names[3], "Terminate", NO))
    with tiny.Machine("later", Autostart=True) as later:
        service.kill()
        t.equal(states(), ["running"] * 3 + ["stopped"] + ["running"] * 8)
        t.equal(later.state, "stopped", "one that was made after the boot")
        t.equal([bus.vm_get(name, "MainPID") for name in names], pids[:3] + [0] + pids[4:])


@tap.test("systemd forgets and remembers everything: the machine does not notice", cases=[
    ("daemon-reload", "daemon-reload"), ("daemon-reexec", "daemon-reexec"),
])
def test_reload(t, verb):
    config, path = counting(t, "reload")
    with tiny.Machine("reload", config) as vm:
        vm.start()
        before = identity(vm)
        with bus.Signals() as signals:
            for _ in range(3):
                service.systemctl(verb)
            goes_on(t, path)
            t.equal(signals.states(), [])
        t.equal(identity(vm), before)
        answers(t, vm)
        os.kill(vm.pid, signal.SIGKILL)
        vm.wait_state("crashed", 5)


@tap.test("a machine that is stopped stays defined over restarts, with its UUID")
def test_definition(t):
    with tiny.Machine("kept", Description="words") as vm:
        uuid, config = vm.get("UUID"), bus.must(vm.call("GetConfig", '"next"')).text
        service.restart()
        t.equal((vm.state, vm.get("UUID"), vm.get("Description")), ("stopped", uuid, "words"))
        t.equal(bus.must(vm.call("GetConfig", '"next"')).text, config)


@tap.test("a damaged definition is set aside, the others are served")
def test_damaged(t):
    with tiny.Machine("whole"), tiny.Machine("torn"):
        path = f"{service.STATE}/torn.json"
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text[:len(text) // 2])
        service.restart()
        t.equal([row[0] for row in bus.list_vms()], ["whole"])
        t.true(not os.path.exists(path), "it is still there")
        aside = glob.glob(f"{path}.damaged*")
        t.equal(len(aside), 1)
        t.cleanup(os.unlink, aside[0])
        with open(aside[0]) as f:
            t.equal(f.read(), text[:len(text) // 2], "what was set aside")


@tap.test("a unit nobody knows is left alone")
def test_stranger(t):
    subprocess.run(["systemd-run", "--quiet", "--unit=brume-vm-stranger", "sleep", "100"], check=True)
    t.cleanup(service.systemctl, "stop", "brume-vm-stranger.service")
    service.restart()
    t.equal(service.show("brume-vm-stranger.service", "ActiveState"), {"ActiveState": "active"})
    t.equal(bus.list_vms(), [])


# --- the worker ------------------------------------------------------------------

@tap.test("a worker is killed: crashed, with the signal; the unit is gone, it can start again")
def test_worker_kill(t):
    with tiny.Machine("killed") as vm, bus.Signals() as signals:
        vm.start()
        os.kill(vm.pid, signal.SIGKILL)
        vm.wait_state("crashed", 5)
        t.equal((vm.get("LastExitReason"), vm.get("LastExitStatus"), vm.get("MainPID")),
                ("signal", 9, 0))
        t.equal(signals.states(vm.path)[-1], ("running", "crashed", "signal"))
        t.eventually(lambda: service.units() == [], "the unit is not loaded any more", 5)
        t.equal(service.systemctl("--failed", "--plain", "--no-legend"), "")
        vm.start()
        t.equal(vm.state, "running")


@tap.test("a worker is killed during a shutdown: the job fails and says why")
def test_worker_kill_job(t):
    with tiny.Machine("doomed") as vm, bus.Signals() as signals:
        vm.start()
        vm.must("Shutdown")
        os.kill(vm.pid, signal.SIGKILL)
        removed = signals.wait(lambda s: s.member == "JobRemoved" and s.data[3] == "failed", 10)
        t.equal(removed.data[4:], [f"{bus.NAME}.WorkerFailed",
                                   "VM 'doomed' ended (signal) during the shutdown"])
        t.equal(vm.state, "crashed")


@tap.test("a worker dies by another signal", cases=[("SIGSEGV", signal.SIGSEGV), ("SIGABRT", signal.SIGABRT),
                                                    ("SIGSYS", signal.SIGSYS)])
def test_worker_signal(t, signo):
    with tiny.Machine("hit") as vm:
        vm.start()
        os.kill(vm.pid, signo)
        vm.wait_state("crashed", 5)
        t.true(vm.get("LastExitReason") in ("signal", "core-dump"), vm.get("LastExitReason"))
        t.equal(vm.get("LastExitStatus"), int(signo))


@tap.test("a worker hangs: the watchdog ends it")
def test_watchdog(t):
    drop_in(t, "WatchdogSec=1s")
    with tiny.Machine("hung") as vm:
        vm.start()
        t.equal(service.show(vm.unit, "WatchdogUSec"), {"WatchdogUSec": "1s"})
        time.sleep(2.5)
        t.equal(vm.state, "running", "a worker that pings")
        os.kill(vm.pid, signal.SIGSTOP)
        vm.wait_state("crashed", 10)
        t.equal((vm.get("LastExitReason"), vm.get("LastExitStatus")), ("watchdog", int(signal.SIGABRT)))


def drop_in(t, *lines):
    """An administrator's setting for all workers."""
    folder = "/etc/systemd/system/brume-vm-.service.d"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/50-test.conf", "w") as f:
        f.write("\n".join(lines if lines[0].startswith("[") else ("[Service]", *lines)) + "\n")

    def remove():
        os.unlink(f"{folder}/50-test.conf")
        os.rmdir(folder)
        service.systemctl("daemon-reload")

    t.cleanup(remove)
    service.systemctl("daemon-reload")


@tap.test("the guest ends by itself", cases=[
    ("power off", "test=hello", "stopped", "guest-shutdown", 0),
    ("triple fault", "test=triple-fault", "crashed", "triple-fault", 5),
])
def test_guest_end(t, cmdline, state, reason, status):
    with tiny.Machine("ends", tiny.config(cmdline)) as vm:
        vm.must("Start")
        vm.wait_state(state)
        t.equal((vm.get("LastExitReason"), vm.get("LastExitStatus")), (reason, status))
        t.eventually(lambda: service.units() == [], "the unit is not loaded any more", 5)


@tap.test("what happens to a worker while no daemon runs", cases=[
    ("nothing", None, "running", "", 0),
    ("killed", signal.SIGKILL, "crashed", "signal", 9),
    ("SIGTERM to the unit, which the guest ignores", "stop", "crashed", None, None),
])
def test_alone(t, what, state, reason, status):
    drop_in(t, "TimeoutStopSec=1s")
    with tiny.Machine("alone") as vm:
        vm.start()
        pid = vm.pid
        service.systemctl("stop", service.UNIT)
        if what == "stop":
            service.systemctl("stop", vm.unit)
        elif what:
            os.kill(pid, what)
            t.eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the worker is gone")
        service.systemctl("start", service.UNIT)
        service.wait_up()
        t.equal(vm.state, state)
        if reason is not None:
            t.equal((vm.get("LastExitReason"), vm.get("LastExitStatus")), (reason, status))
        if state != "running":
            t.eventually(lambda: service.units() == [], "the unit is not loaded any more", 5)
            vm.start()


@tap.test("a guest that turns itself off while no daemon runs is stopped, a transient one gone",
          cases=[("persistent", True), ("transient", False)])
def test_alone_end(t, persistent):
    with tiny.Machine("quiet", tiny.config("test=count hz=20 count=20"), Persistent=persistent) as vm:
        vm.start()
        pid = vm.pid
        service.systemctl("stop", service.UNIT)
        t.eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the guest turned itself off", 10)
        service.systemctl("start", service.UNIT)
        service.wait_up()
        if persistent:
            t.equal((vm.state, vm.get("LastExitReason")), ("stopped", "guest-shutdown"))
        else:
            t.true(not bus.exists("quiet"), "it is still listed")
        t.equal((service.units(), service.tree("/run/brume/vm")), ([], []))


@tap.test("systemctl stop of the unit presses the power button; a guest that ignores it is killed")
def test_unit_stop(t):
    drop_in(t, "TimeoutStopSec=2s")
    with tiny.Machine("polite", tiny.config("test=count hz=20 count=30")) as vm:
        vm.start()
        service.systemctl("stop", vm.unit)
        vm.wait_state("stopped", 5)
        t.equal(vm.get("LastExitReason"), "guest-shutdown")
    with tiny.Machine("rude") as vm:
        vm.start()
        service.systemctl("stop", vm.unit)
        vm.wait_state("crashed", 5)
        t.equal(vm.get("LastExitReason"), "timeout")
        t.eventually(lambda: service.units() == [], "the unit is not loaded any more", 5)


@tap.test("machinectl lists, shows, reboots and powers off a machine")
def test_machinectl(t):
    if not machined():
        tap.skip("systemd-machined is not installed")
    # turns itself off after a while, as if it had obeyed
    config, path = counting(t, "listed")
    config["payload"]["cmdline"] = "test=count hz=20 count=40"
    with tiny.Machine("listed", config) as vm:
        vm.start()
        pid = vm.pid
        t.eventually(lambda: vm.get("MachineName") == "listed", "MachineName")
        out = subprocess.run(["machinectl", "list", "--no-legend"], capture_output=True, text=True,
                             check=True).stdout
        t.match(out, r"^listed +vm +brume")
        show = dict(line.split("=", 1) for line in subprocess.run(
            ["machinectl", "show", "listed"], capture_output=True, text=True,
            check=True).stdout.splitlines())
        t.equal((show["Leader"], show["Unit"], show["Id"]),
                (str(pid), vm.unit, vm.get("UUID").replace("-", "")))
        subprocess.run(["machinectl", "reboot", "listed"], check=True)
        t.eventually(lambda: open(path).read().count("# tick 1\n") == 2, "the second boot", 10)
        t.equal((vm.state, vm.pid), ("running", pid))
        subprocess.run(["machinectl", "poweroff", "listed"], check=True)
        vm.wait_state("stopped", 10)
        t.equal((vm.get("MachineName"), vm.get("LastExitReason")), ("", "guest-shutdown"))


@tap.test("machinectl terminate stops the unit")
def test_machinectl_terminate(t):
    if not machined():
        tap.skip("systemd-machined is not installed")
    drop_in(t, "TimeoutStopSec=1s")
    with tiny.Machine("listed") as vm:
        vm.start()
        t.eventually(lambda: vm.get("MachineName") == "listed", "MachineName")
        subprocess.run(["machinectl", "terminate", "listed"], check=True)
        t.eventually(lambda: vm.state in tiny.ENDED, "the end", 10)
        t.equal(vm.get("MachineName"), "")


# --- network ---------------------------------------------------------------------

def has_tun():
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError:
        return False
    return True


def need_tun():
    if not has_tun():
        tap.skip("no taps in this container: /dev/net/tun cannot be opened")


@tap.test("taps are made at the start and go with the worker", cases=[
    ("at Terminate", lambda vm: vm.must("Terminate")),
    ("when it is killed", lambda vm: os.kill(vm.pid, signal.SIGKILL)),
])
def test_tap(t, end):
    need_tun()
    before = service.interfaces()
    config = tiny.config(net=[{"tap": "tap-test0", "ip": "192.168.250.1", "mask": "255.255.255.0"}, {}])
    with tiny.Machine("taps", config) as vm:
        vm.start()
        new = sorted(set(service.interfaces()) - set(before))
        t.equal(len(new), 2, f"interfaces {new}")
        t.true("tap-test0" in new and any(re.match(r"brume\d+$", n) for n in new), f"{new}")
        out = subprocess.run(["ip", "-brief", "address", "show", "dev", "tap-test0"],
                             capture_output=True, text=True, check=True).stdout
        t.match(out, r"192\.168\.250\.1/24")
        described = json.loads(bus.busctl(vm.path, bus.VM, "Describe")[1][0])
        t.equal(sorted(described["host-interfaces"]), new)
        service.kill()
        t.equal(sorted(set(service.interfaces()) - set(before)), new, "after a kill of the daemon")
        t.equal(vm.state, "running")
        end(vm)
        t.eventually(lambda: vm.state in tiny.ENDED, "the end", 5)
        t.eventually(lambda: service.interfaces() == before, f"the taps are gone: {new}", 5)


# --- nothing is left -------------------------------------------------------------

@tap.test("nothing is left behind after Delete", cases=[
    ("stopped", lambda vm: None),
    ("terminated", lambda vm: (vm.start(), vm.must("Terminate"))),
    ("crashed", lambda vm: (vm.start(), os.kill(vm.pid, signal.SIGKILL), vm.wait_state("crashed"))),
    ("powered off", lambda vm: (vm.start(), vm.must("Shutdown", bus.options(
        Wait=True, Force=True, TimeoutUSec=100000)))),
    ("a failed start", lambda vm: (os.unlink("/srv/gone.img"), vm.call(
        "Start", bus.options(Wait=True)))),
    ("after a kill of the daemon", lambda vm: (vm.start(), service.kill(), vm.must("Terminate"))),
])
def test_nothing_left(t, what):
    warm_up()
    before = service.traces()
    t.equal((before["VMs"], before["units"], before["workers"]), ([], [], []))
    tiny.image("/srv/gone.img")
    t.cleanup(lambda: os.path.exists("/srv/gone.img") and os.unlink("/srv/gone.img"))
    with tiny.Machine("traceless", tiny.config(disks=[{"path": "/srv/gone.img"}],
                                               console={"mode": "Tty"})) as vm:
        what(vm)
    service.expect_traces(t, before, 15)
    t.equal(service.show("brume-vm-traceless.service", "LoadState"), {"LoadState": "not-found"})
    t.true(not glob.glob("/run/systemd/*/brume-vm-traceless*"), "files of the unit")
    t.equal(service.systemctl("--failed", "--plain", "--no-legend"), "")
    t.true(bus.create("traceless", tiny.config()).ok, "the name can be used again")
    bus.remove("traceless")


def warm_up():
    """The first start makes mount points and connections that stay."""
    with tiny.Machine("warm") as vm:
        vm.start()


@tap.test("a hundred machines come and go without a trace")
def test_many(t):
    warm_up()
    before = service.traces()
    for n in range(100):
        bus.must(bus.create(f"many{n}", tiny.config()))
    t.equal(bus.get(bus.ROOT, bus.MANAGER, "NVMs"), 100)
    service.restart()
    t.equal(len(bus.list_vms()), 100)
    for n in range(100):
        bus.must(bus.vm(f"many{n}", "Delete", NO))
    service.expect_traces(t, before)


@tap.test("starts and ends in a row leave no descriptor and no unit")
def test_cycles(t):
    warm_up()
    before = service.traces()
    with tiny.Machine("cycle") as vm:
        for _ in range(10):
            vm.start()
            vm.must("Terminate")
    service.expect_traces(t, before, 15)


tap.main()
