#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replaces the line `.\\" @CONFIG@` of a man page by what a program prints.

    insert-config.py PAGE PROGRAM OUTPUT

The program is config-man, so the page documents exactly the keys that the parser knows.
"""

import subprocess
import sys

MARK = '.\\" @CONFIG@\n'


def main():
    page, program, output = sys.argv[1:]
    with open(page, encoding="utf-8") as f:
        text = f.read()
    if text.count(MARK) != 1:
        sys.exit(f"{page}: needs one line {MARK.strip()}")
    config = subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.decode("utf-8")
    with open(output, "w", encoding="utf-8") as f:
        f.write(text.replace(MARK, config.rstrip("\n") + "\n"))


if __name__ == "__main__":
    main()
