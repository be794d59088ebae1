#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Networks without a tap: passt beside the worker, in a unit of its own. The guest asks for the
address of its gateway, which passt answers.
"""
# timeout: 300
import os
import signal
import socket
import subprocess
import time

import bus
import service
import tap
import tiny

PASST = "/usr/bin/passt"
# passt takes addresses and routes of the host's: this container has none of its own
INTERFACE, ADDRESS, GATEWAY = "hosteth0", "192.0.2.10", "192.0.2.1"
ARP = f"test=net-arp count=0 ip=0x{int.from_bytes(socket.inet_aton(GATEWAY), 'big'):x}"


def run(*argv):
    subprocess.run(argv, check=True, capture_output=True)


def setup():
    run("ip", "tuntap", "add", "dev", INTERFACE, "mode", "tap")
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", INTERFACE)
    run("ip", "link", "set", INTERFACE, "up")
    run("ip", "route", "add", "default", "via", GATEWAY)


def machine(name, **net):
    return tiny.Machine(name, tiny.config(ARP, net=[{"backend": "Passt", "id": "net0", **net}],
                                          serial={"mode": "File", "file": output(name)}))


def output(name):
    """What the guest says."""
    return f"/srv/{name}.serial"


def said(name, line):
    with open(output(name)) as f:
        return line in f.read()


def unit(name):
    return f"brume-passt-{name}:net0.service"


def counters(vm):
    status, values, error = bus.busctl(vm.path, bus.VM, "GetCounters", "a{sv}", "0")
    if status != 0:
        raise AssertionError(error)
    return values[0]["net0"]


def answered(t, vm, what="an answer"):
    before = counters(vm)["rx_packets"]
    t.eventually(lambda: counters(vm)["rx_packets"] > before, what, 10)


def passt_pid(name):
    return int(service.show(unit(name), "MainPID")["MainPID"])


def gone(t, name):
    t.eventually(lambda: service.show(unit(name), "ActiveState")["ActiveState"] == "inactive",
                 "passt to end", 10)


@tap.test("the guest's network is there, in a unit of its own beside the worker's")
def test_works(t):
    before = service.traces()
    with machine("passt-a") as vm:
        vm.start()
        answered(t, vm)
        shown = service.show(unit("passt-a"), "ActiveState", "BindsTo", "Slice", "DynamicUser",
                             "MainPID", "NoNewPrivileges", "LoadState")
        worker = service.show(vm.unit, "Slice")
        t.equal((shown["ActiveState"], shown["BindsTo"], shown["Slice"], shown["NoNewPrivileges"]),
                ("active", vm.unit, worker["Slice"], "yes"))
        t.true(os.stat(f"/proc/{shown['MainPID']}").st_uid not in (0, os.stat(f"/proc/{vm.pid}").st_uid),
               "passt has a user of its own")
        vm.must("Terminate")
        gone(t, "passt-a")
    service.expect_traces(t, before)


@tap.test("it outlives the daemon, and goes with the worker")
def test_lifetime(t):
    with machine("passt-b") as vm:
        vm.start()
        old = passt_pid("passt-b")
        service.kill()
        service.restart()
        t.equal(passt_pid("passt-b"), old)
        answered(t, vm)
        os.kill(vm.pid, signal.SIGKILL)
        vm.wait_state("crashed")
        gone(t, "passt-b")
        # and again: nothing of the first is in the way
        vm.start()
        answered(t, vm)


@tap.test("its death is a cable pulled out: the machine lives, and says so")
def test_death(t):
    with machine("passt-c") as vm:
        vm.start()
        answered(t, vm)
        t.true(said("passt-c", "# link up"), "the guest has not seen its link up")
        os.kill(passt_pid("passt-c"), signal.SIGKILL)
        t.eventually(lambda: said("passt-c", "# link down"), "the guest's link to go down", 10)
        drops = counters(vm)["tx_drops"]
        t.eventually(lambda: counters(vm)["tx_drops"] > drops, "frames to be dropped", 10)
        t.equal(vm.state, "running")
        gone(t, "passt-c")


@tap.test("ports lead to the guest while it runs")
def test_forwards(t):
    with machine("passt-d", forward_tcp=["127.0.0.1/20022:22", "20080-20082:80-82"],
                 forward_udp=["20053:53"]) as vm:
        vm.start()
        answered(t, vm)
        for port in (20022, 20080, 20082):
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
        # only on the address that was given
        with socket.socket() as s:
            t.true(s.connect_ex((ADDRESS, 20022)) != 0, "a forward of one address is on another")
        vm.must("Terminate")
        gone(t, "passt-d")
        with socket.socket() as s:
            t.true(s.connect_ex(("127.0.0.1", 20080)) != 0, "the port is still open")


@tap.test("without passt a start fails with a sentence and leaves nothing")
def test_missing(t):
    before = service.traces()
    with machine("passt-e") as vm:
        os.rename(PASST, PASST + ".away")
        try:
            reply = vm.call("Start", bus.options(Wait=True))
        finally:
            os.rename(PASST + ".away", PASST)
        t.match(str(reply), "network device 'net0' .*there is no '/usr/bin/passt': install passt, "
                            "or use a tap")
        t.equal(vm.state, "failed")
        vm.start()
        answered(t, vm)
    service.expect_traces(t, before)


@tap.test("a passt that cannot be run fails the start")
def test_broken(t):
    with machine("passt-f") as vm:
        os.rename(PASST, PASST + ".away")
        try:
            with open(PASST, "wb") as f:
                f.write(b"\x7fELF nonsense")
            os.chmod(PASST, 0o755)
            reply = vm.call("Start", bus.options(Wait=True))
        finally:
            os.rename(PASST + ".away", PASST)
        t.match(str(reply), r"VM 'passt-f': 'brume-passt-passt-f:net0.service' could not be started")
        t.eventually(lambda: vm.state == "failed", "the start to be undone", 10)


@tap.test("a port that somebody has fails the start, and leaves nothing")
def test_port_taken(t):
    before = service.traces()
    with machine("passt-g", forward_tcp=["127.0.0.1/20122:22"]) as vm:
        with socket.create_server(("127.0.0.1", 20122)):
            reply = vm.call("Start", bus.options(Wait=True))
        t.match(str(reply), r"VM 'passt-g': passt of device 'net0' has ended at once: the journal of "
                            r"'brume-passt-passt-g:net0.service' tells why")
        t.equal(vm.state, "failed")
        vm.start()
        answered(t, vm)
    service.expect_traces(t, before)


setup()
tap.main()
