# SPDX-License-Identifier: Apache-2.0
"""
The system bus for tests: calls whose error names can be asserted, properties, signals.

Values travel through gdbus, because it alone of the two command-line tools prints the name of an
error (busctl prints the text only); arguments are given in GVariant's text form. Properties are read
with busctl's JSON. Tests of busctl's own command lines call it directly.
"""

import dataclasses
import json
import re
import shlex
import subprocess
import threading
import time

NAME = "org.brume.vm1"
ROOT = "/org/brume/vm1"
MANAGER = f"{NAME}.Manager"
VM = f"{NAME}.VirtualMachine"
JOB = f"{NAME}.Job"
ERRORS = "org.freedesktop.DBus.Error"


def encode(label):
    """A name as the last part of an object path (sd_bus_path_encode)."""
    if not label:
        return "_"
    out = []
    for i, byte in enumerate(label.encode()):
        c = chr(byte)
        keep = byte < 128 and c.isalnum() and not (i == 0 and c.isdigit())
        out.append(c if keep else f"_{byte:02x}")
    return "".join(out)


def vm_path(name):
    return f"{ROOT}/vm/{encode(name)}"


def text(value):
    """A Python value in GVariant's text form: str, bool, int, list of str."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(v) for v in value) + "]"
    raise TypeError(f"no GVariant text for {value!r}")


def options(**kwargs):
    """a{sv} of strings, booleans and (as uint64) integers; a (type, value) pair gives the type."""
    parts = []
    for key, value in kwargs.items():
        if isinstance(value, tuple):
            value = f"{value[0]} {text(value[1])}"
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"uint64 {value}"
        else:
            value = text(value)
        parts.append(f"{text(key)}: <{value}>")
    return "@a{sv} {" + ", ".join(parts) + "}"


@dataclasses.dataclass
class Reply:
    ok: bool
    error: str          # D-Bus error name, "" when ok
    text: str           # error message, or the value as gdbus prints it

    def paths(self):
        return re.findall(r"objectpath '([^']*)'", self.text)

    def strings(self):
        return re.findall(r"'((?:[^'\\]|\\.)*)'", self.text)


def call(path, method, *args, user=None, timeout=40, interactive=False, dest=NAME):
    """
    Calls interface.method with arguments in GVariant text form, as root or as `user`. A call that
    cannot be made at all (no service, bad arguments for gdbus itself) is a reply with that error.
    """
    argv = ["gdbus", "call", "--system", f"--timeout={timeout}", f"--dest={dest}",
            f"--object-path={path}", f"--method={method}"]
    if interactive:
        argv.append("--interactive")
    argv += ["--", *map(str, args)] if args else []
    if user is not None:
        argv = ["runuser", "-u", user, "--", *argv]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=timeout + 30, check=False)
    if r.returncode == 0:
        return Reply(True, "", r.stdout.strip())
    message = r.stderr.strip()
    m = re.search(r"GDBus\.Error:([\w.]+): ?(.*)", message, re.S)
    if m:
        # what gdbus adds to every InvalidArgs is not the service's
        said = re.sub(r"\n\(According to introspection data, .*\)\s*$", "", m.group(2), flags=re.S)
        return Reply(False, m.group(1), said.strip())
    return Reply(False, "local", message)


def busctl(path, interface, method, signature="", *args, user=None, options=(), timeout=60):
    """
    Calls a method the way an administrator's script does; (exit status, the values of the reply as
    a list, error text). Arguments are busctl's words.
    """
    argv = ["busctl", "--json=short", f"--timeout={timeout}", *options, "call", NAME, path, interface,
            method, *([signature] if signature else []), *map(str, args)]
    if user is not None:
        argv = ["runuser", "-u", user, "--", *argv]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=timeout + 30, check=False)
    values = []
    if r.returncode == 0 and r.stdout.strip():
        values = json.loads(r.stdout)["data"]
    return r.returncode, values, r.stderr.strip()


def manager(method, *args, **kwargs):
    return call(ROOT, f"{MANAGER}.{method}", *args, **kwargs)


def vm(name, method, *args, **kwargs):
    return call(vm_path(name), f"{VM}.{method}", *args, **kwargs)


def must(reply):
    """The reply of a call that has to succeed."""
    if not reply.ok:
        raise AssertionError(f"{reply.error}: {reply.text}")
    return reply


def create(name, config, fds="@a{sh} {}", user=None, **opts):
    """CreateVM from a Python dictionary (or a string that is handed over as it is)."""
    document = config if isinstance(config, str) else json.dumps(config)
    return manager("CreateVM", text(name), text(document), fds, options(**opts), user=user)


def get(path, interface, name, dest=NAME):
    """A property as a Python value."""
    r = subprocess.run(["busctl", "--json=short", "get-property", dest, path, interface, name],
                       capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise AssertionError(f"property {interface}.{name} of {path}: {r.stderr.strip()}")
    return json.loads(r.stdout)["data"]


def vm_get(name, prop):
    return get(vm_path(name), VM, prop)


def exists(name):
    return any(row[0] == name for row in list_vms())


def list_vms():
    """Rows of ListVMs: name, uuid, state, owner, path."""
    r = subprocess.run(["busctl", "--json=short", "call", NAME, ROOT, MANAGER, "ListVMs"],
                       capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise AssertionError(f"ListVMs: {r.stderr.strip()}")
    return json.loads(r.stdout)["data"][0]


def remove(name):
    """Whatever state the machine is in, afterwards it is gone. For cleanups."""
    if not exists(name):
        return
    if vm_get(name, "State") not in ("stopped", "crashed", "failed"):
        vm(name, "Terminate", options())
        end = time.monotonic() + 20
        while exists(name) and vm_get(name, "State") not in ("stopped", "crashed", "failed"):
            if time.monotonic() > end:
                raise AssertionError(f"'{name}' does not end: state {vm_get(name, 'State')}")
            time.sleep(0.05)
    if exists(name):
        must(vm(name, "Delete", options()))


class Signals:
    """
    Collects the signals of the service while a `with` block runs.

        with bus.Signals() as signals:
            ...
            signals.wait(lambda s: s.member == "StateChanged" and s.data[1] == "running", 60)
    """

    @dataclasses.dataclass
    class Signal:
        path: str
        interface: str
        member: str
        data: list
        at: float               # time.monotonic()

    def __init__(self, match=None):
        self._match = match or f"type='signal',path_namespace='{ROOT}'"
        self.seen = []
        self._change = threading.Condition()

    def __enter__(self):
        self._child = subprocess.Popen(["busctl", "--json=short", f"--match={self._match}", "monitor"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
        # busctl says "Monitoring bus message stream." once the match is in place
        self._child.stderr.readline()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._child.terminate()
        self._child.wait()
        self._thread.join()
        self._child.stdout.close()
        self._child.stderr.close()

    def _collect(self):
        for line in self._child.stdout:
            try:
                m = json.loads(line)
            except ValueError:
                continue
            if m.get("type") != "signal":
                continue
            signal = self.Signal(m.get("path", ""), m.get("interface", ""), m.get("member", ""),
                                 m.get("payload", {}).get("data", []), time.monotonic())
            with self._change:
                self.seen.append(signal)
                self._change.notify_all()

    def wait(self, predicate, timeout, what="a signal"):
        """The first signal, seen already or within the timeout, that the predicate likes."""
        end = time.monotonic() + timeout
        with self._change:
            while True:
                for signal in self.seen:
                    if predicate(signal):
                        return signal
                left = end - time.monotonic()
                if left <= 0:
                    seen = ", ".join(f"{s.member}{s.data}" for s in self.seen) or "none"
                    raise AssertionError(f"not within {timeout:g} s: {what}; seen: {seen}"[:2000])
                self._change.wait(left)

    def states(self, path=None):
        """The StateChanged edges in order, as (old, new, reason)."""
        with self._change:
            return [tuple(s.data) for s in self.seen
                    if s.member == "StateChanged" and path in (None, s.path)]


def ctl(*args, timeout=120, user=None):
    """Runs brumectl; (exit status, stdout, stderr)."""
    argv = ["brumectl", *args]
    if user is not None:
        argv = ["runuser", "-u", user, "--", *argv]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=timeout, check=False)
    return r.returncode, r.stdout, r.stderr


def must_ctl(*args, timeout=120):
    """Runs a brumectl command that has to succeed; its standard output."""
    status, out, err = ctl(*args, timeout=timeout)
    if status != 0:
        raise AssertionError(f"brumectl {shlex.join(args)}: exit status {status}: {err.strip() or out}")
    return out
