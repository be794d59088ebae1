#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on a call of the C library that a folder must not make.

Usage: check-calls.py SOURCE-ROOT.  Speaks TAP, one line a function.
"""
import pathlib
import re
import sys

# Function: (folder below which nobody calls it, what to do instead and why).
FORBIDDEN = {
    "qsort": ("vmm", "sort_rows() of vmm/base/sort.h: this one allocates and asks sysinfo(2), "
                     "which ends a sandboxed worker"),
}
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def calls(root, folder, name):
    pattern = re.compile(rf"\b{name}\s*\(")
    for path in sorted((root / folder).rglob("*.[ch]")):
        text = COMMENT.sub(lambda m: "\n" * m[0].count("\n"), path.read_text())
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{path.relative_to(root)}:{number}"


def main():
    root = pathlib.Path(sys.argv[1])
    failed = False
    print(f"1..{len(FORBIDDEN)}")
    for number, (name, (folder, instead)) in enumerate(FORBIDDEN.items(), 1):
        found = list(calls(root, folder, name))
        failed |= bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - nobody in {folder} calls {name}()")
        for place in found:
            print(f"# {place}: {instead}")
    return 1 if failed else 0


sys.exit(main())
