#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Consoles in mode Pty in the sandbox: whose the terminal is, what it says, how long it is there."""
import json
import os
import pwd
import select
import stat
import subprocess
import time

import bus
import polkitrules
import service
import tap
import tiny

PTY = {"mode": "Pty"}


class Terminal:
    def __init__(self, path):
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)

    def send(self, data):
        os.write(self._fd, data)

    def receive(self, wanted, seconds=20):
        got, end = b"", time.monotonic() + seconds
        while wanted not in got:
            if not select.select([self._fd], [], [], max(end - time.monotonic(), 0))[0]:
                raise AssertionError(f"no {wanted} in {got}")
            data = os.read(self._fd, 4096)
            if not data:
                raise AssertionError(f"the end after {got}")
            got += data
        return got


def mode_of(path):
    st = os.stat(path)
    return pwd.getpwuid(st.st_uid).pw_name, stat.filemode(st.st_mode)


@tap.test("early output, echo, who comes again; the terminal is the machine's while it runs")
def test_serial(t):
    with bus.Signals() as signals, tiny.Machine("pty", tiny.config(tiny.ECHO, serial=PTY)) as vm:
        t.equal(vm.get("ConsolePaths"), {})
        vm.start()
        path = vm.get("ConsolePaths")["serial"]
        t.match(path, r"^/dev/pts/\d+$")
        told = signals.wait(lambda s: s.member == "PropertiesChanged" and s.path == vm.path and
                            "ConsolePaths" in s.data[1], 5, "ConsolePaths to be told")
        t.equal(told.data[1]["ConsolePaths"]["data"], {"serial": path})
        t.equal(mode_of(path), ("root", "crw-------"))
        t.equal(json.loads(bus.busctl(vm.path, bus.VM, "Describe")[1][0])["console-paths"],
                {"serial": path})
        t.match(bus.must_ctl("show", "pty"), rf"ConsolePaths: .*{path}")
        with Terminal(path) as first:
            first.send(b"abc")
            first.receive(b"abc")
        time.sleep(0.5)                     # who opens it in the same moment is taken for the same
        with Terminal(path) as second:
            second.receive(b"abc")          # what was printed before it came
            second.send(b"def")
            second.receive(b"def")
            # a client of the bus beside it is told the same
            t.match(vm.must("OpenConsole", '"serial"', bus.options()).text, rf"'{path}'")
            vm.must("Pause")
            vm.must("Resume")
            vm.must("Reset")
            t.equal(vm.get("ConsolePaths"), {"serial": path}, "after a reset")
        vm.must("Terminate")
        t.equal(vm.get("ConsolePaths"), {})
        t.equal(os.path.exists(path), False, f"{path} is there")
        signals.wait(lambda s: s.member == "PropertiesChanged" and s.path == vm.path and
                     s.data[1].get("ConsolePaths", {}).get("data") == {}, 5, "their end to be told")


@tap.test("it belongs to the machine's owner, with each console that asks for one")
def test_owner(t):
    polkitrules.install(t, '''
        if (subject.user == "alice" && verb == "create") return polkit.Result.YES;''')
    config = tiny.config(tiny.ECHO, serial=PTY, console=PTY, debug_console=PTY)
    with tiny.Machine("hers", config, user="alice") as vm:
        bus.must(bus.vm("hers", "Start", bus.options(Wait=True), user="alice"))
        paths = vm.get("ConsolePaths")
        t.equal(sorted(paths), ["console", "debug", "serial"])
        t.equal(vm.get("Consoles"), ["serial", "console", "debug"])
        for path in paths.values():
            t.equal(mode_of(path), ("alice", "crw-------"), path)
        r = subprocess.run(["su", "-s", "/bin/sh", "alice", "-c", f"echo xyz > {paths['serial']}"],
                           capture_output=True, text=True, timeout=30, check=False)
        t.equal((r.returncode, r.stderr), (0, ""), "alice writes")
        with Terminal(paths["serial"]) as terminal:
            terminal.receive(b"xyz")
        r = subprocess.run(["su", "-s", "/bin/sh", "bob", "-c", f"cat {paths['serial']}"],
                           capture_output=True, text=True, timeout=30, check=False)
        t.match(r.stderr, "Permission denied")


@tap.test("the daemon restarts: the terminal stays what it is, and whoever has it open keeps it", cases=[
    ("killed", service.kill),
    ("restarted", service.restart),
])
def test_restart(t, way):
    with tiny.Machine("stays", tiny.config(tiny.ECHO, serial=PTY)) as vm:
        vm.start()
        paths = vm.get("ConsolePaths")
        with Terminal(paths["serial"]) as terminal:
            terminal.send(b"abc")
            terminal.receive(b"abc")
            way()
            t.equal(vm.get("ConsolePaths"), paths)
            terminal.send(b"def")
            terminal.receive(b"def")
            os.kill(vm.pid, 9)
            t.eventually(lambda: vm.state == "crashed", "the machine to have crashed", 10)
            t.equal(vm.get("ConsolePaths"), {})
            t.equal(os.path.exists(paths["serial"]), False, "it is there")
        t.equal(os.listdir("/run/brume/vm"), [], "what is kept")


@tap.test("a start that fails leaves none")
def test_failed(t):
    before = os.listdir("/dev/pts")
    config = tiny.config(tiny.ECHO, serial=PTY, disks=[{"path": "/nowhere/image"}])
    with tiny.Machine("fails", config) as vm:
        t.match(bus.vm("fails", "Start", bus.options(Wait=True)).text, "/nowhere/image")
        t.equal(vm.get("ConsolePaths"), {})
        t.equal(sorted(os.listdir("/dev/pts")), sorted(before))


tap.main()
