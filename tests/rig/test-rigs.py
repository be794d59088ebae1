#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rigs' own code, as far as it runs without a rig. Part of ./run-tests unit."""
import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import cache
import common
import cloud_image
import debroot
import guestconsole
import bus
import payload
import tap
import tapstream

OUTCOMES = [
    ("all well", "1..2\nok 1 - a\nok 2 b\n", 0, ["passed", "passed"]),
    ("failure", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n", 1, ["passed", "failed"]),
    ("skip", "1..1\nok 1 - a # SKIP no /dev/kvm\n", 0, ["skipped"]),
    ("todo", "1..1\nnot ok 1 - a # TODO later\n", 0, ["passed"]),
    ("everything skipped", "1..0 # SKIP not here\n", 0, ["skipped"]),
    ("plan at the end", "ok 1\n1..1\n", 0, ["passed"]),
    ("escaped hash", "1..1\nok 1 - a \\# SKIP is a word\n", 0, ["passed"]),
    ("died half way", "1..2\nok 1 - a\n", -11, ["passed", "failed"]),
    ("silence", "", 0, ["failed"]),
    ("bailed out", "1..2\nok 1\nBail out! no more\n", -6, ["passed", "failed"]),
    ("good results, bad status", "1..1\nok 1\n", 3, ["passed", "failed"]),
    ("chatter", "hello\n1..1\n# note\nokay\nok 1 - a\nbye\n", 0, ["passed"]),
]


@tap.test("TAP", cases=OUTCOMES)
def test_tap(t, text, status, expected):
    t.equal([r.outcome for r in tapstream.parse("x", text, status)], expected)


@tap.test("TAP: reasons and diagnostics are kept")
def test_texts(t):
    skipped, = tapstream.parse("x", "1..1\nok 1 - a # SKIP no /dev/kvm\n")
    t.equal((skipped.name, skipped.text), ("x: a", "no /dev/kvm"))
    failed, = tapstream.parse("x", "1..1\nnot ok 1 - a\n# got 1\n# wanted 2\n", 1)
    t.equal(failed.text, "got 1\nwanted 2\n")


STREAM = "### begin a.py\n1..1\nnot ok 1 - x\n### journal\nit broke\n### end a.py 1 0.1\n"


@tap.test("stream", cases=[
    ("one file with its journal", STREAM + "### done 1\n", ["failed"]),
    ("no end", STREAM, ["failed", "failed"]),
    ("ended inside a file", "### begin a.py\n1..2\nok 1\n", ["passed", "failed", "failed"]),
    ("nothing", "", ["failed"]),
    ("a host died, another finished", "### begin a.py\n1..2\nok 1\n### died it froze\n### died rip\n"
     "### begin a.py\n1..1\nok 1 - x\n### end a.py 0 1\n### done 0\n", ["note", "passed"]),
    ("all hosts died", "### begin a.py\n### died one\n### begin a.py\n### died two\n",
     ["note", "note", "failed"]),
])
def test_stream(t, text, expected):
    results = tapstream.parse_stream("linux", text)
    t.equal([r.outcome for r in results], expected)
    if "journal" in text:
        t.match(results[0].text, "it broke")


@tap.test("cache: two makers at once make one product, a failed one leaves nothing")
def test_cache(t):
    with tempfile.TemporaryDirectory() as tmp:
        old, cache.CACHE = cache.CACHE, pathlib.Path(tmp)
        t.cleanup(setattr, cache, "CACHE", old)
        made = []

        def make(work):
            made.append(work)
            time.sleep(0.2)
            (work / "file").write_text("x")

        threads = [threading.Thread(target=cache.product, args=("p", ["in"], make)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        t.equal(len(made), 1, "makers")
        t.equal((cache.product("p", ["in"], make) / "file").read_text(), "x")

        def fail(work):
            (work / "half").write_text("x")
            raise ValueError("no")

        try:
            cache.product("p", ["other"], fail)
            raise AssertionError("a failed maker made a product")
        except ValueError:
            pass
        t.equal(len([p for p in (pathlib.Path(tmp) / "p").iterdir() if p.is_dir()]), 1, "directories")
        for n in range(5):
            cache.product("p", [n], lambda work: None)
        t.equal(len([p for p in (pathlib.Path(tmp) / "p").iterdir() if p.is_dir()]), cache.KEEP)


@tap.test("packages: a list takes in another", cases=[
    ("system", "system-root", "bench-system-root", "libvirt-dbus"),
    ("linux", "linux-host-root", "bench-linux-root", "qemu-system-x86"),
])
def test_packages(t, tests, bench, peer):
    tests, bench = common.packages(tests), common.packages(bench)
    t.equal(bench[:len(tests)], tests)
    t.equal([p for p in bench if p.startswith("@")], [])
    t.true(peer in bench and peer not in tests, f"{peer} is for benchmarks only")


@tap.test("roots: this machine's apt has Debian sources")
def test_sources(t):
    try:
        lines, stanzas = debroot._sources()
    except Exception as e:                              # pylint: disable=broad-except
        tap.skip(f"apt is not set up here: {e}")
    t.match(lines + stanzas, r"\w+://\S+")


APT_FILES = {
    "sources.list": "# deb file:/debian none main\ndeb file:/debian stable main contrib\n"
                    "deb-src file:/debian stable main\ndeb [arch=amd64] file:/vendor/ stable main\n",
    "sources.list.d/a.list": " deb [signed-by=/key] file:/security/ stable-security main\n",
    "sources.list.d/b.sources": "Types: deb deb-src\n# mirror\nURIs: file:/debian\nSuites: stable\nComponents: main\n"
                                "\nTypes: deb\nURIs: file:/debian\nSuites: old\nEnabled: no\n"
                                "\nTypes: deb\nURIs: file:/vendor\nSuites: stable\nComponents: main\n",
}


@tap.test("firmware: source packages come from where packages come from")
def test_firmware_sources(t):
    loader = importlib.machinery.SourceFileLoader("build_cloudhv", str(cloud_image.BUILD_FIRMWARE))
    firmware = importlib.util.module_from_spec(importlib.util.spec_from_loader("build_cloudhv", loader))
    loader.exec_module(firmware)
    with tempfile.TemporaryDirectory() as tmp:
        for name, text in APT_FILES.items():
            file = pathlib.Path(tmp) / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        lines, stanzas = firmware.source_entries({"file:/debian", "file:/security"}, pathlib.Path(tmp))
        t.equal(lines, "deb-src file:/debian stable main contrib\n"
                       "deb-src [signed-by=/key] file:/security/ stable-security main\n")
        t.equal(stanzas, "Types: deb-src\nURIs: file:/debian\nSuites: stable\nComponents: main\n\n")
        try:
            firmware.source_entries({"file:/elsewhere"}, pathlib.Path(tmp))
            raise AssertionError("sources out of nothing")
        except firmware.Failure as e:
            t.match(str(e), "no source of Debian")


@tap.test("linux: a test says what it needs")
def test_needs(t):
    t.equal([payload.needs(payload.scripts("linux", [name]), "cloud")
             for name in ("test-cloud-image.py", "test-boot.py")], [True, False])


@tap.test("console", cases=[
    # both kinds of guest, played by a local shell
    ("a shell's prompt", ["bash", "--norc", "--noprofile", "-i"], {"PS1": "root@guest:~# "}),
    ("the initramfs", ["sh", "-c", "stty -echo; printf 'BRUME-GUEST-READY\\n'; while read -r l; do "
                       "( eval \"$l\" ) 2>&1 </dev/null; printf '\\nBRUME-RC %d\\n' $?; done"], {}),
])
def test_console(t, argv, env):
    with guestconsole.GuestConsole(argv, env=dict(os.environ, **env)) as console:
        console.wait_ready(20)
        t.equal(console.run("echo one; echo two >&2"), ("one\ntwo", 0))
        t.equal(console.run("(exit 3)"), ("", 3))
        t.equal(console.check("printf 'no newline'"), "no newline")
        t.equal(len(console.check("seq 1 5000").splitlines()), 5000)
        try:
            console.check("sleep 30", timeout=0.5)
            raise AssertionError("did not give up")
        except guestconsole.ConsoleError as e:
            t.match(str(e), "within 0.5 s")


@tap.test("console: a program that ends is noticed")
def test_console_end(t):
    with guestconsole.GuestConsole(["sh", "-c", "echo bye"]) as console:
        try:
            console.wait("never", 10)
            raise AssertionError("matched")
        except guestconsole.ConsoleError as e:
            t.match(str(e), "the connection ended")
            t.match(str(e), "bye")


@tap.test("tests are shared out by their time, each once")
def test_shares(t):
    seconds = {"a": 5, "b": 4, "c": 3, "d": 3, "e": 1}
    t.equal(common.shares(seconds, 2), [["a", "d"], ["b", "c", "e"]])
    t.equal(common.shares({"a": 1}, 2), [["a"]])


@tap.test("bus: text forms")
def test_text(t):
    t.equal(bus.options(Wait=True, Size=5, Name='a"b', Queues=("q", 7)),
            '@a{sv} {"Wait": <true>, "Size": <uint64 5>, "Name": <"a\\"b">, "Queues": <q 7>}')
    t.equal([bus.encode(n) for n in ("web1", "db-1", "1a", "")], ["web1", "db_2d1", "_31a", "_"])


tap.main()
