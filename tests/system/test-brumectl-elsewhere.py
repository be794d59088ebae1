#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
brumectl and a service that is not this host's own: through ssh (-H), and a user's own (--user).
"""
import json
import os
import pwd
import shutil
import socket
import subprocess
import time

import bus
import service
import tap
import tiny

K = ("--kernel", tiny.KERNEL, "--memory", "size=32M")

# --- -H --------------------------------------------------------------------------

SSH = "/srv/ssh"
HOST = "root@127.0.0.1"

SSHD = f"""
ListenAddress 127.0.0.1:2222
HostKey {SSH}/host
AuthorizedKeysFile {SSH}/id.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
"""

CONFIG = f"""
Host 127.0.0.1
    Port 2222
    IdentityFile {SSH}/id
    IdentitiesOnly yes
    BatchMode yes
    UserKnownHostsFile {SSH}/known
    StrictHostKeyChecking yes
"""


def ssh_server(t):
    """An sshd on loopback that lets root in with a key of its own."""
    if not os.path.exists("/usr/sbin/sshd"):
        tap.skip("openssh-server is not installed")
    os.makedirs(SSH, mode=0o700)
    t.cleanup(shutil.rmtree, SSH)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{SSH}/{name}"], check=True)
    with open(f"{SSH}/host.pub") as f, open(f"{SSH}/known", "w") as known:
        known.write(f"[127.0.0.1]:2222 {f.read()}")
    with open(f"{SSH}/sshd_config", "w") as f:
        f.write(SSHD)
    os.makedirs("/root/.ssh", mode=0o700, exist_ok=True)
    t.cleanup(os.unlink, "/root/.ssh/config")
    with open("/root/.ssh/config", "w") as f:
        f.write(CONFIG)
    os.makedirs("/run/sshd", exist_ok=True)
    log = open(f"{SSH}/log", "w+")
    t.cleanup(log.close)
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", f"{SSH}/sshd_config"],
                            stdin=subprocess.DEVNULL, stderr=log)
    t.cleanup(sshd.wait)
    t.cleanup(sshd.terminate)
    t.eventually(lambda: "Server listening" in open(f"{SSH}/log").read(), "sshd listens", 10)


def there(*words):
    """(exit status, stdout, stderr) of a command about the host behind ssh."""
    return bus.ctl("-H", HOST, *words, timeout=30)


@tap.test("-H: a machine's life on another host")
def test_host(t):
    ssh_server(t)
    t.cleanup(bus.remove, "far")
    t.equal(there("create", "far", *K, "--cmdline", tiny.DEAF), (0, "", ""))
    with tiny.Machine("near"):
        t.match(there("list")[1], r"(?m)^far +stopped.*\nnear +stopped")
    t.equal(there("start", "far"), (0, "", ""))
    t.equal(json.loads(there("--json", "show", "far")[1])["State"], "running")
    for verb in ("pause", "resume", "reset"):
        t.equal((verb, there(verb, "far")), (verb, (0, "", "")))
    t.equal(there("shutdown", "far", "--force", "--timeout=100ms")[0], 0)
    t.equal(bus.vm_get("far", "State"), "stopped")
    child = subprocess.Popen(["brumectl", f"--host={HOST}", "events", "--timeout=1"], text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    time.sleep(0.7)
    t.equal(there("delete", "far"), (0, "", ""))
    t.match(child.communicate(timeout=10)[0], "far VMRemoved")
    t.equal(there("show", "far")[0], 3)


@tap.test("-H: what cannot be done from afar says so")
def test_host_refusals(t):
    ssh_server(t)
    with tiny.Machine("far") as vm:
        vm.start()
        for words, text in (
                (["console", "far"], rf"a console cannot come through ssh.* ssh -t {HOST} brumectl console far"),
                (["start", "far", "--console"], rf"a console cannot come through ssh.* ssh -t {HOST} brumectl"),
                (["run", *K], rf"'run' needs the console.* ssh -t {HOST} brumectl run"),
                (["create", "a", "--kernel", "vmlinuz"], r"kernel: .*'vmlinuz'.*absolute"),
                (["create", "a", *K, "--disk", "path=root.img"], r"disk: path: .*'root\.img'.*absolute"),
        ):
            status, out, err = there(*words)
            t.equal((words, status, out), (words, 2, ""), err)
            t.match(err, text)
        # an absolute path is the other host's
        status, _, err = there("create", "a", *K, "--disk", "path=/nowhere")
        if status == 0:
            t.cleanup(bus.remove, "a")
            status, _, err = there("start", "a")
        t.equal(status, 1, err)
        t.match(err, "/nowhere.*No such file")


@tap.test("-H: a host that cannot be reached: exit status 5 and who says no", cases=[
    ("nobody listens", ["root@127.0.0.1:9"], "(?i)connection refused"),
    ("nobody lets us in", ["mallory@127.0.0.1"], "(?i)permission denied"),
])
def test_host_unreachable(t, host, text):
    ssh_server(t)
    status, out, err = bus.ctl("-H", *host, "list", timeout=30)
    t.equal((status, out), (5, ""), err)
    t.match(err, text)                                  # ssh's own words
    t.match(err, r"(?m)^brumectl: cannot reach the system bus of " + host[0])


# --- --user ----------------------------------------------------------------------

class Session:
    """A user with a systemd manager and a bus of his own, as after a login."""

    def __init__(self, t, user, groups=()):
        entry = pwd.getpwnam(user)
        self.user, self.home, self.runtime = user, entry.pw_dir, f"/run/user/{entry.pw_uid}"
        self._manager = f"user@{entry.pw_uid}.service"
        for group in groups:
            subprocess.run(["gpasswd", "--add", user, group], check=True, capture_output=True)
            t.cleanup(subprocess.run, ["gpasswd", "--delete", user, group], check=True,
                      capture_output=True)
        _logind(t)
        t.cleanup(self._end)
        subprocess.run(["loginctl", "enable-linger", user], check=True)
        t.eventually(lambda: service.show(self._manager, "ActiveState") == {"ActiveState": "active"},
                     f"{self._manager} runs")

    def _end(self):
        subprocess.run(["loginctl", "disable-linger", self.user], check=False)
        try:
            subprocess.run(["systemctl", "stop", self._manager], timeout=10, check=True)
        except subprocess.TimeoutExpired:               # a machine that a failed test left running
            service.systemctl("kill", "--signal=KILL", self._manager)
            service.systemctl("reset-failed", self._manager, check=False)
        shutil.rmtree(f"{self.home}/.local", ignore_errors=True)

    def run(self, *argv, text=None, timeout=20):
        """(exit status, stdout, stderr) of a command of that user."""
        r = subprocess.run(["runuser", "-u", self.user, "--", "env", f"XDG_RUNTIME_DIR={self.runtime}",
                            *argv], input=text or "", capture_output=True, text=True, timeout=timeout,
                           check=False, cwd=self.home)
        return r.returncode, r.stdout, r.stderr

    def ctl(self, *words, **kwargs):
        return self.run("brumectl", "--user", *words, **kwargs)

    def state(self, name):
        return json.loads(self.ctl("--json", "show", name)[1])["State"]


def _logind(t):
    """The rig masks it, because nothing else needs it."""
    mask = "/etc/systemd/system/systemd-logind.service"
    if not os.path.exists("/usr/lib/systemd/system/user@.service") or not shutil.which("loginctl"):
        tap.skip("there is no logind")
    if not os.path.lexists(mask):
        return
    os.unlink(mask)
    service.systemctl("daemon-reload")

    def back():
        service.systemctl("stop", "systemd-logind.service")
        os.symlink("/dev/null", mask)
        service.systemctl("daemon-reload")

    t.cleanup(back)
    service.systemctl("start", "systemd-logind.service")


def tun_for_all(t):
    """What udev does everywhere; the container's node is a copy of a machine's that may lack it."""
    mode = os.stat("/dev/net/tun").st_mode & 0o777
    os.chmod("/dev/net/tun", 0o666)
    t.cleanup(os.chmod, "/dev/net/tun", mode)


@tap.test("--user: a tap that root made for the user")
def test_user_tap(t):
    session = Session(t, "alice", ["kvm"])
    tun_for_all(t)
    subprocess.run(["ip", "tuntap", "add", "alice0", "mode", "tap", "user", "alice"], check=True)
    t.cleanup(subprocess.run, ["ip", "link", "delete", "alice0"], check=True)
    subprocess.run(["ip", "link", "set", "alice0", "up"], check=True)
    status, out, err = session.ctl("run", *K, "--cmdline", "test=pci-enum", "--net", "tap=alice0")
    t.equal((status, err), (0, ""))
    t.match(out, r"# device \S+ 1af4:1041")
    t.true("alice0" in service.interfaces(), "the tap is gone, though we did not make it")


def host_network(t):
    """passt takes addresses and routes of the host's: this container has none of its own. The gateway."""
    address, gateway = "192.0.2.10/24", "192.0.2.1"
    for argv in (["tuntap", "add", "dev", "hosteth0", "mode", "tap"], ["address", "add", address, "dev", "hosteth0"],
                 ["link", "set", "hosteth0", "up"], ["route", "add", "default", "via", gateway]):
        subprocess.run(["ip", *argv], check=True)
    t.cleanup(subprocess.run, ["ip", "link", "delete", "hosteth0"], check=True)
    return gateway


@tap.test("--user: the host's network by passt, without an interface or a privilege")
def test_user_passt(t):
    session = Session(t, "alice", ["kvm"])
    gateway = int.from_bytes(socket.inet_aton(host_network(t)), "big")
    unit = "brume-passt-mine:lan.service"

    def rx_packets():
        return json.loads(session.ctl("--json", "counters", "mine")[1])["lan"]["rx_packets"]

    def is_active():
        return session.run("systemctl", "--user", "is-active", unit)[1].strip()

    t.equal(session.ctl("create", "mine", *K, "--cmdline", f"test=net-arp count=0 ip={gateway:#x}", "--net",
                        "id=lan,backend=passt,forward_tcp=[127.0.0.1/20022:22]"), (0, "", ""))
    t.equal(session.ctl("start", "mine"), (0, "", ""))
    t.eventually(lambda: rx_packets() > 3, "answers to the guest's ARP requests", 20)
    t.equal(is_active(), "active")
    pid = int(session.run("systemctl", "--user", "show", "--value", "-p", "MainPID", unit)[1])
    t.equal(os.stat(f"/proc/{pid}").st_uid, pwd.getpwnam("alice").pw_uid, "who runs passt")
    with socket.create_connection(("127.0.0.1", 20022), timeout=5):
        pass
    t.equal(session.run("systemctl", "--user", "restart", "brumed")[0], 0)
    before = rx_packets()
    t.eventually(lambda: rx_packets() > before, "answers after a restart of the service", 20)
    t.equal(session.ctl("terminate", "mine"), (0, "", ""))
    t.eventually(lambda: is_active() == "inactive", "passt to end", 10)
    t.equal(session.ctl("delete", "mine"), (0, "", ""))
    t.equal(session.run("systemctl", "--user", "--failed", "--plain", "--no-legend")[1], "")


@tap.test("--user: an ordinary user's machine, without polkit and without root")
def test_user(t):
    session = Session(t, "alice", ["kvm"])
    before = service.traces()
    image = tiny.image(f"{session.home}/root.img")
    t.cleanup(os.unlink, image)
    shutil.chown(image, "alice")

    t.equal(session.ctl("list"), (0, "", "No virtual machines.\n"))
    t.equal(session.ctl("create", "mine", *K, "--cmdline", tiny.ECHO, "--disk", "path=root.img"), (0, "", ""))
    t.equal(session.ctl("start", "mine"), (0, "", ""))
    t.match(session.ctl("list")[1], r"mine +running +1 +32M +alice +\d+")
    shown = json.loads(session.ctl("--json", "show", "mine")[1])
    t.equal((shown["Unit"], shown["Owner"]), ("brume-vm-mine.service", os.stat(image).st_uid))
    t.match(session.run("systemctl", "--user", "is-active", shown["Unit"])[1], "^active$")
    t.equal(os.stat(f"/proc/{shown['MainPID']}").st_uid, os.stat(image).st_uid)
    now = service.traces()
    t.equal({k: v for k, v in now.items() if k != "workers"},
            {k: v for k, v in before.items() if k != "workers"}, "the system's service knows nothing")

    t.match(session.ctl("console", "mine", "--timeout=0.5", text="hello")[1], "hello")
    t.equal(session.ctl("pause", "mine"), (0, "", ""))
    t.equal(session.run("systemctl", "--user", "restart", "brumed")[0], 0)
    t.equal(session.state("mine"), "paused")
    t.equal(session.ctl("resume", "mine"), (0, "", ""))
    t.match(session.ctl("start", "mine")[2], r"it is running\nhint: 'brumectl --user show mine'")
    t.equal(session.ctl("shutdown", "mine", "--force", "--timeout=100ms")[0], 0)
    t.equal(session.state("mine"), "stopped")
    t.equal(session.ctl("delete", "mine"), (0, "", ""))

    status, out, err = session.ctl("run", *K, "--cmdline", tiny.ENDS)
    t.equal((status, err), (0, ""))
    t.match(out, r"(?m)^done \d+ 0")
    t.equal(session.ctl("list")[1], "")
    t.equal(session.run("systemctl", "--user", "--failed", "--plain", "--no-legend")[1], "")


@tap.test("--user: what the user may not do is said in a sentence", cases=[
    ("/dev/kvm", [], 1, r"'/dev/kvm': Permission denied\nhint: the user has to be in the group kvm"),
    ("a tap", ["--net", "tap=none0"], 1, r"cannot use the tap 'none0': that needs CAP_NET_ADMIN or a tap that "
     r"belongs to this user\nhint: root makes taps: ip tuntap add NAME mode tap user USER"),
    ("somebody else's file", ["--disk", "path=/etc/shadow"], (1, 4),
     r"cannot open '/etc/shadow' for writing: Permission denied\n$"),
])
def test_user_refused(t, words, expected, text):
    session = Session(t, "bob", ["kvm"] if words else [])
    tun_for_all(t)
    status, _, err = session.ctl("create", "mine", *K, *words)
    if status == 0:
        status, _, err = session.ctl("start", "mine")
    t.true(status in (expected if isinstance(expected, tuple) else (expected,)), f"{status}: {err}")
    t.match(err, text)
    t.equal(session.run("systemctl", "--user", "--failed", "--plain", "--no-legend")[1], "")


@tap.test("--user without a session: exit status 5, and what is missing")
def test_user_nobody(t):
    status, _, err = bus.ctl("--user", "list", user="mallory")
    t.equal(status, 5)
    t.match(err, "cannot connect to the session bus: .*\nhint: --user needs a session")


tap.main()
