#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes go down only: fails on a file that includes a layer it may not see.

Usage: check-layers.py SOURCE-ROOT.  Speaks TAP, one line a folder.
"""
import pathlib
import re
import sys

# Which folders' headers a folder may include, besides its own.
BASE = {"vmm/base"}
CORE = BASE | {"vmm/config", "vmm/hypervisor", "vmm/memory", "vmm/bus"}
MIDDLE = CORE | {"vmm/arch/x86", "vmm/pci", "vmm/block", "vmm/net"}
DEVICES = MIDDLE | {"vmm/devices", "vmm/virtio"}
PLATFORM = DEVICES | {"vmm/acpi", "vmm/loader"}
VM = PLATFORM | {"vmm/vm", "vmm/migration", "vmm/sandbox"}
API = VM | {"vmm/api", "dbus/variant.h", "dbus/worker-error.h"}
DBUS = {"dbus"}

ALLOWED = {
    "vmm/base": set(),
    "vmm/config": BASE,
    "vmm/hypervisor": BASE,
    "vmm/memory": BASE | {"vmm/hypervisor"},
    "vmm/bus": BASE | {"vmm/hypervisor"},
    "vmm/arch/x86": CORE,
    "vmm/pci": CORE,
    "vmm/block": CORE,
    "vmm/net": CORE,
    "vmm/devices": MIDDLE,
    "vmm/virtio": MIDDLE | {"vmm/devices"},
    "vmm/acpi": MIDDLE | {"vmm/devices"},
    "vmm/loader": MIDDLE,
    "vmm/migration": PLATFORM,
    "vmm/sandbox": BASE,
    "vmm/vm": PLATFORM | {"vmm/migration", "vmm/sandbox", "vmm/api/protocol.h"},
    "vmm/api": API,
    "vmm": API,
    "dbus": BASE | {"vmm/config", "vmm/api/protocol.h", "daemon"},
    "dbus/client": BASE | {"vmm/config", "dbus"},
    "daemon": BASE | {"vmm/config", "vmm/hypervisor", "vmm/api/protocol.h", "dbus"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def violations(root, folder):
    for path in sorted((root / folder).glob("*.[ch]")):
        for target in INCLUDE.findall(path.read_text()):
            parent = str(pathlib.PurePosixPath(target).parent)
            if parent == ".":  # made by the build
                continue
            if parent == folder or parent in ALLOWED[folder] or target in ALLOWED[folder]:
                continue
            yield f"{path.relative_to(root)} includes {target}"


def main():
    root = pathlib.Path(sys.argv[1])
    folders = sorted({str(p.parent.relative_to(root)) for top in ("vmm", "daemon", "dbus")
                      for p in (root / top).rglob("*.[ch]")})
    print(f"1..{len(folders)}")
    failed = False
    for number, folder in enumerate(folders, 1):
        found = (list(violations(root, folder)) if folder in ALLOWED
                 else [f"{folder} is not in the table of check-layers.py"])
        failed |= bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - {folder}")
        for line in found:
            print(f"# {line}")
    return 1 if failed else 0


sys.exit(main())
