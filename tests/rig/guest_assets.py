# SPDX-License-Identifier: Apache-2.0
"""
What second-level guests boot from, all of it Debian's:

  vmlinuz            the stock cloud kernel (a bzImage)
  vmlinux            the ELF kernel inside it
  guest-initramfs    busybox that obeys commands on the console (inside/init-guest)
  guest-root.img     a Debian root disk with systemd, root logged in on ttyS0 and hvc0,
                     192.168.249.2/24 on its first Ethernet device
  guest-root.initrd  loads that disk's driver and hands over to it
"""

import shutil
import subprocess

import cache
import debroot
import disk
import linux_kernel
from common import TOP, run

INSIDE = TOP / "tests/rig/inside"
GUEST_MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
                 "button", "evdev", "rtc_cmos", "virtio_balloon", "pvpanic_pci", "wdat_wdt",
                 "qemu_fw_cfg", "vmw_vsock_virtio_transport", "virtiofs", "virtio_pmem", "nd_pmem",
                 "virtio_mem"]
GUEST_APPLETS = """[ awk basename blkdiscard cat chgrp chmod chown chroot cmp cp cut date dd df dirname dmesg
    echo env expr false find free grep halt head hexdump hostname id insmod ip kill killall ln ls lsmod
    md5sum mkdir mknod mkswap modprobe mount mv nc nproc od pidof ping poweroff printf ps pwd readlink
    reboot rm rmmod sed seq setsid sh sha256sum sleep sort stat stty swapon switch_root sync tail taskset
    tee test time timeout top touch tr true truncate umount uname uniq uptime usleep wc xargs
    yes""".split()

CUSTOMISE = debroot.customise_common("guest") + """
# each of these is a program start that an emulated machine feels and this guest has no use for
for unit in modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \\
            sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \\
            systemd-network-generator.service getty@.service; do
	ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
mkdir -p "$1/etc/systemd/network" "$1/etc/systemd/system/serial-getty@.service.d"
cat > "$1/etc/systemd/network/10-first.network" <<END
[Match]
Type=ether
[Network]
Address=192.168.249.2/24
Gateway=192.168.249.1
LinkLocalAddressing=no
IPv6AcceptRA=no
END
cat > "$1/etc/systemd/system/serial-getty@.service.d/autologin.conf" <<END
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200,57600,38400,9600 - \\$TERM
END
echo '/dev/vda / ext4 defaults,noatime 0 0' > "$1/etc/fstab"
chroot "$1" systemctl -q enable systemd-networkd.service
chroot "$1" systemctl -q disable systemd-networkd-wait-online.service
"""


def assets():
    """The product directory with these files."""
    kernel = linux_kernel.kernel()
    root = debroot.root("linux-guest-root", CUSTOMISE) / "root"

    def make(work):
        shutil.copyfile(kernel / "vmlinuz", work / "vmlinuz")
        shutil.copyfile(kernel / "version", work / "version")
        linux_kernel.unpack_elf(kernel / "vmlinuz", work / "vmlinux")
        linux_kernel.initramfs(work / "guest-initramfs", kernel, GUEST_MODULES,
                               INSIDE / "init-guest", GUEST_APPLETS)
        linux_kernel.initramfs(work / "guest-root.initrd", kernel, ["virtio_pci", "virtio_blk"],
                               INSIDE / "init-guest-root",
                               ["cat", "insmod", "mount", "sh", "switch_root", "umount", "usleep"])
        tree = work / "tree"
        # cp -a: copytree would read device nodes such as dev/full to the end of the disk.
        run(["cp", "-a", "--reflink=auto", "--", root, tree])
        run(["cp", "-a", "--reflink=auto", "--", kernel / "lib/modules", tree / "usr/lib/"])
        disk.ext4_image(tree, work / "guest-root.img", 1 << 30, journal=True)
        shutil.rmtree(tree)

    return cache.product("guest-assets", [str(kernel), str(root), GUEST_MODULES, GUEST_APPLETS,
                                          cache.text_of(__file__, disk, linux_kernel,
                                                        INSIDE / "init-guest",
                                                        INSIDE / "init-guest-root")], make)
