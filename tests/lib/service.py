# SPDX-License-Identifier: Apache-2.0
"""
The running service seen from outside: its process, what it keeps on the host, what it left there.

A test that must leave nothing behind:

    before = service.traces()
    ...
    service.expect_traces(t, before)
"""

import glob
import os
import signal
import subprocess
import time

import bus

RUN = "/run/brume"
STATE = "/var/lib/brume"
UNIT = "brumed.service"


def systemctl(*args, check=True):
    r = subprocess.run(["systemctl", *args], capture_output=True, text=True, check=False)
    if check and r.returncode != 0:
        raise AssertionError(f"systemctl {' '.join(args)}: {r.stderr.strip() or r.stdout.strip()}")
    return r.stdout.strip()


def show(unit, *properties):
    """Properties of a unit as a dictionary of strings; also of one that is not loaded."""
    out = systemctl("show", unit, "--property=" + ",".join(properties))
    return dict(line.split("=", 1) for line in out.splitlines())


def pid():
    """Of the daemon, 0 when it does not run."""
    return int(show(UNIT, "MainPID")["MainPID"])


def wait_up(timeout=20):
    """Until the service answers on the bus, without activating it."""
    end = time.monotonic() + timeout
    while True:
        r = subprocess.run(["busctl", "--auto-start=no", "call", bus.NAME, bus.ROOT,
                            "org.freedesktop.DBus.Peer", "Ping"], capture_output=True, check=False)
        if r.returncode == 0:
            return
        if time.monotonic() > end:
            raise AssertionError(f"{UNIT} does not answer after {timeout} s: "
                                 f"{show(UNIT, 'ActiveState', 'SubState', 'Result')}")
        time.sleep(0.05)


def kill():
    """Kills the daemon like a bug would; returns when systemd has brought up the next."""
    old = pid()
    systemctl("reset-failed", UNIT)         # its count of restarts: five in ten seconds are too many
    os.kill(old, signal.SIGKILL)
    wait_next(old)


def wait_next(old):
    """Until systemd has brought up another daemon than the process old."""
    end = time.monotonic() + 20
    while pid() in (0, old):
        if time.monotonic() > end:
            raise AssertionError("systemd does not restart the killed daemon")
        time.sleep(0.02)
    wait_up()


def restart():
    systemctl("reset-failed", UNIT)
    systemctl("restart", UNIT)
    wait_up()


def fds(process=None):
    """What the descriptors of a process (the daemon) are, sorted."""
    process = process or pid()
    found = []
    for fd in os.listdir(f"/proc/{process}/fd"):
        try:
            target = os.readlink(f"/proc/{process}/fd/{fd}")
        except FileNotFoundError:
            continue
        # sockets and pipes have numbers of their own
        found.append(target.split(":", 1)[0] if ":[" in target else target)
    return sorted(found)


def units(pattern="brume-vm-*"):
    """Names of loaded units of workers, whatever state they are in."""
    out = systemctl("list-units", "--all", "--plain", "--no-legend", pattern)
    return sorted(line.split()[0] for line in out.splitlines() if line.strip())


def workers():
    """Processes of workers."""
    found = []
    for path in glob.glob("/proc/[0-9]*/exe"):
        try:
            if os.path.basename(os.readlink(path)).startswith("brume-vmm"):
                found.append(int(path.split("/")[2]))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            pass
    return sorted(found)


def tree(top):
    found = []
    for folder, folders, files in os.walk(top):
        found += [os.path.relpath(os.path.join(folder, f), top) for f in folders + files]
    return sorted(found)


def interfaces():
    return sorted(os.listdir("/sys/class/net"))


def traces():
    """Everything a VM leaves on the host while it exists."""
    return {
        "VMs": sorted(row[0] for row in bus.list_vms()),
        f"{RUN}/vm": tree(f"{RUN}/vm"),         # root beside it gets mount points from systemd
        STATE: tree(STATE),
        "units": units(),
        "workers": workers(),
        "interfaces": interfaces(),
        "transient unit files": sorted(glob.glob("/run/systemd/transient/brume-vm-*")),
        "descriptors of the daemon": fds(),
    }


def expect_traces(t, before, timeout=5):
    """Waits for the traces to be as before: kernels and buses take their time for some."""
    end = time.monotonic() + timeout
    while (now := traces()) != before and time.monotonic() < end:
        time.sleep(0.1)
    for what, expected in before.items():
        t.equal(now[what], expected, f"left behind: {what}")
