#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on a text that sends its reader to a page that is not in the tree.

Usage: check-pages.py SOURCE-ROOT.  Speaks TAP, one line a page that is named.
"""
import pathlib
import re
import sys

FOLDERS = ("daemon", "dbus", "docs", "firmware", "introspection", "polkit", "tests", "units", "vmm")
PAGE = re.compile(r"[\w./-]*\b[\w-]+\.md\b")


def main():
    root = pathlib.Path(sys.argv[1])
    pages = {path.name for folder in FOLDERS for path in (root / folder).rglob("*.md")}
    pages |= {path.name for path in root.glob("*.md")}
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file()]
    files += [path for path in root.iterdir() if path.is_file()]
    named = {}
    for path in sorted(files):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for name in PAGE.findall(text):
            named.setdefault(name.rpartition("/")[2], path.relative_to(root))
    print(f"1..{len(named)}")
    missing = 0
    for n, (name, where) in enumerate(sorted(named.items()), 1):
        good = name in pages
        missing += not good
        print(f"{'ok' if good else 'not ok'} {n} {name}" + ("" if good else f", named by {where}"))
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
