# SPDX-License-Identifier: Apache-2.0
"""
What every rig needs: where things are, progress lines, running programs, package lists, apt.

Everything here runs on the developer's machine as root. Nothing here names an archive: packages
come from the sources the machine's own apt is configured with.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = TOP / "tests" / "lib" / "packages"
CACHE = pathlib.Path(os.environ.get("BRUME_CACHE", "/var/cache/brume"))
BUILD = TOP / "build"

_T0 = time.monotonic()


class RigError(Exception):
    """A rig cannot go on; the text says which step and why."""


class HostDied(RigError):
    """The machine that the tests ran on panicked, froze or went away."""


def say(text):
    """One progress line on stderr: stdout belongs to results."""
    print(f"[{time.monotonic() - _T0:6.1f}] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text):
    """Announces a step and says how long it took."""
    say(f"{text} ...")
    start = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - start:.1f} s")


def run(argv, log=None, **kwargs):
    """
    Runs a program to its end. Its output goes to the file `log`, or is kept and shown only when
    the program fails: a rig that works should not bury its results.
    """
    argv = [str(a) for a in argv]
    try:
        if log is not None:
            with open(log, "ab") as out:
                r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **kwargs)
            output = None
        else:
            r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, **kwargs)
            output = r.stdout.decode(errors="replace")
    except FileNotFoundError as e:
        raise RigError(f"cannot run {argv[0]}: {e.strerror}") from e
    if r.returncode != 0:
        tail = output if output is not None else pathlib.Path(log).read_text(errors="replace")
        tail = "\n".join(tail.splitlines()[-60:])
        raise RigError(f"{shlex.join(argv)[:400]}: exit status {r.returncode}\n{tail}")
    return output


def capture(argv, **kwargs):
    """The standard output of a program that must succeed."""
    argv = [str(a) for a in argv]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kwargs)
    if r.returncode != 0:
        raise RigError(f"{shlex.join(argv)[:400]}: exit status {r.returncode}\n{r.stderr}")
    return r.stdout


def die_with_parent():
    """
    For preexec_fn: the child gets SIGTERM when we die, however we die. A rig killed by SIGKILL
    must not leave a container or an emulator behind.
    """
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def interruptible():
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that every `finally` runs."""
    def handler(signo, _frame):
        raise KeyboardInterrupt(f"signal {signo}")

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGHUP, handler)


def require_root():
    if os.geteuid() != 0:
        raise RigError("this must run as root: it installs packages, makes roots and starts containers")


def packages(*lists):
    """
    The packages named in tests/lib/packages/<list>, each once, in order. A line "@other" stands for
    the packages of that list.
    """
    names = []
    for name in lists:
        for line in (PACKAGES / name).read_text().splitlines():
            line = line.split("#", 1)[0].strip()
            for package in packages(line[1:]) if line.startswith("@") else [line]:
                if package and package not in names:
                    names.append(package)
    return names


def installed(name):
    r = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name],
                       capture_output=True, text=True)
    return r.returncode == 0 and r.stdout == "installed"


def debian_targets():
    """(URI, release) of every package index of Debian's own archive that apt knows here."""
    out = capture(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(RELEASE)",
                   "Created-By: Packages"])
    targets = set()
    for line in out.splitlines():
        origin, uri, release = line.split("|")
        if origin == "Debian":
            targets.add((uri.rstrip("/"), release))
    return targets


def apt_update():
    with step("apt-get update"):
        run(["apt-get", "-q", "update"])


def apt_install(*lists):
    """Installs what is missing from the lists; touches the network only if something is."""
    missing = [p for p in packages(*lists) if not installed(p)]
    if missing:
        apt_update()
        with step(f"apt-get install {' '.join(missing)}"):
            env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
            run(["apt-get", "-q", "-y", "-o", "Dpkg::Lock::Timeout=300", "install",
                 "--no-install-recommends", *missing], env=env)
    elif not debian_targets():
        apt_update()


def candidate(package):
    """The version apt would install now."""
    m = re.search(r"^  Candidate: (\S+)$", capture(["apt-cache", "policy", package]), re.M)
    if not m or m.group(1) == "(none)":
        raise RigError(f"apt knows no version of package '{package}': is a Debian source configured?")
    return m.group(1)


FROZEN_SECONDS = 120            # a heartbeat is due every second; start-up takes 15 to 40


def follow(child, log, timeout, what, until_done=False, hide=None, heartbeat=None):
    """
    Copies the results to stdout as they come until the child ends, or with until_done until they
    say so themselves; returns the exit status they end with. Lines that start with `hide` are for
    us only. HostDied if results do not end, or if the file `heartbeat` stops growing.
    """
    deadline = time.monotonic() + timeout
    text, status, partial = "", None, b""
    beats, last_beat = 0, time.monotonic()
    with open(log, "rb") as f:
        while True:
            ended = child.poll() is not None
            data = f.read()
            if data:
                *lines, partial = (partial + data).split(b"\n")
                for line in lines:
                    if hide is None or not line.startswith(hide.encode()):
                        sys.stdout.buffer.write(line + b"\n")
                sys.stdout.flush()
                text = (text + data.decode(errors="replace"))[-4096:]
            m = re.search(r"^### done (\d+)$", text, re.M)
            if m:
                status = int(m.group(1))
            if until_done and status is not None:
                return status
            if ended and not data:
                if status is None:
                    raise HostDied(f"{what} ended before what it had to do did")
                return status
            if heartbeat is not None and heartbeat.exists() and beats != heartbeat.stat().st_size:
                beats, last_beat = heartbeat.stat().st_size, time.monotonic()
            if heartbeat is not None and time.monotonic() - last_beat > FROZEN_SECONDS:
                raise HostDied(f"{what} froze: no sign of life for {FROZEN_SECONDS} s")
            if time.monotonic() > deadline:
                raise RigError(f"{what} was still busy after {timeout} s")
            time.sleep(0.05)


def stop(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def shares(seconds, n):
    """The tests in n lists that take about as long as each other; {name: seconds}."""
    lists = [[] for _ in range(n)]
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        min(lists, key=lambda names: sum(seconds[t] for t in names)).append(name)
    return [sorted(names) for names in lists if names]
