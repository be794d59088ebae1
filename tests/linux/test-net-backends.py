#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
What can be behind a virtio network device, with a stock driver in front of it: the kernel
(vhost-net), the worker's own path, a macvtap, passt. One guest has all four, eth0 to eth3.
"""
# timeout: 900
import contextlib
import fcntl
import hashlib
import os
import re
import socket
import struct
import subprocess
import threading
import time

import bus
import fdbus
import guest
import guestconsole
import guestprogram
import service
import tap

MIB = 1 << 20
MAC = "52:54:00:aa:bb:0{}"
VHOST, VHOST_GUEST = "192.168.241.1", "192.168.241.2"
USER, USER_GUEST = "192.168.242.1", "192.168.242.2"
LOWER, MACVTAP, PEER = "lower0", "mvtap0", "peer0"
PEER_IP, MACVTAP_GUEST = "192.168.243.1", "192.168.243.2"
# what passt takes for the guest's, and a server that is not on it
OUTSIDE, GATEWAY, SERVER = "192.0.2.10", "192.0.2.1", "198.51.100.5"
FORWARD = 15002
MASK = "255.255.255.0"
GIVEN, GIVEN_GUEST = "192.168.244.1", "192.168.244.2"
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x400454ca, 2, 0x1000, 0x4000, 0x100
NETS = [
    {"id": "kernel", "tap": "bkernel", "ip": VHOST, "mask": MASK, "mac": MAC.format(1), "vhost": True,
     "num_queues": 4},
    {"id": "user", "tap": "buser", "ip": USER, "mask": MASK, "mac": MAC.format(2),
     "host_mac": "52:54:00:aa:cc:02"},
    {"id": "macvtap", "tap": MACVTAP, "mac": MAC.format(3)},
    {"id": "passt", "backend": "Passt", "mac": MAC.format(4), "forward_tcp": [f"127.0.0.1/{FORWARD}:5002"],
     "forward_udp": [f"127.0.0.1/{FORWARD}:5003"]},
]
vm, console = None, None


def run(*argv):
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    if r.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: {r.stderr.strip()}")
    return r.stdout


def setup():
    for module in ("dummy", "macvtap", "macvlan"):
        run("modprobe", module)
    # its unit knows the devices of drivers that were there when it started
    service.restart()
    run("ip", "link", "add", LOWER, "type", "dummy")
    run("ip", "link", "set", LOWER, "up")
    run("ip", "link", "add", "link", LOWER, "name", MACVTAP, "type", "macvtap", "mode", "bridge")
    run("ip", "link", "add", "link", LOWER, "name", PEER, "type", "macvlan", "mode", "bridge")
    run("ip", "address", "add", f"{PEER_IP}/24", "dev", PEER)
    run("ip", "link", "set", PEER, "up")
    run("ip", "link", "add", "outside0", "type", "dummy")
    run("ip", "address", "add", f"{OUTSIDE}/24", "dev", "outside0")
    run("ip", "link", "set", "outside0", "up")
    run("ip", "route", "add", "default", "via", GATEWAY)
    run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")


def boot():
    global vm, console
    vm = guest.Machine("nets", guest.config(2, cmdline=f"brume.ip={VHOST_GUEST}/24", net=NETS))
    vm.__enter__()
    # modules of the host's are loaded on the way
    bus.must(bus.vm(vm.name, "Start", bus.options(Wait=True), timeout=180))
    console = guestconsole.open_vm(vm.name)
    console.wait_ready(guest.BOOT_SECONDS)
    for device, address in (("eth1", USER_GUEST), ("eth2", MACVTAP_GUEST)):
        console.check(f"ip addr add {address}/24 dev {device}; ip link set {device} up")
    console.check("ip link set eth3 up")


def counters(device):
    status, values, error = bus.busctl(vm.path, bus.VM, "GetCounters", "a{sv}", "0")
    if status != 0:
        raise AssertionError(error)
    return values[0][device]


def receive(listener, result):
    connection, _ = listener.accept()
    with connection:
        digest, length = hashlib.sha256(), 0
        while data := connection.recv(1 << 18):
            digest.update(data)
            length += len(data)
    result.append((digest.hexdigest(), length))


def to_host(t, address, size, what):
    """size MiB from the guest to a server at address."""
    console.check(f"[ -s /tmp/data ] || dd if=/dev/urandom of=/tmp/data bs=1M count={size}")
    inside = console.check("sha256sum /tmp/data").split()[0]
    with socket.create_server((address, 5001)) as listener:
        listener.settimeout(60)
        result = []
        thread = threading.Thread(target=receive, args=(listener, result))
        thread.start()
        start = time.monotonic()
        console.check(f"nc {address} 5001 < /tmp/data", 120)
        thread.join(60)
    tap.diag(f"{what}: {size / (time.monotonic() - start):.1f} MiB/s to the host")
    t.equal(result, [(inside, size * MIB)], what)


def connect(address, seconds=60):
    """The guest's listener may come up after us."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            return socket.create_connection(address, timeout=5)
        if time.monotonic() > end:
            raise AssertionError(f"no connection to {address}")
        time.sleep(0.3)


def to_guest(t, address, size, what, port=None):
    """size MiB from the host to a listener of the guest's, on port, that is reached at address."""
    content, failure = os.urandom(size * MIB), []

    def send():
        for attempt in range(10):
            try:
                with connect(address) as s:
                    s.settimeout(60)
                    s.sendall(content)
                    s.shutdown(socket.SHUT_WR)
                    return
            except (OSError, AssertionError) as e:
                if attempt == 9:
                    failure.append(str(e))
                time.sleep(1)

    thread = threading.Thread(target=send)
    start = time.monotonic()
    thread.start()
    # an nc whose input ends says so to its peer at once: passt of 2023 takes no acknowledgements then
    output = console.check(f"[ -p /tmp/open ] || mkfifo /tmp/open; exec 3<>/tmp/open; "
                           f"nc -l -p {port or address[1]} <&3 | sha256sum", 120)
    thread.join()
    tap.diag(f"{what}: {size / (time.monotonic() - start):.1f} MiB/s to the guest")
    t.equal(failure, [], what)
    t.equal(output.split()[0], hashlib.sha256(content).hexdigest(), what)


def ping(t, address):
    t.match(console.check(f"ping -c 3 -w 20 {address}"), r"\b0% packet loss")


@tap.test("vhost: both directions past the worker")
def test_vhost(t):
    ping(t, VHOST)
    to_host(t, VHOST, 8, "vhost")
    to_guest(t, (VHOST_GUEST, 5002), 8, "vhost")
    c = counters("kernel")
    t.equal((c["rx_packets"], c["tx_packets"], c["tx_kicks"], c["rx_kicks"]), (0, 0, 0, 0))
    t.true(any(f.startswith("vhost-") for f in kernel_threads()), "the kernel has no vhost thread")


def kernel_threads():
    names = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as f:
            names.append(f.read().strip())
    return names


@tap.test("vhost: a pause and a resume lose nothing")
def test_vhost_pause(t):
    for _ in range(3):
        bus.must(bus.vm(vm.name, "Pause", bus.options()))
        bus.must(bus.vm(vm.name, "Resume", bus.options()))
    ping(t, VHOST)
    to_host(t, VHOST, 8, "vhost after pauses")
    with socket.create_server((VHOST, 5001)) as listener:
        result = []
        listener.settimeout(60)
        thread = threading.Thread(target=receive, args=(listener, result))
        thread.start()
        pauses = threading.Thread(target=pause_some_times)
        pauses.start()
        console.check(f"for i in 1 2 3; do cat /tmp/data; done | nc {VHOST} 5001", 180)
        thread.join(60)
        pauses.join()
    t.equal(result[0][1], 24 * MIB, "during pauses")


def pause_some_times():
    for _ in range(4):
        bus.must(bus.vm(vm.name, "Pause", bus.options()))
        time.sleep(0.2)
        bus.must(bus.vm(vm.name, "Resume", bus.options()))
        time.sleep(0.3)


@tap.test("vhost: two queues, one out of use and back")
def test_vhost_queues(t):
    t.equal(console.check("ls -d /sys/class/net/eth0/queues/rx-* | wc -l").strip(), "2", "queues")
    ethtool("-L eth0 combined 1")
    ping(t, VHOST)
    ethtool("-L eth0 combined 2")
    ping(t, VHOST)
    to_host(t, VHOST, 8, "vhost, two queues")


@tap.test("the worker's path: both directions, counted")
def test_user(t):
    ping(t, USER)
    with open("/sys/class/net/buser/address") as f:
        t.equal(f.read().strip(), "52:54:00:aa:cc:02", "host_mac")
    to_host(t, USER, 8, "user")
    to_guest(t, (USER_GUEST, 5002), 8, "user")
    c = counters("user")
    t.true(c["tx_bytes"] > 8 * MIB and c["rx_bytes"] > 8 * MIB, f"counters {c}")
    tap.diag(f"bytes a packet: tx {c['tx_bytes'] // c['tx_packets']}, rx {c['rx_bytes'] // c['rx_packets']}; "
             f"packets a kick: {c['tx_packets'] / max(1, c['tx_kicks']):.1f}")


def ethtool(words):
    """The guest's initramfs has none: this host's goes there."""
    program = guestprogram.give(console, "/usr/sbin/ethtool", VHOST)
    return console.check(f"{program} {words}")


@tap.test("offloads are switched while the device runs", [("vhost", "eth0"), ("the worker's path", "eth1")])
def test_offloads(t, device):
    address, inside = (VHOST, VHOST_GUEST) if device == "eth0" else (USER, USER_GUEST)
    name = "bkernel" if device == "eth0" else "buser"

    def large_to_guest():
        """Does the tap take segments that the host has not cut? As the kernel lists its features."""
        text = run("ethtool", "-k", name)
        return re.search(r"^\s*tx-tcp-segmentation: (\w+)", text, re.M).group(1)

    t.equal(large_to_guest(), "on")
    # GRO in hardware is what the driver calls the guest offloads: it asks by the control queue
    text = ethtool(f"-k {device}")
    feature = "rx-gro-hw" if "rx-gro-hw: on" in text and "[fixed]" not in \
        re.search(r"rx-gro-hw:.*", text).group(0) else "lro"
    ethtool(f"-K {device} {feature} off")
    t.equal(large_to_guest(), "off", f"{feature} off")
    to_guest(t, (inside, 5002), 4, f"{device} without {feature}")
    ethtool(f"-K {device} {feature} on")
    t.equal(large_to_guest(), "on", f"{feature} on")
    ethtool(f"-K {device} tso off gso off tx off")
    to_host(t, address, 8, f"{device} without tso, gso and tx checksums")
    ethtool(f"-K {device} tx on tso on gso on")
    to_host(t, address, 8, f"{device} with all")


@tap.test("the link goes down and comes back", [("vhost", "kernel", "eth0", VHOST),
                                                ("the worker's path", "user", "eth1", USER),
                                                ("passt", "passt", "eth3", None)])
def test_link(t, device, name, address):
    def carrier():
        return console.check(f"cat /sys/class/net/{name}/carrier").strip()

    def wait(value):
        t.eventually(lambda: carrier() == value, f"carrier {value}", 20)

    def set_link(up):
        path = f"{vm.path}/device/{bus.encode(device)}"
        status, _, error = bus.busctl(path, f"{bus.NAME}.Device.Net", "SetLink", "ba{sv}",
                                      "true" if up else "false", "0")
        t.equal((status, error), (0, ""))

    wait("1")
    set_link(False)
    wait("0")
    if address:
        t.match(console.run(f"ping -c 1 -w 3 {address}")[0], "100% packet loss|unreachable")
    set_link(True)
    wait("1")
    if address:
        ping(t, address)


@tap.test("macvtap: the guest has its address, and talks to its neighbour")
def test_macvtap(t):
    with open(f"/sys/class/net/{MACVTAP}/address") as f:
        t.equal(f.read().strip(), MAC.format(3))
    ping(t, PEER_IP)
    to_host(t, PEER_IP, 8, "macvtap")
    to_guest(t, (MACVTAP_GUEST, 5002), 8, "macvtap")


@tap.test("passt: an address by DHCP, and a server beyond it")
def test_passt(t):
    t.match(console.check("busybox udhcpc -i eth3 -n -q -s /bin/true 2>&1", 60),
            rf"lease of {re.escape(OUTSIDE)} obtained")
    console.check(f"ip addr add {OUTSIDE}/24 dev eth3; ip route add {SERVER}/32 via {GATEWAY} dev eth3")
    to_host(t, SERVER, 8, "passt")
    # what listens on the host's loopback addresses is not the guest's to see
    with socket.create_server(("127.0.0.1", 5009)):
        output, status = console.run(f"echo | nc -w 3 {GATEWAY} 5009")
        t.true(status != 0, f"the guest reached a loopback service: {output}")
    c = counters("passt")
    t.true(c["tx_bytes"] > 8 * MIB and c["rx_bytes"] > 0, f"counters {c}")
    tap.diag(f"passt: {c['tx_bytes'] // c['tx_packets']} and {c['rx_bytes'] // c['rx_packets']} bytes a packet, "
             f"{c['tx_packets'] / max(1, c['tx_kicks']):.1f} packets a kick")


def given_queue(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    return fd


@tap.test("passt: ports of the host's lead to the guest")
def test_forwards(t):
    to_guest(t, ("127.0.0.1", FORWARD), 8, "passt, forwarded", 5002)
    # a conversation, both sides of which end when they like
    thread = threading.Thread(target=console.check, args=("echo hello | nc -l -p 5002", 60))
    thread.start()
    t.eventually(lambda: said(b"hi\n") == b"hello\n", "the guest's answer", 30)
    thread.join()
    # nothing in the guest can listen for datagrams: its kernel counts those for nobody
    before = datagrams_for_nobody()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"a datagram", ("127.0.0.1", FORWARD))
        t.eventually(lambda: datagrams_for_nobody() == before + 1, "the datagram to come", 20)


def datagrams_for_nobody():
    names, values = console.check("grep ^Udp: /proc/net/snmp").splitlines()
    return int(values.split()[names.split().index("NoPorts")])


def said(text):
    """What the guest's end of a new forwarded connection has to say."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", FORWARD), timeout=5) as s:
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while data := s.recv(100):
            answer += data
        return answer
    return None


@tap.test("queues of a tap that the caller opened, for a device that comes while the guest runs")
def test_given(t):
    fds = {"q0": given_queue("bgiven"), "q1": given_queue("bgiven")}
    run("ip", "address", "add", f"{GIVEN}/24", "dev", "bgiven")
    run("ip", "link", "set", "bgiven", "up")
    try:
        bus.must(fdbus.add_device(vm.name, "net", "given", {"fds": [{"fd": "q0"}, {"fd": "q1"}],
                                                            "mac": MAC.format(5)}, fds))
    finally:
        for fd in fds.values():
            os.close(fd)
    console.check("for i in $(seq 150); do [ -e /sys/class/net/eth4 ] && exit 0; sleep 0.2; done; exit 1", 60)
    console.check(f"ip addr add {GIVEN_GUEST}/24 dev eth4; ip link set eth4 up")
    t.match(ethtool("-l eth4"), r"(?s)maximums:.*Combined:\s+2\b.*Current.*Combined:\s+\d")
    for combined in (2, 1, 2):
        ethtool(f"-L eth4 combined {combined}; true")
        t.match(ethtool("-l eth4"), rf"(?s)Current.*Combined:\s+{combined}\b")
        ping(t, GIVEN)
        to_host(t, GIVEN, 8, f"given, {combined} in use")
        to_guest(t, (GIVEN_GUEST, 5002), 8, f"given, {combined} in use")
    c = counters("given")
    t.true(c["tx_bytes"] > 24 * MIB and c["rx_bytes"] > 24 * MIB, f"counters {c}")
    bus.must(bus.vm(vm.name, "RemoveDevice", bus.text("given"), bus.options(Wait=True), timeout=90))
    t.eventually(lambda: not os.path.exists("/sys/class/net/bgiven"), "the tap to vanish", 10)


@tap.test("the guest's kernel has nothing to say about it, and the taps go")
def test_end(t):
    t.equal(guest.complaints(console), [], "dmesg")
    vm.shutdown()
    t.eventually(lambda: not os.path.exists("/sys/class/net/bkernel"), "the tap to vanish", 10)
    t.true(os.path.exists(f"/sys/class/net/{MACVTAP}"), "the macvtap is not ours to remove")
    vm.__exit__()


setup()
try:
    boot()
except AssertionError:
    tap.diag(subprocess.run(["journalctl", "-b", "-n", "60", "--no-pager"], capture_output=True, text=True,
                            check=False).stdout)
    raise
tap.main()
