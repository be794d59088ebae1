# SPDX-License-Identifier: Apache-2.0
"""The build directories below ./build: one per compiler and set of checks."""

import os
import subprocess

from common import BUILD, TOP, RigError, step

# name: (environment, meson options). Warnings are errors for those who test, not for those who try.
KINDS = {
    "quickstart": ({}, ["--buildtype=debugoptimized"]),
    "gcc": ({"CC": "gcc"}, ["--buildtype=debugoptimized", "--werror"]),
    "asan": ({"CC": "gcc"}, ["--buildtype=debug", "-Db_sanitize=address,undefined", "-Db_lundef=false"]),
    "clang": ({"CC": "clang"}, ["--buildtype=debugoptimized", "--werror"]),
}


def build(kind):
    """Configures (once) and compiles; the build directory. A failure carries the compiler's words."""
    env_more, options = KINDS[kind]
    env = dict(os.environ, **env_more)
    where = BUILD / kind
    with step(f"building {where.relative_to(TOP)}"):
        if not (where / "build.ninja").exists():
            _meson(["setup", where, TOP, *options], env)
        _meson(["compile", "-C", where], env)
    return where


def _meson(args, env):
    # Debian's meson, whatever other Python the PATH may name first
    r = subprocess.run(["/usr/bin/meson", *map(str, args)], env=env, cwd=TOP, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                       check=False)
    if r.returncode != 0:
        lines = r.stdout.splitlines()
        # ninja goes on after the first error: what failed matters, not what was still going well
        failed = next((i for i, l in enumerate(lines) if l.startswith("FAILED:")), None)
        shown = lines[failed:failed + 60] if failed is not None else lines[-60:]
        raise RigError(f"meson {args[0]} failed:\n" + "\n".join(shown))
