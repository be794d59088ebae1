#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on a C file that is not as .clang-format has it.

Usage: check-format.py SOURCE-ROOT.  Speaks TAP, one line a folder; skipped without
clang-format 14, as another version formats differently.  Looks at the files git
knows, or, where there is no repository, at all of the tree.
"""
import pathlib
import re
import shutil
import subprocess
import sys

VERSION = "14"
TOPS = ("vmm", "daemon", "dbus", "tests")


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def find_tool():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        path = shutil.which(name)
        if not path:
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        if re.search(rf"version {VERSION}\.", said):
            return path
    return skip(f"clang-format {VERSION} is not installed (package clang-format)")


def list_files(root):
    git = shutil.which("git")
    if git and (root / ".git").exists():
        r = subprocess.run([git, "-c", f"safe.directory={root}", "-C", root, "ls-files", "-z", "--", "*.c", "*.h"],
                           capture_output=True, text=True, check=False)
        if r.returncode == 0:
            return [root / name for name in r.stdout.split("\0") if name and (root / name).exists()]
    return [path for top in TOPS for path in (root / top).rglob("*.[ch]")]


def main():
    root = pathlib.Path(sys.argv[1])
    tool = find_tool()
    folders = {}
    for path in sorted(list_files(root)):
        folders.setdefault(str(path.parent.relative_to(root)), []).append(path)
    if not folders:
        print("1..1\nnot ok 1 - no C file found")
        return 1
    print(f"1..{len(folders)}")
    failed = False
    for number, (folder, files) in enumerate(folders.items(), 1):
        r = subprocess.run([tool, "--dry-run", "-Werror", "--style=file", *files],
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        print(f"{'not ok' if r.returncode else 'ok'} {number} - {folder}")
        if r.returncode:
            failed = True
            bad = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", r.stderr, re.M)))
            for name in bad or [r.stderr.strip()[:500]]:
                print(f"# clang-format -i {name}")
    return 1 if failed else 0


sys.exit(main())
