#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The installed files: where Debian's systemd, dbus-daemon and polkitd look, and accepted by them."""
import glob
import os
import re
import stat
import subprocess

import bus
import tap

ACTIONS = ["inspect-vms", "create-vms", "manage-vms", "modify-vms", "use-host-resources",
           "open-console", "snapshot-vms", "migrate-vms", "dump-vms", "administer"]


def run(*argv):
    r = subprocess.run(argv, capture_output=True, text=True, check=False)
    return r.returncode, r.stdout, r.stderr


@tap.test("installed", cases=[(path.rsplit("/", 1)[-1] + " in " + path.rsplit("/", 1)[0], path) for path in (
    "/usr/bin/brumectl",
    "/usr/libexec/brumed",
    "/usr/libexec/brume-vmm",
    "/usr/lib/systemd/system/brumed.service",
    "/usr/share/dbus-1/system.d/org.brume.vm1.conf",
    "/usr/share/dbus-1/system-services/org.brume.vm1.service",
    "/usr/share/dbus-1/interfaces/org.brume.vm1.Manager.xml",
    "/usr/share/dbus-1/interfaces/org.brume.vm1.VirtualMachine.xml",
    "/usr/share/dbus-1/interfaces/org.brume.vm1.Job.xml",
    "/usr/share/polkit-1/actions/org.brume.vm1.policy",
    "/usr/share/bash-completion/completions/brumectl",
    "/usr/share/man/man1/brumectl.1*",
    "/usr/share/man/man5/org.brume.vm1.5*",
    "/usr/share/man/man8/brumed.8*",
)])
def test_file(t, path):
    found = glob.glob(path)
    t.equal(len(found), 1, f"files like {path}")
    st = os.stat(found[0])
    t.equal((st.st_uid, st.st_gid), (0, 0), "owner")
    mode = 0o755 if "bin/" in path or "libexec/" in path else 0o644
    t.equal(oct(stat.S_IMODE(st.st_mode)), oct(mode), "mode")


@tap.test("nothing is installed in /etc, /usr/local, or beside the merged /usr")
def test_places(t):
    for path in ("/etc/dbus-1/system.d/org.brume.vm1.conf", "/usr/local/bin/brumectl"):
        t.true(not os.path.exists(path), f"{path} exists")
    for name in ("/bin", "/lib", "/sbin"):
        t.true(os.path.islink(name), f"{name} is no symbolic link: the staging broke the root")


@tap.test("programs say their version")
def test_version(t):
    for program in ("/usr/bin/brumectl", "/usr/libexec/brumed", "/usr/libexec/brume-vmm"):
        status, out, err = run(program, "--version")
        t.equal(status, 0, f"{program} --version ({err.strip()})")
        t.match(out, r"\d+\.\d+", program)


@tap.test("systemd-analyze verify has nothing to say about the unit")
def test_verify(t):
    status, out, err = run("systemd-analyze", "verify", "--man=no", "brumed.service")
    mine = [l for l in (out + err).splitlines() if "brume" in l]
    t.equal((status, mine), (0, []))


@tap.test("the bus name activates the service")
def test_activation(t):
    run("systemctl", "stop", "brumed.service")
    t.equal(run("systemctl", "is-active", "brumed.service")[1].strip(), "inactive")
    bus.must(bus.call(bus.ROOT, "org.freedesktop.DBus.Peer.Ping"))
    t.equal(run("systemctl", "is-active", "brumed.service")[1].strip(), "active")
    t.equal(bus.list_vms(), [])


@tap.test("the service is enabled for the next boot")
def test_enabled(t):
    t.equal(run("systemctl", "is-enabled", "brumed.service")[1].strip(), "enabled")


@tap.test("polkit knows the action", cases=[(a, f"org.brume.vm1.{a}") for a in ACTIONS])
def test_action(t, action):
    status, out, err = run("pkaction", "--verbose", "--action-id", action)
    t.equal(status, 0, err.strip())
    # never "no": somebody on ssh must be able to give a password
    for line in ("implicit any", "implicit inactive", "implicit active"):
        t.match(out, rf"{line}:\s+auth_admin", line)
    if action.endswith(("use-host-resources", "dump-vms")):
        t.no_match(out, r"_keep\b", "a password for this is never kept")
    t.match(out, r"message:\s+\S", "a message")


@tap.test("polkit knows no action besides")
def test_no_other_action(t):
    listed = [l for l in run("pkaction")[1].splitlines() if l.startswith("org.brume.")]
    t.equal(sorted(listed), sorted(f"org.brume.vm1.{a}" for a in ACTIONS))


@tap.test("a user may not own the bus name")
def test_own(t):
    reply = bus.call("/org/freedesktop/DBus", "org.freedesktop.DBus.RequestName", '"org.brume.vm1"',
                     "uint32 0", user="alice", dest="org.freedesktop.DBus")
    t.equal(reply.error, f"{bus.ERRORS}.AccessDenied")


@tap.test("a user may look, and may not set properties")
def test_user(t):
    bus.must(bus.manager("ListVMs", user="alice"))
    reply = bus.call(bus.ROOT, "org.freedesktop.DBus.Properties.Set", f'"{bus.MANAGER}"', '"Version"',
                     "<'x'>", user="alice")
    t.equal(reply.error, f"{bus.ERRORS}.AccessDenied")


@tap.test("the unit of the service is closed")
def test_security(t):
    out = run("systemd-analyze", "security", "--no-pager", "brumed.service")[1]
    level = float(re.search(r"Overall exposure level.*?: ([\d.]+)", out).group(1))
    tap.diag(f"exposure level {level}")
    t.true(level < 5, f"exposure level of brumed is {level}")


tap.main()
