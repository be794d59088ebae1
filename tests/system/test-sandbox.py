#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a worker is locked into: systemd's view of its unit, the kernel's view of its process."""
import ctypes
import grp
import os
import pwd
import re
import socket
import stat
import subprocess
import time

import service
import tap
import tiny

IMAGE = "/srv/sandbox.img"


def running(t, name="box", **more):
    """A worker with a disk, so that it has threads and descriptors of every kind it usually has."""
    tiny.image(IMAGE)
    t.cleanup(os.unlink, IMAGE)
    vm = tiny.Machine(name, tiny.config("test=count hz=10", vcpus=2, disks=[{"path": IMAGE}], **more))
    t.cleanup(vm.__exit__)
    return vm.__enter__().start()


def status(pid, thread=None):
    """/proc/PID/status as a dictionary."""
    path = f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status"
    with open(path) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def threads(pid):
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


@tap.test("systemd-analyze security gives the unit at most 1.0")
def test_security(t):
    vm = running(t)
    out = subprocess.run(["systemd-analyze", "security", "--no-pager", vm.unit], capture_output=True,
                         text=True, check=False).stdout
    level = float(re.search(r"Overall exposure level.*?: ([\d.]+)", out).group(1))
    tap.diag(f"exposure level {level}")
    t.true(level <= 1.0, f"exposure level is {level}:\n{out}")


@tap.test("the worker has a user of its own, without name on the host and without groups")
def test_user(t):
    vm = running(t)
    s = status(vm.pid)
    uids, gids = set(s["Uid"].split()), set(s["Gid"].split())
    t.equal((len(uids), len(gids)), (1, 1), "real, effective, saved, fs")
    uid = int(uids.pop())
    t.true(61184 <= uid <= 65519, f"uid {uid} is not one of systemd's dynamic users")
    t.true(uid not in [p.pw_uid for p in pwd.getpwall()], f"uid {uid} is in /etc/passwd")
    t.true(set(map(int, s["Groups"].split())) <= {int(gids.pop())}, f"groups {s['Groups']}")
    t.true(str(grp.getgrnam("kvm").gr_gid) not in s["Groups"].split(), "the worker is in group kvm")


@tap.test("two workers have different users")
def test_two_users(t):
    with tiny.Machine("one") as one, tiny.Machine("two") as two:
        uids = {status(vm.start().pid)["Uid"].split()[0] for vm in (one, two)}
        t.equal(len(uids), 2, f"uids {uids}")


@tap.test("every thread: no capability, no new privileges, filtered, not dumpable for others")
def test_threads(t):
    vm = running(t)
    tasks = threads(vm.pid)
    t.true(len(tasks) >= 3, f"only {len(tasks)} threads: main and two vCPUs at least")
    for thread in tasks:
        s = status(vm.pid, thread)
        for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            t.equal(int(s[cap], 16), 0, f"{cap} of thread {s['Name']}")
        t.equal(s["NoNewPrivs"], "1", f"NoNewPrivs of thread {s['Name']}")
        t.equal(s["Seccomp"], "2", f"Seccomp of thread {s['Name']}")
    # systemd's filters are on all of them; each kind of thread has its own, tighter one besides
    filters = {status(vm.pid, x)["Name"]: int(status(vm.pid, x)["Seccomp_filters"]) for x in tasks}
    tap.diag(f"filters {filters}")
    vcpus = [count for name, count in filters.items() if name.startswith("vcpu")]
    t.true(len(vcpus) == 2 and min(vcpus) > filters["brume-vmm"] >= 10, f"filters {filters}")


@tap.test("nothing of /sys: no other machine's name, none of the host's hardware")
def test_sys(t):
    vm = running(t)
    t.equal(os.listdir(f"/proc/{vm.pid}/root/sys"), [])
    t.equal(stat.S_IMODE(os.stat(f"/proc/{vm.pid}/root/sys").st_mode), 0)


@tap.test("namespaces: user, mount, network, ipc and uts are not the host's")
def test_namespaces(t):
    vm = running(t)
    for name in ("user", "mnt", "net", "ipc", "uts"):
        ours, its = os.readlink(f"/proc/self/ns/{name}"), os.readlink(f"/proc/{vm.pid}/ns/{name}")
        t.true(ours != its, f"the {name} namespace is the host's")


@tap.test("the network is empty but for a loopback that is down")
def test_network(t):
    vm = running(t)
    with open(f"/proc/{vm.pid}/net/dev") as f:
        names = [line.split(":")[0].strip() for line in f if ":" in line]
    t.equal(names, ["lo"])
    with open(f"/proc/{vm.pid}/net/route") as f:
        t.equal(len(f.read().splitlines()), 1, "routes")


@tap.test("of the host's files the worker sees its executable and the libraries, and cannot write")
def test_files(t):
    vm = running(t)
    root = f"/proc/{vm.pid}/root"
    t.equal(sorted(os.listdir(root)), sorted(["dev", "etc", "lib", "lib64", "proc", "root", "run", "sys",
                                              "tmp", "usr", "var"]))
    for folder in ("etc", "root", "tmp", "var/tmp"):
        t.equal(os.listdir(f"{root}/{folder}"), [], f"/{folder}")
    t.equal(os.listdir(f"{root}/usr/libexec"), ["brume-vmm"])
    t.true(set(os.listdir(f"{root}/usr")) <= {"lib", "lib64", "libexec"}, os.listdir(f"{root}/usr"))
    # what is mounted and writable: only what belongs to nobody else
    with open(f"/proc/{vm.pid}/mountinfo") as f:
        mounts = [line.split() for line in f]
    for m in mounts:
        point, options = m[4], m[5].split(",")
        kind = m[m.index("-") + 1]
        if "rw" in options and kind not in ("proc", "sysfs", "cgroup2"):
            t.true(point in ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages", "/tmp",
                             "/var/tmp", "/run"),
                   f"{point} ({kind}) is writable for the worker")
    for path in ("etc/passwd", "etc/machine-id", "brume/guest/tiny.elf", "srv/sandbox.img", "home",
                 "boot", "usr/bin/sh", "bin", "run/dbus/system_bus_socket",
                 "run/systemd/private", "run/brume", "var/lib/brume", "dev/kvm",
                 "dev/net/tun"):
        t.true(not os.path.lexists(f"{root}/{path}"), f"/{path} exists inside")


@tap.test("as the worker's user in its namespaces the host's files cannot be opened")
def test_open(t):
    vm = running(t)
    uid = int(status(vm.pid)["Uid"].split()[0])
    paths = ["/etc/passwd", "/etc/shadow", "/srv/sandbox.img", "/dev/kvm", "/proc/1/environ",
             "/run/dbus/system_bus_socket"]
    t.equal(service.show(vm.unit, "DevicePolicy", "DeviceAllow"),
            # ProtectClock adds the clock's; there is none in /dev
            {"DevicePolicy": "strict", "DeviceAllow": "char-rtc r"})
    if devices_enforced():
        paths += ["/dev/null", "/dev/urandom"]
    else:
        tap.diag("systemd cannot attach device filters in this container: /dev/null is not tried")
    got = in_worker(vm.pid, uid, paths)
    for path in paths:
        t.true(got[path] != "opened", f"{path} could be opened")
    # systemd mounts /sys and the control groups into every root: there to be read at most
    paths = ["/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs",
             "/sys/fs/cgroup/cgroup.subtree_control", "/proc/sys/kernel/core_pattern",
             "/proc/sysrq-trigger"]
    got = in_worker(vm.pid, uid, paths, os.O_WRONLY)
    for path in paths:
        t.true(got[path] != "opened", f"{path} could be opened for writing")


def devices_enforced():
    """Whether systemd may use BPF here: in a container usually not."""
    return subprocess.run(["systemd-run", "--quiet", "--wait", "-p", "DevicePolicy=strict", "sh",
                           "-c", "exec 3</dev/urandom"], capture_output=True,
                          check=False).returncode != 0


def in_worker(pid, uid, paths, mode=os.O_RDONLY):
    """
    Opens paths from a child that has joined control group, mount and user namespace of the worker
    and become its user: what a guest that took over the process gets, even without its filters.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = [os.open(f"/proc/{pid}/ns/{n}", os.O_RDONLY) for n in ("mnt", "user")]
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    # the device filter comes with the control group
    with open(f"/proc/{pid}/cgroup") as f:
        group = "/sys/fs/cgroup" + f.read().strip().split("::")[1] + "/cgroup.procs"
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(group, "w") as f:
                f.write(str(os.getpid()))
            for fd in namespaces:
                if libc.setns(fd, 0):
                    os.write(w, f"setns {os.strerror(ctypes.get_errno())}\n".encode())
                    os._exit(1)
            os.fchdir(root)
            os.chroot(".")
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            for path in paths:
                try:
                    os.open(path, mode)
                    result = "opened"
                except OSError as e:
                    result = e.strerror
                os.write(w, f"{path} {result}\n".encode())
        except Exception as e:                                  # pylint: disable=broad-except
            os.write(w, f"probe {e}\n".encode())
        os._exit(0)
    os.close(w)
    for fd in (*namespaces, root):
        os.close(fd)
    with os.fdopen(r) as f:
        lines = f.read().splitlines()
    os.waitpid(child, 0)
    got = dict(line.split(" ", 1) for line in lines)
    if set(got) != set(paths):
        raise AssertionError(f"the probe inside failed: {lines}")
    return got


@tap.test("its descriptors are those it was handed and its own, none is a directory of the host")
def test_descriptors(t):
    vm = running(t)
    found = {}
    for fd in os.listdir(f"/proc/{vm.pid}/fd"):
        path = f"/proc/{vm.pid}/fd/{fd}"
        target = os.readlink(path)
        st = os.stat(path)
        t.true(not stat.S_ISDIR(st.st_mode), f"descriptor {fd} is the directory {target}")
        kind = re.sub(r"[:\[(].*", "", target)
        found[kind] = found.get(kind, 0) + 1
        if target.startswith("/"):
            t.true(target in ("/dev/kvm", "/dev/null", "/dev/urandom", IMAGE, tiny.KERNEL) or
                   target.startswith(("/memfd:", "/dev/zero")), f"descriptor {fd} is {target}")
    tap.diag(f"descriptors {found}")
    t.true(found.get("/dev/kvm") == 1, f"{found}")
    # kept for the next boot in place; to be read
    for path in (tiny.KERNEL, "/dev/urandom"):
        for fd in os.listdir(f"/proc/{vm.pid}/fd"):
            if os.readlink(f"/proc/{vm.pid}/fd/{fd}") == path:
                with open(f"/proc/{vm.pid}/fdinfo/{fd}") as f:
                    flags = int(re.search(r"flags:\s+(\d+)", f.read()).group(1), 8)
                t.equal(flags & os.O_ACCMODE, os.O_RDONLY, f"{path} is open for writing")


@tap.test("the control channel takes connections from root only, below a directory of root's")
def test_control(t):
    vm = running(t)
    for path, mode in (("/run/brume", 0o700), ("/run/brume/vm", 0o700), ("/run/brume/vm/box", 0o700)):
        st = os.stat(path)
        t.equal((st.st_uid, oct(stat.S_IMODE(st.st_mode))), (0, oct(mode)), path)
    st = os.stat("/run/brume/vm/box/state")
    t.equal(oct(stat.S_IMODE(st.st_mode)), oct(0o600), "the state file")
    st = os.stat(f"{service.STATE}/box.json")
    t.equal(oct(stat.S_IMODE(st.st_mode)), oct(0o600), "the definition")
    # somebody else of uid 0 may connect, and takes the daemon's place; it comes back by itself
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("/run/brume/vm/box/control")
        time.sleep(0.3)
    t.eventually(lambda: vm.call("Pause").ok, "the daemon has its connection again", 5)
    t.equal(vm.state, "paused")


@tap.test("guest memory is not dumped and the process cannot be traced by its own kind")
def test_dump(t):
    vm = running(t)
    unit = service.show(vm.unit, "LimitCORE", "KeyringMode", "OOMPolicy")
    t.equal(unit["LimitCORE"], "0")
    with open(f"/proc/{vm.pid}/smaps") as f:
        regions = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", f.read())
    ram = [r for r in regions if int(re.search(r"Size:\s+(\d+) kB", r).group(1)) >= 16 << 10]
    t.true(ram, "no region as large as the guest's memory")
    for r in ram:
        if " rw" in r.splitlines()[0]:
            t.match(re.search(r"VmFlags:(.*)", r).group(1), r"\bdd\b", "MADV_DONTDUMP of guest memory")


tap.main()
