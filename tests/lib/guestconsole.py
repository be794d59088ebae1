# SPDX-License-Identifier: Apache-2.0
"""
Talks to the shell on a guest's console, as a person would through `brumectl console`.

    with guestconsole.open_vm("web1") as console:
        console.wait_ready(60)
        output, status = console.run("uname -r")

Two kinds of guest answer: our initramfs (tests/rig/inside/init-guest), which prints
BRUME-GUEST-READY and obeys lines, and a Debian root disk whose console has root logged in, which is
turned into the same thing by a few lines typed at its prompt. Each command's end is marked with a
number of its own, so late output of one can not be taken for the next one's.
"""

import os
import pty
import re
import select
import signal
import subprocess
import time

READY = "BRUME-GUEST-READY"
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[=>()][0-9A-B]?|\r")
_PROMPT = re.compile(r"(?:^|\n)[^\n]*root@[\w-]+:[^\n]*# ?$")


class ConsoleError(Exception):
    """The guest did not say what was expected; the text ends with what it said last."""


class GuestConsole:
    def __init__(self, argv, env=None, show=None):
        """
        Runs argv on a terminal of its own; that program connects us with the guest. show(line) is
        called for every line the guest prints, as it comes.
        """
        self.transcript = ""
        self._show = show
        self._shown = 0
        self._seen = 0                  # how far the transcript was consumed
        self._command = 0
        self._raw = b""
        pid, self._fd = pty.fork()
        if pid == 0:
            try:
                os.execvpe(argv[0], argv, dict(os.environ if env is None else env, TERM="dumb"))
            except OSError as e:
                os.write(2, f"cannot run {argv[0]}: {e.strerror}\n".encode())
            os._exit(127)
        self._pid = pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        """Of the program that connects us."""
        return self._pid

    def close(self):
        """Ends the program that connects us; the guest goes on."""
        if self._pid is None:
            return
        os.close(self._fd)              # the terminal hangs up
        for _ in range(50):
            pid, _status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.05)
        else:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = None

    def _read(self, timeout):
        """Takes in what has arrived; False at the end of the connection."""
        readable, _, _ = select.select([self._fd], [], [], max(timeout, 0))
        if not readable:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:                 # EIO: the program has gone
            return False
        if not data:
            return False
        self._raw += data
        # an escape sequence or a character may be cut in two: decode all of it again, it is small
        self.transcript = _ANSI.sub("", self._raw.decode(errors="replace"))
        if self._show is not None:
            *lines, _ = self.transcript[self._shown:].split("\n")
            for line in lines:
                self._shown += len(line) + 1
                self._show(line)
        return True

    def wait(self, pattern, timeout, what=None):
        """Waits until the text not yet consumed matches; returns the match and consumes up to it."""
        regex = re.compile(pattern) if isinstance(pattern, str) else pattern
        end = time.monotonic() + timeout
        open_ = True
        while True:
            m = regex.search(self.transcript, self._seen)
            if m:
                self._seen = m.end()
                return m
            left = end - time.monotonic()
            if not open_ or left <= 0:
                why = f"nothing within {timeout:g} s" if open_ else "the connection ended"
                raise ConsoleError(f"waiting for {what or regex.pattern!r} on the console: {why}; "
                                   f"last lines:\n{self.tail()}")
            open_ = self._read(min(left, 1.0))

    def mute(self):
        """No more show(): what follows are our own commands and their marks."""
        self._show = None

    def tail(self, lines=25):
        return "\n".join(self.transcript.splitlines()[-lines:])

    def send(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data[:256]):]        # a UART's worth at a time

    def wait_ready(self, timeout=120):
        """Until the guest takes commands. Works on a console that was in use before, too."""
        end = time.monotonic() + timeout
        both = re.compile(rf"{READY}\s|{_PROMPT.pattern}")
        try:
            m = self.wait(both, min(timeout, 5))
        except ConsoleError:
            if time.monotonic() >= end:
                raise
            # It may have said so before we listened; an empty line brings the prompt or nothing.
            self.send("\n")
            m = self.wait(rf"{both.pattern}|BRUME-RC \d+", end - time.monotonic(), "the guest's shell")
        if "root@" in m.group(0):
            self.send("stty -echo; exec sh\n")
            time.sleep(0.2)
            self.send("PS1=''; PS2=''; printf '\\n%s-%s-%s\\n' BRUME GUEST READY\n")
            self.wait(rf"\n{READY}\s", max(end - time.monotonic(), 10), "the quiet shell")

    def run(self, command, timeout=60):
        """
        Runs one line of shell; (output, exit status). The output is what came between the
        command's own marks, without the newline at its end.
        """
        self._command += 1
        n = self._command
        self.send(f"printf '\\n%s-%d\\n' BRUME-BEGIN {n}; ( {command} ) 2>&1 </dev/null; "
                  f"printf '\\n%s-%d %d\\n' BRUME-END {n} $?\n")
        self.wait(rf"\nBRUME-BEGIN-{n}\n", timeout, f"the start of '{command}'")
        start = self._seen
        m = self.wait(rf"\nBRUME-END-{n} (\d+)\n", timeout, f"the end of '{command}'")
        return self.transcript[start:m.start()].strip("\n"), int(m.group(1))

    def check(self, command, timeout=60):
        """Runs one line of shell that must succeed; its output."""
        output, status = self.run(command, timeout)
        if status != 0:
            raise ConsoleError(f"'{command}' in the guest: exit status {status}:\n{output}")
        return output


def open_vm(name, console=None, show=None):
    """A console ("serial", "console") of a virtual machine, through brumectl."""
    which = [] if console is None else [f"--console={console}"]
    return GuestConsole(["brumectl", "console", *which, name], show=show)
