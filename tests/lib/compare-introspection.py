#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The golden XML of introspection/ against the live vtables, and against gdbus-codegen.

    compare-introspection.py --daemon BRUMED FILE.xml...
    compare-introspection.py --codegen FILE.xml...
    compare-introspection.py --manual PAGE FILE.xml...

With --manual every member must be named in the page.
Members are compared by kind, name, argument names, types, directions, access and annotations;
their order and the white space of the files do not matter.  Exit status 1 and a diff when
something differs.
"""

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree


def annotations(element):
    return sorted(
        f"    @{a.get('name')}={a.get('value')}" for a in element.findall("annotation")
    )


def arguments(member):
    default = "in" if member.tag == "method" else "out"
    return [
        f"    {a.get('direction', default)} {a.get('type')} {a.get('name')}"
        for a in member.findall("arg")
    ]


def normalise(interface):
    """A list of lines that is equal for equal interfaces."""
    members = []
    for member in interface:
        if member.tag == "annotation":
            members.append([f"  @{member.get('name')}={member.get('value')}"])
            continue
        head = f"  {member.tag} {member.get('name')}"
        if member.tag == "property":
            head += f" {member.get('type')} {member.get('access')}"
        members.append([head] + arguments(member) + annotations(member))
    lines = [f"interface {interface.get('name')}"]
    for member in sorted(members):
        lines += member
    return lines


def read_golden(path):
    """The one interface of a file, which is named after it."""
    interfaces = ElementTree.parse(path).getroot().findall("interface")
    if len(interfaces) != 1:
        sys.exit(f"{path}: {len(interfaces)} interfaces, one is wanted")
    name = interfaces[0].get("name")
    if not path.endswith(f"/{name}.xml"):
        sys.exit(f"{path}: holds {name}")
    return interfaces[0]


def read_live(daemon, name):
    done = subprocess.run(
        [daemon, f"--bus-introspect={name}"], stdout=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{daemon} --bus-introspect={name}: exit status {done.returncode}")
    for interface in ElementTree.fromstring(done.stdout).iter("interface"):
        if interface.get("name") == name:
            return interface
    sys.exit(f"{daemon} --bus-introspect={name}: no such interface in its output")


def compare(daemon, files):
    differ = False
    for path in files:
        golden = read_golden(path)
        live = read_live(daemon, golden.get("name"))
        diff = list(
            difflib.unified_diff(
                normalise(golden), normalise(live), path, "live vtable", lineterm="", n=1
            )
        )
        print("\n".join(diff) if diff else f"{golden.get('name')}: equal")
        differ = differ or bool(diff)
    return 1 if differ else 0


def codegen(files):
    for path in files:
        read_golden(path)
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run(
                ["gdbus-codegen", "--generate-c-code=generated", "--output-directory", scratch, path],
                check=True,
            )
        print(f"{path}: accepted by gdbus-codegen")
    return 0


def manual(page, files):
    with open(page, encoding="utf-8") as f:
        words = set(re.findall(r"[A-Za-z0-9]+", f.read()))
    missing = [
        f"{path}: {member.get('name')} is not in {page}"
        for path in files
        for member in read_golden(path)
        if member.get("name") not in words
    ]
    print("\n".join(missing) or f"{page}: complete")
    return 1 if missing else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--daemon", metavar="BRUMED")
    what.add_argument("--codegen", action="store_true")
    what.add_argument("--manual", metavar="PAGE")
    parser.add_argument("files", nargs="+", metavar="FILE.xml")
    options = parser.parse_args()
    if options.codegen:
        return codegen(options.files)
    if options.manual:
        return manual(options.manual, options.files)
    return compare(options.daemon, options.files)


if __name__ == "__main__":
    sys.exit(main())
