# SPDX-License-Identifier: Apache-2.0
"""
Debian trees made by mmdebstrap from the machine's own apt sources.

Only the stanzas of Debian's own archive (whatever mirror they name) are taken over, because a
vendor's repository that the machine also uses has no place in a test root. Proxy and other
transport settings of the machine's apt are used while building and do not stay in the tree.
"""

import os
import pathlib
import re
import tempfile

import cache
import common
from common import RigError, candidate, capture, debian_targets, packages, run

SOURCES = pathlib.Path("/etc/apt")


def _sources():
    """The machine's Debian sources as (one-line text, deb822 text)."""
    uris = {uri for uri, _release in debian_targets()}
    if not uris:
        raise RigError("apt on this machine has no source of Debian itself: "
                       "'apt-get indextargets' names no index with Origin Debian")
    lines, stanzas = [], []
    for path in [SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*.list"))]:
        if not path.exists():
            continue
        for line in path.read_text().splitlines():
            m = re.match(r"\s*deb\s+(\[[^]]*\]\s*)?(\S+)\s", line)
            if m and m.group(2).rstrip("/") in uris:
                lines.append(line)
    for path in sorted(SOURCES.glob("sources.list.d/*.sources")):
        text = "\n".join(l for l in path.read_text().splitlines() if not l.startswith("#"))
        for stanza in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza))
            fields = {k.lower(): v for k, v in fields.items()}
            if (fields.get("enabled", "yes").strip().lower() not in ("no", "false", "0")
                    and "deb" in fields.get("types", "").split()
                    and any(u.rstrip("/") in uris for u in fields.get("uris", "").split())):
                stanzas.append(stanza.strip())
    if not lines and not stanzas:
        raise RigError(f"no file below {SOURCES} has the Debian sources that apt uses")
    return "".join(l + "\n" for l in lines), "".join(s + "\n\n" for s in stanzas)


def _transport_settings():
    """Proxy, retry and date-check settings of the machine's apt."""
    wanted = re.compile(r'Acquire::(https?::|ftp::|Retries|Check-|ForceIPv4|ForceIPv6)\S* "[^"]+";')
    out = capture(["apt-config", "dump", "--format", '%F "%v";%n'])
    return "".join(l + "\n" for l in out.splitlines() if wanted.match(l))


def suite():
    """Debian's code name of this machine, which the roots share (same libraries as the build)."""
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise RigError("/etc/os-release has no VERSION_CODENAME: this is not a Debian machine")


def root(name, customise):
    """
    The cached tree for tests/lib/packages/<name>: <product>/root. `customise` is a shell script
    that runs with the tree as $1.
    """
    wanted = packages(name)
    inputs = [suite(), wanted, customise, [candidate(p) for p in ("systemd", "base-files", "libc6")],
              cache.text_of(__file__)]

    def make(work):
        one_line, deb822 = _sources()
        with tempfile.TemporaryDirectory(prefix="brume-sources-") as tmp:
            tmp = pathlib.Path(tmp)
            os.chmod(tmp, 0o755)
            mirrors = []
            for text, file in ((one_line, "debian.list"), (deb822, "debian.sources")):
                if text:
                    (tmp / file).write_text(text)
                    mirrors.append(tmp / file)
            (tmp / "apt.conf").write_text(_transport_settings() +
                                          'APT::Install-Recommends "false";\n')
            script = tmp / "customise"
            script.write_text("#!/bin/sh\nset -eu\n" + customise)
            script.chmod(0o755)
            # Documentation and translations would be a third of the tree and nobody reads them.
            # Own namespaces: if we are interrupted its processes die with it and its mounts of /dev
            # and /sys were never below a directory that we then remove.
            argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                    "--kill-child", "--mount-proc", "--", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
                    f"--aptopt={tmp / 'apt.conf'}",
                    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                    f"--include={','.join(wanted)}",
                    '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap '
                    '"$1"/etc/resolv.conf "$1"/etc/hostname',
                    f"--customize-hook={script} \"$1\"",
                    suite(), str(work / "root"), *map(str, mirrors)]
            run(argv, env=dict(os.environ, PATH="/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C"))

    return cache.product(name, inputs, make)


def customise_common(hostname):
    """What every booted tree of ours gets: quick, quiet, root without password."""
    return f"""
echo {hostname} > "$1/etc/hostname"
printf '127.0.0.1 localhost\\n127.0.1.1 {hostname}\\n' > "$1/etc/hosts"
# an empty file is "not initialised yet": systemd writes an id at the first boot
: > "$1/etc/machine-id"
chroot "$1" passwd -d root >/dev/null
# timers and daily chores would only disturb measurements
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \\
            e2scrub_reap.service systemd-timesyncd.service systemd-pstore.service \\
            systemd-update-utmp.service systemd-update-utmp-runlevel.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
rm -rf "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*
"""
