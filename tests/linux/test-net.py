#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-net on a tap of the daemon's: traffic in both directions, and no tap left behind."""
# timeout: 600
import hashlib
import os
import socket
import subprocess
import threading
import time

import guest
import tap

MIB = 1 << 20
TAP, HOST, INSIDE = "brumetest0", "192.168.251.1", "192.168.251.2"
MAC = "52:54:00:aa:bb:01"
NET = {"tap": TAP, "ip": HOST, "mask": "255.255.255.0", "mac": MAC}
CMDLINE = f"brume.ip={INSIDE}/24"


def machine(name, vcpus=1, **more):
    return guest.Machine(name, guest.config(vcpus, cmdline=CMDLINE, net=[{**NET, **more}]))


def receive(listener, result):
    """Takes one connection to its end: hash and length."""
    connection, _ = listener.accept()
    with connection:
        digest, length = hashlib.sha256(), 0
        while data := connection.recv(65536):
            digest.update(data)
            length += len(data)
    result.append((digest.hexdigest(), length))


def connect(address, seconds):
    """The guest's listener may come up after us."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(address, timeout=5)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


@tap.test("ping from the guest and from the host")
def test_ping(t):
    with machine("ping") as vm:
        console = vm.boot()
        t.equal(console.check("cat /sys/class/net/eth0/address"), MAC)
        t.match(console.check(f"ping -c 3 -w 20 {HOST}"), r"\b0% packet loss")
        r = subprocess.run(["ping", "-c", "3", "-w", "20", INSIDE], capture_output=True, text=True,
                           check=False)
        t.match(r.stdout, r"\b0% packet loss")
        t.equal(guest.complaints(console), [], "dmesg")


@tap.test("8 MiB from the guest to the host")
def test_to_host(t):
    with machine("send") as vm:
        console = vm.boot()
        console.check("dd if=/dev/urandom of=/tmp/data bs=1M count=8")
        inside = console.check("sha256sum /tmp/data").split()[0]
        with socket.create_server((HOST, 5001)) as listener:
            listener.settimeout(60)
            result = []
            thread = threading.Thread(target=receive, args=(listener, result))
            thread.start()
            start = time.monotonic()
            console.check(f"nc {HOST} 5001 < /tmp/data", 120)
            thread.join(60)
        tap.diag(f"{8 / (time.monotonic() - start):.1f} MiB/s")
        t.equal(result, [(inside, 8 * MIB)])


@tap.test("8 MiB from the host to the guest, two queues")
def test_to_guest(t):
    content = os.urandom(8 * MIB)
    with machine("receive", 2, num_queues=4) as vm:
        console = vm.boot()
        t.equal(console.check("ls -d /sys/class/net/eth0/queues/rx-* | wc -l").strip(), "2", "queues")
        failure = []

        def send():
            try:
                with connect((INSIDE, 5002), 60) as s:
                    s.settimeout(60)
                    s.sendall(content)
            except OSError as e:
                failure.append(str(e))

        thread = threading.Thread(target=send)
        thread.start()
        output = console.check("nc -l -p 5002 | sha256sum", 120)
        thread.join()
        t.equal(failure, [])
        t.equal(output.split()[0], hashlib.sha256(content).hexdigest())


@tap.test("the tap is there while the machine runs and gone afterwards")
def test_tap(t):
    place = f"/sys/class/net/{TAP}"
    t.true(not os.path.exists(place), f"{TAP} existed before")
    with machine("tap") as vm:
        vm.boot()
        t.true(os.path.exists(place), f"{TAP} does not exist")
        vm.shutdown()
        t.eventually(lambda: not os.path.exists(place), f"{TAP} to vanish", 10)


tap.main()
