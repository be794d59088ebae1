#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
brumectl against the real service: each verb, its JSON, its exit statuses, its terminals and pipes.

Command lines that are wrong in themselves are in test-bad-input.py.
"""
import json
import os
import re
import shlex
import signal
import subprocess
import time

import bus
import polkitrules
import service
import tap
import terminal
import tiny

QUIET = "--no-ask-password"
K = ("--kernel", tiny.KERNEL)
SHOWN = ["Name", "UUID", "Owner", "Description", "Persistent", "Autostart", "State", "StateReason",
         "StateTimestamp", "CurrentJob", "Features", "RestartRequired", "VCPUs", "VCPUsTarget",
         "VCPUsMax", "Memory", "MemoryTarget", "MemoryMax", "Consoles", "ConsolePaths", "Balloon",
         "BalloonTarget", "VSockCID", "RateLimitGroups", "Unit", "MainPID", "InvocationID",
         "MachineName", "LastExitReason", "LastExitStatus"]


def shell(line, text="", timeout=30):
    """Runs a line of shell with `text` on its standard input; (exit status, stdout, stderr)."""
    r = subprocess.run(["bash", "-c", line], input=text, capture_output=True, text=True,
                       timeout=timeout, check=False)
    return r.returncode, r.stdout, r.stderr


def spawn(*args):
    return subprocess.Popen(["brumectl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def refused(t, got, status, text):
    t.equal(got[0], status, got[2] or got[1])
    t.match(got[2], text)
    t.no_match(got[2], "(?i)errno|invalid argument$|assert|core dumped")


def button_guest():
    """Turns itself off when the power button is pressed; where that is: see test-methods.py."""
    with open("/proc/cpuinfo") as f:
        bits = min(int(re.search(r"address sizes\s*: (\d+) bits physical", f.read()).group(1)), 46)
    return f"test=power-button gsi=5 addr={(1 << bits) - 0x10000 - 0x100000:#x} ms=600000"


def job_row(name):
    return [row for row in bus.busctl(bus.ROOT, bus.MANAGER, "ListJobs")[1][0]
            if row[5] == bus.vm_path(name) and row[2] == "running"]


# --- each verb -------------------------------------------------------------------

@tap.test("a machine's whole life, verb by verb")
def test_life(t):
    t.cleanup(bus.remove, "life")
    t.equal(bus.ctl("list"), (0, "", "No virtual machines.\n"))
    t.equal(bus.must_ctl("create", "life", *K, "--cmdline", button_guest(), "--memory", "size=32M",
                         "--description", "a life", "--console", "off", "--serial", "tty"), "")
    t.match(bus.must_ctl("list"), r"^NAME +STATE .*\nlife +stopped +1 +32M +root +- +a life\n$")
    t.match(bus.must_ctl("show", "life"), r"(?m)^ +Name: life\n +Description: a life\n +State: stopped")
    t.equal(json.loads(bus.must_ctl("config", "life"))["payload"]["cmdline"], button_guest())

    t.equal(bus.must_ctl("start", "life"), "")
    t.match(bus.must_ctl("list"), r"life +running +1 +32M +root +\d+ +a life")
    t.match(bus.must_ctl("counters", "life"), r"^$|^DEVICE +COUNTER +VALUE\n")
    t.match(bus.must_ctl("console", "life", "--timeout=300ms"), "# waiting")
    for verb, state in (("pause", "paused"), ("resume", "running"), ("nmi", "running"),
                        ("reset", "running")):
        t.equal((verb, bus.ctl(verb, "life"), bus.vm_get("life", "State")), (verb, (0, "", ""), state))

    pid = bus.vm_get("life", "MainPID")
    t.equal(bus.must_ctl("reboot", "life"), "")
    t.equal((bus.vm_get("life", "State"), bus.vm_get("life", "MainPID")), ("running", pid))
    bus.must_ctl("set-config", "life", *K, "--cmdline", tiny.DEAF, "--memory", "size=64M")
    t.match(bus.must_ctl("show", "life"), "RestartRequired: yes")
    t.match(bus.must_ctl("config", "life", "--next"), str(64 << 20))
    bus.must_ctl("autostart", "life", "on")
    t.equal(bus.vm_get("life", "Autostart"), True)
    bus.must_ctl("autostart", "life", "off")
    bus.must_ctl("set-description", "life", "a new life")
    t.equal(bus.vm_get("life", "Description"), "a new life")

    t.equal(bus.must_ctl("shutdown", "life"), "")
    t.match(bus.must_ctl("show", "life"), "(?s)State: stopped.*LastExitReason: guest-shutdown")
    bus.must_ctl("start", "life", "--paused")
    t.equal(bus.vm_get("life", "State"), "paused")
    bus.must_ctl("resume", "life")
    bus.must_ctl("power-button", "life")                # this guest takes no notice
    bus.must_ctl("shutdown", "life", "--no-wait")
    t.match(bus.must_ctl("jobs"), r"(?m)^JOB .*\n(.*\n)*\d+ +life +shutdown +running")
    bus.must_ctl("cancel", str(job_row("life")[0][0]))
    t.equal(bus.vm_get("life", "State"), "running")
    bus.must_ctl("shutdown", "life", "--force", "--timeout=100ms")
    t.equal(bus.vm_get("life", "State"), "stopped")
    bus.must_ctl("start", "life")
    bus.must_ctl("terminate", "life")
    t.equal(bus.must_ctl("delete", "life"), "")
    t.true(not bus.exists("life"), "it is still there")


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


@tap.test("create and validate take a definition", cases=[
    ("from a file", "brumectl {} /srv/def.json"),
    ("from standard input", "brumectl {} - < /srv/def.json"),
    ("from a pipe", "cat /srv/def.json | brumectl {} -"),
    ("from options", f"brumectl {{}} --kernel {tiny.KERNEL} --cmdline test=hello --memory size=32M"),
    ("with a relative path", f"cd {os.path.dirname(tiny.KERNEL)} && brumectl {{}} --kernel "
     f"{os.path.basename(tiny.KERNEL)} --cmdline test=hello --memory size=32M"),
])
def test_definition(t, line):
    t.cleanup(os.unlink, write("/srv/def.json", json.dumps(tiny.config("test=hello"))))
    t.cleanup(bus.remove, "def")
    t.equal(shell(line.format("validate"))[0], 0)
    t.equal(shell(line.format("create def")), (0, "", ""))
    config = json.loads(bus.must_ctl("config", "def"))
    t.equal((config["payload"], config["memory"]["size"]),
            ({"kernel": tiny.KERNEL, "cmdline": "test=hello"}, 32 << 20))
    bus.must_ctl("start", "def", "--no-wait")
    t.eventually(lambda: bus.vm_get("def", "State") == "stopped", "it boots and ends")


@tap.test("what config prints, create takes again")
def test_round_trip(t):
    with tiny.Machine("old", tiny.config("test=hello", vcpus=2)):
        t.cleanup(bus.remove, "new")
        t.equal(shell("brumectl config old | brumectl create new -"), (0, "", ""))
        t.equal(bus.must_ctl("config", "new"), bus.must_ctl("config", "old"))


@tap.test("--json: one value with the keys programs rely on", cases=[
    ("list", ["list"], SHOWN),
    ("show", ["show", "j"], SHOWN),
    ("config", ["config", "j"], ["cpus", "memory", "payload"]),
    ("validate", ["validate", *K], None),
    ("validate finds something", ["validate", *K, "--memory", "size=1M"], ["severity", "pointer", "text"]),
    ("create", ["create", "j2", *K], ["vm", "path"]),
    ("jobs", ["jobs"], ["id", "vm", "kind", "state", "phase", "progress"]),
    ("counters", ["counters", "j"], []),
    ("start", ["start", "j3"], ["vm", "job", "result"]),
    ("shutdown", ["shutdown", "j", "--force", "--timeout=50ms"], ["vm", "job", "result"]),
    ("run", ["run", *K, "--cmdline", "test=hello out=e9"], ["vm", "state", "reason"]),
])
def test_json(t, words, keys):
    t.cleanup(bus.remove, "j2")
    with tiny.Machine("j") as vm, tiny.Machine("j3"):
        vm.start()
        if words[0] == "jobs":
            vm.must("Shutdown")
        status, out, err = bus.ctl("--json", *words)
        t.equal(status, 1 if "size=1M" in words else 0, err)
        # what takes longer than a second, on a busy host, says how far it is
        t.match(err, r"^(j: shutting down: \w+\n)*$")
        t.equal(out.count("\n"), 1, "lines")
        value = json.loads(out)
        if keys is None:
            t.equal(value, [])
            return
        for item in value if isinstance(value, list) else [value]:
            t.equal([k for k in keys if k not in item], [], f"missing in {out}")


@tap.test("--json: commands without a result print nothing, and errors stay one sentence")
def test_json_silent(t):
    with tiny.Machine("j") as vm:
        vm.start()
        for verb in ("pause", "resume", "reset", "terminate"):
            t.equal((verb, bus.ctl("--json", verb, "j")), (verb, (0, "", "")))
        t.equal(bus.ctl("--json", "pause", "j"),
                (1, "", "brumectl: cannot pause VM 'j': it is stopped\n"))
        t.equal(bus.ctl("--json", "delete", "j"), (0, "", ""))


# --- exit statuses ---------------------------------------------------------------

@tap.test("exit status", cases=[
    ("1: wrong state", ["pause", "e"], 1, r"cannot pause VM 'e': it is stopped\nhint: 'brumectl show e'"),
    ("1: the name is taken", ["create", "e", *K], 1, r"'e' exists already\nhint: 'brumectl set-config e'"),
    ("1: the console of a stopped machine", ["console", "e"], 1, r"cannot open a console of VM 'e': it is stopped"),
    ("1: a start that fails", ["start", "gone"], 1, r"/srv/gone\.img.*No such file"),
    ("2: usage", ["pause"], 2, r"usage: brumectl pause NAME"),
    ("3: no such machine", ["show", "nobody"], 3, r"no virtual machine 'nobody'\nhint: 'brumectl list'"),
    ("3: no such console", ["console", "r", "--console=teapot"], 3, r"'teapot'"),
    ("6: the guest does not react", ["shutdown", "r", "--timeout=200ms"], 6,
     r"did not react to the power button in time\nhint: 'brumectl terminate r'"),
    ("6: nor reboots", ["reboot", "r", "--timeout=200ms"], 6, r"did not react"),
])
def test_status(t, words, status, text):
    tiny.image("/srv/gone.img")
    with tiny.Machine("e"), tiny.Machine("r") as runs, \
            tiny.Machine("gone", tiny.config(disks=[{"path": "/srv/gone.img"}])):
        os.unlink("/srv/gone.img")
        if "r" in words:
            runs.start()
        refused(t, bus.ctl(QUIET, *words, timeout=30), status, text)


@tap.test("exit status 4: refused by polkit", cases=[
    ("nobody to ask", "", "interactive authentication required.*\nhint: there is nobody to ask for a password"),
    ("a rule says no", 'if (subject.user == "alice") return polkit.Result.NO;',
     "(?i)access denied|not allowed.*\nhint: polkit decides"),
])
def test_refused(t, rule, text):
    polkitrules.install(t, rule)
    with tiny.Machine("guarded") as vm:
        vm.start()
        before = bus.list_vms()
        for words in (["pause", "guarded"], ["console", "guarded"], ["config", "guarded"],
                      ["run", *K], ["shutdown", "guarded"], ["delete", "guarded"]):
            if words[0] != "delete":                # its state is looked at first
                refused(t, bus.ctl(QUIET, *words, user="alice"), 4, text)
        t.equal(bus.ctl("list", user="alice")[0], 0, "looking is free")
        t.equal(bus.list_vms(), before)


@tap.test("exit status 5: the service cannot be started", cases=[
    ("masked", ["mask", "--runtime"], ["unmask", "--runtime"]), ("not enabled", ["disable"], ["enable"]),
])
def test_not_there(t, off, on):
    def again():
        service.systemctl(*on, service.UNIT)
        service.systemctl("daemon-reload")
        service.systemctl("start", service.UNIT)
        service.wait_up()

    t.cleanup(again)
    service.systemctl("stop", service.UNIT)
    service.systemctl(*off, service.UNIT)
    for words in (["list"], ["start", "a"], ["run", *K], ["create", "a", *K]):
        status, out, err = bus.ctl(QUIET, *words)
        t.equal((words, status, out), (words, 5, ""), err)
        t.match(err, "brumectl: .*\nhint: .*brumed")


@tap.test("exit status 5: no bus", cases=[
    ("none", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "list", "to the system bus: No such file"),
    ("no session", "-u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS", "--user list",
     "cannot connect to the session bus: .*\nhint: --user needs a session"),
])
def test_no_bus(t, env, words, text):
    refused(t, shell(f"env {env} brumectl {words}"), 5, text)


@tap.test("a client that waits for a job does not mind a restart of the service")
def test_wait_over_restart(t):
    with tiny.Machine("patient") as vm:
        vm.start()
        child = spawn("shutdown", "patient", "--timeout=60")
        t.cleanup(child.kill)
        t.eventually(lambda: vm.state == "shutting-down", "it has begun")
        service.restart()
        time.sleep(0.3)
        t.equal(child.poll(), None, "it has ended")
        bus.must_ctl("cancel", str(job_row("patient")[0][0]))
        _, err = child.communicate(timeout=10)
        t.equal(child.returncode, 1)
        t.match(err, "(?i)cancel")


@tap.test("a wait that is interrupted leaves the job alone")
def test_wait_interrupted(t):
    with tiny.Machine("asked") as vm:
        vm.start()
        child = spawn("shutdown", "asked")
        t.eventually(lambda: vm.state == "shutting-down", "it has begun")
        t.equal(terminal.interrupt(child)[0], -signal.SIGINT)
        t.equal((vm.state, len(job_row("asked"))), ("shutting-down", 1))


# --- events ----------------------------------------------------------------------

def started_events(t, *args):
    child = spawn(*args)
    t.cleanup(child.kill)
    time.sleep(0.3)                     # when its match is in force is not to be seen from outside
    return child


@tap.test("events prints signals as they come, and ends by SIGINT like any program", cases=[
    ("text", []), ("JSON", ["--json"]),
])
def test_events(t, words):
    child = started_events(t, *words, "events")
    with tiny.Machine("seen") as vm:
        vm.start()
        vm.must("Terminate")
    time.sleep(0.2)
    status, out, err = terminal.interrupt(child)
    t.equal((status, err), (-signal.SIGINT, ""))
    if not words:
        t.match(out, r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d seen VMNew ")
        t.match(out, r"(?m) seen StateChanged stopped starting request$")
        t.match(out, r"(?m) seen StateChanged running stopped terminated$")
        t.match(out, r"(?m) seen PropertiesChanged .*MainPID=\d+")
        t.match(out, r"(?m) seen VMRemoved ")
        return
    rows = [json.loads(line) for line in out.splitlines()]
    for row in rows:
        t.equal([k for k in ("timestamp", "path", "interface", "signal", "arguments") if k not in row], [])
    t.equal([row["arguments"] for row in rows if row["signal"] == "StateChanged"],
            [["stopped", "starting", "request"], ["starting", "running", "started"],
             ["running", "stopped", "terminated"]])
    t.equal({row.get("vm") for row in rows} - {None}, {"seen"})


@tap.test("events of one machine, for a time; and until nobody reads them")
def test_events_ends(t):
    with tiny.Machine("one") as one, tiny.Machine("two") as two:
        child = started_events(t, "events", "one", "--timeout=1")
        one.start()
        two.start()
        out, err = child.communicate(timeout=10)
        t.equal((child.returncode, err), (0, ""))
        t.match(out, "one StateChanged")
        t.no_match(out, "two")
        child = subprocess.Popen(["bash", "-c", "brumectl events | head -1; echo ${PIPESTATUS[0]}"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        for verb in ("Pause", "Resume", "Pause"):
            one.must(verb)
            time.sleep(0.05)
        out, err = child.communicate(timeout=10)
        t.match(out, r"^\S+ \S+ one .*\n1\n$")
        t.match(err, "cannot write the output")


# --- consoles --------------------------------------------------------------------

def echo(name):
    """What is typed comes back, until 'q'."""
    return tiny.Machine(name, tiny.config(tiny.ECHO))


@tap.test("console on a terminal: raw while it lasts, all keys go to the guest, Ctrl-] leaves")
def test_console(t):
    with echo("con") as vm:
        vm.start()
        with terminal.Terminal("brumectl", "console", "con") as term:
            term.expect(r"Connected to the console of 'con'\. Press Ctrl-\] to leave\.")
            t.eventually(term.is_raw, "the terminal is raw")
            term.send("abc\x03\x04\x1a")        # Ctrl-C, Ctrl-D, Ctrl-Z are the guest's
            term.expect("abc\x03\x04\x1a")
            term.resize(50, 200)                # sends SIGWINCH
            term.signal(signal.SIGWINCH)
            term.send("def")
            term.expect("def")
            term.send("\x1d")
            t.equal(term.wait(), 0)
            t.match(term.seen, "Left the console of 'con'; the machine runs on")
            t.equal(term.settings(), term.before)
        t.equal(vm.state, "running")


@tap.test("console on a terminal ends", cases=[
    ("by SIGTERM", lambda term, vm: term.signal(signal.SIGTERM), 1, "running"),
    ("by SIGHUP", lambda term, vm: term.signal(signal.SIGHUP), 1, "running"),
    ("with the guest", lambda term, vm: term.send("q"), 0, "stopped"),
    ("with the worker", lambda term, vm: os.kill(vm.pid, signal.SIGKILL), 0, "crashed"),
    ("by Terminate", lambda term, vm: vm.must("Terminate"), 0, "stopped"),
])
def test_console_ends(t, how, status, state):
    with echo("con") as vm:
        vm.start()
        with terminal.Terminal("brumectl", "console", "con") as term:
            term.expect("Press Ctrl-]")
            t.eventually(term.is_raw, "the terminal is raw")
            how(term, vm)
            t.equal(term.wait(), status)
            t.equal(term.settings(), term.before)
        vm.wait_state(state)


@tap.test("console outlives a kill of the service")
def test_console_daemon(t):
    with echo("con") as vm:
        vm.start()
        with terminal.Terminal("brumectl", "console", "con") as term:
            term.expect("Press Ctrl-]")
            service.kill()
            t.eventually(term.is_raw, "the terminal is raw")
            term.send("still")
            term.expect("still")
            term.send("\x1d")
            t.equal(term.wait(), 0)


@tap.test("a console that another client has: refused, or taken with --force")
def test_console_taken(t):
    with echo("con") as vm:
        vm.start()
        with terminal.Terminal("brumectl", "console", "con") as first:
            first.expect("Press Ctrl-]")
            t.eventually(first.is_raw, "the terminal is raw")
            refused(t, bus.ctl("console", "con"), 1, r"in use.*\nhint: --force takes the console over")
            with terminal.Terminal("brumectl", "console", "con", "--force") as second:
                second.expect("Press Ctrl-]")
                t.equal(first.wait(), 0)
                t.match(first.seen, "The console of 'con' was closed")
                t.equal(first.settings(), first.before)
                t.eventually(second.is_raw, "the terminal is raw")
                second.send("mine")
                second.expect("mine")
                second.send("\x1d")
                t.equal(second.wait(), 0)


@tap.test("--read-only: keys go nowhere")
def test_console_read_only(t):
    with echo("con") as vm:
        vm.start()
        status, out, _ = shell("brumectl console con --read-only --timeout=0.3", "quiet")
        t.equal(status, 0)
        t.no_match(out, "quiet")


@tap.test("console without a terminal", cases=[
    ("input from a pipe", "printf abc | brumectl console con --timeout=0.3", 0, "abc"),
    ("input from a file", "brumectl console con --timeout=0.3 < /etc/hostname", 0, "brume"),
    ("no input", "brumectl console con --timeout=0.3 < /dev/null", 0, ""),
    ("closed input", "brumectl console con --timeout=0.3 <&-", 0, ""),
    ("until it is silent", "printf xyz | brumectl console con", 0, "xyz"),
    ("the guest ends", "printf q | brumectl console con --timeout=20", 0, ""),
    ("nobody reads", "printf abc | brumectl console con --timeout=0.5 >/dev/full", 1, ""),
    ("closed output", "printf abc | brumectl console con --timeout=0.5 >&-", 1, ""),
    ("the reader goes", "(printf 'a\\n'; sleep 0.3; printf bc) | brumectl console con --timeout=1 | head -1 ;"
     " exit ${PIPESTATUS[1]}", None, "a"),
])
def test_console_pipes(t, line, status, out):
    with echo("con") as vm:
        vm.start()
        got = shell(line)
        t.match(got[1], out)
        if status is not None:
            t.equal(got[0], status, got[2])


@tap.test("start --console shows the first line, and the end")
def test_start_console(t):
    with tiny.Machine("first", tiny.config(tiny.ENDS)) as vm:
        status, out, err = bus.ctl("start", "first", "--console")
        t.equal((status, err), (0, ""))
        t.match(out, r"^# command line: test=hello\r?\n(.*\n)*done \d+ 0\r?\n$")
        vm.wait_state("stopped")
        with terminal.Terminal("brumectl", "start", "first", "--console") as term:
            term.expect(r"(?s)# command line: test=hello.*done")
            t.equal(term.wait(), 0)
            t.equal(term.settings(), term.before)


@tap.test("start --console of a machine without one does not start it")
def test_start_no_console(t):
    with tiny.Machine("mute", tiny.config(serial={"mode": "Off"}, console={"mode": "Off"})) as vm:
        refused(t, bus.ctl("start", "mute", "--console"), 3, "'mute' has no console")
        t.equal(vm.state, "stopped")


# --- run -------------------------------------------------------------------------

@tap.test("run as Cloud Hypervisor's users type it: ends with the guest, leaves nothing")
def test_run(t):
    with tiny.Machine("warm") as vm:        # the first start makes things that stay
        vm.start()
    tiny.image("/srv/run.img")
    t.cleanup(os.unlink, "/srv/run.img")
    before = service.traces()
    line = (f"brumectl run --kernel {tiny.KERNEL} --cmdline test=pci-enum --disk path=/srv/run.img "
            "--cpus boot=4 --memory size=1024M --net tap=runtap0,ip=192.168.77.1,mask=255.255.255.0")
    status, out, err = bus.ctl(*shlex.split(line)[1:])
    t.equal((status, err), (0, ""))
    t.match(out, r"# device \S+ 1af4:1041")             # virtio-net
    t.match(out, r"# device \S+ 1af4:1042")             # virtio-blk
    t.match(out, r"(?m)^done \d+ 0\r?$")
    service.expect_traces(t, before)


@tap.test("run: exit status and words say how it ended", cases=[
    ("guest's triple fault", ["--cmdline", "test=triple-fault"], 1, r"^'run-[0-9a-f]{8}' has ended: crashed, triple-fault\n$"),
    ("no such kernel", ["--kernel", "/nowhere"], 1, r"/payload/kernel: cannot open '/nowhere': No such file"),
    ("no such disk", ["--disk", "path=/nowhere"], 1, r"/nowhere"),
    ("a tap that is somebody's", ["--net", "tap=lo"], 1, r"'lo'"),
    ("wrong option", ["--disk", "path=/x,redonly=on"], 2, r"disk: redonly: .*unknown.*\nhint: 'brumectl help disk'"),
])
def test_run_fails(t, words, status, text):
    before = service.traces()
    words = words if "--kernel" in words else [*K, *words]
    got = bus.ctl("run", "--memory", "size=32M", *words)
    t.equal(got[0], status, got[2])
    t.match(got[2], text)
    service.expect_traces(t, before)


@tap.test("run is ended from outside: the machine goes with it", cases=[
    ("SIGINT", signal.SIGINT, 0), ("SIGTERM", signal.SIGTERM, 0), ("SIGHUP", signal.SIGHUP, 0),
])
def test_run_signal(t, number, status):
    before = service.traces()
    child = spawn("run", "--name", "sig", "--memory", "size=32M", *K, "--cmdline", tiny.COUNT)
    t.cleanup(bus.remove, "sig")
    t.match(child.stdout.readline(), "tick")
    got = terminal.interrupt(child, number)
    t.equal(got[0], status, got[2])
    t.true(not bus.exists("sig"), "it is still there")
    service.expect_traces(t, before)


@tap.test("run on a terminal: Ctrl-] and a key", cases=[
    ("t terminates", "\x1dt", 0, "'keys' has ended: stopped, terminated", False),
    ("d detaches", "\x1dd", 0, "Detached; 'brumectl console keys' comes back", True),
    ("q of the guest ends it", "q", 0, "'keys' has ended: stopped, guest-shutdown", False),
    ("Ctrl-] sends itself, x explains", "\x1d\x1d\x1dx\x1dt", 0, r"(?s)Ctrl-\] d: detach.*has ended", False),
])
def test_run_keys(t, keys, status, text, stays):
    t.cleanup(bus.remove, "keys")
    with terminal.Terminal("brumectl", "run", "--name", "keys", "--memory", "size=32M", *K,
                           "--cmdline", tiny.ECHO) as term:
        term.expect(r"'keys' is running\. Ctrl-\] then d detaches")
        term.expect("# waiting")
        term.send(keys)
        t.equal(term.wait(), status)
        t.match(term.seen, text)
        t.equal(term.settings(), term.before)
    t.equal(bus.exists("keys"), stays)


@tap.test("run with input from a pipe, and with nobody reading")
def test_run_pipes(t):
    line = f"brumectl run --name piped --memory size=32M --kernel {tiny.KERNEL} --cmdline '{tiny.ECHO}'"
    status, out, _ = shell(f"(sleep 0.3; printf hey; sleep 0.3; printf q) | {line}")
    t.equal(status, 0)
    t.match(out, "(?s)# waiting.*hey")
    _, out, _ = shell(line.replace(tiny.ECHO, tiny.COUNT) + " | head -1; sleep 1")
    t.match(out, r"^# tick \d+\r?\n$")
    t.eventually(lambda: not bus.exists("piped"), "nobody listens: it is terminated", 5)


# --- more than one, and odd surroundings -----------------------------------------

@tap.test("two at once: one starts it, the other is told; both may wait for the end")
def test_two(t):
    with tiny.Machine("both") as vm:
        ends = [(c.communicate(timeout=20)[1], c.returncode) for c in [spawn("start", "both") for _ in range(2)]]
        t.equal(sorted(status for _, status in ends), [0, 1], ends)
        t.match("".join(err for err, _ in ends), "'both'.*(it is (starting|running)|job)")
        lists = [spawn("--json", "list") for _ in range(8)]
        t.equal({(c.communicate(timeout=20)[0] != "", c.returncode) for c in lists}, {(True, 0)})
        runs = [spawn("run", *K, "--memory", "size=32M", "--cmdline", tiny.ENDS) for _ in range(3)]
        t.equal([(c.communicate(timeout=20)[1], c.returncode) for c in runs], [("", 0)] * 3)
        t.equal(vm.state, "running")


@tap.test("output that nobody takes", cases=[
    ("list, closed", "brumectl list >&-", 1, "cannot write the output"),
    ("list, full", "brumectl list >/dev/full", 1, "cannot write the output"),
    ("show, full", "brumectl show out >/dev/full", 1, "cannot write the output"),
    ("--json list, full", "brumectl --json list >/dev/full", 1, "cannot write the output"),
    ("help, a reader that goes", "brumectl help | head -1", 0, "^$"),
    ("show, a reader that goes", "brumectl show out | head -1", 0, "^$"),
    ("standard error closed", "brumectl show nobody 2>&-", 3, "^$"),
    ("everything closed", "brumectl list <&- >&- 2>&-", 1, "^$"),
])
def test_output(t, line, status, text):
    with tiny.Machine("out"):
        got = shell(line)
        t.equal(got[0], status)
        t.match(got[2], text)


@tap.test("input that is no definition", cases=[
    ("closed", "brumectl create bad - <&-", 1, "cannot read '-'"),
    ("empty", "brumectl create bad - </dev/null", 1, "line 1, column 1: text ends here"),
    ("a directory", "brumectl create bad /srv", 1, "cannot read '/srv': Is a directory"),
    ("endless", "brumectl create bad - </dev/zero", 1, "no definition|UTF-8"),
])
def test_input(t, line, status, text):
    refused(t, shell(line), status, text)
    t.true(not bus.exists("bad"), "it was created")


LONG = "x" * 64


@tap.test("names: the longest works everywhere")
def test_long_name(t):
    t.cleanup(bus.remove, LONG)
    bus.must_ctl("create", LONG, *K, "--cmdline", tiny.DEAF, "--memory", "size=32M")
    bus.must_ctl("start", LONG)
    t.match(bus.must_ctl("list"), rf"{LONG} +running")
    t.match(bus.must_ctl("show", LONG), LONG)
    bus.must_ctl("terminate", LONG)
    bus.must_ctl("delete", LONG)


@tap.test("names that are refused", cases=[
    ("too long", LONG + "x", 1, r"VM name 'x+\.\.\.' has 65 bytes, at most 64 are allowed"),
    ("much too long", "x" * 100000, (1, 2), r"100000 bytes (is too long|, at most 64)|has 100000 bytes"),
    ("UTF-8", "größe", 1, r"VM name 'größe' is not a host name: letters, digits"),
    ("not UTF-8", b"gr\xf6\xdfe", 2, r"the name 'gr\ufffd\ufffde' is not text in UTF-8"),
    ("empty", "", 1, "the name of a VM is empty"),
    ("a path", "../etc", 1, "is not a host name"),
    ("a space", "a b", 1, "is not a host name"),
    ("an escape sequence", "\x1b[31m", 1, "is not a host name"),
])
def test_bad_name(t, name, status, text):
    for argv in (["create", name, *K], ["run", "--name", name, *K]):
        r = subprocess.run(["brumectl", *argv], stdin=subprocess.DEVNULL, capture_output=True,
                           env=dict(os.environ, LC_ALL="C.UTF-8"), check=False)
        err = r.stderr.decode(errors="replace")
        t.true(r.returncode in (status if isinstance(status, tuple) else (status,)), err)
        t.match(err, text)
        t.no_match(err, "\x1b")
    r = subprocess.run(["brumectl", "show", name], capture_output=True, check=False)
    t.equal(r.returncode, 2 if len(name) > 4096 else 3)
    t.no_match(r.stderr.decode(errors="replace"), "\x1b")


@tap.test("busctl looks into a worker without disturbing the service")
def test_look_into(t):
    with tiny.Machine("inside") as vm:
        vm.start()
        look = ["busctl", f"--address=unix:path=/run/brume/vm/inside/control", "--timeout=5"]
        there = ["org.brume.Worker1", "/org/brume/worker"]
        pid = vm.pid

        def see(*words):
            r = subprocess.run([*look, *words], capture_output=True, text=True, check=False)
            t.equal(r.returncode, 0, r.stderr)
            return r.stdout

        t.match(see("introspect", *there), r"(?m)^\.PowerButton +method")
        t.match(see("tree", there[0]), "/org/brume/worker")
        t.match(see("call", *there, there[0], "Query"), '"state" s "running"')
        with bus.Signals() as signals:
            see("call", *there, there[0], "Pause")
            signals.wait(lambda s: s.member == "StateChanged" and s.data[1] == "paused", 5)
        bus.must_ctl("resume", "inside")
        t.equal((vm.state, vm.pid), ("running", pid))
        log = subprocess.run(["journalctl", "--no-pager", "-o", "cat", f"_PID={pid}"],
                             capture_output=True, text=True, check=False).stdout
        t.no_match(log, "the daemon has gone")


tap.main()
