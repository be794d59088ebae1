#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rig itself: a test that fails here says that the other results mean nothing."""
import os
import subprocess

import tap


def output(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@tap.test("the processor can run guests")
def test_processor(t):
    with open("/proc/cpuinfo") as f:
        t.match(f.read(), r"(?m)^flags.*\b(svm|vmx)\b")
    st = os.stat("/dev/kvm")
    t.equal(oct(st.st_mode & 0o777), "0o660")


@tap.test("no unit failed")
def test_failed(t):
    t.equal(output("systemctl", "--failed", "--plain", "--no-legend"), "")


@tap.test("the guests' files are here")
def test_assets(t):
    for name in ("vmlinuz", "guest-initramfs", "guest-root.img", "guest-root.initrd"):
        t.true(os.path.getsize(f"/srv/guest/{name}") > 0, f"/srv/guest/{name} is empty")


@tap.test("cgroup v2 with memory, cpu, io and cpuset")
def test_cgroup(t):
    with open("/sys/fs/cgroup/cgroup.controllers") as f:
        controllers = f.read().split()
    for name in ("memory", "cpu", "io", "cpuset", "pids"):
        t.true(name in controllers, f"no controller {name} in {controllers}")


tap.diag(output("systemd-analyze", "time"))
tap.main()
