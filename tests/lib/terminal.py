# SPDX-License-Identifier: Apache-2.0
"""
A program on a pseudo terminal of its own, as a person would use it.

    with terminal.Terminal("brumectl", "console", "a") as term:
        term.expect("Press Ctrl-]")
        term.send("\\x1d")
        t.equal(term.wait(), 0)
"""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    def __init__(self, *argv, env=None):
        self._argv = argv
        self._env = env
        self.seen = ""

    def __enter__(self):
        self._master, self._slave = os.openpty()
        self.before = self.settings()
        self.resize(24, 80)
        self.child = subprocess.Popen(
            self._argv, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=self._env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self._master)
        os.close(self._slave)

    def settings(self):
        """What tcgetattr says; the slave stays open here, so it can be asked for afterwards, too."""
        return termios.tcgetattr(self._slave)

    def is_raw(self):
        return not self.settings()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def resize(self, rows, columns):
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        os.write(self._master, text.encode())

    def signal(self, number):
        self.child.send_signal(number)

    def _read(self, timeout):
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        self.seen += os.read(self._master, 4096).decode(errors="replace")
        return True

    def expect(self, pattern, timeout=10):
        """Until the pattern has been printed; what was printed up to its end is taken away."""
        end = time.monotonic() + timeout
        while not (m := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"not within {timeout:g} s: /{pattern}/; printed: {self.seen!r}")
        before, self.seen = self.seen[:m.end()], self.seen[m.end():]
        return before

    def wait(self, timeout=10):
        """The exit status, negative for a signal; everything printed is in `seen` then."""
        end = time.monotonic() + timeout
        while self.child.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"still runs after {timeout:g} s; printed: {self.seen!r}")
            self._read(0.02)        # or it may wait for us
        while self._read(0):
            pass
        return self.child.returncode


def interrupt(child, number=signal.SIGINT, timeout=10):
    """Sends a signal to a Popen and waits for its end; (exit status, stdout, stderr)."""
    child.send_signal(number)
    out, err = child.communicate(timeout=timeout)
    return child.returncode, out, err
