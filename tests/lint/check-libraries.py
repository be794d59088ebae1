#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a program asks for other shared libraries than it should.

Usage: check-libraries.py PROGRAM LIBRARY...  Speaks TAP, one line a library, and
one for those that are too many.  The loader (ld-linux-*) does not count.

A library is mapped, relocated and partly resident in every worker: one that slips
in (glib in the worker, which has the part it uses inside) is time at each start
and memory for each machine, and nothing else would notice.
"""
import struct
import sys

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5


def needed(path):
    """DT_NEEDED of a 64-bit little-endian ELF file (System V gABI, chapter 5)."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"{path} is not a 64-bit little-endian ELF file")
    phoff, = struct.unpack_from("<Q", data, 32)
    phentsize, phnum = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, phoff + i * phentsize) for i in range(phnum)]

    def offset(vaddr):
        return next(off + vaddr - at for kind, _, off, at, _, size, _, _ in headers
                    if kind == PT_LOAD and at <= vaddr < at + size)

    start, size = next((h[2], h[5]) for h in headers if h[0] == PT_DYNAMIC)
    entries = []
    for tag, value in struct.iter_unpack("<qQ", data[start:start + size]):
        if tag == DT_NULL:
            break
        entries.append((tag, value))
    strings = offset(dict(entries)[DT_STRTAB])
    for tag, value in entries:
        if tag == DT_NEEDED:
            at = strings + value
            yield data[at:data.index(b"\0", at)].decode()


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    found = [name for name in needed(program) if not name.startswith("ld-linux-")]
    # "libc" stands for libc.so.6: the number is the distribution's affair
    stems = {name.split(".so")[0]: name for name in found}
    extra = sorted(stems[stem] for stem in stems.keys() - set(wanted))
    print(f"1..{len(wanted) + 1}")
    for number, stem in enumerate(wanted, 1):
        print(f"{'ok' if stem in stems else 'not ok'} {number} - {stem}")
    print(f"{'not ok' if extra else 'ok'} {len(wanted) + 1} - no other library")
    if extra:
        print(f"# {program} is linked with {', '.join(extra)} as well")
    return 1 if extra or set(wanted) - stems.keys() else 0


sys.exit(main())
