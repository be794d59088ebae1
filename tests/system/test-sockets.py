#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sockets of a machine in the sandbox: a console's clients come and go, and all is gone afterwards."""
import os
import pwd
import socket
import stat
import subprocess
import threading
import time

import bus
import tap
import tiny

CONSOLE = "/run/brume-test-console"
VSOCK = "/run/brume-test-vsock"
LOG = "/run/brume-test-vsock.log"


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    return s


def receive(s, wanted):
    got = b""
    while wanted not in got:
        data = s.recv(4096)
        if not data:
            raise AssertionError(f"the end after {got}")
        got += data
    return got


@tap.test("a serial console in mode Socket: early output, echo, one client after the other")
def test_console(t):
    config = tiny.config(tiny.ECHO, serial={"mode": "Socket", "socket": CONSOLE})
    with tiny.Machine("socket", config) as vm:
        vm.start()
        t.equal(oct(stat.S_IMODE(os.stat(CONSOLE).st_mode)), "0o600")
        with connect(CONSOLE) as first:
            first.sendall(b"abc")
            receive(first, b"abc")
            second = connect(CONSOLE)
        with second:
            receive(second, b"abc")         # what was printed before it came
            second.sendall(b"def")
            receive(second, b"def")
        bus.must(bus.vm("socket", "Terminate", bus.options()))
        t.eventually(lambda: not os.path.exists(CONSOLE), "the socket to be removed", 10)


def wait_output(path, text, seconds=30):
    end = time.monotonic() + seconds
    while True:
        with open(path, encoding="ascii", errors="replace") as f:
            got = f.read()
        if text in got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"no '{text}' in {got}")
        time.sleep(0.05)


def vsock_config(cmdline):
    return tiny.config(cmdline, vsock={"cid": 7, "socket": VSOCK},
                       serial={"mode": "File", "file": LOG})


def echo(listener):
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


@tap.test("the guest connects to a socket of the host, or is refused")
def test_from_guest(t):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(VSOCK + "_80")
        t.cleanup(os.unlink, VSOCK + "_80")
        listener.listen()
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        for arguments, checks in (("", 5), (" refused=1 port=81", 2)):
            t.cleanup(lambda: os.path.exists(LOG) and os.unlink(LOG))
            with tiny.Machine("from-guest", vsock_config("test=vsock" + arguments)) as vm:
                vm.start()
                t.match(wait_output(LOG, "\ndone "), f"\ndone {checks} 0")
            os.unlink(LOG)


@tap.test("the host connects to the guest, by the socket and by the bus")
def test_from_host(t):
    t.cleanup(lambda: os.path.exists(LOG) and os.unlink(LOG))
    with tiny.Machine("from-host", vsock_config("test=vsock-echo count=2")) as vm:
        vm.start()
        wait_output(LOG, "# listening")
        with connect(VSOCK) as s:
            s.sendall(b"CONNECT 1000\n")
            t.match(receive(s, b"\n").decode(), "^OK [0-9]+\n$")
            s.sendall(b"hello")
            t.equal(receive(s, b"hello"), b"hello")
        r = subprocess.run(["brumectl", "vsock", "from-host", "1000"], input=b"hello again",
                           capture_output=True, timeout=30, check=False)
        t.equal((r.stdout, r.stderr), (b"hello again", b""), "brumectl vsock")
        t.match(wait_output(LOG, "\ndone "), r"\ndone \d+ 0")


@tap.test("a vsock has two sockets, of the machine's own; a killed worker leaves none")
def test_vsock(t):
    config = tiny.config(tiny.DEAF, vsock={"cid": 7, "socket": VSOCK})
    with tiny.Machine("vsock", config) as vm:
        vm.start()
        for path in (VSOCK, VSOCK + "_seqpacket"):
            t.equal(oct(stat.S_IMODE(os.stat(path).st_mode)), "0o600", path)
            t.equal(pwd.getpwuid(os.stat(path).st_uid).pw_name, "root", path)
        # the guest has no driver: a client waits, and its end is the machine's
        with connect(VSOCK) as client:
            client.sendall(b"CONNECT 1\n")
            t.match(bus.vm("vsock", "ConnectVSock", "1", bus.options()).text, "no driver for it")
            with tiny.Machine("other", config) as other:
                t.match(bus.vm(other.name, "Start", bus.options(Wait=True)).text,
                        f"'{VSOCK}' is there already, and in use")
            os.kill(bus.vm_get("vsock", "MainPID"), 9)
            try:
                t.equal(client.recv(1), b"", "the end")
            except ConnectionResetError:
                pass  # there were bytes that nobody had read
        t.eventually(lambda: not os.path.exists(VSOCK), "the socket to be removed", 10)
        t.eventually(lambda: not os.path.exists(VSOCK + "_seqpacket"), "the other one", 10)


tap.main()
