# SPDX-License-Identifier: Apache-2.0
"""
./run-tests: builds, runs the four rigs, counts.

    ./run-tests [unit] [kvm] [system] [linux]      all four if none is named

Installs missing packages, so it wants root. Failures are shown with their output, skips with their
reason, and the last line is "N passed, N failed, N skipped". Status 1 if anything failed or nothing
ran. Complete outputs are kept in build/logs.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time

import appliance
import build
import common
import tapstream
from common import BUILD, TOP, RigError, say
from tapstream import Result

RIGS = ("unit", "kvm", "system", "linux")
# Sanitizers run the same tests again: a report of theirs is a failure.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
              "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


class Run:
    def __init__(self):
        self.results = []
        self.timings = []

    def add(self, rig, results, seconds):
        self.results += results
        count = {o: sum(r.outcome == o for r in results) for o in ("passed", "failed", "skipped")}
        self.timings.append((rig, seconds, count))
        for r in results:
            if r.outcome in ("failed", "note"):
                print(f"\n{r.outcome.upper()} {r.name}")
                print("".join(f"    {line}\n" for line in r.text.splitlines()), end="", flush=True)
        print(f"{rig}: {count['passed']} passed, {count['failed']} failed, "
              f"{count['skipped']} skipped in {seconds:.1f} s", flush=True)

    def finish(self):
        skipped = [r for r in self.results if r.outcome == "skipped"]
        failed = [r for r in self.results if r.outcome == "failed"]
        passed = sum(r.outcome == "passed" for r in self.results)
        if skipped:
            print("\nSkipped:")
            for r in skipped:
                print(f"    {r.name}: {r.text}")
        if failed:
            print("\nFailed:")
            for r in failed:
                print(f"    {r.name}")
        print("\nTime:")
        for rig, seconds, count in self.timings:
            print(f"    {rig:<22} {seconds:7.1f} s  {sum(count.values())} results")
        ran = passed + len(failed)
        if not ran:
            print("\nNothing ran.")
        print(f"\n{passed} passed, {len(failed)} failed, {len(skipped)} skipped", flush=True)
        return 1 if failed or not ran else 0


def meson_suite(where, suite, label, env_more):
    """The results of one meson suite in one build directory."""
    tests = json.loads(common.capture(["/usr/bin/meson", "introspect", "--tests", where]))
    mine = [t for t in tests if any(s.split(":")[-1] == suite for s in t["suite"])]
    if not mine:
        return []
    protocol = {t["name"]: t["protocol"] for t in mine}
    logs = where / "meson-logs"
    log = logs / f"{suite}.json"
    log.unlink(missing_ok=True)
    r = subprocess.run(["/usr/bin/meson", "test", "-C", where, "--no-rebuild", "--suite", suite,
                        "--logbase", suite, "--num-processes", "2"],
                       env=dict(os.environ, **env_more), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if not log.exists():
        return [Result(f"{label}: meson test", "failed", r.stdout)]
    results, seen = [], set()
    for line in log.read_text(errors="replace").splitlines():
        t = json.loads(line)
        name = t["name"].split(" / ")[-1]
        seen.add(name)
        text = (t.get("stdout") or "") + "\n" + (t.get("stderr") or "")
        status = t.get("returncode", 0)
        if t["result"] == "TIMEOUT":
            results.append(Result(f"{label}/{name}: took longer than its timeout", "failed", text[-6000:]))
        elif protocol.get(name) == "tap":
            results += _tap(f"{label}/{name}", t.get("stdout") or "", t.get("stderr") or "", status)
        elif t["result"] == "SKIP":
            results.append(Result(f"{label}/{name}", "skipped", text.strip() or "no reason given"))
        else:
            ok = t["result"] in ("OK", "EXPECTEDFAIL")
            results.append(Result(f"{label}/{name}", "passed" if ok else "failed",
                                  "" if ok else text[-6000:]))
    for name in protocol.keys() - seen:
        results.append(Result(f"{label}/{name}: did not run", "failed", r.stdout[-3000:]))
    return results


def _tap(name, stdout, stderr, status):
    results = tapstream.parse(name, stdout, status)
    for r in results:
        if r.outcome == "failed" and stderr:
            r.text += stderr[-6000:]
    return results


def own_tests():
    """The rigs' own code tests itself: a rig that cannot count would hide everything else."""
    r = subprocess.run([sys.executable, TOP / "tests/rig/test-rigs.py"], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, check=False)
    return _tap("rig", r.stdout, r.stderr, r.returncode)


def rig(name, tests=(), part=""):
    """The results of the system or linux rig, or of a part of its tests."""
    logs = BUILD / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}{part}.log"
    with open(log, "w", buffering=1) as out:
        child = subprocess.Popen([sys.executable, TOP / "tests/rig" / name, *tests], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, text=True, errors="replace")
        try:
            for line in child.stdout:
                out.write(line)
                if line.startswith(("ok ", "not ok ", "### begin ")):
                    say(line.rstrip())
            child.wait()
        finally:
            common.stop(child)
    results = tapstream.parse_stream(name, log.read_text())
    if child.returncode not in (0, 1):
        results.append(Result(f"{name} rig: exit status {child.returncode}", "failed", "see above"))
    return results


def limit(path):
    """How long a test may take, as it says itself."""
    m = re.search(r"^# timeout: (\d+)$", path.read_text(), re.M)
    return int(m.group(1)) if m else 300


def linux_rigs():
    """
    The linux rig. An emulated host uses one processor: where there are two, and the memory, two of
    them share the tests.
    """
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(line.split()[1]) >> 10 for line in f if line.startswith("MemAvailable"))
    if os.cpu_count() < 2 or free < 3 * appliance.MEMORY_MIB:
        return rig("linux")
    # what both need is made once
    subprocess.run([sys.executable, TOP / "tests/rig/linux", "--prepare"], stdin=subprocess.DEVNULL, check=False)
    seconds = {path.name: limit(path) for path in sorted((TOP / "tests/linux").glob("test-*.py"))}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = [pool.submit(rig, "linux", tests, f"-{i}") for i, tests in enumerate(common.shares(seconds, 2), 1)]
        return [result for part in parts for result in part.result()]


def timed(run, label, function, *args):
    start = time.monotonic()
    try:
        results = function(*args)
    except RigError as e:
        results = [Result(label, "failed", str(e))]
    run.add(label, results, time.monotonic() - start)
    return all(r.outcome != "failed" for r in results)


def built(kind, what):
    build.build(kind)
    return [Result(f"build: {what}", "passed")]


def main():
    parser = argparse.ArgumentParser(prog="run-tests", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rigs", nargs="*", metavar="RIG", help=f"of {', '.join(RIGS)}")
    args = parser.parse_args()
    unknown = [r for r in args.rigs if r not in RIGS]
    if unknown:
        parser.error(f"unknown rig '{unknown[0]}'; there are {', '.join(RIGS)}")
    wanted = [r for r in RIGS if not args.rigs or r in args.rigs]
    common.require_root()
    common.interruptible()
    lists = ["build"] + [l for l in ("unit", "kvm") if l in wanted]
    if "system" in wanted or "linux" in wanted:
        lists.append("rig-host")
    common.apt_install(*lists)

    run = Run()
    own = [r for r in ("unit", "kvm") if r in wanted]
    if timed(run, "build gcc", built, "gcc", "gcc"):
        asan = bool(own) and timed(run, "build asan", built, "asan", "gcc with ASan and UBSan")
        if "unit" in wanted:
            timed(run, "build clang", built, "clang", "clang with -Werror")
        if "unit" in wanted:
            timed(run, "rigs' own", own_tests)
        for suite in own:
            timed(run, suite, meson_suite, BUILD / "gcc", suite, suite, {})
        for suite in own if asan else ():
            timed(run, f"{suite} asan", meson_suite, BUILD / "asan", suite, f"{suite} asan", SANITIZERS)
        for name in wanted:
            if name == "system":
                timed(run, name, rig, name)
            elif name == "linux":
                timed(run, name, linux_rigs)
    return run.finish()


try:
    sys.exit(main())
except RigError as error:
    print(f"run-tests: {error}\n\n0 passed, 1 failed, 0 skipped", flush=True)
    sys.exit(1)
except KeyboardInterrupt:
    print("run-tests: interrupted", file=sys.stderr)
    sys.exit(130)
