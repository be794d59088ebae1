#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""virtio-vsock with the stock driver: echo both ways, stream and seqpacket, many at once."""
# timeout: 600
import hashlib
import os
import socket
import threading
import time

import bus
import guest
import tap

MIB = 1 << 20
SOCKET = "/run/brume-test-vsock"
DISK = "/var/tmp/vsock-peer.img"
PEER = "/brume/guest/vsock-peer"
TYPES = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}


def connect(path, kind="stream"):
    s = socket.socket(socket.AF_UNIX, TYPES[kind])
    s.settimeout(60)
    s.connect(path)
    return s


def dial(port, kind="stream"):
    """A connection to a port of the guest."""
    s = connect(SOCKET + ("_seqpacket" if kind == "seqpacket" else ""), kind)
    s.sendall(f"CONNECT {port}\n".encode())
    answer = b""
    while not answer.endswith(b"\n"):
        if not (data := s.recv(1 if kind == "stream" else 64)):
            raise ConnectionRefusedError(port)
        answer += data
    assert answer.startswith(b"OK "), answer
    return s


class Echo:
    """Listens where a port of the host is, and echoes."""

    def __init__(self, port, kind="stream"):
        self.path = f"{SOCKET}_{port}"
        self.listener = socket.socket(socket.AF_UNIX, TYPES[kind])
        self.listener.bind(self.path)
        self.listener.listen(512)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(s,), daemon=True).start()

    @staticmethod
    def echo(s):
        with s:
            while data := s.recv(65536):
                s.sendall(data)
            s.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        os.unlink(self.path)


def refused(port):
    try:
        dial(port).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


def exchange(s, content):
    """Sends it all, says that this was all, and takes what comes back to its end."""
    def send():
        s.sendall(content)
        s.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    digest, length = hashlib.sha256(), 0
    while data := s.recv(65536):
        digest.update(data)
        length += len(data)
    thread.join()
    return digest.hexdigest(), length


def counters(vm):
    return bus.must(bus.vm(vm.name, "GetCounters", bus.options())).text


@tap.test("streams and messages both ways, many at once, and the sockets are gone afterwards")
def test_vsock(t):
    with open(PEER, "rb") as f, open(DISK, "wb") as disk:
        peer = f.read()
        disk.write(peer + bytes(-len(peer) % 4096))
    config = guest.config(vsock={"cid": 42, "socket": SOCKET}, disks=[{"path": DISK}])
    with guest.Machine("vsock", config) as vm:
        console = vm.boot()
        console.check("dd if=/dev/vda of=/tmp/peer bs=4096; chmod +x /tmp/peer")
        for port, kind in ((1000, "stream"), (1001, "seqpacket")):
            console.check(f"(/tmp/peer serve {kind} {port} > /tmp/{kind} 2>&1 &)")
        for kind in TYPES:
            console.check(f"while ! grep -q listening /tmp/{kind}; do usleep 50000; done")

        # from the host
        with dial(1000) as s:
            s.sendall(b"hello")
            t.equal(s.recv(64), b"hello", "echo of the guest")
        content = os.urandom(4 * MIB)
        start = time.monotonic()
        with dial(1000) as s:
            t.equal(exchange(s, content), (hashlib.sha256(content).hexdigest(), len(content)),
                    "4 MiB there and back")
        tap.diag(f"{8 / (time.monotonic() - start):.1f} MiB/s both ways together")
        with dial(1001, "seqpacket") as s:
            for n in (1, 100, 4096, 5000, 40000):
                s.sendall(content[:n])
                t.true(s.recv(65536) == content[:n], f"a message of {n} bytes")
        several = [dial(1000) for _ in range(64)]
        for i, s in enumerate(several):
            s.sendall(b"%d" % i)
        for i, s in enumerate(several):
            t.equal(s.recv(64), b"%d" % i)
            s.close()
        t.true(refused(999), "there is nobody at port 999")

        # from the guest
        with Echo(2000), Echo(2001, "seqpacket"):
            console.check("head -c 4194304 /dev/urandom > /tmp/data")
            want = console.check("sha256sum < /tmp/data")
            t.equal(console.check("/tmp/peer connect stream 2000 < /tmp/data | sha256sum", 120),
                    want, "4 MiB from the guest and back")
            t.match(console.check("/tmp/peer many stream 2000 128", 120), "128 echoes")
            t.match(console.check("/tmp/peer messages 2001 200", 120), "200 messages")
            t.match(console.run("/tmp/peer connect seqpacket 2000 < /dev/null")[0], "reset|refused")
        t.match(console.run("/tmp/peer connect stream 2000 < /dev/null")[0], "reset|refused")

        t.match(counters(vm), r"'connections': (uint64 )?\d{3}")
        t.equal(guest.complaints(console, "vsock|virtio"), [], "dmesg")
        # a client whose guest goes down is told
        with dial(1000) as s:
            vm.shutdown()
            t.true(s.recv(1) == b"", "the end")
        t.eventually(lambda: not os.path.exists(SOCKET), "the socket to be removed", 10)
        t.true(not os.path.exists(SOCKET + "_seqpacket"), "the other one")
    guest.unlink(DISK)


tap.main()
