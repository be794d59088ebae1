# SPDX-License-Identifier: Apache-2.0
"""
Tests that speak TAP, for the system and linux rigs.

How to add a test: make tests/system/test-<topic>.py (the installed service, real polkit, no stock
guest) or tests/linux/test-<topic>.py (real guests), executable, like this:

    #!/usr/bin/python3
    # SPDX-License-Identifier: Apache-2.0
    \"\"\"What the file is about, in a sentence.\"\"\"
    import tap

    @tap.test("a stopped machine can be deleted")
    def test_delete(t):
        ...
        t.equal(bus.state("a"), "stopped")

    tap.main()

That is all: the rigs run every test-*.py of their folder as root inside the rig, with this folder
in PYTHONPATH. A test fails by an assertion or any exception, is skipped by tap.skip("reason"), and
undoes what it made with t.cleanup(function, arguments), which runs whatever happens. Several cases
of one test: @tap.test("name", cases=[("case name", arg, ...), ...]). A file may take 300 s, or what
a line "# timeout: <seconds>" in it says.

While writing one: tests/rig/system --shell (or tests/rig/linux --shell) and run the file under
/brume/tests by hand; tests/rig/system test-<topic>.py runs just that file. Arguments of a file
select tests by a part of their name.

Only the standard library is used, because the rigs' Debian roots have nothing else.
"""

import re
import sys
import time
import traceback

_tests = []


class Skip(Exception):
    """The test cannot run here; the text says what is missing."""


def skip(reason):
    raise Skip(reason)


def diag(text):
    """A diagnostic line: shown with the result of the test that is running."""
    for line in str(text).splitlines() or [""]:
        print(f"# {line}", flush=True)


class Test:
    """What a test function gets: comparisons with readable failures, and cleanups."""

    def __init__(self):
        self._cleanups = []

    def cleanup(self, function, *args, **kwargs):
        self._cleanups.append((function, args, kwargs))

    def true(self, condition, what):
        if not condition:
            raise AssertionError(what)

    def equal(self, got, expected, what=""):
        if got != expected:
            raise AssertionError(f"{what + ': ' if what else ''}got {got!r}, expected {expected!r}")

    def match(self, text, pattern, what=""):
        if not re.search(pattern, text):
            raise AssertionError(f"{what + ': ' if what else ''}/{pattern}/ does not match {text!r}")

    def no_match(self, text, pattern, what=""):
        m = re.search(pattern, text)
        if m:
            raise AssertionError(f"{what + ': ' if what else ''}/{pattern}/ matches {m.group(0)!r}")

    def eventually(self, probe, what, timeout=20.0):
        """Polls until probe() is true; returns its value. For states that no signal announces."""
        end = time.monotonic() + timeout
        while True:
            value = probe()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout:g} s: {what}")
            time.sleep(0.05)

    def finish(self):
        problems = []
        for function, args, kwargs in reversed(self._cleanups):
            try:
                function(*args, **kwargs)
            except Exception as e:                              # pylint: disable=broad-except
                problems.append(f"cleanup {function.__name__}: {e}")
        return problems


def test(name, cases=None):
    """Registers a test function, once for each case if there are cases."""
    def register(function):
        if cases is None:
            _tests.append((name, function, ()))
        for case in cases or ():
            _tests.append((f"{name}: {case[0]}", function, case[1:]))
        return function

    return register


def _run_one(function, args):
    """(passed, directive, diagnostics)"""
    t = Test()
    try:
        function(t, *args)
        result = (True, "", "")
    except Skip as e:
        result = (True, f" # SKIP {e}", "")
    except AssertionError as e:
        frame = traceback.extract_tb(e.__traceback__)
        mine = [f for f in frame if not f.filename.endswith("tap.py")][-1]
        result = (False, "", f"{mine.filename.rsplit('/', 1)[-1]}:{mine.lineno}: {e}")
    except Exception:                                           # pylint: disable=broad-except
        result = (False, "", traceback.format_exc())
    problems = t.finish()
    if problems and not result[1]:
        result = (False, "", "\n".join(filter(None, [result[2], *problems])))
    return result


def main():
    wanted = [t for t in _tests if len(sys.argv) < 2 or any(a in t[0] for a in sys.argv[1:])]
    print(f"1..{len(wanted)}", flush=True)
    failed = 0
    for number, (name, function, args) in enumerate(wanted, 1):
        start = time.monotonic()
        passed, directive, text = _run_one(function, args)
        name = name.replace("#", "\\#")
        print(f"{'ok' if passed else 'not ok'} {number} - {name}{directive}", flush=True)
        if text:
            diag(text)
        if not directive:
            diag(f"{time.monotonic() - start:.2f} s")
        failed += not passed
    sys.exit(1 if failed else 0)
