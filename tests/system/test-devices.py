#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Devices of a running machine on the bus: their objects, who may change them, brumectl's verbs.

How exact a rate limit is has a test in the kvm rig, and what a guest sees of a link in the linux rig.
"""
import json
import os
import subprocess

import bus
import polkitrules
import service
import tap
import tiny

DEVICE = f"{bus.NAME}.Device"
DISK, NET = f"{DEVICE}.Disk", f"{DEVICE}.Net"
DENIED = f"{bus.ERRORS}.AccessDenied"
NO = bus.options()


def device(name, identity):
    return f"{bus.vm_path(name)}/device/{bus.encode(identity)}"


def brumectl(*args, status=0):
    r = subprocess.run(["brumectl", "--no-ask-password", *args], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=30, check=False)
    if r.returncode != status:
        raise AssertionError(f"brumectl {' '.join(args)}: exit status {r.returncode}: {r.stderr}")
    return r.stdout if status == 0 else r.stderr


def machine(t, name, **more):
    image = tiny.image(f"/srv/{name}.raw")
    second = tiny.image(f"/srv/{name}-2.raw")
    t.cleanup(os.unlink, image)
    t.cleanup(os.unlink, second)
    config = tiny.config(disks=[{"path": image, "id": "d0", "serial": "S"},
                                {"path": second, "id": "d1", "readonly": True, "rate_limit_group": "g"}],
                         rate_limit_groups=[{"id": "g", "rate_limiter_config":
                                             {"ops": {"size": 100, "refill_time": 1000}}}],
                         **({"net": [{"id": "n0"}]} if os.path.exists("/dev/net/tun") else {}))
    return tiny.Machine(name, config, **more)


@tap.test("devices are objects while the machine runs")
def test_objects(t):
    with machine(t, "dev-a") as vm, bus.Signals() as signals:
        t.equal(brumectl("devices", "dev-a"), "")
        vm.start()
        rows = {row["id"]: row for row in json.loads(brumectl("devices", "dev-a", "--json"))}
        t.equal(rows["d0"]["type"], "disk")
        t.match(rows["d0"]["bdf"], r"^0000:00:[0-9a-f]{2}\.0$")
        t.equal(rows["d0"]["path"], device("dev-a", "d0"))
        signals.wait(lambda s: s.member == "InterfacesAdded" and s.data[0] == device("dev-a", "d0"), 5)
        path = device("dev-a", "d0")
        for interface, prop, expected in [
                (DEVICE, "Id", "d0"), (DEVICE, "VM", vm.path), (DEVICE, "State", "present"),
                (DEVICE, "Persistent", True), (DISK, "Path", "/srv/dev-a.raw"), (DISK, "Size", 1 << 20),
                (DISK, "Serial", "S"), (DISK, "ReadOnly", False), (DISK, "RateLimit", {})]:
            t.equal(bus.get(path, interface, prop), expected, f"{interface}.{prop}")
        t.equal(bus.get(device("dev-a", "d1"), DISK, "RateLimitGroup"), "g")
        reply = bus.must(bus.call(bus.ROOT, "org.freedesktop.DBus.ObjectManager.GetManagedObjects"))
        t.true(path in reply.text, f"{path} among all objects")
        vm.must("Terminate")
        signals.wait(lambda s: s.member == "InterfacesRemoved" and s.data[0] == path, 5)
        t.equal(bus.vm("dev-a", "GetDevice", bus.text("d0")).error, f"{bus.NAME}.NoSuchDevice")


@tap.test("a limit of a running machine outlives the daemon, not the machine")
def test_limit(t):
    with machine(t, "dev-b") as vm:
        vm.start()
        path = device("dev-b", "d0")
        brumectl("set-rate-limit", "dev-b", "d0", "bw=10M,ops=500,ops_time=100ms")
        limit = {"BandwidthSize": 10 << 20, "BandwidthRefillUSec": 1000000, "OpsSize": 500,
                 "OpsRefillUSec": 100000}
        t.equal(bus.get(path, DISK, "RateLimit"), limit)
        t.equal(vm.get("RestartRequired"), True)
        brumectl("set-rate-limit", "dev-b", "g", "bw=1M")
        t.equal(vm.get("RateLimitGroups"), {"g": {"BandwidthSize": 1 << 20,
                                                  "BandwidthRefillUSec": 1000000}})
        service.kill()
        t.eventually(lambda: bus.get(path, DISK, "RateLimit") == limit, "the limit is there again")
        t.equal(bus.get(path, DISK, "Size"), 1 << 20)
        t.match(brumectl("set-rate-limit", "dev-b", "d1", "bw=1", status=1), "shares the limit of group 'g'")
        t.match(brumectl("set-rate-limit", "dev-b", "x", "bw=1", status=3), "no rate limit group 'x'")
        brumectl("set-rate-limit", "dev-b", "d0", "none")
        t.equal(bus.get(path, DISK, "RateLimit"), {})
        vm.must("Terminate")
        t.equal(vm.get("RateLimitGroups"), {"g": {"OpsSize": 100, "OpsRefillUSec": 1000000}})


@tap.test("a link goes down and up")
def test_link(t):
    if not os.path.exists("/dev/net/tun"):
        tap.skip("no /dev/net/tun")
    with machine(t, "dev-c") as vm, bus.Signals() as signals:
        vm.start()
        path = device("dev-c", "n0")
        t.equal(bus.get(path, NET, "LinkUp"), True)
        interface = bus.get(path, NET, "HostInterface")
        with open(f"/sys/class/net/{interface}/ifindex") as f:
            t.equal(bus.get(path, NET, "HostIfIndex"), int(f.read()))
        t.match(bus.get(path, NET, "MAC"), "^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
        brumectl("set-link", "dev-c", "n0", "down")
        signals.wait(lambda s: s.member == "PropertiesChanged" and s.path == path, 5)
        t.equal(bus.get(path, NET, "LinkUp"), False)
        brumectl("set-link", "dev-c", "n0", "up")
        t.eventually(lambda: bus.get(path, NET, "LinkUp"), "the link is up")
        brumectl("set-rate-limit", "dev-c", "n0", "ops=10,direction=rx")
        t.equal(bus.get(path, NET, "ReceiveRateLimit"), {"OpsSize": 10, "OpsRefillUSec": 1000000})
        t.equal(bus.get(path, NET, "TransmitRateLimit"), {})
        t.true("rx_packets" in brumectl("counters", "dev-c", "n0"), "counters of one device")


@tap.test("polkit is told which device")
def test_polkit(t):
    polkitrules.install(t, """
        if (action.id == "org.brume.vm1.modify-vms")
            return subject.user == "alice" && action.lookup("device") == "d0" &&
                   action.lookup("device-type") == "disk" && action.lookup("vm") == "dev-d"
                   ? polkit.Result.YES : polkit.Result.NO;
    """)
    with machine(t, "dev-d") as vm:
        vm.start()
        call = f"{DISK}.SetRateLimit"
        bus.must(bus.call(device("dev-d", "d0"), call, bus.options(OpsSize=5), NO, user="alice"))
        reply = bus.call(device("dev-d", "d0"), call, bus.options(OpsSize=5), NO, user="mallory")
        t.equal(reply.error, DENIED)
        reply = bus.vm("dev-d", "SetRateLimitGroup", bus.text("g"), NO, NO, user="alice")
        t.equal(reply.error, DENIED)
        t.equal(bus.vm("dev-d", "ConnectVSock", "22", NO, user="mallory").error,
                f"{bus.NAME}.NoSuchDevice")
        # what cannot work is said before anybody is asked, and counters are for everybody
        bus.must(bus.call(device("dev-d", "d0"), f"{DEVICE}.GetCounters", NO, user="mallory"))


tap.main()
