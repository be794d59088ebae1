# SPDX-License-Identifier: Apache-2.0
"""
./quickstart: from a clone to a running Debian guest on the system bus.

    ./quickstart            builds, installs and starts the service, boots a guest made of Debian's
                            own packages, uses it, shuts it down by its power button
    ./quickstart --keep     leaves a running guest behind and says what to try
    ./quickstart --attach   the console of the appliance that --keep left (C-] leaves it)
    ./quickstart --stop     ends that appliance

Where PID 1 is systemd and the processor has svm or vmx all of it happens on this machine. Elsewhere
it happens in a Debian appliance that QEMU runs, and it says so. What is done there is the same
program: tests/rig/inside/quickstart-guest.
"""

import argparse
import contextlib
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty

import appliance
import build
import common
import guest_assets
import payload
from common import CACHE, HostDied, RigError, run, say, step

KEPT = CACHE / "quickstart"
INNER = "tests/rig/inside/quickstart-guest"


def on_this_machine():
    return (pathlib.Path("/proc/1/comm").read_text().strip() == "systemd"
            and pathlib.Path("/run/systemd/system").is_dir() and appliance.hardware())


def here(where, keep):
    """Installs on this machine and runs the guest here."""
    with step("installing the service on this machine"):
        run(["meson", "install", "-C", where, "--no-rebuild", "--quiet"])
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reload", "dbus.service"])
        run(["systemctl", "--quiet", "enable", "brumed.service"])
        run(["systemctl", "restart", "brumed.service"])         # an older build may be running
    assets = guest_assets.assets()
    argv = [common.TOP / INNER, "--assets", assets, "--scratch", "/var/lib/brume-quickstart"]
    env = dict(os.environ, PYTHONPATH=str(common.TOP / "tests/lib"))
    return subprocess.run([*argv, *(["--keep"] if keep else [])], env=env, check=False).returncode


def in_appliance(where, keep):
    """Boots the appliance with the build on board and runs the guest in it."""
    stop_kept()
    if keep:
        shutil.rmtree(KEPT, ignore_errors=True)
        KEPT.mkdir(parents=True)
        work = KEPT
        console = f"socket,id=console,path={work / 'console'},server=on,wait=off"
    else:
        work = pathlib.Path(tempfile.mkdtemp(prefix="brume-quickstart-", dir="/var/tmp"))
        console = f"file,id=console,path={work / 'console'}"
    child, leave = None, False
    try:
        with step("staging the service for the appliance"):
            job = {"output": "/dev/virtio-ports/results", "power_off": not keep,
                   "argv": ["/brume/rig/quickstart-guest", "--assets", "/srv/guest",
                            *(["--keep"] if keep else [])]}
            appliance.payload_disk(work, where, job)
        argv = appliance.command(work, console)
        (work / "log").touch()
        say("starting the appliance; its service, bus and guest are real, its processor is "
            + ("this one" if appliance.hardware() else "emulated"))
        # A kept appliance outlives us: holding our output open would make a pipe we are in wait for it.
        with open(work / "qemu.log", "wb") as output:
            child = subprocess.Popen(argv, env=dict(os.environ, TMPDIR=str(work)),
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                     preexec_fn=None if keep else common.die_with_parent,
                                     start_new_session=keep)
        if keep:
            (work / "pid").write_text(str(child.pid))
        try:
            status = common.follow(child, work / "log", 900, "the appliance", until_done=keep,
                                   hide="### ", heartbeat=work / "heartbeat")
        except HostDied as e:
            raise HostDied(f"{e}\n{(work / 'qemu.log').read_text(errors='replace')[-2000:]}"
                           f"{appliance.post_mortem(work)}") from e
        leave = keep and status == 0
        if leave:
            print(f"\nThe appliance (process {child.pid}) keeps running, and the guest in it.\n"
                  "    ./quickstart --attach    a root shell in it, for the lines above; C-] leaves\n"
                  "    ./quickstart --stop      ends it")
        return status
    finally:
        if not leave:
            if child is not None:
                common.stop(child)
            shutil.rmtree(work, ignore_errors=True)


def kept_pid():
    """The process of a kept appliance, if that is what still has this number."""
    try:
        pid = int((KEPT / "pid").read_text())
        cmdline = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ValueError):
        return None
    return pid if str(KEPT / "console").encode() in cmdline else None


def stop_kept():
    pid = kept_pid()
    if pid is not None:
        with step(f"ending the appliance of an earlier --keep (process {pid})"):
            pidfd = os.pidfd_open(pid)
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            select.select([pidfd], [], [], 20)
            os.close(pidfd)
    shutil.rmtree(KEPT, ignore_errors=True)
    return pid is not None


def attach():
    """Joins our terminal and the console of the kept appliance."""
    if kept_pid() is None:
        raise RigError("no appliance is running; './quickstart --keep' leaves one")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(KEPT / "console"))
        print("The appliance's console; C-] leaves it.", flush=True)
        saved = termios.tcgetattr(0) if os.isatty(0) else None
        try:
            if saved:
                tty.setraw(0)
            s.send(b"\n")
            while True:
                for fd in select.select([0, s], [], [])[0]:
                    data = s.recv(4096) if fd is s else os.read(0, 4096)
                    if not data or (fd == 0 and b"\x1d" in data):
                        return 0
                    if fd is s:
                        os.write(1, data)
                    else:
                        s.sendall(data)
        finally:
            if saved:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
                print()


def main():
    parser = argparse.ArgumentParser(prog="quickstart", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    for option, text in (("--keep", "leave the guest running"), ("--attach", "console of a kept appliance"),
                         ("--stop", "end a kept appliance")):
        group.add_argument(option, action="store_true", help=text)
    args = parser.parse_args()
    common.require_root()
    common.interruptible()
    if args.attach:
        return attach()
    if args.stop:
        if not stop_kept():
            print("no appliance was running")
        return 0
    start = time.monotonic()
    common.apt_install("build", "rig-host")
    where = build.build("quickstart")
    if on_this_machine():
        say("PID 1 is systemd and the processor has virtualisation: everything happens on this machine")
        status = here(where, args.keep)
    else:
        why = []
        if not appliance.hardware():
            why.append("the processor shows neither svm nor vmx")
        if pathlib.Path("/proc/1/comm").read_text().strip() != "systemd":
            why.append("PID 1 is not systemd")
        say(f"{' and '.join(why)}: everything happens in a Debian appliance run by QEMU")
        for left in reversed(range(appliance.attempts())):
            try:
                status = in_appliance(where, args.keep)
                break
            except HostDied as e:
                if not left:
                    raise
                say(f"{e}\nThat was the emulated machine, not what runs in it: once more.")
    with contextlib.suppress(BrokenPipeError):
        print(f"\nquickstart: {'everything worked' if status == 0 else 'FAILED'} "
              f"({time.monotonic() - start:.0f} s in all)", flush=True)
    return status


try:
    sys.exit(main())
except RigError as e:
    print(f"quickstart: {e}", file=sys.stderr)
    sys.exit(1)
except KeyboardInterrupt:
    print("quickstart: interrupted, cleaned up", file=sys.stderr)
    sys.exit(130)
