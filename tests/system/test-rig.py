#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rig itself: a test that fails here says that the other results mean nothing."""
import os
import stat
import subprocess

import tap


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@tap.test("PID 1 is systemd")
def test_pid1(t):
    with open("/proc/1/comm") as f:
        t.equal(f.read(), "systemd\n")


@tap.test("no unit failed")
def test_failed(t):
    t.equal(output("systemctl", "--failed", "--plain", "--no-legend"), "")


@tap.test("the bus answers and polkit activates")
def test_bus(t):
    t.match(output("busctl", "call", "org.freedesktop.PolicyKit1",
                   "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.DBus.Peer", "Ping") +
            output("busctl", "list", "--acquired"), "org.freedesktop.PolicyKit1")


@tap.test("/dev/kvm belongs to root:kvm")
def test_kvm(t):
    if not os.path.exists("/dev/kvm"):
        tap.skip("this machine has no /dev/kvm")
    st = os.stat("/dev/kvm")
    t.equal(oct(stat.S_IMODE(st.st_mode)), "0o660")
    t.equal(output("getent", "group", "kvm").split(":")[2], str(st.st_gid))


@tap.test("a transient service with a dynamic user runs")
def test_transient(t):
    t.match(output("systemd-run", "--quiet", "--wait", "--pipe", "-p", "DynamicUser=yes", "-p",
                   "PrivateUsers=yes", "id", "-u"), r"^6\d{4}$")


tap.main()
