# SPDX-License-Identifier: Apache-2.0
"""
Debian's stock cloud kernel, taken from its package without installing it, and initramfs images
made of busybox and the modules one purpose needs.

The package is only unpacked: its maintainer scripts would build a 30 MiB general initramfs, which
an emulated machine needs ten seconds to unpack.
"""

import os
import pathlib
import re
import shutil
import struct
import tempfile

import cache
from common import RigError, candidate, capture, run

META = "linux-image-cloud-amd64"
BUSYBOX = pathlib.Path("/bin/busybox")


def kernel():
    """The product directory: vmlinuz, version, lib/modules/<version>."""
    version = candidate(META)

    def make(work):
        depends = capture(["apt-cache", "show", f"{META}={version}"])
        m = re.search(r"^Depends:.*?(linux-image-[0-9]\S*-cloud-amd64)", depends, re.M)
        if not m:
            raise RigError(f"package {META} {version} does not name its kernel package")
        with tempfile.TemporaryDirectory(prefix="brume-kernel-") as tmp:
            os.chmod(tmp, 0o755)
            run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", m.group(1)], cwd=tmp)
            deb, = pathlib.Path(tmp).glob("*.deb")
            tree = pathlib.Path(tmp) / "tree"
            run(["dpkg-deb", "-x", deb, tree])
            vmlinuz, = (tree / "boot").glob("vmlinuz-*")
            release = vmlinuz.name.removeprefix("vmlinuz-")
            shutil.copyfile(vmlinuz, work / "vmlinuz")
            shutil.move(tree / "lib", work / "lib")
        run(["depmod", "-b", work, release])
        (work / "version").write_text(release)

    return cache.product("linux-kernel", [version, cache.text_of(__file__)], make)


def unpack_elf(vmlinuz, out):
    """
    The ELF kernel inside a bzImage, for tests of the ELF path. Where it lies: Linux
    Documentation/arch/x86/boot.rst, setup_sects, payload_offset, payload_length.
    """
    data = pathlib.Path(vmlinuz).read_bytes()
    setup_sects = data[0x1f1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = data[start:start + length - 4]            # the last word is the unpacked size
    if not payload.startswith(b"\x02\x21\x4c\x18"):
        raise RigError(f"the kernel in {vmlinuz} is not packed with LZ4")
    with tempfile.NamedTemporaryFile(suffix=".lz4") as packed:
        packed.write(payload)
        packed.flush()
        run(["lz4", "-q", "-d", "-f", packed.name, out])
    with open(out, "rb") as f:
        if f.read(4) != b"\x7fELF":
            raise RigError(f"what is in {vmlinuz} is no ELF file")


def module_files(kernel_dir, names):
    """The .ko files of the modules and all they depend on, in loading order."""
    base = kernel_dir / "lib/modules" / (kernel_dir / "version").read_text()
    deps = {}
    for line in (base / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        deps[pathlib.Path(file).stem.replace("-", "_")] = (file, needs.split())
    builtin = {pathlib.Path(f).stem.replace("-", "_")
               for f in (base / "modules.builtin").read_text().split()}
    files = []
    for name in names:
        name = name.replace("-", "_")
        if name in builtin:
            continue
        if name not in deps:
            raise RigError(f"the kernel in {kernel_dir} has no module '{name}'")
        file, needs = deps[name]
        for f in [*reversed(needs), file]:              # modules.dep lists the nearest first
            if f not in files:
                files.append(f)
    return [base / f for f in files]


def initramfs(out, kernel_dir, modules, init, applets):
    """
    Writes a newc archive: busybox with links for the applets, the modules in /modules with their
    loading order in /modules/order, and /init. Not compressed: copying is cheaper than unpacking
    wherever these are used.
    """
    with tempfile.TemporaryDirectory(prefix="brume-initramfs-") as tmp:
        tree = pathlib.Path(tmp)
        for d in ("bin", "dev", "proc", "sys", "run", "tmp", "etc", "modules", "mnt", "root"):
            (tree / d).mkdir()
        shutil.copyfile(BUSYBOX, tree / "bin/busybox")
        (tree / "bin/busybox").chmod(0o755)
        for applet in applets:
            (tree / "bin" / applet).symlink_to("busybox")
        order = []
        for file in module_files(kernel_dir, modules):
            shutil.copyfile(file, tree / "modules" / file.name)
            order.append(file.name)
        (tree / "modules/order").write_text("".join(f"{n}\n" for n in order))
        shutil.copyfile(init, tree / "init")
        (tree / "init").chmod(0o755)
        run([BUSYBOX, "sh", "-c", 'cd "$1" && find . | cpio -o -H newc -R 0:0 > "$2"', "initramfs",
             tree, pathlib.Path(out).resolve()])
