#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Includes go down only: fails on a file that includes a layer it may not see.

Usage: check-layers.py SOURCE-ROOT.  Speaks TAP, one line a layer: a folder, or files of one that
stand higher or lower than the rest of it.
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

# What both ends of a message share: below the daemon, while the interfaces in dbus/ are above it.
WIRE = {"dbus/variant.h", "dbus/worker-error.h", "dbus/resource-properties.h"}
DAEMON = BASE | WIRE | {"vmm/config", "vmm/hypervisor", "vmm/api/protocol.h",
                        "vmm/block/qcow2/backing.h"}

ALLOWED = {
    "vmm/base": set(),
    "vmm/config": BASE,
    "vmm/hypervisor": BASE,
    "vmm/memory": BASE | {"vmm/hypervisor"},
    "vmm/bus": BASE | {"vmm/hypervisor"},
    "vmm/arch/x86": CORE,
    "vmm/pci": CORE,
    "vmm/block": CORE,
    "vmm/block/qcow2": CORE | {"vmm/block"},
    "vmm/block/vhdx": CORE | {"vmm/block"},
    "vmm/net": CORE,
    "vmm/devices": MIDDLE,
    "vmm/virtio": MIDDLE | {"vmm/devices"},
    "vmm/acpi": MIDDLE | {"vmm/devices"},
    "vmm/loader": MIDDLE,
    "vmm/migration": PLATFORM,
    "vmm/sandbox": BASE,
    "vmm/vm": PLATFORM | {"vmm/migration", "vmm/sandbox", "vmm/api/protocol.h"},
    "vmm/vm/devices": VM,
    "vmm/api": API,
    "vmm": API,
    "dbus": BASE | {"vmm/config", "vmm/api/protocol.h", "daemon"},
    "dbus/client": BASE | {"vmm/config", "dbus"},
    "daemon": DAEMON,
}

# Files that are a layer of their own: these lines hold for them instead of their folder's.
FILES = {
    "wire": ({path for header in WIRE for path in (header, header[:-1] + "c")},
             BASE | {"vmm/config", "vmm/api/protocol.h"} | WIRE),
    # puts the daemon together, and on the bus
    "daemon/main.c": ({"daemon/main.c"}, DAEMON | {"daemon", "dbus"}),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def violations(root, paths, allowed):
    for path in sorted(paths):
        for target in INCLUDE.findall((root / path).read_text()):
            parent = str(pathlib.PurePosixPath(target).parent)
            if parent == ".":  # made by the build
                continue
            if parent not in allowed and target not in allowed:
                yield f"{path} includes {target}"


def main():
    root = pathlib.Path(sys.argv[1])
    alone = set().union(*(paths for paths, _ in FILES.values()))
    folders = {}
    for top in ("vmm", "daemon", "dbus"):
        for path in (root / top).rglob("*.[ch]"):
            path = path.relative_to(root)
            if str(path) not in alone:
                folders.setdefault(str(path.parent), []).append(path)
    layers = [(folder, folders[folder], ALLOWED[folder] | {folder} if folder in ALLOWED else None)
              for folder in sorted(folders)]
    layers += [(name, paths, allowed) for name, (paths, allowed) in FILES.items()]
    print(f"1..{len(layers)}")
    failed = False
    for number, (name, paths, allowed) in enumerate(layers, 1):
        found = (list(violations(root, paths, allowed)) if allowed is not None
                 else [f"{name} is not in the table of check-layers.py"])
        failed |= bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - {name}")
        for line in found:
            print(f"# {line}")
    return 1 if failed else 0


sys.exit(main())
