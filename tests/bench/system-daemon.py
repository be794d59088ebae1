#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Memory of the service with 0 and 100 defined VMs, beside libvirtd and libvirt-dbus with as many.

    tests/rig/system --bench --build DIR system-daemon.py      (tests/bench/run --system)
"""
import json
import re
import shutil
import subprocess

import bus
import figures
import tap

COUNT = 100
CONFIG = {"cpus": {"boot_vcpus": 2}, "memory": {"size": 1 << 30},
          "payload": {"kernel": "/srv/vmlinuz", "cmdline": "root=/dev/vda"},
          "disks": [{"path": "/srv/root.img"}, {"path": "/srv/data.img", "readonly": True}],
          "net": [{}], "serial": {"mode": "Tty"}}
DOMAIN = """\
<domain type="kvm">
  <name>{name}</name>
  <memory unit="GiB">1</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>/srv/vmlinuz</kernel>
    <cmdline>root=/dev/vda</cmdline>
  </os>
  <devices>
    <disk type="file"><source file="/srv/root.img"/><target dev="vda"/></disk>
    <disk type="file"><source file="/srv/data.img"/><target dev="vdb"/><readonly/></disk>
    <interface type="ethernet"><model type="virtio"/></interface>
    <serial type="pty"/>
  </devices>
</domain>
"""


def call(*words):
    """The values of a reply that has to come."""
    r = subprocess.run(["busctl", "--json=short", "--timeout=60", "call", *words], capture_output=True,
                       text=True, check=False)
    if r.returncode != 0:
        raise AssertionError(f"busctl call {' '.join(words)[:200]}: {r.stderr.strip()}")
    return json.loads(r.stdout)["data"] if r.stdout.strip() else []


def owner(name):
    """The process behind a bus name."""
    return call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                "GetConnectionUnixProcessID", "s", name)[0]


def libvirtd():
    return subprocess.run(["systemctl", "show", "-P", "MainPID", "libvirtd"], capture_output=True, text=True,
                          check=True).stdout.strip()


def memory(count):
    for peer, pid in (("brumed", owner(bus.NAME)), ("libvirtd", libvirtd()),
                      ("libvirt-dbus", owner("org.libvirt"))):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            text = f.read()
        for key in ("Rss", "Pss", "Private_Dirty"):
            kib = int(re.search(rf"^{key}:\s*(\d+) kB", text, re.M).group(1))
            figures.value(f"daemon-{key.lower().replace('_', '-')}", f"{peer}-{count}", "KiB", kib)


@tap.test("memory of the daemons with 0 and 100 VMs")
def test_memory(t):
    if not shutil.which("libvirt-dbus"):
        raise AssertionError("libvirt-dbus is not in this root: the rig needs --bench")
    call(bus.NAME, bus.ROOT, bus.MANAGER, "ListVMs")
    call("org.libvirt", "/org/libvirt/QEMU", "org.libvirt.Connect", "ListDomains", "u", "0")
    memory(0)
    for n in range(COUNT):
        bus.must(bus.create(f"bench{n}", CONFIG))
        t.cleanup(bus.remove, f"bench{n}")
        call("org.libvirt", "/org/libvirt/QEMU", "org.libvirt.Connect", "DomainDefineXML", "s",
             DOMAIN.format(name=f"bench{n}"))
    t.equal(len(bus.list_vms()), COUNT)
    t.equal(len(call("org.libvirt", "/org/libvirt/QEMU", "org.libvirt.Connect", "ListDomains", "u", "0")[0]),
            COUNT)
    memory(COUNT)


tap.main()
