# SPDX-License-Identifier: Apache-2.0
"""
Debian's general kernel for guests, on a disk of its own: its cloud kernels have no driver for a
virtio-iommu. Tests that say "# needs: full-kernel" find the disk by its serial number, full-kernel:

  vmlinuz            the stock kernel
  guest-initramfs    as in guest_assets.py, for this kernel, with virtio_iommu
"""

import os
import pathlib
import re
import shutil
import tempfile

import cache
import disk
import guest_assets
import linux_kernel
from common import TOP, RigError, candidate, capture, run

# Debian 12's own 6.1 is built without VIRTIO_IOMMU and ACPI_VIOT.
META = "linux-image-6.12-amd64"
INIT = TOP / "tests/rig/inside/init-guest"
# virtio_pci first: the IOMMU is a PCI device, and all others wait for it.
MODULES = ["virtio_pci", "virtio_iommu", "virtio_blk", "virtio_net", "virtio_rng", "button", "evdev"]


def kernel_package(version):
    depends = capture(["apt-cache", "show", f"{META}={version}"])
    m = re.search(r"^Depends:.*?(linux-image-[0-9][^\s,]*-amd64)", depends, re.M)
    if not m:
        raise RigError(f"package {META} {version} does not name its kernel package")
    return m.group(1)


def drive():
    """Of QEMU's command line, behind appliance.command()."""
    image = disk_image() / "full-kernel.img"
    return ["-drive", f"if=none,id=full-kernel,format=raw,cache=unsafe,snapshot=on,file={image}",
            "-device", "virtio-blk-pci,drive=full-kernel,serial=full-kernel"]


def disk_image():
    """The product directory with full-kernel.img."""
    version = candidate(META)

    def make(work):
        with tempfile.TemporaryDirectory(prefix="brume-kernel-") as tmp:
            os.chmod(tmp, 0o755)
            tmp = pathlib.Path(tmp)
            run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
                 kernel_package(version)], cwd=tmp)
            deb, = tmp.glob("*.deb")
            run(["dpkg-deb", "-x", deb, tmp / "tree"])
            vmlinuz, = (tmp / "tree/boot").glob("vmlinuz-*")
            (tmp / "tree/version").write_text(vmlinuz.name.removeprefix("vmlinuz-"))
            # busybox insmod takes them as they are
            packed = [str(f) for f in (tmp / "tree/lib/modules").rglob("*.ko.xz")]
            for i in range(0, len(packed), 500):
                run(["xz", "-d", "--", *packed[i:i + 500]])
            run(["depmod", "-b", tmp / "tree", vmlinuz.name.removeprefix("vmlinuz-")])
            files = tmp / "files"
            files.mkdir()
            shutil.copyfile(vmlinuz, files / "vmlinuz")
            linux_kernel.initramfs(files / "guest-initramfs", tmp / "tree", MODULES, INIT,
                                   guest_assets.GUEST_APPLETS)
            disk.ext4_image(files, work / "full-kernel.img", disk.tree_size(files) * 2 + (16 << 20))

    return cache.product("full-kernel", [version, MODULES, cache.text_of(__file__, disk, INIT)], make)
