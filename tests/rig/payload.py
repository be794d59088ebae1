# SPDX-License-Identifier: Apache-2.0
"""
What goes into a rig besides Debian: the installed build, the tests, the job.

The build is staged by `meson install` with DESTDIR and made safe for a merged /usr: laying a real
/lib directory over Debian's /lib symbolic link would hide the whole of /usr/lib.
"""

import json
import os
import pathlib
import re
import shutil

from common import TOP, RigError, run

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def stage(build, out):
    """Installs the build directory into the tree `out`."""
    out = pathlib.Path(out)
    if not (build / "build.ninja").exists():
        raise RigError(f"{build} is not a configured build directory: run 'meson setup {build}' first")
    run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"],
        env=dict(os.environ, DESTDIR=str(out)))
    for name in MERGED:
        if (out / name).is_dir():
            run(["cp", "-a", f"{out / name}/.", f"{make_dir(out / 'usr' / name)}/"])
            shutil.rmtree(out / name)
    if (out / "usr/lib/systemd/system/brumed.service").exists():
        # what the maintainer script of a package does; the alias is what bus activation starts
        run(["systemctl", "--root", out, "--quiet", "enable", "brumed.service"])


def make_dir(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def add_tests(out, job):
    """Puts tests and job below /brume of the tree `out`, and the unit that does the job."""
    out = pathlib.Path(out)
    brume = make_dir(out / "brume")
    for folder in ("lib", "system", "linux", "data", "bench"):
        if (TOP / "tests" / folder).is_dir():
            shutil.copytree(TOP / "tests" / folder, brume / "tests" / folder,
                            ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TOP / "tests/rig/inside", brume / "rig")
    if job is not None:
        (brume / "job.json").write_text(json.dumps(job))
    units = make_dir(out / "etc/systemd/system")
    shutil.copyfile(TOP / "tests/rig/inside/brume-rig.service", units / "brume-rig.service")
    wants = make_dir(units / "multi-user.target.wants")
    (wants / "brume-rig.service").symlink_to("../brume-rig.service")


def add_tiny_guest(build, out):
    """
    Puts the kvm rig's guest where tests/lib/tiny.py looks for it: a kernel that needs no disk and
    is up in milliseconds also where KVM is slow.
    """
    tiny = build / "tests/kvm/guest/tiny.elf"
    if not tiny.exists():
        raise RigError(f"{tiny} does not exist: run 'ninja -C {build}' first")
    guest = make_dir(pathlib.Path(out) / "brume/guest")
    shutil.copyfile(tiny, guest / "tiny.elf")
    for name in ("bench-start-bus", "bench-memory"):
        bench = build / "tests/bench" / name
        if bench.exists():                  # what tests/bench/{system,linux}-*.py run
            shutil.copy(bench, guest)


def add_guest_programs(build, out):
    """Puts what tests of the linux rig run in their guests (tests/linux/meson.build) beside it."""
    peer = build / "tests/linux/vsock-peer"
    if peer.exists():
        shutil.copy(peer, make_dir(pathlib.Path(out) / "brume/guest"))


def scripts(folder, wanted):
    """The rig's paths of the test files of a folder, or of those named."""
    names = sorted(p.name for p in (TOP / "tests" / folder).glob("test-*.py"))
    if wanted:
        # benchmarks are no tests: they run only when named
        bench = [p.name for p in (TOP / "tests/bench").glob(f"{folder}-*.py")]
        if all(pathlib.Path(w).name in bench for w in wanted):
            return [f"/brume/tests/bench/{pathlib.Path(w).name}" for w in wanted]
        unknown = [w for w in wanted if pathlib.Path(w).name not in names]
        if unknown:
            raise RigError(f"no such test in tests/{folder}: {', '.join(unknown)}")
        names = [pathlib.Path(w).name for w in wanted]
    return [f"/brume/tests/{folder}/{n}" for n in names]


def needs(scripts, what):
    """Whether one of the scripts says so: a line '# needs: <what>', for what is slow to make."""
    line = re.compile(rf"^# needs:.*\b{what}\b", re.M)
    return any(line.search((TOP / "tests" / s.split("/tests/", 1)[1]).read_text()) for s in scripts)
