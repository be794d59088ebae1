# SPDX-License-Identifier: Apache-2.0
"""
The first-level Debian of the linux rig: a machine with KVM that stands for the user's host.

Where the processor has svm or vmx QEMU runs it with KVM; elsewhere QEMU emulates a processor with
SVM and nested paging, so that what runs inside sees hardware virtualisation all the same. The
disks are cached images opened as snapshots: nothing an appliance does outlives it.
"""

import os
import pathlib
import re

import cache
import debroot
import disk
import guest_assets
import linux_kernel
import payload
from common import TOP, run

INSIDE = TOP / "tests/rig/inside"
MODULES = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng"]
APPLETS = ["cat", "cp", "grep", "insmod", "mkdir", "mount", "poweroff", "sh", "switch_root",
           "umount", "usleep"]
MEMORY_MIB = 6144               # room for a guest of 4 GiB; taken from the host as it is touched

CUSTOMISE = debroot.customise_common("brume-host") + """
for user in alice bob mallory; do
	chroot "$1" useradd --create-home --shell /bin/bash "$user"
done
mkdir -p "$1/etc/systemd/system/serial-getty@.service.d" "$1/etc/systemd/network" "$1/srv/guest"
cat > "$1/etc/systemd/system/serial-getty@.service.d/autologin.conf" <<END
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - \\$TERM
END
ln -sf /dev/null "$1/etc/systemd/system/getty@.service"
ln -sf /dev/null "$1/etc/systemd/system/systemd-networkd.service"
echo '/dev/vda / ext4 defaults,noatime 0 0' > "$1/etc/fstab"
"""


def hardware():
    """Whether this machine's processor can run guests itself."""
    flags = re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    words = flags.group(1).split() if flags else []
    return os.path.exists("/dev/kvm") and ("svm" in words or "vmx" in words)


def product():
    """The cached kernel, initramfs and root disk of the appliance."""
    kernel = linux_kernel.kernel()
    root = debroot.root("linux-host-root", CUSTOMISE) / "root"

    def make(work):
        linux_kernel.initramfs(work / "initramfs", kernel, MODULES, INSIDE / "init-appliance",
                               APPLETS)
        os.link(kernel / "vmlinuz", work / "vmlinuz")
        tree = work / "tree"
        run(["cp", "-a", "--reflink=auto", "--", root, tree])
        run(["cp", "-a", "--reflink=auto", "--", kernel / "lib/modules", tree / "usr/lib/"])
        disk.ext4_image(tree, work / "root.img", 4 << 30)
        run(["rm", "-rf", "--one-file-system", tree])

    return cache.product("linux-host", [str(kernel), str(root), MODULES, APPLETS,
                                        cache.text_of(__file__, disk, linux_kernel,
                                                      INSIDE / "init-appliance")], make)


def assets_disk():
    """The guests' kernel and images as a disk, found in the appliance below /srv/guest."""
    assets = guest_assets.assets()

    def make(work):
        disk.ext4_image(assets, work / "assets.img", 4 << 30)

    return cache.product("guest-assets-disk", [str(assets), cache.text_of(__file__, disk)], make)


def payload_disk(work, build, job):
    """A disk with the staged build, the tests and the job, for this run only."""
    tree = work / "payload"
    tree.mkdir()
    payload.stage(build, tree)
    payload.add_tests(tree, job)
    disk.ext4_image(tree, work / "payload.img", disk.tree_size(tree) * 2 + (32 << 20))
    run(["rm", "-rf", tree])


def command(work, console, memory_mib=MEMORY_MIB):
    """
    QEMU's command line. `console` is a chardev definition with id=console; results written to
    /dev/virtio-ports/results inside arrive in work/log.
    """
    host, assets = product(), assets_disk()
    if hardware():
        processor = ["-accel", "kvm", "-cpu", "host"]
    else:
        processor = ["-accel", "tcg,thread=multi", "-cpu", "max,+svm"]

    def drive(name, image, more=""):
        return ["-drive", f"if=none,id={name},format=raw,cache=unsafe,snapshot=on,file={image}",
                "-device", f"virtio-blk-pci,drive={name},serial={name}{more}"]

    append = "console=ttyS0 quiet mitigations=off net.ifnames=0 systemd.show_status=no brume.assets"
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-machine", "q35", *processor, "-smp", "2", "-m", str(memory_mib),
            "-kernel", str(host / "vmlinuz"), "-initrd", str(host / "initramfs"), "-append", append,
            *drive("root", host / "root.img"), *drive("payload", work / "payload.img"),
            *drive("assets", assets / "assets.img"),
            "-device", "virtio-rng-pci",
            "-chardev", console, "-serial", "chardev:console",
            "-chardev", f"file,id=results,path={work / 'log'}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results,name=results"]
