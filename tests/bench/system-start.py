#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Start on the system bus to the guest's first instruction, with the worker's full sandbox.

    tests/rig/system --build DIR system-start.py       (tests/bench/run --system)

Beside it what systemd itself takes for a unit: alone, with a dynamic user, and with the properties
of a worker's unit that make new namespaces.
"""
# timeout: 300
import json
import statistics
import subprocess
import time

import bus
import tap
import tiny

BENCH = "/brume/guest/bench-start-bus"
RUNS = 20
NAMESPACES = ["DynamicUser=yes", "PrivateNetwork=yes", "PrivateIPC=yes", "PrivateUsers=yes",
              "ProtectProc=invisible", "ProcSubset=pid", "PrivateTmp=yes", "ProtectSystem=strict",
              "ProtectHome=yes", "PrivateDevices=no", "NoNewPrivileges=yes"]


def line(benchmark, peer, values):
    values = sorted(values)
    tap.diag(json.dumps({"benchmark": benchmark, "peer": peer, "unit": "ms",
                         "median": round(statistics.median(values), 3), "min": round(values[0], 3),
                         "p90": round(values[len(values) * 9 // 10], 3), "runs": len(values)}))


@tap.test("Start on the bus")
def test_start(t):
    with tiny.Machine("bench", tiny.config(tiny.DEAF, memory=128 << 20)):
        r = subprocess.run([BENCH, bus.vm_path("bench").rsplit("/", 1)[1]], capture_output=True, text=True,
                           timeout=200, check=False)
        tap.diag(r.stdout.strip())
        t.equal(r.returncode, 0, r.stderr.strip())


@tap.test("a unit of systemd alone")
def test_unit(t):
    del t
    for name, properties in (("systemd-run", []), ("systemd-run-dynamic-user", NAMESPACES[:1]),
                             ("systemd-run-namespaces", NAMESPACES)):
        values = []
        for _ in range(RUNS):
            start = time.monotonic()
            subprocess.run(["systemd-run", "--quiet", "--wait", *(f"--property={p}" for p in properties),
                            "/bin/true"], check=True, capture_output=True)
            values.append((time.monotonic() - start) * 1e3)
        line("start-bus", name, values)


@tap.test("libvirt-dbus")
def test_libvirt(t):
    del t
    tap.skip("not installed in this rig's root")


tap.main()
