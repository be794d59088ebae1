#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on a saved state that tests/unit/vm/test-states.c does not check.

Usage: check-states.py SOURCE-ROOT.  Speaks TAP, one line a state.
"""
import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    listed = set(re.findall(r"&(\w+_state_desc)\b",
                            (root / "tests/unit/vm/test-states.c").read_text()))
    declared = {}
    for header in sorted((root / "vmm").rglob("*.h")):
        for name in re.findall(r"extern const struct state_desc (\w+);", header.read_text()):
            declared[name] = header.relative_to(root)
    names = sorted(declared.keys() | listed)
    print(f"1..{len(names)}")
    bad = 0
    for n, name in enumerate(names, 1):
        good = name in listed and name in declared and name.endswith("_state_desc")
        bad += not good
        print(f"{'ok' if good else 'not ok'} {n} {name}")
        if not good:
            print(f"# {name} of {declared.get(name, 'no header')}: add it to "
                  "tests/unit/vm/test-states.c (names end in _state_desc)")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
